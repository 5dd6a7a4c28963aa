"""The entry point of `python -m sensorsync` and of the console script."""

from __future__ import annotations

import sys

from sensorsync.errors import ExitCode


def main() -> None:
    """Run the command line and exit with its exit code."""
    try:
        from sensorsync.cli import main as run_command_line  # noqa: PLC0415 - worker processes import this module

        code = run_command_line()
    except KeyboardInterrupt:  # outside of a command, which handles it in the same way
        code = ExitCode.INCOMPLETE
    sys.exit(int(code))


if __name__ == "__main__":
    main()
