"""What a pod's published status says over time: every version of it, as `pod.watch` tells it, and each one judged."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

from tests.host.lifecycle.oracle import follow, judge
from tests.host.server.harness import LostError, Server, Wire

Status = dict[str, Any]


class Observer:
    """Judges every status of every pod that is published, from now on until it is closed. The server must live."""

    def __init__(self, server: Server) -> None:
        self.seen: dict[str, dict[str, Any]] = {}
        """The newest version of each pod."""
        self.count = 0
        self.problems: list[AssertionError] = []
        """What no kubelet would have said."""
        self._over = False
        self._wire = Wire(server.socket)
        self._wire.sock.settimeout(0.2)
        self._wire.send("pod.watch", {})
        self._begun = threading.Event()
        self._thread = threading.Thread(target=self._listen, daemon=True)
        self._thread.start()
        assert self._begun.wait(10), "the watch did not begin"

    def close(self) -> None:
        self._over = True
        self._thread.join(5)
        self._wire.close()

    def _listen(self) -> None:
        while not self._over:
            try:
                # A frame is read whole or not at all: a time-out comes before its first byte.
                event = self._wire.receive()[0]["event"]
            except TimeoutError:
                continue
            except (LostError, OSError):
                return
            if event["type"] == "BOOKMARK":
                self._begun.set()
            elif event["type"] != "DELETED":
                self.take(event["object"])

    def take(self, pod: dict[str, Any]) -> None:
        """Another version of a pod."""
        name = pod["metadata"]["name"]
        try:
            judge(pod)
            if name in self.seen:
                follow(self.seen[name], pod)
        except AssertionError as problem:
            self.problems.append(problem)
        self.seen[name] = pod
        self.count += 1


class Watch(Observer):
    """Collects the statuses of one pod as well, from before it is there."""

    def __init__(self, server: Server, name: str) -> None:
        self.name = name
        self._statuses: list[Status] = []
        super().__init__(server)

    def take(self, pod: dict[str, Any]) -> None:
        if pod["metadata"]["name"] == self.name:
            super().take(pod)
            self._statuses.append(pod["status"])

    @property
    def statuses(self) -> list[Status]:
        """Every status so far."""
        return list(self._statuses)

    def until(self, condition: Callable[[Status], object], timeout_s: float = 20.0) -> Status:
        """The first status for which the condition is true."""
        deadline = time.monotonic() + timeout_s
        while True:
            for status in self.statuses:
                if condition(status):
                    return status
            assert time.monotonic() < deadline, f"no such status; the last: {self.statuses[-1:]}"
            time.sleep(0.01)

    def course(self, of: Callable[[Status], object]) -> list[object]:
        """How something in the status changed: each value once in a row."""
        values: list[object] = []
        for status in self.statuses:
            value = of(status)
            if not values or values[-1] != value:
                values.append(value)
        return values


@contextlib.contextmanager
def watching(server: Server, name: str) -> Iterator[Watch]:
    """Watch a pod while the body runs."""
    watch = Watch(server, name)
    try:
        yield watch
    finally:
        watch.close()
    assert not watch.problems, watch.problems[:3]


def condition(status: Status, kind: str) -> str:
    """The status of a condition, or "absent"."""
    return next((str(one["status"]) for one in status.get("conditions", []) if one["type"] == kind), "absent")


def container(status: Status, name: str) -> dict[str, Any]:
    """The status of a container."""
    lists = ("initContainerStatuses", "containerStatuses", "ephemeralContainerStatuses")
    found: dict[str, Any] = next(one for key in lists for one in status.get(key, []) if one["name"] == name)
    return found


def state(status: Status, name: str) -> str:
    """The state of a container in a word or two: running, its waiting reason, or how it ended."""
    shown = container(status, name)["state"]
    if shown.get("running") is not None:
        return "running"
    if shown.get("waiting") is not None:
        return str(shown["waiting"]["reason"])
    ended = shown["terminated"]
    return f"{ended['reason']} {ended['exitCode']}"
