"""pod.json and ledger.json: the wish, and what must outlive shims and servers."""

from __future__ import annotations

import os
from typing import Any

import msgspec

from nsrun.errors import InternalError
from nsrun.reconcile.model import ContainerLedger, Deletion, PodFailure, RestartAll, Waiting
from nsrun.reconcile.resizing import Resize
from nsrun.spec.model import Pod, PodStatus
from nsrun.state.files import read_or_none, write_atomic
from nsrun.state.layout import PodPaths
from nsrun.status.events import Event


class Wish(msgspec.Struct, kw_only=True, omit_defaults=True):
    """pod.json. `object` is the Pod after defaulting, without status; its metadata has the deletionTimestamp.

    `deletion` has the exact time and grace period of it; `options` is what `pod up` was told. `changed` has the
    number of the first instance of a container's present definition: one that was begun before it is started anew.
    `resize`: amounts in `object` that containers do not have yet.
    """

    object: Pod
    options: dict[str, Any] = msgspec.field(default_factory=dict)
    deletion: Deletion | None = None
    changed: dict[str, int] = msgspec.field(default_factory=dict)
    resize: Resize | None = None


class Ledger(msgspec.Struct, kw_only=True, omit_defaults=True):
    """ledger.json.

    `sandbox_attempt` is the number of the newest sandbox that was begun, at `sandbox_created_at`; `sandbox_ready` says that
    it was finished. `failure`: the pod has failed as a whole. `restart_all`: all containers are being stopped to be
    started anew. `terminal`: a terminal phase was published. `volume_images`: the ids of the images that image volumes
    are, by their names. `status` is the last published status, kept for its transition times and its terminal phase.
    """

    version: int = 1
    start_time: float | None = None
    sandbox_attempt: int = -1
    sandbox_created_at: float | None = None
    sandbox_ready: bool = False
    sandbox_waiting: Waiting | None = None
    ips: tuple[str, ...] = ()
    failure: PodFailure | None = None
    restart_all: RestartAll | None = None
    terminal: bool = False
    containers: dict[str, ContainerLedger] = msgspec.field(default_factory=dict)
    volume_images: dict[str, str] = msgspec.field(default_factory=dict)
    events: list[Event] = msgspec.field(default_factory=list)
    status: PodStatus = msgspec.field(default_factory=PodStatus)


_MARK = "deletion"
"""Prefix of an empty file that holds a deletion in its name, for a disk too full to replace the wish."""

_WISH = msgspec.json.Decoder(Wish)
_LEDGER = msgspec.json.Decoder(Ledger)
_ENCODER = msgspec.json.Encoder()
_UNREADABLE = (msgspec.MsgspecError, UnicodeDecodeError, RecursionError)
"""What the decoder raises: bytes that are not UTF-8 within a string are no MsgspecError."""


def read_wish(paths: PodPaths) -> Wish | None:
    """The wish, or None when the pod does not exist.

    Raises:
        InternalError: the file is not what nsrun writes.
    """
    data = read_or_none(paths.wish)
    if data is None:
        return None
    try:
        wish = _WISH.decode(data)
    except _UNREADABLE as error:
        raise InternalError(
            f"{paths.wish} cannot be read: {error}",
            details="Only nsrun writes this file.",
            resolution=f"Look at the file; removing {paths.wish} removes the pod.",
        ) from error
    for name in os.listdir(paths.directory):
        word, _, rest = name.partition("@")
        if word == _MARK:
            requested_at, _, grace_s = rest.partition("+")
            try:
                marked = Deletion(float(requested_at), float(grace_s))
            except ValueError:
                continue  # nothing that nsrun wrote
            if wish.deletion is None or marked.requested_at > wish.deletion.requested_at:
                wish.deletion = marked
    return wish


def write_wish(paths: PodPaths, wish: Wish) -> None:
    """Replace the wish. Raises OSError; then the old one is still there."""
    write_atomic(paths.wish, _ENCODER.encode(wish))


def write_deletion(paths: PodPaths, wish: Wish) -> None:
    """Persist that the pod is to go. A full disk cannot prevent it: an empty file, whose name tells all, needs no block.

    Raises:
        OSError: neither way worked.
    """
    assert wish.deletion is not None
    try:
        write_wish(paths, wish)
    except OSError:
        deletion = wish.deletion
        mark = paths.directory / f"{_MARK}@{deletion.requested_at!r}+{deletion.grace_s!r}"
        os.close(os.open(mark, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600))


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
    except _UNREADABLE as error:
        raise InternalError(
            f"{paths.ledger} cannot be read: {error}",
            details="Only nsrun writes this file.",
            resolution=f"Removing {paths.ledger} forgets restart counts and events of the pod, nothing else.",
        ) from error


def write_ledger(paths: PodPaths, ledger: Ledger) -> None:
    """Replace the ledger. Raises OSError; then the old one is still there."""
    write_atomic(paths.ledger, _ENCODER.encode(ledger))
