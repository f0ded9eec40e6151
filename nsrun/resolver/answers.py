"""Datagrams in, datagrams out: pure but for what it remembers. dnspython takes apart what strangers sent, and encodes.

An answer is encoded once and then kept by the bytes of its question, until the zone is another one: most of what pods ask is asked
again. A search list makes several questions of each name, and nearly all of them are about nothing: those, and those that others
answer, do without the library (0.2 ms) if they are plain (`plain.py`).
"""

from __future__ import annotations

import io
from dataclasses import dataclass

import dns.exception
import dns.flags
import dns.message
import dns.name
import dns.opcode
import dns.rcode
import dns.rdataclass
import dns.rdatatype
import dns.rrset

from nsrun.resolver.plain import HEADER, read
from nsrun.resolver.zone import Found, Record, Zone

PLAIN_MAX = 512
"""Bytes of a UDP answer for whoever says nothing of more (RFC 1035)."""
UDP_MAX = 1232
"""Bytes of a UDP answer for whoever says more: what passes every link in one piece (DNS Flag Day 2020)."""
TCP_MAX = 65535
KEPT = 4096
"""Answers that are kept; all are dropped when there is one too many."""
TURNS = 8
"""Of a name with several addresses so many orders are told in turn."""

_OPT = 41
_OUR_OPT = b"\0\0" + bytes((_OPT,)) + UDP_MAX.to_bytes(2, "big") + bytes(6)
_SMALLEST = 16
"""Bytes of a record with an IPv4 address."""
_QR, _OPCODE, _AA, _TC, _RD, _RA = 0x80, 0x78, 0x04, 0x02, 0x01, 0x80
_TRANSFERS = (dns.rdatatype.AXFR, dns.rdatatype.IXFR)


@dataclass(frozen=True, slots=True)
class Forward:
    """A question that others have to answer.

    Attributes:
        end: where the question section ends.
        limit: bytes that the client takes.
        payload: where in the query the size stands that is told to the server, which may be more than is wanted; 0 if nowhere.
    """

    end: int
    limit: int
    payload: int


class Answers:
    """Answers queries.

    Args:
        zone: what is known here.
    """

    def __init__(self, zone: Zone) -> None:
        self._zone = zone
        self._kept: dict[tuple[bytes, bool], list[bytes] | Forward] = {}
        self._nothing: dict[str, bytes] = {}

    @property
    def zone(self) -> Zone:
        """What is known here."""
        return self._zone

    def use(self, zone: Zone) -> None:
        """Answer from another zone from now on."""
        self._zone = zone
        self._kept.clear()
        self._nothing.clear()

    def reply(self, query: bytes, *, tcp: bool) -> bytes | Forward | None:
        """What to answer.

        Args:
            query: the message.
            tcp: it came over TCP.

        Returns:
            The message; or who else is to be asked; or None for what gets no answer at all.
        """
        key = (query[2:], tcp)
        known = self._kept.get(key)
        if known is None:
            if len(query) < HEADER or query[2] & _QR:
                return None
            known = self._quick(query, tcp) or self._work_out(query, tcp)
            if len(self._kept) >= KEPT:
                self._kept.clear()
            if len(query) <= PLAIN_MAX:
                self._kept[key] = known
        if isinstance(known, Forward):
            return known
        if len(known) > 1:
            known.append(known.pop(0))
        return query[:2] + known[0]

    def _quick(self, query: bytes, tcp: bool) -> list[bytes] | Forward | None:
        """The same as `_work_out`, or nothing, for a plain question that has no answer here."""
        plain = read(query)
        if plain is None or plain.kind in _TRANSFERS:
            return None
        found = self._zone.find(plain.name, plain.kind)
        if found is None:
            at = plain.end + 3 if plain.payload >= 0 and not tcp else 0
            return Forward(plain.end, _limit(plain.payload, tcp), at)
        if found.records:
            return None
        flags = bytes((_QR | _AA | query[2] & _RD, _RA | found.code))
        soa = self._soa(found.apex)
        counts = bytes((0, 1, 0, 0, 0, 1 if soa else 0, 0, 1 if plain.payload >= 0 else 0))
        return [flags + counts + query[HEADER : plain.end] + soa + (_OUR_OPT if plain.payload >= 0 else b"")]

    def _soa(self, apex: str) -> bytes:
        """A zone's SOA record; nothing where there is no zone."""
        if not apex:
            return b""
        known = self._nothing.get(apex)
        if known is None:
            if len(self._nothing) >= KEPT:
                self._nothing.clear()
            buffer = io.BytesIO()
            dns.rrset.from_text(f"{apex}.", self._zone.ttl, "IN", "SOA", self._zone.soa()).to_wire(buffer)
            known = self._nothing[apex] = buffer.getvalue()
        return known

    def _work_out(self, query: bytes, tcp: bool) -> list[bytes] | Forward:
        """The answers without their first two bytes, in all orders that are told."""
        if (query[2] & _OPCODE) >> 3 != dns.opcode.QUERY:
            return [refusal(query, dns.rcode.NOTIMP)[2:]]
        try:
            message = dns.message.from_wire(query)
        except dns.exception.DNSException:
            return [refusal(query, dns.rcode.FORMERR)[2:]]
        end = question_end(query)
        if len(message.question) != 1 or not end:
            return [refusal(query, dns.rcode.FORMERR)[2:]]
        question = message.question[0]
        limit = _limit(-1 if message.edns < 0 else message.payload, tcp)
        if message.edns > 0:
            return [_encode(message, dns.rcode.BADVERS, limit)]
        if question.rdclass != dns.rdataclass.IN or question.rdtype in _TRANSFERS:
            return [_encode(message, dns.rcode.REFUSED, limit)]
        name = question.name.to_text(omit_final_dot=True).lower()
        found = self._zone.find(name, question.rdtype)
        if found is None:
            return Forward(end, limit, _payload(query, end) if not tcp else 0)
        return self._encode_found(message, found, limit)

    def _encode_found(self, query: dns.message.Message, found: Found, limit: int) -> list[bytes]:
        question = query.question[0]
        ttl = self._zone.ttl
        if not found.records:
            soa = [dns.rrset.from_text(f"{found.apex}.", ttl, "IN", "SOA", self._zone.soa())] if found.apex else []
            return [_encode(query, dns.rcode.Rcode(found.code), limit, authority=soa)]
        # As many as fit, also in an answer that is marked as cut: not every client asks again over TCP.
        records, whole = found.records, True
        if len(records) > limit // _SMALLEST:
            records, whole = records[: limit // _SMALLEST], False
        variants: list[bytes] = []
        turns = min(len(records), TURNS)
        while len(variants) < turns:
            turn = len(variants)
            response = _encode(
                query, dns.rcode.NOERROR, limit, answer=self._sets(question.name, records[turn:] + records[:turn])
            )
            if response[0] & _TC and len(records) > 1:
                records, whole = records[: len(records) * 15 // 16], False
                turns = min(len(records), TURNS)
                variants.clear()
                continue
            variants.append(response if whole else bytes((response[0] | _TC,)) + response[1:])
        return variants

    def _sets(self, name: dns.name.Name, records: tuple[Record, ...]) -> list[dns.rrset.RRset]:
        by_type: dict[int, list[str]] = {}
        for kind, text in records:
            by_type.setdefault(kind, []).append(text)
        return [
            dns.rrset.from_text_list(
                name, self._zone.ttl, "IN", dns.rdatatype.to_text(dns.rdatatype.RdataType(kind)), texts
            )
            for kind, texts in by_type.items()
        ]


def _limit(payload: int, tcp: bool) -> int:
    """Bytes of an answer to a client that says so, or nothing (-1), of what it takes."""
    return TCP_MAX if tcp else min(max(payload, PLAIN_MAX), UDP_MAX)


def _encode(
    query: dns.message.Message,
    code: dns.rcode.Rcode,
    limit: int,
    answer: list[dns.rrset.RRset] | None = None,
    authority: list[dns.rrset.RRset] | None = None,
) -> bytes:
    response = dns.message.make_response(query, recursion_available=True, our_payload=UDP_MAX)
    response.set_rcode(code)
    if code in (dns.rcode.NOERROR, dns.rcode.NXDOMAIN):
        response.flags |= dns.flags.AA
    response.answer.extend(answer or [])
    response.authority.extend(authority or [])
    return response.to_wire(max_size=limit, prefer_truncation=True)[2:]


def refusal(query: bytes, code: int) -> bytes:
    """An answer of a header alone, with the question where that is whole."""
    end = question_end(query)
    flags = bytes((_QR | query[2] & (_OPCODE | _RD), _RA | code))
    return query[:2] + flags + (b"\0\1" if end else b"\0\0") + b"\0\0\0\0\0\0" + query[HEADER : end or HEADER]


def cut(answer: bytes, end: int) -> bytes:
    """An answer that is too long for a datagram: the client asks again over TCP.

    Args:
        answer: it.
        end: where its question section ends.
    """
    return answer[:2] + bytes((answer[2] | _TC, answer[3])) + b"\0\1\0\0\0\0\0\0" + answer[HEADER:end]


def question_end(message: bytes) -> int:
    """Where the question section ends; 0 unless it is one question, in one piece."""
    if len(message) < HEADER or message[4:6] != b"\0\1":
        return 0
    at = HEADER
    while at < len(message):
        length = message[at]
        if length == 0:
            return at + 5 if at + 5 <= len(message) else 0
        if length > 63:
            return 0
        at += length + 1
    return 0


def _payload(query: bytes, end: int) -> int:
    """Where the size stands in the OPT record, if that is all that follows the question."""
    plain = query[6:12] == b"\0\0\0\0\0\1" and query[end : end + 3] == bytes((0, 0, _OPT))
    return end + 3 if plain and len(query) >= end + 11 else 0
