"""Firewalls of others that are in pods' way: recognised, named, and no more spoken of when they let the bridge pass."""

from __future__ import annotations

import asyncio
import time

import pytest

from nsrun.network.strangers import obstacles
from tests.host.network.conftest import Lab
from tests.host.network.pods import ask_outside

pytestmark = [pytest.mark.requires("root", "bridge", "nftables"), pytest.mark.timeout(120)]

POLICY = "add table inet wall; add chain inet wall through {{ type filter hook forward priority 0; policy drop; }}"
FIREWALLD = (
    "add table inet firewalld; add chain inet firewalld filter_FORWARD {{ type filter hook forward priority 10; policy accept; }};"
    "add rule inet firewalld filter_FORWARD ct state established,related accept;"
    "add rule inet firewalld filter_FORWARD reject with icmpx admin-prohibited"
)
INPUT = (
    "add table ip wall; add chain ip wall in {{ type filter hook input priority 0; policy accept; }};"
    "add rule ip wall in iifname lo accept; add rule ip wall in counter drop"
)


@pytest.mark.parametrize(
    ("rules", "words"),
    [
        (POLICY, "chain through of the table inet wall"),
        (FIREWALLD, "firewall-cmd --permanent --zone=trusted --add-interface={bridge}"),
        (INPUT, "pods do not reach this machine, nor its resolver"),
        (POLICY + "; add rule inet wall through iifname {bridge} accept", ""),
        (POLICY + '; add rule inet wall through iifname "nsr*" accept', ""),
        (POLICY + '; add rule inet wall through iifname "nsx*" accept', "chain through of the table inet wall"),
        (POLICY + "; add set inet wall ours {{ type ifname; elements = {{ {bridge} }} }}", ""),
        (POLICY.replace("policy drop", "policy accept"), ""),
        (POLICY.replace("hook forward", "hook output"), ""),
        (INPUT.replace("counter drop", "tcp dport 25 drop"), ""),
        (INPUT.replace("counter drop", "counter accept"), ""),
    ],
)
def test_a_chain_that_drops_is_recognised(lab: Lab, rules: str, words: str) -> None:
    lab.attached()
    assert lab.network.obstacles == ()
    names = {"bridge": lab.bridge}
    lab.host.run("nft", rules.format(**names))
    try:
        lab.attached()
        found: tuple[str, ...] = lab.network.obstacles
        assert len(found) == (1 if words else 0)
        assert all(words.format(**names) in text for text in found)
        assert set(found) <= set(lab.network.status()["warnings"])
    finally:
        lab.host.run(
            "nft", f"delete table {'ip' if rules.startswith('add table ip ') else 'inet'} {rules.split()[3].strip(';')}"
        )


def test_what_is_said_is_true_and_its_advice_helps(lab: Lab) -> None:
    told: list[str] = []
    lab.network.obstructed = told.append
    pod, _ = lab.attached()
    machine = lab.host.machine
    lab.host.run("nft", POLICY.format())
    try:
        # Without a new pod.
        until(lab, lambda: bool(told))
        assert "pods reach neither the world" in told[0]
        with pytest.raises(TimeoutError):
            client = pod.tcp()
            client.settimeout(0.3)
            ask_outside(client, machine.beyond, machine.port)
        for way in ("iifname", "oifname"):
            assert f'{way} "{lab.bridge}" accept' in told[0]
            lab.host.run("nft", f'add rule inet wall through {way} "{lab.bridge}" accept')
        assert ask_outside(pod.tcp(), machine.beyond, machine.port) == machine.address
        until(lab, lambda: lab.network.obstacles == ())
        assert len(told) == 1
    finally:
        lab.host.run("nft", "delete table inet wall")


def until(lab: Lab, reached: object) -> None:
    assert callable(reached)
    deadline = time.monotonic() + 5
    while not reached():
        assert time.monotonic() < deadline
        lab.run(asyncio.sleep(0.05))


def test_nothing_is_made_of_our_own_tables_and_iptables(lab: Lab) -> None:
    lab.attached()
    assert obstacles(lab.network._rules(), "nsrun", lab.bridge) == ()
