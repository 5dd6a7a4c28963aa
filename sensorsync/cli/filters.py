"""The flags that select dead letters, the same on every `dlq` command and with the same meaning."""
# ruff: noqa: PLC0415 - imports are inside the functions for speed

from __future__ import annotations

import functools
import inspect
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, Literal, cast

import typer

from sensorsync.cli.wiring import parse_duration_flag, parse_time_flag
from sensorsync.errors import UsageError

if TYPE_CHECKING:
    from sensorsync.deadletters import Criteria

State = Literal["parked", "quarantined"]


@dataclass(frozen=True)
class Filters:
    """The values of the filter flags. A field is all that a flag needs here."""

    reason: Annotated[str | None, typer.Option("--reason", help="Only letters with this reason.", metavar="REASON")] = (
        None
    )
    errno: Annotated[int | None, typer.Option("--errno", help="Only letters with this error number.", metavar="N")] = (
        None
    )
    device: Annotated[
        str | None,
        typer.Option(
            "--device",
            help="Only letters whose payload or topic says this device_id; of mapped messages: --topic.",
            metavar="DEVICE",
        ),
    ] = None
    topic: Annotated[
        str | None,
        typer.Option("--topic", help="Only letters with such a topic (wildcards + and #).", metavar="FILTER"),
    ] = None
    since: Annotated[
        str | None,
        typer.Option(
            "--since", help="Only letters that came last at or after this time, or so long ago.", metavar="TIME"
        ),
    ] = None
    until: Annotated[
        str | None, typer.Option("--until", help="Only letters that came last before this time.", metavar="TIME")
    ] = None
    state: Annotated[str | None, typer.Option("--state", help="parked or quarantined.", metavar="STATE")] = None

    def criteria(self, *, older_than: str | None = None) -> Criteria:
        """Return the criteria of all filter flags together. Raises UsageError.

        With `older_than`, the latest arrival of a letter must also be longer ago than that.
        """
        from sensorsync.deadletters import Criteria
        from sensorsync.messages.topics import check_filter

        try:
            topic = None if self.topic is None else check_filter(self.topic)
        except ValueError as error:
            raise UsageError(f"--topic: {error}") from error
        if self.state not in {None, "parked", "quarantined"}:
            raise UsageError(f"--state: {self.state!r} is neither parked nor quarantined")
        age = parse_duration_flag("--older-than", older_than)
        ends = [parse_time_flag("--until", self.until), None if age is None else time.time() - age]
        return Criteria(
            reason=self.reason,
            errno=self.errno,
            device=self.device,
            topic=topic,
            since=parse_time_flag("--since", self.since),
            until=min((end for end in ends if end is not None), default=None),
            state=cast(State | None, self.state),
        )


def with_filter_options(*, state: bool = True) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Turn a function with a parameter `filters` into a command that has all the flags in its place.

    `state` is True when --state is one of them. typer reads flags from a signature, and a dataclass has one.
    """
    flags = inspect.signature(Filters, eval_str=True).parameters
    chosen = [flag for name, flag in flags.items() if state or name != "state"]

    def command_of(function: Callable[..., None]) -> Callable[..., None]:
        @functools.wraps(function)
        def command(**values: Any) -> None:
            filters = Filters(**{flag.name: values.pop(flag.name) for flag in chosen})
            function(filters=filters, **values)

        own = inspect.signature(function, eval_str=True)
        shown = [
            parameter.replace(kind=inspect.Parameter.KEYWORD_ONLY)
            for name, one in own.parameters.items()
            for parameter in (chosen if name == "filters" else [one])
        ]
        command.__signature__ = own.replace(parameters=shown)  # type: ignore[attr-defined]  # PEP 362 has it
        return command

    return command_of
