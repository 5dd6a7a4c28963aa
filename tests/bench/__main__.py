"""`python -m tests.bench`: what sensorsync does on this machine, beside the reference pipeline, in one run.

Absolute figures mean little on another machine; the ratios of one run do. Leave the machine alone while it runs.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import sys
from pathlib import Path

from rich.console import Console

from sensorsync import __version__
from tests.bench.parts import PARTS, Scale
from tests.services import DatabaseServer, Mosquitto


def main() -> int:
    """Run the parts that were asked for; 0, or 1 when a service is missing."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.bench", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("parts", nargs="*", metavar="PART", help=f"which to run: {', '.join(PARTS)} (default: all)")
    parser.add_argument(
        "--rounds", type=int, default=5, help="measurements of each, taken in turn (default: %(default)s)"
    )
    parser.add_argument(
        "--scale", type=float, default=1.0, help="factor to the numbers of messages; 0.1 for a quick look"
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all figures there")
    arguments = parser.parse_args()
    console = Console(width=None if sys.stdout.isatty() else 150)
    if unknown := [name for name in arguments.parts if name not in PARTS]:
        parser.error(f"there is no part {unknown[0]!r}; there are {', '.join(PARTS)}")
    if lacking := Mosquitto.missing() or DatabaseServer.missing():
        console.print(lacking)
        return 1
    machine = {"python": platform.python_version(), "cpus": len(os.sched_getaffinity(0)), "sensorsync": __version__}
    console.print(
        f"sensorsync {__version__}, Python {machine['python']}, {machine['cpus']} CPUs, medians of {arguments.rounds}"
    )
    outcome = []
    for name in arguments.parts or PARTS:
        console.print(f"\n{name}: {PARTS[name].help}", style="bold")
        part = PARTS[name].run(Scale(arguments.rounds, arguments.scale), console.print)
        part.print(console)
        outcome.append(part.as_data())
        if arguments.json:
            arguments.json.write_text(json.dumps({"machine": machine, "parts": outcome}, indent=1) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
