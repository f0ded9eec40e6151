"""The managers of an object's fields (metadata.managedFields), and what a plain write does to them.

Source: apimachinery pkg/util/managedfields/internal (fieldmanager.go and the managers it is made of), structured-merge-diff
merge/update.go (v1.36). Objects are in JSON terms and never changed; times are metav1.Time.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any

from nsrun.api.forms import schema
from nsrun.api.forms.ownership import paths, typed
from nsrun.api.forms.ownership.paths import EMPTY, Path, Paths

UPDATE, APPLY = "Update", "Apply"
MAX_UPDATERS = 10
"""Of the entries of plain writes; the oldest are put together."""
ANCIENT = "ancient-changes"
BEFORE_FIRST_APPLY = "before-first-apply"
MAX_NAME = 128
"""Of a manager, in characters."""

_STRIPPED: Paths = frozenset(
    [("f:apiVersion",), ("f:kind",), ("f:metadata",)]
    + [
        ("f:metadata", paths.field(name))
        for name in ("name", "namespace", "creationTimestamp", "selfLink", "uid", "clusterName", "generation")
    ]
    + [("f:metadata", "f:managedFields"), ("f:metadata", "f:resourceVersion")]
)
"""What nobody owns."""


@dataclass(frozen=True, slots=True)
class Manager:
    """Who owns fields: an entry of managedFields without its fields and its time."""

    name: str
    operation: str
    subresource: str = ""
    api_version: str = ""
    """"" for an Apply, which is the same manager in every version."""


@dataclass(frozen=True, slots=True)
class Entry:
    """What a manager owns, in which version it was said, and since when."""

    paths: Paths
    api_version: str
    time: str | None


Managers = dict[Manager, Entry]


def name_of(field_manager: str, user_agent: str) -> str:
    """The manager of a write that names none: the first word of its User-Agent."""
    if field_manager:
        return field_manager
    word = "".join(letter for letter in user_agent.partition("/")[0] if letter.isprintable())[:MAX_NAME]
    return word or "unknown"


def decoded(entries: Any) -> Managers | None:
    """The managers of a managedFields; None when it is none that can be read."""
    found: Managers = {}
    if not isinstance(entries, list):
        return None if entries is not None else {}
    for one in entries:
        if not isinstance(one, dict) or one.get("operation") not in (UPDATE, APPLY):
            return None
        if not one.get("apiVersion") or one.get("fieldsType") != "FieldsV1":
            return None
        try:
            owned = paths.decode(one.get("fieldsV1") or {})
        except paths.FieldsError:
            return None
        version = "" if one["operation"] == APPLY else str(one["apiVersion"])
        manager = Manager(str(one.get("manager") or ""), one["operation"], str(one.get("subresource") or ""), version)
        found[manager] = Entry(owned, str(one["apiVersion"]), one.get("time"))
    return found


def encoded(managers: Managers) -> list[dict[str, Any]]:
    """The managers as managedFields."""
    found = []
    for manager, entry in sorted(managers.items(), key=_place):
        one: dict[str, Any] = {}
        if manager.name:
            one["manager"] = manager.name
        one |= {"operation": manager.operation, "apiVersion": entry.api_version}
        if entry.time:
            one["time"] = entry.time
        one |= {"fieldsType": "FieldsV1", "fieldsV1": paths.encode(entry.paths)}
        if manager.subresource:
            one["subresource"] = manager.subresource
        found.append(one)
    return found


def _place(item: tuple[Manager, Entry]) -> tuple[str, ...]:
    manager, entry = item
    return manager.operation, entry.time or "", manager.name, entry.api_version, manager.subresource


def _metadata(obj: dict[str, Any]) -> dict[str, Any]:
    found = obj.get("metadata")
    return found if isinstance(found, dict) else {}


def with_managers(obj: dict[str, Any], managers: Managers | None) -> dict[str, Any]:
    """The object with these managers; without any for None or {}."""
    metadata = {key: one for key, one in _metadata(obj).items() if key != "managedFields"}
    if managers:
        metadata["managedFields"] = encoded(managers)
    return {**obj, "metadata": metadata}


def of_request(live: dict[str, Any] | None, new: dict[str, Any], subresource: str) -> Managers:
    """The managers before a write: those that the client sent, else those of the object as it is.

    A client that sends an empty list, or one empty entry, wants them forgotten.
    """
    kept = decoded(_metadata(live or {}).get("managedFields")) or {}
    if subresource:
        return kept
    sent = _metadata(new).get("managedFields")
    if sent in ([], [{}]):
        return {}
    return decoded(sent) or kept


def ignored(api_version: str, kind: str, subresource: str) -> frozenset[Path]:
    """What a write through this door does not reach, with all that is below."""
    if subresource == "status":
        return frozenset([("f:spec",), ("f:metadata", "f:deletionTimestamp"), ("f:metadata", "f:ownerReferences")])
    name = schema.type_of(api_version, kind)
    if not subresource and name is not None and "status" in schema.fields(name):
        return frozenset([("f:status",)])
    return frozenset()


def kept_of(found: Iterable[Path], skipped: frozenset[Path]) -> Paths:
    """The paths without those that a write does not reach."""
    whole = frozenset(found)
    return whole - paths.below(whole, skipped) if skipped else whole


def stripped(managers: Managers, manager: Manager) -> None:
    """Take from a manager what nobody owns."""
    entry = managers.get(manager)
    if entry is not None:
        left = entry.paths - _STRIPPED
        if left:
            managers[manager] = replace(entry, paths=left)
        else:
            del managers[manager]


def without(
    managers: Managers, manager: Manager, change: typed.Difference, skipped: frozenset[Path]
) -> dict[Manager, Paths]:
    """Take from all other managers what a write changes.

    Returns:
        what it changed of each that has lost something by it.
    """
    touched = kept_of(change.modified | change.added, skipped)
    removed = kept_of(change.removed, skipped)
    lost: dict[Manager, Paths] = {}
    for other, entry in list(managers.items()):
        if other == manager:
            continue
        mine = entry.paths & touched
        if mine:
            lost[other] = mine
        left = entry.paths - touched - removed
        if not left:
            del managers[other]
        elif left != entry.paths:
            managers[other] = replace(entry, paths=left)
    return lost


def written(
    api_version: str,
    kind: str,
    live: dict[str, Any] | None,
    new: dict[str, Any],
    manager: str,
    now: str,
    *,
    subresource: str = "",
) -> dict[str, Any]:
    """The object with the managers that it has after a plain write (create, update, patch).

    Args:
        api_version: of the object.
        kind: of the object.
        live: as it was, None when it is created.
        new: as it is to be, with its defaults; its managedFields are those that the client sent.
        manager: of the write (`name_of`).
        now: metav1.Time.
        subresource: through which it is written; "" for the object itself.
    """
    name = schema.type_of(api_version, kind)
    if name is None:
        return new
    managers = of_request(live, new, subresource)
    if live is not None and not managers:
        # Nobody keeps track of this object.
        return with_managers(new, None)
    try:
        _write(name, live, new, managers, Manager(manager, UPDATE, subresource, api_version), now, api_version,
               ignored(api_version, kind, subresource))  # fmt: skip
    except typed.TypedError:
        return with_managers(new, None)
    _cap(managers)
    return with_managers(new, managers)


def _write(
    name: str, live: dict[str, Any] | None, new: dict[str, Any], managers: Managers, manager: Manager, now: str,
    api_version: str, skipped: frozenset[Path],
) -> None:  # fmt: skip
    kind = typed.top(name)
    before = typed.zero(name, is_top=True) if live is None else whole(name, live)
    change = typed.compare(kind, before, whole(name, new))
    without(managers, manager, change, skipped)
    owned = kept_of(change.modified | change.added, skipped) - _STRIPPED
    old = managers.get(manager)
    mine = ((old.paths if old else EMPTY) - kept_of(change.removed, skipped)) | owned
    if not mine:
        managers.pop(manager, None)
    elif owned or old is None:
        managers[manager] = Entry(mine, api_version, now)
    else:
        managers[manager] = replace(managers[manager], paths=mine)


def first(
    name: str, live: dict[str, Any], managers: Managers, now: str, api_version: str, skipped: frozenset[Path]
) -> None:
    """Give what is there to somebody, before the first apply to an object of which nobody has kept track."""
    _write(name, None, live, managers, Manager(BEFORE_FIRST_APPLY, UPDATE, "", api_version), now, api_version, skipped)


def bare(obj: dict[str, Any]) -> dict[str, Any]:
    """The object without its managedFields."""
    return with_managers(obj, None)


def whole(name: str, obj: dict[str, Any]) -> dict[str, Any]:
    """The object without its managedFields, with what Go's JSON of it has even where nothing is said (`"status": {}`)."""
    return {**typed.zero(name, is_top=True), **bare(obj)}


def _cap(managers: Managers) -> None:
    """Put the oldest plain writes together until they are not too many."""
    oldest = sorted(
        (one for one in managers if one.operation == UPDATE), key=lambda one: (managers[one].time or "", one.name)
    )
    many = len(oldest)
    buckets: dict[str, Manager] = {}
    for manager in oldest:
        if many <= MAX_UPDATERS:
            return
        entry = managers[manager]
        bucket = Manager(ANCIENT, UPDATE, "", entry.api_version)
        if entry.api_version not in buckets:
            buckets[entry.api_version] = manager
            continue
        if bucket not in managers:
            managers[bucket] = managers.pop(buckets[entry.api_version])
        if manager != bucket:
            del managers[manager]
        managers[bucket] = Entry(managers[bucket].paths | entry.paths, entry.api_version, entry.time)
        many -= 1
