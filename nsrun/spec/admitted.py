"""What an API server fills into a new pod before it is judged, and refuses it for: its admission plug-ins.

Source: kubernetes plugin/pkg/admission/{limitranger,priority,serviceaccount,runtimeclass}/admission.go (v1.36).
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator

from nsrun.spec import api_status
from nsrun.spec.model import Container, Pod
from nsrun.spec.model_kinds import LimitRange, LimitRangeItem, PriorityClass, RuntimeClass
from nsrun.spec.quantity import parse
from nsrun.spec.resources_table import kept_kind

DEFAULT_ACCOUNT = "default"
_POD = kept_kind("Pod")


def service_account(pod: Pod, there: Collection[str]) -> None:
    """The pod's service account; `there` are those of its namespace. `default` need not be among them.

    Raises:
        StatusError: there is none of that name.
    """
    spec = pod.spec
    name = spec.serviceAccountName or spec.serviceAccount or DEFAULT_ACCOUNT
    if name != DEFAULT_ACCOUNT and name not in there:
        why = f'error looking up service account {pod.metadata.namespace}/{name}: serviceaccount "{name}" not found'
        raise api_status.forbidden(_POD, _name(pod), why)
    spec.serviceAccountName = spec.serviceAccount = name


def priority(pod: Pod, classes: Iterable[PriorityClass]) -> None:
    """The pod's priority, of the class that it names or of the default one.

    Raises:
        StatusError: there is no such class, or the pod says another number than its class.
    """
    spec = pod.spec
    number, policy = 0, "PreemptLowerPriority"
    if spec.priorityClassName:
        found = next((one for one in classes if one.metadata.name == spec.priorityClassName), None)
        if found is None:
            why = f"no PriorityClass with name {spec.priorityClassName} was found"
            raise api_status.forbidden(_POD, _name(pod), why)
        number, policy = found.value, found.preemptionPolicy or policy
    else:
        # Of several defaults, the lowest (plugin/pkg/admission/priority getDefaultPriorityClass).
        default = min((one for one in classes if one.globalDefault), key=lambda one: one.value, default=None)
        if default is not None:
            spec.priorityClassName = default.metadata.name
            number, policy = default.value, default.preemptionPolicy or policy
    if spec.priority is not None and spec.priority != number:
        why = (
            f"the integer value of priority ({spec.priority}) must not be provided in pod spec; priority admission controller"
            f" computed {number} from the given PriorityClass name"
        )
        raise api_status.forbidden(_POD, _name(pod), why)
    if spec.preemptionPolicy is not None and spec.preemptionPolicy != policy:
        why = (
            f"the string value of PreemptionPolicy ({spec.preemptionPolicy}) must not be provided in pod spec; priority admission"
            f" controller computed {policy} from the given PriorityClass name"
        )
        raise api_status.forbidden(_POD, _name(pod), why)
    spec.priority, spec.preemptionPolicy = number, policy


def runtime_class(pod: Pod, found: RuntimeClass | None) -> None:
    """What a pod has of its runtime class: overhead, and where it may run.

    Args:
        pod: changed in place.
        found: the class that it names, if there is one of that name.

    Raises:
        StatusError: there is no such class, or it and the pod differ.
    """
    spec = pod.spec
    if spec.runtimeClassName and found is None:
        raise api_status.forbidden(_POD, _name(pod), f'pod rejected: RuntimeClass "{spec.runtimeClassName}" not found')
    fixed = found.overhead.podFixed if found is not None and found.overhead is not None else {}
    if spec.overhead and not fixed:
        why = "pod rejected: Pod Overhead set without corresponding RuntimeClass defined Overhead"
        raise api_status.forbidden(_POD, _name(pod), why)
    if spec.overhead and (
        spec.overhead.keys() != fixed.keys() or any(parse(spec.overhead[name]) != parse(fixed[name]) for name in fixed)
    ):
        why = "pod rejected: Pod's Overhead doesn't match RuntimeClass's defined Overhead"
        raise api_status.forbidden(_POD, _name(pod), why)
    spec.overhead = dict(fixed)
    scheduling = found.scheduling if found is not None else None
    if scheduling is None:
        return
    for key, value in scheduling.nodeSelector.items():
        if spec.nodeSelector.setdefault(key, value) != value:
            why = (
                f"pod rejected: conflict: runtimeClass.scheduling.nodeSelector[{key}] = {value};"
                f" pod.spec.nodeSelector[{key}] = {spec.nodeSelector[key]}"
            )
            raise api_status.forbidden(_POD, _name(pod), why)
    spec.tolerations += [one for one in scheduling.tolerations if one not in spec.tolerations]


def limit_ranges(pod: Pod, ranges: Iterable[LimitRange]) -> None:
    """Amounts that containers have by default, and bounds of what they may have, in their namespace.

    Raises:
        StatusError: a container is out of bounds.
    """
    items = [item for one in ranges for item in one.spec.limits if item.type == "Container"]
    if not items:
        return
    containers = [*pod.spec.containers, *pod.spec.initContainers]
    for container in containers:
        own = container.resources
        for item in items:
            own.requests = {
                **{name: own.limits.get(name, item.defaultRequest[name]) for name in item.defaultRequest},
                **own.requests,
            }
            own.limits = {**item.default, **own.limits}
    problems = [text for container in containers for item in items for text in _out_of_bounds(container, item)]
    if problems:
        text = problems[0] if len(problems) == 1 else f"[{', '.join(problems)}]"
        raise api_status.forbidden(_POD, _name(pod), text)


def _out_of_bounds(container: Container, item: LimitRangeItem) -> Iterator[str]:
    """The objections, as plugin/pkg/admission/limitranger words them."""
    requests, limits = container.resources.requests, container.resources.limits
    for name, bound in sorted(item.min.items()):
        text = f"minimum {name} usage per Container is {bound}"
        if name not in requests:
            yield f"{text}.  No request is specified"
        elif parse(requests[name]) < parse(bound):
            yield f"{text}, but request is {requests[name]}"
        if name in limits and parse(limits[name]) < parse(bound):
            yield f"{text}, but limit is {limits[name]}"
    for name, bound in sorted(item.max.items()):
        text = f"maximum {name} usage per Container is {bound}"
        if name not in limits:
            yield f"{text}.  No limit is specified"
        elif parse(limits[name]) > parse(bound):
            yield f"{text}, but limit is {limits[name]}"
        if name in requests and parse(requests[name]) > parse(bound):
            yield f"{text}, but request is {requests[name]}"


def _name(pod: Pod) -> str:
    return pod.metadata.name or pod.metadata.generateName or ""
