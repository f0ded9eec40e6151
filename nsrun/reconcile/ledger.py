"""What is remembered of a container, as a pure function of the instances that were seen of it.

The shim writes the record of an instance before its process exists, so everything here can be derived again from records
after the server was killed between starting a container and storing the ledger. Hence: nothing has to be stored before
a start; the ledger has to be stored before a record is removed. All functions may be applied again and again.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import msgspec

from nsrun.reconcile.backoff import RESET_S, next_delay
from nsrun.reconcile.model import ContainerLedger, Instance, InstanceState, Observed, SandboxState

LOST_EXIT_CODE = 137
LOST_REASON = "ContainerStatusUnknown"
LOST_MESSAGE = "The shim of the pod ended and took the container along; how the container ended is not known"
START_ERROR_EXIT_CODE = 128
START_ERROR_REASON = "StartError"


def begin(ledger: ContainerLedger, attempt: int, at: float | None) -> ContainerLedger:
    """Note that instance number `attempt` was begun at `at` (seconds since the epoch, None = not known yet).

    The back-off moves one step on (S-BACKOFF) when the container has run before and nobody asked for this restart.
    """
    if attempt < ledger.starts:
        return ledger
    restarted = ledger.last is not None and ledger.stop_requested_at is None
    return replace(
        ledger,
        starts=attempt + 1,
        restart_count=attempt,
        backoff_s=next_delay(ledger.backoff_s) if restarted else ledger.backoff_s,
        last_start_at=at,
        waiting=None,
        stop_requested_at=None,
        stop_grace_s=None,
        stop_reason="",
    )


def fold(ledger: ContainerLedger, instance: Instance) -> ContainerLedger:
    """Note what is seen of `instance`: that it was begun, when it started and, when it is dead, how it ended.

    An instance that the ledger knows already, or knows a successor of, changes nothing.
    """
    seen_at = instance.started_at if instance.started_at is not None else instance.finished_at
    ledger = begin(ledger, instance.attempt, seen_at)
    if instance.attempt == ledger.starts - 1 and ledger.last_start_at is None and seen_at is not None:
        ledger = replace(ledger, last_start_at=seen_at)
    if instance.alive or (ledger.last is not None and instance.attempt <= ledger.last.attempt):
        return ledger
    dead = complete(instance, ledger)
    # A command that never ran has no start; its end is as good, and never more than 600 s after it.
    started_at = ledger.last_start_at if instance.attempt == ledger.starts - 1 else instance.started_at
    lived_s = 0.0 if started_at is None or dead.finished_at is None else dead.finished_at - started_at
    return replace(
        ledger,
        last=dead,
        previous=ledger.last,
        backoff_s=0.0 if lived_s > RESET_S else ledger.backoff_s,
    )


def complete(instance: Instance, ledger: ContainerLedger) -> Instance:
    """A dead instance with exit code, reason and image filled in (S-REASONS)."""
    code = instance.exit_code
    if code is None:
        code = START_ERROR_EXIT_CODE if instance.state is InstanceState.START_FAILED else LOST_EXIT_CODE
    reason, message = instance.reason, instance.message
    if reason is None:
        if instance.state is InstanceState.START_FAILED:
            reason = START_ERROR_REASON
        elif instance.state is InstanceState.LOST:
            reason, message = LOST_REASON, message or LOST_MESSAGE
        else:
            reason = "Completed" if code == 0 else "Error"
    return replace(
        instance, exit_code=code, reason=reason, message=message, image_id=instance.image_id or ledger.image_id
    )


def settle(observed: Observed, now: float) -> Observed:
    """The same observation with all that follows from it.

    Without a living shim nothing lives: such instances become LOST, ended at `now` unless the ledger already says when.
    Every instance is folded into its container's ledger. Store the ledgers of the result when they differ.
    """
    lost = observed.sandbox.state is not SandboxState.READY
    ledgers = dict(observed.ledgers)
    current: dict[str, Instance] = {}
    by_attempt = sorted((*observed.older, *observed.current.values()), key=lambda instance: instance.attempt)
    older: list[Instance] = []
    for seen in by_attempt:
        instance = seen
        if instance.alive and lost:
            instance = replace(instance, state=InstanceState.LOST)
        if not instance.alive and instance.finished_at is None:
            instance = replace(instance, finished_at=now)
        ledger = fold(ledgers.get(seen.name, ContainerLedger()), instance)
        if ledger.last is not None and ledger.last.id == instance.id:
            # What was noted first stays: a lost container ended when that was noticed.
            instance = ledger.last
        ledgers[seen.name] = ledger
        if observed.current.get(seen.name) is seen:
            current[seen.name] = instance
        else:
            older.append(instance)
    return replace(observed, current=current, older=tuple(older), ledgers=ledgers)


def request_restart(
    ledger: ContainerLedger, now: float, grace_s: float | None = None, reason: str = "pod restart"
) -> ContainerLedger:
    """Ask that the container is stopped and started again, whatever its policy. Settle before, so that it is this instance.

    Asking again before it has happened can only shorten the time that it has.
    """
    if ledger.stop_requested_at is None:
        return replace(ledger, stop_requested_at=now, stop_grace_s=grace_s, stop_reason=reason)
    graces = [grace for grace in (ledger.stop_grace_s, grace_s) if grace is not None]
    return replace(ledger, stop_grace_s=min(graces, default=None))


def instance_to_data(instance: Instance) -> dict[str, Any]:
    """As plain data that JSON can carry."""
    data: dict[str, Any] = msgspec.to_builtins(instance)
    return data


def instance_from_data(data: Mapping[str, Any]) -> Instance:
    """The reverse of `instance_to_data`. Raises msgspec.ValidationError."""
    return msgspec.convert(data, Instance)


def to_data(ledger: ContainerLedger) -> dict[str, Any]:
    """As plain data that JSON can carry."""
    data: dict[str, Any] = msgspec.to_builtins(ledger)
    return data


def from_data(data: Mapping[str, Any]) -> ContainerLedger:
    """The reverse of `to_data`. Raises msgspec.ValidationError."""
    return msgspec.convert(data, ContainerLedger)
