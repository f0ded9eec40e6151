"""What may be changed of a pod that is there: `pod up` of a changed manifest, judged as the API server judges an update.

Source of the rules: kubernetes pkg/apis/core/validation/validation.go ValidatePodUpdate, ValidatePodResize, and the kubelet's
pkg/kubelet/kuberuntime/kuberuntime_manager.go computePodActions (what makes a container start again), v1.36. A manifest is
the whole of what is asked for: Kubernetes takes resources through a request of their own (the subresource `resize`), nsrun
takes everything that may change at once. Whether the new pod is valid by itself has been judged before.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import Any

import msgspec

from nsrun.spec import apparmor, names
from nsrun.spec.changes import changes
from nsrun.spec.field_errors import Errors, FieldError
from nsrun.spec.model import (
    Affinity,
    Container,
    NodeAffinity,
    NodeSelectorTerm,
    ObjectMeta,
    Pod,
    PodSpec,
    ResourceRequirements,
    Toleration,
)
from nsrun.spec.quantity import Quantity, parse
from nsrun.status.qos import qos_class

UPDATABLE = (
    "`spec.containers[*].image`",
    "`spec.initContainers[*].image`",
    "`spec.activeDeadlineSeconds`",
    "`spec.tolerations` (only additions to existing tolerations)",
    "`spec.terminationGracePeriodSeconds` (allow it to be set to 1 if it was previously negative)",
)
"""What the API server names as the fields of a spec that may be changed."""

_ADMITTED = ("serviceAccountName", "serviceAccount", "priority", "priorityClassName", "preemptionPolicy", "overhead")
"""What an API server fills in when a pod is made."""
_RESIZABLE = ("cpu", "memory")
_MIRROR = "kubernetes.io/config.mirror"
_MAX_INT32 = 2147483647
_TERMS = "affinity.nodeAffinity.requiredDuringSchedulingIgnoredDuringExecution.nodeSelectorTerms"


@dataclass(frozen=True, slots=True)
class Update:
    """The difference between a pod and a manifest of the same name.

    Attributes:
        paths: the fields that differ, in the order of the API; () = they ask for the same.
        errors: why Kubernetes would not make this of that pod; () = it would.
        fixed: the fields among `paths` that the last of `errors` is about, which itself names only those that may change.
        redefined: the containers whose definition is another one, so that a running one is to be started again; in the
            order of the API.
        of_image: those of them that have another image.
        of_spec: the spec differs, not only the metadata.
    """

    paths: tuple[str, ...] = ()
    errors: tuple[FieldError, ...] = ()
    fixed: tuple[str, ...] = ()
    redefined: tuple[str, ...] = ()
    of_image: tuple[str, ...] = ()
    of_spec: bool = False


def inherit(old: Pod, new: Pod, raw: Any) -> None:
    """Give `new` what its manifest leaves to defaults that would be other ones with other images, as `kubectl apply` keeps them.

    Args:
        old: what the pod was asked to be.
        new: what it is to be; changed in place.
        raw: the manifest of `new`, in JSON terms.
    """
    spec = raw.get("spec") if isinstance(raw, dict) else None
    for field in _ADMITTED:
        there = isinstance(spec, dict) and spec.get(field) not in (None, "", {})
        if not there and getattr(old.spec, field) is not None:
            setattr(new.spec, field, getattr(old.spec, field))
    for field in ("initContainers", "containers"):
        written = (spec.get(field) if isinstance(spec, dict) else None) or []
        for before, after, one in zip(getattr(old.spec, field), getattr(new.spec, field), written, strict=False):
            if before.name == after.name and isinstance(one, dict) and not one.get("imagePullPolicy"):
                after.imagePullPolicy = before.imagePullPolicy


def judge_update(old: Pod, new: Pod, *, resize: bool = True) -> Update:
    """Judge the change of a pod.

    Args:
        old: what the pod was asked to be; defaulted, without what nsrun adds to it.
        new: what it is to be; defaulted and valid by itself.
        resize: amounts of resources may be other ones.
    """
    paths = changes(old, new)
    errors = Errors()
    _annotations(old.metadata, new.metadata, errors)
    fixed = _spec(old, new, errors, resize=resize)
    pairs = [] if errors else list(zip(_containers(old.spec), _containers(new.spec), strict=False))
    anew = () if errors else redefined_by_amounts(old, new)
    redefined = tuple(after.name for before, after in pairs if before.image != after.image or after.name in anew)
    of_image = tuple(after.name for before, after in pairs if before.image != after.image)
    of_spec = any(path.startswith("spec") for path in paths)
    return Update(tuple(paths), tuple(errors), tuple(fixed), redefined, of_image, of_spec)


def redefined_by_amounts(old: Pod, new: Pod) -> tuple[str, ...]:
    """The containers that are started again for their amounts, because their resizePolicy says so.

    The pod's limit is also that of a container without one (Kubernetes: resize-pod-resources, "Container Resize Policy").
    """
    pairs = zip(_containers(old.spec), _containers(new.spec), strict=False)
    return tuple(after.name for before, after in pairs if _restarted(old, before, new, after))


def updated(pod: Pod, asked: Pod, *, of_spec: bool, whole: bool = False) -> Pod:
    """`pod` with what is asked for; what nsrun added to it stays, and its ephemeral containers, which no manifest has.

    `of_spec`: its spec is another one, which makes it a new generation (apiserver pkg/registry/core/pod/strategy.go).
    `whole`: `asked` has all of the metadata that clients may change.
    """
    metadata = msgspec.structs.replace(
        pod.metadata,
        labels=asked.metadata.labels,
        annotations=asked.metadata.annotations,
        generation=(pod.metadata.generation or 1) + of_spec,
    )
    if whole:
        metadata.finalizers = asked.metadata.finalizers
        metadata.ownerReferences = asked.metadata.ownerReferences
        metadata.managedFields = asked.metadata.managedFields
        return msgspec.structs.replace(pod, metadata=metadata, spec=asked.spec)
    spec = msgspec.structs.replace(
        asked.spec, nodeName=pod.spec.nodeName, ephemeralContainers=pod.spec.ephemeralContainers
    )
    return msgspec.structs.replace(pod, metadata=metadata, spec=spec)


def _containers(spec: PodSpec) -> list[Container]:
    return [*spec.initContainers, *spec.containers]


def _restarted(old: Pod, before: Container, new: Pod, after: Container) -> bool:
    restarted = {one.resourceName for one in after.resizePolicy if one.restartPolicy == "RestartContainer"}
    return any(_amounts(old, before, name) != _amounts(new, after, name) for name in restarted)


def _amounts(pod: Pod, container: Container, name: str) -> list[Quantity | None]:
    limits = _of_pod(pod.spec).limits | container.resources.limits
    return [parse(one[name]) if name in one else None for one in (container.resources.requests, limits)]


def _of_pod(spec: PodSpec) -> ResourceRequirements:
    return spec.resources or ResourceRequirements()


def _annotations(old: ObjectMeta, new: ObjectMeta, errors: Errors) -> None:
    for key in sorted(old.annotations.keys() | new.annotations.keys()):
        if old.annotations.get(key) == new.annotations.get(key):
            continue
        verb = "remove or update" if key in old.annotations else "add"
        if key.startswith(apparmor.ANNOTATION):
            errors.forbidden(f"metadata.annotations[{key}]", f"may not {verb} AppArmor annotations")
        if key == _MIRROR:
            errors.forbidden(f"metadata.annotations[{key}]", f"may not {verb} mirror pod annotation")


def _spec(old: Pod, new: Pod, errors: Errors, *, resize: bool) -> list[str]:
    """The rules in the API server's order, then equality of what is left once everything that may change is set back.

    Returns:
        The fields that must not differ and do.
    """
    for field in ("containers", "initContainers"):
        if len(getattr(old.spec, field)) != len(getattr(new.spec, field)):
            errors.forbidden(f"spec.{field}", "pod updates may not add or remove containers")
            return []
    if not _deadline(old.spec, new.spec, errors):
        return []
    _tolerations(old.spec, new.spec, errors)
    _gates(old.spec, new.spec, errors)
    rest = copy.deepcopy(new.spec)
    for before, after in zip(_containers(old.spec), _containers(rest), strict=True):
        after.image = before.image
    if resize:
        _resources(old, new, rest, errors)
    rest.activeDeadlineSeconds = old.spec.activeDeadlineSeconds
    rest.schedulingGates = old.spec.schedulingGates
    rest.tolerations = old.spec.tolerations
    grace_s = old.spec.terminationGracePeriodSeconds
    if grace_s is not None and grace_s < 0 and rest.terminationGracePeriodSeconds == 1:
        rest.terminationGracePeriodSeconds = grace_s
    if old.spec.schedulingGates:
        _gated(old.spec, rest, errors)
    left = changes(Pod(spec=old.spec), Pod(spec=rest))
    if left:
        errors.forbidden("spec", "pod updates may not change fields other than " + ",".join(UPDATABLE))
    return left


def _deadline(old: PodSpec, new: PodSpec, errors: Errors) -> bool:
    """It can be set and lowered; False: nothing else is looked at."""
    before, after, path = old.activeDeadlineSeconds, new.activeDeadlineSeconds, "spec.activeDeadlineSeconds"
    if after is None:
        if before is not None:
            errors.invalid(path, None, "must not update from a positive integer to nil value")
        return True
    if not 0 <= after <= _MAX_INT32:
        errors.invalid(path, after, names.in_range(0, _MAX_INT32))
        return False
    if before is not None and before < after:
        errors.invalid(path, after, "must be less than or equal to previous value")
        return False
    return True


def _tolerations(old: PodSpec, new: PodSpec, errors: Errors) -> None:
    kept = [_timeless(one) for one in new.tolerations]
    if any(_timeless(one) not in kept for one in old.tolerations):
        errors.forbidden("spec.tolerations", "existing toleration can not be modified except its tolerationSeconds")


def _timeless(toleration: Toleration) -> Toleration:
    return msgspec.structs.replace(toleration, tolerationSeconds=None)


def _gates(old: PodSpec, new: PodSpec, errors: Errors) -> None:
    known = {gate.name for gate in old.schedulingGates}
    for index, gate in enumerate(new.schedulingGates):
        if gate.name not in known:
            detail = f"only deletion is allowed, but found new scheduling gate '{gate.name}'"
            errors.forbidden(f"spec.schedulingGates[{index}]", detail)


def _gated(old: PodSpec, rest: PodSpec, errors: Errors) -> None:
    """Of a pod that waits to be scheduled what narrows the choice of nodes may be added."""
    if any(rest.nodeSelector.get(key) != value for key, value in old.nodeSelector.items()):
        detail = "only additions to spec.nodeSelector are allowed (no mutations or deletions)"
        errors.invalid("spec.nodeSelector", rest.nodeSelector, detail)
    rest.nodeSelector = old.nodeSelector
    before = old.affinity.nodeAffinity if old.affinity is not None else None
    after = rest.affinity.nodeAffinity if rest.affinity is not None else None
    if before == after:
        return
    _node_affinity(before, after, errors)
    if rest.affinity is None:
        rest.affinity = Affinity(nodeAffinity=before)
    elif old.affinity is None and rest.affinity.podAffinity is None and rest.affinity.podAntiAffinity is None:
        rest.affinity = None
    else:
        rest.affinity.nodeAffinity = before


def _node_affinity(old: NodeAffinity | None, new: NodeAffinity | None, errors: Errors) -> None:
    if old is None or old.requiredDuringSchedulingIgnoredDuringExecution is None:
        return
    before = old.requiredDuringSchedulingIgnoredDuringExecution.nodeSelectorTerms
    after: list[NodeSelectorTerm] = []
    if new is not None and new.requiredDuringSchedulingIgnoredDuringExecution is not None:
        after = new.requiredDuringSchedulingIgnoredDuringExecution.nodeSelectorTerms
    if before and len(before) != len(after):
        detail = "no additions/deletions to non-empty NodeSelectorTerms list are allowed"
        errors.invalid(f"spec.{_TERMS}", after, detail)
        return
    for index, (one, other) in enumerate(zip(before, after, strict=False)):
        if not _only_added(one, other):
            detail = "only additions are allowed (no mutations or deletions)"
            errors.invalid(f"spec.{_TERMS}[{index}]", other, detail)


def _only_added(old: NodeSelectorTerm, new: NodeSelectorTerm) -> bool:
    if not old.matchExpressions and not old.matchFields and (new.matchExpressions or new.matchFields):
        # An empty term matches nothing; with something in it, it would match more.
        return False
    return (
        new.matchExpressions[: len(old.matchExpressions)] == old.matchExpressions
        and new.matchFields[: len(old.matchFields)] == old.matchFields
    )


def _resources(old: Pod, new: Pod, rest: PodSpec, errors: Errors) -> None:
    """Amounts of cpu and memory of the pod, of mains and sidecars can be changed; what is allowed of it is set back in `rest`."""
    parts = [
        (f"spec.{field}[{index}].resources", before.resources, after.resources)
        for field in ("initContainers", "containers")
        for index, (before, after) in enumerate(zip(getattr(old.spec, field), getattr(rest, field), strict=True))
        if field == "containers" or after.restartPolicy == "Always"
    ]
    of_pod = _of_pod(rest)
    parts.append(("spec.resources", _of_pod(old.spec), of_pod))
    parts = [part for part in parts if part[1] != part[2]]
    if not parts:
        return
    if qos_class(old) != qos_class(new):
        errors.invalid("spec", qos_class(new), "Pod QOS Class may not change as a result of resizing")
    for path, before, after in parts:
        for field in ("requests", "limits"):
            if not getattr(before, field).keys() <= getattr(after, field).keys():
                errors.forbidden(f"{path}.{field}", f"resource {field} cannot be removed")
            amounts = dict(getattr(after, field))
            for name in _RESIZABLE:
                amounts.pop(name, None)
                if name in getattr(before, field):
                    amounts[name] = getattr(before, field)[name]
            setattr(after, field, amounts)
    rest.resources = old.spec.resources if of_pod == _of_pod(old.spec) else of_pod
