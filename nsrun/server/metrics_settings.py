"""Where the metrics are to be had: `[metrics]` of the configuration, or the server's option --metrics-listen."""

from __future__ import annotations

import ipaddress
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from nsrun.errors import SpecError

UNIX = "unix:"
LOOPBACK = "127.0.0.1"
PATH_MAX = 107
"""Bytes of a socket's path (unix(7))."""


@dataclass(frozen=True, slots=True)
class Address:
    """A place to listen at: the path of a Unix socket, or an IP address and a port."""

    path: str = ""
    host: str = ""
    port: int = 0

    def __str__(self) -> str:
        if self.path:
            return f"{UNIX}{self.path}"
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    @property
    def exposed(self) -> bool:
        """Other machines may reach it."""
        return not self.path and not ipaddress.ip_address(self.host).is_loopback


def address_of(text: str) -> Address:
    """`9460` or `:9460` (on loopback), `127.0.0.1:9460`, `[::1]:9460`, `unix:/run/nsrun/metrics.sock`.

    Raises:
        SpecError: it is none of these.
    """
    if text.startswith(UNIX):
        path = text.removeprefix(UNIX)
        if path.startswith("/") and len(path.encode()) <= PATH_MAX and "\0" not in path:
            return Address(path=path)
        raise _refused(text, f"the path of a socket is absolute and at most {PATH_MAX} bytes long")
    host, _, port = text.rpartition(":")
    if not port.isdecimal() or not port.isascii() or not 0 < int(port) < 65536:
        raise _refused(text, "a port is a number from 1 to 65535")
    try:
        ip = ipaddress.ip_address(host.removeprefix("[").removesuffix("]") if host else LOOPBACK)
    except ValueError:
        raise _refused(text, "before the port stands an IP address of this machine, or nothing for loopback") from None
    if getattr(ip, "scope_id", None):
        raise _refused(text, "addresses with a zone are not supported")
    return Address(host=str(ip), port=int(port))


def addresses(table: Any, words: Sequence[str] = ()) -> tuple[Address, ...]:
    """Where to listen.

    Args:
        table: `[metrics]` of the configuration, or None.
        words: what the command line says; it takes the place of the table.

    Raises:
        SpecError: something is no address.
    """
    table = {} if table is None else table
    listen = table.get("listen", [])
    listen = [listen] if isinstance(listen, str) else listen
    if table.keys() - {"listen"} or not isinstance(listen, list) or not all(isinstance(one, str) for one in listen):
        raise SpecError(
            "the configuration's table [metrics] is not understood",
            resolution='It has one list: listen = ["127.0.0.1:9460", "unix:/run/nsrun/metrics.sock"].',
        )
    configured = tuple(dict.fromkeys(address_of(one) for one in listen))
    return tuple(dict.fromkeys(address_of(one) for one in words)) or configured


def _refused(text: str, why: str) -> SpecError:
    return SpecError(
        f"metrics cannot be had at {text!r}: {why}",
        resolution="Write 127.0.0.1:9460, [::1]:9460, or unix:/run/nsrun/metrics.sock.",
    )
