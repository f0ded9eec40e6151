"""What a status says in the less usual moments of a pod's life, and that it never contradicts itself."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nsrun.reconcile import settle
from nsrun.reconcile.model import (
    ContainerLedger,
    Deletion,
    HookRun,
    Instance,
    Observed,
    PodFailure,
    ProbeResults,
    RestartAll,
    Sandbox,
    SandboxState,
    StopCause,
    StopRequest,
)
from nsrun.spec.model import ContainerStatus, Pod, PodCondition, PodStatus
from nsrun.status import pod_status, summary
from nsrun.status.conditions import with_condition
from nsrun.status.containers import MESSAGES_MAX, signal_name
from nsrun.status.times import rfc3339
from tests.pure.reconcile.world import T0, instance, make_pod, seen

HOOK = {"lifecycle": {"postStart": {"exec": {"command": ["x"]}}}}
PROBE = {"exec": {"command": ["x"]}}


def main(**more: Any) -> Pod:
    """A pod with the one container `app`."""
    policy = more.pop("policy", "Always")
    return make_pod(policy=policy, containers=[{"name": "app", "image": "img", **more}])


def only(status: PodStatus) -> ContainerStatus:
    """The status of `app`."""
    (found,) = status.containerStatuses
    return found


def waiting(status: ContainerStatus) -> tuple[str | None, str | None]:
    """Reason and message of a waiting container."""
    assert status.state.waiting is not None, status.state
    return status.state.waiting.reason, status.state.waiting.message


def truth(status: PodStatus) -> dict[str, str]:
    """The conditions as type -> status."""
    return {condition.type: condition.status for condition in status.conditions}


# started and ready


@pytest.mark.parametrize(
    ("probes", "results", "started", "ready"),
    [
        ({}, None, True, True),
        ({"startupProbe": PROBE}, None, False, False),
        ({"startupProbe": PROBE}, ProbeResults("app-0", startup=True), True, True),
        ({"startupProbe": PROBE}, ProbeResults("app-0", startup=False), False, False),
        ({"startupProbe": PROBE}, ProbeResults("another", startup=True), False, False),
        ({"readinessProbe": PROBE}, None, True, False),
        ({"readinessProbe": PROBE}, ProbeResults("app-0", readiness=True), True, True),
        ({"readinessProbe": PROBE}, ProbeResults("app-0", readiness=False), True, False),
        ({"livenessProbe": PROBE}, ProbeResults("app-0", liveness=False), True, True),
        ({"startupProbe": PROBE, "readinessProbe": PROBE}, ProbeResults("app-0", readiness=True), False, False),
        ({"startupProbe": PROBE, "readinessProbe": PROBE}, ProbeResults("app-0", True, True), True, True),
    ],
)
def test_S_COND_started_and_ready_are_what_the_probes_say(
    probes: dict[str, Any], results: ProbeResults | None, started: bool, ready: bool
) -> None:
    ledgers = {"app": ContainerLedger(starts=1, instance_id="app-0", probes=results)}
    status = pod_status(main(**probes), seen(instance("app"), ledgers=ledgers), T0)
    assert (only(status).started, only(status).ready) == (started, ready)
    assert status.phase == "Running"
    assert truth(status)["Ready"] == truth(status)["ContainersReady"] == ("True" if ready else "False")


def test_S_COND_readiness_counts_on_while_the_pod_is_taken_down() -> None:
    ledgers = {"app": ContainerLedger(starts=1, probes=ProbeResults("app-0", readiness=True))}
    observed = seen(instance("app"), ledgers=ledgers, deletion=Deletion(T0, 30))
    assert truth(pod_status(main(readinessProbe=PROBE), observed, T0))["Ready"] == "True"


def test_S_COND_initialized_is_never_taken_back() -> None:
    pod = make_pod(inits=("i",))
    before = pod_status(pod, seen(instance("i", "exited"), instance("app")), T0)
    gone = replace(settle(pod, seen(instance("i", "exited"), instance("app", "lost")), T0 + 5), current={})
    again = replace(gone, sandbox=Sandbox(SandboxState.NONE, 0, T0))
    after = pod_status(pod, again, T0 + 9, before)
    assert truth(after)["Initialized"] == "True"
    assert truth(pod_status(pod, again, T0 + 9))["Initialized"] == "False"


def test_S_COND_what_others_have_set_stays_in_front() -> None:
    old = PodStatus(
        conditions=[
            PodCondition(type="DisruptionTarget", status="True", reason="EvictionByEvictionAPI"),
            PodCondition(type="Ready", status="True"),
            PodCondition(type="example.com/x", status="Unknown"),
        ]
    )
    status = pod_status(main(), seen(instance("app")), T0, old)
    assert [one.type for one in status.conditions] == [
        "DisruptionTarget",
        "example.com/x",
        "PodReadyToStartContainers",
        "Initialized",
        "Ready",
        "ContainersReady",
        "PodScheduled",
    ]


def test_S_COND_a_pod_with_a_gate_is_ready_once_the_gate_holds() -> None:
    pod = make_pod(readinessGates=[{"conditionType": "example.com/x"}])
    for value, ready in (("False", "False"), ("True", "True")):
        old = PodStatus(conditions=[PodCondition(type="example.com/x", status=value)])
        assert truth(pod_status(pod, seen(instance("app")), T0, old))["Ready"] == ready


def test_S_COND_a_condition_of_somebody_else_is_set_and_changed() -> None:
    pod = make_pod(readinessGates=[{"conditionType": "example.com/x"}])
    running = pod_status(pod, seen(instance("app")), T0)
    times = []
    for at, value in ((1, "False"), (2, "False"), (3, "True")):
        given = with_condition(running, PodCondition(type="example.com/x", status=value, message=str(at)), T0 + at)
        running = pod_status(pod, seen(instance("app")), T0 + at, given)
        found = next(one for one in running.conditions if one.type == "example.com/x")
        assert (found.status, found.message) == (value, str(at))
        times.append(found.lastTransitionTime)
    assert times == [rfc3339(T0 + 1), rfc3339(T0 + 1), rfc3339(T0 + 3)]
    assert truth(running)["Ready"] == "True"
    assert len([one for one in running.conditions if one.type == "example.com/x"]) == 1


# the three lists


def test_S_COND_the_order_of_the_statuses_is_the_kubelets() -> None:
    pod = make_pod(("zeta", "alpha"), inits=("second", "first*"), ephemeralContainers=[{"name": "z"}, {"name": "a"}])
    status = pod_status(pod, Observed(), T0)
    assert [one.name for one in status.containerStatuses] == ["alpha", "zeta"]
    assert [one.name for one in status.initContainerStatuses] == ["second", "first"]
    assert [one.name for one in status.ephemeralContainerStatuses] == ["a", "z"]


@pytest.mark.parametrize(
    ("what", "word"),
    [
        (None, "waiting"),
        (instance("dbg", "starting"), "waiting"),
        (instance("dbg"), "running"),
        (instance("dbg", "exited", code=3), "terminated"),
    ],
)
def test_S_COND_ephemeral_containers_have_a_status_and_count_for_nothing(what: Instance | None, word: str) -> None:
    pod = make_pod(ephemeralContainers=[{"name": "dbg", "image": "img"}])
    status = pod_status(pod, seen(instance("app"), *([what] if what else [])), T0 + 2)
    (found,) = status.ephemeralContainerStatuses
    assert getattr(found.state, word) is not None
    assert (found.ready, found.started, found.restartCount) == (False, None, 0)
    assert (status.phase, truth(status)["Ready"]) == ("Running", "True")


# reasons of waiting


def test_S_REASONS_S_HOOK_a_container_is_not_running_before_its_hook_is_done() -> None:
    pod = main(**HOOK)
    for hook in (None, HookRun("app-0", T0)):
        ledgers = {"app": ContainerLedger(starts=1, instance_id="app-0", post_start=hook)}
        status = pod_status(pod, seen(instance("app"), ledgers=ledgers), T0)
        assert waiting(only(status)) == ("ContainerCreating", None)
        assert (status.phase, only(status).started, only(status).containerID) == ("Pending", False, None)
    ledgers = {"app": ContainerLedger(starts=1, instance_id="app-0", post_start=HookRun("app-0", T0, T0 + 1))}
    assert only(pod_status(pod, seen(instance("app"), ledgers=ledgers), T0)).started


def test_S_REASONS_S_HOOK_post_start_hook_error() -> None:
    hook = HookRun("app-0", T0, T0 + 1, "command failed: boom")
    stop = StopRequest(T0, None, StopCause.POST_START, "FailedPostStartHook")
    dying = ContainerLedger(starts=1, instance_id="app-0", post_start=hook, stop=stop)
    alive = pod_status(main(**HOOK), seen(instance("app"), ledgers={"app": dying}), T0)
    assert waiting(only(alive)) == ("PostStartHookError", "command failed: boom")
    dead = instance("app", "exited", code=137, finished=T0 + 1)
    observed = seen(dead, ledgers={"app": replace(dying, backoff_s=10.0)})
    backing_off = pod_status(main(**HOOK), observed, T0 + 2)
    assert waiting(only(backing_off)) == ("PostStartHookError", "command failed: boom")
    assert only(backing_off).lastState.terminated is not None
    later = pod_status(main(**HOOK), seen(dead, ledgers={"app": replace(dying, backoff_s=20.0)}), T0 + 2)
    assert waiting(only(later))[0] == "CrashLoopBackOff"
    never = pod_status(main(policy="Never", **HOOK), observed, T0 + 2)
    assert only(never).state.terminated is not None
    assert never.phase == "Failed"


@pytest.mark.parametrize(("delay_s", "reason"), [(10.0, "RunContainerError"), (20.0, "CrashLoopBackOff")])
def test_S_REASONS_S_BACKOFF_a_command_that_cannot_start(delay_s: float, reason: str) -> None:
    failed = instance("app", "start-failed", attempt=1, message="exec /x: no such file")
    ledgers = {"app": ContainerLedger(starts=2, restart_count=1, backoff_s=delay_s, last_start_at=T0)}
    status = pod_status(main(), seen(failed, ledgers=ledgers), T0 + 2)
    found = only(status)
    assert waiting(found)[0] == reason
    assert found.lastState.terminated is not None
    assert (found.lastState.terminated.reason, found.lastState.terminated.exitCode) == ("StartError", 128)
    assert status.phase == "Running"


def test_S_REASONS_the_mains_of_a_pod_with_inits_are_initializing_until_they_run() -> None:
    pod = make_pod(("a", "b"), inits=("i",))
    status = pod_status(pod, seen(instance("i", "exited"), instance("a")), T0)
    assert waiting(status.containerStatuses[1]) == ("PodInitializing", None)


def test_S_RESTARTALL_S_REASONS_S_COND_while_all_is_started_anew() -> None:
    rule = {"exitCodes": {"operator": "In", "values": [42]}, "action": "RestartAllContainers"}
    pod = main(restartPolicy="Never", restartPolicyRules=[rule])
    before = pod_status(pod, seen(instance("app")), T0)
    assert truth(before)["AllContainersRestarting"] == "False"
    last = instance("app", "exited", code=137, reason="RestartingAllContainers", stopped_by=StopCause.RESTART_ALL)
    reset = replace(last, started_at=None, finished_at=None, message="removed")
    ledgers = {"app": ContainerLedger(starts=1, last=reset, instance_id="app-0")}
    restarting = RestartAll(T0 + 1, "app", 42)
    status = pod_status(pod, seen(ledgers=ledgers, restart_all=restarting), T0 + 2, before)
    found = only(status)
    assert waiting(found)[0] == "RestartingAllContainers"
    assert (found.restartCount, found.containerID) == (1, None)
    end = found.lastState.terminated
    assert end is not None
    assert (end.exitCode, end.reason, end.startedAt, end.containerID) == (137, "RestartingAllContainers", None, None)
    condition = next(one for one in status.conditions if one.type == "AllContainersRestarting")
    assert (condition.status, condition.reason) == ("True", "RestartAllContainersStarted")
    assert condition.message == "container exited with restart policy rule"
    assert (status.phase, truth(status)["Initialized"]) == ("Running", "True")
    done = ContainerLedger(starts=2, restart_count=1, last=reset, instance_id="app-1")
    after = pod_status(pod, seen(instance("app", attempt=1), ledgers={"app": done}), T0 + 3, status)
    assert (only(after).restartCount, truth(after)["AllContainersRestarting"]) == (1, "False")


# the end of a pod


def test_S_REASONS_S_PHASE_a_pod_that_ended_before_it_began() -> None:
    observed = Observed(sandbox=Sandbox(SandboxState.NONE, 0, T0), deletion=Deletion(T0, 0))
    status = pod_status(main(), observed, T0, PodStatus(phase="Pending"))
    end = only(status).state.terminated
    assert end is not None
    assert (end.reason, end.exitCode) == ("ContainerStatusUnknown", 137)
    assert end.message == "The container could not be located when the pod was terminated"
    assert status.phase == "Failed"


def test_S_REASONS_S_INIT_mains_of_a_pod_that_was_never_initialized_are_not_called_ended() -> None:
    pod = make_pod(inits=("i", "j", "k"), policy="Never")
    status = pod_status(pod, seen(instance("i", "exited"), instance("j", "exited", code=2)), T0 + 5)
    assert waiting(only(status)) == ("PodInitializing", None)
    ends = [one.state.terminated for one in status.initContainerStatuses]
    assert [end.exitCode if end else None for end in ends] == [0, 2, None]
    assert status.phase == "Failed"


FAILURE = PodFailure("DeadlineExceeded", "Pod was active on the node longer than the specified deadline", T0 + 5)


def test_S_PHASE_a_failed_pod_is_failed_once_nothing_of_it_runs() -> None:
    running = pod_status(main(), seen(instance("app")), T0)
    stopping = pod_status(main(), seen(instance("app"), failure=FAILURE), T0 + 5, running)
    assert (stopping.phase, stopping.reason, stopping.message) == ("Running", None, None)
    ready = next(one for one in stopping.conditions if one.type == "Ready")
    assert (ready.status, ready.reason) == ("False", "PodFailed")
    ended = seen(instance("app", "exited", code=0, finished=T0 + 6), failure=FAILURE)
    over = pod_status(main(), ended, T0 + 6, stopping)
    assert (over.phase, over.reason, over.message) == ("Failed", FAILURE.reason, FAILURE.message)
    assert only(over).state.terminated is not None
    after = pod_status(main(), replace(ended, terminal=True), T0 + 99, over)
    assert (after.phase, after.reason, after.message) == ("Failed", FAILURE.reason, FAILURE.message)


def test_S_PHASE_a_deadline_that_passes_before_anything_runs() -> None:
    pod = main()
    ledgers = {"app": ContainerLedger()}
    observed = Observed(sandbox=Sandbox(SandboxState.NONE, -1), ledgers=ledgers, failure=FAILURE, start_time=T0)
    status = pod_status(pod, observed, T0 + 5, PodStatus(phase="Pending"))
    assert (status.phase, status.reason) == ("Failed", "DeadlineExceeded")
    end = only(status).state.terminated
    assert end is not None
    assert end.reason == "ContainerStatusUnknown"


def test_S_ADMIT_a_refused_pod_says_nothing_of_containers() -> None:
    failure = PodFailure("SysctlForbidden", "forbidden sysctl", T0)
    foreign = PodCondition(type="example.com/x", status="True")
    old = PodStatus(phase="Pending", conditions=[foreign, PodCondition(type="Ready", status="False")])
    status = pod_status(main(), Observed(failure=failure, start_time=T0), T0, old)
    assert status == PodStatus(
        observedGeneration=1,
        phase="Failed",
        reason="SysctlForbidden",
        message="forbidden sysctl",
        conditions=[foreign],
        startTime=rfc3339(T0),
        qosClass="BestEffort",
    )
    assert summary(main(), status, T0).status == "SysctlForbidden"


# details


def test_S_TERMMSG_messages_share_twelve_kibibytes() -> None:
    words = "ü" * 10000
    pod = make_pod(("a", "b"), inits=("i",))
    ended = [instance(name, "exited", code=1, message=words) for name in ("i", "a", "b")]
    status = pod_status(make_pod(("a", "b"), inits=("i",), policy="Never"), seen(*ended), T0 + 2)
    assert pod.spec.initContainers
    ends = [one.state.terminated for one in (*status.initContainerStatuses, *status.containerStatuses)]
    messages = [end.message or "" for end in ends if end is not None]
    assert [len(message.encode()) for message in messages] == [MESSAGES_MAX // 3] * 3
    assert set("".join(messages)) == {"ü"}


@pytest.mark.parametrize(
    ("number", "name"),
    [
        (15, "SIGTERM"),
        (9, "SIGKILL"),
        (3, "SIGQUIT"),
        (34, "SIGRTMIN"),
        (37, "SIGRTMIN+3"),
        (62, "SIGRTMAX-2"),
        (64, "SIGRTMAX"),
    ],
)
def test_stop_signals_in_words(number: int, name: str) -> None:
    assert signal_name(number) == name


def test_observed_generation_is_the_pods() -> None:
    pod = main()
    pod.metadata.generation = 7
    status = pod_status(pod, seen(instance("app")), T0)
    assert status.observedGeneration == 7
    assert {condition.observedGeneration for condition in status.conditions} == {7}


# no contradictions

WORDS = st.sampled_from(["none", "starting", "running", "ok", "bad", "start-failed", "lost"])


@st.composite
def situations(draw: st.DrawFn) -> tuple[Pod, Observed]:
    """A pod and what could be observed of it."""
    policy = draw(st.sampled_from(["Always", "OnFailure", "Never"]))
    inits = draw(st.lists(st.sampled_from(["i", "j", "s*", "t*"]), unique=True, max_size=3))
    mains = draw(st.lists(st.sampled_from(["a", "b", "c"]), unique=True, min_size=1, max_size=3))
    probed = {"readinessProbe": PROBE} if draw(st.booleans()) else {}
    pod = make_pod(
        policy=policy, inits=tuple(inits), containers=[{"name": name, "image": "img", **probed} for name in mains]
    )
    instances, ledgers = [], {}
    for name in (*(one.rstrip("*") for one in inits), *mains):
        word = draw(WORDS)
        attempt = draw(st.integers(0, 2))
        if word == "none":
            continue
        code = {"ok": 0, "bad": 3}.get(word)
        state = "exited" if code is not None else word
        instances.append(instance(name, state, attempt=attempt, code=code))
        last = instance(name, "exited", attempt=attempt - 1, code=1, reason="Error") if attempt else None
        ledgers[name] = ContainerLedger(
            starts=attempt + 1,
            restart_count=attempt,
            backoff_s=draw(st.sampled_from([0.0, 10.0, 40.0])),
            last_start_at=T0,
            last=last,
            instance_id=f"{name}-{attempt}",
            probes=ProbeResults(f"{name}-{attempt}", readiness=draw(st.booleans())),
        )
    deletion = Deletion(T0, 30.0) if draw(st.booleans()) else None
    failure = draw(st.sampled_from([None, None, FAILURE]))
    sandbox = draw(st.sampled_from(list(SandboxState)))
    if sandbox is SandboxState.NONE:
        observed = seen(ledgers=ledgers, deletion=deletion, failure=failure, state=sandbox)
        return pod, replace(observed, older=tuple(instances))
    return pod, seen(*instances, ledgers=ledgers, deletion=deletion, failure=failure, state=sandbox)


@given(situations(), st.sampled_from(["Pending", "Running", "Succeeded", "Failed"]))
def test_S_PHASE_S_COND_a_status_never_contradicts_itself(situation: tuple[Pod, Observed], old_phase: str) -> None:
    pod, observed = situation
    status = pod_status(pod, observed, T0 + 2, PodStatus(phase=old_phase))
    every = [*status.initContainerStatuses, *status.containerStatuses]
    for one in every:
        states = [state for state in (one.state.waiting, one.state.running, one.state.terminated) if state is not None]
        assert len(states) == 1
        assert one.started is not None
        assert not one.started or one.state.running is not None
        if one.ready:
            assert one.state.running is not None or (
                one.state.terminated is not None and one.state.terminated.exitCode == 0
            )
    conditions = {condition.type: condition for condition in status.conditions}
    sidecars = {one.name for one in pod.spec.initContainers if one.restartPolicy == "Always"}
    counted = [one for one in every if one.name in sidecars or one in status.containerStatuses]
    all_ready = all(one.ready for one in counted)
    if conditions["ContainersReady"].status == "True":
        assert all_ready
        assert status.phase not in ("Succeeded", "Failed")
    elif conditions["ContainersReady"].reason == "ContainersNotReady":
        unready = [one.name for one in counted if not one.ready]
        assert set(unready) == set((conditions["ContainersReady"].message or "").partition("[")[2].rstrip("]").split())
    if conditions["Ready"].status == "True":
        assert conditions["ContainersReady"].status == "True"
    if status.phase == "Running" and old_phase == "Pending":
        assert any(
            one.state.running or one.state.terminated or one.lastState.terminated for one in status.containerStatuses
        )
    if status.phase == "Succeeded" != old_phase:
        assert all(one.state.terminated and one.state.terminated.exitCode == 0 for one in status.containerStatuses)
    if old_phase in ("Succeeded", "Failed"):
        assert status.phase == old_phase
    elif status.phase in ("Succeeded", "Failed"):
        assert not any(one.state.running for one in every)
    # The same again is the same again.
    again = pod_status(pod, observed, T0 + 2, status)
    assert again.phase == status.phase
    assert again.conditions == status.conditions
    assert again == pod_status(pod, observed, T0 + 2, again)


@given(situations())
def test_columns_of_any_status_can_be_printed(situation: tuple[Pod, Observed]) -> None:
    pod, observed = situation
    line = summary(pod, pod_status(pod, observed, T0 + 2), T0 + 2)
    ready, _, total = line.ready.partition("/")
    assert 0 <= int(ready) <= int(total)
    assert line.status
