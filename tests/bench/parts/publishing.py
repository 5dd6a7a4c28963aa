"""publish and crypto: how fast messages leave."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from pathlib import Path

from tests.bench.arena import Arena, arena
from tests.bench.parts.scale import Say, Scale
from tests.bench.tables import Figures, Part, alternate

MESSAGES = 400_000
REFERENCE_MESSAGES = 100_000
"""The reference is slower: a quarter of the messages takes it as long."""


def ours(place: Arena, messages: int, *words: str, processes: int = 2, **changes: str) -> Figures:
    """`stress-publish`; nobody subscribes, so every PUBACK says so."""
    with place.sensorsync(
        "stress-publish", "--json", "--messages", str(messages), "--processes", str(processes), *words, **changes
    ) as process:
        ended = process.end()
    data = ended.last_line["data"]
    if data["sent"] != messages or data["unacknowledged"]:
        raise RuntimeError(f"not all were acknowledged: {data}")
    return Figures(data["throughput"], ended.cpu / messages * 1e6, ended.peak_rss)


def reference(place: Arena, messages: int) -> Figures:
    """The reference with its four processes."""
    with place.reference("publish", "--messages", str(messages), "--processes", "4", "--timeout", "600") as process:
        ended = process.end()
    return Figures(ended.last_line["rate"], ended.cpu / messages * 1e6, ended.peak_rss)


def publish(scale: Scale, say: Say) -> Part:
    """Signed, all cores of a two-core machine."""
    few = scale.messages(REFERENCE_MESSAGES)
    with arena() as place:
        rows = alternate(
            {
                "sensorsync, 2 processes, HS256": partial(ours, place, scale.messages(MESSAGES)),
                "sensorsync --client paho, 2 processes, HS256": partial(ours, place, few, "--client", "paho"),
                "reference, 4 processes, not signed": partial(reference, place, few),
            },
            scale.rounds,
            say,
        )
    return Part("publish", "publish", rows)


def crypto(scale: Scale, say: Say) -> Part:
    """One process each, so that the cost of a message shows in its rate."""
    messages = scale.messages(REFERENCE_MESSAGES)
    with arena() as place:
        contestants = {
            name: partial(ours, place, messages, processes=1, **changes) for name, changes in _keys(place).items()
        }
        rows = alternate(contestants, scale.rounds, say)
    return Part("crypto", "publish with one process: signatures and encryption (ratio to none)", rows)


def _keys(place: Arena) -> Mapping[str, Mapping[str, str]]:
    """Environments with one key each, made by `keys generate`. The last is without any."""
    found: dict[str, Mapping[str, str]] = {}
    for algorithm in ("HS256", "EdDSA", "RS256", "A256GCM"):
        file = place.folder / algorithm.lower()
        ended = place.sensorsync(
            "keys", "generate", "--id", algorithm.lower(), "--algorithm", algorithm, "--out", str(file)
        ).end()
        if ended.exit_code:
            raise RuntimeError(ended.err)
        found[algorithm] = _environment(place.folder, algorithm, file)
    found["none"] = {"SENSORSYNC_SIGNING_KEY": "", "SENSORSYNC_SECURITY__SIGNATURES": "off"}
    return found


def _environment(folder: Path, algorithm: str, file: Path) -> Mapping[str, str]:
    use = "encryption" if algorithm == "A256GCM" else "signature"
    config = folder / f"{algorithm}.yaml"
    config.write_text(
        f"security:\n  signatures: {'off' if use == 'encryption' else 'required'}\n  keys:\n"
        f"    - id: {algorithm.lower()}\n      algorithm: {algorithm}\n      secret_file: {file}\n"
    )
    return {"SENSORSYNC_CONFIG": str(config), "SENSORSYNC_SIGNING_KEY": "", "SENSORSYNC_SECURITY__SIGNATURES": ""}
