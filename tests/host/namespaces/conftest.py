"""A server with the test image, and pods that share namespaces among their containers or with the machine."""

from __future__ import annotations

from tests.host.server.conftest import pytest_runtest_makereport, server

__all__ = ["pytest_runtest_makereport", "server"]
