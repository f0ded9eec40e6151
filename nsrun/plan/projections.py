"""The files of volumes that are made of what the pod itself says: downwardAPI, alone or as part of a projected volume.

Source: Kubernetes pkg/volume/downwardapi/downwardapi.go, pkg/volume/projected/projected.go, pkg/fieldpath/fieldpath.go.
"""

from __future__ import annotations

import posixpath
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from nsrun.plan.environment import field_value, resource_value
from nsrun.plan.inputs import NodeFacts
from nsrun.spec.model import DownwardAPIVolumeFile, Pod, Volume

_MODE = 0o644
_ESCAPES = {
    "\a": "\\a",
    "\b": "\\b",
    "\f": "\\f",
    "\n": "\\n",
    "\r": "\\r",
    "\t": "\\t",
    "\v": "\\v",
    '"': '\\"',
    "\\": "\\\\",
}


@dataclass(frozen=True, slots=True)
class VolumeFile:
    """A file of a volume: its bytes and its permission bits."""

    data: bytes
    mode: int


def is_projected(volume: Volume) -> bool:
    """Whether the volume's files are made, and made anew when the pod changes."""
    return volume.downwardAPI is not None or volume.projected is not None


def volume_files(pod: Pod, volume: Volume, node: NodeFacts) -> dict[str, VolumeFile]:
    """The files of such a volume, by clean path. Of two with the same path the later counts.

    Raises:
        PlanError: something that is referred to is not there.
    """
    result: dict[str, VolumeFile] = {}
    if volume.downwardAPI is not None:
        result |= _downward(pod, volume.downwardAPI.items, volume.downwardAPI.defaultMode, node)
    elif volume.projected is not None:
        for source in volume.projected.sources:
            if source.downwardAPI is not None:
                result |= _downward(pod, source.downwardAPI.items, volume.projected.defaultMode, node)
    return result


def _downward(
    pod: Pod, items: Iterable[DownwardAPIVolumeFile], default_mode: int | None, node: NodeFacts
) -> dict[str, VolumeFile]:
    result = {}
    for item in items:
        mode = item.mode if item.mode is not None else default_mode if default_mode is not None else _MODE
        text = _value(pod, item, node)
        result[posixpath.normpath(item.path)] = VolumeFile(text.encode("utf-8", "surrogateescape"), mode)
    return result


def _value(pod: Pod, item: DownwardAPIVolumeFile, node: NodeFacts) -> str:
    if item.fieldRef is not None:
        path = item.fieldRef.fieldPath
        if path == "metadata.labels":
            return map_lines(pod.metadata.labels)
        if path == "metadata.annotations":
            return map_lines(pod.metadata.annotations)
        return field_value(pod, path, node, (), ())
    if item.resourceFieldRef is not None:
        # A volume is of no container: the reference names one, else it is not valid.
        return resource_value(pod, pod.spec.containers[0], item.resourceFieldRef, node)
    return ""


def map_lines(values: Mapping[str, str]) -> str:
    """Labels or annotations, a line for each: `key="value"`, sorted, the value quoted as Go does; no newline at the end."""
    return "\n".join(f"{key}={_quote(values[key])}" for key in sorted(values))


def _quote(text: str) -> str:
    return f'"{"".join(_ESCAPES.get(one) or _printable(one) for one in text)}"'


def _printable(one: str) -> str:
    if one == " " or (one.isprintable() and not one.isspace()):
        return one
    number = ord(one)
    if number < 0x80:
        return f"\\x{number:02x}"
    return f"\\u{number:04x}" if number < 0x10000 else f"\\U{number:08x}"
