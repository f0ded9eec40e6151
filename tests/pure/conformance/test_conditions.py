"""The conditions of a pod in the situations that the kubelet's own tests name.

Source: kubelet pkg/kubelet/status/generate_test.go. Containers without any status have no counterpart here: every container of
the manifest has one from the start, and is waiting.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest

from nsrun.reconcile.model import ContainerLedger, ProbeResults
from nsrun.spec.model import Pod, PodCondition, PodStatus
from nsrun.status import pod_status
from tests.pure.conformance.situations import NOW, situation
from tests.pure.reconcile.world import make_pod


def conditions(pod: Pod, words: Mapping[str, str], **known: str) -> dict[str, tuple[str, str | None, str | None]]:
    """Type -> (status, reason, message); `known` are conditions that somebody else has set."""
    before = PodStatus(conditions=[PodCondition(type=kind, status=status) for kind, status in known.items()])
    made = pod_status(pod, situation(pod, words), NOW, before).conditions
    found = {one.type: (one.status, one.reason, one.message) for one in made}
    assert len(found) == len(made), "each type once"
    return found


TRUE = ("True", None, None)


def unready(names: str) -> tuple[str, str, str]:
    """ContainersReady and Ready when these are not."""
    return ("False", "ContainersNotReady", f"containers with unready status: [{names}]")


@pytest.mark.parametrize(
    ("pod", "words", "expected"),
    [
        (make_pod(("1234",)), {"1234": "run"}, TRUE),
        (make_pod(("1234",)), {}, unready("1234")),
        (make_pod(("1234", "5678")), {"1234": "run", "5678": "run"}, TRUE),
        (make_pod(("1234", "5678")), {"1234": "run"}, unready("5678")),
        (make_pod(("1234", "5678")), {"1234": "run", "5678": "starting"}, unready("5678")),
        (make_pod(("1234", "5678")), {"1234": "run", "5678": "back-off 1"}, unready("5678")),
        (make_pod(("1234", "5678")), {}, unready("1234 5678")),
        (make_pod(("1234",), policy="Never"), {"1234": "ok"}, ("False", "PodCompleted", None)),
        (make_pod(("1234",), policy="Never"), {"1234": "1"}, ("False", "PodFailed", None)),
        (make_pod(("1", "2"), policy="Never"), {"1": "ok", "2": "run"}, unready("1")),
        (make_pod(("main",), ("s1*",)), {"main": "run"}, unready("s1")),
        (make_pod(("main",), ("s1*", "s2*")), {"s1": "run", "s2": "run", "main": "run"}, TRUE),
        (make_pod(("main",), ("s1*", "s2*")), {"s1": "run", "main": "run"}, unready("s2")),
        (make_pod(("main",), ("s1*", "s2*")), {"s1": "run", "s2": "1", "main": "run"}, unready("s2")),
        (make_pod(("main",), ("s1*", "i")), {"s1": "1", "i": "ok"}, unready("s1 main")),
    ],
)
def test_S_COND_ready(pod: Pod, words: dict[str, str], expected: tuple[str, str | None, str | None]) -> None:
    found = conditions(pod, words)
    assert found["ContainersReady"] == expected
    assert found["Ready"] == expected


GATES = [{"conditionType": "gate1"}, {"conditionType": "gate2"}]


def absent(gate: str) -> str:
    """The message of a gate without a condition."""
    return f'corresponding condition of pod readiness gate "{gate}" does not exist.'


def closed(gate: str, status: str) -> str:
    """The message of a gate whose condition is not True."""
    return f'the status of pod readiness gate "{gate}" is not "True", but {status}'


@pytest.mark.parametrize(
    ("gates", "known", "message"),
    [
        (1, {}, absent("gate1")),
        (1, {"gate1": "False"}, closed("gate1", "False")),
        (1, {"gate1": "Unknown"}, closed("gate1", "Unknown")),
        (1, {"gate1": "True"}, None),
        (2, {"gate1": "True"}, absent("gate2")),
        (2, {"gate1": "True", "gate2": "False"}, closed("gate2", "False")),
        (2, {"gate2": "False"}, f"{absent('gate1')}, {closed('gate2', 'False')}"),
        (2, {"gate1": "True", "gate2": "True"}, None),
    ],
)
def test_S_COND_readiness_gates(gates: int, known: dict[str, str], message: str | None) -> None:
    pod = make_pod(("web",), readinessGates=GATES[:gates])
    found = conditions(pod, {"web": "run"}, **known)
    assert found["ContainersReady"] == TRUE
    assert found["Ready"] == (TRUE if message is None else ("False", "ReadinessGatesNotReady", message))
    assert {kind: found[kind][0] for kind in known} == known, "conditions of others are kept"


def test_S_COND_containers_come_before_gates() -> None:
    pod = make_pod(("web",), readinessGates=GATES[:1])
    assert conditions(pod, {"web": "starting"}, gate1="True")["Ready"] == unready("web")
    assert conditions(pod, {"web": "starting"})["Ready"] == unready("web")


def incomplete(names: str) -> tuple[str, str, str]:
    """Initialized when these have not had their turn."""
    return ("False", "ContainersNotInitialized", f"containers with incomplete status: [{names}]")


INIT = make_pod(("main",), ("1234",))
TWO = make_pod(("main",), ("1234", "5678"))
SIDECAR = make_pod(("main",), ("1234*",))


@pytest.mark.parametrize(
    ("pod", "words", "expected"),
    [
        (make_pod(("main",)), {}, TRUE),
        (INIT, {}, incomplete("1234")),
        (INIT, {"1234": "run"}, incomplete("1234")),
        (INIT, {"1234": "1"}, incomplete("1234")),
        (INIT, {"1234": "ok"}, TRUE),
        (TWO, {"1234": "ok", "5678": "ok"}, TRUE),
        (TWO, {"1234": "ok"}, incomplete("5678")),
        (TWO, {"1234": "ok", "5678": "run"}, incomplete("5678")),
        (TWO, {}, incomplete("1234 5678")),
        (SIDECAR, {"1234": "starting"}, incomplete("1234")),
        (SIDECAR, {"1234": "run"}, TRUE),
        (SIDECAR, {"1234": "starting", "main": "run"}, TRUE),
        (SIDECAR, {"1234": "1", "main": "run"}, TRUE),
        (SIDECAR, {"1234": "1", "main": "1"}, TRUE),
        (make_pod(("main",), ("1234",), "Never"), {"1234": "ok", "main": "ok"}, ("True", "PodCompleted", None)),
        (make_pod(("main",), ("1234",), "Never"), {"1234": "1"}, incomplete("1234")),
    ],
)
def test_S_COND_initialized(pod: Pod, words: dict[str, str], expected: tuple[str, str | None, str | None]) -> None:
    assert conditions(pod, words)["Initialized"] == expected


@pytest.mark.parametrize(
    ("probes", "results", "started", "ready"),
    [
        ((), {}, True, True),
        (("readinessProbe",), {}, True, False),
        (("readinessProbe",), {"readiness": True}, True, True),
        (("startupProbe",), {}, False, False),
        (("startupProbe",), {"startup": True}, True, True),
        (("startupProbe",), {"startup": False}, False, False),
        (("startupProbe", "readinessProbe"), {"startup": True}, True, False),
        (("startupProbe", "readinessProbe"), {"readiness": True}, False, False),
        (("startupProbe", "readinessProbe"), {"startup": True, "readiness": True}, True, True),
        (("livenessProbe",), {}, True, True),
        (("livenessProbe",), {"liveness": False}, True, True),
    ],
)
def test_S_COND_S_PROBE_started_and_ready(
    probes: tuple[str, ...], results: dict[str, Any], started: bool, ready: bool
) -> None:
    """Source: kubelet pkg/kubelet/prober/prober_manager_test.go TestUpdatePodStatus."""
    probe = {"exec": {"command": ["true"]}}
    pod = make_pod(containers=[{"name": "web", "image": "img"} | dict.fromkeys(probes, probe)])
    ledger = ContainerLedger(starts=1, instance_id="web-0", probes=ProbeResults("web-0", **results))
    observed = situation(pod, {"web": "run"})
    observed.ledgers["web"] = ledger
    (shown,) = pod_status(pod, observed, NOW).containerStatuses
    assert (shown.started, shown.ready) == (started, ready)
