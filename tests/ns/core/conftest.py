"""A root for each test, over one that all share."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests import rootfs
from tests.ns.core.driver import Box


@pytest.fixture(scope="session")
def lower(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tests' root file system; nobody writes to it."""
    return rootfs.build(tmp_path_factory.mktemp("rootfs"))


@pytest.fixture
def box(lower: Path, tmp_path: Path) -> Box:
    return Box(lower, tmp_path)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Everything here mounts an overlay and makes devices."""
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.requires("root", "overlay"))
