"""Atomic files, the lock, the layout: on a directory of the test's own, no root needed."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from pathlib import Path

import pytest

from nsrun.errors import ConflictError, PermissionDeniedError, StepError
from nsrun.state.files import TEMPORARY, read_or_none, remove_tree, unlink_if_there, write_atomic
from nsrun.state.layout import Layout, check_private
from nsrun.state.lock import RootLock, holder_of


def test_a_file_is_replaced_whole_and_private(tmp_path: Path) -> None:
    path = tmp_path / "pod.json"
    write_atomic(path, b"old")
    before = path.stat().st_ino
    write_atomic(path, b"new", durable=True)
    assert path.read_bytes() == b"new"
    assert path.stat().st_ino != before
    assert path.stat().st_mode & 0o777 == 0o600
    assert os.listdir(tmp_path) == ["pod.json"]


def test_a_failed_write_leaves_the_old_file_and_no_leftover(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "pod.json"
    write_atomic(path, b"old")

    def full(_fd: int, _data: bytes) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "write", full)
    with pytest.raises(OSError, match="No space left") as caught:
        write_atomic(path, b"new")
    assert caught.value.filename == str(path), "whoever tells of it says which file"
    assert path.read_bytes() == b"old"
    assert os.listdir(tmp_path) == ["pod.json"]


def test_a_leftover_of_a_killed_writer_is_overwritten(tmp_path: Path) -> None:
    path = tmp_path / "pod.json"
    Path(f"{path}{TEMPORARY}").write_bytes(b"half of something long, longer than what follows")
    write_atomic(path, b"new")
    assert path.read_bytes() == b"new"


def test_a_short_write_is_carried_on_with(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write = os.write
    monkeypatch.setattr(os, "write", lambda fd, data: write(fd, data[:3]))
    write_atomic(tmp_path / "file", b"0123456789")
    assert (tmp_path / "file").read_bytes() == b"0123456789"


def test_reading_what_is_not_there_is_none(tmp_path: Path) -> None:
    assert read_or_none(tmp_path / "nothing") is None
    unlink_if_there(tmp_path / "nothing")


def test_a_tree_goes_with_all_its_odd_modes(tmp_path: Path) -> None:
    tree = tmp_path / "root"
    (tree / "work" / "work").mkdir(parents=True)
    (tree / "upper").mkdir()
    (tree / "upper" / "link").symlink_to("/etc/passwd")
    (tree / "upper" / "file").write_text("x")
    (tree / "work" / "work").chmod(0o700)
    remove_tree(tree)
    remove_tree(tree)
    assert not tree.exists()
    assert Path("/etc/passwd").exists()


def test_a_second_lock_is_refused_and_names_the_holder(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    first = RootLock(path)
    assert holder_of(path) == os.getpid()
    with pytest.raises(ConflictError, match=f"process {os.getpid()}"):
        RootLock(path)
    first.close()
    RootLock(path).close()


def test_the_lock_goes_with_its_process(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    code = (
        "import sys, pathlib; from nsrun.state.lock import RootLock; lock = RootLock(pathlib.Path(sys.argv[1]));"
        "print('locked', flush=True); sys.stdin.read()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code, str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as child:
        assert child.stdout is not None
        assert child.stdout.readline() == "locked\n"
        with pytest.raises(ConflictError, match=str(child.pid)):
            RootLock(path)
        child.kill()
        child.wait()
    RootLock(path).close()


def test_a_lock_whose_file_is_gone_or_another_one_does_not_stand(tmp_path: Path) -> None:
    lock = RootLock(tmp_path / "lock")
    assert lock.stands()
    (tmp_path / "lock").unlink()
    assert not lock.stands()
    (tmp_path / "lock").touch()
    assert not lock.stands()
    lock.close()


def test_the_lock_is_not_inherited(tmp_path: Path) -> None:
    lock = RootLock(tmp_path / "lock")
    # What it says shows that it was executed: until then it has copies of all descriptors.
    command = ["/bin/sh", "-c", "echo here; exec sleep 60"]
    with subprocess.Popen(command, close_fds=False, stdout=subprocess.PIPE) as child:
        try:
            assert child.stdout is not None
            assert child.stdout.readline() == b"here\n"
            lock.close()
            RootLock(tmp_path / "lock").close()
        finally:
            child.kill()


def test_the_layout_below_a_root(tmp_path: Path) -> None:
    layout = Layout.at(tmp_path / "root")
    layout.prepare()
    layout.prepare()
    for directory in (layout.run, layout.pods, layout.lib, layout.log, layout.pod_logs):
        assert directory.is_dir()
        assert directory.stat().st_mode & 0o777 == 0o700
    pod = layout.pod("1234")
    assert pod.directory == tmp_path / "root/run/pods/1234"
    assert pod.root("ab") == tmp_path / "root/lib/roots/1234/ab"
    assert layout.logs_of("default", "web", "1234").name == "default_web_1234"


def test_the_layout_of_the_machine() -> None:
    layout = Layout.at(None)
    assert (str(layout.socket), str(layout.lib)) == ("/run/nsrun/nsrun.sock", "/var/lib/nsrun")
    assert str(layout.pod_logs) == "/var/log/pods"


@pytest.mark.parametrize("mode", [0o755, 0o720, 0o701])
def test_a_state_directory_that_others_may_enter_is_refused(tmp_path: Path, mode: int) -> None:
    layout = Layout.at(tmp_path / "root")
    layout.prepare()
    layout.run.chmod(mode)
    with pytest.raises(PermissionDeniedError, match=f"mode {mode:04o}") as caught:
        layout.prepare()
    assert caught.value.resolution == f"chmod 0700 {layout.run}"


def test_a_file_in_the_place_of_a_directory_is_refused(tmp_path: Path) -> None:
    layout = Layout.at(tmp_path / "root")
    (tmp_path / "root").mkdir()
    (tmp_path / "root" / "run").write_text("x")
    with pytest.raises(PermissionDeniedError, match="is not a directory"):
        layout.prepare()


def test_a_symbolic_link_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir(mode=0o700)
    (tmp_path / "link").symlink_to(tmp_path / "real")
    with pytest.raises(PermissionDeniedError):
        check_private(tmp_path / "link")


def test_a_root_below_a_file_is_an_error_that_names_it(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(StepError, match="file"):
        Layout.at(tmp_path / "file" / "root").prepare()
