"""Logs: what was written comes back, in order, once, also while it is written and while servers die."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import time

import pytest

from nsrun.client.library import Client
from tests.host.cli.conftest import SLEEPER, bring_up, container, manifest
from tests.host.cli.test_exec import terminal
from tests.host.testhost import Host


def logs(box: Host, *words: str) -> str:
    return box.nsrun("pod", "logs", *words).stdout


def test_one_container(box: Host, web: str) -> None:
    assert sorted(logs(box, "web", "-c", "app").splitlines()) == ["app speaks", "to stderr"]
    assert logs(box, "web", "other") == "other 1\nother 2\nother 3\n"
    assert logs(box, "web", "-c", "first") == "prepared\n"


def test_the_default_container_is_named(box: Host, web: str) -> None:
    done = box.nsrun("pod", "logs", "web")
    assert "app speaks" in done.stdout
    assert done.stderr == "Defaulted container 'app' out of: first (init), app, other\n"


@pytest.mark.parametrize(
    ("tail", "expected"), [("1", ["other 3"]), ("2", ["other 2", "other 3"]), ("0", []), ("9", 3), ("all", 3)]
)
def test_tail(box: Host, web: str, tail: str, expected: list[str] | int) -> None:
    lines = logs(box, "web", "-c", "other", f"--tail={tail}").splitlines()
    assert len(lines) == expected if isinstance(expected, int) else lines == expected


def test_all_containers_by_time_with_prefix_and_timestamps(box: Host, web: str) -> None:
    text = logs(box, "web", "--all-containers", "--prefix", "--timestamps")
    lines = [re.fullmatch(r"\[pod/web/(\w+)\] (\S+Z) (.*)", line) for line in text.splitlines()]
    assert all(lines)
    found = [line.groups() for line in lines if line]
    assert {name for name, _, _ in found} == {"first", "app", "other"}
    assert [at for _, at, _ in found] == sorted(at for _, at, _ in found)
    assert found[0][0] == "first"


def test_since(box: Host, web: str) -> None:
    assert logs(box, "web", "-c", "other", "--since=1h").count("\n") == 3
    lines = logs(box, "web", "-c", "other", "--timestamps").splitlines()
    second = lines[1].split()[0]
    assert logs(box, "web", "-c", "other", f"--since-time={second[:26]}Z").splitlines() == ["other 2", "other 3"]


def test_long_lines_and_no_last_line_break(box: Host) -> None:
    script = "head -c 100000 /dev/zero | tr '\\0' x; echo; printf 'no line break'"
    bring_up(box, manifest("long", container("app", script), restartPolicy="Never"), "--wait=none")
    box.nsrun("pod", "wait", "long", "--for=phase=Succeeded")
    assert logs(box, "long") == "x" * 100000 + "\nno line break"
    assert logs(box, "long", "--tail=2") == "x" * 100000 + "\nno line break"
    assert logs(box, "long", "--tail=1") == "no line break"
    box.nsrun("pod", "down", "long")


def test_bytes_that_are_no_text(box: Host) -> None:
    bring_up(box, manifest("raw", container("app", r"printf '\377\000\001\n'"), restartPolicy="Never"), "--wait=none")
    box.nsrun("pod", "wait", "raw", "--for=phase=Succeeded")
    done = subprocess.run(box.nsrun_argv("pod", "logs", "raw"), env=box.environment, capture_output=True, check=True)
    assert done.stdout == b"\xff\x00\x01\n"
    box.nsrun("pod", "down", "raw")


def test_previous(box: Host) -> None:
    script = "if [ -e /dev/shm/was ]; then echo second; exec sleep 1000; fi; touch /dev/shm/was; echo first; exit 1"
    bring_up(box, manifest("again", container("app", script)), "--wait=none")

    def restarts() -> int:
        status = json.loads(box.nsrun("pod", "inspect", "again").stdout)["status"]
        return int((status.get("containerStatuses") or [{}])[0].get("restartCount", 0))

    deadline = time.monotonic() + 15
    while restarts() < 1:
        assert time.monotonic() < deadline
        time.sleep(0.05)
    assert logs(box, "again", "-p") == "first\n"
    while logs(box, "again") != "second\n":
        assert time.monotonic() < deadline
        time.sleep(0.05)
    box.nsrun("pod", "down", "again", "--force")


def test_previous_of_what_never_restarted(box: Host, web: str) -> None:
    done = box.nsrun("pod", "logs", "web", "-c", "app", "-p", check=False)
    assert done.returncode == 4, done.stderr
    assert "app" in done.stderr


def test_follow_ends_with_the_pod(box: Host) -> None:
    script = "for i in 1 2 3 4 5; do echo line $i; sleep 0.1; done"
    bring_up(box, manifest("counting", container("app", script), restartPolicy="Never"), "--wait=none")
    done = box.nsrun("pod", "logs", "-f", "counting", timeout=20)
    assert done.stdout.splitlines() == [f"line {number}" for number in range(1, 6)]
    box.nsrun("pod", "down", "counting")


def test_follow_goes_on_over_restarts(box: Host) -> None:
    bring_up(box, manifest("coming", container("app", "echo again; sleep 0.3; exit 1")), "--wait=none")
    process = subprocess.Popen(
        box.nsrun_argv("pod", "logs", "-f", "coming"), env=box.environment, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    assert [process.stdout.readline() for _ in range(2)] == ["again\n", "again\n"]
    box.nsrun("pod", "down", "coming", "--force")
    assert process.wait(10) == 0
    process.stdout.close()


def test_follow_of_a_selector_goes_on_over_restarts_in_colours(box: Host) -> None:
    for name in ("two-a", "two-b"):
        wish = manifest(name, container("app", f"echo {name}; sleep 0.3; exit 1"), container("more", SLEEPER))
        wish["metadata"]["labels"] = {"two": ""}
        bring_up(box, wish, "--wait=none")
    with terminal(box, "logs", "-f", "-l", "two", "--all-containers", "--prefix") as followed:
        heads: dict[bytes, set[bytes]] = {b"two-a": set(), b"two-b": set()}
        lines = dict.fromkeys(heads, 0)
        while min(lines.values()) < 2:
            found = followed.expect(rb"\x1b\[(\d+)m\[pod/(two-.)/app\]\x1b\[0m (two-.)\r\n", timeout=60)
            assert found[2] == found[3]
            heads[found[2]].add(found[1])
            lines[found[2]] += 1
        # A colour for each, the same before and after the restart.
        assert [len(colours) for colours in heads.values()] == [1, 1]
        assert heads[b"two-a"] != heads[b"two-b"]
        box.nsrun("pod", "down", "-l", "two", "--force")
        assert followed.end() == 0


def test_follow_of_several_containers(box: Host, web: str) -> None:
    process = subprocess.Popen(
        box.nsrun_argv("pod", "logs", "-f", "--all-containers", "--prefix", "--tail=1", "web"),
        env=box.environment, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert process.stdout is not None
    first = {process.stdout.readline() for _ in range(3)}
    assert "[pod/web/other] other 3\n" in first
    box.nsrun("pod", "exec", "web", "--", "sh", "-c", "echo through the log > /proc/1/fd/1")
    assert process.stdout.readline() == "[pod/web/app] through the log\n"
    process.send_signal(signal.SIGINT)
    assert process.wait(10) == 130
    process.stdout.close()


def test_no_line_is_lost_or_doubled_while_servers_die(box: Host) -> None:
    count = 400_000
    script = f"i=0; while [ $i -lt {count} ]; do echo $i; i=$((i+1)); done"
    bring_up(box, manifest("full-speed", container("app", script), restartPolicy="Never"), "--wait=none")
    process = subprocess.Popen(
        box.nsrun_argv("pod", "logs", "-f", "full-speed"), env=box.environment, stdout=subprocess.PIPE, text=True
    )
    killed = 0
    assert process.stdout is not None
    output: list[str] = []
    import threading

    reader = threading.Thread(target=lambda: output.extend(process.stdout or ()))
    reader.start()
    deadline = time.monotonic() + 60
    while reader.is_alive() and killed < 15:
        assert time.monotonic() < deadline
        status = box.nsrun("server", "status", "-o", "json", check=False)
        if status.returncode == 0:
            os.kill(json.loads(status.stdout)["pid"], signal.SIGKILL)
            killed += 1
        time.sleep(0.05)
    reader.join(60)
    assert not reader.is_alive()
    process.stdout.close()
    assert process.wait(10) == 0
    assert killed >= 2
    assert output == [f"{number}\n" for number in range(count)]
    box.nsrun("pod", "down", "full-speed")


def test_follow_before_the_container_starts(box: Host) -> None:
    wish = manifest(
        "later", container("app", "echo at last"), initContainers=[container("i", "sleep 1")], restartPolicy="Never"
    )
    bring_up(box, wish, "--wait=none")
    assert box.nsrun("pod", "logs", "-f", "later", "-c", "app", timeout=20).stdout == "at last\n"
    box.nsrun("pod", "down", "later")


def test_wrong_names(box: Host, web: str) -> None:
    for words in (["nope"], ["web", "-c", "nope"], ["-f", "nope"], ["-f", "web", "-c", "nope"]):
        done = box.nsrun("pod", "logs", *words, check=False)
        assert done.returncode == 4, (words, done.stderr)
        assert "nope" in done.stderr


def test_a_sleeper_says_nothing(box: Host) -> None:
    bring_up(box, manifest("silent", container("app", SLEEPER)))
    assert logs(box, "silent") == ""
    box.nsrun("pod", "down", "silent")


def test_selectors_mean_the_same_pods_everywhere(box: Host) -> None:
    for name, labels in (("red-1", {"app": "red", "tier": "a"}), ("red-2", {"app": "red"}), ("blue", {"app": "blue"})):
        wish = manifest(name, container("app", f"echo {name}; {SLEEPER}"), restartPolicy="Never")
        wish["metadata"]["labels"] = labels
        bring_up(box, wish)
    try:
        names = ("pod", "ls", "-q", "-l")
        assert box.nsrun(*names, "app=red").stdout.split() == ["red-1", "red-2"]
        assert box.nsrun(*names, "app in (red,blue),!tier").stdout.split() == ["blue", "red-2"]
        assert box.nsrun(*names, "app", "--field-selector", "metadata.name!=blue").stdout.split() == ["red-1", "red-2"]
        assert "app=red,tier=a" in box.nsrun("pod", "ls", "-l", "tier", "--show-labels").stdout
        none = box.nsrun("pod", "ls", "-l", "app=green")
        assert (none.stdout, none.stderr) == ("", "No pods that match.\n")

        met = box.nsrun("pod", "wait", "-l", "app=red", "--for=condition=Ready").stdout.split("\n")
        assert sorted(met) == ["", "pod/red-1 condition met", "pod/red-2 condition met"]
        for words in (("-l", "app=red"), ("pod/red-1", "pod/red-2")):
            assert sorted(logs(box, *words).splitlines()) == ["red-1", "red-2"]
            lines = logs(box, *words, "--prefix").splitlines()
            assert sorted(lines) == ["[pod/red-1/app] red-1", "[pod/red-2/app] red-2"]
        # The bound holds for each log by itself.
        assert sorted(logs(box, "-l", "app=red", "--limit-bytes=4")) == sorted("red-red-")

        wrong = box.nsrun("pod", "ls", "-l", "app in red", check=False)
        assert wrong.returncode == 2
        assert "found 'red' expected: '('" in wrong.stderr

        # A pod that the selector means no more is gone for those who watch with it, though it is there still.
        changes = Client(box.root).watch(fields="metadata.name=blue,status.phase=Running")
        first = next(changes)
        assert (first.type, first.object["metadata"]["name"]) == ("ADDED", "blue")
        box.nsrun("pod", "kill", "blue", "-s", "TERM")
        last = next(change for change in changes if change.type != "MODIFIED")
        assert (last.type, last.object["status"]["phase"]) == ("DELETED", "Succeeded")

        # Each is told of when it is down, and they go down together.
        gone = box.nsrun("pod", "down", "-l", "app=red").stdout.splitlines()
        assert sorted(gone) == ["pod/red-1 down", "pod/red-2 down"]
        assert box.nsrun("pod", "ls", "-q", "-l", "app").stdout.split() == ["blue"]
    finally:
        box.nsrun("pod", "down", "-l", "app", "--force")
