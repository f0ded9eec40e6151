"""`lib/network.json`: what a later server has to know about what an earlier one did."""

from __future__ import annotations

import json
import os
from ipaddress import IPv4Network, IPv6Network
from pathlib import Path
from typing import Any

from nsrun.errors import StepError
from nsrun.network.addressing import Ranges, unique_local


class NetworkRecord:
    """The file. Read each time: it is small and asked for seldom.

    Args:
        path: written atomically; need not exist.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    def exists(self) -> bool:
        """Whether anything was ever set up."""
        return self.path.exists()

    def ranges(self) -> Ranges | None:
        """The pods' addresses, or None before the first set-up."""
        state = self._read()
        try:
            return Ranges(IPv4Network(state.get("range", "")), _network6(state.get("range6")))
        except ValueError:
            return None

    def unique_local(self) -> IPv6Network:
        """The root's own range of IPv6 addresses, the same at all times: made with the first `write` that has it."""
        return _network6(self._read().get("unique_local")) or unique_local(os.urandom(5))

    def bridge(self) -> str:
        """The bridge's name, "" before the first set-up."""
        name = self._read().get("bridge")
        return name if isinstance(name, str) else ""

    def excepted(self) -> bool:
        """Whether iptables was given rules for the bridge."""
        return bool(self._read().get("excepted"))

    def write(self, ranges: Ranges, own: IPv6Network, ip_forward: str, *, excepted: bool, bridge: str) -> None:
        """Write down the ranges, what ip_forward was before the first time nsrun set it, and whether iptables gets rules.

        Args:
            ranges: in use from now on.
            own: of `unique_local`.
            ip_forward: text of the sysctl now.
            excepted: rules are about to be put into iptables.
            bridge: the bridge's name.

        Raises:
            StepError: the file cannot be written.
        """
        state = self._read()
        wanted = {
            "range": str(ranges.ipv4),
            "range6": str(ranges.ipv6) if ranges.ipv6 is not None else None,
            "unique_local": str(own),
            "ip_forward_before": state.get("ip_forward_before", ip_forward),
            "excepted": excepted or bool(state.get("excepted")),
            "bridge": bridge,
        }
        if state == wanted:
            return
        temporary = self.path.with_name(f".{self.path.name}.new")
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            temporary.write_text(json.dumps(wanted) + "\n", encoding="utf-8")
            os.replace(temporary, self.path)
        except OSError as error:
            temporary.unlink(missing_ok=True)
            path = str(self.path)
            raise StepError("write", path, error.errno or 0, what="the pod network is not set up") from error

    def _read(self) -> dict[str, Any]:
        try:
            state = json.loads(self.path.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return {}
        return state if isinstance(state, dict) else {}


def _network6(text: Any) -> IPv6Network | None:
    try:
        return IPv6Network(text) if isinstance(text, str) else None
    except ValueError:
        return None
