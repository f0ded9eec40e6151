"""What is filled into pods when they are made by the API, and refused."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from nsrun.errors import StatusError
from nsrun.spec import admitted
from nsrun.spec.model import Pod
from nsrun.spec.model_kinds import LimitRange, PriorityClass, RuntimeClass

pytestmark = pytest.mark.pure


def pod(resources: dict[str, Any] | None = None, **spec: Any) -> Pod:
    """A pod of one container."""
    container = {"name": "c", "image": "i", "resources": resources or {}}
    return msgspec.convert(
        {"metadata": {"name": "p", "namespace": "n"}, "spec": {"containers": [container], **spec}}, Pod
    )


def limits(**item: Any) -> list[LimitRange]:
    """A LimitRange for containers."""
    return [msgspec.convert({"spec": {"limits": [{"type": "Container", **item}]}}, LimitRange)]


def test_a_container_has_the_amounts_of_its_namespace_where_it_says_none() -> None:
    made = pod({"limits": {"memory": "1Gi"}})
    admitted.limit_ranges(
        made, limits(default={"cpu": "1", "memory": "2Gi"}, defaultRequest={"cpu": "100m", "memory": "1Mi"})
    )
    own = made.spec.containers[0].resources
    assert own.limits == {"cpu": "1", "memory": "1Gi"}
    assert own.requests == {"cpu": "100m", "memory": "1Gi"}


@pytest.mark.parametrize(
    ("resources", "item", "text"),
    [
        ({"limits": {"cpu": "2"}}, {"max": {"cpu": "1"}}, "maximum cpu usage per Container is 1, but limit is 2"),
        ({}, {"max": {"cpu": "1"}}, "maximum cpu usage per Container is 1.  No limit is specified"),
        ({"requests": {"cpu": "1m"}}, {"min": {"cpu": "1"}}, "minimum cpu usage per Container is 1, but request is 1m"),
        ({}, {"min": {"cpu": "1"}}, "minimum cpu usage per Container is 1.  No request is specified"),
    ],
)
def test_a_container_out_of_bounds_is_refused(resources: dict[str, Any], item: dict[str, Any], text: str) -> None:
    with pytest.raises(StatusError) as caught:
        admitted.limit_ranges(pod(resources), limits(**item))
    assert caught.value.status["message"] == f'pods "p" is forbidden: {text}'
    assert caught.value.status["code"] == 403


def test_a_priority_is_that_of_the_class() -> None:
    classes = [
        msgspec.convert({"metadata": {"name": name}, "value": value, "globalDefault": default}, PriorityClass)
        for name, value, default in (("high", 1000, False), ("usual", 10, True))
    ]
    made = pod()
    admitted.priority(made, classes)
    assert (made.spec.priorityClassName, made.spec.priority) == ("usual", 10)
    made = pod(priorityClassName="high")
    admitted.priority(made, classes)
    assert (made.spec.priority, made.spec.preemptionPolicy) == (1000, "PreemptLowerPriority")
    with pytest.raises(StatusError, match="no PriorityClass with name low was found"):
        admitted.priority(pod(priorityClassName="low"), classes)
    with pytest.raises(StatusError, match=r"the integer value of priority \(5\) must not be provided in pod spec"):
        admitted.priority(pod(priority=5), classes)


def test_overhead_is_that_of_the_runtime_class() -> None:
    fixed = {"overhead": {"podFixed": {"cpu": "10m"}}, "scheduling": {"nodeSelector": {"vm": "yes"}}}
    found = msgspec.convert({"metadata": {"name": "r"}, "handler": "x", **fixed}, RuntimeClass)
    made = pod(runtimeClassName="r", overhead={"cpu": "0.01"})
    admitted.runtime_class(made, found)
    assert (made.spec.overhead, made.spec.nodeSelector) == ({"cpu": "10m"}, {"vm": "yes"})
    for wrong, text in (
        (pod(runtimeClassName="r", overhead={"cpu": "1"}), "pod rejected: Pod's Overhead doesn't match"),
        (pod(runtimeClassName="r", nodeSelector={"vm": "no"}), "conflict: runtimeClass.scheduling.nodeSelector"),
    ):
        with pytest.raises(StatusError, match=text):
            admitted.runtime_class(wrong, found)
    with pytest.raises(StatusError, match='pod rejected: RuntimeClass "r" not found'):
        admitted.runtime_class(pod(runtimeClassName="r"), None)
    with pytest.raises(StatusError, match="Pod Overhead set without corresponding RuntimeClass"):
        admitted.runtime_class(pod(overhead={"cpu": "1"}), None)


def test_an_account_must_be_there_unless_it_is_the_default_one() -> None:
    made = pod()
    admitted.service_account(made, ())
    assert (made.spec.serviceAccountName, made.spec.serviceAccount) == ("default", "default")
    admitted.service_account(pod(serviceAccount="robot"), ("robot",))
    with pytest.raises(StatusError, match='error looking up service account n/robot: serviceaccount "robot" not found'):
        admitted.service_account(pod(serviceAccountName="robot"), ())
