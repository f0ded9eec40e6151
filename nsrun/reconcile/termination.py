"""Stopping containers: the stop signal, the grace period, SIGKILL, and whose turn it is (S-TERM, S-SIDECAR).

Source: kubelet pkg/kubelet/kuberuntime/kuberuntime_container.go killContainer, kuberuntime_termination_order.go,
kuberuntime_manager.go minimumGracePeriodInSeconds. All times are seconds.
"""

from __future__ import annotations

import signal
from dataclasses import dataclass, replace

from nsrun.reconcile.backoff import due
from nsrun.reconcile.model import Action, Deletion, Instance, KillContainer, SignalContainer, WakeAt
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


def stop_all(views: Views, stop: Stop, pod: Pod, now: float) -> list[Action]:
    """Stop every container: mains and inits at once, each sidecar when all mains and all later sidecars are gone."""
    actions: list[Action] = []
    later_alive = any(view.alive for view in views.mains)
    for view in views.mains:
        actions += _stop(view, [stop, *_requested(view, pod)], now)
    for view in reversed(views.inits):
        stops = _requested(view, pod)
        over_at = due(stop.since, stop.grace_s, now)
        if not view.is_sidecar or not later_alive or now >= over_at:
            stops.append(stop)
        elif view.alive:
            # The wait is part of the grace period: when that is over, the turn comes anyway.
            actions.append(WakeAt(f"container {view.name}: its turn to stop", over_at))
        actions += _stop(view, stops, now)
        later_alive = later_alive or (view.is_sidecar and view.alive)
    return actions


def stop_requested(views: Views, pod: Pod, now: float) -> list[Action]:
    """Stop the containers that somebody wants restarted."""
    actions: list[Action] = []
    for view in views.all:
        actions += _stop(view, _requested(view, pod), now)
    return actions


def _requested(view: View, pod: Pod) -> list[Stop]:
    request = view.ledger.stop
    if request is None:
        return []
    grace_s = grace_of(pod) if request.grace_s is None else request.grace_s
    return [Stop(request.at, grace_s, request.message)]


def _stop(view: View, stops: list[Stop], now: float) -> list[Action]:
    """What the most urgent of `stops` asks for now. The signal is sent once for all of them."""
    instance = view.instance
    if instance is None or not instance.alive or not stops:
        return []
    first = min(stops, key=lambda stop: stop.since)
    hurried = next((stop for stop in stops if stop.grace_s <= 0), None)
    if hurried is None and not _signalled(instance, view.ledger.stop_signal, first.since):
        reason = f"container {view.name}: {first.reason}"
        return [SignalContainer(reason, view.name, instance.id, view.ledger.stop_signal)]
    deadline, reason = now, ""
    if hurried is not None:
        reason = f"{hurried.reason}, no grace period"
    else:
        assert instance.stop_at is not None
        deadline, reason = min((_deadline(stop, instance.stop_at, now), stop.reason) for stop in stops)
    if now < deadline:
        return [WakeAt(f"container {view.name}: grace period ends", deadline)]
    if instance.killed_at is not None:
        again = due(instance.killed_at, KILL_AGAIN_S, now)
        if now < again:
            return [WakeAt(f"container {view.name}: look whether it is dead", again)]
    if hurried is None:
        reason += ", grace period is over"
    return [KillContainer(f"container {view.name}: {reason}", view.name, instance.id)]


def _signalled(instance: Instance, stop_signal: int, since: float) -> bool:
    """Whether it got its stop signal. What it got earlier, or another signal, was somebody else's wish (`pod kill`)."""
    if instance.stop_at is None or instance.stop_at < since:
        return False
    return instance.stop_signal in (stop_signal, signal.SIGKILL)


def _deadline(stop: Stop, stop_at: float, now: float) -> float:
    """When the grace period of a container that got its stop signal at `stop_at` is over.

    Time spent waiting for the turn is subtracted, and at least `MINIMUM_GRACE_S` remain.
    """
    waited_s = max(0.0, stop_at - stop.since)
    return due(max(stop_at, stop.since), max(MINIMUM_GRACE_S, stop.grace_s - waited_s), now)
