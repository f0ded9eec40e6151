"""Ephemeral containers: added to a pod that is there, one by one, as the API server's subresource of that name takes them.

Source of the rules: kubernetes pkg/apis/core/validation/validation.go ValidatePodEphemeralContainersUpdate.
"""

from __future__ import annotations

import json
from typing import Any

import msgspec

from nsrun.errors import ConflictError, SpecError
from nsrun.spec.decode import to_dict
from nsrun.spec.load import load
from nsrun.spec.model import Pod

_PATH = "spec.ephemeralContainers"


def with_ephemeral(pod: Pod, wanted: dict[str, Any]) -> Pod:
    """`pod` with one ephemeral container more; `pod` itself when it has just that one already.

    Args:
        pod: defaulted and valid.
        wanted: an EphemeralContainer in JSON terms.

    Raises:
        SpecError: the container is not valid, in the words of the API server.
        ConflictError: there is an ephemeral container of this name that differs.
    """
    name = wanted.get("name")
    known = next((one for one in pod.spec.ephemeralContainers if one.name == name), None)
    others = [one for one in pod.spec.ephemeralContainers if one is not known]
    whole = to_dict(msgspec.structs.replace(pod, spec=msgspec.structs.replace(pod.spec, ephemeralContainers=others)))
    whole.pop("status", None)
    whole["spec"].setdefault("ephemeralContainers", []).append(wanted)
    (verdict,) = load(json.dumps(whole).encode(), f"container {name}")
    # What is forbidden is having one from the beginning on.
    messages = [message for message, path in zip(verdict.messages, verdict.paths, strict=True) if path != _PATH]
    if messages or not isinstance(verdict.object, Pod):
        label = f"{pod.metadata.namespace or 'default'}/{pod.metadata.name}"
        raise SpecError(f'container "{name}" cannot be added to pod "{label}"', details="\n".join(messages))
    new = verdict.object.spec.ephemeralContainers[-1]
    if known is None:
        spec = msgspec.structs.replace(pod.spec, ephemeralContainers=[*others, new])
        return msgspec.structs.replace(pod, spec=spec)
    if new != known:
        raise ConflictError(
            f'existing ephemeral containers "{name}" may not be changed',
            resolution="Give the new one another name with -c, or leave -c out.",
        )
    return pod
