"""Whether a pod may run on the only node, in the scheduler's words."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from nsrun.reconcile.scheduling import Candidate, NodeTaint, objection
from nsrun.spec.model import Pod

pytestmark = pytest.mark.pure

NODE = Candidate("here", {"kubernetes.io/hostname": "here", "disk": "fast", "cores": "8"})
HELPLESS = "preemption: 0/1 nodes are available: 1 Preemption is not helpful for scheduling."


def pod(**spec: Any) -> Pod:
    """A pod."""
    return msgspec.convert({"spec": spec}, Pod)


def required(*terms: dict[str, Any]) -> dict[str, Any]:
    """A node affinity."""
    return {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": list(terms)}}}


def expression(key: str, operator: str, *values: str) -> dict[str, Any]:
    """A term of one expression."""
    return {"matchExpressions": [{"key": key, "operator": operator, "values": list(values)}]}


@pytest.mark.parametrize(
    ("spec", "fits"),
    [
        ({}, True),
        ({"nodeSelector": {"disk": "fast"}}, True),
        ({"nodeSelector": {"disk": "slow"}}, False),
        ({"affinity": required(expression("disk", "In", "fast", "slow"))}, True),
        ({"affinity": required(expression("disk", "NotIn", "fast"))}, False),
        ({"affinity": required(expression("disk", "Exists"))}, True),
        ({"affinity": required(expression("gpu", "Exists"))}, False),
        ({"affinity": required(expression("gpu", "DoesNotExist"))}, True),
        ({"affinity": required(expression("cores", "Gt", "4"))}, True),
        ({"affinity": required(expression("cores", "Lt", "4"))}, False),
        ({"affinity": required(expression("gpu", "Exists"), expression("disk", "Exists"))}, True),
        ({"affinity": required({})}, False),
        (
            {"affinity": required({"matchFields": [{"key": "metadata.name", "operator": "In", "values": ["here"]}]})},
            True,
        ),
    ],
)
def test_S_COND_a_selector_means_the_node_or_not(spec: dict[str, Any], fits: bool) -> None:
    text = "" if fits else f"0/1 nodes are available: 1 node(s) didn't match Pod's node affinity/selector. {HELPLESS}"
    assert objection(pod(**spec), NODE) == text


def test_S_COND_a_taint_keeps_those_away_that_do_not_tolerate_it() -> None:
    tainted = Candidate("here", taints=[NodeTaint("a", "b", "NoSchedule"), NodeTaint("c", "", "PreferNoSchedule")])
    refused = f"0/1 nodes are available: 1 node(s) had untolerated taint(s). {HELPLESS}"
    assert objection(pod(), tainted) == refused
    assert objection(pod(tolerations=[{"key": "a", "value": "x"}]), tainted) == refused
    assert objection(pod(tolerations=[{"key": "a", "value": "b", "effect": "NoExecute"}]), tainted) == refused
    for toleration in ({"key": "a", "value": "b"}, {"key": "a", "operator": "Exists"}, {"operator": "Exists"}):
        assert objection(pod(tolerations=[toleration]), tainted) == ""


def test_S_COND_a_cordoned_node_takes_nobody_new() -> None:
    cordoned = Candidate("here", unschedulable=True)
    assert objection(pod(), cordoned) == f"0/1 nodes are available: 1 node(s) were unschedulable. {HELPLESS}"
    toleration = {"key": "node.kubernetes.io/unschedulable", "operator": "Exists"}
    assert objection(pod(tolerations=[toleration]), cordoned) == ""
