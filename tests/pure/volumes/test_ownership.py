"""fsGroup of what was there before the pod (S-VOL)."""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path

import pytest

from nsrun.state.files import remove_tree
from nsrun.volumes import give_to_group

pytestmark = [pytest.mark.pure, pytest.mark.skipif(os.geteuid() != 0, reason="only root gives files away")]

GROUP = 4321


def look(path: Path) -> tuple[int, int]:
    """Mode and group."""
    found = path.lstat()
    return stat.S_IMODE(found.st_mode), found.st_gid


@pytest.fixture
def volume(tmp_path: Path) -> Path:
    volume = tmp_path / "volume"
    (volume / "d" / "e").mkdir(parents=True)
    for path, mode in ((volume, 0o755), (volume / "d", 0o700), (volume / "d" / "e", 0o755)):
        path.chmod(mode)
    for path, mode in ((volume / "f", 0o600), (volume / "d" / "x", 0o4755), (volume / "d" / "e" / "g", 0o444)):
        path.write_text("")
        path.chmod(mode)
    outside = tmp_path / "outside"
    outside.mkdir(mode=0o700)
    (outside / "secret").write_text("")
    (outside / "secret").chmod(0o600)
    (volume / "d" / "link").symlink_to(outside / "secret")
    (volume / "away").symlink_to(outside)
    (volume / "broken").symlink_to("/nowhere")
    os.mkfifo(volume / "pipe", 0o600)
    return volume


def test_S_VOL_fs_group_is_given_everything_but_what_links_lead_to(volume: Path) -> None:
    assert give_to_group(volume, GROUP) is None
    assert look(volume) == (0o2775, GROUP)
    assert look(volume / "d") == (0o2770, GROUP)
    assert look(volume / "d" / "e") == (0o2775, GROUP)
    assert look(volume / "f") == (0o660, GROUP)
    assert look(volume / "d" / "x") == (0o4775, GROUP)
    assert look(volume / "d" / "e" / "g") == (0o664, GROUP)
    assert look(volume / "pipe") == (0o660, GROUP)
    for path, mode in ((volume.parent / "outside", 0o700), (volume.parent / "outside" / "secret", 0o600)):
        assert look(path) == (mode, 0)
    assert (volume / "d" / "link").lstat().st_gid == 0


def test_S_VOL_fs_group_reads_what_is_read_only(volume: Path) -> None:
    assert give_to_group(volume, GROUP, read_only=True) is None
    assert look(volume / "f") == (0o640, GROUP)
    assert look(volume / "d") == (0o2750, GROUP)


@pytest.mark.parametrize(
    ("group", "mode", "left"),
    [(GROUP, 0o2770, True), (GROUP, 0o2775, True), (GROUP, 0o775, False), (GROUP, 0o2750, False), (0, 0o2770, False)],
)
def test_S_VOL_on_root_mismatch_looks_at_the_root_alone(volume: Path, group: int, mode: int, left: bool) -> None:
    os.chown(volume, -1, group)
    volume.chmod(mode)
    give_to_group(volume, GROUP, on_root_mismatch=True)
    assert look(volume / "f") == ((0o600, 0) if left else (0o660, GROUP))
    give_to_group(volume, GROUP)
    assert look(volume / "f") == (0o660, GROUP)


def test_S_VOL_the_root_is_given_last(volume: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever is killed before has not made the root look as if all were done."""
    given: list[int] = []
    real = os.chown

    def chown(path: str, user: int, group: int) -> None:
        given.append(os.stat(path).st_ino)
        real(path, user, group)

    monkeypatch.setattr(os, "chown", chown)
    give_to_group(volume, GROUP)
    assert given[-1] == volume.stat().st_ino
    assert len(given) == len(set(given)) == 7


def test_S_VOL_a_volume_may_be_a_file(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_text("")
    path.chmod(0o600)
    assert give_to_group(path, GROUP) is None
    assert look(path) == (0o660, GROUP)
    with pytest.raises(FileNotFoundError):
        give_to_group(tmp_path / "gone", GROUP)


def test_S_VOL_very_deep_directories(tmp_path: Path) -> None:
    volume = tmp_path / "volume"
    volume.mkdir()
    fd = os.open(volume, os.O_RDONLY)
    for _ in range(1500):
        os.mkdir("d", 0o700, dir_fd=fd)
        deeper = os.open("d", os.O_RDONLY, dir_fd=fd)
        os.close(fd)
        fd = deeper
    try:
        assert give_to_group(volume, GROUP) is None
        assert os.fstat(fd).st_gid == GROUP
    finally:
        os.close(fd)
        # What pytest uses stumbles over it.
        remove_tree(volume)


def test_S_VOL_one_that_cannot_be_given_is_told_and_the_others_are(
    volume: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(8):
        (volume / f"other{number}").write_text("")
    give = os.chown

    def chown(path: str, uid: int, gid: int) -> None:
        if os.readlink(path).endswith("other3"):
            raise PermissionError(errno.EPERM, os.strerror(errno.EPERM), path)
        give(path, uid, gid)

    monkeypatch.setattr(os, "chown", chown)
    failed = give_to_group(volume, GROUP)
    assert failed is not None
    assert failed.errno == errno.EPERM
    assert [(volume / f"other{number}").stat().st_gid for number in range(8)] == [GROUP] * 3 + [0] + [GROUP] * 4
