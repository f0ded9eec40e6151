"""Images and a place for instances; everything here makes mounts and namespaces."""

from __future__ import annotations

from pathlib import Path

import pytest

from nsrun.images import Image, ImageStore
from tests import rootfs
from tests.ns.plan.box import Box


@pytest.fixture(scope="session")
def store(tmp_path_factory: pytest.TempPathFactory) -> ImageStore:
    """A store with the tests' own image, `box`."""
    directory = tmp_path_factory.mktemp("images")
    made = ImageStore(directory / "lib", durable=False)
    made.import_("box", rootfs.build(directory / "root"))
    return made


@pytest.fixture(scope="session")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Compiled filters."""
    return tmp_path_factory.mktemp("seccomp")


@pytest.fixture
def image(store: ImageStore) -> Image:
    """The image of static testbox."""
    found = store.look("box")
    assert found is not None
    return found


@pytest.fixture
def box(image: Image, tmp_path: Path, cache: Path) -> Box:
    """Runs containers of `box`."""
    return Box(tmp_path, image, cache)


@pytest.fixture
def host_box(store: ImageStore, tmp_path: Path, cache: Path) -> Box:
    """Runs containers of the built-in image."""
    found = store.look("nsrun.local/host")
    assert found is not None
    return Box(tmp_path, found, cache)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Everything here mounts an overlay and makes namespaces."""
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.requires("root", "overlay"))
