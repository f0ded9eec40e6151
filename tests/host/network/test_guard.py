"""A pod that forges: every kind of frame is dropped, the others keep what is theirs."""

from __future__ import annotations

import json
import os
import select
import socket
import struct
import time

import pytest

from nsrun.errors import UnsupportedError
from nsrun.network import PodAddress, guard
from nsrun.network.addressing import link_local_of
from tests.host.network.conftest import Lab
from tests.host.network.pods import Pod, inside, reach

pytestmark = [pytest.mark.requires("root", "bridge", "nftables", "ipv6"), pytest.mark.timeout(60)]

EVERYBODY = "ff:ff:ff:ff:ff:ff"
ALL_NODES = "ff02::1"
ETH_P_ALL = 3


def mac(text: str) -> bytes:
    return bytes.fromhex(text.replace(":", ""))


def frame(source: str, kind: int, payload: bytes, to: str = EVERYBODY) -> bytes:
    return mac(to) + mac(source) + struct.pack("!H", kind) + payload


def ipv4(source: str, to: str, payload: bytes) -> bytes:
    udp = struct.pack("!HHHH", 9, 9, 8 + len(payload), 0) + payload
    header = (
        struct.pack("!BBHHHBBH", 0x45, 0, 20 + len(udp), 0, 0, 64, 17, 0)
        + socket.inet_aton(source)
        + socket.inet_aton(to)
    )
    words = struct.unpack("!10H", header)
    total = sum(words)
    total = (total & 0xFFFF) + (total >> 16)
    return header[:10] + struct.pack("!H", ~(total + (total >> 16)) & 0xFFFF) + header[12:] + udp


def ipv6(source: str, to: str, payload: bytes, kind: int = 58, options: bool = False) -> bytes:
    if options:
        # A header of padding in front of the message.
        payload, kind = bytes((kind, 0, 1, 4, 0, 0, 0, 0)) + payload, 0
    addresses = socket.inet_pton(socket.AF_INET6, source) + socket.inet_pton(socket.AF_INET6, to)
    return struct.pack("!IHBB", 6 << 28, len(payload), kind, 255) + addresses + payload


def advertisement(target: str, of: str) -> bytes:
    """A neighbour advertisement: target is at this MAC address, whatever was known before."""
    return (
        struct.pack("!BBHI", 136, 0, 0, 0x20000000) + socket.inet_pton(socket.AF_INET6, target) + b"\x02\x01" + mac(of)
    )


def arp(operation: int, sender: str, sender_ip: str, about: str) -> bytes:
    who = mac(sender) + socket.inet_aton(sender_ip)
    return struct.pack("!HHBBH", 1, 0x800, 6, 4, operation) + who + bytes(6) + socket.inet_aton(about)


def forged(me: PodAddress, other: PodAddress, reader: PodAddress) -> dict[str, bytes]:
    """What none may send."""
    local = link_local_of(me.mac)
    router = struct.pack("!BBHBBHII", 134, 0, 0, 64, 0, 1800, 0, 0) + b"\x01\x01" + mac(me.mac)
    redirect = struct.pack("!BBHI", 137, 0, 0, 0) + socket.inet_pton(socket.AF_INET6, other.ip6) * 2
    frames = {
        "another's IPv4 address": frame(me.mac, 0x800, ipv4(other.ip, reader.ip, b"forged")),
        "the machine's IPv4 address": frame(me.mac, 0x800, ipv4(me.gateway, reader.ip, b"forged")),
        "an address of the world": frame(me.mac, 0x800, ipv4("192.0.2.9", reader.ip, b"forged")),
        "no address": frame(me.mac, 0x800, ipv4("0.0.0.0", "255.255.255.255", b"forged")),
        "another's MAC": frame(other.mac, 0x800, ipv4(me.ip, reader.ip, b"forged")),
        "another's MAC and address": frame(other.mac, 0x800, ipv4(other.ip, reader.ip, b"forged")),
        "another's IPv6 address": frame(me.mac, 0x86DD, ipv6(other.ip6, ALL_NODES, bytes(8), 59)),
        "another's link-local address": frame(me.mac, 0x86DD, ipv6(link_local_of(other.mac), ALL_NODES, bytes(8), 59)),
        "an ARP answer for another": frame(me.mac, 0x806, arp(2, me.mac, other.ip, reader.ip)),
        "an ARP question as the machine": frame(me.mac, 0x806, arp(1, me.mac, me.gateway, reader.ip)),
        "an ARP answer with another's MAC": frame(me.mac, 0x806, arp(2, other.mac, me.ip, reader.ip)),
        "a neighbour advertisement for another": frame(
            me.mac, 0x86DD, ipv6(me.ip6, ALL_NODES, advertisement(other.ip6, me.mac))
        ),
        "one for the machine": frame(me.mac, 0x86DD, ipv6(local, ALL_NODES, advertisement(me.gateway6, me.mac))),
        "one behind options": frame(
            me.mac, 0x86DD, ipv6(me.ip6, ALL_NODES, advertisement(other.ip6, me.mac), options=True)
        ),
        "a router advertisement": frame(me.mac, 0x86DD, ipv6(local, ALL_NODES, router)),
        "a redirect": frame(me.mac, 0x86DD, ipv6(local, ALL_NODES, redirect)),
        "a VLAN": frame(me.mac, 0x8100, struct.pack("!HH", 5, 0x800) + ipv4(other.ip, reader.ip, b"forged")),
        "a VLAN of its own address": frame(
            me.mac, 0x8100, struct.pack("!HH", 5, 0x800) + ipv4(me.ip, reader.ip, b"forged")
        ),
        "another protocol": frame(me.mac, 0x88B5, b"forged" * 10),
    }
    for number in (0, 2, 3, 14, 15):
        frames[f"reserved address {number}"] = frame(
            other.mac, 0x800, ipv4(other.ip, reader.ip, b""), f"01:80:c2:00:00:{number:02x}"
        )
    return frames


def genuine(me: PodAddress, reader: PodAddress) -> dict[str, bytes]:
    """What it may."""
    return {
        "IPv6": frame(me.mac, 0x86DD, ipv6(me.ip6, ALL_NODES, bytes(8), 59)),
        "link-local": frame(me.mac, 0x86DD, ipv6(link_local_of(me.mac), ALL_NODES, bytes(8), 59)),
        "ARP": frame(me.mac, 0x806, arp(1, me.mac, me.ip, reader.ip)),
        "its own advertisement": frame(me.mac, 0x86DD, ipv6(me.ip6, ALL_NODES, advertisement(me.ip6, me.mac))),
        "IPv4": frame(me.mac, 0x800, ipv4(me.ip, reader.ip, b"the last")),
    }


def raw(pod: Pod) -> socket.socket:
    made = inside(pod.netns, lambda: socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(ETH_P_ALL)))
    made.bind(("eth0", ETH_P_ALL))
    made.settimeout(5)
    pod.sockets.append(made)
    return made


def until_last(ear: socket.socket) -> list[bytes]:
    """All frames up to the one that says that it is the last."""
    seen: list[bytes] = []
    while not seen or b"the last" not in seen[-1]:
        seen.append(ear.recv(2048))
    return seen


def test_a_forging_pod_is_not_heard_and_the_victim_goes_on(lab: Lab) -> None:
    (attacker, me), (victim, other), (reader, third) = lab.attached(), lab.attached(), lab.attached()
    assert lab.network.status()["warnings"] == []
    server = victim.listen(other.ip)
    # Everybody knows everybody's true address.
    assert reach(reader.tcp(), server) == third.ip
    mouth, ear = raw(attacker), raw(reader)
    wrong, right = forged(me, other, third), genuine(me, third)
    for one in (*wrong.values(), *right.values()):
        mouth.send(one)
    heard = until_last(ear)
    assert {kind for kind, one in wrong.items() if one in heard} == set()
    assert [one for one in heard if b"forged" in one] == []
    assert {kind for kind, one in right.items() if one not in heard} == set()
    # Neither does the bridge send the attacker what is the victim's, nor do others believe it.
    table = json.loads(lab.host.run("bridge", "-json", "fdb", "show", "br", lab.bridge).stdout)
    places = {entry["ifname"] for entry in table if entry["mac"] == other.mac}
    assert places == {lab.network.config.link_name(victim.uid)}
    for pid in (str(reader.pid), "1"):
        known = lab.host.run("nsenter", "--net", "--target", pid, "ip", "neigh", "show").stdout.splitlines()
        false = [
            line for line in known if me.mac in line and line.split()[0] not in (me.ip, me.ip6, link_local_of(me.mac))
        ]
        assert false == []
    assert reach(reader.tcp(), server) == third.ip
    # It is the guard: without it all of this would have been heard, but for what the bridge itself keeps.
    lab.host.run("nft", "delete", "table", "bridge", lab.network.config.table)
    for one in (*wrong.values(), right["IPv4"]):
        mouth.send(one)
    heard = until_last(ear)
    silent = {kind for kind, one in wrong.items() if one not in heard}
    assert all(kind.startswith(("reserved", "a VLAN")) for kind in silent)


def test_the_guard_comes_back_and_follows_the_pods(lab: Lab) -> None:
    (attacker, me), (_, other), (reader, third) = lab.attached(), lab.attached(), lab.attached()
    lab.host.run("nft", "delete", "table", "bridge", lab.network.config.table)
    lab.host.run("ip", "link", "delete", lab.bridge)
    fourth, fourth_at = lab.attached()
    mouth, ear = raw(attacker), raw(reader)
    wrong = frame(me.mac, 0x800, ipv4(other.ip, third.ip, b"forged"))
    for one in (wrong, frame(me.mac, 0x800, ipv4(me.ip, third.ip, b"the last"))):
        mouth.send(one)
    assert wrong not in until_last(ear)
    assert reach(fourth.tcp(six=True), reader.listen(third.ip6)) == fourth_at.ip6
    listed = lab.host.run("nft", "list", "table", "bridge", lab.network.config.table).stdout
    assert listed.count(fourth_at.mac) == 3
    lab.run(lab.network.detach(fourth.uid))
    assert fourth_at.mac not in lab.host.run("nft", "list", "table", "bridge", lab.network.config.table).stdout
    # A new server has the same.
    later = lab.again()
    lab.run(later.open())
    assert lab.host.run("nft", "list", "table", "bridge", lab.network.config.table).stdout.count(me.mac) == 3


def test_a_kernel_that_cannot_is_told_of_and_macs_stay_where_they_are(
    lab: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise UnsupportedError("no bridges in this nft", resolution="none")

    monkeypatch.setattr(guard, "install", refuse)
    (attacker, me), (victim, other) = lab.attached(), lab.attached()
    assert any("pretend to be another" in words for words in lab.network.status()["warnings"])
    ear = raw(attacker)
    raw(attacker).send(frame(other.mac, 0x800, ipv4(me.ip, other.gateway, b"")))
    with socket.socket() as client:
        assert reach(client, victim.listen(other.ip)) == other.gateway
    deadline = time.monotonic() + 0.2
    while (left := deadline - time.monotonic()) > 0 and select.select([ear], [], [], left)[0]:
        assert mac(other.mac) != ear.recv(2048)[:6]
    assert os.path.exists(f"/sys/class/net/{lab.bridge}")
