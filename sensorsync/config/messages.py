"""The settings of what a message is: `reading` and `security`."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from sensorsync.config.fields import FilePath, Secret, Section, setting
from sensorsync.config.units import Duration

TopicLevel = Annotated[int, Field(ge=0, le=127)]


class ReadingSettings(Section):
    """`reading`: how a payload becomes a reading. The key of a reading must come out the same when it is delivered again."""

    missing_ts: Literal["park", "epoch", "arrival"] = setting(
        "park",
        doc="A reading without `ts`: `park` it, store it at the `epoch` (1970), or at its `arrival` (redelivered: two rows).",
        example="park",
    )
    missing_id: Literal["park", "payload"] = setting(
        "park",
        doc="A reading without `event_id`: `park` it, or derive the id from topic and `payload` (identical messages become one row).",
        example="park",
    )
    device_id_level: TopicLevel | None = setting(
        None,
        doc="Level of the topic, counted from 0, that is the `device_id`.",
        example=2,
        default_text="taken from the payload",
    )
    metric_level: TopicLevel | None = setting(
        None,
        doc="Level of the topic, counted from 0, that is the `metric`.",
        example=3,
        default_text="taken from the payload",
    )


class KeySettings(Section):
    """One key of `security.keys`."""

    id: str = setting(
        doc="The key's id (`kid`) in the header of what it signed.", example="2026-a", min_length=1, max_length=128
    )
    algorithm: Literal["HS256"] = setting("HS256", doc="The one algorithm that this key is for.", example="HS256")
    secret: Secret | None = setting(
        None, doc="The key itself, at least 32 bytes.", example="a-secret-of-32-bytes-or-more-here"
    )
    secret_file: FilePath | None = setting(
        None, doc="A file with the key; blanks at its end are ignored.", example="/run/secrets/sensorsync-key"
    )

    @model_validator(mode="after")
    def _one_source(self) -> Self:
        given = (self.secret is not None and bool(self.secret.get_secret_value())) + (self.secret_file is not None)
        if given != 1:
            raise ValueError("a key needs either secret or secret_file, one of the two")
        return self


class SecuritySettings(Section):
    """`security`: signatures of messages (JWS, RFC 7515)."""

    signatures: Literal["optional", "required", "off"] = setting(
        "optional",
        doc="`required` parks what is unsigned; `optional` checks what is signed; `off` opens signed messages unchecked.",
        example="optional",
    )
    keys: tuple[KeySettings, ...] = setting(
        (),
        doc="Keys by id, several at once for rotation. SENSORSYNC_SIGNING_KEY puts an HS256 key `default` before them.",
        example=[{"id": "2026-a", "algorithm": "HS256", "secret_file": "/run/secrets/sensorsync-key"}],
        env=["SENSORSYNC_SIGNING_KEY"],
    )
    signing_key: str | None = setting(
        None,
        doc="Id of the key that `stress-publish` signs with.",
        example="2026-a",
        default_text="the first of security.keys",
    )
    max_age: Annotated[Duration, Field(gt=0)] | None = setting(
        None,
        doc="Refuse a reading whose `ts` was longer ago than this when it arrived (a replay changes no row anyway).",
        example="1h",
        unit="duration",
        default_text="no bound",
    )

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        ids = [key.id for key in self.keys]
        if len(set(ids)) != len(ids):
            raise ValueError("security.keys has two keys with the same id")
        if self.signatures == "required" and not self.keys:
            raise ValueError(
                "security.signatures is required, but security.keys has no key: set SENSORSYNC_SIGNING_KEY or security.keys"
            )
        if self.signing_key is not None and self.signing_key not in ids:
            raise ValueError("security.signing_key names no key of security.keys")
        return self

    @property
    def signer(self) -> KeySettings | None:
        """The key that we sign with, None when there is none."""
        wanted = self.signing_key
        return next((key for key in self.keys if wanted is None or key.id == wanted), None)
