"""A server with the test image, and what its pods' volumes look like from the host."""

from __future__ import annotations

from tests.host.server.conftest import pytest_runtest_makereport, server

__all__ = ["pytest_runtest_makereport", "server"]
