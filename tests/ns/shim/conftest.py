"""Fixtures of the shim's tests."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.ns.shim import harness


@pytest.fixture
def pod_dir() -> Iterator[Path]:
    """A pod's directory."""
    with harness.pod_directory() as path:
        yield path
