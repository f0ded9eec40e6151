"""Who asks: bearer tokens.

A token stands for a caller with a role. Where the API is served in the clear it is open to whoever reaches it: then it listens on
loopback or a socket file alone, and browsers are kept out.
"""

from __future__ import annotations

import hashlib
import ipaddress
import os
from collections.abc import Mapping
from urllib.parse import urlsplit

from aiohttp import web

from nsrun.api.impersonation import acting
from nsrun.api.roles import ANYBODY, NOBODY, ROLES, Caller
from nsrun.spec import api_status


class Authenticator:
    """Tells callers by their tokens.

    Args:
        tokens_path: a file with a line `TOKEN NAME ROLE` for each caller, read again whenever it is another one; None lets
            everybody in.
        local: the API is on loopback in the clear: requests that a web page makes a browser send are refused.
    """

    def __init__(self, tokens_path: str | None, *, local: bool = False) -> None:
        self._path = tokens_path
        self._local = local
        self._known: dict[bytes, Caller] = {}
        self._stamp: tuple[int, int] = (0, 0)

    def caller(self, request: web.BaseRequest, *, anonymous_too: bool = False) -> Caller:
        """Who asks.

        Raises:
            StatusError: 401 without a token that is known; 403 for a web page, and for who may not be whom they want to be.
        """
        if self._path is None:
            if self._local:
                _no_browser(request.headers)
            return acting(ANYBODY, request.headers, lambda _name: "")
        scheme, _, token = request.headers.get("Authorization", "").partition(" ")
        found = self._callers().get(_digest(token.strip())) if scheme.lower() == "bearer" and token else None
        if found is not None:
            return acting(found, request.headers, self._role_of)
        if anonymous_too:
            return NOBODY
        raise api_status.refusal(401, "Unauthorized", "Unauthorized")

    def _role_of(self, name: str) -> str:
        return next((one.role for one in self._callers().values() if one.name == name), "")

    def _callers(self) -> Mapping[bytes, Caller]:
        assert self._path is not None
        try:
            found = os.stat(self._path)
        except OSError:
            # A file that is just being replaced, or that somebody took away: who was let in is not any more.
            self._known, self._stamp = {}, (0, 0)
            return self._known
        stamp = (found.st_mtime_ns, found.st_ino)
        if stamp != self._stamp:
            try:
                with open(self._path, encoding="utf-8", errors="replace") as file:
                    self._known, self._stamp = dict(_lines(file.read())), stamp
            except OSError:
                self._known, self._stamp = {}, (0, 0)
        return self._known


def _digest(token: str) -> bytes:
    # Looked up by its digest, a token's bytes are compared with nobody's: time tells nothing.
    return hashlib.sha256(token.encode(errors="surrogateescape")).digest()


def _lines(text: str) -> list[tuple[bytes, Caller]]:
    found = []
    for line in text.splitlines():
        words = line.split()
        if len(words) == 3 and not line.startswith("#") and words[2] in ROLES:
            found.append((_digest(words[0]), Caller(words[1], words[2])))
    return found


def _no_browser(headers: Mapping[str, str]) -> None:
    """Refuse what a web page could make a browser send here: another page's origin, or a name that was bent to loopback."""
    said, origin = headers.get("Host", ""), headers.get("Origin")
    try:
        host = urlsplit(f"//{said}").hostname or ""
        # Clients of WebSockets that have no page name the server itself, or what Go's tests name.
        alien = origin is not None and urlsplit(origin).netloc != said and origin != "http://localhost"
    except ValueError:
        host, alien = said, True
    if alien or not _unbendable(host):
        raise api_status.refusal(
            403, "Forbidden", f"requests of web pages are refused: Host {host!r}, Origin {origin!r}", details={}
        )


def _unbendable(host: str) -> bool:
    """Whether nobody's name server decides what a host's name means: an address, or localhost."""
    if host in ("localhost", ""):
        return True
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True
