"""Validation of the fields that place a pod: without meaning on one machine, but checked as the API server checks them.

Source of the rules: kubernetes pkg/apis/core/validation/validation.go (v1.36).
"""

from __future__ import annotations

from nsrun.spec import names
from nsrun.spec.field_errors import Errors
from nsrun.spec.model import (
    Affinity,
    LabelSelector,
    NodeSelector,
    NodeSelectorRequirement,
    NodeSelectorTerm,
    PodAffinityTerm,
    PodSchedulingGate,
    Toleration,
    TopologySpreadConstraint,
)
from nsrun.spec.validate_meta import label_selector

_VALUES_REQUIRED = "must be specified when `operator` is 'In' or 'NotIn'"
_VALUES_FORBIDDEN = "may not be specified when `operator` is 'Exists' or 'DoesNotExist'"
_WEIGHT = "must be in the range 1-100"
_REQUIRED = "requiredDuringSchedulingIgnoredDuringExecution"
_PREFERRED = "preferredDuringSchedulingIgnoredDuringExecution"


def affinity(value: Affinity | None, errors: Errors, path: str) -> None:
    """Node affinity, pod affinity and its opposite."""
    if value is None:
        return
    node = value.nodeAffinity
    if node is not None:
        here = f"{path}.nodeAffinity"
        if node.requiredDuringSchedulingIgnoredDuringExecution is not None:
            node_selector(node.requiredDuringSchedulingIgnoredDuringExecution, errors, f"{here}.{_REQUIRED}")
        for index, preferred in enumerate(node.preferredDuringSchedulingIgnoredDuringExecution):
            there = f"{here}.{_PREFERRED}[{index}]"
            if not 0 < preferred.weight <= 100:
                errors.invalid(f"{there}.weight", preferred.weight, _WEIGHT)
            # A preference for a label value that cannot be is harmless.
            _node_term(preferred.preference, errors, f"{there}.preference", check_values=False)
    for field in ("podAffinity", "podAntiAffinity"):
        pods = getattr(value, field)
        if pods is None:
            continue
        for index, pod_term in enumerate(pods.requiredDuringSchedulingIgnoredDuringExecution):
            _pod_term(pod_term, errors, f"{path}.{field}.{_REQUIRED}[{index}]")
        for index, weighted in enumerate(pods.preferredDuringSchedulingIgnoredDuringExecution):
            there = f"{path}.{field}.{_PREFERRED}[{index}]"
            if not 0 < weighted.weight <= 100:
                errors.invalid(f"{there}.weight", weighted.weight, _WEIGHT)
            _pod_term(weighted.podAffinityTerm, errors, f"{there}.podAffinityTerm")


def node_selector(selector: NodeSelector, errors: Errors, path: str) -> None:
    """Terms of which a node has to meet one."""
    there = f"{path}.nodeSelectorTerms"
    if not selector.nodeSelectorTerms:
        errors.required(there, "must have at least one node selector term")
    for index, term in enumerate(selector.nodeSelectorTerms):
        _node_term(term, errors, f"{there}[{index}]", check_values=True)


def _node_term(term: NodeSelectorTerm, errors: Errors, path: str, *, check_values: bool) -> None:
    for index, requirement in enumerate(term.matchExpressions):
        _expression(requirement, errors, f"{path}.matchExpressions[{index}]", check_values=check_values)
    for index, requirement in enumerate(term.matchFields):
        _match_field(requirement, errors, f"{path}.matchFields[{index}]")


def _expression(requirement: NodeSelectorRequirement, errors: Errors, path: str, *, check_values: bool) -> None:
    operator, values = requirement.operator, requirement.values
    if operator in ("In", "NotIn"):
        if not values:
            errors.required(f"{path}.values", _VALUES_REQUIRED)
    elif operator in ("Exists", "DoesNotExist"):
        if values:
            errors.forbidden(f"{path}.values", _VALUES_FORBIDDEN)
    elif operator in ("Gt", "Lt"):
        if len(values) != 1:
            errors.required(f"{path}.values", "must be specified single value when `operator` is 'Lt' or 'Gt'")
    else:
        errors.invalid(f"{path}.operator", operator, "not a valid selector operator")
    errors.each(f"{path}.key", requirement.key, names.qualified_name(requirement.key))
    if check_values:
        for index, value in enumerate(values):
            errors.each(f"{path}.values[{index}]", value, names.label_value(value))


def _match_field(requirement: NodeSelectorRequirement, errors: Errors, path: str) -> None:
    if requirement.operator in ("In", "NotIn"):
        if len(requirement.values) != 1:
            detail = "must be only one value when `operator` is 'In' or 'NotIn' for node field selector"
            errors.required(f"{path}.values", detail)
    else:
        errors.invalid(f"{path}.operator", requirement.operator, "not a valid selector operator")
    if requirement.key != "metadata.name":
        errors.invalid(f"{path}.key", requirement.key, "not a valid field selector key")
    else:
        for index, value in enumerate(requirement.values):
            errors.each(f"{path}.values[{index}]", value, names.subdomain(value))


def _pod_term(term: PodAffinityTerm, errors: Errors, path: str) -> None:
    label_selector(term.labelSelector, errors, f"{path}.labelSelector")
    label_selector(term.namespaceSelector, errors, f"{path}.namespaceSelector")
    for namespace in term.namespaces:
        errors.each(f"{path}.namespace", namespace, names.label(namespace))
    _label_keys(term.matchLabelKeys, term.mismatchLabelKeys, term.labelSelector, errors, path)
    if not term.topologyKey:
        errors.required(f"{path}.topologyKey", "can not be empty")
    errors.each(f"{path}.topologyKey", term.topologyKey, names.qualified_name(term.topologyKey))


def _label_keys(
    match: list[str], mismatch: list[str], selector: LabelSelector | None, errors: Errors, path: str
) -> None:
    for field, keys in (("matchLabelKeys", match), ("mismatchLabelKeys", mismatch)):
        if keys and selector is None:
            errors.forbidden(f"{path}.{field}", "must not be specified when labelSelector is not set")
        elif keys:
            for index, key in enumerate(keys):
                errors.each(f"{path}.{field}[{index}]", key, names.qualified_name(key))
    if selector is not None:
        places = {key: index for index, key in enumerate(match)}
        seen = set(selector.matchLabels)
        for requirement in selector.matchExpressions:
            if requirement.key in places and requirement.key in seen:
                detail = "exists in both matchLabelKeys and labelSelector"
                errors.invalid(f"{path}[{places[requirement.key]}]", requirement.key, detail)
            seen.add(requirement.key)
    both = set(match) & set(mismatch)
    for index, key in enumerate(match):
        if key in both:
            detail = "exists in both matchLabelKeys and mismatchLabelKeys"
            errors.invalid(f"{path}.matchLabelKeys[{index}]", key, detail)


def tolerations(items: list[Toleration], errors: Errors, path: str) -> None:
    """What taints a pod stands."""
    for index, item in enumerate(items):
        here = f"{path}[{index}]"
        key, operator, value, effect = item.key or "", item.operator or "", item.value or "", item.effect or ""
        if key:
            errors.each(f"{here}.key", key, names.qualified_name(key))
        elif operator != "Exists":
            detail = 'operator must be Exists when `key` is empty, which means "match all values and all keys"'
            errors.invalid(f"{here}.operator", operator, detail)
        if item.tolerationSeconds is not None and effect != "NoExecute":
            errors.invalid(f"{here}.effect", effect, "effect must be 'NoExecute' when `tolerationSeconds` is set")
        if operator in ("Equal", ""):
            objections = names.label_value(value)
            if objections:
                errors.invalid(f"{here}.operator", value, ";".join(objections))
        elif operator == "Exists":
            if value:
                errors.invalid(f"{here}.operator", value, "value must be empty when `operator` is 'Exists'")
        else:
            # Numeric comparison is behind a feature gate, which is off; the message names it nevertheless.
            valid = ("Equal", "Exists", "Lt", "Gt") if operator in ("Lt", "Gt") else ("Equal", "Exists")
            errors.unsupported(f"{here}.operator", operator, valid, ordered=True)
        effects = ("NoSchedule", "PreferNoSchedule", "NoExecute")
        if effect and effect not in effects:
            errors.unsupported(f"{here}.effect", effect, effects, ordered=True)


def scheduling_gates(gates: list[PodSchedulingGate], errors: Errors, path: str) -> None:
    """What must be cleared before a pod is placed."""
    seen: set[str] = set()
    for index, gate in enumerate(gates):
        here = f"{path}[{index}]"
        errors.each(here, gate.name, names.qualified_name(gate.name))
        if gate.name in seen:
            errors.duplicate(here, gate.name)
        seen.add(gate.name)


def topology_spread(constraints: list[TopologySpreadConstraint], errors: Errors, path: str) -> None:
    """How pods spread over zones and nodes."""
    places = {(item.topologyKey, item.whenUnsatisfiable): index for index, item in enumerate(constraints)}
    for index, item in enumerate(constraints):
        here = f"{path}[{index}]"
        if item.maxSkew <= 0:
            errors.invalid(f"{here}.maxSkew", item.maxSkew, "must be greater than zero")
        if not item.topologyKey:
            errors.required(f"{here}.topologyKey", "can not be empty")
        if item.whenUnsatisfiable not in ("DoNotSchedule", "ScheduleAnyway"):
            valid = ("DoNotSchedule", "ScheduleAnyway")
            errors.unsupported(f"{here}.whenUnsatisfiable", item.whenUnsatisfiable, valid)
        pair = (item.topologyKey, item.whenUnsatisfiable)
        if places[pair] != index:  # the last of its like is not the one objected to
            errors.duplicate(f"{here}.{{topologyKey, whenUnsatisfiable}}", f"{{{pair[0]}, {pair[1]}}}")
        if item.minDomains is not None:
            if item.minDomains <= 0:
                errors.invalid(f"{here}.minDomains", item.minDomains, "must be greater than zero")
            if item.whenUnsatisfiable != "DoNotSchedule":
                detail = f"can only use minDomains if whenUnsatisfiable=DoNotSchedule, not {item.whenUnsatisfiable}"
                errors.invalid(f"{here}.minDomains", item.minDomains, detail)
        for field in ("nodeAffinityPolicy", "nodeTaintsPolicy"):
            policy = getattr(item, field)
            if policy is not None and policy not in ("Honor", "Ignore"):
                errors.unsupported(f"{here}.{field}", policy, ("Honor", "Ignore"))
        _label_keys(item.matchLabelKeys, [], item.labelSelector, errors, here)
        label_selector(item.labelSelector, errors, f"{here}.labelSelector")
