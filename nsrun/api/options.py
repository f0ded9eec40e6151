"""What clients say beside an object: the options of writes, from the query, and those of deletions, from the query or a body.

Source: apimachinery pkg/apis/meta/v1/types.go, pkg/apis/meta/v1/validation, apiserver pkg/endpoints/handlers/delete.go (v1.36).
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from msgspec import field

from nsrun.errors import StatusError
from nsrun.spec import api_status
from nsrun.spec.decode import DecodeError, decode_as, learn
from nsrun.spec.documents import Document
from nsrun.spec.field_errors import quote
from nsrun.spec.model import ApiStruct

_INT64 = re.compile(r"[+-]?[0-9]{1,19}")
_INT64_MAX = 2**63 - 1


class WriteOptions:
    """What the query of a write says.

    Args:
        query: of the request.
        kind: CreateOptions, UpdateOptions or PatchOptions.

    Raises:
        StatusError: something that is not known.
    """

    def __init__(self, query: Mapping[str, str], kind: str) -> None:
        said = query.get("dryRun", "")
        self.dry_run = _dry([said] if said else [], kind)
        self.field_validation = query.get("fieldValidation", "")
        self.manager = query.get("fieldManager", "")
        self.force = query.get("force", "").lower() in ("1", "true")


class Preconditions(ApiStruct):
    """Kubernetes Preconditions."""

    uid: str | None = None
    resourceVersion: str | None = None


class DeleteOptions(ApiStruct):
    """Kubernetes DeleteOptions."""

    kind: str | None = None
    apiVersion: str | None = None
    gracePeriodSeconds: int | None = None
    preconditions: Preconditions | None = None
    orphanDependents: bool | None = None
    propagationPolicy: str | None = None
    dryRun: list[str] = field(default_factory=list)


learn(
    {
        Preconditions: (("uid", "*string"), ("resourceVersion", "*string")),
        DeleteOptions: (
            ("kind", "string"),
            ("apiVersion", "string"),
            ("gracePeriodSeconds", "*int64"),
            ("preconditions", "*v1.Preconditions"),
            ("orphanDependents", "*bool"),
            ("propagationPolicy", "*string"),
            ("dryRun", "[]string"),
        ),
    },
    {},
)


def deletion(said: Any, query: Mapping[str, str]) -> dict[str, Any]:
    """How something is to go, as the server is told.

    Args:
        said: DeleteOptions in JSON terms, as a client sent them; None where there are none.
        query: of the request.

    Raises:
        StatusError: they are none, or say what is not known.
    """
    options = _read({} if said is None else said)
    grace = options.gracePeriodSeconds
    if grace is None and query.get("gracePeriodSeconds"):
        grace = _int64(query["gracePeriodSeconds"])
    propagation = options.propagationPolicy or query.get("propagationPolicy") or None
    if options.orphanDependents is not None:
        if propagation is not None:
            why = f"propagationPolicy: Invalid value: {quote(propagation)}: orphanDependents and deletionPropagation cannot be both set"
            raise _invalid("DeleteOptions", why)
        propagation = "Orphan" if options.orphanDependents else "Background"
    preconditions = options.preconditions or Preconditions()
    dry_run = options.dryRun or ([query["dryRun"]] if query.get("dryRun") else [])
    return {
        "grace_period_s": grace,
        "uid": preconditions.uid,
        "resource_version": preconditions.resourceVersion,
        "propagation": propagation,
        "dry_run": _dry(dry_run, "DeleteOptions") or None,
    }


def _read(said: Any) -> DeleteOptions:
    if not isinstance(said, dict):
        raise api_status.bad_request("the options of a deletion are no object")
    if said.get("kind") not in (None, "", "DeleteOptions"):
        raise api_status.bad_request(f"decoded object cannot be converted to DeleteOptions: {said['kind']}")
    document = Document("", 0, 1, is_json=True)
    document.value, document.kind = said, "DeleteOptions"
    try:
        found = decode_as(document, DeleteOptions, strict=False)
    except DecodeError as error:
        raise api_status.undecodable("DeleteOptions", "v1", str(error)) from None
    assert isinstance(found, DeleteOptions)
    return found


def _int64(text: str) -> int:
    found = int(text) if _INT64.fullmatch(text) else None
    if found is None or not -_INT64_MAX <= found <= _INT64_MAX:
        digits = re.fullmatch(r"[+-]?[0-9]+", text)
        why = "value out of range" if digits else "invalid syntax"
        raise api_status.bad_request(f"strconv.ParseInt: parsing {quote(text)}: {why}")
    return found


def _dry(said: Sequence[str], kind: str) -> bool:
    """Whether nothing is to be done.

    Raises:
        StatusError: it says something else than All.
    """
    if any(one != "All" for one in said):
        shown = ", ".join(quote(one) for one in said)
        raise _invalid(kind, f'dryRun: Unsupported value: {{{shown}}}: supported values: "All"')
    return bool(said)


def _invalid(kind: str, why: str) -> StatusError:
    return api_status.refusal(422, "Invalid", f'{kind}.meta.k8s.io "" is invalid: {why}')
