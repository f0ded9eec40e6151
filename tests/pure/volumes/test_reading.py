"""Reading what a container wrote: never out of the volume, never without end."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from nsrun.volumes import read_file

pytestmark = pytest.mark.pure


@pytest.fixture
def volume(tmp_path: Path) -> Path:
    volume = tmp_path / "volume"
    (volume / "d").mkdir(parents=True)
    (volume / "inside").write_text("inside")
    (volume / "d" / "file").write_text("deep")
    (tmp_path / "outside").write_text("outside")
    return volume


@pytest.mark.parametrize(
    ("path", "link", "found"),
    [
        ("inside", None, b"inside"),
        ("d/./file", None, b"deep"),
        ("d/../inside", None, b"inside"),
        ("link", "inside", b"inside"),
        ("link", "/inside", b"inside"),
        ("link", "../../../inside", b"inside"),
        ("link/file", "/d", b"deep"),
    ],
)
def test_S_ENV_links_begin_and_end_in_the_volume(volume: Path, path: str, link: str | None, found: bytes) -> None:
    if link is not None:
        (volume / "link").symlink_to(link)
    assert read_file(volume, path, 100) == found


@pytest.mark.parametrize("link", ["../outside", "/etc/passwd", "/proc/self/environ", "link", "gone"])
def test_S_ENV_what_is_outside_is_not_there(volume: Path, link: str) -> None:
    (volume / "link").symlink_to(link)
    with pytest.raises(OSError, match=r"No such file|Too many levels"):
        read_file(volume, "link", 100)


def test_S_ENV_a_pipe_or_a_directory_holds_nobody_up(volume: Path) -> None:
    os.mkfifo(volume / "pipe")
    for name in ("pipe", "d"):
        with pytest.raises(OSError, match="not a regular file") as caught:
            read_file(volume, name, 100)
        assert caught.value.errno == errno.EINVAL


def test_S_ENV_a_file_has_a_size(volume: Path) -> None:
    (volume / "big").write_bytes(b"x" * 101)
    with pytest.raises(OSError, match="File too large"):
        read_file(volume, "big", 100)
    assert read_file(volume, "big", 101) == b"x" * 101
