"""Services: what the API server fills in, objects to, and does not let change.

Source: kubernetes pkg/apis/core/v1/defaults.go SetDefaults_Service, pkg/apis/core/validation/validation.go ValidateService,
pkg/registry/core/service/strategy.go, storage/alloc.go (v1.36).
"""

from __future__ import annotations

import hashlib
import ipaddress
from collections.abc import Collection

from nsrun.spec import names
from nsrun.spec.field_errors import Errors
from nsrun.spec.model_kinds import Service
from nsrun.spec.validate_meta import label_map

NONE = "None"
"""The address of a Service that has none of its own."""
EXTERNAL_NAME = "ExternalName"
TYPES = ("ClusterIP", "ExternalName", "LoadBalancer", "NodePort")
NODE_PORTS = (30000, 32767)
_PROTOCOLS = ("SCTP", "TCP", "UDP")
_WITH_NODE_PORTS = ("NodePort", "LoadBalancer")


def default_service(service: Service) -> None:
    """Fill in what the API server fills in, but addresses."""
    spec = service.spec
    spec.sessionAffinity = spec.sessionAffinity or NONE
    spec.type = spec.type or "ClusterIP"
    for port in spec.ports:
        port.protocol = port.protocol or "TCP"
        if port.targetPort in (0, ""):
            port.targetPort = port.port
    if spec.type in _WITH_NODE_PORTS:
        spec.externalTrafficPolicy = spec.externalTrafficPolicy or "Cluster"
    if spec.type != EXTERNAL_NAME:
        spec.internalTrafficPolicy = spec.internalTrafficPolicy or "Cluster"
    if spec.type == "LoadBalancer" and spec.allocateLoadBalancerNodePorts is None:
        spec.allocateLoadBalancerNodePorts = True
    if spec.clusterIP and not spec.clusterIPs:
        spec.clusterIPs = [spec.clusterIP]
    elif spec.clusterIPs and not spec.clusterIP:
        spec.clusterIP = spec.clusterIPs[0]


def wants_address(service: Service) -> bool:
    """Whether an address is to be found for it."""
    return service.spec.type != EXTERNAL_NAME and not service.spec.clusterIP


def give_address(service: Service, space: ipaddress.IPv4Network, taken: Collection[str]) -> bool:
    """Give a Service an address and what goes with it; False when none is left.

    The address follows from the Service's name as long as nobody has it: it is the same for the same manifests.
    """
    spec = service.spec
    if wants_address(service):
        seed = f"{service.metadata.namespace}/{service.metadata.name}".encode()
        # Neither the network's own address, nor the first one, which is the API server's, nor the last.
        count = space.num_addresses - 3
        start = int.from_bytes(hashlib.sha256(seed).digest()[:4]) % count
        for step in range(count):
            address = str(space.network_address + 2 + (start + step) % count)
            if address not in taken:
                spec.clusterIP, spec.clusterIPs = address, [address]
                break
        else:
            return False
    if spec.type != EXTERNAL_NAME:
        spec.ipFamilies = spec.ipFamilies or ["IPv6" if ":" in (spec.clusterIP or "") else "IPv4"]
        spec.ipFamilyPolicy = spec.ipFamilyPolicy or "SingleStack"
    return True


def give_node_ports(service: Service, taken: Collection[int]) -> bool:
    """Give a Service the ports of the machine that its type has; False when none is left."""
    if service.spec.type not in _WITH_NODE_PORTS or service.spec.allocateLoadBalancerNodePorts is False:
        return True
    used = {*taken, *(port.nodePort for port in service.spec.ports if port.nodePort)}
    low, high = NODE_PORTS
    for index, port in enumerate(service.spec.ports):
        if port.nodePort:
            continue
        seed = f"{service.metadata.namespace}/{service.metadata.name}/{index}".encode()
        count = high - low + 1
        start = int.from_bytes(hashlib.sha256(seed).digest()[:4]) % count
        port.nodePort = next(
            (low + (start + step) % count for step in range(count) if low + (start + step) % count not in used), None
        )
        if port.nodePort is None:
            return False
        used.add(port.nodePort)
    return True


def keep_address(old: Service, new: Service) -> None:
    """Have an update that leaves the address out keep the one there is (storage: patchAllocatedValues)."""
    if old.spec.type == EXTERNAL_NAME or new.spec.type == EXTERNAL_NAME:
        return
    if not new.spec.clusterIP:
        new.spec.clusterIP, new.spec.clusterIPs = old.spec.clusterIP, list(old.spec.clusterIPs)
    new.spec.ipFamilies = new.spec.ipFamilies or list(old.spec.ipFamilies)
    new.spec.ipFamilyPolicy = new.spec.ipFamilyPolicy or old.spec.ipFamilyPolicy
    known = {(port.name, port.protocol, port.port): port.nodePort for port in old.spec.ports}
    if new.spec.type in _WITH_NODE_PORTS:
        for port in new.spec.ports:
            port.nodePort = port.nodePort or known.get((port.name, port.protocol, port.port))


def check_service(service: Service, errors: Errors) -> None:
    """Add the objections to a Service; the metadata is judged elsewhere."""
    spec = service.spec
    if spec.type not in TYPES:
        errors.unsupported("spec.type", spec.type, TYPES)
    headless = spec.clusterIP == NONE
    if not spec.ports and not headless and spec.type != EXTERNAL_NAME:
        errors.required("spec.ports")
    if spec.type == EXTERNAL_NAME:
        if spec.clusterIP:
            errors.forbidden("spec.clusterIPs", "may not be set for ExternalName services")
        if not spec.externalName:
            errors.required("spec.externalName")
        else:
            errors.each("spec.externalName", spec.externalName, names.subdomain(spec.externalName.rstrip(".")))
    elif spec.type != "ClusterIP" and headless:
        text = (
            "may not be set to 'None' for LoadBalancer services"
            if spec.type == "LoadBalancer"
            else "may not be set to 'None' for NodePort services"
        )
        errors.invalid("spec.clusterIPs[0]", NONE, text)
    _ports(service, errors)
    label_map(spec.selector, errors, "spec.selector")
    if spec.sessionAffinity not in ("ClientIP", NONE):
        errors.unsupported("spec.sessionAffinity", spec.sessionAffinity, ("ClientIP", NONE))
    for index, address in enumerate(spec.clusterIPs):
        if address != NONE:
            errors.each(f"spec.clusterIPs[{index}]", address, names.ip_address(address))
    for index, address in enumerate(spec.externalIPs):
        errors.each(f"spec.externalIPs[{index}]", address, names.ip_address(address))
    if spec.clusterIPs and spec.clusterIP != spec.clusterIPs[0]:
        errors.invalid("spec.clusterIP", spec.clusterIP or "", "must be set to the first entry of clusterIPs")


def _ports(service: Service, errors: Errors) -> None:
    ports = service.spec.ports
    seen_names: set[str] = set()
    seen: set[tuple[str, int]] = set()
    seen_node_ports: set[tuple[str, int]] = set()
    for index, port in enumerate(ports):
        here = f"spec.ports[{index}]"
        if len(ports) > 1 and not port.name:
            errors.required(f"{here}.name")
        elif port.name:
            errors.each(f"{here}.name", port.name, names.label(port.name))
            if port.name in seen_names:
                errors.duplicate(f"{here}.name", port.name)
            seen_names.add(port.name)
        errors.each(f"{here}.port", port.port, names.port_number(port.port))
        if port.protocol not in _PROTOCOLS:
            errors.unsupported(f"{here}.protocol", port.protocol, _PROTOCOLS)
        if isinstance(port.targetPort, int):
            errors.each(f"{here}.targetPort", port.targetPort, names.port_number(port.targetPort))
        else:
            errors.each(f"{here}.targetPort", port.targetPort, names.port_name(port.targetPort))
        key = (port.protocol or "", port.port)
        if key in seen:
            errors.duplicate(here, port)
        seen.add(key)
        if not port.nodePort:
            continue
        if service.spec.type not in _WITH_NODE_PORTS:
            errors.forbidden(f"{here}.nodePort", "may not be used when `type` is 'ClusterIP'")
        if (port.protocol or "", port.nodePort) in seen_node_ports:
            errors.duplicate(f"{here}.nodePort", port.nodePort)
        seen_node_ports.add((port.protocol or "", port.nodePort))


def judge_service(old: Service, new: Service, errors: Errors) -> None:
    """Add what may not change of a Service."""
    if EXTERNAL_NAME in (old.spec.type, new.spec.type):
        return
    if old.spec.clusterIP and old.spec.clusterIP != new.spec.clusterIP:
        errors.invalid("spec.clusterIPs[0]", new.spec.clusterIPs or None, "may not change once set")
