"""The pure ring cannot start a server or touch the machine; see conftest.py."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from nsrun.cli.main import run
from nsrun.client.roots import find
from nsrun.client.start import start
from tests.pure.conftest import ForbiddenError

ELSEWHERE = Path("/var/tmp/nsrun-pure-test")


@pytest.mark.parametrize(
    "work",
    [
        lambda: ELSEWHERE.write_text("x"),
        lambda: os.close(os.open(ELSEWHERE, os.O_RDWR | os.O_CREAT)),
        lambda: ELSEWHERE.mkdir(),
        lambda: ELSEWHERE.unlink(),
        lambda: ELSEWHERE.symlink_to("x"),
        lambda: ELSEWHERE.with_name("a").rename(ELSEWHERE),
        lambda: Path("relative-pure-test").write_text("x"),
        lambda: Path("relative-pure-test").mkdir(),
        lambda: subprocess.run(["setsid", "--fork", "true"], check=False),
        lambda: subprocess.run([sys.executable, "-m", "nsrun.server"], check=False),
    ],
)
def test_the_machine_is_left_alone(work: Callable[[], object], refused: list[str]) -> None:
    with pytest.raises(ForbiddenError):
        work()
    assert len(refused) == 1
    refused.clear()
    assert not ELSEWHERE.exists()
    assert not Path("relative-pure-test").exists()


def test_what_is_its_own_is_a_test_s_to_write(tmp_path: Path, refused: list[str]) -> None:
    (tmp_path / "a").write_text("x")
    (tmp_path / "a").rename(tmp_path / "b")
    (tmp_path / "d").mkdir()
    directory = os.open(tmp_path, os.O_PATH | os.O_DIRECTORY)
    os.mkdir("e", dir_fd=directory)
    os.close(directory)
    assert sorted(os.listdir(tmp_path)) == ["b", "d", "e"]
    assert refused == []


def test_a_command_finds_no_root_to_make(refused: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    """As root and as anybody else: it fails, and where a server would have been started there is nothing."""
    assert run(["pod", "ls"]) != 0
    assert capsys.readouterr().err.startswith("Error: ")
    assert refused == []


def test_a_server_that_could_be_started_is_not(tmp_path: Path, refused: list[str]) -> None:
    root = find(tmp_path)
    os.makedirs(root.run)
    with contextlib.suppress(ForbiddenError):
        start(root)
    assert len(refused) == 1
    assert "nsrun.server" in refused[0]
    refused.clear()
