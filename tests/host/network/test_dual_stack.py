"""IPv6 beside IPv4: who reaches whom, at once; and a machine that keeps its own way out."""

from __future__ import annotations

import contextlib
import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from ipaddress import IPv6Address, IPv6Network
from pathlib import Path

import pytest

from nsrun.errors import ConflictError
from nsrun.network import netlink
from nsrun.network.hostports import HostPort
from nsrun.network.netlink import NetlinkSocket
from tests.host import testhost
from tests.host.network.conftest import Lab
from tests.host.network.pods import ask_outside, reach

CONF = Path("/proc/sys/net/ipv6/conf")
pytestmark = [pytest.mark.requires("root", "bridge", "nftables", "ipv6"), pytest.mark.timeout(120)]

ADVERTISE = """
import socket, struct, sys
sock = socket.socket(socket.AF_INET6, socket.SOCK_RAW, socket.IPPROTO_ICMPV6)
sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_MULTICAST_HOPS, 255)
sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_MULTICAST_IF, socket.if_nametoindex("in0"))
prefix = socket.inet_pton(socket.AF_INET6, sys.argv[1])
# RFC 4861: a router for 1,800 s, with one prefix from which addresses are made.
sock.sendto(
    struct.pack("!BBHBBHII", 134, 0, 0, 64, 0, 1800, 0, 0) + struct.pack("!BBBBIII", 3, 4, 64, 0xC0, 3600, 3600, 0) + prefix,
    ("ff02::1", 0, 0, socket.if_nametoindex("in0")),
)
"""


@pytest.fixture(autouse=True)
def as_before(lab: Lab) -> Iterator[None]:
    """The sysctls of the test host, which its other tests share."""
    (CONF / "all/forwarding").write_text("0")
    yield
    (CONF / "default/disable_ipv6").write_text("0")


@contextlib.contextmanager
def all_processors_busy() -> Iterator[None]:
    """The kernel's workers wait for their turn."""
    count = (os.cpu_count() or 1) + 1
    busy = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(count)]
    try:
        yield
    finally:
        for process in busy:
            process.kill()
            process.wait()


def test_S_NET_what_is_sent_to_an_ipv6_address_is_the_pods_own_when_attach_returns(lab: Lab) -> None:
    with all_processors_busy():
        for _ in range(40):
            pod, at = lab.attached()
            with contextlib.closing(NetlinkSocket.borrow(pod.netlink)) as inside:
                (answer,) = inside.ask(netlink.way_to(at.ip6))
            assert answer.payloads[0][7] == netlink.RTN_LOCAL


def test_S_NET_pods_the_machine_and_the_world_by_ipv6_at_once(lab: Lab) -> None:
    one, one_at = lab.attached()
    server = one.listen(one_at.ip6)
    assert IPv6Network((one_at.ip6, one_at.prefix6), strict=False).subnet_of(IPv6Network("fd00::/8"))
    machine = lab.host.machine
    took = []
    for _ in range(3):
        two = lab.pod()
        client = two.tcp(six=True)
        two_at = lab.attach(two)
        started = time.monotonic()
        assert reach(client, server) == two_at.ip6
        took.append(time.monotonic() - started)
    # Looking for a double of the address would take one to two seconds, and so would a lost answer to the question for a neighbour.
    assert max(took) < 0.9
    with socket.socket(socket.AF_INET6) as host:
        host.settimeout(5)
        assert reach(host, two.listen(two_at.ip6)) == two_at.gateway6
    for address in (two_at.gateway6, testhost.HOST_ADDRESS6):
        with socket.create_server((address, 0), family=socket.AF_INET6) as listening:
            listening.settimeout(5)
            assert reach(two.tcp(six=True), listening) == two_at.ip6
    for address in (testhost.GATEWAY6, testhost.BEYOND6):
        assert ask_outside(two.tcp(six=True), address, machine.port) == testhost.HOST_ADDRESS6
    shown = json.loads(lab.host.in_network(two.pid, "ip", "-6", "-json", "address", "show", "eth0"))[0]["addr_info"]
    assert sorted((each["scope"], each["local"]) for each in shown) == [
        ("global", two_at.ip6),
        ("link", str(IPv6Address(b"\xfe\x80" + bytes(6) + _eui(two_at.mac)))),
    ]
    assert not any(each.get("tentative") for each in shown)
    # Ports have no address, and what comes from pods makes no router of anybody.
    assert "inet6" not in lab.host.run("ip", "address", "show", lab.network.config.link_name(two.uid)).stdout
    assert (CONF / lab.bridge / "accept_ra").read_text() == "0\n"
    assert lab.network.gateways() == (two_at.gateway, two_at.gateway6)
    assert lab.network.place() == (
        lab.network.gateways(),
        (lab.network.status()["range"], lab.network.status()["range6"]),
    )


def _eui(mac: str) -> bytes:
    first, *rest = bytes.fromhex(mac.replace(":", ""))
    return bytes((first ^ 2, *rest[:2])) + b"\xff\xfe" + bytes(rest[2:])


def test_the_machine_goes_on_listening_to_its_router(lab: Lab) -> None:
    """Forwarding alone would make the kernel drop the default route at once, and the addresses when they expire."""
    out = CONF / testhost.LINK
    for name, value in (("accept_ra", "1"), ("forwarding", "0"), ("autoconf", "1")):
        (out / name).write_text(value)
    try:
        advertise_until(lab, "2001:db8:7::", "default", "proto ra")
        lab.attached()
        assert (CONF / "all/forwarding").read_text() == "1\n"
        assert (out / "accept_ra").read_text() == "2\n"
        assert "proto ra" in lab.host.run("ip", "-6", "route", "show", "default").stdout
        advertise_until(lab, "2001:db8:8::", "2001:db8:8::/64", "proto")
    finally:
        lab.host.run("sh", "-c", f"ip -6 route flush proto ra; ip -6 address flush dev {testhost.LINK} dynamic")


def advertise_until(lab: Lab, prefix: str, destination: str, word: str) -> None:
    deadline = time.monotonic() + 10
    while word not in lab.host.run("ip", "-6", "route", "show", destination).stdout:
        assert time.monotonic() < deadline, destination
        # Again and again: the router's own address on the link may have to wait for a double of it.
        lab.host.outside(sys.executable, "-c", ADVERTISE, prefix)
        time.sleep(0.05)


def test_a_router_that_does_not_listen_is_left_alone(lab: Lab) -> None:
    out = CONF / testhost.LINK
    (CONF / "all/forwarding").write_text("1")
    (out / "accept_ra").write_text("1")
    lab.attached()
    assert (out / "accept_ra").read_text() == "1\n"


def test_families_decide_what_pods_get_and_in_which_order(lab: Lab) -> None:
    pod = lab.pod()
    six_first = lab.again({"families": ["ipv6", "ipv4"], "range6": "fd12:3456::/64"})
    ips = lab.run(six_first.reserve(pod.uid))
    assert ips == ("fd12:3456::2", "10.85.0.2")
    place = lab.run(six_first.attach(pod.uid, pod.netns, pod.netlink))
    assert place.in_order(six_first.config.families) == ips
    assert six_first.gateways() == ("fd12:3456::1", "10.85.0.1")
    # While a pod has it, a later server keeps it, whatever its configuration says.
    four = lab.again({"families": ["ipv4"]})
    lab.run(four.open())
    assert four.status()["range6"] == "fd12:3456::/64"
    lab.run(six_first.close(remove=True))
    place = lab.run(lab.again({"families": ["ipv4"]}).attach(pod.uid, pod.netns, pod.netlink))
    assert place.ip6 == ""
    assert "inet6" not in lab.host.run("ip", "address", "show", "dev", lab.bridge, "scope", "global").stdout
    assert "ip6" not in lab.host.run("nft", "list", "tables").stdout


def test_the_roots_own_prefix_is_made_once(lab: Lab) -> None:
    lab.attached()
    first = lab.network.status()["range6"]
    for pod in lab.pods:
        pod.close()
    lab.run(lab.network.close(remove=True))
    lab.attached()
    assert lab.network.status()["range6"] == first
    assert IPv6Network(first).prefixlen == 64


def test_a_machine_without_ipv6_is_told_of_and_pods_do_without(lab: Lab) -> None:
    (CONF / "default/disable_ipv6").write_text("1")
    pod, at = lab.attached()
    assert at.ip6 == ""
    assert "inet6" not in lab.host.in_network(pod.pid, "ip", "address", "show", "eth0", "scope", "global")
    assert lab.network.gateways() == (at.gateway,)
    assert any("no IPv6" in warning for warning in lab.network.status()["warnings"])
    other = lab.pod()
    lab.network.wanted_ports = lambda: {other.uid: {HostPort("tcp", "::1", 20900): 80}}
    with pytest.raises(ConflictError, match="20900 is asked for at ::1"):
        lab.attach(other)
    lab.network.wanted_ports = dict
    # A pod that switches it off for itself has the rest.
    (CONF / "default/disable_ipv6").write_text("0")
    for each in lab.pods:
        each.close()
    lab.run(lab.network.close(remove=True))
    last = lab.pod()
    lab.host.in_network(last.pid, "sysctl", "-qw", "net.ipv6.conf.default.disable_ipv6=1")
    assert lab.attach(last).ip6 == ""
    assert "default via" in lab.host.in_network(last.pid, "ip", "route")


def test_a_range_of_ipv6_that_the_machine_uses_is_not_taken(lab: Lab) -> None:
    lab.host.run("ip", "-6", "route", "add", "fd12:3456:0:0:8000::/65", "via", testhost.GATEWAY6)
    try:
        network = lab.again({"range6": ["fd12:3456::/64", "fd12:9999::/64"]})
        pod = lab.pod()
        assert lab.run(network.attach(pod.uid, pod.netns, pod.netlink)).ip6 == "fd12:9999::2"
        lab.run(network.close(remove=True))
        network = lab.again({"range6": "fd12:3456::/64"})
        lab.run(network.open())
        assert any("fd12:3456::/64 (by fd12:3456:0:0:8000::/65)" in words for words in network.status()["warnings"])
    finally:
        lab.host.run("ip", "-6", "route", "delete", "fd12:3456:0:0:8000::/65")
