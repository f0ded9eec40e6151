"""A store on a directory of the test's own."""

from __future__ import annotations

from pathlib import Path

import pytest

from nsrun.images import ImageStore


@pytest.fixture
def store(tmp_path: Path) -> ImageStore:
    """An empty store, as of a fresh machine."""
    return ImageStore(tmp_path / "lib", durable=False)
