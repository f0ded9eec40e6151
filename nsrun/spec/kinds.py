"""The kinds around pods: what the API server fills in, objects to, and does not let change.

Source: kubernetes pkg/apis/core/v1/defaults.go, pkg/apis/core/validation/validation.go, pkg/apis/{node,coordination,scheduling,discovery}
/validation, pkg/registry/core/*/strategy.go (v1.36). Services have a module of their own.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from nsrun.spec import names
from nsrun.spec.defaults import DEFAULT_NAMESPACE, set_defaults
from nsrun.spec.field_errors import Errors, FieldError
from nsrun.spec.model import Event, Pod
from nsrun.spec.model_kinds import (
    Endpoints,
    EndpointSlice,
    Lease,
    LimitRange,
    Namespace,
    NamespaceStatus,
    Node,
    PriorityClass,
    ResourceQuota,
    ResourceQuotaStatus,
    RuntimeClass,
    Service,
    ServiceStatus,
)
from nsrun.spec.quantity import parse
from nsrun.spec.resources_table import Resource
from nsrun.spec.services import check_service, default_service, judge_service
from nsrun.spec.update_objects import judge_object
from nsrun.spec.validate import validate
from nsrun.spec.validate_meta import label_map, object_meta

KUBERNETES = "kubernetes"
"""The finalizer of a namespace whose contents have not gone yet."""
NAME_LABEL = "kubernetes.io/metadata.name"
HIGHEST_USER_PRIORITY = 1_000_000_000
SYSTEM_PRIORITIES = {"system-cluster-critical": 2_000_000_000, "system-node-critical": 2_000_001_000}
_SYSTEM = "system-"
_IMMUTABLE = "field is immutable"
_OLD_KINDS = ("Pod", "ConfigMap", "Secret", "PersistentVolumeClaim", "PersistentVolume")


def fill_in(obj: Any, resource: Resource) -> None:
    """Fill in what the API server fills in, in place; a namespaced object has its namespace already.

    Args:
        obj: decoded.
        resource: what it is one of.
    """
    if resource.kind in _OLD_KINDS:
        set_defaults(obj)
        return
    if resource.namespaced:
        obj.metadata.namespace = obj.metadata.namespace or DEFAULT_NAMESPACE
    if isinstance(obj, Namespace):
        obj.status.phase = obj.status.phase or "Active"
        if obj.metadata.name:
            obj.metadata.labels[NAME_LABEL] = obj.metadata.name
    elif isinstance(obj, Service):
        default_service(obj)
    elif isinstance(obj, PriorityClass):
        obj.preemptionPolicy = obj.preemptionPolicy or "PreemptLowerPriority"
    elif isinstance(obj, EndpointSlice):
        for slice_port in obj.ports:
            slice_port.name = slice_port.name or ""
            slice_port.protocol = slice_port.protocol or "TCP"
    elif isinstance(obj, Endpoints):
        for subset in obj.subsets:
            for port in subset.ports:
                port.protocol = port.protocol or "TCP"
    elif isinstance(obj, LimitRange):
        for item in obj.spec.limits:
            _default_limits(item)


def _default_limits(item: Any) -> None:
    """What a container has by default: at most is by itself the default, and the default is what is requested."""
    if item.type != "Container":
        return
    for name, amount in item.max.items():
        item.default.setdefault(name, amount)
    for name, amount in item.default.items():
        item.defaultRequest.setdefault(name, amount)
    for name, amount in item.min.items():
        item.defaultRequest.setdefault(name, amount)


def begin(obj: Any) -> None:
    """Take out of a new object what only the server may say, and put in what it says first."""
    if isinstance(obj, Namespace):
        obj.status = NamespaceStatus(phase="Active")
        obj.spec.finalizers = [*obj.spec.finalizers, *([] if KUBERNETES in obj.spec.finalizers else [KUBERNETES])]
    elif isinstance(obj, Service):
        obj.status = ServiceStatus()
    elif isinstance(obj, ResourceQuota):
        obj.status = ResourceQuotaStatus()


def check(obj: Any, resource: Resource) -> list[FieldError]:
    """The objections to an object, [] when it is valid.

    Args:
        obj: with its defaults. It is not changed.
        resource: what it is one of.
    """
    if resource.kind in _OLD_KINDS:
        return validate(obj)
    errors = Errors()
    rule: Callable[[str], list[str]] = names.label if resource.kind == "Namespace" else names.subdomain
    if resource.kind == "Service":
        rule = names.label_1035
    object_meta(obj.metadata, errors, namespaced=resource.namespaced, rule=rule)
    checks: Mapping[type, Callable[[Any, Errors], None]] = {
        Service: check_service,
        RuntimeClass: _runtime_class,
        Lease: _lease,
        Event: _event,
        PriorityClass: _priority_class,
        ResourceQuota: _quota,
        EndpointSlice: _slice,
        Endpoints: _endpoints,
        Node: _node,
    }
    found = checks.get(type(obj))
    if found is not None:
        found(obj, errors)
    return list(errors)


def judge(old: Any, new: Any, *, grows: bool = False) -> list[FieldError]:
    """Why the API server would not make `new` of `old`; [] = it would. Both have their defaults, and are of one kind."""
    if old.kind in _OLD_KINDS and not isinstance(old, Pod):
        return judge_object(old, new, grows=grows)
    errors = Errors()
    if isinstance(old, Service) and isinstance(new, Service):
        judge_service(old, new, errors)
    elif isinstance(old, RuntimeClass) and old.handler != new.handler:
        errors.invalid("handler", new.handler, _IMMUTABLE)
    elif isinstance(old, PriorityClass):
        if old.value != new.value:
            errors.invalid("value", new.value, _IMMUTABLE)
        if old.preemptionPolicy != new.preemptionPolicy:
            errors.invalid("preemptionPolicy", new.preemptionPolicy, _IMMUTABLE)
    elif isinstance(old, EndpointSlice) and old.addressType != new.addressType:
        errors.invalid("addressType", new.addressType, _IMMUTABLE)
    return list(errors)


def _runtime_class(obj: RuntimeClass, errors: Errors) -> None:
    errors.each("handler", obj.handler, names.label(obj.handler))
    for name, amount in sorted((obj.overhead.podFixed if obj.overhead is not None else {}).items()):
        _amount(f"overhead.podFixed[{name}]", amount, errors)
    if obj.scheduling is not None:
        label_map(obj.scheduling.nodeSelector, errors, "scheduling.nodeSelector")


def _amount(path: str, amount: str, errors: Errors) -> None:
    if parse(amount) < parse("0"):
        errors.invalid(path, amount, "must be greater than or equal to 0")


def _lease(obj: Lease, errors: Errors) -> None:
    spec = obj.spec
    if spec.leaseDurationSeconds is not None and spec.leaseDurationSeconds <= 0:
        errors.invalid("spec.leaseDurationSeconds", spec.leaseDurationSeconds, "must be greater than 0")
    if spec.leaseTransitions is not None and spec.leaseTransitions < 0:
        errors.invalid("spec.leaseTransitions", spec.leaseTransitions, "must be greater than or equal to 0")


def _event(obj: Event, errors: Errors) -> None:
    about = obj.involvedObject.namespace or ""
    expected = obj.metadata.namespace or ""
    if about != expected and not (not about and expected == DEFAULT_NAMESPACE):
        errors.invalid("involvedObject.namespace", about, "does not match event.namespace")
    if obj.eventTime is None:
        # Of the old ones, nothing more was ever asked.
        return
    if not obj.reportingComponent:
        errors.required("reportingController")
    if not obj.reportingInstance:
        errors.required("reportingInstance")
    if not obj.action:
        errors.required("action")
    if not obj.reason:
        errors.required("reason")
    if obj.type not in ("Normal", "Warning"):
        errors.invalid("type", obj.type or "", "has invalid value: " + (obj.type or ""))


def _priority_class(obj: PriorityClass, errors: Errors) -> None:
    name = obj.metadata.name or ""
    if name in SYSTEM_PRIORITIES:
        return
    if name.startswith(_SYSTEM):
        text = (
            "priority class names with 'system-' prefix are reserved for system use only. error: "
            f"{name} is not a known system priority class"
        )
        errors.forbidden("metadata.name", text)
    if obj.value > HIGHEST_USER_PRIORITY:
        text = f"maximum allowed value of a user defined priority is {HIGHEST_USER_PRIORITY}"
        errors.forbidden("value", text)
    if obj.preemptionPolicy not in ("PreemptLowerPriority", "Never"):
        errors.unsupported("preemptionPolicy", obj.preemptionPolicy, ("Never", "PreemptLowerPriority"))


def _quota(obj: ResourceQuota, errors: Errors) -> None:
    for name, amount in sorted(obj.spec.hard.items()):
        _amount(f"spec.hard[{name}]", amount, errors)


def _slice(obj: EndpointSlice, errors: Errors) -> None:
    valid = ("FQDN", "IPv4", "IPv6")
    if not obj.addressType:
        errors.required("addressType")
    elif obj.addressType not in valid:
        errors.unsupported("addressType", obj.addressType, valid)
    for index, endpoint in enumerate(obj.endpoints):
        if not endpoint.addresses:
            errors.required(f"endpoints[{index}].addresses", "must contain at least 1 address")
        if obj.addressType != "FQDN":
            for position, address in enumerate(endpoint.addresses):
                errors.each(f"endpoints[{index}].addresses[{position}]", address, names.ip_address(address))


def _endpoints(obj: Endpoints, errors: Errors) -> None:
    for index, subset in enumerate(obj.subsets):
        for position, address in enumerate((*subset.addresses, *subset.notReadyAddresses)):
            errors.each(f"subsets[{index}].addresses[{position}].ip", address.ip, names.ip_address(address.ip))
        for position, port in enumerate(subset.ports):
            errors.each(f"subsets[{index}].ports[{position}].port", port.port, names.port_number(port.port))


def _node(obj: Node, errors: Errors) -> None:
    seen = set()
    for index, taint in enumerate(obj.spec.taints):
        path = f"spec.taints[{index}]"
        errors.each(f"{path}.key", taint.key, names.qualified_name(taint.key))
        if taint.value:
            errors.each(f"{path}.value", taint.value, names.label_value(taint.value))
        effects = ("NoSchedule", "PreferNoSchedule", "NoExecute")
        if not taint.effect:
            errors.required(f"{path}.effect")
        elif taint.effect not in effects:
            errors.unsupported(f"{path}.effect", taint.effect, effects, ordered=True)
        if (taint.key, taint.effect) in seen:
            errors.duplicate(path, taint)
        seen.add((taint.key, taint.effect))
