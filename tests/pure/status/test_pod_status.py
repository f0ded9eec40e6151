"""PodStatus from what is observed: phase, conditions, container states."""

from __future__ import annotations

from dataclasses import replace

import msgspec
import pytest

from nsrun.reconcile.ledger import complete
from nsrun.reconcile.model import (
    ContainerLedger,
    Deletion,
    Instance,
    Observed,
    ProcessUser,
    Sandbox,
    SandboxState,
    StopCause,
    StopRequest,
    Waiting,
)
from nsrun.spec.model import ContainerStatus, Pod, PodCondition, PodStatus
from nsrun.status import pod_status
from nsrun.status.times import rfc3339
from tests.pure.reconcile.world import T0, instance, make_pod, seen

CREATED = ContainerLedger(starts=1)


def ended(code: int = 0, **more: object) -> Instance:
    """A dead instance of `app`."""
    return instance("app", "exited", code=code, **more)  # type: ignore[arg-type]


def crashing(code: int = 1) -> dict[str, ContainerLedger]:
    """`app` has crashed before: its next restart waits 20 s."""
    return {
        "app": ContainerLedger(
            starts=3, restart_count=2, backoff_s=20.0, last_start_at=T0, last=ended(code, reason="Error")
        )
    }


def gone(*instances: Instance) -> Observed:
    """No sandbox any more; the ledgers know the instances."""
    ledgers = {
        one.name: ContainerLedger(
            starts=one.attempt + 1, restart_count=one.attempt, last=complete(one, ContainerLedger())
        )
        for one in instances
    }
    return Observed(sandbox=Sandbox(SandboxState.NONE, 0, T0), ledgers=ledgers, start_time=T0)


PHASES: list[tuple[str, Pod, Observed, str]] = [
    ("nothing yet", make_pod(), Observed(), "Pending"),
    ("sandbox only", make_pod(), seen(), "Pending"),
    ("starting", make_pod(), seen(instance("app", "starting")), "Pending"),
    ("running", make_pod(), seen(instance("app")), "Running"),
    ("one of two not yet", make_pod(("app", "b")), seen(instance("app")), "Pending"),
    ("init runs", make_pod(inits=("i",)), seen(instance("i")), "Pending"),
    ("init retries", make_pod(inits=("i",)), seen(instance("i", "exited", code=1)), "Pending"),
    ("init failed", make_pod(inits=("i",), policy="Never"), seen(instance("i", "exited", code=1)), "Failed"),
    (
        "init failed, sidecar lives",
        make_pod(inits=("s*", "i"), policy="Never"),
        seen(instance("s"), instance("i", "exited", code=1)),
        "Pending",
    ),
    ("init done", make_pod(inits=("i",)), seen(instance("i", "exited"), instance("app")), "Running"),
    ("sidecar not started", make_pod(inits=("s*",)), seen(instance("s", "starting")), "Pending"),
    ("sidecar alone", make_pod(inits=("s*",)), seen(instance("s")), "Pending"),
    (
        "sidecar crashed after initialization",
        make_pod(inits=("s*",)),
        seen(instance("s", "exited", code=1), instance("app")),
        "Running",
    ),
    ("crash loop", make_pod(), seen(ended(1, attempt=2), ledgers=crashing()), "Running"),
    ("exit 0 under Always", make_pod(), seen(ended(0)), "Running"),
    ("exit 1 under OnFailure", make_pod(policy="OnFailure"), seen(ended(1)), "Running"),
    ("exit 0 under OnFailure", make_pod(policy="OnFailure"), seen(ended(0)), "Succeeded"),
    ("exit 0 under Never", make_pod(policy="Never"), seen(ended(0)), "Succeeded"),
    ("exit 1 under Never", make_pod(policy="Never"), seen(ended(1)), "Failed"),
    (
        "one failed, one runs",
        make_pod(("app", "b"), policy="Never"),
        seen(ended(1), instance("b")),
        "Running",
    ),
    (
        "one failed, one succeeded",
        make_pod(("app", "b"), policy="Never"),
        seen(ended(1), instance("b", "exited")),
        "Failed",
    ),
    ("mains done, sidecar lives", make_pod(inits=("s*",), policy="Never"), seen(instance("s"), ended(0)), "Running"),
    (
        "mains done, sidecar failed",
        make_pod(inits=("s*",), policy="Never"),
        seen(instance("s", "exited", code=1), ended(0)),
        "Succeeded",
    ),
    ("finished and stopped", make_pod(policy="Never"), gone(ended(0)), "Succeeded"),
    ("lost under Never", make_pod(policy="Never"), gone(instance("app", "lost")), "Failed"),
    ("lost under Always", make_pod(), gone(instance("app", "lost")), "Running"),
    ("start error under Never", make_pod(policy="Never"), seen(instance("app", "start-failed")), "Failed"),
    (
        "waits for an image",
        make_pod(),
        seen(ledgers={"app": ContainerLedger(waiting=Waiting("ErrImagePull", "x", T0 + 9))}),
        "Pending",
    ),
    ("deleted, still running", make_pod(), seen(instance("app"), deletion=Deletion(T0, 30)), "Running"),
    ("deleted, killed", make_pod(), seen(ended(137), deletion=Deletion(T0, 30)), "Failed"),
    ("deleted, ended well", make_pod(), seen(ended(0), deletion=Deletion(T0, 30)), "Succeeded"),
    (
        "restart requested under Never",
        make_pod(policy="Never"),
        seen(ended(143), ledgers={"app": replace(CREATED, stop=StopRequest(T0, None, StopCause.REQUEST))}),
        "Running",
    ),
]


@pytest.mark.parametrize(("pod", "observed", "phase"), [case[1:] for case in PHASES], ids=[case[0] for case in PHASES])
def test_S_PHASE(pod: Pod, observed: Observed, phase: str) -> None:
    old = PodStatus(phase="Pending")
    assert pod_status(pod, observed, T0 + 2, old).phase == phase


@pytest.mark.parametrize("phase", ["Succeeded", "Failed"])
def test_S_PHASE_terminal_is_for_ever(phase: str) -> None:
    old = PodStatus(phase=phase, reason="DeadlineExceeded", message="m")
    status = pod_status(make_pod(), seen(instance("app")), T0, old)
    assert (status.phase, status.reason, status.message) == (phase, "DeadlineExceeded", "m")


def one(status: PodStatus, name: str = "app") -> ContainerStatus:
    """The status of a container."""
    return next(c for c in (*status.initContainerStatuses, *status.containerStatuses) if c.name == name)


def words(status: ContainerStatus) -> tuple[str, str | None, str | None]:
    """State, its reason, and the reason in lastState."""
    last = status.lastState.terminated
    state = status.state
    if state.waiting is not None:
        return "waiting", state.waiting.reason, last.reason if last else None
    if state.running is not None:
        return "running", None, last.reason if last else None
    assert state.terminated is not None
    return "terminated", state.terminated.reason, last.reason if last else None


STATES: list[tuple[str, Pod, Observed, tuple[str, str | None, str | None]]] = [
    ("not yet", make_pod(), Observed(), ("waiting", "ContainerCreating", None)),
    ("not yet, with inits", make_pod(inits=("i",)), seen(), ("waiting", "PodInitializing", None)),
    ("starting", make_pod(), seen(instance("app", "starting")), ("waiting", "ContainerCreating", None)),
    ("running", make_pod(), seen(instance("app")), ("running", None, None)),
    (
        "running again",
        make_pod(),
        seen(instance("app", attempt=1), ledgers={"app": ContainerLedger(starts=2, last=ended(2, reason="Error"))}),
        ("running", None, "Error"),
    ),
    ("exit 0", make_pod(policy="Never"), seen(ended(0)), ("terminated", "Completed", None)),
    ("exit 3", make_pod(policy="Never"), seen(ended(3)), ("terminated", "Error", None)),
    ("oom", make_pod(policy="Never"), seen(ended(137, reason="OOMKilled")), ("terminated", "OOMKilled", None)),
    ("about to restart", make_pod(), seen(ended(1)), ("terminated", "Error", None)),
    ("back-off", make_pod(), seen(ended(1, attempt=3), ledgers=crashing()), ("waiting", "CrashLoopBackOff", "Error")),
    (
        "back-off after exit 0",
        make_pod(),
        seen(ended(0, attempt=3), ledgers=crashing()),
        ("waiting", "CrashLoopBackOff", "Completed"),
    ),
    (
        "image",
        make_pod(),
        seen(ledgers={"app": ContainerLedger(waiting=Waiting("ErrImageNeverPull", "x", T0 + 9))}),
        ("waiting", "ErrImageNeverPull", None),
    ),
    (
        "image gone for the restart",
        make_pod(),
        seen(ended(1), ledgers={"app": replace(CREATED, waiting=Waiting("ErrImagePull", "x", T0 + 9))}),
        ("waiting", "ErrImagePull", "Error"),
    ),
    (
        "start error",
        make_pod(policy="Never"),
        seen(instance("app", "start-failed")),
        ("terminated", "StartError", None),
    ),
    ("new sandbox", make_pod(), gone(instance("app", "lost", reason="X")), ("waiting", "ContainerCreating", "X")),
    ("finished", make_pod(policy="Never"), gone(ended(1, reason="Error")), ("terminated", "Error", None)),
    (
        "deleted in back-off",
        make_pod(),
        seen(ended(1, attempt=3), ledgers=crashing(), deletion=Deletion(T0, 30)),
        ("terminated", "Error", "Error"),
    ),
]


@pytest.mark.parametrize(
    ("pod", "observed", "expected"), [case[1:] for case in STATES], ids=[case[0] for case in STATES]
)
def test_S_REASONS(pod: Pod, observed: Observed, expected: tuple[str, str | None, str | None]) -> None:
    assert words(one(pod_status(pod, observed, T0 + 2))) == expected


@pytest.mark.parametrize(
    ("delay_s", "text"), [(10.0, "10s"), (20.0, "20s"), (80.0, "1m20s"), (160.0, "2m40s"), (300.0, "5m0s")]
)
def test_S_BACKOFF_message_is_the_kubelets(delay_s: float, text: str) -> None:
    ledger = replace(crashing()["app"], backoff_s=delay_s)
    status = one(pod_status(make_pod(), seen(ended(1, attempt=2), ledgers={"app": ledger}), T0 + 2))
    assert status.state.waiting is not None
    assert status.state.waiting.message == f"back-off {text} restarting failed container=app pod=p_ns(u-1)"


def test_S_REASONS_the_whole_of_a_running_container() -> None:
    last = ended(137, finished=T0 + 4.5, reason="OOMKilled")
    ledgers = {
        "app": ContainerLedger(
            starts=2, restart_count=1, last=last, image_id="sha256:abc", user=ProcessUser(1000, 3000, (4000, 3000))
        )
    }
    observed = seen(instance("app", attempt=1, started=T0 + 5.9), ledgers=ledgers)
    status = one(pod_status(make_pod(), observed, T0 + 10))
    assert msgspec.to_builtins(status) == {
        "name": "app",
        "image": "img",
        "imageID": "sha256:abc",
        "containerID": "nsrun://app-1",
        "ready": True,
        "started": True,
        "restartCount": 1,
        "stopSignal": "SIGTERM",
        "resources": {},
        "user": {"linux": {"uid": 1000, "gid": 3000, "supplementalGroups": [3000, 4000]}},
        "state": {"running": {"startedAt": rfc3339(T0 + 5)}},
        "lastState": {
            "terminated": {
                "containerID": "nsrun://app-0",
                "exitCode": 137,
                "reason": "OOMKilled",
                "startedAt": rfc3339(T0),
                "finishedAt": rfc3339(T0 + 4),
            }
        },
    }


def test_S_COND_ready_and_started_of_init_containers() -> None:
    pod = make_pod(inits=("i", "s*"))
    before = pod_status(pod, seen(instance("i")), T0)
    assert (one(before, "i").ready, one(before, "i").started) == (False, True)
    after = pod_status(pod, seen(instance("i", "exited"), instance("s"), instance("app")), T0)
    assert (one(after, "i").ready, one(after, "i").started) == (True, False)
    assert (one(after, "s").ready, one(after, "s").started) == (True, True)


def truth(status: PodStatus) -> dict[str, tuple[str, str | None, str | None]]:
    """The conditions as type -> (status, reason, message)."""
    return {c.type: (c.status, c.reason, c.message) for c in status.conditions}


def test_S_COND_before_anything_runs() -> None:
    status = pod_status(make_pod(("a", "b"), inits=("i", "s*")), Observed(), T0)
    unready = ("False", "ContainersNotReady", "containers with unready status: [s a b]")
    assert truth(status) == {
        "PodReadyToStartContainers": ("False", None, None),
        "Initialized": ("False", "ContainersNotInitialized", "containers with incomplete status: [i s]"),
        "Ready": unready,
        "ContainersReady": unready,
        "PodScheduled": ("True", None, None),
    }


def test_S_COND_all_true_when_all_run() -> None:
    pod = make_pod(inits=("i", "s*"))
    status = pod_status(pod, seen(instance("i", "exited"), instance("s"), instance("app")), T0)
    assert set(truth(status).values()) == {("True", None, None)}
    assert [c.observedGeneration for c in status.conditions] == [1] * 5


def test_S_COND_initialized_once_a_main_has_started() -> None:
    pod = make_pod(inits=("s*",))
    status = pod_status(pod, seen(instance("s", "exited", code=1), instance("app")), T0)
    assert truth(status)["Initialized"] == ("True", None, None)
    assert truth(status)["Ready"] == ("False", "ContainersNotReady", "containers with unready status: [s]")


@pytest.mark.parametrize(("code", "reason"), [(0, "PodCompleted"), (1, "PodFailed")])
def test_S_COND_of_a_finished_pod(code: int, reason: str) -> None:
    status = pod_status(make_pod(policy="Never"), gone(ended(code)), T0)
    conditions = truth(status)
    assert conditions["Ready"] == conditions["ContainersReady"] == ("False", reason, None)
    assert conditions["Initialized"] == ("True", "PodCompleted" if code == 0 else None, None)
    assert conditions["PodReadyToStartContainers"] == ("False", None, None)


def test_S_COND_readiness_gates() -> None:
    pod = make_pod(readinessGates=[{"conditionType": "example.com/a"}, {"conditionType": "example.com/b"}])
    foreign = PodCondition(type="example.com/b", status="False", lastTransitionTime="2001-01-01T00:00:00Z")
    status = pod_status(pod, seen(instance("app")), T0, PodStatus(conditions=[foreign]))
    assert truth(status)["ContainersReady"] == ("True", None, None)
    assert truth(status)["Ready"] == (
        "False",
        "ReadinessGatesNotReady",
        'corresponding condition of pod readiness gate "example.com/a" does not exist., '
        'the status of pod readiness gate "example.com/b" is not "True", but False',
    )
    assert status.conditions[0] == foreign


def test_S_COND_a_transition_time_stays_as_long_as_the_status_does() -> None:
    pod = make_pod()
    first = pod_status(pod, seen(), T0)
    second = pod_status(pod, seen(instance("app")), T0 + 10, first)
    third = pod_status(pod, seen(instance("app")), T0 + 20, second)
    times = [{c.type: c.lastTransitionTime for c in status.conditions} for status in (first, second, third)]
    assert times[1]["Ready"] == rfc3339(T0 + 10)
    assert times[1]["PodScheduled"] == rfc3339(T0)
    assert times[2] == times[1]


def test_addresses_and_times() -> None:
    observed = replace(seen(instance("app")), host_ips=("192.0.2.1",))
    status = pod_status(make_pod(), observed, T0)
    assert (status.podIP, [ip.ip for ip in status.podIPs]) == ("10.1.0.2", ["10.1.0.2"])
    assert (status.hostIP, [ip.ip for ip in status.hostIPs]) == ("192.0.2.1", ["192.0.2.1"])
    assert (status.startTime, status.observedGeneration, status.qosClass) == (rfc3339(T0), 1, "BestEffort")


def test_the_address_of_a_pod_on_the_hosts_network_is_the_hosts() -> None:
    observed = replace(seen(instance("app")), host_ips=("192.0.2.1",), sandbox=Sandbox(SandboxState.READY, 0, T0))
    assert pod_status(make_pod(hostNetwork=True), observed, T0).podIP == "192.0.2.1"


def test_a_finished_pod_keeps_its_address() -> None:
    pod = make_pod(policy="Never")
    running = pod_status(pod, seen(instance("app")), T0)
    assert pod_status(pod, gone(ended(0)), T0 + 9, running).podIP == "10.1.0.2"
    assert pod_status(make_pod(), gone(ended(0)), T0 + 9, running).podIP is None, "a new sandbox has a new address"
