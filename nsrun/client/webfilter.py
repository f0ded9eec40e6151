"""Who may talk to a proxy on this machine: every page that the user's browser shows can send requests to 127.0.0.1.

Hosts, paths and methods as kubectl proxy's filter has them (kubectl pkg/proxy/proxy_server.go): a name that an attacker points
at 127.0.0.1 is not among the hosts. What comes from another site's page is refused besides, which kubectl's does not do.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from nsrun.errors import UsageError

HOSTS = r"^localhost$,^127\.0\.0\.1$,^\[::1\]$"
PATHS = "^.*"
REJECTED_PATHS = ""
"""kubectl has exec and attach here: this proxy has neither, and a pod may use the words."""
REJECTED_METHODS = "^$"

SAFE = ("GET", "HEAD")


class Rules(NamedTuple):
    """Lists of regular expressions, as kubectl proxy's flags of these names have them: one that matches anywhere is enough."""

    accept_hosts: Sequence[re.Pattern[str]]
    accept_paths: Sequence[re.Pattern[str]]
    reject_paths: Sequence[re.Pattern[str]]
    reject_methods: Sequence[re.Pattern[str]]

    def refusal(self, method: str, path: str, headers: Mapping[str, str]) -> str | None:
        """Why a request is refused, None when it is not.

        Args:
            method: of the request.
            path: of the request, without its query.
            headers: found whatever their case.
        """
        host = headers.get("Host", "")
        if not _any(self.accept_hosts, host_of(host)):
            return f"the host {host!r} is not one of this proxy's (--accept-hosts)"
        if _any(self.reject_paths, path) or not _any(self.accept_paths, path):
            return "the path is not let through (--accept-paths, --reject-paths)"
        if _any(self.reject_methods, method):
            return f"the method {method} is not let through (--reject-methods)"
        if from_elsewhere(method, headers):
            return "it comes from another site's page"
        return None


def rules(
    accept_hosts: str = HOSTS,
    accept_paths: str = PATHS,
    reject_paths: str = REJECTED_PATHS,
    reject_methods: str = REJECTED_METHODS,
) -> Rules:
    """Rules from lists with commas.

    Raises:
        UsageError: one is no regular expression.
    """
    return Rules(*map(expressions, (accept_hosts, accept_paths, reject_paths, reject_methods)))


def expressions(text: str) -> list[re.Pattern[str]]:
    """The regular expressions of a list with commas.

    Raises:
        UsageError: one is none.
    """
    try:
        return [re.compile(part) for part in text.split(",")] if text else []
    except re.error as error:
        raise UsageError(f"{text!r} is no list of regular expressions: {error}") from None


def host_of(header: str) -> str:
    """The host of a Host header: `localhost:8001` is localhost, `[::1]:8001` is [::1]."""
    host, colon, port = header.rpartition(":")
    return host if colon and port.isdecimal() and (":" not in host or host.endswith("]")) else header


def from_elsewhere(method: str, headers: Mapping[str, str]) -> bool:
    """Whether another site's page makes the request: all but following a link, which shows its result to nobody but the user.

    Browsers tell by Sec-Fetch-Site; for those that do not, and for WebSockets, Origin is compared with the host.
    """
    site = headers.get("Sec-Fetch-Site")
    if site in ("cross-site", "same-site"):
        return not (
            method in SAFE
            and headers.get("Sec-Fetch-Mode") == "navigate"
            and headers.get("Sec-Fetch-Dest", "document") == "document"
        )
    origin = headers.get("Origin")
    return origin is not None and origin.lower() != f"http://{headers.get('Host', '')}".lower()


def _any(patterns: Sequence[re.Pattern[str]], text: str) -> bool:
    return any(pattern.search(text) for pattern in patterns)
