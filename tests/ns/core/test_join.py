"""Joining a cgroup through a descriptor; a file that takes the same word stands for it where there is no hierarchy of version 1."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from nsrun import native
from tests.ns.core.driver import op


def test_S_CGROUP_joining_writes_who_asks(tmp_path: Path) -> None:
    (tmp_path / "tasks").touch()
    fd = os.open(tmp_path / "tasks", os.O_WRONLY | os.O_CLOEXEC)
    try:
        child = native.run(native.encode([op("JOIN_CGROUP", 0), op("ENV"), op("EXEC", "/bin/true", "true")]), [fd])
        with child:
            assert os.waitpid(child.pid, 0)[1] == 0
    finally:
        os.close(fd)
    assert (tmp_path / "tasks").read_bytes() == b"0"


def test_S_CGROUP_who_cannot_join_does_not_start(tmp_path: Path) -> None:
    (tmp_path / "tasks").touch()
    fd = os.open(tmp_path / "tasks", os.O_RDONLY | os.O_CLOEXEC)
    try:
        with pytest.raises(native.ProgramError) as caught:
            native.run(native.encode([op("JOIN_CGROUP", 0), op("EXEC", "/bin/true", "true")]), [fd])
    finally:
        os.close(fd)
    assert (caught.value.code_name, caught.value.errno) == ("JOIN_CGROUP", errno.EBADF)


def test_a_slot_that_is_not_there_is_refused() -> None:
    with pytest.raises(native.ProgramError) as caught:
        native.run(native.encode([op("JOIN_CGROUP", -1)]), [])
    assert caught.value.code_name == "INVALID" or caught.value.errno == errno.EINVAL
