"""Requests about pods, for the library and for commands that do without the rest of it."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping, Sequence
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


def wait(
    session: Session,
    names: Sequence[str],
    namespace: str | None,
    condition: str,
    timeout: float | None,
    *,
    every: bool = False,
    labels: str | None = None,
    fields: str | None = None,
    on_met: Callable[[str], None] | None = None,
    call: Call | None = None,
) -> None:
    """The request `pod.wait`.

    Args:
        session: to the server.
        names: of pods; none with `every`.
        namespace: of the pods.
        condition: in the words of `kubectl wait --for`.
        timeout: seconds for all of them together; 0 looks once.
        every: all pods of the namespace.
        labels, fields: selectors of pods in the namespace, instead of names.
        on_met: called once with the name of each pod that has come to it.
        call: lets another thread cancel.
    """
    left, met = list(names), set[str]()

    def reached(event: Message, _fds: list[int]) -> None:
        name = str(event["met"])
        if name not in met:
            met.add(name)
            if on_met is not None:
                on_met(name)

    def again(params: Message) -> Message:
        still = [name for name in left if name not in met]
        if left and not still:
            raise _AllMet
        return {**params, "names": still}

    params = {"names": left, "all": every, "namespace": namespace, "for": condition, "timeout_s": timeout}
    params |= {"labels": labels, "fields": fields}
    with contextlib.suppress(_AllMet):
        session.request("pod.wait", params, on_event=reached, changed_for_repeat=again, call=call)


class _AllMet(Exception):  # noqa: N818 - no error
    """Nothing is left to wait for."""


def restart(
    session: Session, name: str, namespace: str | None, containers: Sequence[str], grace_period: float | None
) -> None:
    """The request `pod.restart`; never repeated, for that would restart twice."""
    session.request(
        "pod.restart",
        {"name": name, "namespace": namespace, "containers": list(containers), "grace_period_s": grace_period},
        repeat=False,
    )


def kill(session: Session, name: str, namespace: str | None, containers: Sequence[str], signal: str) -> None:
    """The request `pod.kill`; never repeated."""
    session.request(
        "pod.kill",
        {"name": name, "namespace": namespace, "containers": list(containers), "signal": signal},
        repeat=False,
    )


def condition(
    session: Session,
    name: str,
    namespace: str | None,
    conditions: Mapping[str, str | None],
    reason: str | None = None,
    message: str | None = None,
) -> None:
    """The request `pod.condition`."""
    params = {"name": name, "namespace": namespace, "conditions": dict(conditions)}
    session.request("pod.condition", {**params, "reason": reason, "message": message})
