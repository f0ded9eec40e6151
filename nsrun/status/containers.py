"""The status of each container (S-REASONS, S-BACKOFF, S-COND: started and ready).

Source: kubelet pkg/kubelet/kubelet_pods.go convertToAPIContainerStatuses, pkg/kubelet/prober/prober_manager.go
UpdatePodStatus, pkg/kubelet/status/status_manager.go normalizeStatus and TerminatePod, kuberuntime_manager.go doBackOff.
"""

from __future__ import annotations

import functools
import signal
from collections.abc import Iterable
from dataclasses import dataclass

from nsrun.reconcile.backoff import INITIAL_S
from nsrun.reconcile.ledger import LOST_EXIT_CODE, LOST_REASON, RESET_MESSAGE, RESET_REASON
from nsrun.reconcile.model import ContainerLedger, Instance, InstanceState, Observed, Role, StopCause
from nsrun.reconcile.order import Finish, View, Views, restart_due
from nsrun.spec.model import (
    ContainerState,
    ContainerStateRunning,
    ContainerStateTerminated,
    ContainerStateWaiting,
    ContainerStatus,
    ContainerUser,
    EphemeralContainer,
    LinuxContainerUser,
    Pod,
    ResourceRequirements,
    VolumeMount,
    VolumeMountStatus,
)
from nsrun.spec.names import pod_in_words
from nsrun.status.times import go_duration, rfc3339
from nsrun.waiting import (
    CONTAINER_CREATING,
    CRASH_LOOP_BACK_OFF,
    POD_INITIALIZING,
    POST_START_HOOK_ERROR,
    RUN_CONTAINER_ERROR,
)

UNKNOWN_MESSAGE = "The container could not be located when the pod was terminated"
"""Of a container that the pod ended without."""
MESSAGES_MAX = 12 * 1024
"""Bytes that the termination messages of all containers of a pod share (S-TERMMSG)."""


@dataclass(frozen=True, slots=True)
class Statuses:
    """The three lists of a pod. The mains and the ephemeral ones are in the order of their names, the inits in the manifest's."""

    inits: list[ContainerStatus]
    mains: list[ContainerStatus]
    ephemeral: list[ContainerStatus]

    @property
    def by_name(self) -> dict[str, ContainerStatus]:
        """Those that count: inits and mains."""
        return {status.name: status for status in (*self.inits, *self.mains)}


def container_id(instance: Instance) -> str:
    """The containerID field: type and id."""
    return f"nsrun://{instance.id}"


def back_off_message(pod: Pod, container: str, delay_s: float) -> str:
    """The message of CrashLoopBackOff."""
    return f"back-off {go_duration(delay_s)} restarting failed container={container} pod={pod_in_words(pod)}"


def container_statuses(pod: Pod, observed: Observed, views: Views, finish: Finish | None, now: float) -> Statuses:
    """The statuses of all containers. `observed` is settled."""
    going_on = finish is None and observed.deletion is None
    limit = MESSAGES_MAX // max(len(views.all), 1)
    made = Statuses(
        inits=[_status(pod, view, going_on, now, limit) for view in views.inits],
        mains=[_status(pod, view, going_on, now, limit) for view in views.mains],
        ephemeral=[_ephemeral(pod, observed, one, limit) for one in pod.spec.ephemeralContainers],
    )
    if not going_on and not views.anything_alive:
        _account_for_all(pod, made)
    _as_they_are(made, observed)
    made.mains.sort(key=_name)
    made.ephemeral.sort(key=_name)
    return made


def _as_they_are(made: Statuses, observed: Observed) -> None:
    """Say what containers have as long as it is not what they were allocated."""
    actual = observed.resize.actual if observed.resize is not None else {}
    for status in (*made.inits, *made.mains):
        if status.resources is not None and status.name in actual:
            had = actual[status.name]
            status.resources = ResourceRequirements(limits=dict(had.limits), requests=dict(had.requests))


def _name(status: ContainerStatus) -> str:
    return status.name


def _status(pod: Pod, view: View, going_on: bool, now: float, limit: int) -> ContainerStatus:
    ledger, instance = view.ledger, view.instance
    state, before = _states(pod, view, going_on, now, limit)
    status = ContainerStatus(
        name=view.name,
        state=state,
        lastState=_ended(before, limit),
        restartCount=ledger.restart_count + _was_reset(view),
        image=view.container.image or "",
        started=view.started,
        ready=view.ready,
        volumeMounts=_mounts(view.container.volumeMounts),
    )
    # While the next one is being started, what there is to see is the one before.
    shown = instance if _is_shown(view, ledger, instance) else ledger.last
    if not _was_reset(view):
        _identify(status, shown, ledger, view.container.resources)
    if view.role is Role.INIT:
        status.started = state.running is not None
        status.ready = state.terminated is not None and state.terminated.exitCode == 0
    return status


def _was_reset(view: View) -> bool:
    """Whether its last instance was removed because all of the pod is started anew, and the next has not begun (S-RESTARTALL)."""
    last = view.ledger.last
    return view.instance is None and last is not None and last.stopped_by is StopCause.RESTART_ALL


def _is_shown(view: View, ledger: ContainerLedger, instance: Instance | None) -> bool:
    """Whether the newest instance is the one that a status tells of: it runs, has ended, or ends because its hook failed."""
    if instance is None or view.running or not instance.alive:
        return instance is not None
    return _hook_error(ledger, instance) is not None


def _identify(
    status: ContainerStatus, shown: Instance | None, ledger: ContainerLedger, resources: ResourceRequirements
) -> None:
    """Say what the runtime knows of the container, once it has made one."""
    if shown is None:
        return
    status.containerID = container_id(shown)
    status.imageID = shown.image_id or ledger.image_id
    status.stopSignal = signal_name(ledger.stop_signal)
    if ledger.user is not None:
        groups = dict.fromkeys((ledger.user.gid, *ledger.user.groups))
        status.user = ContainerUser(
            linux=LinuxContainerUser(uid=ledger.user.uid, gid=ledger.user.gid, supplementalGroups=list(groups))
        )
    status.resources = ResourceRequirements(limits=dict(resources.limits), requests=dict(resources.requests))
    status.allocatedResources = dict(resources.requests)


def _states(pod: Pod, view: View, going_on: bool, now: float, limit: int) -> tuple[ContainerState, Instance | None]:
    """The present state, and the dead instance that lastState tells of."""
    ledger, instance = view.ledger, view.instance
    if instance is not None and (view.running or (view.role is Role.INIT and instance.state is InstanceState.RUNNING)):
        return ContainerState(running=ContainerStateRunning(startedAt=rfc3339(instance.started_at))), ledger.last
    failed_hook = _hook_error(ledger, instance if instance is not None else ledger.last)
    not_yet = POD_INITIALIZING if pod.spec.initContainers else CONTAINER_CREATING
    if instance is not None and instance.alive:
        if failed_hook is not None:
            return _waiting(POST_START_HOOK_ERROR, failed_hook), ledger.last
        return _waiting(not_yet), ledger.last
    last = ledger.last
    again = going_on and _runs_again(pod, view)
    if again and ledger.waiting is not None:
        return _waiting(ledger.waiting.reason, ledger.waiting.message), last
    if last is None:
        return _waiting(not_yet), None
    if again and restart_due(view, now) > now:
        # For the first delay the reason stays that of the failed start, as with a kubelet, which looks again after it.
        first = ledger.backoff_s <= INITIAL_S
        if first and failed_hook is not None:
            return _waiting(POST_START_HOOK_ERROR, failed_hook), last
        if first and last.state is InstanceState.START_FAILED:
            return _waiting(RUN_CONTAINER_ERROR, last.message), last
        return _waiting(CRASH_LOOP_BACK_OFF, back_off_message(pod, view.name, ledger.backoff_s)), last
    if again and last.stopped_by is StopCause.RESTART_ALL:
        return _waiting(RESET_REASON, RESET_MESSAGE), last
    if again and instance is None:
        # It belongs to a sandbox that is gone, and has not had its turn in the present one.
        return _waiting(not_yet), last
    return _ended(last, limit), ledger.previous


def _hook_error(ledger: ContainerLedger, instance: Instance | None) -> str | None:
    """Why the postStart hook of `instance` failed."""
    hook = ledger.post_start
    return hook.error if hook is not None and instance is not None and hook.instance_id == instance.id else None


def _runs_again(pod: Pod, view: View) -> bool:
    """Whether a container without a process gets another instance in this pod, which is going on."""
    if view.role is Role.INIT:
        return view.instance is None or view.instance.exit_code != 0
    return view.wants_instance(pod)


def _waiting(reason: str, message: str | None = None) -> ContainerState:
    return ContainerState(waiting=ContainerStateWaiting(reason=reason, message=message))


def _ended(instance: Instance | None, limit: int) -> ContainerState:
    return ContainerState() if instance is None else ContainerState(terminated=terminated(instance, limit))


def terminated(instance: Instance, limit: int = MESSAGES_MAX) -> ContainerStateTerminated:
    """A dead instance that was folded into its ledger, its message cut to `limit` bytes.

    `signal` stays 0 as under a kubelet: the exit code tells it.
    """
    return ContainerStateTerminated(
        exitCode=instance.exit_code or 0,
        reason=instance.reason,
        message=_cut(instance.message, limit),
        startedAt=rfc3339(instance.started_at),
        finishedAt=rfc3339(instance.finished_at),
        containerID=None if instance.stopped_by is StopCause.RESTART_ALL else container_id(instance),
    )


def _cut(message: str | None, limit: int) -> str | None:
    if message is None or len(message) * 4 <= limit:
        return message
    return message.encode()[:limit].decode(errors="ignore")


def _ephemeral(pod: Pod, observed: Observed, container: EphemeralContainer, limit: int) -> ContainerStatus:
    """An ephemeral container: it has neither probes nor a restart, and nobody waits for it."""
    ledger = observed.ledgers.get(container.name, ContainerLedger())
    instance = observed.current.get(container.name)
    if instance is not None and instance.state is InstanceState.RUNNING:
        state = ContainerState(running=ContainerStateRunning(startedAt=rfc3339(instance.started_at)))
    elif ledger.last is not None:
        state = _ended(ledger.last, limit)
    elif ledger.waiting is not None:
        state = _waiting(ledger.waiting.reason, ledger.waiting.message)
    else:
        state = _waiting(POD_INITIALIZING if pod.spec.initContainers else CONTAINER_CREATING)
    status = ContainerStatus(
        name=container.name,
        state=state,
        restartCount=ledger.restart_count,
        image=container.image or "",
        volumeMounts=_mounts(container.volumeMounts),
    )
    _identify(status, instance if instance is not None else ledger.last, ledger, container.resources)
    return status


def _mounts(mounts: Iterable[VolumeMount]) -> list[VolumeMountStatus]:
    """The volumeMounts of a status; only a read-only one says whether it is so recursively."""
    return [
        VolumeMountStatus(
            name=mount.name,
            mountPath=mount.mountPath,
            readOnly=True if mount.readOnly else None,
            recursiveReadOnly=_recursive(mount) if mount.readOnly else None,
        )
        for mount in mounts
    ]


def _recursive(mount: VolumeMount) -> str:
    # mount_setattr(AT_RECURSIVE) is there on every kernel that nsrun runs on, so IfPossible is Enabled.
    return "Enabled" if mount.recursiveReadOnly in ("Enabled", "IfPossible") else "Disabled"


@functools.cache
def signal_name(number: int) -> str:
    """A signal in the words of lifecycle.stopSignal: SIGTERM, SIGRTMIN+3, SIGRTMAX-2."""
    if number <= signal.SIGRTMIN or number >= signal.SIGRTMAX:
        return signal.Signals(number).name
    above, below = number - signal.SIGRTMIN, signal.SIGRTMAX - number
    return f"SIGRTMIN+{above}" if above <= 15 else f"SIGRTMAX-{below}"


def _account_for_all(pod: Pod, statuses: Statuses) -> None:
    """Of a pod that has ended, say of containers that nobody saw end that it is not known how they did."""
    unaccounted = list(statuses.mains) if _initialized(pod, statuses) else []
    begun = max((at for at, one in enumerate(statuses.inits) if _was_begun(one)), default=0)
    unaccounted += statuses.inits[: begun + 1]
    for status in unaccounted:
        if status.state.terminated is None:
            status.state = ContainerState(
                terminated=ContainerStateTerminated(
                    exitCode=LOST_EXIT_CODE, reason=LOST_REASON, message=UNKNOWN_MESSAGE
                )
            )


def _was_begun(status: ContainerStatus) -> bool:
    return status.state.waiting is None or status.lastState.terminated is not None


def _initialized(pod: Pod, statuses: Statuses) -> bool:
    """Whether the pod has come as far as its mains."""
    if not pod.spec.initContainers or any(_was_begun(one) for one in statuses.mains):
        return True
    newest = statuses.inits[-1]
    ends = (newest.lastState.terminated, newest.state.terminated)
    return any(end is not None and end.exitCode == 0 for end in ends)
