"""What pods and Services are found by: pure."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from nsrun.plan.files import names_of
from nsrun.spec.model import Pod, PodStatus

if TYPE_CHECKING:
    # With the first Service: their types are not needed before.
    from nsrun.spec.model_kinds import Service

Entry = list[object]
"""Name, namespace, addresses, host name, subdomain, whether it is listed below that: what the resolver reads of a pod."""


def naming(pod: Pod, status: PodStatus, addresses: Sequence[str], *, deleting: bool) -> Entry | None:
    """The pod's entry; None while it has no address, and when it has ended.

    Below its subdomain only a pod that is ready is listed, as in the EndpointSlices of a headless Service, of which a cluster makes those
    names (Kubernetes staging/src/k8s.io/endpointslice). By its own name it is found from the first moment.
    """
    if pod.spec.hostNetwork:
        addresses = [one.ip for one in status.podIPs if one.ip]
    if not addresses or status.phase in ("Succeeded", "Failed"):
        return None
    ready = any(one.type == "Ready" and one.status == "True" for one in status.conditions)
    hostname, _ = names_of(pod)
    return [
        pod.metadata.name or "",
        pod.metadata.namespace or "default",
        list(addresses),
        hostname,
        pod.spec.subdomain or "",
        ready and not deleting,
    ]


def service_naming(service: Service, pods: Iterable[tuple[Pod, Entry]]) -> Entry | None:
    """A Service's entry: namespace, name, own address, endpoints (name, addresses), ports (name, protocol, number).

    There is nothing here that would carry packets for a Service's own address: each Service is answered as a headless one is in a
    cluster, by the addresses of its pods. One without a selector has its own address, if any. (Kubernetes DNS specification; who is an
    endpoint, and by which name: staging/src/k8s.io/endpointslice.)

    Args:
        service: it.
        pods: those that have an address, with what `naming` says of them.

    Returns:
        None for what has no addresses by nature (ExternalName).
    """
    spec = service.spec
    if spec.type == "ExternalName":
        return None
    endpoints: list[list[object]] = []
    ports: dict[tuple[str, str], int] = {}
    for pod, entry in pods if spec.selector else ():
        labels = pod.metadata.labels
        if entry[1] != service.metadata.namespace or any(
            labels.get(key) != value for key, value in spec.selector.items()
        ):
            continue
        for port in spec.ports:
            if port.name:
                ports.setdefault(
                    (port.name, (port.protocol or "TCP").lower()), _number(port.targetPort or port.port, pod, port.port)
                )
        if not (entry[5] or spec.publishNotReadyAddresses):
            continue
        named = pod.spec.hostname if pod.spec.subdomain == service.metadata.name else None
        addresses = entry[2]
        assert isinstance(addresses, list)
        endpoints.append([named or _dashed(addresses[0]), addresses])
    own = "" if spec.selector or spec.clusterIP in (None, "None") else spec.clusterIP
    listed = [[name, protocol, number] for (name, protocol), number in ports.items()]
    return [service.metadata.namespace or "default", service.metadata.name or "", own, endpoints, listed]


def _dashed(address: str) -> str:
    return str(ipaddress.ip_address(address)).replace(".", "-").replace(":", "-")


def _number(target: int | str, pod: Pod, otherwise: int) -> int:
    """The port of a pod that a Service means."""
    if isinstance(target, int):
        return target
    found = (port.containerPort for one in pod.spec.containers for port in one.ports if port.name == target)
    return next(found, otherwise)
