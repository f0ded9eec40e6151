"""A server with the test image, on a root of the test's own; afterwards nothing of it may be left."""

from __future__ import annotations

from collections.abc import Generator, Iterator

import pytest

from tests.host.server.harness import Server, Workshop
from tests.host.testhost import Host


@pytest.fixture
def server(workshop: Workshop, leak_check: None, host: Host) -> Iterator[Server]:
    """A running server that knows the test image."""
    workshop.furnish(host.root)
    server = Server(host, workshop.wiper)
    try:
        server.start()
        yield server
    finally:
        server.wipe()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Show what the server said when a test fails."""
    report = yield
    server = getattr(item, "funcargs", {}).get("server")
    if report.failed and isinstance(server, Server):
        report.sections.append(("server", server.said()[-8000:]))
    return report
