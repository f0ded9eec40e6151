"""A full disk below logs and below the state: nothing is lost, nothing is half-made, and it goes on once there is room."""

from __future__ import annotations

import contextlib
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from nsrun.errors import NsrunError
from tests.host.server.harness import Server, box, pod, until

pytestmark = pytest.mark.timeout(120)


@contextlib.contextmanager
def small_disk(server: Server, path: Path, size: str) -> Iterator[None]:
    """A file system of `size` at `path` while a new server runs on it."""
    server.stop()
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size},mode=0700", "small", str(path)], check=True)
    try:
        server.start()
        yield
        server.call("pod.down", all=True, grace_period_s=0)
        server.stop()
    finally:
        server.kill()
        subprocess.run(["umount", "-l", str(path)], check=True)


def enlarge(path: Path, size: str) -> None:
    subprocess.run(["mount", "-o", f"remount,size={size}", str(path)], check=True)


@contextlib.contextmanager
def filled(path: Path) -> Iterator[None]:
    """No block left on the file system of `path`."""
    ballast = path / "ballast"
    fd = os.open(ballast, os.O_WRONLY | os.O_CREAT)
    try:
        for block in (1 << 16, 1 << 12, 1):
            with contextlib.suppress(OSError):
                while True:
                    os.write(fd, b"x" * block)
        yield
    finally:
        os.close(fd)
        ballast.unlink(missing_ok=True)


def test_a_full_log_disk_holds_the_writer_and_loses_no_line(server: Server) -> None:
    count = 60_000
    with small_disk(server, server.root / "log", "1m"):
        server.up(pod("web", box("a", "lines", str(count), "80"), restartPolicy="Never"), wait="none")
        until(lambda: "LogBlocked" in server.reasons("web"))
        assert server.runtime("web")["instances"][0]["log_error"] == 28
        assert server.runtime("web")["instances"][0]["state"] == "running"
        # A server that comes later knows as well.
        server.kill()
        assert server.runtime("web")["instances"][0]["log_error"] == 28
        enlarge(server.root / "log", "64m")
        server.wait("web", "phase=Succeeded")
        lines = server.lines("web")
        assert [int(line.split()[0]) for line in lines] == list(
            range(int(lines[0].split()[0]), int(lines[0].split()[0]) + count)
        )


def test_up_on_a_full_state_disk_fails_and_leaves_nothing(server: Server) -> None:
    run = server.root / "run"
    with small_disk(server, run, "2m"):
        server.up(pod("before", box("a", "pause")))
        with filled(run):
            with pytest.raises(NsrunError, match="No space left on device") as caught:
                server.up(pod("one", box("a", "pause")), pod("two", box("a", "pause")))
            assert "Free some room" in str(caught.value.resolution)
            until(lambda: server.names() == ["before"])
            assert len(os.listdir(run / "pods")) == 1
            assert server.run("before", "/bin/true")[0] == 0
        server.up(pod("one", box("a", "pause")))


def test_down_works_on_a_full_state_disk(server: Server) -> None:
    run = server.root / "run"
    with small_disk(server, run, "2m"):
        server.up(pod("web", box("a", "trap", "0")))
        until(lambda: "ready" in server.lines("web"))
        with filled(run):
            server.call("pod.down", names=["web"], wait=False, grace_period_s=5)
            server.kill()
            until(lambda: server.names() == [], what="the next server knows of it, too")
            assert os.listdir(run / "pods") == []


def test_exits_and_restarts_survive_a_full_state_disk(server: Server) -> None:
    """What cannot be written now stays in the shim's records and is written later."""
    run = server.root / "run"
    with small_disk(server, run, "2m"):
        server.up(
            pod(
                "web", box("a", "then", "sleep", "0.5", ";", "exit", "9"), box("b", "pause"), restartPolicy="OnFailure"
            ),
            pod("end", box("a", "then", "sleep", "0.5", ";", "exit", "5"), restartPolicy="Never"),
        )
        with filled(run):
            until(lambda: "terminated" in server.container("end", "a")["state"])
            until(lambda: server.container("web", "a")["state"].get("running") is None)
            assert server.container("end", "a")["state"]["terminated"]["exitCode"] == 5
            server.kill()
            assert server.container("end", "a")["state"]["terminated"]["exitCode"] == 5
            assert server.runtime("web")["shim_pid"] is not None
        until(lambda: server.container("web", "a")["restartCount"] >= 1, 30)
        last = (
            server.container("web", "a")["lastState"].get("terminated")
            or server.container("web", "a")["state"]["terminated"]
        )
        assert last["exitCode"] == 9
        assert server.container("web", "b")["restartCount"] == 0
        until(lambda: server.get("end")["status"]["phase"] == "Failed")


def test_a_restart_that_could_not_be_written_down_does_not_happen(server: Server) -> None:
    run = server.root / "run"
    with small_disk(server, run, "2m"):
        server.up(
            pod("web", box("a", "pause"), box("b", "then", "await", "/dev/shm/go", ";", "exit", "3")), time_scale=100
        )
        with filled(run), pytest.raises(NsrunError, match="No space left on device") as caught:
            server.call("pod.restart", name="web", containers=["a"], grace_period_s=0)
        assert "Free some room" in str(caught.value.resolution)
        # It has something to write now.
        server.run("web", "/bin/write", "/dev/shm/go", "", container="a")
        until(lambda: server.container("web", "b")["restartCount"] >= 4)
        assert server.container("web", "a")["restartCount"] == 0
        server.call("pod.restart", name="web", containers=["a"], grace_period_s=0, wait=True)
        assert server.container("web", "a")["restartCount"] == 1
