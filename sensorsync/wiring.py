"""Functions that build the decoders, encoders and keys of messages from the settings, from `envelope`, `mapping` and `reading`."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from sensorsync.config import KeySettings, ReadingSettings, SecuritySettings, Settings
from sensorsync.errors import ConfigurationError
from sensorsync.messages.envelope import EnvelopeDecoder, Key, envelope_encoder
from sensorsync.messages.reading import ReadingDecoder, ReadingRules
from sensorsync.pipeline.contract import Decoder, Delivery, FanOut, Reading, Rejected, Row

if TYPE_CHECKING:
    from sensorsync.messages.mapping import Mappings

_HINT = "see security.keys"
_MAX_KEY_BYTES = 64 * 1024


def message_decoder(settings: Settings) -> Decoder:
    """Return the decoder of deliveries, which is thread-safe.

    It opens the envelope first. Then it applies the mappings, and decodes a message that no mapping matches as a plain reading.
    Raises ConfigurationError when a key cannot be read or is wrong.
    """
    open_envelope = envelope(settings.security).verify_and_decrypt
    decode = reading_decoder(settings.reading, settings.security.max_age).decode

    def decoder(delivery: Delivery) -> Reading | Rejected:
        opened = open_envelope(delivery.payload)
        if isinstance(opened, Rejected):
            return opened
        return decode(opened, delivery.topic, delivery.received_at)

    if not settings.mappings:
        return decoder
    decode_mapped = mappings(settings).decode

    def mapping_decoder(delivery: Delivery) -> Row | FanOut | Rejected:
        opened = open_envelope(delivery.payload)
        if isinstance(opened, Rejected):
            return opened
        mapped = decode_mapped(opened, delivery.topic, delivery.properties, delivery.received_at)
        return plain(opened, delivery) if mapped is None else mapped

    def plain(opened: bytes, delivery: Delivery) -> Reading | Rejected:
        decoded = decode(opened, delivery.topic, delivery.received_at)
        if isinstance(decoded, Rejected):  # most often it is for a mapping whose topic or `when` is wrong
            return Rejected(decoded.reason, f"no mapping is for this message; as a plain reading: {decoded.message}")
        return decoded

    return mapping_decoder


def mappings(settings: Settings) -> Mappings:
    """Return the mappings of these settings. They were checked when the settings were loaded."""
    # Imported here, because it loads JMESPath and all formats, which are needed only with mappings.
    from sensorsync.config.sections.mapping_specifications import mapping_specs  # noqa: PLC0415
    from sensorsync.messages.mapping import Mappings  # noqa: PLC0415

    return Mappings(mapping_specs(settings.mappings, settings.reading), max_age=settings.security.max_age)


def reading_decoder(settings: ReadingSettings, max_age: float | None = None) -> ReadingDecoder:
    """Return the decoder of plain readings for these settings. `max_age` is in seconds."""
    return ReadingDecoder(
        ReadingRules(
            missing_ts=settings.missing_ts,
            missing_id=settings.missing_id,
            device_id_level=settings.device_id_level,
            metric_level=settings.metric_level,
            max_age=max_age,
        )
    )


def envelope(settings: SecuritySettings) -> EnvelopeDecoder:
    """Return the envelope decoder of these settings. Raises ConfigurationError when a key cannot be read or is wrong."""
    keys = [load_key(key) for key in settings.keys]
    try:
        return EnvelopeDecoder(keys, signatures=settings.signatures, encryption=settings.encryption)
    except ValueError as error:
        raise ConfigurationError(str(error), hint=_HINT) from error


def envelope_without_signature_check(settings: SecuritySettings) -> EnvelopeDecoder:
    """Return an envelope decoder for counting dead letters. It does not check signatures: a message with a wrong one is parked, too.

    Raises ConfigurationError when a key for encryption cannot be read or is wrong.
    """
    keys = [load_key(key) for key in settings.keys if key.use == "encryption"]
    return EnvelopeDecoder(keys, signatures="off")


def signing_key(settings: SecuritySettings) -> Key | None:
    """Return the signing key, None when none is configured. Raises ConfigurationError when it cannot be read or is wrong."""
    return None if settings.signing_key_settings is None else load_key(settings.signing_key_settings)


def message_encoder(settings: SecuritySettings) -> Callable[[bytes], bytes] | None:
    """Return the function that signs and encrypts payloads, as far as there are keys for it; None when there are no keys.

    Raises ConfigurationError when a key cannot be read or is wrong.
    """
    encryption = None if settings.encryption_key_settings is None else load_key(settings.encryption_key_settings)
    try:
        return envelope_encoder(signing_key(settings), encryption)
    except ValueError as error:
        raise ConfigurationError(str(error), hint=_HINT) from error


def load_key(settings: KeySettings) -> Key:
    """Return one key of `security.keys`. Raises ConfigurationError when it cannot be read or is wrong."""
    material = _key_material(settings)
    try:
        key = Key(settings.id, material, settings.algorithm)
    except ValueError as error:
        raise ConfigurationError(str(error), hint=_HINT) from error
    if key.is_private != settings.is_private:
        found, wanted = ("private", "secret") if key.is_private else ("public", "public_key")
        raise ConfigurationError(
            f"key {settings.id!r}: a {found} key was found where the other half belongs",
            hint=f"Give it as {wanted} or {wanted}_file; see security.keys.",
        )
    return key


def _key_material(settings: KeySettings) -> bytes:
    for text, file in ((settings.secret, settings.secret_file), (settings.public_key, settings.public_key_file)):
        if text is not None and text.get_secret_value():
            return text.get_secret_value().encode()
        if file is not None:
            return _read_key_file(file)
    return b""


def _read_key_file(file: Path) -> bytes:
    try:
        with file.open("rb") as stream:
            content = stream.read(_MAX_KEY_BYTES + 1).rstrip()
    except OSError as error:
        raise ConfigurationError(
            f"the key file {file} cannot be read: {error.strerror or error}", hint=_HINT
        ) from error
    if len(content) > _MAX_KEY_BYTES:
        raise ConfigurationError(f"the key file {file} has more than {_MAX_KEY_BYTES} bytes: it is no key", hint=_HINT)
    return content
