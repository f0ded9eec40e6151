"""A server with the test image."""

from __future__ import annotations

from tests.host.server.conftest import pytest_runtest_makereport, server

__all__ = ["pytest_runtest_makereport", "server"]
