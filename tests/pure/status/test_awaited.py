"""What `pod wait --for` names."""

from __future__ import annotations

from typing import Any

import pytest

from nsrun.errors import UsageError
from nsrun.spec.model import PodCondition, PodStatus
from nsrun.status.awaited import Condition, Created, Deleted, Phase, awaited
from tests.pure.reconcile.world import make_pod

READY = PodCondition(type="Ready", status="True")
STATUS = PodStatus(phase="Running", conditions=[READY])
WHOLE: dict[str, Any] = {
    "status": {
        "phase": "Running",
        "ready": True,
        "count": 3,
        "nothing": None,
        "empty": "",
        "list": [1, 2],
        "conditions": [{"type": "Ready", "status": "True"}],
    }
}


def met(text: str, status: PodStatus = STATUS) -> bool:
    """Whether the pod has come to what `--for=text` names."""
    return awaited(text).met(make_pod(), status, lambda: WHOLE)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("condition=Ready", True),
        ("condition=ready", True),
        ("condition=READY=true", True),
        ("condition=Ready=TRUE", True),
        ("condition=Ready=False", False),
        ("condition=Ready=unknown", False),
        ("condition=Initialized", False),
        ("phase=Running", True),
        ("phase=running", True),
        ("phase=Succeeded", False),
        ("create", True),
        ("delete", False),
        ("Delete", False),
        ("jsonpath={.status.phase}=Running", True),
        ("jsonpath='{.status.phase}'=Running", None),
        ("jsonpath=.status.phase=Running", True),
        ("jsonpath={status.phase}='Running'", True),
        ('jsonpath={.status.phase}="Running"', True),
        ("jsonpath={.status.phase}=running", False),
        ("jsonpath={.status.phase}", True),
        ("jsonpath={.status.missing}", False),
        ("jsonpath={.status.empty}", True),
        ("jsonpath={.status.nothing}", True),
        ("jsonpath={.status.ready}=true", True),
        ("jsonpath={.status.ready}=false", False),
        ("jsonpath={.status.count}=3", True),
        ("jsonpath={.status.count}= 3 ", True),
        ("jsonpath={.status.count}=4", False),
        ("jsonpath={.status.list[9]}=1", False),
        ("jsonpath={.status.list}", True),
        ("jsonpath={.status.list}=1", None),
        ("jsonpath={.status.list[*]}=1", None),
        ('jsonpath={.status.conditions[?(@.type=="Ready")].status}=True', True),
        ('jsonpath={.status.conditions[?(@.type=="Ready")].status}', True),
        ("jsonpath={.status.phase}=", None),
        ("jsonpath={.status.phase}=a=b", None),
        ("jsonpath=", None),
        ("jsonpath={.a}{.b}=c", None),
        ("condition=", None),
        ("phase=", None),
        ("sunshine", None),
        ("", None),
    ],
)
def test_as_kubectl_wait_reads_it(text: str, expected: bool | None) -> None:
    if expected is None:
        with pytest.raises(UsageError):
            met(text)
    else:
        assert met(text) is expected


def test_what_is_read() -> None:
    assert awaited("condition=Ready") == Condition("Ready", "true")
    assert awaited("condition=Ready=False") == Condition("Ready", "False")
    assert awaited("phase=Failed") == Phase("Failed")
    assert (awaited("create"), awaited("delete")) == (Created(), Deleted())


@pytest.mark.parametrize(("observed", "expected"), [(None, True), (1, True), (0, True)])
def test_a_condition_of_the_present_generation_counts(observed: int | None, expected: bool) -> None:
    condition = PodCondition(type="Ready", status="True", observedGeneration=observed)
    assert met("condition=Ready", PodStatus(conditions=[condition])) is expected


def test_a_condition_of_an_older_generation_does_not_count() -> None:
    pod = make_pod()
    pod.metadata.generation = 3
    old = PodCondition(type="Ready", status="True", observedGeneration=2)
    new = PodCondition(type="Ready", status="True", observedGeneration=3)
    wanted = awaited("condition=Ready")
    assert not wanted.met(pod, PodStatus(conditions=[old]), dict)
    assert not wanted.met(pod, PodStatus(conditions=[READY], observedGeneration=2), dict)
    assert wanted.met(pod, PodStatus(conditions=[new], observedGeneration=2), dict)
