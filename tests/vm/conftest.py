"""The disks, made once for all tests, and the console of a machine whose test failed."""

from __future__ import annotations

from collections.abc import Generator, Iterator

import pytest

from tests.vm import image
from tests.vm.machine import Disks


@pytest.fixture(scope="session")
def disks() -> Iterator[Disks]:
    """Kept from others while the tests run."""
    with image.alone():
        system = image.system()
        yield Disks(system, image.project(system))


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Show what the machine wrote to its serial line when a test fails."""
    report = yield
    console = image.BUILD / "console"
    if report.failed and console.exists():
        report.sections.append(("console", console.read_text(encoding="utf-8", errors="replace")[-8000:]))
    return report
