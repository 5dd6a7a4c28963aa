"""Limits of the process."""

from __future__ import annotations

import resource

import pytest

from sensorsync.errors import ConfigurationError
from sensorsync.runtime.process import raise_fd_limit


@pytest.mark.parametrize(
    ("limits", "needed", "after"),
    [((256, 4096), 2064, 2064), ((256, 4096), 4096, 4096), ((3000, 4096), 2064, 3000), ((256, -1), 10**6, 10**6)],
)
def test_the_limit_of_open_files_is_raised_when_it_is_too_low(
    monkeypatch: pytest.MonkeyPatch, limits: tuple[int, int], needed: int, after: int
) -> None:
    present = [limits]
    monkeypatch.setattr(resource, "getrlimit", lambda _: present[-1])
    monkeypatch.setattr(resource, "setrlimit", lambda _, changed: present.append(changed))
    raise_fd_limit(needed)
    assert present[-1] == (after, limits[1])


def test_a_hard_limit_of_open_files_that_is_too_low_names_ulimit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resource, "getrlimit", lambda _: (256, 1024))
    with pytest.raises(ConfigurationError, match=r"2064 open files .* 1024 \(ulimit -Hn\)") as caught:
        raise_fd_limit(2064)
    assert "ulimit -n 2064" in str(caught.value.hint)
