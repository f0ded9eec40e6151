"""Manifests, indexes and configs of images: OCI image-spec and Docker's schema 2. Read without trust, and made.

Pure: bytes to values and back.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from nsrun.errors import SpecError, UnsupportedError
from nsrun.images.content import OCI_INDEX, OCI_MANIFEST, check_digest
from nsrun.plan.image import ImageConfig

DOCKER_MANIFEST = "application/vnd.docker.distribution.manifest.v2+json"
DOCKER_LIST = "application/vnd.docker.distribution.manifest.list.v2+json"
DOCKER_SCHEMA1 = "application/vnd.docker.distribution.manifest.v1+"
OCI_CONFIG = "application/vnd.oci.image.config.v1+json"
OCI_LAYER = "application/vnd.oci.image.layer.v1.tar"
ACCEPTED = (OCI_INDEX, DOCKER_LIST, OCI_MANIFEST, DOCKER_MANIFEST)
"""What a registry is asked for."""
MAX_LAYERS = 400
"""overlayfs stacks 500; docker ends at 127."""
MAX_BLOB = 1 << 40
_CONFIG_TYPES = (OCI_CONFIG, "application/vnd.docker.container.image.v1+json")
_LAYER_TYPES = (
    *(f"{OCI_LAYER}{form}" for form in ("", "+gzip", "+zstd")),
    *(f"application/vnd.oci.image.layer.nondistributable.v1.tar{form}" for form in ("", "+gzip", "+zstd")),
    *(f"application/vnd.docker.image.rootfs.diff.tar{form}" for form in ("", ".gzip", ".zstd")),
    "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip",
)


@dataclass(frozen=True, slots=True)
class Descriptor:
    """A blob: what it is, its digest and its size in bytes. `platform` and `annotations` in an index only."""

    media_type: str
    digest: str
    size: int
    platform: Mapping[str, Any] | None = None
    annotations: Mapping[str, Any] | None = None

    def as_data(self) -> dict[str, Any]:
        """As it stands in a manifest."""
        return {"mediaType": self.media_type, "digest": self.digest, "size": self.size}


@dataclass(frozen=True, slots=True)
class Manifest:
    """An image of one platform: its config, and its layers with the lowest first."""

    config: Descriptor
    layers: tuple[Descriptor, ...]


@dataclass(frozen=True, slots=True)
class Index:
    """Images to choose from."""

    manifests: tuple[Descriptor, ...]


@dataclass(frozen=True, slots=True)
class Platform:
    """What images have to be made for."""

    os: str
    architecture: str
    variant: str = ""

    def __str__(self) -> str:
        return "/".join(filter(None, (self.os, self.architecture, self.variant)))


_MACHINES = {
    "x86_64": ("amd64", ""),
    "i386": ("386", ""),
    "i686": ("386", ""),
    "aarch64": ("arm64", ""),
    "armv7l": ("arm", "v7"),
    "armv6l": ("arm", "v6"),
    "riscv64": ("riscv64", ""),
    "ppc64le": ("ppc64le", ""),
    "s390x": ("s390x", ""),
    "loongarch64": ("loong64", ""),
}


def platform_of(machine: str) -> Platform:
    """The platform of a machine that uname(2) names so, in the words of Go (GOOS, GOARCH)."""
    architecture, variant = _MACHINES.get(machine, (machine, ""))
    return Platform("linux", architecture, variant)


def _load(data: bytes, what: str) -> dict[str, Any]:
    try:
        document = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise SpecError(f"{what} is no JSON: {error}") from None
    if not isinstance(document, dict):
        raise SpecError(f"{what} is no JSON object")
    return document


def _descriptor(data: object, what: str) -> Descriptor:
    try:
        if not isinstance(data, dict):
            raise TypeError
        size = data["size"]
        if isinstance(size, bool) or not isinstance(size, int) or not 0 <= size <= MAX_BLOB:
            raise ValueError(f"a size of {size!r}")
        media_type = data["mediaType"]
        if not isinstance(media_type, str):
            raise TypeError
        platform, annotations = data.get("platform"), data.get("annotations")
        return Descriptor(
            media_type,
            check_digest(data["digest"]),
            size,
            platform if isinstance(platform, dict) else None,
            annotations if isinstance(annotations, dict) else None,
        )
    except (KeyError, TypeError) as error:
        raise SpecError(f"{what} has something that is no descriptor: {str(data)[:200]}") from error
    except ValueError as error:
        raise SpecError(f"{what} has a wrong descriptor: {error}") from None


def parse(data: bytes, what: str, media_type: str = "") -> Manifest | Index:
    """Reads a manifest or an index.

    Args:
        data: the document.
        what: how errors name it.
        media_type: what whoever sent it says it is; what it says itself counts.

    Raises:
        SpecError: it is none, or wrong.
        UnsupportedError: an image that only Docker of ten years ago understands, or something that is no image.
    """
    document = _load(data, what)
    kind = document.get("mediaType") or media_type
    if document.get("schemaVersion") == 1 or (isinstance(kind, str) and kind.startswith(DOCKER_SCHEMA1)):
        raise UnsupportedError(
            f"{what} is a manifest of Docker's schema 1",
            details="It has no digests of its layers' content, and registries gave it up.",
            resolution="Push the image again with a Docker of this decade.",
        )
    if document.get("schemaVersion") != 2:
        raise SpecError(f"{what} is no image manifest: its schemaVersion is {document.get('schemaVersion')!r}")
    if isinstance(document.get("manifests"), list):
        return Index(tuple(_descriptor(one, what) for one in document["manifests"]))
    if not isinstance(document.get("layers"), list):
        raise SpecError(f"{what} is no image manifest: it has neither layers nor manifests")
    config = _descriptor(document.get("config"), what)
    if config.media_type not in _CONFIG_TYPES:
        raise UnsupportedError(f"{what} is no container image: its config is of type {config.media_type!r}")
    layers = tuple(_descriptor(one, what) for one in document["layers"])
    if len(layers) > MAX_LAYERS:
        raise SpecError(f"{what} has {len(layers)} layers, and {MAX_LAYERS} can be stacked")
    for layer in layers:
        if layer.media_type not in _LAYER_TYPES:
            raise UnsupportedError(f"{what} has a layer of type {layer.media_type!r}, which cannot be unpacked")
    return Manifest(config, layers)


def choose(index: Index, wanted: Platform, what: str) -> Descriptor:
    """The image of an index that is made for a platform (the first that fits, the variant counting where both have one).

    Raises:
        SpecError: it has none.
    """
    images = [one for one in index.manifests if one.media_type in ACCEPTED]
    for one in images:
        platform = one.platform
        if platform is None:
            continue
        variant = platform.get("variant") or ""
        if (
            platform.get("os") == wanted.os
            and platform.get("architecture") == wanted.architecture
            and (not variant or not wanted.variant or variant == wanted.variant)
        ):
            return one
    plain = [one for one in images if one.platform is None]
    if plain:
        return plain[0]
    there = sorted(
        "/".join(str(one.platform.get(key)) for key in ("os", "architecture", "variant") if one.platform.get(key))
        for one in images
        if one.platform and one.platform.get("os") != "unknown"
    )
    raise SpecError(
        f"no match for platform in manifest: {what} has no image for {wanted}",
        details=f"It has {', '.join(dict.fromkeys(there)) or 'none at all'}.",
    )


@dataclass(frozen=True, slots=True)
class Config:
    """What an image says about itself. `diff_ids` lowest layer first; `created` in seconds since the epoch, None where it does not say."""

    process: ImageConfig
    diff_ids: tuple[str, ...]
    created: float | None
    document: Mapping[str, Any]


def parse_config(data: bytes, what: str) -> Config:
    """Reads an image's config.

    Raises:
        SpecError: it is none.
        UnsupportedError: it is of another operating system.
    """
    document = _load(data, what)
    system = document.get("os") or "linux"
    if system != "linux":
        raise UnsupportedError(f"{what} is of an image for {system}")
    root = document.get("rootfs")
    ids = root.get("diff_ids") if isinstance(root, dict) else None
    try:
        diff_ids = tuple(check_digest(one) for one in ids or ())
    except ValueError as error:
        raise SpecError(f"{what} has a wrong rootfs: {error}") from None
    given = document.get("config") or {}
    if not isinstance(given, dict):
        raise SpecError(f"{what} has a config that is no object")
    try:
        process = ImageConfig(
            entrypoint=_words(given, "Entrypoint"),
            cmd=_words(given, "Cmd"),
            env=_words(given, "Env"),
            user=_text(given, "User"),
            workdir=_text(given, "WorkingDir"),
            stop_signal=_text(given, "StopSignal"),
        )
    except TypeError as error:
        raise SpecError(f"{what}: {error}") from None
    if any("\0" in word for word in (*process.entrypoint, *process.cmd, *process.env, process.user, process.workdir)):
        raise SpecError(f"{what} has a NUL character in it")
    return Config(process, diff_ids, seconds_of(document.get("created")), document)


def _words(given: Mapping[str, Any], key: str) -> tuple[str, ...]:
    value = given.get(key)
    if value is None:
        return ()
    if isinstance(value, str):
        return (value,)
    if not isinstance(value, list) or not all(isinstance(one, str) for one in value):
        raise TypeError(f"its {key} is no list of strings")
    return tuple(value)


def _text(given: Mapping[str, Any], key: str) -> str:
    value = given.get(key)
    if value is None:
        return ""
    if not isinstance(value, str):
        raise TypeError(f"its {key} is no string")
    return value


def seconds_of(text: object) -> float | None:
    """Seconds since the epoch of a time as RFC 3339 has it, with any number of digits behind the point."""
    if not isinstance(text, str):
        return None
    try:
        whole, point, rest = text.partition(".")
        if point:
            digits = rest[: len(rest) - len(rest.lstrip("0123456789"))]
            text = f"{whole}.{digits[:6].ljust(6, '0')}{rest[len(digits) :]}"
        value = datetime.fromisoformat(text).timestamp()
    except (ValueError, OverflowError, OSError):
        return None
    return value if value > 0 else None


def made_manifest(config: Descriptor, layers: Sequence[Descriptor]) -> bytes:
    """A manifest of an image that is made here."""
    document = {
        "schemaVersion": 2,
        "mediaType": OCI_MANIFEST,
        "config": config.as_data(),
        "layers": [layer.as_data() for layer in layers],
    }
    return json.dumps(document, separators=(",", ":")).encode()


def made_config(process: ImageConfig, diff_ids: Sequence[str], platform: Platform) -> bytes:
    """A config of an image that is made here. The same content gives the same image: there is no date in it."""
    given: dict[str, Any] = {
        "Entrypoint": list(process.entrypoint),
        "Cmd": list(process.cmd),
        "Env": list(process.env),
        "User": process.user,
        "WorkingDir": process.workdir,
        "StopSignal": process.stop_signal,
    }
    document: dict[str, Any] = {"architecture": platform.architecture, "os": platform.os}
    if platform.variant:
        document["variant"] = platform.variant
    document |= {
        "config": {key: value for key, value in given.items() if value},
        "rootfs": {"type": "layers", "diff_ids": list(diff_ids)},
        "history": [{"created_by": "nsrun image import"} for _ in diff_ids],
    }
    return json.dumps(document, separators=(",", ":")).encode()
