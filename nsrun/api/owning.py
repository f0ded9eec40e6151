"""Who set what: the managers of the fields of what clients write, and objects that are applied.

Source: apiserver pkg/endpoints/handlers/patch.go, create.go, update.go (scope.FieldManager), apimachinery
pkg/apis/meta/v1/validation ValidatePatchOptions (v1.36).
"""

from __future__ import annotations

import time
from typing import Any

import msgspec
from aiohttp import web

from nsrun.api import bodies
from nsrun.api.forms.ownership import applied, managers, written
from nsrun.api.forms.patches import APPLY_PATCH
from nsrun.errors import SpecError, StatusError
from nsrun.spec import api_status
from nsrun.spec.decode import to_dict
from nsrun.spec.incoming import IGNORE, STRICT, read
from nsrun.spec.kinds import fill_in
from nsrun.spec.resources_table import Resource
from nsrun.spec.yaml_reader import YamlReader
from nsrun.status.times import rfc3339

_CANNOT = " cannot be handled as a "


def now() -> str:
    """The time of a write."""
    return rfc3339(time.time()) or ""


def manager_of(request: web.BaseRequest, said: str) -> str:
    """The manager of a write."""
    return managers.name_of(said, request.headers.get("User-Agent", ""))


def owned(live: dict[str, Any] | None, obj: dict[str, Any], manager: str, *, subresource: str = "") -> dict[str, Any]:
    """What is to be written, with the managers that it has then; as it is when the server is going to refuse it.

    Args:
        live: as it is, None when it is created.
        obj: as it is to be, as the client says it.
        manager: of the write.
        subresource: through which it is written.
    """
    try:
        incoming = read(obj, IGNORE)
    except StatusError:
        return obj
    resource, metadata = incoming.resource, obj.get("metadata")
    fill_in(incoming.object, resource)
    whole = to_dict(incoming.object)
    if isinstance(metadata, dict) and "managedFields" in metadata:
        whole["metadata"]["managedFields"] = metadata["managedFields"]
    found = written(resource.api_version, resource.kind, live, whole, manager, now(), subresource=subresource)
    # One empty entry takes away those that there are; a list without any would only say nothing of them.
    entries = found["metadata"].get("managedFields") or ([{}] if live is not None else [])
    return {**obj, "metadata": {**(metadata if isinstance(metadata, dict) else {}), "managedFields": entries}}


def configured(
    resource: Resource, live: dict[str, Any] | None, config: Any, manager: str, *, force: bool, subresource: str = ""
) -> dict[str, Any]:
    """An object after an apply.

    Raises:
        StatusError: it cannot be applied.
    """
    found = applied(
        resource.api_version, resource.kind, live, config, manager, now(), force=force, subresource=subresource
    )
    uid = found["metadata"].get("uid")
    if live is None and uid:
        why = f"uid mismatch: the provided object specified uid {uid}, and no existing object was found"
        raise api_status.conflict(resource, str(found["metadata"].get("name") or ""), why)
    return found


def check_options(media: str, manager: str, force: str | None) -> None:
    """See that the options of a patch go with its kind.

    Raises:
        StatusError: 422, they do not.
    """
    problem = ""
    if media != APPLY_PATCH and force is not None:
        problem = "force: Forbidden: may not be specified for non-apply patch"
    elif media == APPLY_PATCH and not manager:
        problem = "fieldManager: Required value: is required for apply patch"
    elif len(manager) > managers.MAX_NAME:
        problem = f"fieldManager: Too long: may not be more than {managers.MAX_NAME} bytes"
    if problem:
        field, _, message = problem.partition(": ")
        reasons = {"Forb": "FieldValueForbidden", "Requ": "FieldValueRequired", "Too ": "FieldValueTooLong"}
        cause = {"reason": reasons[message[:4]], "message": message, "field": field}
        text = f'PatchOptions.meta.k8s.io "" is invalid: {problem}'
        details = {"group": "meta.k8s.io", "kind": "PatchOptions", "causes": [cause]}
        raise api_status.refusal(422, "Invalid", text, details=details)


def patch_of(body: bytes, media: str, field_validation: str) -> tuple[Any, list[str]]:
    """A patch, and what is to be warned of.

    Raises:
        StatusError: 400, it cannot be read.
    """
    if media == APPLY_PATCH and not body.lstrip().startswith(b"{"):
        return _yaml(body, field_validation)
    try:
        found = msgspec.json.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        lead = "error decoding YAML" if media == APPLY_PATCH else "error decoding patch"
        raise api_status.bad_request(f"{lead}: {bodies.json_error(body, error)}") from None
    if bodies.too_deep(found):
        raise api_status.bad_request("error decoding patch: exceeded max depth")
    twice = [f"duplicate field {api_status.quoted(name)}" for name in bodies.duplicates(body)]
    if twice and field_validation == STRICT:
        raise _refused_patch(body.decode(errors="replace"), "strict decoding error: " + ", ".join(twice))
    return found, [] if field_validation == IGNORE else twice


def _yaml(body: bytes, field_validation: str) -> tuple[Any, list[str]]:
    try:
        reader = YamlReader(body.decode("utf-8-sig"), 1, "patch")
        found = reader.read()
    except (SpecError, UnicodeDecodeError) as error:
        raise api_status.bad_request(f"error decoding YAML: {error}") from None
    twice = ["yaml: unmarshal errors:\n" + "\n".join(reader.duplicates)] if reader.duplicates else []
    if twice and field_validation == STRICT:
        raise api_status.bad_request(f"error strict decoding YAML: {twice[0]}")
    return found, [] if field_validation == IGNORE else twice


def judge_patched(obj: dict[str, Any], patch: Any, *, as_text: bool, field_validation: str) -> None:
    """See that what a patch has made is an object of its kind.

    Args:
        obj: what it has made.
        patch: itself.
        as_text: name the object in the refusal, not the patch.
        field_validation: what becomes of unknown fields.

    Raises:
        StatusError: 422, it is none.
    """
    try:
        read(obj, field_validation)
    except StatusError as error:
        why = str(error.status.get("message", "")).partition(_CANNOT)[2].partition(": ")[2]
        if error.status.get("code") != 400 or not why:
            raise
        shown = msgspec.json.encode(obj).decode() if as_text else _go(patch)
        raise _refused_patch(shown, why) from None


def _refused_patch(shown: str, why: str) -> StatusError:
    message = f"Invalid value: {api_status.quoted(shown)}: {why}"
    cause = {"reason": "FieldValueInvalid", "message": message, "field": "patch"}
    return api_status.refusal(422, "Invalid", f' "" is invalid: patch: {message}', details={"causes": [cause]})


def _go(value: Any) -> str:
    """As Go's %v prints it."""
    if isinstance(value, dict):
        return f"map[{' '.join(f'{key}:{_go(value[key])}' for key in sorted(value))}]"
    if isinstance(value, list):
        return f"[{' '.join(map(_go, value))}]"
    return "<nil>" if value is None else str(value).lower() if isinstance(value, bool) else str(value)
