"""The requests `pod.up` and `pod.down`, for the library and for commands that do without the rest of it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal

from nsrun.client.manifests import Document
from nsrun.client.session import Call, Session
from nsrun.client.wire import Message
from nsrun.errors import UsageError

Wait = Literal["none", "running", "ready"]
"""What `pod up` waits for."""
Progress = Callable[[dict[str, Any]], None]
"""Is called with each event on the way."""


def check_time_scale(scale: object) -> None:
    """Whether it is one; how far it may go the server says. None is: nobody wants another.

    Raises:
        UsageError: it is no number above 0.
    """
    number = isinstance(scale, int | float) and not isinstance(scale, bool) and 0 < scale < float("inf")
    if scale is not None and not number:
        raise UsageError(f"the time scale must be a number above 0, and it is {scale!r}")


def up(
    session: Session,
    documents: list[Document],
    *,
    namespace: str | None = None,
    replace: bool = False,
    ignore_unsupported: bool = False,
    time_scale: float | None = None,
    wait: Wait = "running",
    timeout: float | None = None,
    on_progress: Progress | None = None,
    call: Call | None = None,
) -> Message:
    """The request `pod.up`; see nsrun.Client.up.

    Raises:
        UsageError: the time scale is none.
    """
    check_time_scale(time_scale)
    return session.request(
        "pod.up",
        {
            "documents": documents,
            "namespace": namespace,
            "replace": replace,
            "ignore_unsupported": ignore_unsupported,
            "time_scale": time_scale,
            "wait": wait,
            "timeout_s": timeout,
        },
        on_event=None if on_progress is None else lambda event, _fds: on_progress(event),
        call=call,
    ).result


def down(
    session: Session,
    which: Message,
    *,
    grace_period: float | None = None,
    force: bool = False,
    missing_ok: bool = False,
    wait: bool = True,
    timeout: float | None = None,
    on_progress: Progress | None = None,
    call: Call | None = None,
) -> Message:
    """The request `pod.down`. Repeated after a server's death, a pod that is gone meanwhile is what was asked for."""
    return session.request(
        "pod.down",
        {
            **which,
            "grace_period_s": grace_period,
            "force": force,
            "wait": wait,
            "timeout_s": timeout,
            "missing_ok": missing_ok,
        },
        on_event=None if on_progress is None else lambda event, _fds: on_progress(event),
        changed_for_repeat=lambda params: {**params, "missing_ok": True},
        call=call,
    ).result
