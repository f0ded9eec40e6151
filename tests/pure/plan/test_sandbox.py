"""The program of a pod's sandbox."""

from __future__ import annotations

from typing import Any

import pytest

from nsrun.plan import PlanError, SandboxInputs, ops, sandbox_program
from nsrun.plan.describe import describe
from nsrun.reconcile.admission import SAFE_SYSCTLS
from nsrun.spec.model import PodSecurityContext, Sysctl
from tests.pure.plan.pods import NODE, pod

INPUTS = SandboxInputs("/run/pods/u/shm", NODE)


def test_the_whole_of_it() -> None:
    assert [line.partition("  #")[0].rstrip() for line in describe(sandbox_program(pod(), INPUTS))] == [
        "unshare(CLONE_NEWNS|CLONE_NEWIPC|CLONE_NEWUTS|CLONE_NEWNET)",
        "mount --make-rslave /",
        "root=/run/pods/u/shm",
        "mount -t tmpfs -o nosuid,nodev,noexec,mode=1777,size=65536k tmpfs $root/",
        "hostname web",
        "ip link set lo up",
        "sysctl -w net/ipv4/ip_unprivileged_port_start=0",
        "sysctl -w 'net/ipv4/ping_group_range=0 2147483647'",
    ]


def test_S_NS_host_network_leaves_network_and_name_alone() -> None:
    program = sandbox_program(pod(hostNetwork=True), INPUTS)
    assert program.ops[0] == ops.Unshare("CLONE_NEWNS|CLONE_NEWIPC", why=program.ops[0].why)
    assert not {type(op) for op in program.ops} & {ops.Hostname, ops.LoopbackUp, ops.Sysctl}


def test_S_NS_host_ipc_leaves_shared_memory_alone() -> None:
    program = sandbox_program(pod(hostIPC=True), INPUTS)
    assert "CLONE_NEWIPC" not in program.ops[0].describe()
    assert not any(isinstance(op, ops.Mount) for op in program.ops)


def _with(name: str, **spec: Any) -> list[str]:
    context = PodSecurityContext(sysctls=[Sysctl(name=name, value="1")])
    program = sandbox_program(pod(securityContext=context, **spec), INPUTS)
    return [op.name for op in program.ops if isinstance(op, ops.Sysctl) and op.why == "securityContext.sysctls"]


@pytest.mark.parametrize("name", sorted(SAFE_SYSCTLS))
def test_safe_sysctls_in_either_spelling(name: str) -> None:
    assert _with(name) == _with(name.replace(".", "/")) == [name.replace(".", "/")]


def test_sysctls_of_the_pods_namespaces_are_set_whoever_allowed_them() -> None:
    assert _with("kernel.msgmax") == ["kernel/msgmax"]
    assert _with("net/ipv4/conf/eth0.1/forwarding") == ["net/ipv4/conf/eth0.1/forwarding"]
    assert _with("kernel.domainname") == ["kernel/domainname"]


@pytest.mark.parametrize(
    ("name", "spec"),
    [
        ("kernel.core_pattern", {}),
        ("kernel/core_pattern", {}),
        ("user.max_user_namespaces", {}),
        ("vm.swappiness", {}),
        ("net.ipv4.tcp_syncookies", {"hostNetwork": True}),
        ("net/ipv4/tcp_syncookies", {"hostNetwork": True}),
        ("kernel.domainname", {"hostNetwork": True}),
        ("kernel.shm_rmid_forced", {"hostIPC": True}),
    ],
)
def test_sysctls_of_the_machine_are_never_set(name: str, spec: dict[str, bool]) -> None:
    with pytest.raises(PlanError, match=f'forbidden sysctl: "{name}"') as caught:
        _with(name, **spec)
    assert caught.value.reason == "SysctlForbidden"
