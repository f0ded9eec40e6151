"""Whether a pod that names no node may run on this one: what a cluster's scheduler says of the only node there is.

Source: Kubernetes pkg/scheduler/framework/plugins/{nodeunschedulable,nodeaffinity,tainttoleration}, component-helpers
scheduling/corev1 (v1.36).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from nsrun.spec.model import Pod, Toleration
from nsrun.spec.node_selectors import matches

_UNSCHEDULABLE = "node.kubernetes.io/unschedulable"
_HELPLESS = "preemption: 0/1 nodes are available: 1 Preemption is not helpful for scheduling."


@dataclass(frozen=True, slots=True)
class NodeTaint:
    """What keeps pods away that do not tolerate it."""

    key: str
    value: str
    effect: str


@dataclass(frozen=True, slots=True)
class Candidate:
    """The node, as far as a scheduler looks at it."""

    name: str
    labels: Mapping[str, str] = field(default_factory=dict)
    taints: Sequence[NodeTaint] = ()
    unschedulable: bool = False


def objection(pod: Pod, node: Candidate) -> str:
    """Why the pod may not run on the node, in the scheduler's words; "" when it may."""
    text = ""
    if node.unschedulable and not _tolerated(NodeTaint(_UNSCHEDULABLE, "", "NoSchedule"), pod.spec.tolerations):
        text = "node(s) were unschedulable"
    elif any(
        taint.effect in ("NoSchedule", "NoExecute") and not _tolerated(taint, pod.spec.tolerations)
        for taint in node.taints
    ):
        text = "node(s) had untolerated taint(s)"
    elif not _wanted(pod, node):
        text = "node(s) didn't match Pod's node affinity/selector"
    return f"0/1 nodes are available: 1 {text}. {_HELPLESS}" if text else ""


def _tolerated(taint: NodeTaint, tolerations: Sequence[Toleration]) -> bool:
    return any(_tolerates(one, taint) for one in tolerations)


def _tolerates(one: Toleration, taint: NodeTaint) -> bool:
    if one.effect and one.effect != taint.effect:
        return False
    if one.key and one.key != taint.key:
        return False
    match one.operator or "Equal":
        case "Exists":
            return True
        case "Equal":
            return (one.value or "") == taint.value
        case _:
            return False


def _wanted(pod: Pod, node: Candidate) -> bool:
    if any(node.labels.get(key) != value for key, value in pod.spec.nodeSelector.items()):
        return False
    affinity = pod.spec.affinity.nodeAffinity if pod.spec.affinity is not None else None
    required = affinity.requiredDuringSchedulingIgnoredDuringExecution if affinity is not None else None
    return required is None or any(matches(term, node.labels, node.name) for term in required.nodeSelectorTerms)
