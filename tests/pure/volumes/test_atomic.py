"""Files that change all at once (S-ATOMIC)."""

from __future__ import annotations

import errno
import os
import stat
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nsrun.plan import VolumeFile
from nsrun.state.files import remove_tree
from nsrun.volumes import VolumeError, write_files

pytestmark = pytest.mark.pure

NOW = 1_700_000_000.0


def put(target: Path, group: int | None = None, **files: str) -> bool:
    contents = {name.replace("__", "/"): VolumeFile(text.encode(), 0o640) for name, text in files.items()}
    return write_files(target, contents, NOW, remove_tree, group)


def seen(target: Path) -> dict[str, str]:
    """What a user finds."""
    found = {}
    for parent, _, names in os.walk(target, followlinks=True):
        for name in names:
            path = Path(parent, name)
            relative = str(path.relative_to(target))
            if not relative.startswith(".."):
                found[relative] = path.read_text()
    return found


def test_S_ATOMIC_the_shape_of_a_volume(tmp_path: Path) -> None:
    assert put(tmp_path, a="1", b__c="2")
    data = os.readlink(tmp_path / "..data")
    assert data.startswith("..2023_11_14_22_13_20.")
    assert sorted(os.listdir(tmp_path)) == sorted(["..data", data, "a", "b"])
    assert os.readlink(tmp_path / "a") == "..data/a"
    assert os.readlink(tmp_path / "b") == "..data/b"
    assert stat.S_IMODE((tmp_path / "a").stat().st_mode) == 0o640
    assert stat.S_IMODE((tmp_path / data).stat().st_mode) == 0o755
    assert seen(tmp_path) == {"a": "1", "b/c": "2"}


def test_S_ATOMIC_what_is_the_same_is_left_alone(tmp_path: Path) -> None:
    put(tmp_path, a="1")
    before = os.readlink(tmp_path / "..data")
    assert not put(tmp_path, a="1")
    assert os.readlink(tmp_path / "..data") == before
    assert put(tmp_path, a="2")
    assert not (tmp_path / before).exists()


def test_S_ATOMIC_an_open_file_keeps_what_it_had(tmp_path: Path) -> None:
    put(tmp_path, a="old")
    with open(tmp_path / "a") as file:
        put(tmp_path, a="new")
        assert file.read() == "old"
    assert seen(tmp_path) == {"a": "new"}


@given(
    st.lists(st.dictionaries(st.sampled_from(["a", "b__c", "b__d", "e__f__g"]), st.text("xy", max_size=3)), max_size=5)
)
@settings(max_examples=40, deadline=None)
def test_S_ATOMIC_users_see_the_last_files_and_no_others(
    tmp_path_factory: pytest.TempPathFactory, steps: list[dict[str, str]]
) -> None:
    target = tmp_path_factory.mktemp("volume")
    for step in steps:
        put(target, None, **step)
        assert seen(target) == {name.replace("__", "/"): text for name, text in step.items()}
        assert len([name for name in os.listdir(target) if name.startswith("..20")]) == 1


def test_S_ATOMIC_a_reader_sees_all_old_or_all_new(tmp_path: Path) -> None:
    put(tmp_path, a="0", b="0")
    stop = threading.Event()

    def write() -> None:
        number = 0
        while not stop.is_set():
            number += 1
            put(tmp_path, a=str(number), b=str(number))

    thread = threading.Thread(target=write)
    thread.start()
    try:
        rounds = 0
        while rounds < 500:
            try:
                data = os.open(tmp_path / "..data", os.O_RDONLY | os.O_DIRECTORY)
            except FileNotFoundError:
                continue
            try:
                with (
                    open(os.open("a", os.O_RDONLY, dir_fd=data)) as a,
                    open(os.open("b", os.O_RDONLY, dir_fd=data)) as b,
                ):
                    assert a.read() == b.read()
                rounds += 1
            except FileNotFoundError:
                pass  # the directory was replaced and removed in between
            finally:
                os.close(data)
    finally:
        stop.set()
        thread.join()


def test_S_ATOMIC_what_a_killed_writer_left_goes(tmp_path: Path) -> None:
    put(tmp_path, a="1")
    (tmp_path / "..2020_01_01_00_00_00.1").mkdir()
    (tmp_path / "..2020_01_01_00_00_00.1" / "a").write_text("half")
    (tmp_path / "..data_tmp").symlink_to("..2020_01_01_00_00_00.1")
    (tmp_path / "stale").symlink_to("..data/stale")
    (tmp_path / "a").unlink()
    assert not put(tmp_path, a="1")
    assert seen(tmp_path) == {"a": "1"}
    assert sorted(name for name in os.listdir(tmp_path) if not name.startswith("..20")) == ["..data", "a"]
    assert put(tmp_path, a="2")


@pytest.mark.parametrize("path", ["", "/a", "../a", "a/../b", "..a", "a//b", "./a", "x" * 256])
def test_S_ATOMIC_paths_that_cannot_be(tmp_path: Path, path: str) -> None:
    with pytest.raises(VolumeError, match="invalid path"):
        write_files(tmp_path, {path: VolumeFile(b"", 0o644)}, NOW, remove_tree)
    assert os.listdir(tmp_path) == []


def test_S_ATOMIC_a_failure_leaves_the_old_files(tmp_path: Path) -> None:
    put(tmp_path, a="1")
    with pytest.raises(VolumeError, match="invalid path"):
        put(tmp_path, a="2", a__b="3")
    assert seen(tmp_path) == {"a": "1"}


@pytest.mark.skipif(os.geteuid() != 0, reason="only root gives files away")
def test_S_VOL_fs_group_may_read_all(tmp_path: Path) -> None:
    write_files(tmp_path, {"d/f": VolumeFile(b"", 0o400)}, NOW, remove_tree, 4321)
    directory, file = tmp_path / "d", tmp_path / "d" / "f"
    assert (stat.S_IMODE(file.stat().st_mode), file.stat().st_gid) == (0o440, 4321)
    assert (stat.S_IMODE(directory.stat().st_mode), directory.stat().st_gid) == (0o2755, 4321)


class Killed(BaseException):
    """As SIGKILL: from here on nothing is done any more, cleaning up included."""


class Assassin:
    """Lets a writer make so many steps; what is a step changes something that others see."""

    STEPS = ("mkdir", "open", "write", "fchmod", "fchown", "chmod", "chown", "close", "symlink", "rename", "unlink")

    def __init__(self, patch: pytest.MonkeyPatch, steps: int) -> None:
        self._left = steps
        self.dead = False
        for name in self.STEPS:
            patch.setattr(os, name, self._counted(getattr(os, name)))

    def _counted(self, call: Callable[..., Any]) -> Callable[..., Any]:
        def counted(*args: Any, **options: Any) -> Any:
            self.step()
            return call(*args, **options)

        return counted

    def step(self) -> None:
        if self.dead or self._left == 0:
            self.dead = True
            raise Killed
        self._left -= 1

    def remove_tree(self, path: Path) -> None:
        self.step()
        remove_tree(path)


def test_S_ATOMIC_a_writer_killed_at_any_step_leaves_all_old_or_all_new(tmp_path: Path) -> None:
    old = {"a": VolumeFile(b"old", 0o644), "b/c": VolumeFile(b"old", 0o644), "gone": VolumeFile(b"old", 0o600)}
    new = {"a": VolumeFile(b"new", 0o644), "b/c": VolumeFile(b"new", 0o644), "come": VolumeFile(b"new", 0o600)}
    seen_before, seen_after = 0, 0
    for steps in range(200):
        target = tmp_path / str(steps)
        target.mkdir()
        if steps % 2:
            write_files(target, old, NOW, remove_tree)
        killed = False
        with pytest.MonkeyPatch.context() as patch:
            assassin = Assassin(patch, steps // 2)
            try:
                write_files(target, new, NOW + 1, assassin.remove_tree)
            except Killed:
                killed = True
        # A name of what is gone may lead nowhere yet: who looks finds nothing, as is right.
        found = {name: (target / name).read_text() for name in ("a", "b/c", "come") if (target / name).exists()}
        if steps % 2:
            # Whoever looks by the names that were there all the time finds one of the two, whole.
            both = {name: found[name] for name in ("a", "b/c")}
            assert both in ({"a": "old", "b/c": "old"}, {"a": "new", "b/c": "new"}), steps
            seen_before += both["a"] == "old"
            seen_after += both["a"] == "new" and killed
        else:
            assert set(found.values()) <= {"new"}, steps
        # Whoever comes next makes it whole, and leaves nothing else.
        write_files(target, new, NOW + 2, remove_tree)
        assert seen(target) == {"a": "new", "b/c": "new", "come": "new"}, steps
        assert len([name for name in os.listdir(target) if name.startswith("..")]) == 2, steps
        if not killed and steps % 2:
            break
    else:
        raise AssertionError("it was killed each time")
    assert seen_before > 10
    assert seen_after > 1


def test_S_ATOMIC_a_full_file_system_leaves_the_old_files_whole(tmp_path: Path) -> None:
    put(tmp_path, a="old", b="old")
    before = sorted(os.listdir(tmp_path))

    def full(fd: int, data: Any) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "write", full)
        with pytest.raises(OSError, match="No space left"):
            put(tmp_path, a="new", b="new")
    assert seen(tmp_path) == {"a": "old", "b": "old"}
    assert sorted(os.listdir(tmp_path)) == before
    assert put(tmp_path, a="new", b="new")


def test_S_ATOMIC_a_file_and_a_directory_of_one_name(tmp_path: Path) -> None:
    with pytest.raises(VolumeError, match=r"invalid path: a is a file, and a/b is to lie in it"):
        put(tmp_path, a="1", a__b="2")
    assert os.listdir(tmp_path) == []
