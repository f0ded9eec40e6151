"""URLs as Go's net/url reads and prints them, as far as probes need it."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from typing import NamedTuple
from urllib.parse import quote_from_bytes, unquote_to_bytes

from nsrun.probes.wording import quoted

_HEAD = re.compile(r"(?:([A-Za-z][A-Za-z0-9+.-]*):)?(?://([^/?]*))?")
_BAD_ESCAPE = re.compile(r"%(?![0-9A-Fa-f]{2})")
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")
_PLAIN = re.compile(r"[A-Za-z0-9\-_.~$&+,/:;=@%!'()*\[\]]*")
_PORTS = {"http": 80, "https": 443}


class UrlError(ValueError):
    """It cannot be parsed; the text is Go's."""


@dataclass(frozen=True, slots=True)
class Url:
    """`path` is escaped and begins with a slash; `query` is as it was written, None without a question mark; `port` as written."""

    scheme: str
    host: str
    port: str
    path: str
    query: str | None = None
    fragment: str = ""

    @property
    def authority(self) -> str:
        """HOST or HOST:PORT."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{host}:{self.port}" if self.port else host

    @property
    def number(self) -> int:
        """The port to connect to."""
        return int(self.port) if self.port else _PORTS.get(self.scheme, 0)

    @property
    def target(self) -> str:
        """What stands in a request's first line."""
        return self.path + ("" if self.query is None else f"?{self.query}")

    def __str__(self) -> str:
        fragment = f"#{self.fragment}" if self.fragment else ""
        return f"{self.scheme}://{self.authority}{self.target}{fragment}"


def probe_url(scheme: str, host: str, port: int, path: str) -> Url:
    """The URL of a probe: what the path says of scheme and host does not count (kubelet pkg/probe/http/request.go formatURL).

    A path that cannot be parsed is taken as it is, with its question marks and all, and escaped.
    """
    try:
        parts = _split(path)
    except UrlError:
        return Url(scheme, host, str(port), _slash(_escape(path.encode("utf-8", "surrogateescape"))))
    return Url(scheme, host, str(port), _slash(parts.path), parts.query, parts.fragment)


def resolve(base: Url, text: str) -> Url:
    """`text`, a Location, as seen from `base`.

    Raises:
        UrlError: what is wrong with it.
    """
    parts = _split(text)
    scheme = base.scheme if parts.scheme is None else parts.scheme.lower()
    if parts.authority is not None:
        host, port = _host(parts.authority)
        return Url(scheme, host, port, _slash(_dots(parts.path)), parts.query, parts.fragment)
    if parts.scheme is not None:
        return Url(scheme, "", "", _slash(parts.path), parts.query, parts.fragment)
    if not parts.path:
        query = base.query if parts.query is None else parts.query
        return replace(base, query=query, fragment=parts.fragment)
    path = parts.path if parts.path.startswith("/") else base.path.rpartition("/")[0] + "/" + parts.path
    return replace(base, path=_dots(path), query=parts.query, fragment=parts.fragment)


class _Parts(NamedTuple):
    scheme: str | None
    authority: str | None
    path: str
    query: str | None
    fragment: str


def _split(text: str) -> _Parts:
    if _CONTROL.search(text):
        raise UrlError("net/url: invalid control character in URL")
    text, _, fragment = text.partition("#")
    head = _HEAD.match(text)
    assert head is not None
    path, mark, query = text[head.end() :].partition("?")
    bad = _BAD_ESCAPE.search(path)
    if bad:
        raise UrlError(f"invalid URL escape {quoted(path[bad.start() : bad.start() + 3])}")
    if not _PLAIN.fullmatch(path):
        path = _escape(unquote_to_bytes(path.encode("utf-8", "surrogateescape")))
    return _Parts(head[1], head[2], path, query if mark else None, fragment)


def _host(authority: str) -> tuple[str, str]:
    authority = authority.rpartition("@")[2]
    if authority.startswith("["):
        host, bracket, rest = authority[1:].partition("]")
        if not bracket:
            raise UrlError("missing ']' in host")
    else:
        host, colon, port = authority.partition(":")
        rest = colon + port
    if rest in ("", ":"):
        return host, ""
    if not re.fullmatch(r":\d{1,5}", rest):
        raise UrlError(f"invalid port {quoted(rest)} after host")
    return host, rest[1:]


def _escape(path: bytes) -> str:
    return quote_from_bytes(path, safe="$&+,/:;=@")


def _slash(path: str) -> str:
    return path if path.startswith("/") else f"/{path}"


def _dots(path: str) -> str:
    """Without `.` and `..` (RFC 3986, 5.2.4)."""
    if "/." not in path:
        return path
    kept: list[str] = []
    parts = path.split("/")[1:]
    for part in parts:
        if part == "..":
            del kept[-1:]
        elif part != ".":
            kept.append(part)
    if parts[-1] in (".", ".."):
        kept.append("")
    return "/" + "/".join(kept)
