"""Server-side apply: an object that says all that its manager wants of it is merged into what is there.

Source: structured-merge-diff merge/update.go Apply, apimachinery pkg/util/managedfields/internal (structuredmerge.go, conflict.go,
lastappliedmanager.go, lastappliedupdater.go), apiserver pkg/endpoints/handlers/patch.go applyPatcher (v1.36).
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from nsrun.api.forms import schema
from nsrun.api.forms.ownership import managers as known
from nsrun.api.forms.ownership import paths, typed
from nsrun.api.forms.ownership.managers import APPLY, UPDATE, Entry, Manager, Managers
from nsrun.api.forms.ownership.paths import Path, Paths
from nsrun.api.forms.refusals import bad_request, failed
from nsrun.errors import StatusError
from nsrun.spec.api_status import refusal

KUBECTL = "kubectl"
"""The manager that takes over what client-side apply said."""
LAST_APPLIED = "kubectl.kubernetes.io/last-applied-configuration"


def applied(
    api_version: str,
    kind: str,
    live: dict[str, Any] | None,
    config: Any,
    manager: str,
    now: str,
    *,
    force: bool = False,
    subresource: str = "",
) -> dict[str, Any]:
    """The object after an apply, with its managers.

    Args:
        api_version: of the path.
        kind: of the path.
        live: the object as it is; None when there is none yet: then it becomes what is applied.
        config: what the manager wants, in JSON terms.
        manager: the field manager.
        now: metav1.Time.
        force: take fields from others.
        subresource: through which it is applied; "" for the object itself.

    Raises:
        StatusError: 400, it is no such object; 409, others own fields that it would change; 500, it does not fit its type, in the API
            server's words.
    """
    _check(api_version, kind, config)
    name = schema.type_of(api_version, kind)
    if name is None:
        raise bad_request(f"server-side apply is not served for {kind} in version {api_version}")
    top = typed.top(name)
    where = _where(live or config, api_version, kind)
    try:
        typed.validate(top, config)
    except typed.TypedError as error:
        raise failed(f"failed to create typed patch object ({where}): {error}") from None
    before = known.decoded((live or {}).get("metadata", {}).get("managedFields"))
    if before is None:
        raise failed("failed to decode managed fields: operation must be `Apply` or `Update`")
    skipped = known.ignored(api_version, kind, subresource)
    if live is not None and not before:
        known.first(name, live, before, now, api_version, skipped)
    start = known.whole(name, live) if live is not None else typed.zero(name, is_top=True)
    attempt = _Attempt(top, start, config, Manager(manager, APPLY, subresource), api_version, now, skipped)
    try:
        result, after = attempt.run(before, force=force)
    except _ConflictsError as conflicts:
        left = conflicts.found
        if manager == KUBECTL and live is not None:
            ours = _from_client_side(top, start, api_version)
            left = [one for one in left if one[1] not in ours]
        if left:
            raise _refused(left) from None
        result, after = attempt.run(before, force=True)
    except typed.TypedError as error:
        raise failed(f"failed to create typed live object ({where}): {error}") from None
    if manager == KUBECTL:
        result = _annotated(result, config)
    # A struct in which nothing is left is still there.
    result = {key: one for key, one in result.items() if one is not None}
    result = {"apiVersion": api_version, "kind": kind, **_present({**typed.zero(name, is_top=True), **result})}
    return known.with_managers(result, after)


def _check(api_version: str, kind: str, config: Any) -> None:
    if not isinstance(config, dict):
        raise bad_request(
            f"error decoding YAML: json: cannot unmarshal {_go_kind(config)} into Go value of type map[string]interface {{}}"
        )
    said, what = config.get("apiVersion"), config.get("kind")
    if what != kind or said != api_version:
        group, _, version = str(said or "").rpartition("/")
        if what == kind and said:
            raise bad_request(
                f"Incorrect version specified in apply patch. Specified patch version: {said}, expected: {api_version}"
            )
        raise bad_request(f"invalid object type: {group}/{version}, Kind={what or ''}")
    metadata = config.get("metadata")
    if metadata is not None and not isinstance(metadata, dict):
        raise failed(
            f"failed to create typed patch object (/; {_gvk(api_version, kind)}): .metadata: expected map, got {_go_kind(metadata)}"
        )
    if metadata and metadata.get("managedFields") is not None:
        raise bad_request("metadata.managedFields must be nil")


def _go_kind(value: Any) -> str:
    return (
        "array"
        if isinstance(value, list)
        else "string"
        if isinstance(value, str)
        else "number"
        if value is not None
        else "null"
    )


def _gvk(api_version: str, kind: str) -> str:
    group, _, version = api_version.rpartition("/")
    return f"{group}/{version}, Kind={kind}"


def _where(obj: dict[str, Any], api_version: str, kind: str) -> str:
    metadata = obj.get("metadata") or {}
    return f"{metadata.get('namespace', '')}/{metadata.get('name', '')}; {_gvk(api_version, kind)}"


class _ConflictsError(Exception):
    """Others own what would be changed."""

    def __init__(self, found: list[tuple[Manager, Path]]) -> None:
        super().__init__()
        self.found = found


class _Attempt:
    """One apply, which may be tried again by force."""

    def __init__(
        self, top: typed.Kind, live: dict[str, Any], config: dict[str, Any], manager: Manager, api_version: str, now: str,
        skipped: frozenset[Path],
    ) -> None:  # fmt: skip
        self.top = top
        self.live = live
        self.config = config
        self.manager = manager
        self.api_version = api_version
        self.now = now
        self.skipped = skipped

    def run(self, before: Managers, *, force: bool) -> tuple[dict[str, Any], Managers]:
        """The object without managers, and its managers.

        Raises:
            _ConflictsError: others own what would be changed, and `force` is not given.
        """
        managers = dict(before)
        merged = typed.merge(self.top, self.live, self.config)
        last = managers.get(self.manager)
        wanted = known.kept_of(typed.paths_of(self.top, self.config), self.skipped)
        managers[self.manager] = Entry(wanted, self.api_version, self.now)
        result = _pruned(self.top, merged, last.paths, managers) if last is not None and last.paths else merged
        change = typed.compare(self.top, self.live, result)
        lost = known.without(managers, self.manager, change, self.skipped)
        if lost and not force:
            raise _ConflictsError(
                [(other, path) for other in sorted(lost, key=_sorted) for path in paths.in_order(lost[other])]
            )
        if typed.same(self.live, result):
            # Nothing was changed, whatever it owns now.
            managers[self.manager] = Entry(wanted, self.api_version, last.time if last is not None else self.now)
        known.stripped(managers, self.manager)
        return result or {}, managers


def _sorted(manager: Manager) -> tuple[str, str, str, str]:
    return manager.name, manager.operation, manager.subresource, manager.api_version


def _pruned(top: typed.Kind, merged: Any, last: Paths, managers: Managers) -> Any:
    """`merged` without what its manager has applied before and does not apply any more, unless it is somebody else's, too."""
    last_fields = typed.with_fields(top, last)
    pruned = typed.remove(top, merged, last_fields)
    everything = typed.with_fields(top, typed.paths_of(top, merged))
    owned: set[Path] = set()
    for entry in managers.values():
        owned |= entry.paths
    kept = typed.with_fields(top, typed.paths_of(top, pruned)) | typed.with_fields(top, frozenset(owned))
    pruned = typed.remove(top, merged, everything - kept)
    # What nobody owns was not applied before, and stays.
    left = typed.with_fields(top, typed.paths_of(top, pruned))
    return typed.remove(top, merged, (everything - left) & last_fields)


def _present(value: Any) -> Any:
    """Without nulls, which are no values of typed objects."""
    if isinstance(value, dict):
        return {key: _present(one) for key, one in value.items() if one is not None}
    if isinstance(value, list):
        return [_present(one) for one in value]
    return value


# Conflicts


def _refused(found: Sequence[tuple[Manager, Path]]) -> StatusError:
    causes = [
        {"reason": "FieldManagerConflict", "message": f"conflict with {_called(manager)}", "field": paths.shown(path)}
        for manager, path in found
    ]
    if len(found) == 1:
        ((manager, path),) = found
        message = f"Apply failed with 1 conflict: conflict with {_called(manager)}: {paths.shown(path)}"
    else:
        lines = []
        for manager in dict.fromkeys(manager for manager, _ in found):
            lines.append(f"conflicts with {_called(manager)}:")
            lines += [f"- {paths.shown(path)}" for owner, path in found if owner == manager]
        message = f"Apply failed with {len(found)} conflicts: " + "\n".join(lines)
    return refusal(409, "Conflict", message, details={"causes": causes})


def _called(manager: Manager) -> str:
    text = json.dumps(manager.name, ensure_ascii=False)
    if manager.subresource:
        text = f'{text} with subresource "{manager.subresource}"'
    return f"{text} using {manager.api_version}" if manager.operation == UPDATE else text


# What client-side apply left


def _from_client_side(top: typed.Kind, live: dict[str, Any], api_version: str) -> Paths:
    """What kubectl has applied on its own side and is still so: kubectl's server-side apply may take that over."""
    text = ((live.get("metadata") or {}).get("annotations") or {}).get(LAST_APPLIED)
    if not text:
        return paths.EMPTY
    try:
        last = json.loads(text)
        if not isinstance(last, dict) or last.get("apiVersion") != api_version:
            return paths.EMPTY
        typed.validate(top, last)
        change = typed.compare(top, last, live)
        return typed.paths_of(top, last) - change.modified - change.added - change.removed
    except (ValueError, RecursionError, typed.TypedError):
        return paths.EMPTY


def _annotated(result: dict[str, Any], config: dict[str, Any]) -> dict[str, Any]:
    """Keep kubectl's annotation true, where there is one."""
    metadata = result.get("metadata") or {}
    annotations = metadata.get("annotations") or {}
    if not annotations.get(LAST_APPLIED):
        return result
    own = dict(config.get("metadata") or {})
    if own.get("annotations"):
        own["annotations"] = {key: one for key, one in own["annotations"].items() if key != LAST_APPLIED}
    text = json.dumps({**config, "metadata": own}, separators=(",", ":"), sort_keys=True, ensure_ascii=False) + "\n"
    return {**result, "metadata": {**metadata, "annotations": {**annotations, LAST_APPLIED: text}}}
