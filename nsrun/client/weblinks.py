"""Links of a page that is served below another path than it believes: rewritten, so that they lead back through the proxy.

Which attributes, and which addresses, follow the API server's pod proxy (apimachinery pkg/util/proxy/transport.go). The paths of
cookies are ours: pods that share a host must not get one another's.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection
from html import escape, unescape
from urllib.parse import urlsplit, urlunsplit

ATTRIBUTES = {
    "a": {"href"},
    "applet": {"codebase"},
    "area": {"href"},
    "audio": {"src"},
    "base": {"href"},
    "blockquote": {"cite"},
    "body": {"background"},
    "button": {"formaction"},
    "command": {"icon"},
    "del": {"cite"},
    "embed": {"src"},
    "form": {"action"},
    "frame": {"longdesc", "src"},
    "head": {"profile"},
    "html": {"manifest"},
    "iframe": {"longdesc", "src"},
    "img": {"longdesc", "src", "usemap"},
    "input": {"src", "usemap", "formaction"},
    "ins": {"cite"},
    "link": {"href"},
    "object": {"classid", "codebase", "data", "usemap"},
    "q": {"cite"},
    "script": {"src"},
    "source": {"src"},
    "video": {"poster", "src"},
}
"""Attributes that hold an address, by element."""

RAW = {"script", "style", "textarea", "title", "xmp", "iframe", "noembed", "noframes"}
"""Elements whose content is text up to their end tag, whatever it looks like."""

TAG_MAX = 1 << 16
"""A tag longer than this is passed on as it is: what is kept back is bounded."""

_NAME = re.compile(rb"<([a-zA-Z][^\s/>]*+)")
_ATTRIBUTE = re.compile(
    rb"""[\s/]*+(?!=\s*+["'])([^\s/>][^\s/>=]*+)(?:\s*+=\s*+(?:"([^"]*+)"|'([^']*+)'|([^\s>"'][^\s>]*+)))?+"""
)
_END = re.compile(rb"[\s/]*+>")
_COMMENT = b"<!--"


def rewritten(address: str, prefix: str, own: str, others: Collection[str]) -> str:
    """An address of the page, so that it leads through the proxy.

    Args:
        address: of a link or of a redirection.
        prefix: of the proxy's paths, without a slash at its end.
        own: `host:port` of the proxy, as the request has it.
        others: by which the pod knows itself.

    Returns:
        The address as it was where it is relative or another host's.
    """
    try:
        parts = urlsplit(address)
    except ValueError:
        return address
    if (parts.netloc and parts.netloc != own and parts.netloc not in others) or not parts.path.startswith("/"):
        return address
    path = parts.path
    if path != prefix and not path.startswith(f"{prefix}/"):
        path = prefix + path
    scheme, host = ("http", own) if parts.netloc else ("", "")
    return urlunsplit((scheme, host, path, parts.query, parts.fragment))


def cookie(value: str, prefix: str) -> str:
    """A Set-Cookie header for the pod's own paths alone, and without a domain.

    A name that begins with `__Host-` demands the path `/`: browsers would refuse anything else.
    """
    if value.startswith("__Host-"):
        return value
    first, *rest = value.split(";")
    kept = [first]
    for part in rest:
        name, _, path = part.strip().partition("=")
        match name.strip().lower():
            case "domain":
                continue
            case "path" if path.startswith("/"):
                kept.append(f" Path={prefix}{path}")
            case _:
                kept.append(part)
    return ";".join(kept)


class LinkRewriter:
    """Rewrites HTML while it comes by; what is no link's address passes byte for byte.

    Args:
        change: gets an address, gives the new one.
    """

    def __init__(self, change: Callable[[str], str]) -> None:
        self._change = change
        self._buffer = b""
        self._until: re.Pattern[bytes] | None = None
        self._until_length = 0

    def feed(self, data: bytes) -> bytes:
        """Take the next bytes, give those that are done with."""
        self._buffer += data
        return self._work(last=False)

    def close(self) -> bytes:
        """What was kept back."""
        return self._work(last=True)

    def _work(self, *, last: bool) -> bytes:
        done: list[bytes] = []
        data, at = self._buffer, 0
        while at < len(data):
            if self._until is not None:
                end = self._until.search(data, at)
                if end is None:
                    # Its end may have begun.
                    stop = len(data) if last else max(at, len(data) - self._until_length)
                    done.append(data[at:stop])
                    at = stop
                    break
                done.append(data[at : end.end()])
                at, self._until = end.end(), None
                continue
            opening = data.find(b"<", at)
            if opening < 0:
                done.append(data[at:])
                at = len(data)
                break
            done.append(data[at:opening])
            at = opening
            piece, after = self._tag(data, at)
            if after is None:
                if last or len(data) - at > TAG_MAX:
                    done.append(b"<")
                    at += 1
                    continue
                break
            done.append(piece)
            at = after
        self._buffer = data[at:]
        return b"".join(done)

    def _tag(self, data: bytes, at: int) -> tuple[bytes, int | None]:
        """What stands at a `<`, and where it ends: None when that has not come yet."""
        start = data[at : at + len(_COMMENT)]
        if start == _COMMENT:
            self._skip(rb"-->", 3)
            return start, at + len(start)
        if _COMMENT.startswith(start):
            return b"", None
        name = _NAME.match(data, at)
        if name is None:
            return data[at : at + 1], at + 1
        if name.end() == len(data):
            return b"", None
        element = name[1].decode("latin-1").lower()
        wanted = ATTRIBUTES.get(element, set())
        pieces: list[bytes] = []
        begun, here = at, name.end()
        while (end := _END.match(data, here)) is None:
            found = _ATTRIBUTE.match(data, here)
            if found is None or found.end() == len(data):
                return b"", None
            here = found.end()
            group = next((number for number in (2, 3, 4) if found[number] is not None), 0)
            if group and found[1].decode("latin-1").lower() in wanted:
                old = unescape(found[group].decode("utf-8", "surrogateescape"))
                new = self._change(old)
                if new != old:
                    pieces += [data[begun : found.start(group)], escape(new).encode("utf-8", "surrogateescape")]
                    begun = found.end(group)
        if element in RAW:
            self._skip(rb"</" + element.encode(), len(element) + 2)
        return b"".join([*pieces, data[begun : end.end()]]), end.end()

    def _skip(self, until: bytes, length: int) -> None:
        self._until, self._until_length = re.compile(until, re.IGNORECASE), length
