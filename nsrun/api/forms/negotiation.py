"""What a client wants an answer in: the Accept header.

Source: apiserver pkg/endpoints/handlers/negotiation/negotiate.go.
"""

from __future__ import annotations

from dataclasses import dataclass

from nsrun.api.forms.refusals import not_acceptable

JSON, YAML, PROTOBUF = "application/json", "application/yaml", "application/vnd.kubernetes.protobuf"
TABLE, PARTIAL, PARTIAL_LIST = "Table", "PartialObjectMetadata", "PartialObjectMetadataList"
_META = ("v1", "v1beta1")


@dataclass(frozen=True, slots=True)
class Wanted:
    """A form of an answer.

    Attributes:
        media: JSON, YAML or PROTOBUF.
        shape: "" for the object itself, else one of TABLE, PARTIAL, PARTIAL_LIST.
        version: of the group meta.k8s.io for a shape.
        pretty: the client asks for indented JSON.
    """

    media: str = JSON
    shape: str = ""
    version: str = "v1"
    pretty: bool = False


def wanted(accept: str, *, shapes: bool = True) -> Wanted:
    """The first form of an Accept header that can be had.

    Args:
        accept: the header; "" accepts everything.
        shapes: tables and the like can be had of this.

    Raises:
        StatusError: 406, there is none.
    """
    found = [one for part in accept.split(",") if (one := _parse(part)) is not None]
    for _, media, parameters in sorted(found, key=lambda one: -one[0]):
        shape, version = parameters.get("as", ""), parameters.get("v", "")
        known = shape in (TABLE, PARTIAL, PARTIAL_LIST) and parameters.get("g") == "meta.k8s.io" and version in _META
        if shape and not (shapes and known):
            continue
        if shape and media == PROTOBUF:
            continue
        pretty = parameters.get("pretty") in ("1", "true")
        if media in ("*/*", "application/*"):
            media = JSON
        if media in (JSON, YAML, PROTOBUF):
            return Wanted(media, shape, version or "v1", pretty)
    if not accept.strip():
        return Wanted()
    raise not_acceptable()


def _parse(part: str) -> tuple[float, str, dict[str, str]] | None:
    media, *rest = (word.strip() for word in part.split(";"))
    parameters = dict(word.partition("=")[::2] for word in rest)
    try:
        weight = float(parameters.get("q", "1"))
    except ValueError:
        return None
    return (weight, media.lower(), parameters) if media and weight > 0 else None
