"""A machine with systemd on it, and nsrun's unit."""

from __future__ import annotations

from collections.abc import Generator, Iterator

import pytest

from tests.host.systemd.machine import UNIT, Booted, boot
from tests.host.testhost import REPOSITORY, Host


@pytest.fixture
def booted(leak_check: None, host: Host) -> Iterator[Booted]:
    """The unit is installed there; it is neither enabled nor started."""
    directory = host.scratch / "machine"
    directory.mkdir()
    assert host.cgroup_base is not None
    with boot(directory, host.cgroup_base) as booted:
        unit = REPOSITORY / "nsrun" / "server" / UNIT
        booted.write(f"/etc/systemd/system/{UNIT}", unit.read_text(encoding="utf-8"))
        booted.run("systemctl", "daemon-reload")
        yield booted


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Show what that machine knows when a test fails."""
    report = yield
    booted = getattr(item, "funcargs", {}).get("booted")
    if report.failed and isinstance(booted, Booted):
        for words in ("journalctl --no-pager", "systemd-cgls --no-pager", "cat /run/nsrun/server.log"):
            report.sections.append((words, booted.run(*words.split(), check=False)[-8000:]))
    return report
