"""tests/run.sh brings all that it needs: on a machine that has nothing but Debian's smallest system, python3 and git."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.services import eventually

ROOT = Path(__file__).parents[2]
TOOL = ROOT / "tests/tools/bare-machine"
# What needs each of the services, and the programs around them.
SELECTION = (
    "tests/unit/supervisor",
    "tests/unit/test_sign_messages.py",
    "tests/integration/test_check_cloud.py",
    "tests/integration/test_service.py",
    "tests/acceptance/test_tutorial.py",
)

pytestmark = [pytest.mark.acceptance, pytest.mark.long, pytest.mark.timeout(2400)]


@pytest.fixture(autouse=True)
def possible() -> None:
    if not (ROOT / ".git").exists():
        pytest.skip("this is no clone")
    why_not = subprocess.run([TOOL, "--check"], capture_output=True, text=True, check=False)
    if why_not.returncode:
        pytest.skip(why_not.stderr.strip())


@contextmanager
def bare_machine(folder: Path, *words: str) -> Iterator[tuple[subprocess.Popen[bytes], Path]]:
    """The tool, running these words, and what it prints."""
    output = folder / "output"
    with output.open("wb") as file:
        command = ["env", f"BARE_MACHINE_DIR={folder}", str(TOOL), *words]
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=file, stderr=file, start_new_session=True)
    try:
        yield process, output
    finally:
        process.terminate()
        process.wait(60)


def remains(folder: Path) -> list[str]:
    """Folders, mounts and processes of the tool that are still there."""
    mounts = [line for line in Path("/proc/mounts").read_text().splitlines() if str(folder) in line]
    running = [path.parent.name for path in Path("/proc").glob("[0-9]*/cmdline") if _names(path, folder)]
    return [*map(str, folder.glob("bare-machine-*")), *mounts, *running]


def _names(path: Path, folder: Path) -> bool:
    try:
        return bytes(folder) in path.read_bytes()
    except OSError:
        return False


def test_the_suite_gets_all_that_it_needs(tmp_path: Path) -> None:
    with bare_machine(tmp_path, "tests/run.sh", *SELECTION) as (process, output):
        code = process.wait()
    printed = output.read_text(errors="replace").partition("\n== coverage\n")[0]
    assert code == 0, printed[-20_000:]
    # Nothing is failed, skipped or deselected.
    assert re.search(r"^=+ \d+ passed in ", printed, re.MULTILINE), printed[-20_000:]
    assert remains(tmp_path) == []


def test_what_is_ended_leaves_nothing(tmp_path: Path) -> None:
    with bare_machine(tmp_path, "tests/run.sh") as (process, output):
        eventually(lambda: b"making .venv" in output.read_bytes(), "the beginning of tests/run.sh", 600)
        assert remains(tmp_path)
        process.terminate()
        assert process.wait(60) == 143
    assert remains(tmp_path) == []


def test_what_is_killed_leaves_nothing_but_its_folder(tmp_path: Path) -> None:
    with bare_machine(tmp_path, "tests/run.sh") as (process, output):
        eventually(lambda: b"making .venv" in output.read_bytes(), "the beginning of tests/run.sh", 600)
        process.kill()
        process.wait()
    (folder,) = tmp_path.glob("bare-machine-*")
    eventually(lambda: remains(tmp_path) == [str(folder)], f"the end of what runs in {folder}", 10)


def test_the_exit_code_is_that_of_the_script(tmp_path: Path) -> None:
    with bare_machine(tmp_path, "-c", "test -d .git && test ! -e /usr/bin/curl && exit 7") as (process, output):
        assert process.wait(600) == 7, output.read_text()
    assert remains(tmp_path) == []
