"""Who a container's processes are: user, groups, capabilities, seccomp profile, oom score (securityContext, S-CGROUP)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeVar

from nsrun.plan import capabilities
from nsrun.plan.image import ImageConfig, ImageUser
from nsrun.plan.inputs import IDS_PER_POD, ContainerInputs, NodeFacts, PlanError
from nsrun.spec import apparmor
from nsrun.spec.model import Container, Pod, PodSecurityContext, SeccompProfile, SecurityContext
from nsrun.spec.names import pod_in_words
from nsrun.spec.quantity import parse
from nsrun.spec.resources import aggregate_requests
from nsrun.status.qos import BEST_EFFORT, GUARANTEED, qos_class
from nsrun.waiting import CONFIG_ERROR, CREATE_CONTAINER_ERROR

_T = TypeVar("_T")

UNCONFINED = "Unconfined"
RUNTIME_DEFAULT = "RuntimeDefault"


APPARMOR_DEFAULT = "nsrun-default"
"""What the kernel calls the profile RuntimeDefault."""


@dataclass(frozen=True, slots=True)
class Identity:
    """What is settled about a container's processes."""

    uid: int
    gid: int
    groups: tuple[int, ...]
    capabilities: frozenset[str]
    """The bounding set, and what root has of it."""
    no_new_privs: bool
    seccomp: str
    """RuntimeDefault, Unconfined or Localhost/<path>."""
    privileged: bool
    oom_score_adj: int
    apparmor: str = ""
    """The kernel's name of AppArmor's profile; empty: that of the server stays."""


def _contexts(pod: Pod, container: Container) -> tuple[PodSecurityContext, SecurityContext]:
    return pod.spec.securityContext or PodSecurityContext(), container.securityContext or SecurityContext()


def _first(*values: _T | None) -> _T | None:
    return next((value for value in values if value is not None), None)


def user_spec(pod: Pod, container: Container, image: ImageConfig) -> str:
    """The user to look up in the image, as `uid`, `name`, `uid:gid` or `name:gid`; the container's word beats the pod's beats the image's.

    Of the image's `user:group` only the user counts, as under a kubelet: the group is that user's in /etc/passwd, or 0.

    Raises:
        PlanError: CreateContainerConfigError where runAsNonRoot forbids it (pkg/kubelet/kuberuntime/security_context_others.go).
    """
    of_pod, own = _contexts(pod, container)
    uid = _first(own.runAsUser, of_pod.runAsUser)
    gid = _first(own.runAsGroup, of_pod.runAsGroup)
    from_image = image.user.partition(":")[0]
    if _first(own.runAsNonRoot, of_pod.runAsNonRoot):
        who = f'(pod: "{pod_in_words(pod)}", container: {container.name})'
        if uid == 0:
            raise PlanError(CONFIG_ERROR, f"container's runAsUser breaks non-root policy {who}")
        if uid is None and from_image in ("", "0"):
            raise PlanError(
                CONFIG_ERROR,
                f"container has runAsNonRoot and image will run as root {who}",
                resolution="Set securityContext.runAsUser, or use an image whose user is not root.",
            )
        if uid is None and not from_image.isdigit():
            raise PlanError(
                CONFIG_ERROR,
                f"container has runAsNonRoot and image has non-numeric user ({from_image}), "
                f"cannot verify user is non-root {who}",
                resolution="Set securityContext.runAsUser to the number of that user.",
            )
    user = str(uid) if uid is not None else from_image or "0"
    return user if gid is None else f"{user}:{gid}"


def assumed_user(spec: str) -> ImageUser:
    """What can be said of a user (see `user_spec`) without the image: numbers are taken as they are, a name is the uid -1.

    For printing a plan only.
    """
    user, _, group = spec.partition(":")
    uid = int(user) if user.isdigit() else -1
    gid = int(group) if group.isdigit() else min(0, uid)
    return ImageUser(uid, gid, (), "/root" if uid == 0 else "/")


def _seccomp(profile: SeccompProfile | None) -> str | None:
    if profile is None or not profile.type:
        return None
    return f"Localhost/{profile.localhostProfile}" if profile.type == "Localhost" else profile.type


def _apparmor(pod: Pod, container: Container, *, privileged: bool) -> str:
    """As containerd has it (internal/cri/server/container_create.go): a privileged container has no profile but one that is named."""
    profile = apparmor.profile_of(pod, container)
    if profile is None or profile.type == apparmor.UNCONFINED:
        return ""
    if profile.type == apparmor.LOCALHOST:
        return profile.localhostProfile or ""
    return "" if privileged else APPARMOR_DEFAULT


def _groups(of_pod: PodSecurityContext, user: ImageUser) -> tuple[int, ...]:
    """The primary group is among them (CVE-2022-36109): else a process could drop a negative group permission."""
    members = () if of_pod.supplementalGroupsPolicy == "Strict" else user.groups
    fs_group = () if of_pod.fsGroup is None else (of_pod.fsGroup,)
    return tuple(dict.fromkeys((user.gid, *members, *of_pod.supplementalGroups, *fs_group)))


def _capabilities(container: Container, context: SecurityContext, node: NodeFacts) -> frozenset[str]:
    if context.privileged:
        return node.capabilities
    wanted = context.capabilities
    add, drop = ((), ()) if wanted is None else (wanted.add, wanted.drop)
    try:
        result = capabilities.resolve(add, drop, node.capabilities)
    except ValueError as error:
        raise PlanError(
            CREATE_CONTAINER_ERROR,
            f'container "{container.name}": there is no capability {error.args[0]!r}',
            resolution="capabilities(7) lists them.",
        ) from None
    missing = result - node.capabilities
    if missing:
        names = ", ".join(sorted(missing))
        raise PlanError(
            CREATE_CONTAINER_ERROR,
            f'container "{container.name}": cannot add {names}: nsrun itself does not have it on this machine',
            details="The bounding set of the server (CapBnd in /proc/self/status) is without it.",
            resolution="Run the nsrun server where it has it, or take it out of securityContext.capabilities.add.",
        )
    return result


def oom_score_adj(pod: Pod, container: Container, memory: int) -> int:
    """How willing the kernel is to kill it when memory runs out (Kubernetes pkg/kubelet/qos/policy.go). `memory`: the machine's, in bytes.

    A sidecar is not killed more readily than the main containers it serves.
    """
    own = _oom_score_adj(pod, container, memory)
    sidecar = container.restartPolicy == "Always" and any(container is one for one in pod.spec.initContainers)
    if sidecar:
        return min(own, *(_oom_score_adj(pod, main, memory) for main in pod.spec.containers))
    return own


def _oom_score_adj(pod: Pod, container: Container, memory: int) -> int:
    if pod.spec.priorityClassName == "system-node-critical":
        return -997
    qos = qos_class(pod)
    if qos == GUARANTEED:
        return -997
    if qos == BEST_EFFORT:
        return 1000
    request = _memory_request(container) + _spare_request(pod)
    share = 1000 * request // memory if memory else 0
    return min(max(1000 - share, 3), 999)


def _memory_request(container: Container) -> int:
    request = container.resources.requests.get("memory")
    return parse(request).whole() if request else 0


def _spare_request(pod: Pod) -> int:
    """What the pod requests of memory beyond its containers' requests, in equal parts to each of them."""
    if pod.spec.resources is None or "memory" not in pod.spec.resources.requests:
        return 0
    of_containers = aggregate_requests(pod.spec).get("memory")
    spare = parse(pod.spec.resources.requests["memory"]).whole() - (of_containers.whole() if of_containers else 0)
    return spare // (len(pod.spec.containers) + len(pod.spec.initContainers))


def _check_ids(container: Container, user: ImageUser, groups: tuple[int, ...]) -> None:
    """In the words of runc (libcontainer/init_linux.go setupUser), which is who refuses it under a kubelet."""
    for kind, number in (("uid", user.uid), ("gid", user.gid), *(("supplementary gid", one) for one in groups)):
        if number >= IDS_PER_POD:
            who = "user" if kind == "uid" else "group"
            raise PlanError(
                "CreateContainerError",
                f'container "{container.name}": cannot set {kind} to unmapped {who} in user namespace: {number}',
                details=f"With hostUsers: false a pod has {IDS_PER_POD} users and groups: 0 to {IDS_PER_POD - 1}.",
                resolution="Use a smaller number, or leave hostUsers out.",
            )


def identity(pod: Pod, container: Container, inputs: ContainerInputs) -> Identity:
    """Settles all of it.

    Raises:
        PlanError: CreateContainerError, a capability that does not exist or that the machine cannot give.
    """
    of_pod, own = _contexts(pod, container)
    privileged = bool(own.privileged)
    seccomp = _first(_seccomp(own.seccompProfile), _seccomp(of_pod.seccompProfile), RUNTIME_DEFAULT)
    assert seccomp is not None
    groups = _groups(of_pod, inputs.user)
    if inputs.first_id:
        _check_ids(container, inputs.user, groups)
    return Identity(
        uid=inputs.user.uid,
        gid=inputs.user.gid,
        groups=groups,
        capabilities=_capabilities(container, own, inputs.node),
        no_new_privs=own.allowPrivilegeEscalation is False,
        seccomp=UNCONFINED if privileged else seccomp,
        privileged=privileged,
        oom_score_adj=oom_score_adj(pod, container, inputs.node.memory),
        apparmor=_apparmor(pod, container, privileged=privileged),
    )
