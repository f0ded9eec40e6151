"""pod.json and ledger.json: the wish, and what must outlive shims and servers."""

from __future__ import annotations

from typing import Any

import msgspec

from nsrun.errors import InternalError
from nsrun.reconcile.model import ContainerLedger, Deletion, Waiting
from nsrun.state.files import read_or_none, write_atomic
from nsrun.state.layout import PodPaths

EVENTS_KEPT = 64
"""Events kept per pod; the oldest go first."""


class Wish(msgspec.Struct, kw_only=True, omit_defaults=True):
    """pod.json. `object` is the Pod as builtins, after defaulting; its metadata has the deletionTimestamp.

    `deletion` has the exact time and grace period of it; `options` is what `pod up` was told.
    """

    object: dict[str, Any]
    options: dict[str, Any] = msgspec.field(default_factory=dict)
    deletion: Deletion | None = None


class EventRecord(msgspec.Struct, kw_only=True, omit_defaults=True):
    """One event of a pod: times in seconds since the epoch, `field_path` like `spec.containers{web}`."""

    id: str
    type: str
    reason: str
    message: str
    first_at: float
    last_at: float
    count: int = 1
    field_path: str = ""


class Ledger(msgspec.Struct, kw_only=True, omit_defaults=True):
    """ledger.json.

    `sandbox_attempt` is the number of the newest sandbox that was begun, at `sandbox_created_at`; `sandbox_ready` says that
    it was finished. `terminal`: a terminal phase was published. `status` is the last published status, kept for its
    transition times and its terminal phase.
    """

    version: int = 1
    start_time: float | None = None
    sandbox_attempt: int = -1
    sandbox_created_at: float | None = None
    sandbox_ready: bool = False
    sandbox_waiting: Waiting | None = None
    ips: tuple[str, ...] = ()
    terminal: bool = False
    containers: dict[str, ContainerLedger] = msgspec.field(default_factory=dict)
    events: list[EventRecord] = msgspec.field(default_factory=list)
    status: dict[str, Any] = msgspec.field(default_factory=dict)


_WISH = msgspec.json.Decoder(Wish)
_LEDGER = msgspec.json.Decoder(Ledger)
_ENCODER = msgspec.json.Encoder()


def read_wish(paths: PodPaths) -> Wish | None:
    """The wish, or None when the pod does not exist.

    Raises:
        InternalError: the file is not what nsrun writes.
    """
    data = read_or_none(paths.wish)
    if data is None:
        return None
    try:
        return _WISH.decode(data)
    except msgspec.MsgspecError as error:
        raise InternalError(
            f"{paths.wish} cannot be read: {error}",
            details="Only nsrun writes this file.",
            resolution=f"Look at the file; removing {paths.directory} removes the pod.",
        ) from error


def write_wish(paths: PodPaths, wish: Wish) -> None:
    """Replace the wish. Raises OSError; then the old one is still there."""
    write_atomic(paths.wish, _ENCODER.encode(wish))


def read_ledger(paths: PodPaths) -> Ledger:
    """The ledger; an empty one when there is none yet.

    Raises:
        InternalError: the file is not what nsrun writes.
    """
    data = read_or_none(paths.ledger)
    if data is None:
        return Ledger()
    try:
        return _LEDGER.decode(data)
    except msgspec.MsgspecError as error:
        raise InternalError(
            f"{paths.ledger} cannot be read: {error}",
            details="Only nsrun writes this file.",
            resolution=f"Removing {paths.ledger} forgets restart counts and events of the pod, nothing else.",
        ) from error


def write_ledger(paths: PodPaths, ledger: Ledger) -> None:
    """Replace the ledger. Raises OSError; then the old one is still there."""
    write_atomic(paths.ledger, _ENCODER.encode(ledger))
