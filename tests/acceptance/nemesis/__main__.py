"""Run one seed by hand, against a private database server: `python -m tests.acceptance.nemesis --seed 7 --seconds 20`."""

from __future__ import annotations

import argparse
import asyncio
import sys
import tempfile
from pathlib import Path

from tests.acceptance.nemesis.conductor import Conductor, Target
from tests.acceptance.nemesis.plan import draw, draw_for_planted_faults
from tests.acceptance.nemesis.sabotage import FAULTS, launcher
from tests.acceptance.nemesis.subscriber import SENSORSYNC
from tests.services import DatabaseServer, is_oracle_mysql


def main() -> int:
    """Print one JSON report for each seed; exit with 1 when there is a violation."""
    parser = argparse.ArgumentParser(prog="python -m tests.acceptance.nemesis")
    parser.add_argument("--seed", type=int, default=0, help="the first seed")
    parser.add_argument("--runs", type=int, default=1, help="how many seeds, one after the other")
    parser.add_argument("--seconds", type=float, default=20.0, help="how long the faults of one run last")
    parser.add_argument("--plant", choices=sorted(FAULTS), help="run a sensorsync with this fault planted in it")
    parser.add_argument("--folder", type=Path, help="keep logs and dead letters here")
    chosen = parser.parse_args()
    failed = False
    program = launcher(chosen.plant) if chosen.plant else SENSORSYNC
    with tempfile.TemporaryDirectory(prefix="nemesis-") as temporary:
        for seed in range(chosen.seed, chosen.seed + chosen.runs):
            folder = (chosen.folder or Path(temporary)) / f"seed-{seed}"
            folder.mkdir(parents=True)
            with DatabaseServer() as server:
                server.prepare()
                target = Target(
                    "mysql" if is_oracle_mysql() else "mariadb",
                    server.port,
                    server.environment(),
                    lambda server=server: server.connect(database=server.name),  # type: ignore[misc]
                )
                if chosen.plant:
                    plan = draw_for_planted_faults(seed, chosen.seconds, full_box=chosen.plant == "unparked_letter")
                else:
                    plan = draw(seed, chosen.seconds)
                report = asyncio.run(
                    Conductor(plan, target, folder, program=program).run(until_violation=chosen.plant is not None)
                )
            print(report.json(), flush=True)
            failed |= not report.ok
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
