"""A server with the test image, and a journal of what its containers tell."""

from __future__ import annotations

from collections.abc import Generator, Iterator

import pytest

from tests.host.lifecycle.assassin import ROUNDS, Assassin
from tests.host.lifecycle.journal import Journal
from tests.host.server.conftest import server
from tests.host.server.harness import Server

__all__ = ["server"]


@pytest.fixture
def journal() -> Iterator[Journal]:
    """What containers tell, from now on."""
    journal = Journal()
    try:
        yield journal
    finally:
        journal.close()


@pytest.fixture(params=ROUNDS)
def assassin(request: pytest.FixtureRequest, server: Server, journal: Journal) -> Assassin:
    """Kills servers at random moments; one test run per round."""
    return Assassin(server, journal, request.param)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Show what containers and server said when a test fails."""
    report = yield
    known = getattr(item, "funcargs", {})
    if report.failed:
        if "journal" in known:
            lines = [f"{line.at:.6f} {line.text}" for line in known["journal"].lines]
            report.sections.append(("journal", "\n".join(lines)))
        if "assassin" in known:
            report.sections.append(("kills", "\n".join(known["assassin"].moments)))
        if "server" in known:
            report.sections.append(("server", known["server"].said()[-8000:]))
    return report
