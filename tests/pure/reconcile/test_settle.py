"""What follows from an observation: stops for probes, hooks and new definitions, and the deadline of the pod."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import msgspec
import pytest

from nsrun.reconcile import decide, settle
from nsrun.reconcile.ledger import fold, hook_finished, hook_started, probe_result
from nsrun.reconcile.model import (
    AnnounceStop,
    ContainerLedger,
    Deletion,
    HookKind,
    Instance,
    Observed,
    PodFailure,
    ProbeKind,
    Sandbox,
    SandboxState,
    SignalContainer,
    StopCause,
    StopRequest,
    StopSandbox,
    WakeAt,
)
from nsrun.reconcile.order import View, views_of
from nsrun.spec.model import Pod
from tests.pure.reconcile.world import T0, instance, make_pod, seen


def pod_with(container: Mapping[str, object], **pod: object) -> Pod:
    """A pod whose only main container has these fields."""
    made = make_pod(**pod)  # type: ignore[arg-type]  # keywords of make_pod
    data = msgspec.to_builtins(made)
    data["spec"]["containers"][0] |= container
    return msgspec.convert(data, Pod)


PROBED = {
    "livenessProbe": {"exec": {"command": ["true"]}, "terminationGracePeriodSeconds": 7},
    "startupProbe": {"exec": {"command": ["true"]}},
    "readinessProbe": {"exec": {"command": ["true"]}},
}
HOOKED = {"lifecycle": {"postStart": {"exec": {"command": ["true"]}}}}


def known(*said: tuple[ProbeKind, bool]) -> dict[str, ContainerLedger]:
    """The ledger of a running app whose probes have said this."""
    ledger = fold(ContainerLedger(), instance("app"))
    for kind, success in said:
        ledger = probe_result(ledger, "app-0", kind, success)
    return {"app": ledger}


def stop_of(pod: Pod, observed: Observed, now: float = T0 + 50) -> StopRequest | None:
    """The stop that settling gives to app."""
    return settle(pod, observed, now).ledgers["app"].stop


@pytest.mark.parametrize(
    ("policy", "text"),
    [
        ("Always", "Container app failed liveness probe, will be restarted"),
        ("OnFailure", "Container app failed liveness probe, will be restarted"),
        ("Never", "Container app failed liveness probe"),
    ],
)
def test_S_PROBE_a_failed_liveness_probe_stops_the_container_with_its_own_grace_period(policy: str, text: str) -> None:
    pod = pod_with(PROBED, policy=policy)
    observed = seen(instance("app"), ledgers=known((ProbeKind.LIVENESS, False)))
    assert stop_of(pod, observed) == StopRequest(T0 + 50, 7, StopCause.LIVENESS, text)
    settled = settle(pod, observed, T0 + 50)
    assert settle(pod, settled, T0 + 60) == settled
    assert [type(action) for action in decide(pod, settled, T0 + 60)] == [AnnounceStop, SignalContainer]


def test_S_PROBE_a_failed_startup_probe_stops_the_container() -> None:
    observed = seen(instance("app"), ledgers=known((ProbeKind.STARTUP, False)))
    text = "Container app failed startup probe, will be restarted"
    assert stop_of(pod_with(PROBED), observed) == StopRequest(T0 + 50, None, StopCause.STARTUP, text)


def test_S_PROBE_nothing_is_stopped_for_readiness_or_for_an_instance_that_is_gone() -> None:
    pod = pod_with(PROBED)
    assert stop_of(pod, seen(instance("app"), ledgers=known((ProbeKind.READINESS, False)))) is None
    ledgers = known((ProbeKind.LIVENESS, False))
    assert stop_of(pod, seen(instance("app", "exited"), ledgers=ledgers)) is None
    assert stop_of(pod, seen(instance("app", attempt=1), ledgers=ledgers)) is None
    deleted = seen(instance("app"), ledgers=ledgers, deletion=Deletion(T0, 30.0))
    assert stop_of(pod, deleted) is None


@pytest.mark.parametrize(("policy", "again"), [("Always", True), ("OnFailure", True), ("Never", False)])
@pytest.mark.parametrize("code", [0, 143])
def test_S_RESTART_after_a_failed_probe_the_exit_code_does_not_count(policy: str, again: bool, code: int) -> None:
    pod = pod_with(PROBED, policy=policy)
    settled = settle(pod, seen(instance("app"), ledgers=known((ProbeKind.LIVENESS, False))), T0 + 50)
    dead = replace(settled, current={"app": instance("app", "exited", finished=T0 + 51, code=code)})
    view = views_of(pod, settle(pod, dead, T0 + 51)).mains[0]
    assert view.wants_instance(pod) is again


def test_S_RESTART_after_a_failed_probe_the_containers_own_policy_counts_and_no_rule() -> None:
    rules = [{"action": "Restart", "exitCodes": {"operator": "In", "values": [42]}}]
    pod = pod_with(PROBED | {"restartPolicy": "Never", "restartPolicyRules": rules})
    settled = settle(pod, seen(instance("app"), ledgers=known((ProbeKind.LIVENESS, False))), T0 + 50)
    dead = replace(settled, current={"app": instance("app", "exited", finished=T0 + 51, code=42)})
    assert not views_of(pod, settle(pod, dead, T0 + 51)).mains[0].wants_instance(pod)


def test_S_HOOK_a_postStart_hook_that_failed_stops_the_container() -> None:
    ledger = hook_started(fold(ContainerLedger(), instance("app")), HookKind.POST_START, "app-0", T0)
    pod = pod_with(HOOKED)
    assert stop_of(pod, seen(instance("app"), ledgers={"app": ledger})) is None
    well = hook_finished(ledger, HookKind.POST_START, "app-0", T0 + 1)
    assert stop_of(pod, seen(instance("app"), ledgers={"app": well})) is None
    failed = hook_finished(ledger, HookKind.POST_START, "app-0", T0 + 1, "exit 1")
    assert stop_of(pod, seen(instance("app"), ledgers={"app": failed})) == StopRequest(
        T0 + 50, None, StopCause.POST_START, "FailedPostStartHook"
    )


@pytest.mark.parametrize(
    ("policy", "code", "again"), [("OnFailure", 0, False), ("OnFailure", 1, True), ("Never", 1, False)]
)
def test_S_RESTART_after_a_failed_postStart_hook_the_policy_counts(policy: str, code: int, again: bool) -> None:
    ended = replace(instance("app", "exited", code=code), stopped_by=StopCause.POST_START)
    pod = pod_with(HOOKED, policy=policy)
    assert views_of(pod, settle(pod, seen(ended), T0)).mains[0].wants_instance(pod) is again


@pytest.mark.parametrize(("first", "stops"), [(0, False), (1, True), (2, True)])
@pytest.mark.parametrize("policy", ["Always", "Never"])
def test_S_RESTART_a_changed_definition_whatever_the_policy(first: int, stops: bool, policy: str) -> None:
    pod = make_pod(policy=policy)
    observed = seen(instance("app"), changed={"app": first})
    text = "Container app definition changed, will be restarted"
    assert stop_of(pod, observed) == (StopRequest(T0 + 50, None, StopCause.CHANGED, text) if stops else None)
    settled = settle(pod, observed, T0 + 50)
    dead = replace(settled, current={"app": instance("app", "exited", finished=T0 + 51, code=0)})
    assert views_of(pod, settle(pod, dead, T0 + 51)).mains[0].wants_instance(pod) is (stops or policy == "Always")


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("app", "Container app definition changed, will be restarted"),
        ("side", "Init container side definition changed"),
        ("init", None),
    ],
)
def test_S_RESTART_a_changed_definition_of_an_init_container(name: str, message: str | None) -> None:
    pod = make_pod(inits=["init", "side*"])
    ledger = settle(pod, seen(instance(name), changed={name: 1}), T0 + 50).ledgers[name]
    assert (ledger.stop and ledger.stop.message) == message


def test_S_RESTART_a_changed_definition_starts_nothing_that_is_done() -> None:
    pod = make_pod(mains=["app", "other"], policy="Never")
    observed = seen(instance("app", "exited"), instance("other"), changed={"app": 1})
    assert decide(pod, observed, T0 + 50) == []


def test_S_BACKOFF_begins_anew_with_a_changed_definition() -> None:
    before = ContainerLedger(starts=4, restart_count=3, backoff_s=40, last_start_at=T0, last=instance("app", attempt=2))
    observed = seen(instance("app", attempt=3), ledgers={"app": before}, changed={"app": 4})
    settled = settle(make_pod(), observed, T0 + 2)
    dead = replace(settled, current={"app": instance("app", "exited", attempt=3, finished=T0 + 3)})
    settled = settle(make_pod(), dead, T0 + 3)
    assert [type(action).__name__ for action in decide(make_pod(), settled, T0 + 3)] == ["StartContainer"]
    begun = fold(settled.ledgers["app"], instance("app", attempt=4, started=T0 + 4))
    assert begun.backoff_s == 0.0


def test_S_COND_started_and_ready_follow_the_probes_and_the_hook() -> None:
    def view(fields: Mapping[str, object], ledger: ContainerLedger, one: Instance | None = None) -> View:
        pod = pod_with(fields)
        return views_of(pod, seen(one or instance("app"), ledgers={"app": ledger})).mains[0]

    said = known((ProbeKind.STARTUP, True))["app"]
    ready = known((ProbeKind.STARTUP, True), (ProbeKind.READINESS, True))["app"]
    cases = [
        (view({}, ContainerLedger()), (True, True, True)),
        (view({}, ContainerLedger(), instance("app", "starting")), (False, False, False)),
        (view({}, ContainerLedger(), instance("app", "exited")), (False, False, False)),
        (view(PROBED, known()["app"]), (True, False, False)),
        (view(PROBED, known((ProbeKind.STARTUP, False))["app"]), (True, False, False)),
        (view(PROBED, said), (True, True, False)),
        (view(PROBED, ready), (True, True, True)),
        (view(PROBED, ready, instance("app", attempt=1)), (True, False, False)),
        (view(HOOKED, known()["app"]), (False, False, False)),
    ]
    hook = hook_started(known()["app"], HookKind.POST_START, "app-0", T0)
    cases.append((view(HOOKED, hook), (False, False, False)))
    cases.append((view(HOOKED, hook_finished(hook, HookKind.POST_START, "app-0", T0, "x")), (False, False, False)))
    cases.append((view(HOOKED, hook_finished(hook, HookKind.POST_START, "app-0", T0)), (True, True, True)))
    for one, expected in cases:
        assert (one.running, one.started, one.ready) == expected


def test_S_SIDECAR_whose_startup_probe_has_not_succeeded_gates_the_next() -> None:
    pod = make_pod(inits=("s*",))
    pod.spec.initContainers[0] = msgspec.structs.replace(
        pod.spec.initContainers[0], startupProbe=pod_with(PROBED).spec.containers[0].startupProbe
    )
    assert decide(pod, seen(instance("s")), T0 + 1) == []
    ledger = probe_result(fold(ContainerLedger(), instance("s")), "s-0", ProbeKind.STARTUP, True)
    actions = decide(pod, seen(instance("s"), ledgers={"s": ledger}), T0 + 1)
    assert [type(action).__name__ for action in actions] == ["StartContainer"]


def test_S_PHASE_a_pod_that_was_active_for_too_long_fails_and_is_wound_up() -> None:
    pod = make_pod(activeDeadlineSeconds=60, grace=5)
    observed = seen(instance("app"))
    assert decide(pod, observed, T0 + 59) == [WakeAt("the pod's active deadline", T0 + 60)]
    settled = settle(pod, observed, T0 + 61)
    text = "Pod was active on the node longer than the specified deadline"
    assert settled.failure == PodFailure("DeadlineExceeded", text, T0 + 61)
    assert [type(action) for action in decide(pod, settled, T0 + 61)] == [AnnounceStop, SignalContainer]
    longer = msgspec.structs.replace(pod, spec=msgspec.structs.replace(pod.spec, activeDeadlineSeconds=None))
    assert settle(longer, settled, T0 + 62).failure == settled.failure, "it is never taken back"
    ended = replace(settled, current={"app": instance("app", "exited", code=143, finished=T0 + 62)})
    assert [type(action) for action in decide(pod, ended, T0 + 62)] == [StopSandbox]


def test_S_PHASE_a_deadline_does_not_touch_a_pod_that_has_finished_or_is_deleted() -> None:
    pod = make_pod(activeDeadlineSeconds=60)
    assert settle(pod, seen(instance("app"), terminal=True), T0 + 99).failure is None
    assert settle(pod, seen(instance("app"), deletion=Deletion(T0, 30.0)), T0 + 99).failure is None
    assert settle(pod, Observed(), T0 + 99).failure is None


def test_S_BACKOFF_the_tempo_makes_the_delay_shorter() -> None:
    dead = instance("app", "exited", attempt=2, code=1, finished=T0 + 95)
    ledgers = {"app": ContainerLedger(starts=3, backoff_s=20.0, last_start_at=T0)}
    for tempo, at in ((1.0, 115), (10.0, 97)):
        observed = seen(dead, ledgers=ledgers, tempo=tempo)
        assert decide(make_pod(), observed, T0 + 95) == [WakeAt("container app: back-off 20s", T0 + at)]


def _killed_for_its_probe(attempt: int, finished: float) -> Instance:
    return replace(
        instance("app", "exited", attempt=attempt, finished=T0 + finished, code=143), stopped_by=StopCause.LIVENESS
    )


@pytest.mark.parametrize(
    ("previous", "killed", "backoff_s", "due", "step"),
    [
        (None, 30.0, 0.0, None, 0.0),
        (30.0, 60.0, 0.0, None, 10.0),
        (60.0, 95.0, 20.0, None, 40.0),
        (60.0, 75.0, 20.0, 95.0, 40.0),
        (60.0, 2000.0, 40.0, None, 80.0),
    ],
)
def test_S_BACKOFF_after_a_failed_probe_counts_from_the_end_before(
    previous: float | None, killed: float, backoff_s: float, due: float | None, step: float
) -> None:
    """The kubelet kills and starts in one round, knowing only the end before; only if it is too early then, this end counts."""
    last = _killed_for_its_probe(3, killed)
    before = None if previous is None else instance("app", "exited", attempt=2, finished=T0 + previous, code=1)
    ledger = ContainerLedger(
        starts=4,
        restart_count=3,
        backoff_s=backoff_s,
        last_start_at=T0,
        last=last,
        previous=before,
        instance_id="app-3",
    )
    observed = seen(last, ledgers={"app": ledger})
    actions = decide(make_pod(), observed, T0 + killed)
    if due is None:
        assert [type(action).__name__ for action in actions] == ["StartContainer"]
    else:
        assert actions == [WakeAt(f"container app: back-off {backoff_s:g}s", T0 + due)]
    begun = fold(ledger, instance("app", attempt=4, started=T0 + killed))
    assert begun.backoff_s == step


def test_S_BACKOFF_a_failed_probe_does_not_reset_it_however_long_the_container_lived() -> None:
    ledger = ContainerLedger(starts=1, backoff_s=40.0, last_start_at=T0, instance_id="app-0")
    killed = replace(_killed_for_its_probe(0, 2000.0), stopped_by=None)
    by_itself = fold(ledger, killed)
    assert by_itself.backoff_s == 0.0
    asked = replace(ledger, stop=StopRequest(T0 + 1990, None, StopCause.LIVENESS, "x"))
    assert fold(asked, killed).backoff_s == 40.0


def test_S_SANDBOX_S_BACKOFF_inits_of_a_new_sandbox_wait_for_nothing() -> None:
    pod = make_pod(inits=("i", "s*"))
    ends = {
        name: ContainerLedger(starts=1, backoff_s=40.0, last_start_at=T0, last=instance(name, "lost", finished=T0 + 5))
        for name in ("i", "s", "app")
    }
    none = Observed(sandbox=Sandbox(SandboxState.NONE, 0, T0), ledgers=ends, start_time=T0)
    settled = settle(pod, none, T0 + 6)
    assert [settled.ledgers[name].afresh for name in ("i", "s", "app")] == [True, True, False]
    ready = replace(settled, sandbox=Sandbox(SandboxState.READY, 1, T0 + 6))
    assert [type(action).__name__ for action in decide(pod, ready, T0 + 6)] == ["StartContainer"]
    again = fold(settled.ledgers["i"], instance("i", attempt=1, started=T0 + 6))
    assert (again.backoff_s, again.afresh) == (40.0, False), "it takes no step either"
    began = replace(ready, current={"i": instance("i", "exited", attempt=1, started=T0 + 6, finished=T0 + 7)})
    began = replace(began, current=began.current | {"s": instance("s", attempt=1, started=T0 + 7)})
    assert decide(pod, began, T0 + 8) == [WakeAt("container app: back-off 40s", T0 + 45)]


@pytest.mark.parametrize("kind", [ProbeKind.LIVENESS, ProbeKind.STARTUP])
def test_S_EVENTS_of_a_sidecar_that_failed_its_probe(kind: ProbeKind) -> None:
    pod = make_pod(inits=("s*",))
    ledger = probe_result(fold(ContainerLedger(), instance("s")), "s-0", kind, False)
    stop = settle(pod, seen(instance("s"), ledgers={"s": ledger}), T0).ledgers["s"].stop
    assert stop is not None
    assert stop.message == f"Init container s failed {kind.value} probe"
