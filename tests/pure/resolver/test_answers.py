"""Datagrams in, datagrams out; held against dnspython as a client would use it."""

from __future__ import annotations

from ipaddress import ip_network
from typing import Any

import dns.edns
import dns.exception
import dns.flags
import dns.message
import dns.opcode
import dns.rcode
import dns.rdatatype
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from nsrun.resolver import answers as module
from nsrun.resolver.answers import Answers, Forward, cut, question_end, refusal
from nsrun.resolver.plain import read
from nsrun.resolver.zone import PodNames, Zone

D = "cluster.local"
COOKIE = dns.edns.GenericOption(dns.edns.OptionType.COOKIE, b"12345678")
MANY = tuple(PodNames(f"m{number}", "many", (f"10.85.1.{number}",), "", "group") for number in range(1, 201))
ZONE = Zone(
    D, ("10.85.0.1",), (ip_network("10.85.0.0/16"),), (PodNames("web", "default", ("10.85.0.2", "fd00::2")), *MANY)
)


def fresh() -> Answers:
    return Answers(ZONE)


def query(name: str, kind: str = "A", **words: Any) -> bytes:
    return dns.message.make_query(name, kind, **words).to_wire()


def ask(name: str, kind: str = "A", *, tcp: bool = False, **words: Any) -> dns.message.Message:
    wire = query(name, kind, **words)
    reply = fresh().reply(wire, tcp=tcp)
    assert isinstance(reply, bytes)
    answer = dns.message.from_wire(reply)
    assert dns.message.from_wire(wire).is_response(answer)
    return answer


def test_S_DNS_an_answer() -> None:
    answer = ask(f"WeB.default.pod.{D}")
    assert answer.flags == dns.flags.QR | dns.flags.AA | dns.flags.RD | dns.flags.RA
    (found,) = answer.answer
    # The name as it was asked for: clients tell forged answers by it.
    assert found.to_text() == f"WeB.default.pod.{D}. 5 IN A 10.85.0.2"
    assert answer.edns == -1


def test_S_DNS_no_such_name_can_be_remembered() -> None:
    answer = ask(f"nobody.default.pod.{D}")
    assert answer.rcode() == dns.rcode.NXDOMAIN
    (soa,) = answer.authority
    assert (soa.name.to_text(), soa.ttl, soa[0].minimum) == (f"{D}.", 5, 5)
    assert ask(f"m1.many.pod.{D}", "AAAA").rcode() == dns.rcode.NOERROR


def test_S_DNS_edns() -> None:
    answer = ask(f"web.default.pod.{D}", use_edns=0, payload=4096)
    assert (answer.edns, answer.payload) == (0, 1232)
    strange = ask(
        f"web.default.pod.{D}", use_edns=0, options=[dns.edns.GenericOption(dns.edns.OptionType.make(65001), b"x")]
    )
    assert strange.rcode() == dns.rcode.NOERROR
    assert ask(f"web.default.pod.{D}", use_edns=1).rcode() == dns.rcode.BADVERS


@pytest.mark.parametrize(("words", "limit"), [({}, 512), ({"use_edns": 0, "payload": 4096}, 1232)])
def test_S_DNS_what_is_too_much_for_a_datagram_is_cut(words: dict[str, Any], limit: int) -> None:
    wire = query(f"group.many.svc.{D}", **words)
    reply = fresh().reply(wire, tcp=False)
    assert isinstance(reply, bytes)
    assert limit - 64 < len(reply) <= limit
    answer = dns.message.from_wire(reply)
    assert answer.flags & dns.flags.TC
    # Not every client asks again over TCP.
    assert len(answer.answer[0]) >= 20
    whole = ask(f"group.many.svc.{D}", tcp=True, **words)
    assert not whole.flags & dns.flags.TC
    assert len(whole.answer[0]) == 200


def test_S_DNS_several_addresses_are_told_in_turn() -> None:
    zone = Zone(D, pods=tuple(PodNames(f"p{number}", "n", (f"10.0.0.{number}",), "", "s") for number in range(1, 5)))
    answers, wire = Answers(zone), query(f"s.n.svc.{D}")
    firsts = set()
    for _ in range(64):
        reply = answers.reply(wire, tcp=False)
        assert isinstance(reply, bytes)
        found = dns.message.from_wire(reply).answer[0]
        assert {one.address for one in found} == {f"10.0.0.{number}" for number in range(1, 5)}
        firsts.add(found[0].address)
    assert len(firsts) > 1


def test_S_DNS_what_others_are_asked() -> None:
    plain = fresh().reply(query("example.com"), tcp=False)
    assert plain == Forward(end=29, limit=512, payload=0)
    more = fresh().reply(query("example.com", use_edns=0, payload=4096), tcp=False)
    assert more == Forward(end=29, limit=1232, payload=32)
    wire = query("example.com", use_edns=0, payload=4096)
    assert wire[32:34] == (4096).to_bytes(2, "big")
    assert fresh().reply(wire, tcp=True) == Forward(end=29, limit=65535, payload=0)


@pytest.mark.parametrize(
    ("change", "code"),
    [
        (lambda message: message.set_opcode(dns.opcode.UPDATE), dns.rcode.NOTIMP),
        (lambda message: message.set_opcode(dns.opcode.NOTIFY), dns.rcode.NOTIMP),
    ],
)
def test_S_DNS_what_is_no_question(change: object, code: int) -> None:
    message = dns.message.make_query(D, "SOA")
    change(message)  # type: ignore[operator]
    reply = fresh().reply(message.to_wire(), tcp=False)
    assert isinstance(reply, bytes)
    assert reply[3] & 0x0F == code


@pytest.mark.parametrize("kind", ["AXFR", "IXFR"])
def test_S_DNS_the_zone_is_not_handed_out(kind: str) -> None:
    assert ask(D, kind, tcp=True).rcode() == dns.rcode.REFUSED


def test_S_DNS_other_classes() -> None:
    assert ask("version.bind", "TXT", rdclass="CH").rcode() == dns.rcode.REFUSED


def test_S_DNS_answers_are_not_answered() -> None:
    wire = bytearray(query(D))
    wire[2] |= 0x80
    assert fresh().reply(bytes(wire), tcp=False) is None
    assert fresh().reply(b"", tcp=False) is None
    assert fresh().reply(bytes(11), tcp=True) is None


def test_S_DNS_two_questions_and_none() -> None:
    wire = query(D)
    for number in (0, 2):
        broken = wire[:4] + bytes((0, number)) + wire[6:]
        reply = fresh().reply(broken, tcp=False)
        assert isinstance(reply, bytes)
        assert reply[3] & 0x0F == dns.rcode.FORMERR


def test_S_DNS_another_zone_counts_at_once() -> None:
    answers, wire = fresh(), query(f"new.default.pod.{D}")
    for zone, code in (
        (ZONE, dns.rcode.NXDOMAIN),
        (Zone(D, pods=(PodNames("new", "default", ("10.0.0.1",)),)), dns.rcode.NOERROR),
        (ZONE, dns.rcode.NXDOMAIN),
    ):
        answers.use(zone)
        for _ in range(2):
            reply = answers.reply(wire, tcp=False)
            assert isinstance(reply, bytes)
            assert reply[3] & 0x0F == code


def test_S_DNS_what_is_remembered_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "KEPT", 10)
    answers = fresh()
    for number in range(100):
        answers.reply(query(f"n{number}.{D}"), tcp=False)
        assert len(answers._kept) <= 10


def test_S_DNS_an_answer_that_is_cut_says_so() -> None:
    wire = dns.message.make_response(dns.message.make_query("example.com", "A")).to_wire()
    short = dns.message.from_wire(cut(wire + b"", question_end(wire)))
    assert short.flags & dns.flags.TC
    assert not short.answer


@st.composite
def damaged(draw: st.DrawFn) -> bytes:
    """A query of which some bytes are others, some are missing and some are too many."""
    name = draw(st.sampled_from([D, f"web.default.pod.{D}", "example.com", "2.0.85.10.in-addr.arpa", "."]))
    wire = bytearray(
        query(name, draw(st.sampled_from(["A", "ANY", "PTR", "SOA"])), use_edns=draw(st.sampled_from([-1, 0, 1])))
    )
    for at, byte in draw(st.lists(st.tuples(st.integers(0, len(wire) - 1), st.integers(0, 255)), max_size=6)):
        wire[at] = byte
    return bytes(wire[: draw(st.integers(0, len(wire)))] + draw(st.binary(max_size=12)))


@given(
    st.one_of(
        damaged(), st.binary(max_size=100), st.binary(max_size=80).map(lambda data: b"ab\1\0\0\1\0\0\0\0\0\0" + data)
    ),
    st.booleans(),
)
@example(b"ab\1\0\0\1\0\0\0\0\0\0\xc0\x0c\0\1\0\1", False)
@example(b"ab\1\0\0\1\0\0\0\0\0\0\x40a\0\0\1\0\1", False)
@example(b"ab\1\0\0\1\0\0\0\0\0\0\3a.b\0\0\1\0\1", False)
@example(b"ab\1\0\0\1\0\0\0\0\0\0\2\xff\x00\0\0\1\0\1", True)
def test_S_DNS_garbage_is_answered_in_order_or_not_at_all(wire: bytes, tcp: bool) -> None:
    reply = fresh().reply(wire, tcp=tcp)
    if reply is None:
        assert len(wire) < 12 or wire[2] & 0x80
    elif isinstance(reply, Forward):
        # Only what is one whole question is put to others.
        assert reply.end == question_end(wire) > 0
        dns.message.from_wire(wire)
    else:
        assert reply[:2] == wire[:2]
        assert reply[2] & 0x80
        assert len(reply) <= (65535 if tcp else 1232)
        dns.message.from_wire(reply, ignore_trailing=True)


@given(st.binary(min_size=12, max_size=60), st.integers(1, 15))
def test_S_DNS_a_refusal_can_be_read(wire: bytes, code: int) -> None:
    reply = refusal(wire, code)
    assert reply[:2] == wire[:2]
    assert reply[3] & 0x0F == code
    assert len(reply) <= len(wire)


@given(st.binary(max_size=80))
def test_S_DNS_where_a_question_ends(data: bytes) -> None:
    wire = b"ab\1\0\0\1\0\0\0\0\0\0" + data
    end = question_end(wire)
    try:
        question = dns.message.from_wire(wire, question_only=True).question[0]
    except (dns.exception.DNSException, IndexError):
        return
    if end:
        assert len(question.name.to_wire() or b"") + 4 == end - 12


def test_S_DNS_plain_questions_are_read_without_the_library() -> None:
    for wire in (query("a.b_c.example.com"), query(D, "SOA", use_edns=0, payload=4096, options=[COOKIE])):
        message, plain = dns.message.from_wire(wire), read(wire)
        assert plain is not None
        assert plain.name == message.question[0].name.to_text(omit_final_dot=True).lower()
        assert (plain.kind, plain.end) == (message.question[0].rdtype, question_end(wire))
        assert plain.payload == (message.payload if message.edns == 0 else -1)
    for wire in (query("."), query("a\\.b.test"), query("x", use_edns=1), query("x", rdclass="CH"), query("x") + b"x"):
        assert read(wire) is None


_labels = st.lists(st.text("abXY09-_", min_size=1, max_size=20), min_size=1, max_size=5).map(".".join)
_names = st.one_of(
    _labels,
    _labels.map(lambda name: f"{name}.{D}"),
    st.sampled_from(["9.9.85.10.in-addr.arpa", f"default.pod.{D}", "WEB"]),
)


@given(
    _names, st.sampled_from(["A", "AAAA", "PTR", "TXT", "ANY", "SRV", "AXFR"]), st.sampled_from([-1, 0]), st.booleans()
)
def test_S_DNS_without_the_library_the_answer_is_the_same(name: str, kind: str, edns: int, tcp: bool) -> None:
    wire = query(name, kind, use_edns=edns, options=[COOKIE] if edns == 0 else None)
    answers = fresh()
    quick, whole = answers._quick(wire, tcp), answers._work_out(wire, tcp)
    if quick is None or isinstance(quick, Forward) or isinstance(whole, Forward):
        assert quick is None or quick == whole
        return
    first, second = (dns.message.from_wire(wire[:2] + one[0]) for one in (quick, whole))
    assert first.to_text() == second.to_text()


@given(damaged(), st.booleans())
def test_S_DNS_without_the_library_nothing_is_taken_for_plain_that_is_not(wire: bytes, tcp: bool) -> None:
    plain = read(wire)
    if plain is not None and not wire[2] & 0x80:
        message = dns.message.from_wire(wire)
        assert message.question[0].name.to_text(omit_final_dot=True).lower() == plain.name
        assert (message.question[0].rdtype, message.question[0].rdclass) == (plain.kind, 1)
        assert (message.edns, message.payload if message.edns == 0 else -1) == (
            0 if plain.payload >= 0 else -1,
            plain.payload,
        )
