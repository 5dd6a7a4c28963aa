"""The advice as a snippet for my.cnf, for variables that SET GLOBAL cannot set or that a restart would reset."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from textwrap import wrap

from sensorsync.storage.mysql.tuning.product import Product
from sensorsync.storage.mysql.tuning.tuning_input import Advice, Profile

_WIDTH = 100


def my_cnf_snippet(
    advice: Sequence[Advice], product: Product, profile: Profile, notes: Sequence[str], set_at_runtime: frozenset[str]
) -> str:
    """Return the snippet: the variables that differ from the advice, and those of `set_at_runtime`.

    `set_at_runtime` are variables with the advised value only because of a SET GLOBAL. The section is [mysqld], which
    MariaDB reads, too.
    """
    chosen = [one for one in advice if one.differs or one.variable in set_at_runtime]
    return "\n".join(_lines(chosen, product, profile, notes)) + "\n"


def _lines(chosen: Sequence[Advice], product: Product, profile: Profile, notes: Sequence[str]) -> Iterator[str]:
    yield from _comment(f"sensorsync tune-db, profile {profile}, for {product.label}. {profile.loss_description}")
    for note in notes:
        yield from _comment(note)
    yield "[mysqld]"
    groups = (
        ("Read at the start of the server only", [one for one in chosen if not one.dynamic and not one.by_hand]),
        ("--apply sets these at once; here they hold after a restart, too", [one for one in chosen if one.dynamic]),
        ("For you to decide", [one for one in chosen if one.by_hand]),
    )
    for title, group in groups:
        if group:
            yield f"\n# --- {title} ---"
        for one in group:
            yield ""
            yield from _comment(f"{one.variable}, now {one.now}: {one.why}{f'. Risk: {one.risk}' if one.risk else ''}.")
            yield f"{'# ' if one.by_hand else ''}{one.variable} = {one.advised}"
    if not chosen:
        yield "# Nothing is to be set: the server is as advised."


def _comment(text: str) -> Iterator[str]:
    return (f"# {line}" for line in wrap(text, _WIDTH))
