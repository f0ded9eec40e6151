"""In which fields two pods differ: what `pod up` says of a manifest that has changed."""

from __future__ import annotations

from typing import Any

from nsrun.spec.model import ApiStruct, Pod

_META = ("labels", "annotations")


def changes(old: Pod, new: Pod) -> list[str]:
    """The paths of the fields that differ, in the order of the API; [] when the pods ask for the same.

    Compared are the labels, the annotations and the spec: what a manifest asks for. What the server adds (uid, times,
    status) does not count. Of a list whose length differs, the items that only one side has are named.

    Args:
        old: defaulted.
        new: defaulted.
    """
    found: list[str] = []
    for field in _META:
        _compare(getattr(old.metadata, field), getattr(new.metadata, field), f"metadata.{field}", found)
    _compare(old.spec, new.spec, "spec", found)
    return found


def _compare(old: Any, new: Any, path: str, found: list[str]) -> None:
    if old == new:
        return
    if isinstance(old, ApiStruct) and type(old) is type(new):
        for field in old.__struct_fields__:
            _compare(getattr(old, field), getattr(new, field), f"{path}.{field}", found)
    elif isinstance(old, list) and isinstance(new, list) and (old or new) and _of_structs(old, new):
        for index in range(max(len(old), len(new))):
            here = f"{path}[{index}]"
            if index < len(old) and index < len(new):
                _compare(old[index], new[index], here, found)
            else:
                found.append(here)
    elif isinstance(old, dict) and isinstance(new, dict):
        differ = [key for key in old.keys() | new.keys() if key not in old or key not in new or old[key] != new[key]]
        found += [f"{path}[{key}]" for key in sorted(differ)]
    else:
        found.append(path)


def _of_structs(*lists: list[Any]) -> bool:
    return all(isinstance(item, ApiStruct) for items in lists for item in items)
