"""All that there is to know of an image: what it is made of, what its config says, how it came about."""

from __future__ import annotations

import hashlib
import json
from typing import TYPE_CHECKING, Any

from nsrun.errors import SpecError
from nsrun.images.content import DamagedError
from nsrun.images.documents import Config, Index, Manifest, parse, parse_config, seconds_of
from nsrun.images.image import Image

if TYPE_CHECKING:
    from nsrun.images.store import ImageStore


def documents(store: ImageStore, image: Image) -> tuple[Manifest, Config]:
    """An image's manifest and config.

    Raises:
        DamagedError, SpecError: they are not there, or not what they were.
    """
    manifest = parse(store.content.document(image.digest), image.digest)
    if isinstance(manifest, Index):
        raise DamagedError(f"{image.digest} is an index")
    config = parse_config(store.content.document(manifest.config.digest), manifest.config.digest)
    return manifest, config


def inspect(store: ImageStore, image: Image) -> dict[str, Any]:
    """An image as data; `config` is what it says of its processes, `document` all of its config. Sizes in bytes.

    Raises:
        DamagedError, SpecError: it is damaged.
    """
    if image.origin == "host":
        return {"names": [image.name], "layers": [], "manifest": None, "document": None}
    manifest, config = documents(store, image)
    layers = [
        {
            "digest": blob.digest,
            "media_type": blob.media_type,
            "size": blob.size,
            "diff_id": diff_id,
            "unpacked_size": size,
            "directory": directory,
        }
        for blob, diff_id, (size, directory) in zip(
            manifest.layers, config.diff_ids, _unpacked(store, config), strict=True
        )
    ]
    return {
        "names": sorted(one.name for one in store.list() if one.digest == image.digest and one.name),
        "layers": layers,
        "manifest": json.loads(store.content.document(image.digest)),
        "document": dict(config.document),
    }


def _unpacked(store: ImageStore, config: Config) -> list[tuple[int, str | None]]:
    """The bytes of each layer's files, and where they lie; lowest first."""
    result: list[tuple[int, str | None]] = []
    chain = ""
    for diff_id in config.diff_ids:
        chain = diff_id if not chain else f"sha256:{hashlib.sha256(f'{chain} {diff_id}'.encode()).hexdigest()}"
        found: tuple[int, str | None] = (0, None)
        for name in (diff_id[7:], chain[7:]):
            try:
                found = (store.content.layer_facts(name)["size"], str(store.content.layer(name)))
                break
            except DamagedError:
                continue
        result.append(found)
    return result


def history(store: ImageStore, image: Image) -> list[dict[str, Any]]:
    """What was done to make an image, the newest step first: {created (seconds since the epoch), by, comment, size (bytes), empty}.

    Raises:
        DamagedError, SpecError: it is damaged.
    """
    if image.origin == "host":
        return []
    _, config = documents(store, image)
    sizes = iter(_unpacked(store, config))
    result = []
    steps = config.document.get("history") or []
    if not isinstance(steps, list):
        raise SpecError(f"{image.id} has a history that is no list")
    for step in steps:
        step = step if isinstance(step, dict) else {}
        empty = bool(step.get("empty_layer"))
        size = 0 if empty else next(sizes, (0, None))[0]
        result.append(
            {
                "created": seconds_of(step.get("created")),
                "by": str(step.get("created_by") or ""),
                "comment": str(step.get("comment") or ""),
                "size": size,
                "empty": empty,
            }
        )
    result += [{"created": None, "by": "", "comment": "", "size": size, "empty": False} for size, _ in sizes]
    return result[::-1]
