"""Conditions that users set (S-COND)."""

from __future__ import annotations

import pytest

from nsrun.errors import UsageError
from nsrun.spec.model import PodCondition, PodReadinessGate, PodStatus
from nsrun.status import pod_status
from nsrun.status.conditions import OWN
from nsrun.status.foreign import check_condition, with_conditions
from tests.pure.reconcile.world import T0, instance, make_pod, seen

GATE = "example.com/warm"


@pytest.mark.parametrize(("type_", "status"), [(GATE, "True"), (GATE, "Unknown"), ("Warm", "False"), (GATE, None)])
def test_S_COND_a_condition_of_ones_own_can_be_set(type_: str, status: str | None) -> None:
    check_condition(type_, status)


@pytest.mark.parametrize(
    ("type_", "status"),
    [*((own, "True") for own in OWN), ("a b", "True"), ("", "True"), (GATE, "true"), (GATE, "Maybe")],
)
def test_S_COND_what_is_no_such_condition_is_refused(type_: str, status: str) -> None:
    with pytest.raises(UsageError):
        check_condition(type_, status)


def test_S_COND_the_time_of_transition_changes_with_the_status_alone() -> None:
    one = with_conditions(PodStatus(), {GATE: "False"}, "Cold", "it has just begun", T0)
    (condition,) = one.conditions
    assert (condition.status, condition.reason, condition.message) == ("False", "Cold", "it has just begun")
    two = with_conditions(one, {GATE: "False", "Other": "True"}, None, None, T0 + 10)
    known = {it.type: it for it in two.conditions}
    assert {type_: it.reason for type_, it in known.items()} == {GATE: None, "Other": None}
    assert known[GATE].lastTransitionTime == condition.lastTransitionTime
    three = with_conditions(two, {GATE: "True"}, None, None, T0 + 20)
    (changed,) = (it for it in three.conditions if it.type == GATE)
    assert changed.lastTransitionTime != condition.lastTransitionTime
    assert with_conditions(three, {GATE: None, "Missing": None}, None, None, T0).conditions == [known["Other"]]
    assert one.conditions == [condition], "nothing is changed in place"


def test_S_COND_ready_follows_the_gates() -> None:
    pod = make_pod()
    pod.spec.readinessGates = [PodReadinessGate(conditionType=GATE), PodReadinessGate(conditionType="Other")]
    observed = seen(instance("app"))

    def ready(status: PodStatus) -> PodCondition:
        return next(one for one in pod_status(pod, observed, T0 + 5, status).conditions if one.type == "Ready")

    status = pod_status(pod, observed, T0)
    assert (ready(status).status, ready(status).reason) == ("False", "ReadinessGatesNotReady")
    assert f'corresponding condition of pod readiness gate "{GATE}" does not exist.' in str(ready(status).message)
    status = with_conditions(status, {GATE: "True", "Other": "Unknown"}, None, None, T0 + 1)
    assert ready(status).message == 'the status of pod readiness gate "Other" is not "True", but Unknown'
    assert ready(with_conditions(status, {"Other": "True"}, None, None, T0 + 2)).status == "True"
