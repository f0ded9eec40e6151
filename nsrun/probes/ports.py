"""Ports by number or name (Kubernetes pkg/probe/util.go)."""

from __future__ import annotations

from nsrun.probes.outcome import ProbeError
from nsrun.probes.wording import quoted
from nsrun.spec.model import Container


def resolve_port(port: int | str, container: Container) -> int:
    """The number of a port that a probe or a hook names.

    Raises:
        ProbeError: the container has no port of that name, or it is no port.
    """
    if isinstance(port, str):
        for one in container.ports:
            if one.name == port:
                port = one.containerPort
                break
        else:
            raise ProbeError(f"port {quoted(port)} not found")
    if not 0 < port < 65536:
        raise ProbeError(f"invalid port number: {port}")
    return port
