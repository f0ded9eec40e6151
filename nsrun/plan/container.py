"""The programs of a container's root process and of a process that joins it.

The order of a container's program is the whole of its safety, so here it is once:

1. the cgroups of version 1 that have limits, which clone3 knows nothing of; then a cgroup namespace, so that its root is these cgroups;
2. oom_score_adj, while the host's /proc is there;
3. mount propagation cut, then the root and all mounts, then the masks that cover parts of them, then pivot_root: from here on no
   path of the host can be named;
4. standard streams and session; with hostUsers: false the pod's user namespace, in which all that follows counts, after the last that takes
   the machine's root;
5. AppArmor's profile, which execve puts in force; the bounding set, while there is CAP_SETPCAP; the seccomp filter, while there is
   CAP_SYS_ADMIN (without no_new_privs the kernel asks for it); then the user, which takes the capabilities of everyone but root; then
   what root keeps of them;
6. no_new_privs and, where it is set, the filter only now, as late as can be;
7. PDEATHSIG after the last change of credentials, because the kernel forgets it at each;
8. what execve would hand on: signal dispositions, descriptors, environment; and execve.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from nsrun.plan import capabilities, filesystem, ops
from nsrun.plan.environment import as_strings, command_line, environment, pod_environment, working_directory
from nsrun.plan.identity import UNCONFINED, Identity, identity
from nsrun.plan.image import ImageUser
from nsrun.plan.inputs import FIRST_SLOT, ContainerInputs, NodeFacts, PlanError, Program, Slot
from nsrun.plan.mounts import volume_mounts
from nsrun.spec.model import Container, Pod
from nsrun.waiting import CREATE_CONTAINER_ERROR

MAX_NOFILE = 1048576
"""Open files of a container: the soft limit is the hard one up to this (fs.nr_open's default)."""


def container_program(pod: Pod, container: Container, inputs: ContainerInputs) -> Program:
    """The program of a container's root process; `container` is one of the pod's, of any list.

    Raises:
        PlanError: the container cannot be run as the pod wants it; `reason` says what it waits for.
    """
    who = identity(pod, container, inputs)
    pod_env = pod_environment(pod, container, inputs)
    argv = command_line(container, inputs.image_config, pod_env)
    workdir = working_directory(container, inputs.image_config)
    slots = _slots(who, inputs)
    volumes = volume_mounts(
        pod, container, inputs, pod_env, first_slot=FIRST_SLOT + len(slots), privileged=who.privileged
    )
    program: list[ops.Op] = [
        *_join(who, inputs),
        ops.Unshare("CLONE_NEWCGROUP", why="/proc/self/cgroup is / inside"),
        _oom_score_adj(who, inputs),
        *filesystem.root(inputs, who),
        *filesystem.kernel(pod, inputs, who, volumes),
        *filesystem.dev(pod, inputs, who, volumes),
        *filesystem.files(container, inputs, volumes),
    ]
    if workdir != "/":
        program.append(ops.Mkdir(workdir, why="workingDir is made if it is missing"))
    program += [
        *filesystem.covers(container, inputs, who),
        ops.PivotRoot(why="the host's file system is out of reach"),
        ops.Chdir(workdir),
        *_limits(inputs),
        *_streams(who, inputs, tty=bool(container.tty)),
        *_enter(inputs, "CLONE_NEWNS|CLONE_NEWCGROUP"),
        *_credentials(who),
        *_finish(environment(pod_env, inputs, tty=bool(container.tty)), argv),
    ]
    return Program(
        ops=tuple(program),
        # With a target it is born into that one's PID namespace: whoever starts it enters that before.
        clone_flags="CLONE_NEWNS" if _joins(pod, inputs) else "CLONE_NEWNS|CLONE_NEWPID",
        slots=(*slots, *volumes.slots),
        sub_paths=volumes.sub_paths,
    )


def _joins(pod: Pod, inputs: ContainerInputs) -> bool:
    return bool(inputs.target or pod.spec.hostPID or pod.spec.shareProcessNamespace)


def exec_program(
    pod: Pod,
    container: Container,
    inputs: ContainerInputs,
    command: Sequence[str],
    *,
    tty: bool = False,
    rows: int = 0,
    columns: int = 0,
    env: Sequence[str] = (),
    workdir: str | None = None,
    user: ImageUser | None = None,
) -> Program:
    """The program of a process that enters a running container: same user, capabilities and filter, environment and directory.

    Args:
        inputs: those of the container's own program.
        command: argv, as it is: nothing is expanded in it.
        rows: with `columns`, the size of the terminal in characters; 0 leaves it unset.
        env: KEY=VALUE, more variables.
        workdir: instead of the container's own directory; nothing is made.
        user: instead of the container's own.

    Raises:
        PlanError: CreateContainerError, an empty command, a variable without a name, or what the container's own program fails with.
    """
    if not command or not command[0]:
        raise PlanError(CREATE_CONTAINER_ERROR, "exec: there is no command to run")
    if user is not None:
        inputs = _with_user(inputs, user)
    who = identity(pod, container, inputs)
    variables = environment(pod_environment(pod, container, inputs), inputs, tty=tty)
    for entry in env:
        name, equal, value = entry.partition("=")
        if not name or not equal:
            raise PlanError(CREATE_CONTAINER_ERROR, f"exec: {entry!r} is not of the form NAME=VALUE")
        variables[name] = value
    program: list[ops.Op] = [
        *_join(who, inputs),
        _oom_score_adj(who, inputs),
        # Else the terminal would be nobody's.
        *([ops.FsUser(inputs.host_id(0), inputs.host_id(0))] if inputs.first_id else []),
        ops.Chdir(workdir or working_directory(container, inputs.image_config)),
        *_limits(inputs),
        # The streams are the caller's own: giving its terminal to the container's user would be felt outside.
        *(
            [ops.Setsid(), ops.Terminal(rows, columns, inputs.host_id(who.uid))]
            if tty
            else [ops.Setsid(), ops.Stdio(0, 1, 2)]
        ),
        # Even the pod's root is not the one whose pipes these are.
        *([ops.StdioOwner(inputs.host_id(who.uid), pipes=True)] if inputs.first_id and not tty else []),
        *_enter(inputs),
        *_credentials(who),
        *_finish(variables, tuple(command)),
    ]
    # The network, IPC and UTS namespaces are the shim's own: its children are born into them.
    return Program(ops=tuple(program), join_flags="CLONE_NEWNS|CLONE_NEWPID|CLONE_NEWCGROUP", slots=_slots(who, inputs))


def _with_user(inputs: ContainerInputs, user: ImageUser) -> ContainerInputs:
    values = {name: getattr(inputs, name) for name in ContainerInputs.__dataclass_fields__}
    return ContainerInputs(**(values | {"user": user}))


def _oom_score_adj(who: Identity, inputs: ContainerInputs) -> ops.Op:
    return oom_score_adj_op(who.oom_score_adj, inputs.node, why="from the pod's QoS class")


def oom_score_adj_op(value: int, node: NodeFacts, *, why: str = "") -> ops.Op:
    """Going below what the server has takes CAP_SYS_RESOURCE. A root without it (in a container, say) still runs Guaranteed pods."""
    return ops.OomScoreAdj(value, "CAP_SYS_RESOURCE" not in node.capabilities, why=why)


def _limits(inputs: ContainerInputs) -> list[ops.Op]:
    result: list[ops.Op] = [ops.Umask(0o022)]
    if inputs.node.nofile:
        hard = inputs.node.nofile
        result.append(ops.Rlimit("RLIMIT_NOFILE", min(hard, MAX_NOFILE), hard))
    return result


def _streams(who: Identity, inputs: ContainerInputs, *, tty: bool) -> list[ops.Op]:
    owner = inputs.host_id(who.uid)
    if tty:
        return [ops.Setsid(), ops.Terminal(uid=owner, console=True)]
    result: list[ops.Op] = [ops.Setsid(), ops.Stdio(0, 1, 2)]
    if owner:
        result.append(ops.StdioOwner(owner, why="/dev/stdout can be opened by name"))
    return result


def _enter(inputs: ContainerInputs, namespaces: str = "") -> list[ops.Op]:
    """After the last that takes the machine's root. The mounts, copied into a namespace of the pod's, are locked: nobody uncovers one."""
    if not inputs.first_id:
        return []
    why = "its mounts are locked together" if namespaces else "the ids and capabilities that follow are the pod's"
    return [ops.EnterUser(namespaces, why=why)]


def _credentials(who: Identity) -> list[ops.Op]:
    kept = capabilities.flags(who.capabilities)
    filtered: list[ops.Op] = []
    if who.seccomp != UNCONFINED:
        filtered = [ops.Seccomp(FIRST_SLOT, why=f"seccompProfile {who.seccomp}")]
    result: list[ops.Op] = []
    if who.apparmor:
        result.append(ops.AppArmor(who.apparmor, why="appArmorProfile; in force from execve on"))
    result += [ops.Bounding(kept, why="never to be had again, whatever is executed")]
    if not who.no_new_privs:
        result += filtered
    result.append(ops.User(who.uid, who.gid, who.groups))
    # Only root keeps capabilities over execve; anyone else is left with the bounding set, for set-user-ID programs.
    own = kept if who.uid == 0 else ""
    result.append(ops.Caps(own, own, "", ""))
    if who.no_new_privs:
        result += [ops.NoNewPrivs(why="allowPrivilegeEscalation: false"), *filtered]
    result.append(ops.Pdeathsig(why="the container ends with its shim"))
    return result


def _finish(variables: Mapping[str, str], argv: tuple[str, ...]) -> list[ops.Op]:
    return [ops.SignalsDefault(), ops.CloseRest(), ops.Env(as_strings(variables)), ops.Exec(argv)]


def _filters(who: Identity) -> tuple[Slot, ...]:
    return () if who.seccomp == UNCONFINED else (Slot("seccomp", who.seccomp, who.capabilities),)


def _slots(who: Identity, inputs: ContainerInputs) -> tuple[Slot, ...]:
    return (*_filters(who), *(Slot("cgroup", name) for name in inputs.legacy_controllers))


def _join(who: Identity, inputs: ContainerInputs) -> list[ops.Op]:
    """Before anything else: all that the process ever does is to be within its limits."""
    first = FIRST_SLOT + len(_filters(who))
    return [
        ops.JoinCgroup(first + place, why=f"limits of {name}") for place, name in enumerate(inputs.legacy_controllers)
    ]
