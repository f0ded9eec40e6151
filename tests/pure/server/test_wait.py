"""Waiting for several pods, in kubectl's words; on stand-ins of pods, without time passing."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace

import pytest

from nsrun.errors import NotFoundError, TimedOutError
from nsrun.server.wait import wait_for
from nsrun.server.watch import Changed
from nsrun.spec.model import Pod, PodStatus
from nsrun.status.awaited import awaited


class StandIn:
    """As much of a pod's engine as waiting looks at."""

    def __init__(self, name: str, phase: str = "Pending") -> None:
        self.namespace, self.name, self.label = "default", name, f"default/{name}"
        self.pod, self.status = Pod(), PodStatus(phase=phase)
        self.changed, self.gone = Changed(), False
        self.ledger, self.trouble = SimpleNamespace(sandbox_waiting=None), ""
        self.published = SimpleNamespace(object=lambda: {"status": {"phase": self.phase}})

    @property
    def phase(self) -> str:
        """The published phase."""
        return self.status.phase or ""

    def become(self, phase: str) -> None:
        """Publish another phase."""
        self.status = PodStatus(phase=phase)
        self.changed.tell()

    def go(self) -> None:
        """Be removed."""
        self.gone = True
        self.changed.tell()


class Pods:
    """As much of the registry."""

    def __init__(self, *engines: StandIn) -> None:
        self.added = Changed()
        self.engines = {(one.namespace, one.name): one for one in engines}

    def get(self, namespace: str, name: str) -> StandIn | None:
        """The pod."""
        return self.engines.get((namespace, name))

    def find(self, namespace: str, name: str) -> StandIn:
        """The pod, or an error."""
        engine = self.get(namespace, name)
        if engine is None:
            raise NotFoundError(f'pod "{namespace}/{name}" not found')
        return engine


class Waiting:
    """A wait that is going on."""

    def __init__(self, pods: Pods, text: str, *names: str, timeout_s: float | None = None) -> None:
        self.met: list[str] = []
        keys = [("default", name) for name in names]
        work = wait_for(pods, keys, awaited(text), timeout_s, self.met.append)  # type: ignore[arg-type] # a stand-in
        self.task = asyncio.ensure_future(work)

    async def settle(self) -> None:
        """Let everything happen that can."""
        for _ in range(10):
            await asyncio.sleep(0)


def test_each_pod_is_told_of_when_it_is_there() -> None:
    async def scene() -> None:
        a, b = StandIn("a"), StandIn("b")
        waiting = Waiting(Pods(a, b), "phase=Running", "a", "b")
        await waiting.settle()
        b.become("Running")
        await waiting.settle()
        assert (waiting.met, waiting.task.done()) == (["b"], False)
        a.become("Running")
        await waiting.task
        assert waiting.met == ["b", "a"]

    asyncio.run(scene())


def test_who_is_late_is_named_in_kubectls_words() -> None:
    async def scene() -> None:
        waiting = Waiting(
            Pods(StandIn("a"), StandIn("b", "Running"), StandIn("c")), "phase=Running", *"abc", timeout_s=0.01
        )
        with pytest.raises(TimedOutError) as caught:
            await waiting.task
        assert caught.value.brief == "timed out waiting for the condition on pods/a, pods/c"
        assert caught.value.details == "default/a: phase Pending\ndefault/c: phase Pending"
        assert waiting.met == ["b"]

    asyncio.run(scene())


def test_no_time_looks_once() -> None:
    async def scene() -> None:
        await Waiting(Pods(StandIn("a", "Running")), "phase=Running", "a", timeout_s=0).task
        with pytest.raises(TimedOutError, match="condition not met for pods/a"):
            await Waiting(Pods(StandIn("a")), "jsonpath={.status.phase}=Running", "a", timeout_s=0).task
        with pytest.raises(TimedOutError, match="condition not met for pods/a"):
            await Waiting(Pods(StandIn("a")), "delete", "a", timeout_s=0).task

    asyncio.run(scene())


def test_deletion_of_pods_that_are_there_and_that_are_not() -> None:
    async def scene() -> None:
        a = StandIn("a")
        waiting = Waiting(Pods(a), "delete", "a", "nobody")
        await waiting.settle()
        assert (waiting.met, waiting.task.done()) == (["nobody"], False)
        a.go()
        await waiting.task
        assert waiting.met == ["nobody", "a"]
        await Waiting(Pods(), "delete").task

    asyncio.run(scene())


def test_a_pod_that_is_not_there_is_an_error_before_anything_is_waited_for() -> None:
    async def scene() -> None:
        waiting = Waiting(Pods(StandIn("a", "Running")), "phase=Running", "a", "nobody")
        with pytest.raises(NotFoundError, match="nobody"):
            await waiting.task
        assert waiting.met == []

    asyncio.run(scene())


def test_a_pod_that_goes_meanwhile_is_an_error_once_the_others_are_there() -> None:
    async def scene() -> None:
        a, b = StandIn("a"), StandIn("b")
        waiting = Waiting(Pods(a, b), "phase=Running", "a", "b")
        await waiting.settle()
        a.go()
        await waiting.settle()
        assert not waiting.task.done()
        b.become("Running")
        with pytest.raises(NotFoundError, match='"default/a" was taken down while it was waited for'):
            await waiting.task
        assert waiting.met == ["b"]

    asyncio.run(scene())


def test_creation_waits_for_a_pod_of_the_name() -> None:
    async def scene() -> None:
        pods = Pods()
        waiting = Waiting(pods, "create", "a")
        await waiting.settle()
        pods.engines["default", "other"] = StandIn("other")
        pods.added.tell()
        await waiting.settle()
        assert not waiting.task.done()
        pods.engines["default", "a"] = StandIn("a")
        pods.added.tell()
        await waiting.task
        assert waiting.met == ["a"]
        with pytest.raises(NotFoundError):
            await Waiting(Pods(), "create", "a", timeout_s=0).task

    asyncio.run(scene())


def test_giving_up_leaves_nobody_waiting() -> None:
    async def scene() -> None:
        a = StandIn("a")
        waiting = Waiting(Pods(a), "phase=Running", "a")
        await waiting.settle()
        waiting.task.cancel()
        await waiting.settle()
        assert waiting.task.cancelled()
        assert not a.changed._waiters

    asyncio.run(scene())
