"""The files of volumes that are made of what the pod says and of what objects hold: configMap, secret, downwardAPI, projected.

Source: Kubernetes pkg/volume/configmap/configmap.go, pkg/volume/secret/secret.go, pkg/volume/downwardapi/downwardapi.go,
pkg/volume/projected/projected.go, pkg/fieldpath/fieldpath.go.
"""

from __future__ import annotations

import posixpath
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

from nsrun.plan.environment import Reference, field_value, resource_value
from nsrun.plan.inputs import NodeFacts, PlanError
from nsrun.spec.model import DownwardAPIVolumeFile, KeyToPath, Pod, Volume, VolumeProjection

FAILED_MOUNT = "FailedMount"
"""The reason of a PlanError about a volume."""

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


ObjectData = Mapping[Reference, Mapping[str, bytes]]
"""What objects hold, by key; one that is not in it does not exist."""


@dataclass(frozen=True, slots=True)
class VolumeFile:
    """A file of a volume: its bytes, which may be secret and are not shown, and its permission bits."""

    data: bytes = field(repr=False)
    mode: int


class _Part(NamedTuple):
    """The files that come from one object."""

    reference: Reference
    items: list[KeyToPath]
    optional: bool


def is_projected(volume: Volume) -> bool:
    """Whether the volume's files are made, and made anew when the pod or an object changes."""
    return any(one is not None for one in (volume.configMap, volume.secret, volume.downwardAPI, volume.projected))


def has_own_memory(volume: Volume) -> bool:
    """Whether such a volume is a tmpfs of its own: all but those of ConfigMaps, which have one together in a pod.

    What may be secret shares no file system with what other containers are given. (A kubelet has ConfigMaps on the disk, where
    making ten volumes takes 10 ms.)
    """
    return volume.configMap is None


def volume_references(volume: Volume) -> list[Reference]:
    """The objects that a volume's files come from, each once."""
    return list(dict.fromkeys(part.reference for part in _parts(volume)))


def _parts(volume: Volume) -> Iterator[_Part]:
    if volume.configMap is not None:
        one = volume.configMap
        yield _Part(Reference("ConfigMap", one.name or ""), one.items, bool(one.optional))
    elif volume.secret is not None:
        yield _Part(
            Reference("Secret", volume.secret.secretName or ""), volume.secret.items, bool(volume.secret.optional)
        )
    elif volume.projected is not None:
        for source in volume.projected.sources:
            part = _projected_part(source)
            if part is not None:
                yield part


def _projected_part(source: VolumeProjection) -> _Part | None:
    if source.secret is not None:
        one = source.secret
        return _Part(Reference("Secret", one.name or ""), one.items, bool(one.optional))
    if source.configMap is not None:
        two = source.configMap
        return _Part(Reference("ConfigMap", two.name or ""), two.items, bool(two.optional))
    return None


def volume_files(pod: Pod, volume: Volume, node: NodeFacts, objects: ObjectData) -> dict[str, VolumeFile]:
    """The files of such a volume, by clean path. Of two with the same path the later counts.

    Args:
        objects: those of `volume_references` that there are.

    Raises:
        PlanError: FailedMount, objects or keys in them that are not there and not optional; all of them, in the kubelet's words.
    """
    result: dict[str, VolumeFile] = {}
    missing: list[str] = []
    if volume.downwardAPI is not None:
        return _downward(pod, volume.downwardAPI.items, volume.downwardAPI.defaultMode, node)
    if volume.projected is not None:
        mode = volume.projected.defaultMode
        for source in volume.projected.sources:
            part = _projected_part(source)
            if part is not None:
                result |= _of_object(part, mode, objects, missing)
            elif source.downwardAPI is not None:
                result |= _downward(pod, source.downwardAPI.items, mode, node)
    else:
        mode = next((one.defaultMode for one in (volume.configMap, volume.secret) if one is not None), None)
        for part in _parts(volume):
            result |= _of_object(part, mode, objects, missing)
    if missing:
        several = list(dict.fromkeys(missing))
        raise PlanError(FAILED_MOUNT, several[0] if len(several) == 1 else f"[{', '.join(several)}]")
    return result


def _of_object(part: _Part, default_mode: int | None, objects: ObjectData, missing: list[str]) -> dict[str, VolumeFile]:
    kind, name = part.reference
    data = objects.get(part.reference)
    if data is None:
        if not part.optional:
            missing.append(f'{kind.lower()} "{name}" not found')
            return {}
        data = {}
    mode = default_mode if default_mode is not None else _MODE
    if not part.items:
        return {key: VolumeFile(value, mode) for key, value in data.items()}
    result = {}
    for item in part.items:
        value = data.get(item.key)
        if value is None:
            if not part.optional:
                what = (
                    "configmap references non-existent config"
                    if kind == "ConfigMap"
                    else "references non-existent secret"
                )
                missing.append(f"{what} key: {item.key}")
                return {}
            continue
        result[posixpath.normpath(item.path)] = VolumeFile(value, item.mode if item.mode is not None else mode)
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
