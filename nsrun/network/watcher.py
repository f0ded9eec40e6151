"""Told by the kernel when somebody changes links, addresses or rules, so that what was broken by hand is looked at soon.

What is told is not read: a change means "look again" (and one's own changes are told as well).
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable
from contextlib import suppress

from nsrun.network.netlink import NETLINK_NETFILTER, NETLINK_ROUTE

PAUSE_S = 0.3
"""From the first change to the look: what belongs together has happened by then."""

_LINKS, _ADDRESSES, _ADDRESSES6 = 1 << 0, 1 << 4, 1 << 8
_RULES = 7
_SOL_NETLINK, _ADD_MEMBERSHIP = 270, 1


class Watcher:
    """Calls `changed` in the loop, once for all changes of a moment.

    Raises:
        OSError: no such sockets.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, changed: Callable[[], None]) -> None:
        self._loop = loop
        self._changed = changed
        self._later: asyncio.TimerHandle | None = None
        self._sockets: list[socket.socket] = []
        try:
            for protocol, groups in ((NETLINK_ROUTE, _LINKS | _ADDRESSES | _ADDRESSES6), (NETLINK_NETFILTER, 0)):
                one = socket.socket(
                    socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK, protocol
                )
                self._sockets.append(one)
                one.bind((0, groups))
                if not groups:
                    one.setsockopt(_SOL_NETLINK, _ADD_MEMBERSHIP, _RULES)
            self._listen()
        except BaseException:
            self.close()
            raise

    def _listen(self) -> None:
        for one in self._sockets:
            self._loop.add_reader(one, self._told)

    def _told(self) -> None:
        # A pod's start changes a dozen things: until the look nobody is woken for each of them.
        for one in self._sockets:
            self._loop.remove_reader(one)
        self._later = self._loop.call_later(PAUSE_S, self._now)

    def _now(self) -> None:
        self._later = None
        for one in self._sockets:
            # Before the look, which sees all that is thrown away here. ENOBUFS says that some of it was lost: that, too.
            with suppress(OSError):
                for _ in range(1024):
                    one.recv(1)
        self._listen()
        self._changed()

    def close(self) -> None:
        """Give the descriptors back; nothing is called any more."""
        if self._later is not None:
            self._later.cancel()
            self._later = None
        for one in self._sockets:
            self._loop.remove_reader(one)
            one.close()
        self._sockets = []
