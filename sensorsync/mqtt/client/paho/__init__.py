"""The second engine, on paho-mqtt 2: MQTT 3.1.1 and 5, over TCP, TLS and WebSockets."""

from sensorsync.mqtt.client.paho.connection import PahoConnection

__all__ = ["PahoConnection"]
