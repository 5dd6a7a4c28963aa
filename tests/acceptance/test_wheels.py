"""No compiler is needed to install sensorsync: each of its dependencies, and of theirs, has a wheel wherever it may run."""

from __future__ import annotations

import json
import subprocess
import sys
import tomllib
import zipfile
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

pytestmark = [pytest.mark.acceptance, pytest.mark.timeout(900)]

ROOT = Path(__file__).parents[2]
PYTHONS = ("3.11", "3.12", "3.13", "3.14")
MACHINES = ("x86_64", "aarch64")
OLDEST_GLIBC, NEWEST_GLIBC = 17, 28
"""README promises wheels that run with glibc 2.28; what runs with an older one runs there, too."""


@dataclass(frozen=True, slots=True)
class Target:
    """A Linux that sensorsync is installed on."""

    python: str
    machine: str

    @property
    def options(self) -> list[str]:
        """The options that make pip resolve for it, whatever it runs on itself."""
        platforms = [f"manylinux_2_{glibc}_{self.machine}" for glibc in range(OLDEST_GLIBC, NEWEST_GLIBC + 1)]
        return [
            *("--implementation=cp", f"--python-version={self.python}"),
            *(f"--platform={platform}" for platform in (*platforms, f"manylinux2014_{self.machine}")),
        ]

    def select(self, requirements: Iterable[str]) -> list[str]:
        """Return the requirements that hold here, without their markers: pip evaluates those for the Python that it runs on."""
        environment = {
            "python_version": self.python,
            "python_full_version": f"{self.python}.0",
            "platform_machine": self.machine,
            "extra": "",
        }
        selected = []
        for one in map(Requirement, requirements):
            if one.marker is None or one.marker.evaluate(environment):
                one.marker = None
                selected.append(str(one))
        return selected


def resolve(requirements: Iterable[str], options: Iterable[str]) -> tuple[list[dict[str, Any]], str]:
    """Return the metadata of the wheels that pip would install, and its complaint if there is no such set."""
    done = subprocess.run(
        [
            *(sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-input"),
            *("--dry-run", "--ignore-installed", "--report=-", "--only-binary=:all:", *options, *requirements),
        ],
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        complaints = [line for line in done.stderr.splitlines() if line.startswith("ERROR")]
        return [], "\n".join(complaints) or done.stderr
    return [item["metadata"] for item in json.loads(done.stdout)["install"]], ""


def without_wheel(requirements: Sequence[str], target: Target, *options: str) -> list[str]:
    """Return for each requirement that cannot be installed of wheels alone why not."""
    options = (*target.options, *options)
    wanted = target.select(requirements)
    while True:
        found, complaint = resolve(wanted, options)
        if complaint:
            alone = [f"{text}: {why}" for text in wanted if (why := resolve([text], options)[1])]
            return alone or [complaint]
        names = {canonicalize_name(metadata["name"]) for metadata in found}
        theirs = target.select(text for metadata in found for text in metadata.get("requires_dist", ()))
        unseen = {text for text in theirs if canonicalize_name(Requirement(text).name) not in names}
        if not unseen:
            return []
        wanted += sorted(unseen)


@pytest.fixture(scope="module")
def index() -> None:
    """The package index, or a reason to skip the test."""
    _, complaint = resolve(["packaging"], ["--no-deps", "--retries=1", "--timeout=20"])
    if complaint:
        pytest.skip(f"the package index cannot be reached: {complaint}")


@pytest.mark.long
@pytest.mark.usefixtures("index")
@pytest.mark.parametrize("machine", MACHINES)
@pytest.mark.parametrize("python", PYTHONS)
def test_all_dependencies_have_wheels(python: str, machine: str) -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    requirements = [
        *project["project"]["dependencies"],
        *project["project"]["optional-dependencies"]["demo"],
        *project["build-system"]["requires"],
    ]
    assert without_wheel(requirements, Target(python, machine)) == []


def test_the_pythons_that_are_checked_for_wheels_are_those_that_the_package_names() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    prefix = "Programming Language :: Python :: 3."
    named = [one.rpartition(" ")[2] for one in project["classifiers"] if one.startswith(prefix)]
    assert tuple(named) == PYTHONS
    assert project["requires-python"] == f">={PYTHONS[0]}"


def wheel(folder: Path, name: str, tag: str, *requirements: str) -> None:
    """Put a wheel without a content into the folder."""
    about = [
        "Metadata-Version: 2.1",
        f"Name: {name}",
        "Version: 1.0",
        *(f"Requires-Dist: {one}" for one in requirements),
    ]
    with zipfile.ZipFile(folder / f"{name}-1.0-{tag}.whl", "w") as made:
        made.writestr(f"{name}-1.0.dist-info/METADATA", "\n".join(about) + "\n")
        made.writestr(f"{name}-1.0.dist-info/WHEEL", f"Wheel-Version: 1.0\nRoot-Is-Purelib: false\nTag: {tag}\n")
        made.writestr(f"{name}-1.0.dist-info/RECORD", "")


@pytest.mark.long
def test_the_check_names_what_has_no_wheel_for_a_machine_a_glibc_or_a_python(tmp_path: Path) -> None:
    wheel(tmp_path, "pure", "py3-none-any")
    wheel(tmp_path, "intel", "cp311-abi3-manylinux_2_17_x86_64")
    wheel(tmp_path, "needs_intel", "py3-none-any", "intel")
    wheel(tmp_path, "modern", "cp311-abi3-manylinux_2_34_aarch64")
    wheel(tmp_path, "late", "py3-none-any", 'intel>=1; python_version >= "3.14"')
    (tmp_path / "source-1.0.tar.gz").touch()

    def missing(python: str, machine: str, *requirements: str) -> list[str]:
        found = without_wheel(requirements, Target(python, machine), "--no-index", f"--find-links={tmp_path}")
        return [one.partition(":")[0] for one in found]

    assert missing("3.13", "aarch64", "pure>=1", "needs_intel", "modern", "source") == [
        "needs_intel",
        "modern",
        "source",
    ]
    assert missing("3.13", "aarch64", "late", 'intel; python_version >= "3.14"') == []
    assert missing("3.14", "aarch64", "late") == ["intel>=1"]
    assert missing("3.14", "aarch64", 'intel; python_version >= "3.14"') == ["intel"]
    assert missing("3.14", "x86_64", "pure", "needs_intel", "late") == []
