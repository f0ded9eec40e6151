"""What nftables holds, asked and changed by netlink because starting nft(8) takes longer than a whole attach."""

from __future__ import annotations

import errno
import socket
import struct

from nsrun.network.netlink import (
    HEADER,
    NETLINK_NETFILTER,
    NLM_F_REQUEST,
    NetlinkError,
    NetlinkSocket,
    attribute,
    attributes_of,
)

IP, IP6, BRIDGE = 2, 10, 7
"""Families of tables."""


class Firewall:
    """The machine's rules, of this network namespace.

    Raises:
        OSError: EPROTONOSUPPORT and its like when the kernel has no nf_tables.
    """

    _NFT = 10 << 8
    _GETTABLE, _GETCHAIN, _GETGEN = 1, 4, 16

    def __init__(self) -> None:
        self._netlink = NetlinkSocket(protocol=NETLINK_NETFILTER)

    def close(self) -> None:
        """Give the descriptor back."""
        self._netlink.close()

    def generation(self) -> int:
        """A number that changes with every change of any rule."""
        attributes = self._attributes_of(self._GETGEN, socket.AF_UNSPEC, b"")
        return int(struct.unpack(">I", attributes[1])[0])

    def has_table(self, table: str, family: int = IP) -> bool:
        """Whether there is a table of that name."""
        return bool(self._find(self._GETTABLE, family, _text(1, table)))

    def rules_in(self, table: str, chain: str, family: int = IP) -> int:
        """How many rules a chain has; 0 also when there is no such chain."""
        attributes = self._chain(table, chain, family)
        return int(struct.unpack(">I", attributes[6])[0]) if 6 in attributes else 0

    def drops(self, table: str, chain: str, family: int = IP) -> bool:
        """Whether the policy of a base chain is drop."""
        return self._chain(table, chain, family).get(5) == bytes(4)

    def _chain(self, table: str, chain: str, family: int) -> dict[int, bytes]:
        return self._find(self._GETCHAIN, family, _text(1, table) + _text(3, chain))

    def _find(self, code: int, family: int, attributes: bytes) -> dict[int, bytes]:
        try:
            return self._attributes_of(code, family, attributes)
        except NetlinkError as error:
            if error.errno in (errno.ENOENT, errno.EOPNOTSUPP, errno.EAFNOSUPPORT):
                return {}
            raise

    def _attributes_of(self, code: int, family: int, attributes: bytes) -> dict[int, bytes]:
        body = struct.pack("=BBH", family, 0, 0) + attributes
        header = HEADER.pack(HEADER.size + len(body), self._NFT | code, NLM_F_REQUEST, 0, 0)
        payloads = self._netlink.one(header + body).payloads
        return dict(attributes_of(payloads[0][4:])) if payloads else {}


def _text(code: int, text: str) -> bytes:
    return attribute(code, text.encode() + b"\0")
