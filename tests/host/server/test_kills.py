"""SIGKILL of the server at random moments of everything it does: the pods do not notice, and nothing stays behind.

`NSRUN_SEED` repeats a run (the seed is printed), `NSRUN_KILLS` (or NSRUN_SOAK=1) sets how many servers die in it,
`NSRUN_ROUNDS` names what they die in. Some moments are random times, others random steps: the server's trace goes into a
pipe, and it is killed when a step is seen in there.
"""

from __future__ import annotations

import contextlib
import os
import random
import re
import select
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from nsrun.client.logs import Follower, Query
from nsrun.client.roots import find
from nsrun.client.session import Session
from tests.chance import SEED
from tests.host.server.harness import Server, alive, box, pod, until

KILLS = int(os.environ.get("NSRUN_KILLS", "1000" if os.environ.get("NSRUN_SOAK") else "100"))
STEPS = (
    "request pod.up",
    "judged",
    "sandbox",
    "shim spawned",
    "namespaces",
    "network",
    "sandbox ready",
    "prepare",
    "start",
    "started",
    "answer pod.up",
    "exited",
    "shim ended",
    "cgroup removed",
    "network removed",
)


class Killer:
    """Kills the server that runs, whichever that is.

    Args:
        server: its harness.
        seed: of the choice of moments.
    """

    def __init__(self, server: Server, seed: int) -> None:
        self.server = server
        self.random = random.Random(seed)
        self.kills = 0
        self.moments: list[str] = []
        path = server.host.scratch / "trace"
        os.mkfifo(path)
        self._pipe = os.open(path, os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
        server.environment["NSRUN_TRACE"] = str(path)

    def close(self) -> None:
        """From here on nobody reads the trace."""
        self.server.environment.pop("NSRUN_TRACE", None)
        self.server.kill()
        os.close(self._pipe)

    @contextlib.contextmanager
    def at_work(self, what: str, within_s: float, most: int = 3) -> Iterator[None]:
        """Kill up to `most` servers while the body runs; at least one, before or after it if need be."""
        over = threading.Event()
        plan = [
            (self.random.choice(STEPS), 0.0) if self.random.random() < 0.5 else ("", self.random.uniform(0, within_s))
            for _ in range(self.random.randint(1, most))
        ]
        thread = threading.Thread(target=self._work, args=(what, plan, over), daemon=True)
        thread.start()
        try:
            yield
        finally:
            over.set()
            thread.join(30)
            assert not thread.is_alive()

    def _work(self, what: str, plan: list[tuple[str, float]], over: threading.Event) -> None:
        for step, delay_s in plan:
            moment = f"{what}, at step {step!r}" if step else f"{what}, after {delay_s * 1000:.1f} ms"
            if step:
                self._see(step, over)
            else:
                deadline = time.monotonic() + delay_s
                while time.monotonic() < deadline and not over.is_set():
                    self._drain(deadline)
            self._kill(moment + (" (body over)" if over.is_set() else ""))

    def _see(self, step: str, over: threading.Event) -> None:
        """Until a line of the trace names the step, or the body is over."""
        text = b""
        while not over.is_set():
            ready, _, _ = select.select([self._pipe], [], [], 0.01)
            if ready:
                text = (text + os.read(self._pipe, 65536))[-65536:]
                if re.search(rb" " + re.escape(step.encode()) + rb"( |\n)", text):
                    return

    def _drain(self, deadline: float) -> None:
        ready, _, _ = select.select([self._pipe], [], [], max(min(deadline - time.monotonic(), 0.01), 0))
        if ready:
            os.read(self._pipe, 65536)

    def _kill(self, moment: str) -> None:
        if not self.server.kill():
            return
        self.kills += 1
        self.moments.append(moment)

    @contextlib.contextmanager
    def quiet(self) -> Iterator[None]:
        """Nobody is killed; the trace is read, so that the server does not wait for a reader."""
        over = threading.Event()

        def read() -> None:
            while not over.is_set():
                self._drain(time.monotonic() + 0.01)

        thread = threading.Thread(target=read, daemon=True)
        thread.start()
        try:
            yield
        finally:
            over.set()
            thread.join(10)


class Rounds:
    """The rounds of one run; each brings pods up and takes them down again."""

    def __init__(self, server: Server, killer: Killer) -> None:
        self.server = server
        self.killer = killer
        self.number = 0

    def name(self, kind: str) -> str:
        self.number += 1
        return f"{kind}-{self.number}"

    def finish(self, name: str) -> None:
        """Take a pod down; nothing of it is left."""
        runtime = self.server.runtime(name)
        uid = self.server.get(name)["metadata"]["uid"]
        pids = [runtime["shim_pid"]] + [one["pid"] for one in runtime["instances"] if one["state"] == "running"]
        self.server.down(name, missing_ok=True)
        self.gone(name, uid, pids)

    def gone(self, name: str, uid: str, pids: list[int | None]) -> None:
        """Nothing of a pod is left."""
        assert name not in self.server.names()
        assert not (self.server.root / "run" / "pods" / uid).exists()
        assert not list((self.server.root / "log" / "pods").glob(f"*_{uid}"))
        assert uid not in leased(self.server.root / "lib" / "leases")
        base = self.server.host.cgroup_base
        assert base is None or not (base / f"pod-{uid}").exists()
        assert not [pid for pid in pids if pid and alive(pid)]

    def one_instance_each(self, name: str) -> None:
        """No container has two processes, whatever the server believes: the kernel says."""
        runtime = self.server.runtime(name)
        running = [one["name"] for one in runtime["instances"] if one["state"] == "running"]
        assert len(running) == len(set(running))
        base = self.server.host.cgroup_base
        if base is not None:
            uid = self.server.get(name)["metadata"]["uid"]
            populated = [
                path.parent.name
                for path in (base / f"pod-{uid}").glob("*/cgroup.events")
                if "populated 1" in path.read_text()
            ]
            assert sorted(populated) == sorted(one["id"] for one in runtime["instances"] if one["state"] == "running")

    # what is killed into

    def up(self) -> None:
        name = self.name("up")
        manifest = pod(
            name,
            box("a", "pause"),
            box("b", "lines", "-1", "50", "2000"),
            inits=(box("i", "append", "/dev/shm/i", "x"),),
        )
        with self.killer.at_work("up", 0.25):
            self.server.up(manifest)
        with self.killer.quiet():
            self.server.wait(name, "condition=Ready")
            self.one_instance_each(name)
            assert {self.server.container(name, one)["restartCount"] for one in "ab"} == {0}
            # A sandbox that a killed server left half-made is replaced, and the init container runs in the new one alone.
            assert self.server.run(name, "/bin/cat", "/dev/shm/i", container="a")[1] == b"x"
            self.finish(name)

    def down(self) -> None:
        name = self.name("down")
        with self.killer.quiet():
            self.server.up(pod(name, box("a", "trap", "0"), box("b", "stubborn"), terminationGracePeriodSeconds=1))
            runtime = self.server.runtime(name)
            uid = self.server.get(name)["metadata"]["uid"]
        pids = [runtime["shim_pid"], *(one["pid"] for one in runtime["instances"])]
        grace = self.killer.random.choice([0, 0, 1])
        with self.killer.at_work("down", 0.1 if grace == 0 else 2.5):
            self.server.down(name, grace_period_s=grace, missing_ok=True)
        with self.killer.quiet():
            until(lambda: name not in self.server.names())
            self.gone(name, uid, pids)

    def replace(self) -> None:
        name = self.name("replace")
        with self.killer.quiet():
            self.server.up(pod(name, box("a", "pause"), terminationGracePeriodSeconds=0))
            old = self.server.get(name)["metadata"]["uid"]
        with self.killer.at_work("replace", 0.3):
            self.server.up(pod(name, box("a", "sleep", "1000")), replace=True)
        with self.killer.quiet():
            assert self.server.get(name)["metadata"]["uid"] != old
            self.gone_uid(old)
            self.finish(name)

    def gone_uid(self, uid: str) -> None:
        assert not (self.server.root / "run" / "pods" / uid).exists()

    def restart(self) -> None:
        """The first restart is due at once, and comes, whoever dies meanwhile; both exits are known."""
        name = self.name("restart")
        manifest = pod(
            name, box("a", "failing", "/dev/shm/count", "1", "0.2"), box("b", "sleep", "1"), restartPolicy="OnFailure"
        )
        with self.killer.quiet():
            self.server.up(manifest, wait="none")
        with self.killer.at_work("restart", 0.6):
            until(lambda: self.server.get(name)["status"]["phase"] == "Succeeded", 30)
        with self.killer.quiet():
            status = self.server.container(name, "a")
            assert status["restartCount"] == 1
            assert status["state"]["terminated"]["exitCode"] == 0
            assert status["lastState"]["terminated"]["exitCode"] == 1
            assert self.server.container(name, "b")["restartCount"] == 0
            assert [path.name for path in sorted(self.log(name, "a").iterdir())] == ["0.log", "1.log"]
            self.finish(name)

    def log(self, name: str, container: str) -> Path:
        return Path(self.server.runtime(name)["log_directory"]) / container

    def burst(self) -> None:
        """Lines at full speed, then an exit code, while servers die."""
        name = self.name("burst")
        count, code = self.killer.random.randint(20_000, 60_000), self.killer.random.randint(1, 200)
        manifest = pod(name, box("a", "then", "lines", str(count), "80", ";", "exit", str(code)), restartPolicy="Never")
        with self.killer.at_work("burst", 0.4):
            self.server.up(manifest, wait="none")
            until(lambda: self.server.get(name)["status"]["phase"] == "Failed", 30)
        with self.killer.quiet():
            assert self.server.container(name, "a")["state"]["terminated"]["exitCode"] == code
            numbered(self.server.lines(name, "a"), count)
            self.finish(name)

    def exec(self) -> None:
        """A command that runs does not notice; its output and its exit code arrive."""
        name = self.name("exec")
        with self.killer.quiet():
            self.server.up(pod(name, box("a", "pause")))
        with self.killer.at_work("exec", 0.3):
            code, out, err = self.server.run(name, "/bin/then", "lines", "300", "60", "1000", ";", "exit", "7")
        assert (code, err) == (7, b"")
        numbered(out.decode().splitlines(), 300)
        with self.killer.quiet():
            self.finish(name)

    def follow(self) -> None:
        """Somebody who follows a log over the deaths of servers and a restart sees each line once."""
        name = self.name("follow")
        count = 400
        lines = ("lines", str(count), "60", "1000")
        manifest = pod(
            name,
            box(
                "a",
                "then",
                "echo",
                "begun",
                ";",
                "await",
                "/dev/shm/go",
                ";",
                *lines,
                ";",
                "failing",
                "/dev/shm/n",
                "1",
            ),
            restartPolicy="OnFailure",
        )
        with self.killer.quiet():
            self.server.up(manifest, wait="none")
            until(lambda: (self.log(name, "a") / "0.log").exists())
        session = Session(find(self.server.root))
        found: list[str] = []
        problems: list[BaseException] = []
        done = threading.Event()

        def read() -> None:
            try:
                for batch in Follower(session, [Query(name, None, "a")]).lines():
                    found.extend(line.text.decode() for line in batch)
            except BaseException as error:
                problems.append(error)
            finally:
                done.set()

        reader = threading.Thread(target=read, daemon=True)
        reader.start()
        with self.killer.quiet():
            # Whoever begins to follow after the restart begins with the present instance.
            until(lambda: found)
            self.server.run(name, "/bin/write", "/dev/shm/go", "", container="a")
        with self.killer.at_work("follow", 1.0):
            until(lambda: self.server.get(name)["status"]["phase"] == "Succeeded", 30)
            until(done.is_set, 20, f"the follower has {len(found)} lines and does not end")
        reader.join(10)
        session.close()
        assert not problems, problems
        said = [line for line in found if line[0].isdigit()]
        status = self.server.container(name, "a")
        assert len(said) == 2 * count, (len(said), status, sorted(self.log(name, "a").iterdir()))
        numbered(said[:count], count)
        numbered(said[count:], count)
        with self.killer.quiet():
            self.finish(name)


def leased(directory: Path) -> set[str]:
    """The uids of the pods that have an address. The last one's end is the end of the directory, too."""
    found: set[str] = set()
    with contextlib.suppress(FileNotFoundError):
        for path in directory.iterdir():
            found.add(path.read_text())
    return found


def numbered(lines: list[str], count: int) -> None:
    """Lines of `testbox lines`: each number once, in order."""
    numbers = [int(line.split()[0]) for line in lines if line and line[0].isdigit()]
    first = numbers[0] if numbers else 0
    wrong = [(index, number) for index, number in enumerate(numbers) if number != first + index]
    assert not wrong, f"line {wrong[0][0]} has number {wrong[0][1]}"
    assert len(numbers) == count


@pytest.mark.timeout(200 + 4 * KILLS)
def test_servers_are_killed_at_random_moments(server: Server, capsys: pytest.CaptureFixture[str]) -> None:
    """At least KILLS servers die; a pod that was there before the first of them runs on to the end."""
    with capsys.disabled():
        print(f"\n  NSRUN_SEED={SEED} NSRUN_KILLS={KILLS}", flush=True)
    killer = Killer(server, SEED)
    server.stop()
    rounds = Rounds(server, killer)
    begun = time.monotonic()
    with killer.quiet():
        server.up(
            pod("steady", box("lines", "lines", "-1", "60", "500"), box("still", "pause")),
            pod("late", box("a", "failing", "/dev/shm/count", "2"), restartPolicy="OnFailure"),
            wait="none",
        )
        server.wait("steady", "condition=Ready")
        before = server.runtime("steady")
    words = os.environ.get("NSRUN_ROUNDS", "up down replace restart burst exec follow").split()
    kinds: list[Callable[[], None]] = [getattr(rounds, word) for word in words]
    try:
        while killer.kills < KILLS:
            killer.random.choice(kinds)()
        still_there(server, killer, before, begun)
    except BaseException:
        with capsys.disabled():
            print(f"  NSRUN_SEED={SEED}: after {killer.kills} kills; the last: {killer.moments[-5:]}", flush=True)
        raise
    finally:
        killer.close()
    with capsys.disabled():
        print(
            f"  {killer.kills} servers killed in {rounds.number} rounds, {time.monotonic() - begun:.0f} s", flush=True
        )


def still_there(server: Server, killer: Killer, before: dict[str, Any], begun: float) -> None:
    """The pods that were there from the start ran through it all, and go like any other."""
    rounds = Rounds(server, killer)
    with killer.quiet():
        after = server.runtime("steady")
        assert [(one["id"], one["pid"], one["attempt"]) for one in after["instances"]] == [
            (one["id"], one["pid"], one["attempt"]) for one in before["instances"]
        ]
        assert after["shim_pid"] == before["shim_pid"]
        assert all(alive(one["pid"]) for one in after["instances"])
        lines = server.lines("steady", "lines")
        numbered(lines, len(lines))
        assert len(lines) > 100 * (time.monotonic() - begun)
        until(lambda: server.get("late")["status"]["phase"] == "Succeeded", 30)
        assert server.container("late", "a")["restartCount"] == 2
        rounds.finish("steady")
        rounds.finish("late")


def test_S_LOG_a_follower_that_was_long_without_a_server_misses_no_instance(server: Server) -> None:
    """While it knows of no server, one instance ends, and another one comes and goes."""
    manifest = pod(
        "p",
        box("a", "then", "lines", "5", "20", ";", "await", "/dev/shm/go", ";", "failing", "/dev/shm/n", "2"),
        restartPolicy="OnFailure",
    )
    server.up(manifest, wait="none", time_scale=100)
    until(lambda: server.log("p", "a").count(b"\n") == 5)
    session = Session(find(server.root))
    batches = Follower(session, [Query("p", None, "a")]).lines()
    said: list[str] = []
    while len(said) < 5:
        said += [line.text.decode() for line in next(batches)]
    server.kill()
    server.run("p", "/bin/write", "/dev/shm/go", "", container="a")
    until(lambda: server.get("p")["status"]["phase"] == "Succeeded")
    assert server.container("p", "a")["restartCount"] == 2
    said += [line.text.decode() for batch in batches for line in batch]
    session.close()
    assert [int(line.split()[0]) for line in said if line[:1].isdigit()] == [1, 2, 3, 4, 5] * 3


@pytest.mark.timeout(120)
def test_a_server_killed_while_it_starts_is_followed_by_one_that_works(server: Server) -> None:
    """Adoption is cut short again and again."""
    chance = random.Random(SEED)
    server.up(*(pod(f"p{number}", box("a", "pause")) for number in range(5)))
    pids = {name: server.runtime(name)["instances"][0]["pid"] for name in server.names()}
    for _ in range(15):
        server.kill()
        process = server.start()
        time.sleep(chance.uniform(0, 0.4))
        process.kill()
    assert {name: server.runtime(name)["instances"][0]["pid"] for name in server.names()} == pids
