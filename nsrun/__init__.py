"""nsrun: Kubernetes Pods on one Linux machine, without Kubernetes.

    import nsrun

    with nsrun.connect() as client:                 # the machine's server, started when there is none
        with client.up("pod.yaml") as pod:
            pod.wait_ready(timeout=30)
            print(pod.exec(["uname", "-n"]).text)

    with nsrun.Engine() as engine:                  # a server of one's own, gone with this process
        ...

    async with await nsrun.aconnect() as client:    # the same with await
        ...

Names are imported when they are first used: `import nsrun` itself costs next to nothing.
"""

from __future__ import annotations

from nsrun._version import __version__

TYPE_CHECKING = False  # typing itself costs more than all of this
if TYPE_CHECKING:
    from nsrun.client.aio import AsyncClient, AsyncPod, aconnect
    from nsrun.client.crilog import LogLine
    from nsrun.client.engine import Engine
    from nsrun.client.execute import CommandNotStartedError
    from nsrun.client.library import Client, WatchEvent, connect
    from nsrun.client.pod import CommandFailedError, ExecResult, Pod
    from nsrun.errors import (
        ConflictError,
        InternalError,
        NotFoundError,
        NsrunError,
        PermissionDeniedError,
        PodFailedError,
        ServerError,
        SpecError,
        StepError,
        TimedOutError,
        UnsupportedError,
        UsageError,
    )

__all__ = [
    "AsyncClient",
    "AsyncPod",
    "Client",
    "CommandFailedError",
    "CommandNotStartedError",
    "ConflictError",
    "Engine",
    "ExecResult",
    "InternalError",
    "LogLine",
    "NotFoundError",
    "NsrunError",
    "PermissionDeniedError",
    "Pod",
    "PodFailedError",
    "ServerError",
    "SpecError",
    "StepError",
    "TimedOutError",
    "UnsupportedError",
    "UsageError",
    "WatchEvent",
    "__version__",
    "aconnect",
    "connect",
]

_HOMES = {
    "nsrun.client.aio": ("AsyncClient", "AsyncPod", "aconnect"),
    "nsrun.client.crilog": ("LogLine",),
    "nsrun.client.engine": ("Engine",),
    "nsrun.client.execute": ("CommandNotStartedError",),
    "nsrun.client.library": ("Client", "WatchEvent", "connect"),
    "nsrun.client.pod": ("CommandFailedError", "ExecResult", "Pod"),
}


def __getattr__(name: str) -> object:
    """Import a public name at its first use (PEP 562)."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    home = next((module for module, names in _HOMES.items() if name in names), "nsrun.errors")
    value = getattr(import_module(home), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
