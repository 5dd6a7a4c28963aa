"""A disk so small that a drill can fill it: a tmpfs in a mount namespace of its own, which nobody else sees."""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Self

from tests.services import DatabaseServer

_PATIENCE = 60.0


class SmallDisk:
    """`size` bytes, mounted on `folder` for those processes that are started by the words of `enter`. A context manager.

    Raises PermissionError, saying why, where this machine does not allow it.
    """

    def __init__(self, folder: Path, size: int) -> None:
        folder.mkdir()
        self.folder = folder
        as_root = os.geteuid() == 0
        self._keeper = subprocess.Popen(
            ["unshare", "--mount", *([] if as_root else ["--map-root-user"]), "--propagation", "private", "sh", "-c",
             'mount -t tmpfs -o "size=$2" tmpfs "$1" && echo mounted && read -r _', "keeper", str(folder), str(size)],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )  # fmt: skip
        assert self._keeper.stdout is not None
        if self._keeper.stdout.readline() != "mounted\n":
            why = self._keeper.communicate()[1].strip()
            raise PermissionError(f"no tmpfs in a namespace of its own: {why}")
        user = [] if as_root else ["--user", "--preserve-credentials"]
        self.enter = ("nsenter", f"--target={self._keeper.pid}", "--mount", *user, f"--wd={Path.cwd()}")
        self.outside = Path(f"/proc/{self._keeper.pid}/root{folder}")
        """The folder, as it is reached from outside of the namespace."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._keeper.kill()
        self._keeper.communicate()

    @property
    def free(self) -> int:
        """Bytes."""
        state = os.statvfs(self.outside)
        return state.f_bavail * state.f_frsize

    def fill(self) -> None:
        """Leave no byte, whatever others free or take meanwhile."""
        ballast = os.open(self.outside / "ballast", os.O_CREAT | os.O_WRONLY | os.O_APPEND)
        deadline = time.monotonic() + _PATIENCE
        try:
            while self.free:
                assert time.monotonic() < deadline, "the disk would not fill"
                size = os.fstat(ballast).st_size
                try:
                    os.posix_fallocate(ballast, size, self.free or 1)
                except OSError:
                    continue  # somebody else took it
        finally:
            os.close(ballast)

    def make_room(self) -> None:
        """Take away what `fill` put there."""
        (self.outside / "ballast").unlink()


class CrampedDatabase(DatabaseServer):
    """A database whose data lies on a small disk. No binary log: a full disk under it makes COMMIT hang a minute at a time."""

    def __init__(self, disk: SmallDisk) -> None:
        super().__init__(options=["--skip-log-bin"])
        self._disk = disk
        self._inside = disk.folder / "data"
        self.data = disk.outside / "data"

    def command(self) -> Sequence[str]:
        return [*self._disk.enter, *(word.replace(str(self.data), str(self._inside)) for word in super().command())]

    def close(self) -> None:
        super().close()
        shutil.rmtree(self.data, ignore_errors=True)
