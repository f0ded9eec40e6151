"""What `decide` looks at and what it answers: the observed pod and the actions. Plain values, no behaviour.

All times are seconds since the epoch (CLOCK_REALTIME) as floats; the caller injects `now`.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import dataclass, field

from nsrun.spec.model import ResourceRequirements


class InstanceState(enum.Enum):
    """States of one instance of a container; the first four are `enum nsr_state` of csrc/wire.h."""

    STARTING = "starting"
    RUNNING = "running"
    EXITED = "exited"
    START_FAILED = "start-failed"
    LOST = "lost"
    """It ran when its shim was killed; its exit status is unknown (137, ContainerStatusUnknown)."""


class Role(enum.Enum):
    """Which list of the pod a container stands in, and how it counts (S-INIT, S-SIDECAR)."""

    INIT = "init"
    SIDECAR = "sidecar"
    MAIN = "main"
    EPHEMERAL = "ephemeral"
    """Added to a running pod: started once, and counts for nothing."""


class StopCause(enum.Enum):
    """Why a container is stopped although its pod goes on; it decides whether and when there is a next instance."""

    REQUEST = "request"
    """Somebody asked for a restart: another instance whatever the policy, at once, and no step of the back-off."""
    LIVENESS = "liveness"
    """The liveness probe failed: the policy decides (rules on exit codes do not count), with back-off."""
    STARTUP = "startup"
    """The startup probe failed: as LIVENESS."""
    POST_START = "post-start"
    """The postStart hook failed: the policy decides, with back-off."""
    CHANGED = "changed"
    """Its definition changed: another instance whatever the policy, and the back-off begins anew."""
    RESTART_ALL = "restart-all"
    """A rule of some container of the pod asked for all to be started anew (S-RESTARTALL)."""


class HookKind(enum.Enum):
    """The two lifecycle hooks (S-HOOK)."""

    POST_START = "postStart"
    PRE_STOP = "preStop"


class ProbeKind(enum.Enum):
    """The three probes (S-PROBE)."""

    STARTUP = "startup"
    READINESS = "readiness"
    LIVENESS = "liveness"


@dataclass(frozen=True, slots=True)
class Instance:
    """One instance (one run of the root process) of a container.

    `exit_code` is 0..255 as Kubernetes counts it (128+n for signal n; 128 for a command that could not start; 137 for LOST).
    `stop_signal` and `stop_at` tell the stop signal that was sent to it, if any; `killed_at` when SIGKILL was last
    sent to all of it. Whoever carries out SignalContainer and KillContainer fills them in at once, before the shim's record
    tells them: `decide` must not be asked again without knowing.
    `attempt` grows by one from instance to instance of a container and never repeats within a pod.
    `stopped_by` is the cause of the stop that was pending when it died, None when nobody had asked for one.
    """

    id: str
    name: str
    attempt: int
    state: InstanceState
    pid: int = 0
    started_at: float | None = None
    finished_at: float | None = None
    exit_code: int | None = None
    signal: int | None = None
    reason: str | None = None
    message: str | None = None
    stop_signal: int | None = None
    stop_at: float | None = None
    killed_at: float | None = None
    image_id: str = ""
    log_error: int = 0
    stopped_by: StopCause | None = None

    @property
    def alive(self) -> bool:
        """The process exists, or may be about to."""
        return self.state in (InstanceState.STARTING, InstanceState.RUNNING)


@dataclass(frozen=True, slots=True)
class Waiting:
    """Why the next instance cannot be made (ErrImageNeverPull, CreateContainerError, ...) and when it is tried again.

    `delay_s` is the delay that led to `retry_at`; `backoff.waiting_after` doubles it.
    """

    reason: str
    message: str
    retry_at: float
    delay_s: float = 0.0


@dataclass(frozen=True, slots=True)
class StopRequest:
    """Stop the newest instance of a container, in a pod that goes on: since `at`, with `grace_s` (None = the pod's own).

    `message` is what the Killing event says.
    """

    at: float
    grace_s: float | None
    cause: StopCause
    message: str = ""


@dataclass(frozen=True, slots=True)
class HookRun:
    """A lifecycle hook of one instance: begun at `started_at`; `error` tells why it failed, None = it did not."""

    instance_id: str
    started_at: float
    finished_at: float | None = None
    error: str | None = None


@dataclass(frozen=True, slots=True)
class ProbeResults:
    """What the probes of one instance said last. `startup` is None until it has said anything."""

    instance_id: str
    startup: bool | None = None
    readiness: bool = False
    liveness: bool = True


@dataclass(frozen=True, slots=True)
class PodFailure:
    """The pod as a whole has failed (DeadlineExceeded, Evicted, rejected before it began): never taken back.

    `grace_s`: what its containers get to end; None = the pod's own grace period.
    """

    reason: str
    message: str
    at: float
    grace_s: float | None = None


@dataclass(frozen=True, slots=True)
class ProcessUser:
    """Who the root process of an instance begins as; `groups` are its supplementary groups."""

    uid: int
    gid: int
    groups: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class RestartAll:
    """All containers of the pod are being started anew since `at`: `container` exited with a code whose rule says so."""

    at: float
    container: str
    exit_code: int


@dataclass(frozen=True, slots=True)
class ContainerLedger:
    """What is remembered of a container across instances, shims and servers. Changed by `nsrun.reconcile.ledger` alone.

    `starts` instances were begun so far (the next attempt's number); `restart_count` is what status shows.
    `backoff_s` is the delay that the next restart has to wait from `last.finished_at` (S-BACKOFF): 0 = at once.
    `last` is the newest dead instance, `previous` the one before it.
    `instance_id` is of the newest instance. `stop` asks for its end, and says what comes after it; cleared when the next one is begun.
    `post_start`, `pre_stop` and `probes` are of the newest instance. `announced` is the instance whose stop was announced.
    `afresh`: nobody looks back at earlier instances when the next one is begun: at once, and no step of the back-off.
    `image_id`, `stop_signal` and `user` are what the newest instance was made with.
    """

    starts: int = 0
    restart_count: int = 0
    backoff_s: float = 0.0
    last_start_at: float | None = None
    last: Instance | None = None
    previous: Instance | None = None
    waiting: Waiting | None = None
    instance_id: str = ""
    stop: StopRequest | None = None
    image_id: str = ""
    stop_signal: int = 15
    user: ProcessUser | None = None
    post_start: HookRun | None = None
    pre_stop: HookRun | None = None
    probes: ProbeResults | None = None
    announced: str = ""
    afresh: bool = False


class SandboxState(enum.Enum):
    """NONE: not made yet, or torn down; READY: shim and network are there; DEAD: the shim is gone, its remains are not.

    A sandbox that was begun and not finished (the server was killed in between) is DEAD too.
    """

    NONE = "none"
    READY = "ready"
    DEAD = "dead"


@dataclass(frozen=True, slots=True)
class Sandbox:
    """The pod's namespaces. `attempt` counts the sandboxes made so far minus one. `ips` is empty with hostNetwork.

    `created_at` is when the newest sandbox was begun: a sandbox that dies at once is not made again at once.
    """

    state: SandboxState = SandboxState.NONE
    attempt: int = -1
    created_at: float | None = None
    ips: tuple[str, ...] = ()
    waiting: Waiting | None = None


@dataclass(frozen=True, slots=True)
class Deletion:
    """`pod down`: since when, and with which grace period in seconds (0 = SIGKILL at once)."""

    requested_at: float
    grace_s: float


@dataclass(frozen=True, slots=True)
class ResizeState:
    """What a status tells of it.

    Attributes:
        reason, message: why what is asked for is not taken up: Infeasible or Deferred; "" when it is.
        in_progress: one that was taken up is being carried out.
        error: why that did not succeed yet, or "".
        actual: what containers have that were given something else.
    """

    reason: str = ""
    message: str = ""
    in_progress: bool = False
    error: str = ""
    actual: Mapping[str, ResourceRequirements] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Observed:
    """All that is known of a pod besides its spec.

    `current` has the newest instance of each container that the present sandbox has made; a container without one is
    absent; without a sandbox (NONE) it is empty; so it is, once settled, of those that were reset (S-RESTARTALL).
    `older` has every other instance whose record is still there.
    `terminal` is true once a terminal phase (Succeeded, Failed) was published: nothing is ever started again then.
    `restart_all`: all containers are being stopped, and reset then (S-RESTARTALL).
    `failure`: the pod has failed as a whole; what runs is stopped, and nothing is started any more.
    `changed` has the number of the first instance of a container's present definition: one before it is stopped and started anew.
    `tempo`: back-off delays and probe periods are divided by it; grace periods, deadlines and hooks are not.
    `unscheduled`: why the pod cannot begin yet, as a scheduler says it.
    `resize`: a change of amounts that is not carried out yet.
    """

    sandbox: Sandbox = Sandbox()
    current: dict[str, Instance] = field(default_factory=dict)
    older: tuple[Instance, ...] = ()
    ledgers: dict[str, ContainerLedger] = field(default_factory=dict)
    deletion: Deletion | None = None
    start_time: float | None = None
    terminal: bool = False
    host_ips: tuple[str, ...] = ()
    restart_all: RestartAll | None = None
    failure: PodFailure | None = None
    changed: dict[str, int] = field(default_factory=dict)
    tempo: float = 1.0
    unscheduled: str = ""
    resize: ResizeState | None = None


@dataclass(frozen=True, slots=True)
class Action:
    """Something to do, and why."""

    reason: str


@dataclass(frozen=True, slots=True)
class CreateSandbox(Action):
    """Make shim, namespaces and network; `attempt` is the number of the new sandbox."""

    attempt: int


@dataclass(frozen=True, slots=True)
class CleanSandbox(Action):
    """Remove what a dead shim left: cgroups with whatever still runs in them, links, address, mounts, records.

    Afterwards the sandbox is NONE. The instances have to be in the stored ledgers before their records go.
    """


@dataclass(frozen=True, slots=True)
class StopSandbox(Action):
    """End the shim and tear the network down; nothing runs in it any more. Afterwards the sandbox is NONE.

    The instances have to be in the stored ledgers before their records go.
    """


@dataclass(frozen=True, slots=True)
class StartContainer(Action):
    """Make instance number `attempt` of container `name` and start it.

    When it cannot even be made (image, config), the ledger gets a Waiting and no instance; `backoff.waiting_after`.
    """

    name: str
    attempt: int
    role: Role


@dataclass(frozen=True, slots=True)
class AnnounceStop(Action):
    """A container is going to be stopped: tell (the Killing event, once per instance), before anything is done to it.

    It is asked for until the ledger says `announced` (`ledger.stop_announced`). `message` is what the event says.
    """

    name: str
    id: str
    message: str


@dataclass(frozen=True, slots=True)
class ResetContainers(Action):
    """All containers are dead, to be started anew: let `ledger.reset` forget how they ended, and store it, in one piece."""


@dataclass(frozen=True, slots=True)
class SignalContainer(Action):
    """Send the stop signal to the root process, once."""

    name: str
    id: str
    signal: int


@dataclass(frozen=True, slots=True)
class KillContainer(Action):
    """SIGKILL to everything in the container."""

    name: str
    id: str


@dataclass(frozen=True, slots=True)
class RunHook(Action):
    """Begin a lifecycle hook of an instance, in the background.

    Note the HookRun in the stored ledger before it begins (`ledger.hook_started`), and how it ended (`hook_finished`):
    it is asked for until the first is there, and never again after.
    How long it may take is not the hook's business: the stop that waits for it goes on without it.
    """

    name: str
    id: str
    hook: HookKind


@dataclass(frozen=True, slots=True)
class ForgetInstance(Action):
    """A dead instance has a successor: store the ledger that has it, then drop its record and root file system (S-KEEP).

    Logs of attempts before the ledger's `last.attempt` go too; those of `last` stay for `pod logs --previous`.
    """

    name: str
    id: str


@dataclass(frozen=True, slots=True)
class RemovePod(Action):
    """Everything is stopped: remove what is left of the pod."""


@dataclass(frozen=True, slots=True)
class WakeAt(Action):
    """Nothing before `at` (seconds since the epoch), unless something happens."""

    at: float
