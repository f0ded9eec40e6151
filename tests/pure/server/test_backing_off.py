"""When a container begins to wait for its next instance, which is what the BackOff event tells."""

from __future__ import annotations

from dataclasses import replace

import pytest

from nsrun.reconcile.model import ContainerLedger, HookRun, Observed, StopCause, StopRequest
from nsrun.server.events import newly_backing_off
from nsrun.spec.model import Pod, PodStatus
from nsrun.status import pod_status
from tests.pure.reconcile.world import T0, instance, make_pod, seen

POD = make_pod(
    containers=[{"name": "app", "image": "img", "lifecycle": {"postStart": {"exec": {"command": ["x"]}}}}],
)
PLAIN = make_pod()


def status(pod: Pod, observed: Observed) -> PodStatus:
    """What is published of it."""
    return pod_status(pod, observed, T0 + 2)


def looping(state: str, delay_s: float, attempt: int = 2, **more: object) -> Observed:
    """`app` has ended (or could not start) and waits."""
    ledger = ContainerLedger(starts=attempt + 1, restart_count=attempt, backoff_s=delay_s, last_start_at=T0)
    return seen(instance("app", state, attempt=attempt, code=1), ledgers={"app": replace(ledger, **more)})  # type: ignore[arg-type] # its keywords


@pytest.mark.parametrize("state", ["exited", "start-failed"])
@pytest.mark.parametrize("delay_s", [10.0, 20.0])
def test_S_EVENTS_S_BACKOFF_told_once_for_each_wait(state: str, delay_s: float) -> None:
    running = status(PLAIN, seen(instance("app", attempt=2)))
    waits = status(PLAIN, looping(state, delay_s))
    again = status(PLAIN, seen(instance("app", attempt=3)))
    assert newly_backing_off(PodStatus(), waits) == ["app"]
    assert newly_backing_off(running, waits) == ["app"]
    assert newly_backing_off(waits, waits) == []
    assert newly_backing_off(waits, again) == []


def test_S_EVENTS_S_BACKOFF_a_restart_at_once_is_no_wait() -> None:
    assert newly_backing_off(PodStatus(), status(PLAIN, looping("exited", 0.0))) == []


def test_S_EVENTS_S_HOOK_a_container_that_is_being_stopped_does_not_wait_yet() -> None:
    hook = HookRun("app-2", T0, T0 + 1, "boom")
    stop = StopRequest(T0 + 1, None, StopCause.POST_START)
    last = instance("app", "exited", attempt=1, code=1)
    ledger = ContainerLedger(
        starts=3, restart_count=2, backoff_s=10.0, last=last, instance_id="app-2", post_start=hook, stop=stop
    )
    stopping = status(POD, seen(instance("app", attempt=2), ledgers={"app": ledger}))
    waits = status(POD, seen(instance("app", "exited", attempt=2, code=137), ledgers={"app": ledger}))
    for one in (stopping, waits):
        waiting = one.containerStatuses[0].state.waiting
        assert waiting is not None
        assert waiting.reason == "PostStartHookError"
    assert newly_backing_off(PodStatus(), stopping) == []
    assert newly_backing_off(stopping, waits) == ["app"]
