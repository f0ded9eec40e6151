"""What each way of changing a pod lets change: the pod itself, and its subresources.

Source: kubernetes pkg/registry/core/pod/strategy.go PrepareForUpdate of each, pkg/apis/core/validation/validation.go
ValidatePodUpdate, ValidatePodResize, ValidatePodEphemeralContainersUpdate (v1.36).
"""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from dataclasses import replace

import msgspec

from nsrun.spec.changes import changes
from nsrun.spec.field_errors import Errors, FieldError
from nsrun.spec.model import Container, Pod
from nsrun.spec.update import Update, judge_update


def for_status(old: Pod, new: Pod) -> Pod:
    """`new` as an update of the status sees it: the spec stays, and who owns it."""
    metadata = msgspec.structs.replace(new.metadata, ownerReferences=old.metadata.ownerReferences)
    return msgspec.structs.replace(old, metadata=metadata, status=new.status)


def for_ephemeral(old: Pod, new: Pod) -> Pod:
    """`new` as an update of the ephemeral containers sees it: of the spec, nothing else changes."""
    spec = msgspec.structs.replace(old.spec, ephemeralContainers=new.spec.ephemeralContainers)
    return msgspec.structs.replace(old, metadata=new.metadata, spec=spec)


def for_resize(old: Pod, new: Pod) -> Pod:
    """`new` as a resize sees it: resources and resize policies of containers that are there, by name."""
    wanted = {one.name: one for one in (*new.spec.initContainers, *new.spec.containers)}

    def resized(containers: Sequence[Container]) -> list[Container]:
        return [
            msgspec.structs.replace(
                one, resources=wanted[one.name].resources, resizePolicy=wanted[one.name].resizePolicy
            )
            if one.name in wanted
            else one
            for one in containers
        ]

    spec = msgspec.structs.replace(
        old.spec,
        containers=resized(old.spec.containers),
        initContainers=resized(old.spec.initContainers),
        resources=new.spec.resources,
    )
    return msgspec.structs.replace(old, metadata=new.metadata, spec=spec)


def for_spec(old: Pod, new: Pod, subresource: str) -> Update:
    """Judge the change from `old` to `new`, what one of the functions above gave, or all of what a client wants."""
    if subresource == "ephemeralcontainers":
        errors = _ephemeral(old, new)
        return Update(tuple(changes(old, new)), tuple(errors), of_spec=old.spec != new.spec)
    judged = judge_update(old, new, resize=subresource == "resize")
    if not judged.fixed:
        return judged
    shown = [
        msgspec.structs.replace(error, detail=f"{error.detail}\n{_difference(old, new)}")
        if error.path == "spec"
        else error
        for error in judged.errors
    ]
    return replace(judged, errors=tuple(shown))


def _difference(old: Pod, new: Pod) -> str:
    """What differs, as a unified difference of the specs in JSON, without a heading."""
    before, after = (
        msgspec.json.format(msgspec.json.encode(pod.spec), indent=2).decode().splitlines() for pod in (old, new)
    )
    return "\n".join(list(difflib.unified_diff(before, after, lineterm="", n=3))[2:]) + "\n"


def _ephemeral(old: Pod, new: Pod) -> list[FieldError]:
    errors = Errors()
    wanted = {one.name: (index, one) for index, one in enumerate(new.spec.ephemeralContainers)}
    for one in old.spec.ephemeralContainers:
        if one.name not in wanted:
            text = f'existing ephemeral containers "{one.name}" may not be removed\n'
            errors.forbidden("spec.ephemeralContainers", text)
            continue
        index, other = wanted[one.name]
        if other != one:
            text = f'existing ephemeral containers "{one.name}" may not be changed\n'
            errors.forbidden(f"spec.ephemeralContainers[{index}]", text)
    return list(errors)
