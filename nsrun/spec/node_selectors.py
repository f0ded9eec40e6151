"""Which nodes a term of a node selector means (component-helpers scheduling/corev1/nodeaffinity)."""

from __future__ import annotations

from collections.abc import Mapping

from nsrun.spec.model import NodeSelectorRequirement, NodeSelectorTerm


def matches(term: NodeSelectorTerm, labels: Mapping[str, str], name: str) -> bool:
    """Whether a node of these labels and this name is one that a term means; an empty term means none."""
    return (
        bool(term.matchExpressions or term.matchFields)
        and all(_met(one, labels) for one in term.matchExpressions)
        and all(_met(one, {"metadata.name": name}) for one in term.matchFields)
    )


def _met(one: NodeSelectorRequirement, labels: Mapping[str, str]) -> bool:
    there = one.key in labels
    match one.operator:
        case "In":
            return there and labels[one.key] in one.values
        case "NotIn":
            return not there or labels[one.key] not in one.values
        case "Exists":
            return there
        case "DoesNotExist":
            return not there
        case _:
            number = labels.get(one.key, "")
            if not (number.isdecimal() and one.values[0].isdecimal()):
                return False
            return int(number) > int(one.values[0]) if one.operator == "Gt" else int(number) < int(one.values[0])
