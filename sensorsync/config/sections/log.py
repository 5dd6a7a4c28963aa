"""The section `log`: what goes to stderr."""

from __future__ import annotations

from typing import Annotated, Literal

from sensorsync.config.sections.fields import Section, UpperCase, setting


class LogSettings(Section):
    """`log`: what goes to stderr."""

    level: Annotated[Literal["DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL"], UpperCase] = setting(
        "INFO",
        doc="Least severity that is logged: DEBUG, INFO, WARNING, ERROR or CRITICAL.",
        example="INFO",
        env=["LOG_LEVEL"],
    )
    format: Literal["text", "json"] = setting(
        "text", doc="`text` for people, or one `json` object per line for machines.", example="text"
    )
