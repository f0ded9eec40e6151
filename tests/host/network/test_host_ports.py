"""Ports of the machine that lead to pods: from everywhere, to nobody else, and gone with the pod."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

import nsrun
from nsrun.errors import NsrunError, PodFailedError
from tests.host import testhost
from tests.host.cli.conftest import Manifest, box, container, manifest
from tests.host.forward.conftest import PEER, listening
from tests.host.testhost import Host

__all__ = ["box"]

pytestmark = [pytest.mark.host, pytest.mark.requires("bridge", "nftables")]

ASK = "import socket,sys; s=socket.create_connection((sys.argv[1], int(sys.argv[2])), 5); s.send(b'hello'); print(s.recv(9).decode())"
ASK_UDP = (
    "import socket,sys; family = socket.AF_INET6 if ':' in sys.argv[1] else socket.AF_INET; "
    "s=socket.socket(family, socket.SOCK_DGRAM); s.settimeout(5); s.connect((sys.argv[1], int(sys.argv[2]))); "
    "s.send(b'hello'); print(s.recv(9).decode())"
)


SCTP = """
import socket, struct, sys
def crc32c(data):
    crc = 0xFFFFFFFF
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = crc >> 1 ^ (0x82F63B78 if crc & 1 else 0)
    return struct.pack("<I", crc ^ 0xFFFFFFFF)
def packet(source, port, tag, chunk):
    head, rest = struct.pack("!HHI", source, port, tag), struct.pack("!BBHIIHHI", chunk, 0, 20, 7, 1 << 16, 1, 1, 1)
    return head + crc32c(head + bytes(4) + rest) + rest
family = socket.AF_INET6 if ":" in sys.argv[1] else socket.AF_INET
skip = 0 if family == socket.AF_INET6 else 20
sock = socket.socket(family, socket.SOCK_RAW, 132)
sock.settimeout(5)
port = int(sys.argv[2])
"""
SCTP_ASK = (
    SCTP
    + """
sock.sendto(packet(5000, port, 0, 1), (sys.argv[1], 0))
while True:
    data, peer = sock.recvfrom(999)
    source, target, tag = struct.unpack("!HHI", data[skip:skip + 8])
    if data[skip + 12] == 2:
        print(peer[0] == sys.argv[1], source == port, target, tag)
        break
"""
)
SCTP_ANSWER = (
    SCTP
    + """
sock.settimeout(30)
print("listening", flush=True)
while True:
    data, peer = sock.recvfrom(999)
    source, target, _ = struct.unpack("!HHI", data[skip:skip + 8])
    if data[skip + 12] == 1 and target == port:
        sock.sendto(packet(target, source, 7, 2), (peer[0], 0))
        break
"""
)


def wish(name: str, *ports: dict[str, object]) -> Manifest:
    """A pod that echoes on 7001, and on 7007 by datagrams."""
    peer = {
        "name": "peer",
        "image": "nsrun.local/host",
        "command": ["python3", "-c", PEER],
        "env": [
            {"name": "LISTEN", "value": "0.0.0.0"},
            {"name": "IPS", "valueFrom": {"fieldRef": {"fieldPath": "status.podIPs"}}},
            {"name": "HOSTS", "valueFrom": {"fieldRef": {"fieldPath": "status.hostIPs"}}},
        ],
        "ports": list(ports),
    }
    return manifest(name, peer, terminationGracePeriodSeconds=0)


@pytest.fixture(scope="module")
def client(box: Host) -> Iterator[nsrun.Client]:
    """The library, on the module's root."""
    with nsrun.connect(box.root) as connected:
        yield connected


@pytest.fixture(scope="module")
def pods(client: nsrun.Client) -> Iterator[dict[str, nsrun.Pod]]:
    """One with ports of all addresses, one with a port of a single one, one with none."""
    everywhere = wish(
        "everywhere",
        {"containerPort": 7001, "hostPort": 20001},
        {"containerPort": 7007, "hostPort": 20007, "protocol": "UDP"},
        {"containerPort": 7011, "hostPort": 20010, "protocol": "SCTP"},
    )
    single = wish("single", {"containerPort": 7001, "hostPort": 20002, "hostIP": testhost.HOST_ADDRESS})
    six = wish(
        "six",
        {"containerPort": 7001, "hostPort": 20002, "hostIP": testhost.HOST_ADDRESS6},
        {"containerPort": 7007, "hostPort": 20008, "hostIP": "::", "protocol": "UDP"},
        {"containerPort": 7001, "hostPort": 20009, "hostIP": "0.0.0.0"},
    )
    with (
        client.up(json.dumps(six)) as fourth,
        client.up(json.dumps(everywhere)) as one,
        client.up(json.dumps(single)) as other,
        client.up(json.dumps(wish("asking"))) as third,
    ):
        for pod in (one, other, third, fourth):
            listening(pod)
        yield {pod.name: pod for pod in (one, other, third, fourth)}


def answer(address: str, port: int) -> str | None:
    """What an echo says, asked from this machine; None when nobody is there."""
    try:
        with socket.create_connection((address, port), 5) as sock:
            sock.sendall(b"hello")
            return sock.recv(9).decode()
    except (ConnectionError, TimeoutError):
        return None


def test_S_NET_host_ports_lead_to_the_pod_from_everywhere(box: Host, pods: dict[str, nsrun.Pod]) -> None:
    for address in ("127.0.0.1", "127.1.2.3", testhost.HOST_ADDRESS, testhost.HOST_ADDRESS6, "localhost"):
        assert answer(address, 20001) == "hello"
    ask = ("python3", "-c")
    for address in (testhost.HOST_ADDRESS, testhost.HOST_ADDRESS6):
        assert box.outside(*ask, ASK, address, "20001") == "hello\n"
        assert box.outside(*ask, ASK_UDP, address, "20007") == "hello\n"
    # From another pod, and from the pod itself, which the machine sends back to it.
    for pod in ("asking", "everywhere"):
        for script, port in ((ASK, "20001"), (ASK_UDP, "20007")):
            for address in (testhost.HOST_ADDRESS, testhost.HOST_ADDRESS6):
                assert pods[pod].exec([*ask, script, address, port], check=True).text == "hello\n"
    # What is not forwarded stays what it was: the machine's own.
    assert answer(testhost.HOST_ADDRESS, 7001) is None
    assert answer("127.0.0.1", 20007) is None


@pytest.mark.parametrize("any_address", ["0.0.0.0", "::"])
def test_S_NET_sctp_is_led_to_the_pod_and_back(box: Host, pods: dict[str, nsrun.Pod], any_address: str) -> None:
    """The first two packets of an association, written by hand: sockets of SCTP are in few kernels, translation of it in most."""
    shim = pods["everywhere"].runtime["shim_pid"]
    inside = Path(f"/proc/{shim}/task/{shim}/children").read_text().split()[0]
    argv = ["nsenter", "--net", f"--target={inside}", sys.executable, "-c", SCTP_ANSWER, any_address, "7011"]
    with subprocess.Popen(argv, stdout=subprocess.PIPE, text=True) as answering:
        try:
            assert answering.stdout is not None
            assert answering.stdout.readline() == "listening\n"
            address = testhost.HOST_ADDRESS6 if any_address == "::" else testhost.HOST_ADDRESS
            assert box.outside("python3", "-c", SCTP_ASK, address, "20010") == "True True 5000 7\n"
        finally:
            answering.kill()


def test_S_NET_a_host_ip_is_the_only_address(box: Host, pods: dict[str, nsrun.Pod]) -> None:
    assert answer(testhost.HOST_ADDRESS, 20002) == "hello"
    assert answer("127.0.0.1", 20002) is None
    assert box.outside("python3", "-c", ASK, testhost.HOST_ADDRESS, "20002") == "hello\n"
    # The same number at an IPv6 address is another pod's.
    assert answer(testhost.HOST_ADDRESS6, 20002) == "hello"
    assert answer("::1", 20002) is None
    # All of one family, and none of the other.
    assert answer("127.0.0.1", 20009) == "hello"
    assert answer("::1", 20009) is None
    assert box.outside("python3", "-c", ASK_UDP, testhost.HOST_ADDRESS6, "20008") == "hello\n"


@pytest.mark.parametrize(
    "address", ["::1", "fe80::1%lo", "localhost", "127.0.0.1 . 20099 : 10.0.0.1 . 1, tcp . 127.0.0.1"]
)
def test_what_is_no_address_becomes_no_rule(
    box: Host, client: nsrun.Client, pods: dict[str, nsrun.Pod], address: str
) -> None:
    """Nor does it keep other pods' rules from being made."""
    odd = wish("odd", {"containerPort": 7001, "hostPort": 20004, "hostIP": address})
    with pytest.raises(NsrunError, match="does not implement"):
        client.up(json.dumps(odd))
    with client.up(json.dumps(odd), ignore_unsupported=True) as pod:
        listening(pod)
        assert answer("127.0.0.1", 20001) == "hello"
        assert answer("127.0.0.1", 20004) is None
        assert "20099" not in box.run("nft", "list", "ruleset").stdout


def test_pods_do_not_reach_the_machines_loopback(box: Host, pods: dict[str, nsrun.Pod]) -> None:
    """127.0.0.1 may leave for the pods (route_localnet); nothing comes in for it."""
    with socket.create_server(("127.0.0.1", 0)) as private:
        private.settimeout(1)
        port = str(private.getsockname()[1])
        gateway = (
            pods["asking"].exec(["sh", "-c", "ip route | sed -n 's/default via \\([0-9.]*\\).*/\\1/p'"]).text.strip()
        )
        # A route to 127.0.0.1 by way of the machine, as root of a privileged pod could have it, is stood in for by the packet's sender:
        # the machine drops what the bridge brings for 127.0.0.0/8.
        assert "ip daddr 127.0.0.0/8 drop" in box.run("nft", "list", "ruleset").stdout
        assert pods["asking"].exec(["python3", "-c", ASK, gateway, port]).exit_code == 1
        with pytest.raises(TimeoutError):
            private.accept()


def test_S_ADMIT_a_port_that_a_pod_has_is_not_given_again(client: nsrun.Client, pods: dict[str, nsrun.Pod]) -> None:
    with pytest.raises(PodFailedError, match="didn't have free ports for the requested pod ports"):
        client.up(json.dumps(wish("second", {"containerPort": 7001, "hostPort": 20001, "hostIP": "127.0.0.1"})))
    client.down("second", force=True)
    assert answer("127.0.0.1", 20001) == "hello"


def test_the_rules_go_with_the_pod_also_over_deaths_of_the_server(box: Host, client: nsrun.Client) -> None:
    pod = client.up(json.dumps(wish("mortal", {"containerPort": 7001, "hostPort": 20003})))
    listening(pod)
    assert answer("127.0.0.1", 20003) == "hello"
    os.kill(int(client.server_status()["pid"]), signal.SIGKILL)
    assert answer("127.0.0.1", 20003) == "hello"
    # The next server knows of it, and another pod's coming does not take it away.
    with client.up(json.dumps(manifest("passing", container("app", "sleep inf"), terminationGracePeriodSeconds=0))):
        assert answer("127.0.0.1", 20003) == "hello"
    # A sandbox that is made anew has the port again.
    seen = json.loads(box.nsrun("pod", "inspect", "mortal", "--runtime").stdout)
    os.kill(seen["runtime"]["shim_pid"], signal.SIGKILL)
    deadline = time.monotonic() + 20
    while answer("127.0.0.1", 20003) != "hello":
        assert time.monotonic() < deadline
        time.sleep(0.05)
    # Killed again just before the pod goes.
    os.kill(int(client.server_status()["pid"]), signal.SIGKILL)
    pod.down(force=True)
    assert answer("127.0.0.1", 20003) is None
    assert "20003" not in box.run("nft", "list", "ruleset").stdout


def test_rules_that_were_flushed_are_back_with_the_next_pod(
    box: Host, client: nsrun.Client, pods: dict[str, nsrun.Pod]
) -> None:
    for table in box.run("nft", "list", "tables").stdout.splitlines():
        if "nsrun" in table:
            box.run("nft", "flush", *table.split())
    with client.up(json.dumps(manifest("passing", container("app", "sleep inf"), terminationGracePeriodSeconds=0))):
        assert answer("127.0.0.1", 20001) == "hello"
    assert Path("/proc/sys/net/ipv4/ip_forward").read_text() == "1\n"


def test_S_NET_status_and_files_have_both_families(client: nsrun.Client, pods: dict[str, nsrun.Pod]) -> None:
    pod = pods["asking"]
    status = pod.status
    ips, hosts = [one["ip"] for one in status["podIPs"]], [one["ip"] for one in status["hostIPs"]]
    assert [":" in ip for ip in (*ips, *hosts)] == [False, True, False, True]
    assert (status["podIP"], status["hostIP"]) == (ips[0], hosts[0])
    lines = pod.exec(["cat", "/etc/hosts"], check=True).text.splitlines()
    assert lines[-2:] == [f"{ip}\tasking" for ip in ips]
    assert pod.exec(["sh", "-c", "echo $IPS $HOSTS"], check=True).text.split() == [",".join(ips), ",".join(hosts)]
    assert pod.exec(["python3", "-c", ASK, ips[1], "7001"], check=True).text == "hello\n"
    network = client.server_status()["network"]
    assert [network["gateway"], network["gateway6"]] == hosts
