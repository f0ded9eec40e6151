"""Several networks of one root: who is in which, who reaches whom and under which address, and what stays when one goes."""

from __future__ import annotations

import json
import os
import signal
import socket
import time
from collections.abc import Iterator
from typing import Any

import pytest

import nsrun
from nsrun.network.networks import ANNOTATION
from tests.host import testhost
from tests.host.cli.conftest import box, container, manifest
from tests.host.testhost import Host

__all__ = ["box"]

pytestmark = [pytest.mark.host, pytest.mark.requires("bridge", "nftables", "ipv6")]

WHO = """
import socket
s = socket.create_server(("::", 7001), family=socket.AF_INET6, dualstack_ipv6=True)
while True:
    c, address = s.accept()
    c.sendall(address[0].removeprefix("::ffff:").encode())
    c.close()
"""
ASK = """
import socket, sys
try:
    s = socket.create_connection((sys.argv[1], int(sys.argv[2])), 2)
    print(s.recv(99).decode())
except OSError as error:
    print(type(error).__name__)
"""
CONFIG = """
[network.shop]
range = "10.201.0.0/24"
namespaces = ["shop"]

[network.vault]
isolated = true
mtu = 1400
"""


@pytest.fixture(scope="module")
def client(box: Host) -> Iterator[nsrun.Client]:
    """The library, on a root whose configuration has two networks more."""
    box.nsrun("server", "stop")
    config = box.root / "etc" / "config.toml"
    config.parent.mkdir(parents=True, exist_ok=True)
    config.write_text(CONFIG)
    with nsrun.connect(box.root) as connected:
        yield connected


def wish(name: str, network: str | None, namespace: str = "default", **port: Any) -> str:
    """A pod that says on 7001 whom it sees."""
    who = {**container("who", ""), "image": "nsrun.local/host", "command": ["python3", "-c", WHO], "ports": []}
    if port:
        who["ports"] = [{"containerPort": 7001, **port}]
    made = manifest(name, who, terminationGracePeriodSeconds=0)
    made["metadata"] |= {"namespace": namespace}
    if network is not None:
        made["metadata"]["annotations"] = {ANNOTATION: network}
    return json.dumps(made)


@pytest.fixture(scope="module")
def pods(client: nsrun.Client) -> Iterator[dict[str, nsrun.Pod]]:
    """Two of the default network, one of each other."""
    with (
        client.up(wish("plain", None)) as plain,
        client.up(wish("named", "default", "shop")) as named,
        client.up(wish("shop", None, "shop", hostPort=20011)) as shop,
        client.up(wish("vault", "vault", hostPort=20012)) as vault,
    ):
        yield {one.name: one for one in (plain, named, shop, vault)}


def ips(pod: nsrun.Pod) -> list[str]:
    return [one["ip"] for one in pod.status["podIPs"]]


def ask(pod: nsrun.Pod, address: str, port: int = 7001) -> str:
    """Under which address `pod` is seen there."""
    deadline = time.monotonic() + 10
    while (text := pod.exec(["python3", "-c", ASK, address, str(port)]).text.strip()) == "ConnectionRefusedError":
        # It has only begun.
        assert time.monotonic() < deadline
    return text


def test_the_annotation_or_the_namespace_says_in_which_a_pod_is(
    box: Host, client: nsrun.Client, pods: dict[str, nsrun.Pod]
) -> None:
    status = client.server_status()["network"]
    others = status["networks"]
    assert ips(pods["shop"])[0].startswith("10.201.0.")
    assert ips(pods["named"])[0].rsplit(".", 1)[0] == ips(pods["plain"])[0].rsplit(".", 1)[0]
    assert (status["leases"], others["shop"]["leases"], others["vault"]["leases"]) == (2, 1, 1)
    assert len({one["bridge"] for one in (status, *others.values())}) == 3
    assert "mtu 1400" in pods["vault"].exec(["ip", "link", "show", "eth0"]).text
    for name, network in (("plain", status), ("shop", others["shop"]), ("vault", others["vault"])):
        assert pods[name].status["hostIP"] == network["gateway"]
    assert "Network shop, range: 10.201.0.0/24" in box.nsrun("server", "status").stdout


def test_S_NET_pods_of_two_networks_reach_each_other_without_translation(pods: dict[str, nsrun.Pod]) -> None:
    plain, shop = pods["plain"], pods["shop"]
    for mine, theirs in zip(ips(plain), ips(shop), strict=True):
        assert ask(plain, theirs) == mine
        assert ask(shop, mine) == theirs


def test_an_isolated_network_is_reached_by_ports_of_the_machine_alone(box: Host, pods: dict[str, nsrun.Pod]) -> None:
    plain, vault = pods["plain"], pods["vault"]
    for mine, theirs in zip(ips(plain), ips(vault), strict=True):
        # EHOSTUNREACH, by IPv6 EACCES: told at once.
        assert ask(plain, theirs) in ("OSError", "PermissionError")
        assert ask(vault, mine) in ("OSError", "PermissionError")
        with socket.create_connection((theirs, 7001), 5) as direct:
            assert direct.recv(99)
    # By the machine's port it is reached, and both see whom they talk to.
    assert ask(plain, testhost.HOST_ADDRESS, 20012) == ips(plain)[0]
    assert ask(vault, testhost.HOST_ADDRESS, 20011) == ips(vault)[0]
    # The way out is everybody's.
    machine = box.machine
    out = "import socket,sys; s=socket.create_connection((sys.argv[1], int(sys.argv[2])), 5); s.send(b'who\\n'); print(s.recv(99).decode())"
    assert vault.exec(["python3", "-c", out, machine.beyond, str(machine.port)]).text.split()[0] == machine.address


def test_S_DNS_names_are_answered_in_every_network(pods: dict[str, nsrun.Pod]) -> None:
    look = "import socket,sys; print(socket.getaddrinfo(sys.argv[1], 1, socket.AF_INET)[0][4][0])"
    for asking, asked in (("plain", "shop.shop"), ("shop", "plain.default"), ("vault", "shop.shop")):
        pod = pods[asking]
        told = pod.exec(["cat", "/etc/resolv.conf"]).text
        assert f"nameserver {pod.status['hostIP']}\n" in told
        assert pod.exec(["python3", "-c", look, asked]).text.strip() == ips(pods[asked.split(".")[0]])[0]


def test_a_network_that_there_is_not_is_named(client: nsrun.Client) -> None:
    with client.up(wish("lost", "nowhere"), wait="none") as pod:
        until_told(pod, "'nowhere' (nsrun.io/network), which the configuration does not have")


def until_told(pod: nsrun.Pod, words: str) -> None:
    deadline = time.monotonic() + 10
    while not any(words in event["message"] for event in pod.events()):
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_a_network_that_is_taken_out_of_the_configuration_goes_with_its_last_pod(
    box: Host, client: nsrun.Client, pods: dict[str, nsrun.Pod]
) -> None:
    config = box.root / "etc" / "config.toml"
    with client.up(wish("late", "vault")) as late:
        before = ips(late)
        config.write_text(CONFIG.partition("[network.vault]")[0])
        os.kill(int(client.server_status()["pid"]), signal.SIGKILL)
        # Pods that are there stay where they are, and are told apart from others' leftovers; nobody new comes in.
        assert ips(late) == before
        assert ask(late, ips(pods["vault"])[0]) == before[0]
        assert client.server_status()["network"]["networks"]["vault"]["leases"] == 2
        # Whoever comes anew is told.
        with client.up(wish("later", "vault"), wait="none") as pod:
            until_told(pod, "'vault'")
    pods["vault"].down(force=True)
    bridge = client.server_status()["network"]["networks"].get("vault", {}).get("bridge")
    deadline = time.monotonic() + 20
    while "vault" in client.server_status()["network"].get("networks", {}):
        assert time.monotonic() < deadline
        time.sleep(0.1)
    assert bridge is None or bridge not in {name for _, name in socket.if_nameindex()}
    assert not (box.root / "lib" / "networks" / "vault").exists()
    assert ".vault" not in box.run("nft", "list", "tables").stdout


def test_a_firewall_in_the_way_is_told_to_the_pods_and_by_doctor(box: Host, pods: dict[str, nsrun.Pod]) -> None:
    box.run(
        "nft", "add table inet wall; add chain inet wall through { type filter hook forward priority 0; policy drop; }"
    )
    try:
        for name in ("plain", "shop"):
            until_told(pods[name], "chain through of the table inet wall")
        assert "chain through of the table inet wall" in box.nsrun("doctor", check=False).stdout
    finally:
        box.run("nft", "delete table inet wall")
