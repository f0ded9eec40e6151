"""The variables that tell a container of the Services in its namespace (S-ENV).

Source: kubernetes pkg/kubelet/envvars/envvars.go FromServices, pkg/kubelet/kubelet_pods.go getServiceEnvVarMap (v1.36).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class ServicePort:
    """A port of a Service: its name, or "", its number, and `TCP`, `UDP` or `SCTP`."""

    name: str
    number: int
    protocol: str


@dataclass(frozen=True, slots=True)
class ServiceAddress:
    """What containers are told of a Service: its name, its address, and its ports in their order."""

    name: str
    address: str
    ports: Sequence[ServicePort]


def service_variables(services: Iterable[ServiceAddress]) -> dict[str, str]:
    """The variables of these Services; one without an address or a port has none."""
    result: dict[str, str] = {}
    for service in services:
        if not service.address or not service.ports:
            continue
        prefix = _name(service.name)
        result[f"{prefix}_SERVICE_HOST"] = service.address
        result[f"{prefix}_SERVICE_PORT"] = str(service.ports[0].number)
        for port in service.ports:
            if port.name:
                result[f"{prefix}_SERVICE_PORT_{_name(port.name)}"] = str(port.number)
        host = f"[{service.address}]" if ":" in service.address else service.address
        for index, port in enumerate(service.ports):
            protocol = port.protocol or "TCP"
            url = f"{protocol.lower()}://{host}:{port.number}"
            if index == 0:
                result[f"{prefix}_PORT"] = url
            here = f"{prefix}_PORT_{port.number}_{protocol.upper()}"
            result |= {
                here: url,
                f"{here}_PROTO": protocol.lower(),
                f"{here}_PORT": str(port.number),
                f"{here}_ADDR": service.address,
            }
    return result


def _name(text: str) -> str:
    return text.replace("-", "_").upper()
