"""`python -m sensorsync` and the console script."""

from __future__ import annotations

import sys


def main() -> None:
    """Run the command line and leave with its exit code."""
    from sensorsync.cli import main as run_command_line  # noqa: PLC0415 - worker processes import this module

    sys.exit(run_command_line())


if __name__ == "__main__":
    main()
