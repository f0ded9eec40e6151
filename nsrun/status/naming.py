"""What a pod is found by: pure."""

from __future__ import annotations

from collections.abc import Sequence

from nsrun.plan.files import names_of
from nsrun.spec.model import Pod, PodStatus

Entry = list[object]
"""Name, namespace, addresses, host name, subdomain, whether it is listed below that: what the resolver reads of a pod."""


def naming(pod: Pod, status: PodStatus, addresses: Sequence[str], *, deleting: bool) -> Entry | None:
    """The pod's entry; None while it has no address.

    Below its subdomain only a pod that is ready is listed, as in the EndpointSlices of a headless Service, of which a cluster makes those
    names (Kubernetes staging/src/k8s.io/endpointslice). By its own name it is found from the first moment.
    """
    if pod.spec.hostNetwork:
        addresses = [one.ip for one in status.podIPs if one.ip]
    if not addresses:
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
