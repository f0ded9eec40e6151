"""Names of images: `busybox` and `docker.io/library/busybox:latest` are the same (distribution/reference, normalize.go)."""

from __future__ import annotations

import re
from dataclasses import dataclass

_DOMAIN = re.compile(
    r"(?:[A-Za-z0-9](?:[A-Za-z0-9-]*[A-Za-z0-9])?)(?:\.[A-Za-z0-9](?:[A-Za-z0-9-]*[A-Za-z0-9])?)*(?::[0-9]+)?|\[[0-9a-fA-F:]+\](?::[0-9]+)?"
)
_COMPONENT = re.compile(r"[a-z0-9]+(?:(?:[._]|__|-+)[a-z0-9]+)*")
_TAG = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}", re.ASCII)
_DIGEST = re.compile(r"[A-Za-z][A-Za-z0-9]*(?:[-_+.][A-Za-z][A-Za-z0-9]*)*:[0-9a-fA-F]{32,}")
_MAX_NAME = 255


@dataclass(frozen=True, slots=True)
class Reference:
    """A normalised name: `domain/path`, with a tag, a digest or both."""

    domain: str
    path: str
    tag: str = ""
    digest: str = ""

    def __str__(self) -> str:
        return (
            f"{self.domain}/{self.path}"
            + (f":{self.tag}" if self.tag else "")
            + (f"@{self.digest}" if self.digest else "")
        )

    @property
    def familiar(self) -> str:
        """As people write it: without `docker.io/library/` and without `:latest`."""
        name = f"{self.domain}/{self.path}".removeprefix("docker.io/")
        if self.domain == "docker.io" and self.path.count("/") == 1:
            name = name.removeprefix("library/")
        return (
            name
            + (f":{self.tag}" if self.tag not in ("", "latest") else "")
            + (f"@{self.digest}" if self.digest else "")
        )


def parse(text: str) -> Reference:
    """Reads a name; without tag and digest the tag is `latest`.

    Raises:
        ValueError: no such name can be; the message is the one that Kubernetes shows.
    """
    rest, at, digest = text.partition("@")
    if at and not _DIGEST.fullmatch(digest):
        raise ValueError("invalid reference format")
    slash = rest.rfind("/")
    colon = rest.rfind(":")
    tag = ""
    if colon > slash:
        rest, tag = rest[:colon], rest[colon + 1 :]
        if not _TAG.fullmatch(tag):
            raise ValueError("invalid reference format")
    first, separator, path = rest.partition("/")
    is_domain = separator and (any(mark in first for mark in ".:[") or first == "localhost" or first.lower() != first)
    domain = first if is_domain else "docker.io"
    if not is_domain:
        path = rest
    if domain == "index.docker.io":
        domain = "docker.io"
    if domain == "docker.io" and "/" not in path:
        path = f"library/{path}"
    if path.lower() != path:
        raise ValueError("invalid reference format: repository name must be lowercase")
    if not _DOMAIN.fullmatch(domain) or not all(_COMPONENT.fullmatch(part) for part in path.split("/")):
        raise ValueError("invalid reference format")
    if len(domain) + 1 + len(path) > _MAX_NAME:
        raise ValueError("repository name must not be more than 255 characters")
    return Reference(domain, path, tag or ("" if digest else "latest"), digest)
