"""What the manifests of a request say."""

from __future__ import annotations

from typing import TYPE_CHECKING

from nsrun.errors import UsageError
from nsrun.spec import Verdict, load

if TYPE_CHECKING:
    from nsrun.server.control import Request


def verdicts_of(request: Request) -> list[Verdict]:
    """The verdict on each object in the manifests of a request.

    Raises:
        UsageError: there are none.
        SpecError: one of them is no manifest at all.
    """
    documents = request.params.get("documents")
    if not isinstance(documents, list) or not documents:
        raise UsageError(f"{request.method}: parameter 'documents' must be a list of manifests")
    verdicts: list[Verdict] = []
    for one in documents:
        name, text = (one.get("name"), one.get("text")) if isinstance(one, dict) else (None, None)
        if not isinstance(text, str):
            raise UsageError(f"{request.method}: each of 'documents' must have a name and a text")
        verdicts += load(text.encode("utf-8", "surrogateescape"), str(name or "-"))
    return verdicts


def namespace_of(verdict: Verdict, namespace: str | None) -> str:
    """The namespace that the manifest names, or that of the request.

    Raises:
        UsageError: both are given and differ.
    """
    metadata = verdict.raw.get("metadata") if isinstance(verdict.raw, dict) else None
    named = metadata.get("namespace") if isinstance(metadata, dict) else None
    if named and namespace and named != namespace:
        raise UsageError(
            f"{verdict.where()}: the manifest says namespace {named}, and the request says {namespace}",
            resolution="Leave one of them out.",
        )
    return str(named or namespace or "default")
