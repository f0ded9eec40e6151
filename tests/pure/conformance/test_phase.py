"""The phase of a pod in the situations that the kubelet's own tests name.

Source: kubelet pkg/kubelet/kubelet_pods_test.go, TestPodPhaseWithRestartAlways, ...InitContainers,
...RestartableInitContainers, ...AndPodHasRun, their sisters for Never and OnFailure, and ...ContainerRestartPolicy. A row there is
a list of container statuses; a row here is a situation that has these statuses.
"""

from __future__ import annotations

from dataclasses import replace

import pytest

from nsrun.reconcile.model import ContainerLedger, Deletion, ProbeResults
from nsrun.spec.model import Pod, PodStatus
from nsrun.status import pod_status
from tests.pure.conformance.situations import NOW, phase, situation
from tests.pure.reconcile.world import T0, make_pod

AB = ("A", "B")


@pytest.mark.parametrize(
    ("policy", "words", "expected"),
    [
        ("Always", {}, "Pending"),
        ("Always", {"A": "run", "B": "run"}, "Running"),
        ("Always", {"A": "ok", "B": "ok"}, "Running"),
        ("Always", {"A": "run", "B": "ok"}, "Running"),
        ("Always", {"A": "run"}, "Pending"),
        ("Always", {"A": "run", "B": "starting"}, "Pending"),
        ("Always", {"A": "run", "B": "back-off 0"}, "Running"),
        ("Always", {"A": "back-off 1", "B": "back-off 0"}, "Running"),
        ("Never", {}, "Pending"),
        ("Never", {"A": "run", "B": "run"}, "Running"),
        ("Never", {"A": "ok", "B": "ok"}, "Succeeded"),
        ("Never", {"A": "1", "B": "1"}, "Failed"),
        ("Never", {"A": "ok", "B": "1"}, "Failed"),
        ("Never", {"A": "run", "B": "ok"}, "Running"),
        ("Never", {"A": "run", "B": "1"}, "Running"),
        ("Never", {"A": "run"}, "Pending"),
        ("Never", {"A": "run", "B": "starting"}, "Pending"),
        ("OnFailure", {}, "Pending"),
        ("OnFailure", {"A": "run", "B": "run"}, "Running"),
        ("OnFailure", {"A": "ok", "B": "ok"}, "Succeeded"),
        ("OnFailure", {"A": "1", "B": "1"}, "Running"),
        ("OnFailure", {"A": "1", "B": "ok"}, "Running"),
        ("OnFailure", {"A": "run", "B": "ok"}, "Running"),
        ("OnFailure", {"A": "run"}, "Pending"),
        ("OnFailure", {"A": "run", "B": "back-off 1"}, "Running"),
    ],
)
def test_S_PHASE_of_mains(policy: str, words: dict[str, str], expected: str) -> None:
    assert phase(make_pod(AB, policy=policy), words) == expected


@pytest.mark.parametrize(
    ("words", "expected"),
    [({"A": "ok", "B": "ok"}, "Succeeded"), ({"A": "ok", "B": "137"}, "Failed"), ({"A": "ok", "B": "run"}, "Running")],
)
def test_S_PHASE_of_a_deleted_pod_whose_containers_would_be_restarted(words: dict[str, str], expected: str) -> None:
    pod = make_pod(AB)
    assert phase(pod, situation(pod, words, deletion=Deletion(T0, 30.0))) == expected


@pytest.mark.parametrize(
    ("policy", "words", "expected"),
    [
        ("Always", {}, "Pending"),
        ("Always", {"X": "run"}, "Pending"),
        ("Always", {"X": "1"}, "Pending"),
        ("Always", {"X": "before 0"}, "Pending"),
        ("Always", {"X": "back-off 1"}, "Pending"),
        ("Always", {"X": "starting"}, "Pending"),
        ("Always", {"X": "ok", "A": "run", "B": "run"}, "Running"),
        ("Never", {}, "Pending"),
        ("Never", {"X": "run"}, "Pending"),
        ("Never", {"X": "1"}, "Failed"),
        ("Never", {"X": "before 0"}, "Pending"),
        ("Never", {"X": "before 1"}, "Failed"),
        ("Never", {"X": "starting"}, "Pending"),
        ("Never", {"X": "ok", "A": "run", "B": "run"}, "Running"),
        ("OnFailure", {"X": "1"}, "Pending"),
        ("OnFailure", {"X": "ok", "A": "ok", "B": "ok"}, "Succeeded"),
    ],
)
def test_S_PHASE_with_an_init_container(policy: str, words: dict[str, str], expected: str) -> None:
    assert phase(make_pod(AB, ["X"], policy), words) == expected


@pytest.mark.parametrize(
    ("policy", "words", "expected"),
    [
        ("Always", {}, "Pending"),
        ("Always", {"X": "run"}, "Pending"),
        ("Always", {"X": "ok"}, "Pending"),
        ("Always", {"X": "back-off 0"}, "Pending"),
        ("Always", {"X": "back-off 1"}, "Pending"),
        ("Always", {"X": "starting"}, "Pending"),
        ("Always", {"X": "run", "A": "run"}, "Pending"),
        ("Always", {"X": "run", "A": "run", "B": "run"}, "Running"),
        ("Always", {"X": "ok", "A": "run", "B": "run"}, "Running"),
        ("Always", {"X": "back-off 0", "A": "run", "B": "run"}, "Running"),
        ("Always", {"X": "again 1", "A": "run", "B": "run"}, "Running"),
        ("Always", {"X": "run", "A": "again 1", "B": "run"}, "Running"),
        ("Never", {}, "Pending"),
        ("Never", {"X": "run"}, "Pending"),
        ("Never", {"X": "ok"}, "Pending"),
        ("Never", {"X": "back-off 0"}, "Pending"),
        ("Never", {"X": "back-off 1"}, "Pending"),
        ("Never", {"X": "starting"}, "Pending"),
        ("Never", {"X": "run", "A": "run"}, "Pending"),
        ("Never", {"X": "run", "A": "ok", "B": "ok"}, "Running"),
        ("Never", {"X": "ok", "A": "ok", "B": "ok"}, "Succeeded"),
        ("Never", {"X": "1", "A": "ok", "B": "ok"}, "Succeeded"),
        ("Never", {"X": "back-off 0", "A": "ok", "B": "ok"}, "Succeeded"),
        ("Never", {"X": "back-off 1", "A": "ok", "B": "ok"}, "Succeeded"),
    ],
)
def test_S_PHASE_S_SIDECAR_with_a_sidecar(policy: str, words: dict[str, str], expected: str) -> None:
    assert phase(make_pod(AB, ["X*"], policy), words) == expected


@pytest.mark.parametrize("code", [0, 1])
def test_S_PHASE_S_SIDECAR_of_a_deleted_pod_whose_mains_succeeded(code: int) -> None:
    pod = make_pod(AB, ["X*"])
    deleted = situation(pod, {"X": str(code), "A": "ok", "B": "ok"}, deletion=Deletion(T0, 30.0))
    assert phase(pod, deleted) == "Succeeded"


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ({"X": "run", "Y": "before 137", "A": "before 137"}, "Pending"),
        ({"X": "ok", "Y": "starting", "A": "before 137"}, "Pending"),
        ({"X": "ok", "Y": "run", "A": "before 137"}, "Running"),
        ({"X": "ok", "Y": "run", "A": "1"}, "Running"),
        ({"X": "ok", "Y": "run", "A": "back-off 1"}, "Running"),
        ({"X": "ok", "Y": "run", "A": "run"}, "Running"),
    ],
)
def test_S_PHASE_S_SANDBOX_of_a_pod_that_has_run(words: dict[str, str], expected: str) -> None:
    """A new sandbox takes a pod back to Pending until it is initialized again."""
    assert phase(make_pod(("A",), ["X", "Y*"]), words) == expected


@pytest.mark.parametrize(
    ("words", "startup", "expected"),
    [
        ({"X": "ok", "Y": "run"}, None, "Pending"),
        ({"X": "ok", "Y": "run", "A": "before 137"}, None, "Pending"),
        ({"X": "ok", "Y": "run", "A": "before 137"}, True, "Running"),
        ({"X": "ok", "Y": "run", "A": "run"}, None, "Running"),
        ({"X": "ok", "Y": "run", "A": "1"}, None, "Running"),
    ],
)
def test_S_PHASE_S_PROBE_a_sidecar_that_has_not_started_up(
    words: dict[str, str], startup: bool | None, expected: str
) -> None:
    """Pending as long as the pod has not been initialized in this sandbox, and not again after that."""
    probe = {"exec": {"command": ["true"]}}
    sidecar = {"name": "Y", "image": "img", "restartPolicy": "Always", "startupProbe": probe}
    pod = make_pod(("A",), initContainers=[{"name": "X", "image": "img"}, sidecar])
    observed = situation(pod, words)
    probed = ContainerLedger(probes=ProbeResults("Y-0", startup=startup), instance_id="Y-0", starts=1)
    observed = replace(observed, ledgers=observed.ledgers | {"Y": probed})
    assert phase(pod, observed) == expected


def own(policy: str, *containers: tuple[str, str | None], init: bool = False) -> Pod:
    """A pod whose containers (or init containers) have a restartPolicy of their own, or None."""
    listed = [{"name": name, "image": "img"} | ({"restartPolicy": word} if word else {}) for name, word in containers]
    return make_pod(policy=policy, initContainers=listed) if init else make_pod(policy=policy, containers=listed)


@pytest.mark.parametrize(
    ("pod", "words", "expected"),
    [
        (own("Always", ("A", "Never")), {"A": "1"}, "Failed"),
        (own("Always", ("A", "OnFailure")), {"A": "1"}, "Running"),
        (own("Always", ("A", "Always")), {"A": "1"}, "Running"),
        (own("Never", ("A", "Always"), ("B", None)), {"A": "ok", "B": "1"}, "Running"),
        (own("Always", ("A", "Never"), ("B", "OnFailure")), {"A": "1", "B": "ok"}, "Failed"),
        (own("Always", ("A", "Never"), ("B", "OnFailure")), {"A": "ok", "B": "ok"}, "Succeeded"),
        (own("Always", ("X", "Never"), init=True), {"X": "1"}, "Failed"),
        (own("Never", ("X", "OnFailure"), init=True), {"X": "1"}, "Pending"),
        (own("Never", ("X", "Always"), init=True), {"X": "1"}, "Pending"),
    ],
)
def test_S_PHASE_S_RESTART_with_policies_of_containers(pod: Pod, words: dict[str, str], expected: str) -> None:
    assert phase(pod, words) == expected


@pytest.mark.parametrize("terminal", ["Succeeded", "Failed"])
@pytest.mark.parametrize("words", [{}, {"A": "run", "B": "run"}, {"A": "ok", "B": "ok"}, {"A": "1"}])
def test_S_PHASE_terminal_is_for_ever(terminal: str, words: dict[str, str]) -> None:
    pod = make_pod(AB)
    observed = replace(situation(pod, words), terminal=True)
    assert pod_status(pod, observed, NOW, PodStatus(phase=terminal)).phase == terminal
