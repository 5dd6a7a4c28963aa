"""The section `security`: keys, signatures and encryption."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field, SecretStr, model_validator

from sensorsync.config.sections.fields import FilePath, Secret, Section, setting
from sensorsync.config.sections.units import Duration


class KeySettings(Section):
    """`security.keys[]`: one key."""

    id: str = setting(
        doc="The key's id (`kid`) in the header of what it made.", example="2026-a", min_length=1, max_length=128
    )
    algorithm: Literal["HS256", "RS256", "PS256", "EdDSA", "A256GCM"] = setting(
        "HS256",
        doc="The one algorithm that this key is for: HS256, RS256, PS256, EdDSA (signatures) or A256GCM (encryption).",
        example="HS256",
    )
    secret: Secret | None = setting(
        None,
        doc="The key itself: for HS256 at least 32 bytes, for A256GCM the base64 text of 32 bytes, else the private key in PEM, "
        "which only who signs needs.",
        example="a-secret-of-32-bytes-or-more-here",
    )
    secret_file: FilePath | None = setting(
        None, doc="A file with the same; blanks at its end are ignored.", example="/run/secrets/sensorsync-key"
    )
    # Masked like a secret, because a private key that is put here by mistake must not be shown.
    public_key: Secret | None = setting(
        None,
        doc="RS256, PS256, EdDSA: the public key in PEM, which verifies and cannot sign.",
        example="-----BEGIN PUBLIC KEY-----...",
    )
    public_key_file: FilePath | None = setting(
        None, doc="A file with the same.", example="/etc/sensorsync/devices-2026.pub.pem"
    )

    @property
    def use(self) -> Literal["signature", "encryption"]:
        """Kind of messages that the key is for."""
        return "encryption" if self.algorithm == "A256GCM" else "signature"

    @property
    def is_private(self) -> bool:
        """True when the key makes messages, and does not only verify them."""
        return self.secret_file is not None or _is_set(self.secret)

    @model_validator(mode="after")
    def _validate_source(self) -> Self:
        public = _is_set(self.public_key) + (self.public_key_file is not None)
        if _is_set(self.secret) + (self.secret_file is not None) + public != 1:
            raise ValueError(
                "a key needs either secret or secret_file, or public_key or public_key_file: exactly one of them"
            )
        if public and self.algorithm in {"HS256", "A256GCM"}:
            raise ValueError(f"a key for {self.algorithm} has no public half: give secret or secret_file")
        if self.public_key is not None and "PRIVATE KEY" in self.public_key.get_secret_value():
            raise ValueError("public_key holds a private key: give it as secret, or better as secret_file")
        return self


class SecuritySettings(Section):
    """`security`: signatures (JWS, RFC 7515) and encryption (JWE, RFC 7516) of messages."""

    signatures: Literal["optional", "required", "off"] = setting(
        "optional",
        doc="`required` parks what is unsigned; `optional` checks what is signed; `off` opens signed messages unchecked.",
        example="optional",
    )
    encryption: Literal["optional", "required", "off"] = setting(
        "optional",
        doc="`required` parks what is not encrypted; `optional` decrypts what is; `off` parks what is, and encrypts nothing.",
        example="optional",
    )
    keys: tuple[KeySettings, ...] = setting(
        (),
        doc="Keys by id, several at once for rotation. SENSORSYNC_SIGNING_KEY puts an HS256 key `default` before them, "
        "SENSORSYNC_ENCRYPTION_KEY an A256GCM key `default-encryption`.",
        example=[
            {"id": "2026-a", "algorithm": "HS256", "secret_file": "/run/secrets/sensorsync-key"},
            {"id": "devices-2026", "algorithm": "EdDSA", "public_key_file": "/etc/sensorsync/devices-2026.pub.pem"},
            {"id": "2026-e", "algorithm": "A256GCM", "secret_file": "/run/secrets/sensorsync-content-key"},
        ],
        env=["SENSORSYNC_SIGNING_KEY", "SENSORSYNC_ENCRYPTION_KEY"],
    )
    signing_key: str | None = setting(
        None,
        doc="Id of the key that `stress-publish` signs with.",
        example="2026-a",
        default_text="the first of security.keys that can sign",
    )
    encryption_key: str | None = setting(
        None,
        doc="Id of the key that `stress-publish` encrypts with.",
        example="2026-e",
        default_text="the first of security.keys for encryption",
    )
    max_age: Annotated[Duration, Field(gt=0)] | None = setting(
        None,
        doc="Park a reading whose `ts` was longer ago than this when it arrived, such as an old message that somebody sends again.",
        example="1h",
        unit="duration",
        default_text="no bound",
    )

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        ids = [key.id for key in self.keys]
        if len(set(ids)) != len(ids):
            raise ValueError("security.keys has two keys with the same id")
        if self.signatures == "required" and all(key.use != "signature" for key in self.keys):
            raise ValueError(
                "security.signatures is required, but security.keys has no key for signatures: "
                "set SENSORSYNC_SIGNING_KEY or security.keys"
            )
        if self.encryption == "required" and all(key.use != "encryption" for key in self.keys):
            raise ValueError(
                "security.encryption is required, but security.keys has no key for encryption: "
                "set SENSORSYNC_ENCRYPTION_KEY or security.keys"
            )
        if self.signing_key is not None and self.signing_key_settings is None:
            raise ValueError("security.signing_key names no key of security.keys that can sign")
        if self.encryption_key is not None and self._first_usable_key("encryption", self.encryption_key) is None:
            raise ValueError("security.encryption_key names no key of security.keys for encryption")
        return self

    @property
    def signing_key_settings(self) -> KeySettings | None:
        """The key that we sign with. None when there is none."""
        return self._first_usable_key("signature", self.signing_key)

    @property
    def encryption_key_settings(self) -> KeySettings | None:
        """The key that we encrypt with. None when there is none or encryption is off."""
        return None if self.encryption == "off" else self._first_usable_key("encryption", self.encryption_key)

    def _first_usable_key(self, use: str, key_id: str | None) -> KeySettings | None:
        fit = (key for key in self.keys if key.use == use and key.is_private)
        return next((key for key in fit if key_id is None or key.id == key_id), None)


def _is_set(secret: SecretStr | None) -> bool:
    return secret is not None and bool(secret.get_secret_value())
