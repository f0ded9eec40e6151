"""The program that makes a pod's sandbox: the shim runs it in itself, once, before any container."""

from __future__ import annotations

from nsrun.plan import ops
from nsrun.plan.files import pod_hostname
from nsrun.plan.inputs import IDS_PER_POD, PlanError, Program, SandboxInputs
from nsrun.spec import sysctls
from nsrun.spec.model import Pod

SHM_SIZE = "65536k"
"""Of the pod's /dev/shm (containerd internal/cri/server/podsandbox, defaultShmSize)."""


def _sysctls(pod: Pod) -> list[tuple[str, str]]:
    """The pod's own sysctls as paths below /proc/sys. Which of them a pod may set was decided when it was admitted.

    Raises:
        PlanError: SysctlForbidden, one that is not of a namespace that the pod has for itself: it would be set for the machine.
    """
    spec, context = pod.spec, pod.spec.securityContext
    own = {sysctls.NET: not spec.hostNetwork, sysctls.UTS: not spec.hostNetwork, sysctls.IPC: not spec.hostIPC}
    for sysctl in context.sysctls if context is not None else ():
        if not own.get(sysctls.namespace(sysctl.name)):
            raise PlanError(
                "SysctlForbidden",
                f'forbidden sysctl: "{sysctl.name}" does not belong to the pod alone',
                details="It is the machine's, and so would be its value.",
            )
    return [(sysctls.path(one.name), one.value) for one in (context.sysctls if context is not None else ())]


def _user_namespace(first: int, owned: list[str]) -> ops.Op:
    why = f"hostUsers: false; what its root is on the machine: {first}"
    return ops.UserNamespace(first, IDS_PER_POD, "|".join(owned), why=why)


def sandbox_program(pod: Pod, inputs: SandboxInputs) -> Program:
    """Network, IPC and UTS namespaces (S-NS), the host's where the pod asks for them, and a /dev/shm for the pod.

    The shim gets a mount namespace too: the tmpfs of /dev/shm is mounted there and nowhere else, so it needs no clearing away, and
    the containers, whose mount namespaces are copies of the shim's, bind it from there.

    Raises:
        PlanError: SysctlForbidden, or FailedCreatePodSandBox as `pod_hostname`.
    """
    spec = pod.spec
    wanted = _sysctls(pod)
    namespaces = ["CLONE_NEWNS"]
    if not spec.hostIPC:
        namespaces.append("CLONE_NEWIPC")
    if not spec.hostNetwork:
        namespaces += ["CLONE_NEWUTS", "CLONE_NEWNET"]
    mapped = inputs.first_id
    owned, own = (namespaces[1:], namespaces[:1]) if mapped else ([], namespaces)
    program: list[ops.Op] = [
        *([_user_namespace(mapped, owned)] if mapped else []),
        ops.Unshare("|".join(own), why="shared by the containers of the pod"),
        ops.Private(why="what the host unmounts goes here too; nothing mounted here shows on the host"),
    ]
    if not spec.hostIPC:
        program += [
            ops.Root(inputs.shm_dir),
            ops.Mount(
                "tmpfs",
                "/",
                ("mode=1777", f"size={SHM_SIZE}", *((f"uid={mapped}", f"gid={mapped}") if mapped else ())),
                "MOUNT_ATTR_NOSUID|MOUNT_ATTR_NODEV|MOUNT_ATTR_NOEXEC",
                why="/dev/shm of the pod",
            ),
        ]
    if not spec.hostNetwork:
        program += [
            ops.Hostname(pod_hostname(pod, domain=inputs.node.domain)),
            ops.LoopbackUp(),
            # containerd's enable_unprivileged_ports and enable_unprivileged_icmp: a container's user need not be root for either.
            ops.Sysctl("net/ipv4/ip_unprivileged_port_start", "0", why="ports below 1024 need no capability"),
            ops.Sysctl("net/ipv4/ping_group_range", "0 2147483647", why="ping needs no capability"),
        ]
    program += [ops.Sysctl(name, value, mapped, why="securityContext.sysctls") for name, value in wanted]
    return Program(ops=tuple(program))
