"""Netlink on the wire, compared with bytes written down by hand; and how pyroute2 is imported."""

from __future__ import annotations

import errno
import struct
import subprocess
import sys
from ipaddress import IPv4Network

import pytest

from nsrun.network import netlink
from nsrun.network.hostports import HostPort, PodPort
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
    text = ruleset("nsrun_1", IPv4Network("10.85.0.0/16"))
    lines = [line.strip() for line in text.splitlines()]
    assert lines[:3] == ["add table ip nsrun_1", "delete table ip nsrun_1", "table ip nsrun_1 {"]
    assert "ip saddr 10.85.0.0/16 ip daddr != { 10.85.0.0/16, 224.0.0.0/4 } masquerade" in lines


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
    network = IPv4Network("10.85.0.0/16")
    published = {
        HostPort("tcp", "", 80): PodPort("10.85.0.2", 8080),
        HostPort("udp", "192.0.2.1", 53): PodPort("10.85.0.3", 53),
    }
    text = ruleset("nsrun_1", network, "nsrun0", published)
    assert "elements = { tcp . 80 : 10.85.0.2 . 8080 }" in text
    assert "elements = { udp . 192.0.2.1 . 53 : 10.85.0.3 . 53 }" in text
    assert text.index("@address_ports") < text.index("@ports")
    assert 'iifname "nsrun0" ip daddr 127.0.0.0/8 drop' in text
    # One transaction, whatever the table was.
    assert text.startswith("add table ip nsrun_1\ndelete table ip nsrun_1\ntable ip nsrun_1 {\n")
    bare = ruleset("nsrun_1", network, "nsrun0", {})
    assert bare == ruleset("nsrun_1", network)
    assert "prerouting" not in bare
