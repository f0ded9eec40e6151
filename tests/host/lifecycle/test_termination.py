"""Stopping real containers, and what they leave: signals, last words, their cgroup's last word."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any

import pytest

from nsrun.errors import NsrunError
from tests.host.lifecycle.journal import Journal
from tests.host.server.harness import Server, Workshop, box, pod, until

pytestmark = pytest.mark.timeout(120)


def once(*containers: dict[str, Any], **spec: Any) -> dict[str, Any]:
    """A pod that runs its containers once."""
    return pod("p", *containers, restartPolicy="Never", **spec)


def over(server: Server) -> bool:
    """Whether the pod has come to its end."""
    return server.get("p")["status"]["phase"] in ("Succeeded", "Failed")


def terminated(server: Server, name: str) -> dict[str, Any]:
    """How a container ended."""
    found: dict[str, Any] = server.container("p", name)["state"]["terminated"]
    return found


def message_of(server: Server, *command: str, **fields: Any) -> str | None:
    """What a container leaves that runs this once."""
    server.up(once(box("a", *command, **fields)), wait="none")
    until(lambda: over(server))
    message: str | None = terminated(server, "a").get("message")
    return message


def write(text: str, path: str = "/dev/termination-log", code: int = 0) -> tuple[str, ...]:
    """Writes to its termination log and ends."""
    return ("then", "write", path, text, ";", "exit", str(code))


# last words


@pytest.mark.parametrize("code", [0, 7])
def test_S_TERMMSG_of_a_success_and_of_a_failure(server: Server, code: int) -> None:
    assert message_of(server, *write("my last words", code=code)) == "my last words"
    assert terminated(server, "a")["exitCode"] == code
    assert terminated(server, "a")["reason"] == ("Error" if code else "Completed")


def test_S_TERMMSG_each_instance_has_a_file_of_its_own(server: Server) -> None:
    server.up(
        pod("p", box("a", "then", "append", "/dev/termination-log", "x", ";", "failing", "/dev/shm/n", "1"),
            restartPolicy="OnFailure"),
        wait="none",
    )  # fmt: skip
    until(lambda: over(server))
    one = server.container("p", "a")
    assert one["state"]["terminated"]["message"] == one["lastState"]["terminated"]["message"] == "x"


def test_S_TERMMSG_whoever_the_container_runs_as(server: Server) -> None:
    assert message_of(server, *write("from 1234"), securityContext={"runAsUser": 1234}) == "from 1234"


@pytest.mark.parametrize("path", ["/made/on/its/way", "/etc/hostname-not", "relative/path", "/dev/shm/here"])
def test_S_TERMMSG_in_any_place(server: Server, path: str) -> None:
    absolute = "/" + path.strip("/")
    assert message_of(server, *write("here", absolute), terminationMessagePath=path) == "here"


@pytest.mark.parametrize("path", ["/dev/termination-log", "/made/on/its/way"])
def test_S_TERMMSG_in_a_read_only_root(server: Server, path: str) -> None:
    context = {"readOnlyRootFilesystem": True}
    assert message_of(server, *write("here", path), terminationMessagePath=path, securityContext=context) == "here"


def test_S_TERMMSG_S_REASONS_over_a_directory_the_container_cannot_start(server: Server) -> None:
    server.up(once(box("a", "true", terminationMessagePath="/bin")), wait="none")
    until(lambda: over(server))
    end = terminated(server, "a")
    assert (end["exitCode"], end["reason"]) == (128, "StartError")
    assert "/bin" in end["message"]


def test_S_TERMMSG_the_file_cannot_be_taken_away(server: Server) -> None:
    """It is a mount point: removing or replacing it fails, and what was written stays."""
    words = ("then", "write", "/dev/termination-log", "written", ";", "rm", "/dev/termination-log", ";", "exit", "1")
    assert message_of(server, *words) == "written"


def test_S_TERMMSG_more_than_is_read(server: Server) -> None:
    """A gigabyte, nearly all of it a hole, of which the last 4096 bytes count."""
    server.up(once(box("a", "pause")))
    instance = server.runtime("p")["instances"][0]["id"]
    (path,) = Path(server.root).rglob(f"{instance}/termination-log")
    with path.open("r+b") as file:
        file.truncate(1 << 30)
        file.seek(0, os.SEEK_END)
        file.write(b"the end")
    server.call("pod.kill", name="p", signal="KILL")
    begun = time.monotonic()
    until(lambda: over(server))
    assert time.monotonic() - begun < 5
    assert terminated(server, "a")["message"][-7:] == "the end"


@pytest.mark.parametrize("kind", ["symlink", "fifo", "directory", "device", "nothing"])
def test_S_TERMMSG_a_file_that_somebody_replaced_holds_nobody_up(server: Server, kind: str) -> None:
    server.up(once(box("a", "pause", terminationMessagePolicy="FallbackToLogsOnError")))
    instance = server.runtime("p")["instances"][0]["id"]
    (path,) = Path(server.root).rglob(f"{instance}/termination-log")
    path.unlink()
    if kind == "symlink":
        path.symlink_to("/etc/shadow")
    elif kind == "fifo":
        os.mkfifo(path)
    elif kind == "directory":
        path.mkdir()
    elif kind == "device":
        os.mknod(path, 0o600 | 0o020000, os.makedev(1, 5))
    server.call("pod.kill", name="p", signal="KILL")
    until(lambda: over(server))
    message = terminated(server, "a").get("message")
    if kind == "nothing":  # as one that is empty, and the log has nothing
        assert message is None
    else:
        assert message is not None
        assert message.startswith("Error on reading termination log ")


def test_S_TERMMSG_the_log_of_a_failure_when_nothing_was_written(server: Server) -> None:
    fallback = {"terminationMessagePolicy": "FallbackToLogsOnError"}
    server.up(
        once(
            box("fails", "then", "both", "100", ";", "exit", "3", **fallback),
            box("succeeds", "both", "1", **fallback),
            box("writes", *write("written", code=1), **fallback),
            box("file-only", "then", "echo", "said", ";", "exit", "1"),
            box("missing", "no-such-command", **fallback),
        ),
        wait="none",
    )
    until(lambda: over(server))
    said = terminated(server, "fails")["message"].splitlines()
    assert len(said) == 80, "both streams, as they came to the log"
    assert set(said) < {f"{one} {number}" for one in ("out", "err") for number in range(101)}
    assert "message" not in terminated(server, "succeeds")
    assert terminated(server, "writes")["message"] == "written"
    assert "message" not in terminated(server, "file-only")
    assert terminated(server, "missing")["exitCode"] == 128


def test_S_TERMMSG_is_not_lost_with_the_server(server: Server) -> None:
    """It is read by the next one when nobody was there at the end."""
    server.up(once(box("a", "then", "sleep", "0.5", ";", *write("written alone", code=4)[1:])))
    assert server.kill()
    time.sleep(1.0)
    until(lambda: over(server))
    assert terminated(server, "a")["message"] == "written alone"
    server.kill()
    assert terminated(server, "a")["message"] == "written alone"


# signals


def life_of(server: Server, name: str = "a") -> list[str]:
    """What a container said."""
    return server.lines("p", name)


@pytest.mark.parametrize(
    ("name", "number"), [("SIGUSR1", 10), ("SIGRTMIN+3", 37), ("SIGRTMAX-14", 50), ("SIGWINCH", 28)]
)
def test_S_TERM_stop_signal_of_the_container(server: Server, name: str, number: int) -> None:
    container = box("a", "trap", lifecycle={"stopSignal": name})
    server.up(pod("p", container, os={"name": "linux"}, terminationGracePeriodSeconds=2))
    until(lambda: life_of(server) == ["ready"])
    assert server.container("p", "a")["stopSignal"] == name
    server.call("pod.restart", name="p", grace_period_s=2, wait=True, timeout_s=30)
    assert server.lines("p", "a", previous=True) == ["ready", f"signal {number}"], "once, and no other"


def test_S_TERM_stop_signal_SIGKILL_ends_it_at_once(server: Server) -> None:
    server.up(pod("p", box("a", "trap", lifecycle={"stopSignal": "SIGKILL"}), os={"name": "linux"}))
    begun = time.monotonic()
    server.down("p", grace_period_s=30)
    assert time.monotonic() - begun < 5


def test_S_TERM_a_container_that_ignores_every_signal_is_killed_after_its_grace_period(
    server: Server, journal: Journal
) -> None:
    server.up(pod("p", journal.life("a", linger=-1), terminationGracePeriodSeconds=3))
    journal.until("a start")
    begun = time.monotonic()
    server.down("p", grace_period_s=None)
    assert 2.9 < time.monotonic() - begun < 6
    assert journal.texts == ["a start", "a term"]


def test_S_TERM_a_negative_grace_period_is_a_second(server: Server, journal: Journal) -> None:
    server.up(pod("p", journal.life("a", linger=-1), terminationGracePeriodSeconds=-5))
    journal.until("a start")
    server.call("pod.down", names=["p"], wait=False)
    assert server.get("p")["metadata"]["deletionGracePeriodSeconds"] == 1
    until(lambda: server.names() == [], what="it is killed when the least that there is of a grace period is over")
    assert journal.texts == ["a start", "a term"]


@pytest.mark.parametrize("asked", [None, 1e300])
def test_S_TERM_a_grace_period_without_end(server: Server, journal: Journal, asked: float | None) -> None:
    server.up(pod("p", journal.life("a"), terminationGracePeriodSeconds=2**63 - 1))
    journal.until("a start")
    server.call("pod.down", names=["p"], wait=False, grace_period_s=asked)
    metadata = server.get("p")["metadata"]
    assert metadata["deletionTimestamp"] == "9999-12-31T23:59:59Z"
    assert metadata["deletionGracePeriodSeconds"] == 2**63 - 1
    server.kill()
    until(lambda: server.names() == [], what="its stop signal ends it")


def test_S_TERM_grace_0_is_SIGKILL_at_once(server: Server, journal: Journal) -> None:
    server.up(pod("p", journal.life("a")))
    journal.until("a start")
    begun = time.monotonic()
    server.down("p", grace_period_s=0)
    assert time.monotonic() - begun < 2
    assert journal.texts == ["a start"], "no SIGTERM came"


def test_S_TERM_one_that_forks_without_end_leaves_nothing(server: Server) -> None:
    server.up(pod("p", box("a", "forkmany", "500", "1000"), terminationGracePeriodSeconds=1))
    until(lambda: life_of(server) == ["ready"])
    server.down("p", grace_period_s=1)
    assert server.names() == []


def test_S_TERM_grandchildren_that_ignore_signals_go_too(server: Server) -> None:
    server.up(pod("p", box("a", "orphans", "20", "1000", "1000"), terminationGracePeriodSeconds=1))
    until(lambda: life_of(server) == ["ready"])
    server.down("p", grace_period_s=1)
    assert server.names() == []


def test_S_TERM_the_grace_period_goes_on_over_the_death_of_the_server(server: Server, journal: Journal) -> None:
    """Neither is the signal sent twice nor does the time begin anew."""
    server.up(pod("p", journal.life("a", linger=-1), box("b", "trap", "0", "100")))
    journal.until("a start")
    until(lambda: life_of(server, "b") == ["ready"])
    begun = time.monotonic()
    server.down("p", grace_period_s=8, wait=False)
    journal.until("a term")
    log = next(Path(server.root).rglob("b/0.log"))
    for _ in range(5):
        assert server.kill()
        said = log.read_text()
        assert said.count("signal 15") <= 1
        server.call("server.ping")
        time.sleep(0.2)
    assert journal.count("a term") == 1
    assert said.count("signal 15") == 1
    server.wait("p", "delete")
    assert 7.9 < time.monotonic() - begun < 14
    assert journal.texts == ["a start", "a term"]


def test_S_TERM_somebody_elses_signal_is_not_the_stop_signal(server: Server) -> None:
    """After `pod kill -s HUP` and the death of the server, SIGTERM comes once."""
    server.up(pod("p", box("a", "trap", "0", "1.5"), terminationGracePeriodSeconds=30))
    until(lambda: life_of(server) == ["ready"])
    server.call("pod.kill", name="p", signal="HUP")
    log = next(Path(server.root).rglob("a/0.log"))
    until(lambda: "signal 1\n" in log.read_text())
    server.down("p", grace_period_s=30, wait=False)
    until(lambda: "signal 15\n" in log.read_text())
    server.call("pod.kill", name="p", signal="HUP")
    assert server.kill()
    server.call("server.ping")
    time.sleep(0.5)
    said = log.read_text() if log.exists() else ""
    assert said.count("signal 15\n") == 1
    server.wait("p", "delete")


def test_S_TERM_one_event_says_that_it_is_stopped(server: Server, journal: Journal) -> None:
    """Also when SIGKILL follows, and when the server dies in between."""
    server.up(pod("p", journal.life("a", linger=-1), terminationGracePeriodSeconds=2))
    journal.until("a start")
    server.call("pod.restart", name="p", wait=False)
    journal.until("a term")
    assert server.kill()
    server.call("server.ping")
    journal.until("a start", 2)
    events = [one for one in server.call("pod.events", name="p").result["events"] if one["reason"] == "Killing"]
    assert [(one["type"], one["message"], one.get("count") or 1) for one in events] == [
        ("Normal", "Stopping container a", 1)
    ]


# memory


@pytest.mark.requires("memory1")
@pytest.mark.parametrize("killed", [False, True], ids=["", "server-killed"])
def test_S_OOM_a_container_that_used_up_its_memory_says_so(server: Server, killed: bool) -> None:
    words = ("then", "sleep", "1" if killed else "0", ";", "alloc", "200")
    limits = {"limits": {"memory": "32Mi"}}
    server.up(
        once(
            box("a", *words, resources=limits, terminationMessagePolicy="FallbackToLogsOnError"),
            box("b", "then", *words[1:]),
        ),
        wait="none",
    )
    if killed:
        until(lambda: len(server.runtime("p")["instances"]) == 2)
        pid = next(one["pid"] for one in server.runtime("p")["instances"] if one["name"] == "a")
        assert server.kill()
        until(lambda: not Path(f"/proc/{pid}/root/bin").exists())
    until(lambda: over(server))
    assert terminated(server, "b")["reason"] == "Completed"
    end = terminated(server, "a")
    assert (end["exitCode"], end["reason"]) == (137, "OOMKilled")


def test_S_OOM_a_kill_is_not_taken_for_it(server: Server) -> None:
    server.up(once(box("a", "pause")))
    server.call("pod.kill", name="p", signal="KILL")
    until(lambda: over(server))
    assert (terminated(server, "a")["exitCode"], terminated(server, "a")["reason"]) == (137, "Error")


# standard streams


def test_S_LOG_without_stdin_there_is_nothing_to_read(server: Server) -> None:
    server.up(once(box("a", "then", "cat", ";", "echo", "end of file")), wait="none")
    until(lambda: over(server))
    assert server.lines("p", "a") == ["end of file"]


def test_S_LOG_stdin_stays_open_for_the_next_who_attaches(server: Server) -> None:
    server.up(pod("p", box("a", "cat", stdin=True)))
    for text in (b"one\n", b"two\n"):
        reply = server.call("pod.attach", name="p", container="a", stdin=True)
        with os.fdopen(reply.fds[0], "wb", 0) as stdin:
            stdin.write(text)
    until(lambda: server.lines("p", "a") == ["one", "two"])
    assert server.container("p", "a")["restartCount"] == 0


def test_S_LOG_stdinOnce_ends_with_the_first_who_attaches(server: Server) -> None:
    server.up(once(box("a", "then", "cat", ";", "echo", "end of file", stdin=True, stdinOnce=True)))
    reply = server.call("pod.attach", name="p", container="a", stdin=True)
    with os.fdopen(reply.fds[0], "wb", 0) as stdin:
        stdin.write(b"once\n")
        with pytest.raises(NsrunError):
            server.call("pod.attach", name="p", container="a", stdin=True)
    until(lambda: over(server))
    assert server.lines("p", "a") == ["once", "end of file"]


def test_S_LOG_one_that_closes_its_outputs_lives_on(server: Server) -> None:
    server.up(once(box("a", "mute", "1")))
    time.sleep(0.5)
    assert "running" in server.container("p", "a")["state"]
    until(lambda: over(server))
    assert terminated(server, "a")["exitCode"] == 0


def test_S_LOG_a_line_without_end_is_split_and_costs_no_memory(server: Server) -> None:
    """100 MB without a newline: pieces of 16 KiB, and neither shim nor server grows."""
    server.up(pod("p", box("a", "then", "flood", "100000000", ";", "sleep", "1000"), box("b", "pause")))
    shim = server.runtime("p")["shim_pid"]
    assert server.process is not None
    before = _private_kb(server.process.pid)
    log = next(Path(server.root).rglob("a/0.log"))
    until(lambda: log.stat().st_size > 100_000_000, 60)
    assert _private_kb(shim) < 2048
    assert _private_kb(server.process.pid) - before < 8192
    with log.open("rb") as file:
        lines = [next(file) for _ in range(100)]
    assert {len(line.split(b" ", 3)[3]) for line in lines} == {16384 + 1}
    assert {line.split(b" ", 3)[2] for line in lines} == {b"P"}


def test_S_LOG_bytes_that_are_no_text_are_kept(workshop: Workshop, server: Server) -> None:
    server.up(once(box("a", "cat", "/bin/cat")), wait="none")
    until(lambda: over(server))
    data = b"".join(
        content + (b"" if tag == b"P" else b"\n")
        for _time, _stream, tag, content in (line.split(b" ", 3) for line in server.log("p", "a").split(b"\n")[:-1])
    )
    assert data == (workshop.rootfs / "bin/cat").read_bytes()


def _private_kb(pid: int) -> int:
    lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    return sum(int(line.split()[1]) for line in lines if line.startswith("Private_"))
