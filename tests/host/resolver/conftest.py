"""Fixtures of a server with pods that ask, and somebody for the resolver to ask."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.host.resolver.upstream import Upstream
from tests.host.server.conftest import pytest_runtest_makereport, server

__all__ = ["pytest_runtest_makereport", "server"]


@pytest.fixture
def upstream() -> Iterator[Upstream]:
    """A name server on the test host's loopback."""
    with Upstream("127.0.0.7") as one:
        yield one
