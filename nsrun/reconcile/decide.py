"""What has to be done now to bring a pod from what is observed to what is wished. Pure: no clock, no input or output.

The answer depends on nothing but the arguments, so it is right after any of nsrun's programs was killed at any moment.
Carry the actions out, observe, ask again: never count on having seen a change happen.
"""

from __future__ import annotations

from nsrun.reconcile.backoff import SANDBOX_INTERVAL_S, due, retry_due
from nsrun.reconcile.model import (
    Action,
    CleanSandbox,
    CreateSandbox,
    ForgetInstance,
    Observed,
    RemovePod,
    ResetContainers,
    Sandbox,
    SandboxState,
    StopSandbox,
    WakeAt,
)
from nsrun.reconcile.order import Finish, Views, finish_of, hooks_after_start, starts, views_of
from nsrun.reconcile.settle import deadline_of, settle
from nsrun.reconcile.termination import Stop, grace_of, kill_all, stop_all, stop_requested
from nsrun.spec.model import Pod


def decide(pod: Pod, observed: Observed, now: float) -> list[Action]:
    """The actions to carry out now, in their order; at most one WakeAt, at the end, for the next time something is due.

    `now` is in seconds since the epoch. No action and no WakeAt: nothing to do until something changes.
    """
    observed = settle(pod, observed, now)
    views = views_of(pod, observed)
    finish = finish_of(pod, observed, views)
    if observed.deletion is not None:
        actions = _delete(pod, observed, views, now)
    elif finish is not None:
        actions = _wind_up(pod, observed, views, finish, now)
    elif observed.unscheduled:
        actions = []
    else:
        actions = _run(pod, observed, views, now)
    return _forget(observed) + _one_wake(actions)


def _delete(pod: Pod, observed: Observed, views: Views, now: float) -> list[Action]:
    assert observed.deletion is not None
    match observed.sandbox.state:
        case SandboxState.NONE:
            return [RemovePod("deleted, and nothing of it runs")]
        case SandboxState.DEAD:
            return [CleanSandbox("deleted, and its shim is gone")]
        case SandboxState.READY if views.anything_alive:
            stop = Stop(observed.deletion.requested_at, observed.deletion.grace_s, "the pod is deleted")
            return stop_all(views, stop, pod, now, anew=True)
        case SandboxState.READY:
            return [StopSandbox("deleted, and all containers are stopped")]


def _wind_up(pod: Pod, observed: Observed, views: Views, finish: Finish, now: float) -> list[Action]:
    match observed.sandbox.state:
        case SandboxState.NONE:
            return []
        case SandboxState.DEAD:
            return [CleanSandbox(f"{finish.reason}, and its shim is gone")]
        case SandboxState.READY if views.anything_alive:
            # Without a known end all the time is over: the stop signal, and what S-TERM leaves at least.
            since = finish.since if finish.since is not None else 0.0
            grace_s = grace_of(pod) if finish.grace_s is None else finish.grace_s
            return stop_all(views, Stop(since, grace_s, finish.reason), pod, now)
        case SandboxState.READY:
            return [StopSandbox(finish.reason)]


def _run(pod: Pod, observed: Observed, views: Views, now: float) -> list[Action]:
    if observed.restart_all is not None and observed.sandbox.state is not SandboxState.DEAD:
        if any(view.alive for view in views.all):
            return kill_all(views, observed.restart_all, now) + _deadline(pod, observed)
        return [
            ResetContainers(
                f"container {observed.restart_all.container} wants all to be started anew, and all are dead"
            )
        ]
    match observed.sandbox.state:
        case SandboxState.NONE:
            return _create_sandbox(observed.sandbox, observed.tempo, now) + _deadline(pod, observed)
        case SandboxState.DEAD:
            return [CleanSandbox("the shim is gone, and there is work left")]
        case SandboxState.READY:
            return (
                stop_requested(views, pod, now)
                + hooks_after_start(views)
                + starts(pod, views, now)
                + _deadline(pod, observed)
            )


def _deadline(pod: Pod, observed: Observed) -> list[Action]:
    """Look again when the pod has been active for as long as it may; settling makes it fail then."""
    at = deadline_of(pod, observed)
    return [] if at is None else [WakeAt("the pod's active deadline", at)]


def _create_sandbox(sandbox: Sandbox, tempo: float, now: float) -> list[Action]:
    waiting = sandbox.waiting
    if waiting is not None:
        again = retry_due(waiting, tempo, now)
        if again > now:
            return [WakeAt(f"sandbox: {waiting.reason}, to be tried again", again)]
    elif sandbox.created_at is not None:
        again = due(sandbox.created_at, SANDBOX_INTERVAL_S, now)
        if again > now:
            return [WakeAt("sandbox: the last one was made just now", again)]
    why = "the pod has no sandbox yet" if sandbox.attempt < 0 else "the last sandbox is gone, and there is work left"
    return [CreateSandbox(why, sandbox.attempt + 1)]


def _forget(observed: Observed) -> list[Action]:
    """The records of dead instances that have a successor, or will have one whatever became of them (S-KEEP)."""
    return [
        ForgetInstance(
            f"container {instance.name}: attempt {instance.attempt} has a successor", instance.name, instance.id
        )
        for instance in observed.older
        if not instance.alive
    ]


def _one_wake(actions: list[Action]) -> list[Action]:
    wakes = [action for action in actions if isinstance(action, WakeAt)]
    others = [action for action in actions if not isinstance(action, WakeAt)]
    return others + ([min(wakes, key=lambda wake: wake.at)] if wakes else [])
