"""The stage, once for all attacks, and the look at what is outside of it after each."""

from __future__ import annotations

import shutil
from collections.abc import Generator, Iterator
from pathlib import Path

import pytest

from tests.host.escapes.stage import Stage
from tests.host.testhost import Host, Machine, leaks


@pytest.fixture(scope="package")
def stage(machine: Machine) -> Iterator[Stage]:
    """Pods of attackers and of victims; all of it is gone afterwards without a trace."""
    before = leaks.take(machine)
    directory = Path(machine.directory, "escapes")
    scratch = directory / "scratch"
    scratch.mkdir(parents=True)
    base = Path(machine.cgroup_base, "escapes") if machine.cgroup_base else None
    host = Host(machine=machine, root=directory / "root", scratch=scratch, cgroup_base=base)
    stage = Stage(host)
    with pytest.MonkeyPatch.context() as patch:
        # For what runs inside pytest.
        patch.setenv("NSRUN_ROOT", str(host.root))
        if base is not None:
            patch.setenv("NSRUN_CGROUP_BASE", str(base))
        try:
            stage.begin()
            yield stage
        finally:
            stage.end()
            shutil.rmtree(directory)
    lines = leaks.leaked(machine, before)
    assert not lines, "left behind:\n" + "\n".join(lines)


@pytest.fixture(autouse=True)
def nothing_outside_changes(stage: Stage) -> Iterator[None]:
    """What every attack must not do."""
    before = stage.facts()
    yield
    assert stage.facts() == before


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Show what the server said when a test fails."""
    report = yield
    stage = getattr(item, "funcargs", {}).get("stage")
    if report.failed and isinstance(stage, Stage):
        report.sections.append(("server", stage.server.said()[-8000:]))
    return report
