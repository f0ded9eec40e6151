"""What nftables holds, asked and changed by netlink because starting nft(8) takes longer than a whole attach."""

from __future__ import annotations

import errno
import socket
import struct
from collections.abc import Iterable, Iterator
from typing import NamedTuple

from nsrun.network.netlink import (
    HEADER,
    NETLINK_NETFILTER,
    NLM_F_CREATE,
    NLM_F_DUMP,
    NLM_F_REQUEST,
    NetlinkError,
    NetlinkSocket,
    attribute,
    attributes_of,
)

INET, IP, BRIDGE, IP6 = 1, 2, 7, 10
"""Families of tables."""


_NESTED = 0x8000
_IFNAME = 41
"""nft's number of the type ifname."""


class Element(NamedTuple):
    """One of a set: the set's name and the key as the kernel has it."""

    of: str
    key: bytes


class Chain(NamedTuple):
    """A base chain; `hook` as the kernel counts them, `drops` by its policy."""

    family: int
    table: str
    name: str
    hook: int
    drops: bool


class Expression(NamedTuple):
    """A part of a rule; `drops` when it is the verdict drop, `compared` what a comparison is with (of `nsr*`, what is before the *)."""

    name: str
    drops: bool
    compared: bytes = b""


class Rule(NamedTuple):
    """A rule: its parts, and all of it as the kernel has it."""

    expressions: tuple[Expression, ...]
    raw: bytes


class Firewall:
    """The machine's rules, of this network namespace.

    Raises:
        OSError: EPROTONOSUPPORT and its like when the kernel has no nf_tables.
    """

    _NFT = 10 << 8
    _GETTABLE, _GETCHAIN, _GETRULE, _GETSET = 1, 4, 7, 10
    _NEWSETELEM, _GETSETELEM, _DELSETELEM, _GETGEN = 12, 13, 14, 16
    _BATCH_BEGIN, _BATCH_END = 16, 17

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

    def chains(self) -> Iterator[Chain]:
        """Every base chain, of every family."""
        for family, told in self._dump(self._GETCHAIN, socket.AF_UNSPEC, b""):
            if 4 in told:
                hook = dict(attributes_of(told[4]))
                yield Chain(
                    family, _word(told[1]), _word(told[3]), struct.unpack(">I", hook[1])[0], told.get(5) == bytes(4)
                )

    def rules(self, family: int, table: str, chain: str = "") -> Iterator[Rule]:
        """The rules of a table, or of one of its chains, in their order."""
        whose = _text(1, table) + (_text(2, chain) if chain else b"")
        for _, told in self._dump(self._GETRULE, family, whose):
            # A kernel that does not choose gives them all.
            if _word(told[1]) == table and chain in ("", _word(told[2])):
                expressions = told.get(4, b"")
                yield Rule(tuple(_expression(one) for _, one in attributes_of(expressions)), expressions)

    def links_in_sets(self, family: int, table: str) -> Iterator[bytes]:
        """What is in the sets of links' names of a table."""
        for _, told in self._dump(self._GETSET, family, _text(1, table)):
            if told.get(4) == struct.pack(">I", _IFNAME) and _word(told[1]) == table:
                for _, elements in self._dump(self._GETSETELEM, family, _text(1, table) + _text(2, _word(told[2]))):
                    yield elements.get(3, b"")

    def add(self, family: int, table: str, elements: Iterable[Element]) -> None:
        """Put elements into sets of a table, all or none; those that are there already are fine.

        Raises:
            NetlinkError: ENOENT without the table or a set.
        """
        self._change(self._NEWSETELEM, NLM_F_CREATE, family, table, elements)

    def remove(self, family: int, table: str, elements: Iterable[Element]) -> None:
        """Take elements out of sets of a table, all or none.

        Raises:
            NetlinkError: ENOENT when one is not there, or the table is not.
        """
        self._change(self._DELSETELEM, 0, family, table, elements)

    def _change(self, code: int, flags: int, family: int, table: str, elements: Iterable[Element]) -> None:
        messages = []
        for element in elements:
            key = attribute(_NESTED | 1, attribute(1, element.key))
            listed = attribute(_NESTED | 3, attribute(_NESTED | 1, key))
            body = struct.pack("=BBH", family, 0, 0) + _text(1, table) + _text(2, element.of) + listed
            messages.append(HEADER.pack(HEADER.size + len(body), self._NFT | code, NLM_F_REQUEST | flags, 0, 0) + body)
        # res_id, in network order, names the subsystem that the transaction is for (nfnetlink.c).
        whom = struct.pack(">BBH", 0, 0, self._NFT >> 8)
        begin, end = (
            HEADER.pack(HEADER.size + len(whom), edge, NLM_F_REQUEST, 0, 0) + whom
            for edge in (self._BATCH_BEGIN, self._BATCH_END)
        )
        answers = self._netlink.ask(begin, *messages, end, silent=(0, len(messages) + 1))
        for answer in answers[1:-1]:
            answer.check()

    def _chain(self, table: str, chain: str, family: int) -> dict[int, bytes]:
        return self._find(self._GETCHAIN, family, _text(1, table) + _text(3, chain))

    def _dump(self, code: int, family: int, attributes: bytes) -> Iterator[tuple[int, dict[int, bytes]]]:
        """(family, attributes) of each."""
        body = struct.pack("=BBH", family, 0, 0) + attributes
        header = HEADER.pack(HEADER.size + len(body), self._NFT | code, NLM_F_REQUEST | NLM_F_DUMP, 0, 0)
        for payload in self._netlink.one(header + body, errno.ENOENT).payloads:
            yield payload[0], dict(attributes_of(payload[4:]))

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


def _expression(data: bytes) -> Expression:
    told = dict(attributes_of(data))
    name = _word(told.get(1, b""))
    # NFTA_IMMEDIATE_DATA { NFTA_DATA_VERDICT { NFTA_VERDICT_CODE: NF_DROP } }
    content = dict(attributes_of(told.get(2, b"")))
    if name == "cmp":
        # NFTA_CMP_DATA { NFTA_DATA_VALUE }
        return Expression(name, False, dict(attributes_of(content.get(3, b""))).get(1, b""))
    verdict = dict(attributes_of(dict(attributes_of(content.get(2, b""))).get(2, b""))) if name == "immediate" else {}
    return Expression(name, verdict.get(1) == bytes(4))


def _word(data: bytes) -> str:
    return data.rstrip(b"\0").decode("utf-8", "replace")


def _text(code: int, text: str) -> bytes:
    return attribute(code, text.encode() + b"\0")
