"""Whether this machine takes a pod on, asked once before anything of it is begun (S-ADMIT).

Source: kubelet pkg/kubelet/lifecycle/predicate.go, pkg/kubelet/sysctl/allowlist.go, safe_sysctls.go, pkg/kubelet/kubelet.go
rejectPod, pkg/security/apparmor/validate.go; scheduler framework/plugins/noderesources, nodeports. The kubelet's order: sysctls,
operating system, resources, ports, AppArmor.
Its predicates about nodes and their labels have no meaning here.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field

from nsrun.reconcile.model import PodFailure
from nsrun.spec import apparmor, sysctls
from nsrun.spec.model import Container, Pod
from nsrun.spec.names import plain_ip
from nsrun.spec.quantity import parse
from nsrun.spec.resources import add_overhead, aggregate_requests, is_huge_page, is_pod_level

OS = "linux"
_OS_LABEL = "kubernetes.io/os"
ANY = ("", "0.0.0.0")

SAFE_SYSCTLS: dict[str, tuple[int, int]] = {
    "kernel.shm_rmid_forced": (0, 0),
    "net.ipv4.ip_local_port_range": (0, 0),
    "net.ipv4.tcp_syncookies": (0, 0),
    "net.ipv4.ping_group_range": (0, 0),
    "net.ipv4.ip_unprivileged_port_start": (0, 0),
    "net.ipv4.ip_local_reserved_ports": (3, 16),
    "net.ipv4.tcp_keepalive_time": (4, 5),
    "net.ipv4.tcp_fin_timeout": (4, 6),
    "net.ipv4.tcp_keepalive_intvl": (4, 5),
    "net.ipv4.tcp_keepalive_probes": (4, 5),
    "net.ipv4.tcp_rmem": (0, 0),
    "net.ipv4.tcp_wmem": (0, 0),
}
"""What a pod may set without the machine's consent, and the kernel from which on it is the pod's own."""

HostPort = tuple[str, str, int]
"""Address ("" = all), protocol and number of a port of this machine."""


@dataclass(frozen=True, slots=True)
class Amounts:
    """Processors in thousandths, memory in bytes, and huge pages: bytes by the resource's name."""

    cpu: int = 0
    memory: int = 0
    huge_pages: Mapping[str, int] = field(default_factory=dict)

    def __add__(self, other: Amounts) -> Amounts:
        names = self.huge_pages.keys() | other.huge_pages.keys()
        pages = {name: self.huge_pages.get(name, 0) + other.huge_pages.get(name, 0) for name in names}
        return Amounts(self.cpu + other.cpu, self.memory + other.memory, pages)


@dataclass(frozen=True, slots=True)
class Facts:
    """What the answer depends on besides the pod.

    Attributes:
        kernel: version and patch level.
        allowed_sysctls: names, or patterns that end in `*`, that the machine's owner allows pods to set.
        ports: of this machine, that other pods have already.
        capacity: what the machine has.
        used: what other pods have requested of it.
        selinux: it is switched on here.
        apparmor: so is AppArmor.
    """

    kernel: tuple[int, int]
    allowed_sysctls: tuple[str, ...] = ()
    ports: frozenset[HostPort] = frozenset()
    capacity: Amounts = Amounts()
    used: Amounts = Amounts()
    selinux: bool = False
    apparmor: bool = False


def admit(pod: Pod, facts: Facts, now: float) -> PodFailure | None:
    """Why the pod is rejected; None: it is not.

    Args:
        pod: valid.
        facts: of the machine.
        now: seconds since the epoch.
    """
    for reason, message in _objections(pod, facts):
        return PodFailure(reason, message, now)
    return None


def rejection(failure: PodFailure) -> PodFailure:
    """The failure as the status shows it; the event has the message alone."""
    return PodFailure(failure.reason, f"Pod was rejected: {failure.message}", failure.at)


def _objections(pod: Pod, facts: Facts) -> Iterator[tuple[str, str]]:
    context = pod.spec.securityContext
    for sysctl in context.sysctls if context is not None else ():
        objection = _sysctl(pod, sysctls.dotted(sysctl.name), facts)
        if objection:
            yield "SysctlForbidden", f"forbidden sysctl: {objection}"
    if pod.metadata.labels.get(_OS_LABEL, OS) != OS:
        message = f"Failed to admit pod as the `{_OS_LABEL}` label doesn't match node label"
        yield "PodOSSelectorNodeLabelDoesNotMatch", message
    if pod.spec.os is not None and pod.spec.os.name != OS:
        yield "PodOSNotSupported", "Failed to admit pod as the OS field doesn't match node OS"
    if facts.selinux and _labelled(pod):
        # Without SELinux a container runtime passes over these labels; with it a pod would run where its manifest does not want it.
        message = "seLinuxOptions are set, SELinux is switched on, and nsrun gives containers no label"
        yield "UnexpectedAdmissionError", message
    yield from out_of_resources(pod, facts)
    if any(_taken(port, facts.ports) for port in host_ports(pod)):
        text = "node(s) didn't have free ports for the requested pod ports"
        yield "NodePorts", f"Predicate NodePorts failed: {text}"
    if not facts.apparmor and apparmor.is_required(pod):
        yield "AppArmor", "Cannot enforce AppArmor: AppArmor is not enabled on the host"


def _labelled(pod: Pod) -> bool:
    """Whether anything of the pod is to have an SELinux label of its own."""
    spec = pod.spec
    if spec.securityContext is not None and spec.securityContext.seLinuxOptions is not None:
        return True
    contexts = [one.securityContext for one in (*spec.initContainers, *spec.containers)]
    contexts += [one.securityContext for one in spec.ephemeralContainers]
    return any(context is not None and context.seLinuxOptions is not None for context in contexts)


def out_of_resources(pod: Pod, facts: Facts) -> Iterator[tuple[str, str]]:
    """Reason and message for each resource of which the machine has not enough left."""
    for name, requested, used, capacity in _compared(requests_of(pod), facts):
        if requested and requested > capacity - used:
            numbers = f"requested: {requested}, used: {used}, capacity: {capacity}"
            yield f"OutOf{name}", f"Node didn't have enough resource: {name}, {numbers}"


def _compared(wanted: Amounts, facts: Facts) -> Iterator[tuple[str, int, int, int]]:
    """Name, requested, used and capacity of each resource."""
    used, capacity = facts.used, facts.capacity
    yield "cpu", wanted.cpu, used.cpu, capacity.cpu
    yield "memory", wanted.memory, used.memory, capacity.memory
    for name, amount in sorted(wanted.huge_pages.items()):
        # A size that the machine does not have, or that is called otherwise there, is none of its resources.
        yield name, amount, used.huge_pages.get(name, 0), capacity.huge_pages.get(name, 0)


def _sysctl(pod: Pod, name: str, facts: Facts) -> str:
    """What is wrong with setting it in this pod; "" for nothing."""
    safe = name in SAFE_SYSCTLS and facts.kernel >= SAFE_SYSCTLS[name]
    if not safe and not any(_matches(sysctls.dotted(pattern), name) for pattern in facts.allowed_sysctls):
        return f'"{name}" not allowlisted'
    space = sysctls.namespace(name)
    # A pod of the machine's network has the machine's host name, too.
    shared = {sysctls.NET: pod.spec.hostNetwork, sysctls.IPC: pod.spec.hostIPC, sysctls.UTS: pod.spec.hostNetwork}
    return f'"{name}" not allowed with host {space} enabled' if shared.get(space) else ""


def _matches(pattern: str, name: str) -> bool:
    return name.startswith(pattern[:-1]) if pattern.endswith("*") else name == pattern


def requests_of(pod: Pod) -> Amounts:
    """What a pod requests: what it says for itself, else what its containers need together at most."""
    amounts = aggregate_requests(pod.spec)
    own = pod.spec.resources.requests if pod.spec.resources is not None else {}
    amounts |= {name: parse(own[name]) for name in own if is_pod_level(name)}
    add_overhead(amounts, pod.spec)
    cpu, memory = amounts.get("cpu"), amounts.get("memory")
    return Amounts(
        cpu.milli() if cpu is not None else 0,
        memory.whole() if memory is not None else 0,
        {name: amount.whole() for name, amount in amounts.items() if is_huge_page(name)},
    )


def host_ports(pod: Pod) -> list[HostPort]:
    """The machine's ports that a pod wants; those of sidecars count, those of other init containers do not."""
    return [
        (
            "" if (port.hostIP or "") in ANY else plain_ip(port.hostIP or "") or port.hostIP or "",
            port.protocol or "TCP",
            port.hostPort,
        )
        for container in long_running(pod)
        for port in container.ports
        if port.hostPort
    ]


def long_running(pod: Pod) -> list[Container]:
    """The containers that are there while the pod runs: sidecars and mains."""
    return [one for one in pod.spec.initContainers if one.restartPolicy == "Always"] + pod.spec.containers


def _taken(wanted: HostPort, ports: Iterable[HostPort]) -> bool:
    address, protocol, number = wanted
    return any(
        (protocol, number) == (other_protocol, other_number) and _same_place(address, other)
        for other, other_protocol, other_number in ports
    )


def _same_place(one: str, other: str) -> bool:
    """Whether a port of one address of the machine is also one of the other's; "" is all of them, "::" all of IPv6."""
    return one == other or "" in (one, other) or (":" in one and ":" in other and "::" in (one, other))
