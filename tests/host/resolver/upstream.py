"""A name server that says what the test wants of it."""

from __future__ import annotations

import contextlib
import select
import socket
import threading
from types import TracebackType

import dns.flags
import dns.message
import dns.rcode
import dns.rrset

BIG = 40
"""Texts of `big.test`: more than a datagram holds."""


class Upstream:
    """Answers everything, over UDP and TCP: `NAME A` with 192.0.2.7, `big.test TXT` with much, what ends in `.missing` with NXDOMAIN.

    Args:
        address: on this machine.

    Attributes:
        mode: "" for that, "silent", "refuse" (SERVFAIL), "lie" (forged answers first).
        asked: the names, with the protocol.
        places: where UDP questions came from: id and port.
    """

    def __init__(self, address: str) -> None:
        self.address = address
        self.mode = ""
        self.asked: list[tuple[str, str]] = []
        self.places: list[tuple[int, int]] = []
        self._udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._tcp = socket.create_server((address, 53), backlog=64)
        self._udp.bind((address, 53))
        self._stop, self._stopped = socket.socketpair()
        self._thread = threading.Thread(target=self._serve)

    def __enter__(self) -> Upstream:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, where: TracebackType | None
    ) -> None:
        self._stop.close()
        self._thread.join()
        for one in (self._udp, self._tcp, self._stopped):
            one.close()

    def _serve(self) -> None:
        while True:
            ready, _, _ = select.select([self._stopped, self._udp, self._tcp], [], [])
            if self._stopped in ready:
                return
            if self._udp in ready:
                data, place = self._udp.recvfrom(65535)
                query = dns.message.from_wire(data)
                self.asked.append((query.question[0].name.to_text(), "udp"))
                self.places.append((query.id, place[1]))
                if self.mode == "silent":
                    continue
                limit = 512 if query.edns < 0 else max(query.payload, 512)
                if self.mode == "lie":
                    for wrong in self._lies(query):
                        self._udp.sendto(wrong, place)
                self._udp.sendto(self._answer(query).to_wire(max_size=limit, prefer_truncation=True), place)
            if self._tcp in ready:
                connection, _ = self._tcp.accept()
                with connection, contextlib.suppress(OSError):
                    connection.settimeout(5)
                    size = int.from_bytes(connection.recv(2), "big")
                    query = dns.message.from_wire(connection.recv(size))
                    self.asked.append((query.question[0].name.to_text(), "tcp"))
                    wire = self._answer(query).to_wire(max_size=65535)
                    # In pieces, as networks have it.
                    framed = len(wire).to_bytes(2, "big") + wire
                    connection.sendall(framed[:1])
                    connection.sendall(framed[1:])

    def _answer(self, query: dns.message.Message) -> dns.message.Message:
        answer = dns.message.make_response(query, recursion_available=True)
        question = query.question[0]
        name = question.name.to_text().lower()
        if self.mode == "refuse":
            answer.set_rcode(dns.rcode.SERVFAIL)
        elif name.endswith(".missing."):
            answer.set_rcode(dns.rcode.NXDOMAIN)
        elif name == "big.test.":
            texts = [f'"{number:03} {"x" * 60}"' for number in range(BIG)]
            answer.answer.append(dns.rrset.from_text_list(question.name, 60, "IN", "TXT", texts))
        else:
            answer.answer.append(dns.rrset.from_text(question.name, 60, "IN", "A", "192.0.2.7"))
        return answer

    def _lies(self, query: dns.message.Message) -> list[bytes]:
        """What somebody who guesses would send: another id, another question, no answer at all."""
        lie = dns.message.make_response(query)
        lie.answer.append(dns.rrset.from_text(query.question[0].name, 60, "IN", "A", "203.0.113.66"))
        wire = lie.to_wire()
        other = dns.message.make_response(dns.message.make_query("other.test", "A"))
        other.id = query.id
        return [bytes((wire[0] ^ 1, *wire[1:])), other.to_wire(), wire[:2] + b"\1" + wire[3:], wire[:5], b""]
