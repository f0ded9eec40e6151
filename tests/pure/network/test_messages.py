"""Netlink on the wire, compared with bytes written down by hand; and how pyroute2 is imported."""

from __future__ import annotations

import errno
import socket
import struct
import subprocess
import sys
from ipaddress import IPv4Network, IPv6Network
from typing import cast

import pytest

from nsrun.network import netlink
from nsrun.network.addressing import Ranges
from nsrun.network.hostports import HostPort, PodPort, Rules
from nsrun.network.masquerade import ruleset


def attribute(code: int, data: bytes) -> bytes:
    return struct.pack("=HH", 4 + len(data), code) + data + bytes(-len(data) % 4)


def test_link_request() -> None:
    request = netlink.link(
        netlink.RTM_NEWLINK, netlink.NLM_F_CREATE, [("IFLA_IFNAME", "nsrx"), ("IFLA_MASTER", 7)], up=True
    )
    body = struct.pack("=BBHiII", 0, 0, 0, 0, 1, 1) + attribute(3, b"nsrx\0") + attribute(10, struct.pack("=I", 7))
    assert (
        request == struct.pack("=IHHII", 16 + len(body), 16, 0x401, struct.unpack_from("=I", request, 8)[0], 0) + body
    )


def test_address_request() -> None:
    request = netlink.address(netlink.RTM_NEWADDR, 0, 5, "10.85.0.2", 16, "10.85.255.255")
    addresses = (
        attribute(2, bytes([10, 85, 0, 2]))
        + attribute(1, bytes([10, 85, 0, 2]))
        + attribute(4, bytes([10, 85, 255, 255]))
    )
    assert request[16:] == struct.pack("=BBBBI", 2, 16, 0, 0, 5) + addresses


def test_default_route_request() -> None:
    request = netlink.route(
        netlink.RTM_NEWROUTE,
        0,
        {"table": 254, "proto": 3, "scope": 0, "type": 1, "dst_len": 0},
        [("RTA_GATEWAY", "10.85.0.1"), ("RTA_OIF", 5)],
    )
    body = struct.pack("=BBBBBBBBI", 2, 0, 0, 0, 254, 3, 0, 1, 0)
    assert request[16:] == body + attribute(5, bytes([10, 85, 0, 1])) + attribute(4, struct.pack("=I", 5))


def test_link_answer() -> None:
    info = attribute(1, b"bridge\0")
    payload = struct.pack("=BBHiII", 0, 0, 1, 9, 0x1003, 0)
    payload += attribute(3, b"nsrun0\0") + attribute(4, struct.pack("=I", 1450)) + attribute(10, struct.pack("=I", 3))
    payload += attribute(1, bytes(range(6))) + attribute(27, struct.pack("=I", 77)) + attribute(18 | 0x8000, info)
    assert netlink.parse_link(payload) == netlink.Link(9, "nsrun0", True, "bridge", 3, 1450, "00:01:02:03:04:05", 77)


@pytest.mark.parametrize("capped", [True, False])
def test_extended_words_of_an_error(capped: bool) -> None:
    request = struct.pack("=IHHII", 24, 16, 5, 1, 0) + bytes(8)
    told = (
        struct.pack("=i", -errno.EINVAL)
        + (request[:16] if capped else request)
        + attribute(1, b"Unknown device type\0")
    )
    flags = netlink.NLM_F_ACK_TLVS | (netlink.NLM_F_CAPPED if capped else 0)
    assert netlink._error(flags, told) == (errno.EINVAL, "Unknown device type")
    assert netlink._error(0, struct.pack("=i", -errno.ENODEV) + request) == (errno.ENODEV, "")


def test_answer_check() -> None:
    assert netlink.Answer(0, "", []).check().error == 0
    assert netlink.Answer(errno.ENODEV, "", []).check(errno.ENODEV).error == errno.ENODEV
    with pytest.raises(netlink.NetlinkError, match="Unknown device type") as caught:
        netlink.Answer(errno.EOPNOTSUPP, "Unknown device type", []).check(errno.ENODEV)
    assert caught.value.errno == errno.EOPNOTSUPP


def test_ruleset_replaces_the_whole_table() -> None:
    text = ruleset("nsrun_1", Ranges(IPv4Network("10.85.0.0/16")), "nsrun0", Rules({}))
    lines = [line.strip() for line in text.splitlines()]
    assert lines[:3] == ["add table ip nsrun_1", "delete table ip nsrun_1", "table ip nsrun_1 {"]
    assert "ip saddr 10.85.0.0/16 ip daddr != { 10.85.0.0/16, 224.0.0.0/4 } masquerade" in lines
    assert "ip6" not in text
    both = ruleset(
        "nsrun_1", Ranges(IPv4Network("10.85.0.0/16"), IPv6Network("fd00::/64")), "nsrun0", Rules({})
    ).splitlines()
    assert both[: len(lines)] == text.splitlines()
    assert both[len(lines) :][:3] == ["add table ip6 nsrun_1", "delete table ip6 nsrun_1", "table ip6 nsrun_1 {"]
    assert "    ip6 saddr fd00::/64 ip6 daddr != { fd00::/64, fe80::/10, ff00::/8 } masquerade" in both


def run(script: str) -> str:
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    return done.stdout.strip()


def test_importing_the_network_does_not_import_pyroute2() -> None:
    assert run("import sys, nsrun.network; print([name for name in sys.modules if 'pyroute2' in name])") == "[]"


def test_only_the_message_classes_are_imported_and_no_trace_is_left() -> None:
    script = (
        "import sys; from nsrun.network import netlink; netlink.messages();"
        "print(len([name for name in sys.modules if name.startswith('pyroute2')]));"
        "import pyroute2; print(pyroute2.IPRoute.__name__);"
        "import pyroute2.netlink.rtnl.ifinfmsg; print(pyroute2.netlink.rtnl.ifinfmsg.ifinfmsg is netlink.messages().link);"
        "print(len(netlink.address(20, 0, 5, '10.0.0.1', 16)))"
    )
    assert run(script).split() == ["0", "IPRoute", "False", "40"]


def test_a_whole_pyroute2_that_is_there_already_is_used() -> None:
    script = (
        "import pyroute2, pyroute2.netlink.rtnl.ifinfmsg as m; from nsrun.network import netlink;"
        "print(netlink.messages().link is m.ifinfmsg)"
    )
    assert run(script) == "True"


def test_published_ports_are_maps_and_nothing_without_them() -> None:
    ranges = Ranges(IPv4Network("10.85.0.0/16"), IPv6Network("fd00::/64"))
    published = {
        HostPort("tcp", "", 80): PodPort("10.85.0.2", "fd00::2", 8080),
        HostPort("tcp", "0.0.0.0", 81): PodPort("10.85.0.2", "fd00::2", 8081),
        HostPort("sctp", "::", 82): PodPort("10.85.0.2", "fd00::2", 8082),
        HostPort("udp", "192.0.2.1", 53): PodPort("10.85.0.3", "fd00::3", 53),
        HostPort("udp", "fd00::1", 54): PodPort("10.85.0.3", "fd00::3", 53),
        HostPort("udp", "", 55): PodPort("10.85.0.4", "", 53),
    }
    text = ruleset("nsrun_1", ranges, "nsrun0", Rules(published))
    four, six = text.split("add table ip6")
    assert "elements = { tcp . 80 : 10.85.0.2 . 8080, tcp . 81 : 10.85.0.2 . 8081, udp . 55 : 10.85.0.4 . 53 }" in four
    assert "elements = { udp . 192.0.2.1 . 53 : 10.85.0.3 . 53 }" in four
    assert "elements = { sctp . 82 : fd00::2 . 8082, tcp . 80 : fd00::2 . 8080 }" in six
    assert "elements = { udp . fd00::1 . 54 : fd00::3 . 53 }" in six
    assert four.index("@address_ports") < four.index("@ports")
    assert 'iifname "nsrun0" ip daddr 127.0.0.0/8 drop' in four
    assert six.count("ip6 daddr != ::1 fib daddr type local jump to_pods") == 2
    # One transaction, whatever the table was.
    assert text.startswith("add table ip nsrun_1\ndelete table ip nsrun_1\ntable ip nsrun_1 {\n")
    assert "prerouting" not in ruleset("nsrun_1", ranges, "nsrun0", Rules({}))


def test_the_machines_own_resolver_is_no_pods_port() -> None:
    ranges = Ranges(IPv4Network("10.85.0.0/16"), IPv6Network("fd00::/64"))
    published = {HostPort("udp", "", 53): PodPort("10.85.0.2", "fd00::2", 53)}
    text = ruleset("nsrun_1", ranges, "nsrun0", Rules(published, spares_dns=True))
    for address in ("ip daddr 10.85.0.1", "ip6 daddr fd00::1"):
        rule = f"{address} meta l4proto {{ tcp, udp }} th dport 53 return"
        assert text.index("chain to_pods", text.index(rule) - 40) < text.index(rule) < text.rindex("@ports")
    assert "return" not in ruleset("nsrun_1", ranges, "nsrun0", Rules(published))


def test_what_is_packed_by_hand_is_what_pyroute2_makes_of_it() -> None:
    size, mac = ("IFLA_MTU", 1450), "0a:58:0a:55:00:09"
    there = [("IFLA_IFNAME", "eth0"), ("IFLA_NET_NS_FD", 11), ("IFLA_ADDRESS", mac), size]
    data = ("IFLA_INFO_DATA", {"attrs": [("VETH_INFO_PEER", {"attrs": there})]})
    info = ("IFLA_LINKINFO", {"attrs": [("IFLA_INFO_KIND", "veth"), data]})
    flags = netlink.NLM_F_CREATE | netlink.NLM_F_EXCL
    expected = netlink.link(netlink.RTM_NEWLINK, flags, [("IFLA_IFNAME", "nsrabcdef"), size, ("IFLA_MASTER", 3), info])
    ours = netlink.veth("nsrabcdef", 3, 1450, "eth0", 11, mac)
    assert ours[:8] + ours[16:] == expected[:8] + expected[16:]
    assert netlink.up(7) == netlink.link(netlink.RTM_NEWLINK, 0, [], index=7, up=True)
    plain = netlink.link(netlink.RTM_NEWLINK, 0, [size], up=True)
    assert netlink.at_index(plain, 7) == netlink.link(netlink.RTM_NEWLINK, 0, [size], index=7, up=True)
    for ip, prefix, broadcast in (("10.0.0.2", 16, "10.0.255.255"), ("10.0.0.2", 16, None), ("fd00::2", 64, None)):
        family = socket.AF_INET6 if ":" in ip else socket.AF_INET
        fields = {"family": family, "prefixlen": prefix, "index": 5, "scope": 0, "flags": 2 if ":" in ip else 0}
        attributes = [("IFA_LOCAL", ip), ("IFA_ADDRESS", ip), *([("IFA_BROADCAST", broadcast)] if broadcast else [])]
        expected = netlink._encode(netlink.messages().address, netlink.RTM_NEWADDR, 0, fields, attributes)
        ours = netlink.address(netlink.RTM_NEWADDR, 0, 5, ip, prefix, broadcast)
        assert ours[:8] + ours[16:] == expected[:8] + expected[16:]


class Kernel:
    """The other end of a netlink socket: says what it is told to."""

    def __init__(self, refuses: set[int]) -> None:
        self.refuses = refuses
        self.told: list[bytes] = []
        self.asked: list[bool] = []

    def settimeout(self, _: float) -> None:
        """As a socket's."""

    def setsockopt(self, *_: int) -> None:
        """As a socket's."""

    def sendto(self, packet: bytearray, _: object) -> None:
        """Answers as rtnetlink does: errors always, success where it is asked for."""
        for position, (code, flags, seq, body) in enumerate(netlink._split(bytes(packet))):
            self.asked.append(bool(flags & netlink.NLM_F_ACK))
            number = errno.EINVAL if position in self.refuses else 0
            if number or flags & netlink.NLM_F_ACK:
                answer = struct.pack("=i", -number) + netlink.HEADER.pack(16 + len(body), code, flags, seq, 0)
                self.told.append(netlink.HEADER.pack(16 + len(answer), netlink.NLMSG_ERROR, 0, seq, 0) + answer)

    def recv(self, _: int) -> bytes:
        """One packet for each answer."""
        return self.told.pop(0)


@pytest.mark.parametrize("refuses", [set(), {0}, {1}, {2}, {0, 2}, {0, 1, 2}])
def test_of_several_changes_the_last_alone_is_acknowledged_and_no_refusal_is_missed(refuses: set[int]) -> None:
    kernel = Kernel(refuses)
    route = netlink.NetlinkSocket(cast("socket.socket", kernel))
    answers = route.ask(netlink.up(1), netlink.up(2), netlink.up(3))
    assert {at for at, answer in enumerate(answers) if answer.error} == refuses
    assert kernel.asked == [False, False, True]
    assert not kernel.told


def test_no_link_local_is_what_ip_link_set_addrgenmode_none_sends() -> None:
    request = netlink.no_link_local(7)
    body = struct.pack("=BBHiII", 0, 0, 0, 7, 0, 0) + attribute(26, attribute(10, attribute(8, b"\1")))
    assert request[16:] == body
    assert struct.unpack_from("=IH", request) == (len(request), netlink.RTM_SETLINK)
    named = netlink.no_link_local(name="nsrx")
    assert struct.unpack_from("=I", named)[0] == len(named)
    assert named.endswith(body[16:])


def test_an_ipv6_address_waits_for_no_double() -> None:
    request = netlink.address(netlink.RTM_NEWADDR, 0, 5, "fd00::2", 64)
    assert request[16:24] == struct.pack("=BBBBI", 10, 64, 2, 0, 5)
    plain = netlink.address(netlink.RTM_NEWADDR, 0, 5, "10.0.0.2", 16)
    assert plain[16:24] == struct.pack("=BBBBI", 2, 16, 0, 0, 5)


def test_between_networks_nothing_is_translated_and_isolated_ones_are_kept_apart() -> None:
    ranges = Ranges(IPv4Network("10.85.0.0/16"), IPv6Network("fd00::/64"))
    text = ruleset("nsrun_1", ranges, "nsrun0", Rules({}, beside=("b1", "b2")))
    assert text.count('oifname != { "b1", "b2" } masquerade') == 2
    assert "apart" not in text
    four, six = ruleset("nsrun_1", ranges, "nsrun0", Rules({}, beside=("b1", "b2"), isolated=True)).split(
        "table ip6 n", 1
    )
    for half, icmp in ((four, "icmp"), (six, "icmpv6")):
        for way in ('iifname "nsrun0" oifname { "b1", "b2" }', 'iifname { "b1", "b2" } oifname "nsrun0"'):
            assert f"{way} ct status & dnat != dnat reject with {icmp} type admin-prohibited" in half
    alone = ruleset("nsrun_1", ranges, "nsrun0", Rules({}, isolated=True))
    assert alone == ruleset("nsrun_1", ranges, "nsrun0", Rules({}))
    port = {HostPort("udp", "", 53): PodPort("10.85.0.2", "fd00::2", 53)}
    spared = ruleset("nsrun_1", ranges, "nsrun0", Rules(port, spares_dns=True, beside=("b1",)))
    assert spared.count('iifname { "b1" } fib daddr . iif type local meta l4proto { tcp, udp } th dport 53 return') == 2
