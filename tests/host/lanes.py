"""`make test-host`: the host ring in several test hosts at once, one for each lane.

Lanes do not meet: a test host has its namespaces, cgroup and directory for itself. Each lane is one pytest that collects everything
and then asks for the next *group* of tests (a file) until there is none (`lane.py`); the slowest files come first. What is marked
`quiet` measures time: it comes last, one group at a time, when no other lane runs anything.

python -m tests.host.lanes [--lanes N] [PYTEST OPTIONS AND PATHS]

NSRUN_LANES is the default of N; else there are as many as processors, at most four. A single file or test, and a single lane, run
with pytest's own output. Otherwise each finished group is a line, what a lane's pytest printed comes as a whole when it ends, and the
sum of all lanes closes it. Exit status: that of the first lane that failed (pytest's, or 97 for what is left behind in its test host).
"""

from __future__ import annotations

import json
import os
import selectors
import signal
import socket
import subprocess
import sys
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType
from typing import NamedTuple

from tests.host.testhost import REPOSITORY, in_test_host

MOST_LANES = 4
SLOWEST_SHOWN = 15
PYTEST = (sys.executable, "-m", "pytest", "-m", "host")
SECONDS = {
    "server/test_kills.py": 125,
    "images/test_pods_that_pull.py": 200,
    "lifecycle/test_kills.py": 147,
    "lifecycle/test_rotation.py": 131,
    "lifecycle/test_hooks.py": 126,
    "images/test_commands.py": 94,
    "lifecycle/test_termination.py": 88,
    "lifecycle/test_restart.py": 80,
    "lifecycle/test_probes.py": 79,
    "lifecycle/test_probes_kills.py": 76,
    "lifecycle/test_life.py": 76,
    "lifecycle/test_corpus.py": 75,
    "server/test_pods.py": 68,
    "lifecycle/test_update.py": 68,
    "lifecycle/test_static.py": 64,
    "environment/test_objects.py": 63,
    "server/test_many.py": 58,
    "cli/test_library.py": 54,
    "lifecycle/test_hooks_killed.py": 51,
    "cli/test_transcripts.py": 48,
    "systemd/test_systemd.py": 45,
    "cli/test_logs.py": 42,
    "cli/test_bad_input.py": 42,
    "volumes/test_empty_dir.py": 41,
}
"""What the longest files took on a busy machine with two processors. The others are judged by their number of tests."""
USUAL_SECONDS = 0.8
"""What a test takes, on the average."""


class Group(NamedTuple):
    """Tests that run one after the other in one lane: those of a file, the quiet ones apart."""

    name: str
    tests: int
    quiet: bool


@dataclass(eq=False)
class Lane:
    """One test host with its pytest.

    Attributes:
        name: as it is shown.
        process: the test host's wrapper.
        line: our end of the socket that the lane asks at.
        output: what it printed, so far.
        group: what it runs now.
        since: when that began (monotonic).
        asks: it waits for a group.
        told: it was told that there is none.
    """

    name: str
    process: subprocess.Popen[bytes]
    line: socket.socket
    output: bytearray = field(default_factory=bytearray)
    unread: bytearray = field(default_factory=bytearray)
    group: str | None = None
    since: float = 0.0
    asks: bool = False
    told: bool = False
    counts: Counter[str] = field(default_factory=Counter)


def start(number: int, options: list[str]) -> Lane:
    """A lane with a test host of its own; it ends when this process does."""
    ours, theirs = socket.socketpair()
    argv = ["setpriv", "--pdeathsig", "TERM", *in_test_host([*PYTEST, "-p", "tests.host.lane", *options])]
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY), "COLUMNS": os.environ.get("COLUMNS", "120")}
    with theirs:
        process = subprocess.Popen(
            argv,
            cwd=REPOSITORY,
            env=environment,
            stdin=theirs.fileno(),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )
    return Lane(f"lane {number}", process, ours)


def weight(group: Group) -> float:
    """How long it will take, in seconds, more or less."""
    return SECONDS.get(group.name.removeprefix("tests/host/"), group.tests * USUAL_SECONDS)


class Ring:
    """All lanes, and what is left for them to do.

    Args:
        lanes: started already.
    """

    def __init__(self, lanes: list[Lane]) -> None:
        self.lanes = lanes
        self.left: list[Group] | None = None
        self.outcomes: Counter[str] = Counter()
        self.seconds: list[tuple[float, str]] = []
        self.failed: list[str] = []
        self.status = 0
        self.stopping = False
        self.begun = time.monotonic()

    def run(self) -> int:
        """To the end of the last lane."""
        with selectors.DefaultSelector() as selector:
            for lane in self.lanes:
                assert lane.process.stdout is not None
                selector.register(lane.process.stdout, selectors.EVENT_READ, (lane, "output"))
                selector.register(lane.line, selectors.EVENT_READ, (lane, "line"))
            while selector.get_map():
                for key, _ in selector.select():
                    lane, kind = key.data
                    data = os.read(key.fd, 1 << 16)
                    if not data:
                        selector.unregister(key.fileobj)
                        if kind == "output":
                            self.ended(lane)
                    elif kind == "output":
                        lane.output += data
                    else:
                        lane.unread += data
                        *lines, rest = bytes(lane.unread).split(b"\n")
                        lane.unread[:] = rest
                        for line in lines:
                            self.heard(lane, json.loads(line))
                self.hand_out()
        self.sum_up()
        return self.status

    def heard(self, lane: Lane, message: dict[str, object]) -> None:
        """Something that a lane said."""
        if "groups" in message:
            assert isinstance(message["groups"], list)
            if self.left is None:
                self.left = sorted((Group(*words) for words in message["groups"]), key=weight, reverse=True)
            lane.asks = True
        elif "test" in message:
            outcome, name, seconds = str(message["outcome"]), str(message["test"]), float(str(message["seconds"]))
            self.outcomes[outcome] += 1
            lane.counts[outcome] += 1
            self.seconds.append((seconds, name))
            if outcome in ("failed", "error"):
                self.failed.append(name)
                self.say(lane, f"{outcome.upper()} {name}")
        elif "done" in message:
            self.say(lane, f"{lane.group}: {words(lane.counts)} in {time.monotonic() - lane.since:.0f} s")
            lane.group = None
            lane.asks = True
            if message["stop"]:
                self.stopping = True

    def hand_out(self) -> None:
        """Give those who ask the next group, or tell them that there is none."""
        for lane in self.lanes:
            if not lane.asks or self.left is None:
                continue
            busy = any(other.group is not None for other in self.lanes)
            group = None if self.stopping else self.next(busy)
            if group is None and self.left and not self.stopping:
                continue
            lane.asks = False
            lane.group = group.name if group else None
            lane.since = time.monotonic()
            lane.counts.clear()
            lane.told = group is None
            if lane.told:
                lane.line.sendall(b"\n")
            else:
                lane.line.sendall(f"{lane.group}\n".encode())

    def next(self, busy: bool) -> Group | None:
        """Take the next group out of those that are left; a quiet one only when nobody is busy."""
        assert self.left is not None
        loud = [group for group in self.left if not group.quiet]
        found = loud[0] if loud else (self.left[0] if self.left and not busy else None)
        if found is not None:
            self.left.remove(found)
        return found

    def ended(self, lane: Lane) -> None:
        """The lane's wrapper is gone, its test host taken down."""
        status = lane.process.wait()
        status = 128 - status if status < 0 else status
        print(f"\n--- {lane.name}, exit {status}", flush=True)
        sys.stdout.buffer.write(lane.output)
        sys.stdout.flush()
        if lane.group is not None:
            self.failed.append(f"{lane.group} (unfinished)")
            lane.group = None
        lane.asks = False
        # 5: nothing was selected in the groups that it got.
        if status not in (0, 5) or not lane.told:
            self.status = self.status or status or 1

    def say(self, lane: Lane, text: str) -> None:
        """One line."""
        print(f"{time.monotonic() - self.begun:5.0f} s {lane.name}: {text}", flush=True)

    def sum_up(self) -> None:
        """What all lanes together came to."""
        spent = time.monotonic() - self.begun
        if self.seconds:
            print(f"\n--- the slowest {SLOWEST_SHOWN} tests")
            for seconds, name in sorted(self.seconds, reverse=True)[:SLOWEST_SHOWN]:
                print(f"{seconds:6.1f} s {name}")
        if self.left:
            self.status = self.status or 1
            print(f"\n--- not run: {', '.join(group.name for group in self.left)}")
        if self.failed:
            self.status = self.status or 1
            print("\n--- failed")
            print("\n".join(self.failed))
        if not self.seconds:
            self.status = self.status or 5
        print(f"\n=== host ring: {words(self.outcomes)} in {spent:.0f} s, {len(self.lanes)} lanes", flush=True)

    def stop(self, number: int, frame: FrameType | None) -> None:
        """End every lane; their wrappers clean up."""
        if number == signal.SIGINT and not self.stopping:
            # The terminal has told each pytest, too: they say what they have.
            self.stopping = True
            return
        self.stopping = True
        for lane in self.lanes:
            lane.process.terminate()


def words(counts: Counter[str]) -> str:
    """`3 passed, 1 failed`."""
    return (
        ", ".join(f"{counts[name]} {name}" for name in ("passed", "failed", "error", "skipped") if counts[name])
        or "none"
    )


def lane_count() -> int:
    """How many lanes this machine gets."""
    wanted = os.environ.get("NSRUN_LANES")
    return int(wanted) if wanted else min(os.cpu_count() or 1, MOST_LANES)


def is_single(options: list[str]) -> bool:
    """Whether the options name one file or test, and nothing else to run."""
    named = [
        word for word in options if Path(REPOSITORY, word.partition("::")[0]).exists() and not word.startswith("-")
    ]
    return len(named) == 1 and Path(REPOSITORY, named[0].partition("::")[0]).is_file()


def main() -> int:
    """Start the lanes, or the one pytest."""
    options = sys.argv[1:]
    count = lane_count()
    if options[:1] == ["--lanes"]:
        count, options = int(options[1]), options[2:]
    if not any(Path(REPOSITORY, word.partition("::")[0]).exists() for word in options if not word.startswith("-")):
        options = ["tests/host", *options]
    if count < 2 or is_single(options):
        argv = in_test_host([*PYTEST, *options])
        os.chdir(REPOSITORY)
        os.execv(argv[0], argv)
    ring = Ring([start(number, options) for number in range(1, count + 1)])
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, ring.stop)
    return ring.run()


if __name__ == "__main__":
    sys.exit(main())
