"""From the settings to what opens, decodes and signs messages. The one place where `envelope` and `reading` are wired together."""

from __future__ import annotations

from sensorsync.config import KeySettings, ReadingSettings, SecuritySettings, Settings
from sensorsync.envelope import Envelope, Key, Signer
from sensorsync.errors import ConfigurationError
from sensorsync.pipeline.contract import Decoder, Delivery, Reading, Rejected
from sensorsync.reading import ReadingDecoder, ReadingRules


def message_decoder(settings: Settings) -> Decoder:
    """Delivery -> Reading | Rejected: the envelope first, then the reading. Thread-safe.

    Raises ConfigurationError when a key cannot be read.
    """
    open_envelope = envelope(settings.security).open
    decode = reading_decoder(settings.reading, settings.security.max_age).decode

    def decoder(delivery: Delivery) -> Reading | Rejected:
        opened = open_envelope(delivery.payload)
        if isinstance(opened, Rejected):
            return opened
        return decode(opened, delivery.topic, delivery.received_at)

    return decoder


def reading_decoder(settings: ReadingSettings, max_age: float | None = None) -> ReadingDecoder:
    """The decoder of plain readings by these settings; `max_age` in seconds."""
    return ReadingDecoder(
        ReadingRules(
            missing_ts=settings.missing_ts,
            missing_id=settings.missing_id,
            device_id_level=settings.device_id_level,
            metric_level=settings.metric_level,
            max_age=max_age,
        )
    )


def envelope(settings: SecuritySettings) -> Envelope:
    """The envelope of these settings. Raises ConfigurationError when a key cannot be read."""
    return Envelope([_key(key) for key in settings.keys], signatures=settings.signatures)


def signing_key(settings: SecuritySettings) -> Key | None:
    """The key that we sign with, None when none is configured. Raises ConfigurationError when it cannot be read."""
    chosen = settings.signer
    return None if chosen is None else _key(chosen)


def signer(settings: SecuritySettings) -> Signer | None:
    """The signer of these settings, None when no key is configured. Raises ConfigurationError when its key cannot be read."""
    key = signing_key(settings)
    return None if key is None else Signer(key)


def _key(settings: KeySettings) -> Key:
    try:
        return Key(settings.id, _secret(settings), settings.algorithm)
    except ValueError as error:
        raise ConfigurationError(str(error), hint="see security.keys") from error


def _secret(settings: KeySettings) -> bytes:
    if settings.secret is not None and settings.secret.get_secret_value():
        return settings.secret.get_secret_value().encode()
    if settings.secret_file is None:
        return b""
    try:
        return settings.secret_file.read_bytes().rstrip()
    except OSError as error:
        raise ConfigurationError(
            f"the key file {settings.secret_file} cannot be read: {error.strerror or error}",
            hint="see security.keys",
        ) from error
