"""Translation between packets and the methods and callbacks of a paho client."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any

from mqtt5 import (
    Packet,
    PingReqPacket,
    PingRespPacket,
    PubAckPacket,
    PublishPacket,
    SubscribePacket,
    TopicFilter,
    UnsubscribePacket,
)
from paho.mqtt.client import Client, ConnectFlags, DisconnectFlags, MQTTMessage
from paho.mqtt.enums import MQTTErrorCode, MQTTProtocolVersion
from paho.mqtt.properties import Properties
from paho.mqtt.reasoncodes import ReasonCode
from paho.mqtt.subscribeoptions import SubscribeOptions

from sensorsync.mqtt.client.broken_packets import BrokenPublish, ReceivedPacket
from sensorsync.mqtt.client.paho import packets as translate
from sensorsync.mqtt.client.paho.client import PahoClient

_PING_FILTER = "sensorsync/ping"


class PacketTranslator:
    """Translator between packets and one paho client.

    paho has no ping whose answer it reports. An UNSUBSCRIBE of a filter that was never subscribed takes its place, because the
    broker must answer that, too ([MQTT-3.10.4-4], in 3.1.1 [MQTT-3.10.4-5]).
    """

    def __init__(self, client: PahoClient) -> None:
        self.received: list[ReceivedPacket] = []
        self.unacknowledged: set[int] = set()
        """Packet ids of deliveries that wait for our PUBACK."""
        self._acknowledged: set[int] = set()
        """Packet ids that got a PUBACK. A resend that crossed its PUBACK does not get a second one."""
        self.disconnect_reason: int | None = None
        """Reason code with which paho itself ended the connection."""
        self._client = client
        self._is_mqtt5 = client.protocol == MQTTProtocolVersion.MQTTv5
        self._publisher_packet_ids: dict[int, int] = {}
        """Packet id that paho chose for a PUBLISH -> the publisher's packet id."""
        self._ping_packet_ids: set[int] = set()
        self._error_log = _LastErrorLogger()
        client.enable_logger(self._error_log)
        client.on_connect = self._on_connect
        client.on_disconnect = self._on_disconnect
        client.on_message = self._on_message
        client.on_broken_publish = self._on_broken_publish
        client.on_publish = self._on_publish
        client.on_subscribe = self._on_subscribe
        client.on_unsubscribe = self._on_unsubscribe

    @property
    def last_error(self) -> Exception | None:
        """The latest error of the socket."""
        return self._error_log.last_error

    def take_received(self) -> list[ReceivedPacket]:
        """Return the packets that have arrived since the last call."""
        arrived, self.received = self.received, []
        return arrived

    def send(self, packets: Sequence[Packet]) -> None:
        """Queue the packets in the client. Raises TypeError for packets that only brokers send."""
        client = self._client
        for packet in packets:
            match packet:
                case PublishPacket():
                    words = (packet.topic, packet.payload, int(packet.qos), packet.retain)
                    while (info := client.publish(*words)).rc == MQTTErrorCode.MQTT_ERR_QUEUE_SIZE:
                        pass  # the message that had this id 65,535 messages ago is still unacknowledged: take the next id
                    self._publisher_packet_ids[info.mid] = packet.packet_id or 0
                case PubAckPacket():
                    client.ack(packet.packet_id, 1)
                    self.unacknowledged.discard(packet.packet_id)
                    self._acknowledged.add(packet.packet_id)
                case SubscribePacket():
                    client.subscribe([self._paho_subscription(one) for one in packet.topic_filters])
                case UnsubscribePacket():
                    client.unsubscribe(packet.patterns)
                case PingReqPacket():
                    _, packet_id = client.unsubscribe(_PING_FILTER)
                    self._ping_packet_ids.add(packet_id or 0)
                case _:
                    raise TypeError(f"{type(packet).__name__} is not sent this way")

    def _paho_subscription(self, one: TopicFilter) -> tuple[str, Any]:
        if not self._is_mqtt5:
            return one.pattern, int(one.max_qos)
        options = SubscribeOptions(
            int(one.max_qos), one.no_local, one.retain_as_published, retainHandling=int(one.retain_handling)
        )
        return one.pattern, options

    # -- called by paho, inside loop_read and loop_write ----------------------------------------------------------------

    def _on_connect(
        self, _: Client, __: Any, flags: ConnectFlags, reason: ReasonCode, properties: Properties | None
    ) -> None:
        self.received.append(translate.connack(flags, reason, properties))

    def _on_message(self, _: Client, __: Any, message: MQTTMessage) -> None:
        self.received.append(translate.publish(message))
        if message.qos and not (message.dup and message.mid in self._acknowledged):
            self.unacknowledged.add(message.mid)

    def _on_broken_publish(self, broken: BrokenPublish) -> None:
        self.received.append(broken)

    def _on_publish(self, _: Client, __: Any, packet_id: int, reason: ReasonCode, ___: Properties) -> None:
        self.received.append(translate.puback(self._publisher_packet_ids.pop(packet_id), reason))

    def _on_subscribe(
        self, _: Client, __: Any, packet_id: int, reasons: list[ReasonCode], ___: Properties | None
    ) -> None:
        self.received.append(translate.suback(packet_id, reasons))

    def _on_unsubscribe(
        self, _: Client, __: Any, packet_id: int, reasons: list[ReasonCode], ___: Properties | None
    ) -> None:
        if packet_id in self._ping_packet_ids:
            self._ping_packet_ids.discard(packet_id)
            self.received.append(PingRespPacket())
        else:
            self.received.append(translate.unsuback(packet_id, reasons))

    def _on_disconnect(
        self, _: Client, __: Any, flags: DisconnectFlags, reason: ReasonCode, properties: Properties | None
    ) -> None:
        if flags.is_disconnect_packet_from_server:
            self.received.append(translate.disconnect(reason, properties))
        elif self.disconnect_reason is None:
            self.disconnect_reason = reason.value


class _LastErrorLogger(logging.Logger):
    """A logger that keeps the latest error. paho reports the errors of a socket only to its log."""

    def __init__(self) -> None:
        super().__init__("paho", logging.ERROR)
        self.last_error: Exception | None = None

    def handle(self, record: logging.LogRecord) -> None:
        self.last_error = next((one for one in record.args or () if isinstance(one, Exception)), self.last_error)
