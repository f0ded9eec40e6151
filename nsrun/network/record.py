"""`lib/network.json`: what a later server has to know about what an earlier one did."""

from __future__ import annotations

import json
import os
from ipaddress import IPv4Network
from pathlib import Path
from typing import Any

from nsrun.errors import StepError


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

    def range(self) -> IPv4Network | None:
        """The pods' addresses, or None before the first set-up."""
        try:
            return IPv4Network(self._read().get("range", ""))
        except ValueError:
            return None

    def excepted(self) -> bool:
        """Whether iptables was given rules for the bridge."""
        return bool(self._read().get("excepted"))

    def write(self, network: IPv4Network, ip_forward: str, *, excepted: bool) -> None:
        """Write down the range, what ip_forward was before the first time nsrun set it, and whether iptables gets rules.

        Raises:
            StepError: the file cannot be written.
        """
        state = self._read()
        wanted = {
            "range": str(network),
            "ip_forward_before": state.get("ip_forward_before", ip_forward),
            "excepted": excepted or bool(state.get("excepted")),
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
