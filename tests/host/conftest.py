"""Fixtures of the host ring. All of its tests run inside of the test host that the make target puts around pytest."""

from __future__ import annotations

import itertools
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.host.server.harness import Workshop
from tests.host.testhost import Host, Machine, leaks

_numbers = itertools.count(1)


@pytest.fixture(scope="session")
def machine() -> Machine:
    """The test host."""
    machine = Machine.from_environment()
    assert machine is not None, "not in a test host"
    return machine


@pytest.fixture(scope="session")
def workshop(machine: Machine) -> Iterator[Workshop]:
    """What all tests' servers share. Name it before `leak_check`."""
    directory = Path(machine.directory, "workshop")
    with tempfile.TemporaryDirectory(dir=machine.directory) as scratch:
        base = Path(machine.cgroup_base, "workshop") if machine.cgroup_base else None
        workshop = Workshop(directory, Host(machine, Path(scratch, "root"), Path(scratch), base))
    yield workshop
    workshop.close()


@pytest.fixture
def host(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> Iterator[Host]:
    """The test host with a root directory and a cgroup for this test alone.

    NSRUN_ROOT and NSRUN_CGROUP_BASE are set for what runs inside pytest, too. The directories go
    afterwards; what the test left in the kernel is for `leak_check` or the end of the session to find.
    """
    directory = Path(machine.directory, str(next(_numbers)))
    scratch = directory / "scratch"
    scratch.mkdir(parents=True)
    base = Path(machine.cgroup_base, directory.name) if machine.cgroup_base else None
    host = Host(machine=machine, root=directory / "root", scratch=scratch, cgroup_base=base)
    monkeypatch.setenv("NSRUN_ROOT", str(host.root))
    if base is not None:
        monkeypatch.setenv("NSRUN_CGROUP_BASE", str(base))
    yield host
    shutil.rmtree(directory)


@pytest.fixture
def leak_check(machine: Machine) -> Iterator[None]:
    """Fails the test when it leaves anything behind. Name it before `host`, so that it looks after that one's removal."""
    before = leaks.take(machine)
    yield
    lines = leaks.leaked(machine, before)
    assert not lines, "left behind:\n" + "\n".join(lines)
