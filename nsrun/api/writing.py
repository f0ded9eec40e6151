"""POST, PUT, PATCH and DELETE: what a client wants, put into the server's words.

Source: apiserver pkg/endpoints/handlers/create.go, update.go, patch.go, delete.go, pkg/registry/generic/registry/store.go (v1.36).
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any

import msgspec
from aiohttp import web

from nsrun.api import bodies, owning
from nsrun.api.answers import answer
from nsrun.api.cache import Cache, Entry
from nsrun.api.forms import patches, refusals, strategic
from nsrun.api.forms.negotiation import JSON, PROTOBUF, Wanted
from nsrun.api.link import Link
from nsrun.api.options import WriteOptions, deletion
from nsrun.api.paths import Target
from nsrun.api.reading import Reader
from nsrun.api.selecting import Selection
from nsrun.api.views import View
from nsrun.errors import StatusError
from nsrun.spec import api_status, events_api

JSON_PATCH = "application/json-patch+json"
MERGE_PATCH = "application/merge-patch+json"
STRATEGIC = "application/strategic-merge-patch+json"
APPLY = "application/apply-patch+yaml"
PATCHES = (JSON_PATCH, MERGE_PATCH, STRATEGIC, APPLY)
NEWER_EVENTS = "events.k8s.io/v1"
PATCH_ATTEMPTS = 5
"""Of a patch that fits whatever version it meets, as of the API server."""
DELETIONS_AT_ONCE = 16
"""Of a collection: each may wait for a pod to be gone."""
RETURNED = frozenset(
    ["Pod", "Service", "ServiceAccount", "PersistentVolumeClaim", "PersistentVolume", "ResourceQuota", "PodTemplate"]
)
"""Kinds whose deletion is answered by the object also when it is gone (ReturnDeletedObject of the registry's stores)."""


class Writer:
    """Answers writes.

    Args:
        link: to the server, which does them.
        cache: what there is.
        reader: for what a patch begins with.
    """

    def __init__(self, link: Link, cache: Cache, reader: Reader) -> None:
        self._link = link
        self._cache = cache
        self._reader = reader

    # POST

    async def create(self, request: web.BaseRequest, target: Target, form: Wanted) -> web.Response:
        """A new object."""
        query = WriteOptions(request.query, "CreateOptions")
        obj, warnings = await self._object(request, target, query)
        metadata = _metadata_of(obj)
        _same_namespace(metadata, target)
        done = await self._created(
            target, owning.owned(None, _kept(obj), owning.manager_of(request, query.manager)), query
        )
        return self._made(request, target, form, done, warnings, code=201)

    async def _created(self, target: Target, obj: dict[str, Any], query: WriteOptions) -> dict[str, Any]:
        return await self._link.call(
            "api.create",
            {
                "object": obj,
                "namespace": target.namespace or None,
                "dry_run": query.dry_run,
                "field_validation": query.field_validation,
            },
        )

    # PUT

    async def update(self, request: web.BaseRequest, target: Target, form: Wanted) -> web.Response:
        """Another version of an object."""
        query = WriteOptions(request.query, "UpdateOptions")
        obj, warnings = await self._object(request, target, query)
        metadata = _metadata_of(obj)
        if not metadata.get("name"):
            raise api_status.bad_request(
                "the name of the object (" + _said(obj) + ") could not be determined: name must be provided"
            )
        if metadata["name"] != target.name:
            raise api_status.bad_request(
                f"the name of the object ({metadata['name']}) does not match the name on the URL ({target.name})"
            )
        _same_namespace(metadata, target)
        await self._reader.recent("")
        live = self._cache.get(target.kind, target.namespace, target.name)
        if live is not None:
            obj = self._owned(request, target, query, live, obj)
        done = await self._updated(target, obj, query)
        return self._made(request, target, form, done, warnings)

    def _owned(
        self, request: web.BaseRequest, target: Target, query: WriteOptions, live: Entry, obj: dict[str, Any]
    ) -> dict[str, Any]:
        part = target.subresource.name if target.subresource is not None else ""
        return owning.owned(live.object, _kept(obj), owning.manager_of(request, query.manager), subresource=part)

    async def _updated(self, target: Target, obj: dict[str, Any], query: WriteOptions) -> dict[str, Any]:
        return await self._link.call(
            "api.update",
            {
                "object": _kept(obj),
                "subresource": target.subresource.name if target.subresource is not None else "",
                "dry_run": query.dry_run,
                "field_validation": query.field_validation,
            },
        )

    # PATCH

    async def patch(self, request: web.BaseRequest, target: Target, form: Wanted) -> web.Response:
        """An object with something of it made different.

        A patch that names no resourceVersion is for whatever version there is: when somebody else was faster, it is tried again on theirs.
        """
        media = bodies.media_of(request)
        if media not in PATCHES:
            raise refusals.unsupported_patch()
        query = WriteOptions(request.query, "PatchOptions")
        owning.check_options(media, query.manager, request.query.get("force"))
        patch, warnings = owning.patch_of(await bodies.read(request), media, query.field_validation)
        asked = patch.get("metadata") if isinstance(patch, dict) else None
        pinned = isinstance(asked, dict) and bool(asked.get("resourceVersion"))
        for attempt in range(PATCH_ATTEMPTS):
            await self._reader.recent("")
            entry = self._cache.get(target.kind, target.namespace, target.name)
            try:
                if entry is None and media == APPLY and target.subresource is None:
                    done = await self._created(target, self._configured(target, None, query, patch), query)
                    return self._made(request, target, form, done, warnings, code=201)
                if entry is None:
                    raise api_status.not_found(target.resource, target.name)
                if media == APPLY:
                    new = self._configured(target, entry, query, patch)
                else:
                    new = self._patched(entry, target, media, patch)
                    owning.judge_patched(
                        new, patch, as_text=media != STRATEGIC, field_validation=query.field_validation
                    )
                    new = self._owned(request, target, query, entry, new)
                if not pinned:
                    new["metadata"]["resourceVersion"] = entry.metadata.get("resourceVersion", "")
                done = await self._updated(target, new, query)
            except StatusError as error:
                again = error.status.get("reason") in ("Conflict", "AlreadyExists") and not _is_refusal_of_apply(error)
                if not again or pinned or attempt + 1 == PATCH_ATTEMPTS:
                    raise
                continue
            return self._made(request, target, form, done, warnings)
        raise AssertionError("the last attempt answers or raises")

    def _configured(self, target: Target, entry: Entry | None, query: WriteOptions, config: Any) -> dict[str, Any]:
        """What an apply makes of the object that is there, or of none."""
        metadata = config.get("metadata") if isinstance(config, dict) else None
        if isinstance(metadata, dict):
            name = metadata.get("name")
            if name not in (None, "", target.name):
                raise api_status.bad_request(
                    f"the name of the object ({name}) does not match the name on the URL ({target.name})"
                )
            _same_namespace(metadata, target)
            metadata["name"] = target.name
        live = View(target.resource, Wanted()).of_group(entry) if entry is not None else None
        part = target.subresource.name if target.subresource is not None else ""
        return owning.configured(target.resource, live, config, query.manager, force=query.force, subresource=part)

    def _patched(self, entry: Entry, target: Target, media: str, patch: Any) -> dict[str, Any]:
        old = View(target.resource, Wanted()).of_group(entry)
        if media == JSON_PATCH:
            new = patches.json_patch(old, patch)
        elif media == MERGE_PATCH:
            new = patches.merge_patch(old, patch)
        else:
            new = strategic.merge(target.resource.api_version, target.kind, old, patch)
        if not isinstance(new, dict):
            raise refusals.rejected()
        new.setdefault("apiVersion", target.resource.api_version)
        new.setdefault("kind", target.kind)
        return new

    # DELETE

    async def delete(self, request: web.BaseRequest, target: Target, form: Wanted) -> web.Response:
        """An object that goes."""
        how = await _deletion(request)
        done = await self._deleted(target, target.namespace, target.name, how)
        obj = done.get("object")
        if isinstance(obj, dict) and (not done.get("gone") or target.kind in RETURNED):
            return self._made(request, target, form, done, [])
        return answer(request, _success(target, obj), Wanted(form.media if form.media != PROTOBUF else JSON))

    async def delete_collection(self, request: web.BaseRequest, target: Target, form: Wanted) -> web.Response:
        """All objects of a collection that are meant go."""
        how = await _deletion(request)
        query = request.query
        selection = Selection(target, query.get("labelSelector", ""), query.get("fieldSelector", ""))
        await self._reader.recent("")
        entries = [one for one in self._cache.of(selection.kind, selection.namespace) if selection.holds(one)]
        room = asyncio.Semaphore(DELETIONS_AT_ONCE)

        async def delete_one(entry: Entry) -> None:
            async with room:
                try:
                    await self._deleted(target, entry.key[0], entry.key[1], how)
                except StatusError as error:
                    if error.status.get("code") != 404:
                        raise

        done = await asyncio.gather(*(delete_one(entry) for entry in entries), return_exceptions=True)
        for failure in done:
            if failure is not None:
                raise failure
        view = View(target.resource, form)
        return answer(request, view.many(entries, {"resourceVersion": str(self._cache.version)}), form)

    async def _deleted(self, target: Target, namespace: str, name: str, how: dict[str, Any]) -> dict[str, Any]:
        return await self._link.call("api.delete", {"kind": target.kind, "namespace": namespace, "name": name, **how})

    async def evict(self, request: web.BaseRequest, target: Target, form: Wanted) -> web.Response:
        """policy/v1 Eviction of a pod: nothing here can forbid one, so the pod is deleted."""
        body = await bodies.read(request)
        eviction, _ = bodies.decoded(body, bodies.media_of(request), "Eviction") if body else ({}, [])
        metadata = _metadata_of(eviction)
        if metadata.get("name") not in (None, "", target.name):
            raise api_status.bad_request("name in URL does not match name in Eviction object: " + str(metadata["name"]))
        how = deletion(eviction.get("deleteOptions"), request.query)
        await self._deleted(target, target.namespace, target.name, {**how, "eviction": True})
        success = {"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success", "code": 201}
        return answer(request, success, Wanted(form.media if form.media != PROTOBUF else JSON), code=201)

    # common

    async def _object(
        self, request: web.BaseRequest, target: Target, query: WriteOptions
    ) -> tuple[dict[str, Any], list[str]]:
        """The body, with kind and apiVersion; and warnings."""
        body = await bodies.read(request)
        resource = target.resource
        obj, twice = bodies.decoded(body, bodies.media_of(request), resource.kind)
        part = target.subresource.name if target.subresource is not None else ""
        kind, version = obj.get("kind") or resource.kind, obj.get("apiVersion") or resource.api_version
        if kind == "EphemeralContainers" and part == "ephemeralcontainers":
            obj, kind = self._old_form(target, obj), resource.kind
        if kind != resource.kind:
            number = str(version).rpartition("/")[2]
            why = f"converting ({number}.{kind}) to (core.{resource.kind}): unknown conversion"
            raise api_status.bad_request(
                f"{kind} in version {api_status.quoted(number)} cannot be handled as a {resource.kind}: {why}"
            )
        if version != resource.api_version:
            raise api_status.bad_request(
                f"the API version in the data ({version}) does not match the expected API version ({resource.api_version})"
            )
        warnings = [f"duplicate field {api_status.quoted(name)}" for name in twice]
        if warnings and query.field_validation == "Strict":
            raise api_status.undecodable(kind, resource.version, "strict decoding error: " + ", ".join(warnings))
        if query.field_validation == "Ignore":
            warnings = []
        return {**obj, "kind": kind, "apiVersion": version}, warnings

    def _old_form(self, target: Target, obj: dict[str, Any]) -> dict[str, Any]:
        """What kubectl 1.20 sends to ephemeralcontainers: the containers alone, of which it knows only its own."""
        entry = self._cache.get(target.kind, target.namespace, target.name)
        if entry is None:
            raise api_status.not_found(target.resource, target.name)
        pod = entry.object
        own = [one for one in obj.get("ephemeralContainers") or [] if isinstance(one, dict)]
        names = {one.get("name") for one in own}
        others = [one for one in pod["spec"].get("ephemeralContainers") or [] if one["name"] not in names]
        return {**pod, "spec": {**pod["spec"], "ephemeralContainers": [*others, *own]}}

    def _made(
        self,
        request: web.BaseRequest,
        target: Target,
        form: Wanted,
        done: Mapping[str, Any],
        warnings: list[str],
        *,
        code: int = 200,
    ) -> web.Response:
        obj = done["object"]
        key = (obj["metadata"].get("namespace") or "", obj["metadata"].get("name") or "")
        entry = Entry(target.kind, key, 0, msgspec.json.encode(obj), obj)
        view = View(target.resource, form)
        said = [*warnings, *(done.get("warnings") or [])]
        return answer(request, view.one(entry), form, code=code, warnings=said)


def _metadata_of(obj: dict[str, Any]) -> dict[str, Any]:
    """The object's metadata, which may be missing; what is no metadata is left for the server to refuse."""
    metadata = obj.get("metadata")
    if isinstance(metadata, dict):
        return metadata
    fresh: dict[str, Any] = {}
    if metadata is None:
        obj["metadata"] = fresh
    return fresh


def _same_namespace(metadata: dict[str, Any], target: Target) -> None:
    if not target.namespace:
        return
    if metadata.get("namespace") not in (None, "", target.namespace):
        raise api_status.bad_request(
            "the namespace of the provided object does not match the namespace sent on the request"
        )
    metadata["namespace"] = target.namespace


def _kept(obj: dict[str, Any]) -> dict[str, Any]:
    """The object in the group that the server keeps it in."""
    return events_api.to_core(obj) if obj.get("apiVersion") == NEWER_EVENTS else obj


def _said(obj: dict[str, Any]) -> str:
    return str(obj.get("kind") or "")


def _is_refusal_of_apply(error: StatusError) -> bool:
    """Whether others own fields, which another attempt does not change."""
    causes = (error.status.get("details") or {}).get("causes") or [{}]
    return bool(causes[0].get("reason") == "FieldManagerConflict")


async def _deletion(request: web.BaseRequest) -> dict[str, Any]:
    """How something is to go, as the server is told."""
    body = await bodies.read(request)
    said = bodies.decoded(body, bodies.media_of(request), "DeleteOptions")[0] if body else None
    return deletion(said, request.query)


def _success(target: Target, obj: Any) -> dict[str, Any]:
    details: dict[str, Any] = {"name": target.name}
    if target.resource.group:
        details["group"] = target.resource.group
    details["kind"] = target.resource.plural
    uid = (obj.get("metadata") or {}).get("uid") if isinstance(obj, dict) else None
    if uid:
        details["uid"] = uid
    return {"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success", "details": details}
