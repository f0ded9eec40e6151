"""Stopping containers: the preStop hook, whose turn it is, the stop signal, SIGKILL (S-TERM, S-SIDECAR, S-HOOK).

Source: kubelet pkg/kubelet/kuberuntime/kuberuntime_container.go killContainer, kuberuntime_termination_order.go,
kuberuntime_manager.go minimumGracePeriodInSeconds. All times are seconds.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from nsrun.reconcile.backoff import due
from nsrun.reconcile.model import (
    Action,
    AnnounceStop,
    Deletion,
    HookKind,
    HookRun,
    Instance,
    KillContainer,
    RestartAll,
    RunHook,
    SignalContainer,
    StopCause,
    WakeAt,
)
from nsrun.reconcile.order import View, Views
from nsrun.spec.model import Pod

MINIMUM_GRACE_S = 2.0
DEFAULT_GRACE_S = 30.0
KILL_AGAIN_S = 1.0
"""SIGKILL is sent again after this long to a container that still seems to live (a fork may have slipped through)."""


@dataclass(frozen=True, slots=True)
class Stop:
    """Why a container has to go, since when, and how much time it has."""

    since: float
    grace_s: float
    reason: str


def grace_of(pod: Pod) -> float:
    """The pod's own grace period in seconds; the API server takes a negative one for 1."""
    grace_s = pod.spec.terminationGracePeriodSeconds
    if grace_s is None:
        return DEFAULT_GRACE_S
    return float(grace_s) if grace_s >= 0 else 1.0


def request_deletion(before: Deletion | None, now: float, grace_s: float) -> Deletion:
    """`pod down` at `now` with `grace_s` seconds: the first one counts, and another can only shorten its time.

    The time of the first request stays, so that nobody gets the stop signal twice; 0 is SIGKILL at once.
    """
    if before is None:
        return Deletion(now, grace_s)
    if grace_s <= 0:
        return replace(before, grace_s=0.0)
    return replace(before, grace_s=min(before.grace_s, max(0.0, now - before.requested_at) + grace_s))


def stop_all(views: Views, stop: Stop, pod: Pod, now: float, *, anew: bool = False) -> list[Action]:
    """Stop every container: mains and inits at once, each sidecar when all mains and all later sidecars are gone.

    Args:
        views: of the pod.
        stop: since when, and how.
        pod: the pod.
        now: seconds since the epoch.
        anew: the time that an earlier request left to a container does not count any more (deletion).
    """
    actions: list[Action] = []
    later_alive = any(view.alive for view in views.mains)
    for view in (*views.mains, *views.ephemerals):
        actions += _stop(view, [stop, *([] if anew else _requested(view, pod))], now)
    for view in reversed(views.inits):
        requested = [] if anew else _requested(view, pod)
        turn = not (view.is_sidecar and later_alive) or bool(requested)
        actions += _stop(view, [stop, *requested], now, turn=turn)
        later_alive = later_alive or (view.is_sidecar and view.alive)
    return actions


def stop_requested(views: Views, pod: Pod, now: float) -> list[Action]:
    """Stop the containers that somebody or something wants stopped although the pod goes on."""
    actions: list[Action] = []
    for view in views.all:
        actions += _stop(view, _requested(view, pod), now)
    return actions


def kill_all(views: Views, restart: RestartAll, now: float) -> list[Action]:
    """Kill every container but the ephemeral ones: without a hook, a signal or time (S-RESTARTALL)."""
    stop = Stop(restart.at, 0.0, f"container {restart.container} exited with {restart.exit_code}: all are started anew")
    actions: list[Action] = []
    for view in (*views.mains, *reversed(views.inits)):
        actions += _stop(view, [stop], now)
    return actions


def _requested(view: View, pod: Pod) -> list[Stop]:
    request = view.ledger.stop
    if request is None:
        return []
    grace_s = grace_of(pod) if request.grace_s is None else request.grace_s
    return [Stop(request.at, grace_s, request.message)]


def _stop(view: View, stops: list[Stop], now: float, *, turn: bool = True) -> list[Action]:
    """What the most urgent of `stops` asks for now: announcement, preStop hook, turn, stop signal, SIGKILL; each once.

    `turn`: it need not wait for other containers any more.
    """
    instance = view.instance
    if instance is None or not instance.alive or not stops:
        return []
    first = min(stops, key=lambda stop: stop.since)
    actions: list[Action] = []
    if view.ledger.announced != instance.id:
        request = view.ledger.stop
        told = request is not None and request.cause is not StopCause.REQUEST and request.message
        message = told or f"Stopping container {view.name}"
        actions.append(AnnounceStop(f"container {view.name}: {first.reason}", view.name, instance.id, message))
    hurried = next((stop for stop in stops if stop.grace_s <= 0), None)
    if hurried is None and instance.stop_at is None:
        return actions + _before_signal(view, instance, stops, first, now, turn=turn)
    deadline, reason = now, ""
    if hurried is not None:
        reason = f"{hurried.reason}, no grace period"
    else:
        deadline, reason = min((_deadline(stop, instance, view.pre_stop, now), stop.reason) for stop in stops)
    if now < deadline:
        return [*actions, WakeAt(f"container {view.name}: grace period ends", deadline)]
    if instance.killed_at is not None:
        again = due(instance.killed_at, KILL_AGAIN_S, now)
        if now < again:
            return [*actions, WakeAt(f"container {view.name}: look whether it is dead", again)]
    if hurried is None:
        reason += ", grace period is over"
    return [*actions, KillContainer(f"container {view.name}: {reason}", view.name, instance.id)]


def _before_signal(
    view: View, instance: Instance, stops: list[Stop], first: Stop, now: float, *, turn: bool
) -> list[Action]:
    """The preStop hook, the wait for the turn, the stop signal: the first of them that is not done."""
    reason = f"container {view.name}: {first.reason}"
    hook = view.pre_stop
    if view.has_pre_stop and hook is None:
        return [RunHook(reason, view.name, instance.id, HookKind.PRE_STOP)]
    waiting_since = first.since
    if hook is not None:
        over_at = min(_hook_over(stop, hook, now) for stop in stops)
        if hook.finished_at is None and now < over_at:
            return [WakeAt(f"container {view.name}: time for its preStop hook ends", over_at)]
        waiting_since = over_at if hook.finished_at is None else hook.finished_at
    if not turn:
        left_s = min(stop.grace_s - _whole(waiting_since - stop.since) for stop in stops)
        over_at = due(waiting_since, max(0.0, left_s), now)
        if now < over_at:
            # The wait is part of the grace period: when that is over, the turn comes anyway.
            return [WakeAt(f"container {view.name}: its turn to stop", over_at)]
    return [SignalContainer(reason, view.name, instance.id, view.ledger.stop_signal)]


def _hook_over(stop: Stop, hook: HookRun, now: float) -> float:
    """When a preStop hook has had all its time. One that began late, as the server was gone, has a little at least."""
    return max(due(stop.since, stop.grace_s, now), due(hook.started_at, min(stop.grace_s, MINIMUM_GRACE_S), now))


def _whole(seconds: float) -> float:
    """The kubelet subtracts whole seconds only."""
    return float(int(max(0.0, seconds)))


def _deadline(stop: Stop, instance: Instance, hook: HookRun | None, now: float) -> float:
    """When the grace period of a container that got its stop signal is over.

    The time of its preStop hook and the wait for its turn are subtracted, and at least `MINIMUM_GRACE_S` remain.
    """
    assert instance.stop_at is not None
    waiting_since = stop.since
    if hook is not None:
        ended_at = instance.stop_at if hook.finished_at is None else min(hook.finished_at, instance.stop_at)
        waiting_since = max(stop.since, ended_at)
    left_s = stop.grace_s - _whole(waiting_since - stop.since) - _whole(instance.stop_at - waiting_since)
    return due(max(instance.stop_at, stop.since), max(MINIMUM_GRACE_S, left_s), now)
