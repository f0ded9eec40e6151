"""The program that makes a pod's sandbox: the shim runs it in itself, once, before any container."""

from __future__ import annotations

from nsrun.plan import ops
from nsrun.plan.files import pod_hostname
from nsrun.plan.inputs import PlanError, Program, SandboxInputs
from nsrun.spec.model import Pod

SHM_SIZE = "65536k"
"""Of the pod's /dev/shm (containerd internal/cri/server/podsandbox, defaultShmSize)."""

SAFE_SYSCTLS: frozenset[str] = frozenset(
    {
        "kernel.shm_rmid_forced",
        "net.ipv4.ip_local_port_range",
        "net.ipv4.tcp_syncookies",
        "net.ipv4.ping_group_range",
        "net.ipv4.ip_unprivileged_port_start",
        "net.ipv4.ip_local_reserved_ports",
        "net.ipv4.tcp_keepalive_time",
        "net.ipv4.tcp_fin_timeout",
        "net.ipv4.tcp_keepalive_intvl",
        "net.ipv4.tcp_keepalive_probes",
        "net.ipv4.tcp_rmem",
        "net.ipv4.tcp_wmem",
    }
)
"""The sysctls that a pod may set without the node's consent (Kubernetes pkg/kubelet/sysctl/safe_sysctls.go)."""

_IPC = ("kernel.shm", "kernel.msg", "kernel.sem", "fs.mqueue.")


def _dotted(name: str) -> str:
    """`net.ipv4.conf.eth0/1.x` for either way of writing it: the first separator in the name decides which is the separator."""
    first = next((character for character in name if character in "./"), ".")
    return name if first == "." else name.translate(str.maketrans("./", "/."))


def _sysctls(pod: Pod) -> list[tuple[str, str]]:
    """The pod's own sysctls as paths below /proc/sys.

    Raises:
        PlanError: SysctlForbidden, one that is not on the safe list or whose namespace the pod shares with the host.
    """
    result = []
    context = pod.spec.securityContext
    for sysctl in context.sysctls if context is not None else ():
        name = _dotted(sysctl.name)
        of_network, of_ipc = name.startswith("net."), name.startswith(_IPC)
        shared = (of_network and pod.spec.hostNetwork) or (of_ipc and pod.spec.hostIPC)
        if name not in SAFE_SYSCTLS or shared:
            why = "the pod shares that namespace with the host" if shared else "it is not on the list of safe sysctls"
            raise PlanError(
                "SysctlForbidden",
                f'forbidden sysctl: "{sysctl.name}" not allowlisted',
                details=f"{why[0].upper()}{why[1:]}.",
            )
        result.append((name.translate(str.maketrans("./", "/.")), sysctl.value))
    return result


def sandbox_program(pod: Pod, inputs: SandboxInputs) -> Program:
    """Network, IPC and UTS namespaces (S-NS), the host's where the pod asks for them, and a /dev/shm for the pod.

    The shim gets a mount namespace too: the tmpfs of /dev/shm is mounted there and nowhere else, so it needs no clearing away, and
    the containers, whose mount namespaces are copies of the shim's, bind it from there.

    Raises:
        PlanError: SysctlForbidden, or FailedCreatePodSandBox as `pod_hostname`.
    """
    spec = pod.spec
    sysctls = _sysctls(pod)
    namespaces = ["CLONE_NEWNS"]
    if not spec.hostIPC:
        namespaces.append("CLONE_NEWIPC")
    if not spec.hostNetwork:
        namespaces += ["CLONE_NEWUTS", "CLONE_NEWNET"]
    program: list[ops.Op] = [
        ops.Unshare("|".join(namespaces), why="shared by the containers of the pod"),
        ops.Private(why="what the host unmounts goes here too; nothing mounted here shows on the host"),
    ]
    if not spec.hostIPC:
        program += [
            ops.Root(inputs.shm_dir),
            ops.Mount(
                "tmpfs",
                "/",
                ("mode=1777", f"size={SHM_SIZE}"),
                "MOUNT_ATTR_NOSUID|MOUNT_ATTR_NODEV|MOUNT_ATTR_NOEXEC",
                why="/dev/shm of the pod",
            ),
        ]
    if not spec.hostNetwork:
        program += [
            ops.Hostname(pod_hostname(pod)),
            ops.LoopbackUp(),
            # containerd's enable_unprivileged_ports and enable_unprivileged_icmp: a container's user need not be root for either.
            ops.Sysctl("net/ipv4/ip_unprivileged_port_start", "0", why="ports below 1024 need no capability"),
            ops.Sysctl("net/ipv4/ping_group_range", "0 2147483647", why="ping needs no capability"),
        ]
    program += [ops.Sysctl(name, value, why="securityContext.sysctls") for name, value in sysctls]
    return Program(ops=tuple(program))
