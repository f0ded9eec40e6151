"""Which pods this machine takes on (S-ADMIT)."""

from __future__ import annotations

from typing import Any

import pytest

from nsrun.reconcile import decide, settle
from nsrun.reconcile.admission import (
    SAFE_SYSCTLS,
    Amounts,
    Facts,
    HostPort,
    admit,
    host_ports,
    rejection,
    requests_of,
)
from nsrun.reconcile.model import Observed, PodFailure, SandboxState
from nsrun.spec.model import AppArmorProfile, Pod, PodSecurityContext, SecurityContext, SELinuxOptions, Sysctl
from nsrun.status import pod_status
from tests.pure.reconcile.world import T0, make_pod, seen

NEW = (6, 18)


def verdict(pod: Pod, **facts: Any) -> str | None:
    found = admit(pod, Facts(**{"kernel": NEW, **facts}), T0)
    return None if found is None else f"{found.reason}: {found.message}"


def setting(*names: str, **spec: Any) -> Pod:
    context = PodSecurityContext(sysctls=[Sysctl(name=name, value="1") for name in names])
    return make_pod(securityContext=context, **spec)


def test_S_ADMIT_an_ordinary_pod() -> None:
    assert verdict(make_pod()) is None
    assert verdict(make_pod(os={"name": "linux"})) is None


@pytest.mark.parametrize("name", sorted(SAFE_SYSCTLS))
def test_S_ADMIT_safe_sysctls_in_either_spelling(name: str) -> None:
    assert verdict(setting(name)) is None
    assert verdict(setting(name.replace(".", "/"))) is None


def forbidden(name: str) -> str:
    return f'SysctlForbidden: forbidden sysctl: "{name}" not allowlisted'


@pytest.mark.parametrize(
    ("names", "facts", "expected"),
    [
        (("net.core.somaxconn",), {}, forbidden("net.core.somaxconn")),
        (("net/core/somaxconn",), {}, forbidden("net.core.somaxconn")),
        (("kernel.panic",), {}, forbidden("kernel.panic")),
        (("net.ipv4.tcp_syncookies", "kernel.msgmax"), {}, forbidden("kernel.msgmax")),
        (("net.core.somaxconn",), {"allowed_sysctls": ("net.core.somaxconn",)}, None),
        (("net/core/somaxconn",), {"allowed_sysctls": ("net.core.*",)}, None),
        (("net.core.somaxconn",), {"allowed_sysctls": ("net/core/somaxconn",)}, None),
        (("net.core.somaxconn",), {"allowed_sysctls": ("net.core.somax",)}, forbidden("net.core.somaxconn")),
        (("kernel.msgmax",), {"allowed_sysctls": ("kernel.shm*", "kernel.msg*")}, None),
        # Only new kernels have it for each network namespace.
        (("net.ipv4.tcp_fin_timeout",), {"kernel": (4, 6)}, None),
        (("net.ipv4.tcp_fin_timeout",), {"kernel": (4, 5)}, forbidden("net.ipv4.tcp_fin_timeout")),
    ],
)
def test_S_ADMIT_sysctls(names: tuple[str, ...], facts: dict[str, Any], expected: str | None) -> None:
    assert verdict(setting(*names), **facts) == expected


@pytest.mark.parametrize(
    ("name", "spec", "space"),
    [
        ("net.ipv4.tcp_syncookies", {"hostNetwork": True}, "Net"),
        ("kernel.shm_rmid_forced", {"hostIPC": True}, "IPC"),
        ("kernel.shm_rmid_forced", {"hostNetwork": True}, None),
        ("net.ipv4.tcp_syncookies", {"hostIPC": True}, None),
        ("net.core.somaxconn", {"hostNetwork": True}, "Net"),
        ("kernel.domainname", {"hostNetwork": True}, "UTS"),
    ],
)
def test_S_ADMIT_sysctls_of_namespaces_that_are_the_machines(
    name: str, spec: dict[str, Any], space: str | None
) -> None:
    expected = f'SysctlForbidden: forbidden sysctl: "{name}" not allowed with host {space} enabled' if space else None
    assert verdict(setting(name, **spec), allowed_sysctls=("net.core.*", "kernel.domainname")) == expected


def asking(cpu: str = "", memory: str = "", **spec: Any) -> Pod:
    requests = {name: amount for name, amount in (("cpu", cpu), ("memory", memory)) if amount}
    pod = make_pod(**spec)
    pod.spec.containers[0].resources.requests = requests
    return pod


HAVE = Amounts(2000, 1 << 30)


@pytest.mark.parametrize(
    ("cpu", "memory", "used", "expected"),
    [
        ("2", "1Gi", Amounts(), None),
        ("", "", Amounts(5000, 5 << 30), None),
        ("500m", "", Amounts(1500, 5 << 30), None),
        ("501m", "", Amounts(1500, 0), ("cpu", 501, 1500, 2000)),
        ("2001m", "", Amounts(), ("cpu", 2001, 0, 2000)),
        ("", "513Mi", Amounts(9000, 1 << 29), ("memory", 513 << 20, 1 << 29, 1 << 30)),
        ("3", "2Gi", Amounts(), ("cpu", 3000, 0, 2000)),
    ],
)
def test_S_ADMIT_out_of_resources(
    cpu: str, memory: str, used: Amounts, expected: tuple[str, int, int, int] | None
) -> None:
    found = verdict(asking(cpu, memory), capacity=HAVE, used=used)
    if expected is None:
        assert found is None
    else:
        name, *numbers = expected
        requested, in_use, capacity = numbers
        text = f"requested: {requested}, used: {in_use}, capacity: {capacity}"
        assert found == f"OutOf{name}: Node didn't have enough resource: {name}, {text}"


def test_S_ADMIT_out_of_huge_pages() -> None:
    pod = asking("1", "1Mi")
    pod.spec.containers[0].resources.requests["hugepages-2Mi"] = "8Mi"
    have = Amounts(2000, 1 << 30, {"hugepages-2Mi": 10 << 20})
    assert verdict(pod, capacity=have) is None
    used = Amounts(0, 0, {"hugepages-2Mi": 4 << 20}) + Amounts(1, 2, {"hugepages-1Gi": 1})
    numbers = f"requested: {8 << 20}, used: {4 << 20}, capacity: {10 << 20}"
    text = f"OutOfhugepages-2Mi: Node didn't have enough resource: hugepages-2Mi, {numbers}"
    assert verdict(pod, capacity=have, used=used) == text
    text = f"OutOfhugepages-2Mi: Node didn't have enough resource: hugepages-2Mi, requested: {8 << 20}, used: 0, capacity: 0"
    assert verdict(pod, capacity=HAVE) == text, "the machine has none"


def test_S_ADMIT_requests_of_a_pod_as_a_whole_count_instead_of_its_containers() -> None:
    pod = asking("2", "1Gi", resources={"requests": {"cpu": "100m"}})
    assert requests_of(pod) == Amounts(100, 1 << 30)


def test_S_ADMIT_another_operating_system() -> None:
    text = "Failed to admit pod as the OS field doesn't match node OS"
    assert verdict(make_pod(os={"name": "windows"})) == f"PodOSNotSupported: {text}"
    pod = make_pod(os={"name": "windows"})
    pod.metadata.labels = {"kubernetes.io/os": "windows"}
    text = "Failed to admit pod as the `kubernetes.io/os` label doesn't match node label"
    assert verdict(pod) == f"PodOSSelectorNodeLabelDoesNotMatch: {text}"
    pod.metadata.labels = {"kubernetes.io/os": "linux"}
    pod.spec.os = None
    assert verdict(pod) is None


def with_port(**port: Any) -> Pod:
    pod = {"name": "app", "image": "img", "ports": [{"containerPort": 80, **port}]}
    return make_pod(containers=[pod])


@pytest.mark.parametrize(
    ("port", "taken", "free"),
    [
        ({"hostPort": 80}, ("", "TCP", 80), False),
        ({"hostPort": 80}, ("", "TCP", 81), True),
        ({"hostPort": 80}, ("", "UDP", 80), True),
        ({"hostPort": 80, "protocol": "UDP"}, ("", "UDP", 80), False),
        ({"hostPort": 80, "hostIP": "127.0.0.1"}, ("", "TCP", 80), False),
        ({"hostPort": 80}, ("127.0.0.1", "TCP", 80), False),
        ({"hostPort": 80, "hostIP": "0.0.0.0"}, ("127.0.0.1", "TCP", 80), False),
        ({"hostPort": 80, "hostIP": "127.0.0.1"}, ("127.0.0.2", "TCP", 80), True),
        ({}, ("", "TCP", 80), True),
    ],
)
def test_S_ADMIT_ports_of_the_machine(port: dict[str, Any], taken: HostPort, free: bool) -> None:
    text = "Predicate NodePorts failed: node(s) didn't have free ports for the requested pod ports"
    assert verdict(with_port(**port), ports=frozenset({taken})) == (None if free else f"NodePorts: {text}")


def test_S_ADMIT_ports_of_sidecars_count_and_those_of_other_inits_do_not() -> None:
    pod = make_pod(inits=["init", "side*"])
    data = [{"containerPort": 1, "hostPort": number} for number in (1, 2, 3)]
    for container, port in zip((*pod.spec.initContainers, *pod.spec.containers), data, strict=True):
        container.ports = with_port(**port).spec.containers[0].ports
    assert [number for _, _, number in host_ports(pod)] == [2, 3]


def test_S_ADMIT_a_rejected_pod_is_failed_and_nothing_of_it_is_begun() -> None:
    pod = setting("kernel.panic")
    failure = admit(pod, Facts(NEW), T0)
    assert failure is not None
    observed = Observed(failure=rejection(failure), start_time=T0)
    observed = settle(pod, observed, T0 + 1)
    assert decide(pod, observed, T0 + 1) == []
    status = pod_status(pod, observed, T0 + 1)
    assert (status.phase, status.reason) == ("Failed", "SysctlForbidden")
    assert status.message == 'Pod was rejected: forbidden sysctl: "kernel.panic" not allowlisted'
    assert status.containerStatuses == []
    # Neither does its deadline say anything else later.
    pod.spec.activeDeadlineSeconds = 1
    assert settle(pod, observed, T0 + 100).failure == rejection(failure)


def test_S_ADMIT_a_deadline_ends_what_was_admitted() -> None:
    pod = make_pod()
    pod.spec.activeDeadlineSeconds = 10
    before = seen(state=SandboxState.NONE)
    assert settle(pod, before, T0 + 9).failure is None
    text = "Pod was active on the node longer than the specified deadline"
    assert settle(pod, before, T0 + 10).failure == PodFailure("DeadlineExceeded", text, T0 + 10)


@pytest.mark.parametrize("where", ["pod", "container", "annotation"])
def test_S_ADMIT_apparmor_profiles_are_enforced_or_the_pod_is_rejected(where: str) -> None:
    for kind, old, needed in (
        ("RuntimeDefault", "runtime/default", True),
        ("Localhost", "localhost/x", True),
        ("Unconfined", "unconfined", False),
    ):
        profile = AppArmorProfile(type=kind, localhostProfile="x" if kind == "Localhost" else None)
        pod = make_pod(securityContext=PodSecurityContext(appArmorProfile=profile)) if where == "pod" else make_pod()
        container = pod.spec.containers[0]
        if where == "container":
            container.securityContext = SecurityContext(appArmorProfile=profile)
        elif where == "annotation":
            pod.metadata.annotations = {f"container.apparmor.security.beta.kubernetes.io/{container.name}": old}
        without = "AppArmor: Cannot enforce AppArmor: AppArmor is not enabled on the host" if needed else None
        assert verdict(pod) == without
        assert verdict(pod, apparmor=True) is None
    assert verdict(make_pod()) is None


@pytest.mark.parametrize("where", ["pod", "container"])
def test_S_ADMIT_selinux_labels_matter_where_selinux_is_switched_on(where: str) -> None:
    labelled = PodSecurityContext(seLinuxOptions=SELinuxOptions(level="s0:c0,c1"))
    pod = make_pod(securityContext=labelled) if where == "pod" else make_pod()
    if where == "container":
        pod.spec.containers[0].securityContext = SecurityContext(seLinuxOptions=SELinuxOptions(level="s0"))
    assert verdict(pod) is None
    assert str(verdict(pod, selinux=True)).startswith("UnexpectedAdmissionError: seLinuxOptions are set")
    assert verdict(make_pod(), selinux=True) is None
