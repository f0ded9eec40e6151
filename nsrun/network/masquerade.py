"""The way out: nftables rules of nsrun's own table, and what other firewalls do to forwarded packets.

One table for each root directory, put in place as a whole by one nft(8) transaction. Masquerading names the range, never a pod:
nothing in it changes when pods come and go, but for those that have ports of the machine.
"""

from __future__ import annotations

import shutil
import subprocess
from ipaddress import IPv4Network

from nsrun.errors import NsrunError, UnsupportedError
from nsrun.network import hostports
from nsrun.network.hostports import Published
from nsrun.network.netlink import Firewall
from nsrun.network.refusals import WAY_OUT

CHAIN = "postrouting"
_COMMENT = "nsrun"
_TIMEOUT = 20.0


def ruleset(table: str, network: IPv4Network, bridge: str = "", published: Published | None = None) -> str:
    """The transaction for `nft -f -`: whatever the table was, afterwards it is this.

    `add` before `delete` because deleting what is not there fails, and nft's own `destroy` came with 1.0.7 only.
    """
    ports = published or {}
    return (
        f"add table ip {table}\n"
        f"delete table ip {table}\n"
        f"table ip {table} {{\n" + hostports.maps(ports) + hostports.chains(ports, bridge) + f"  chain {CHAIN} {{\n"
        "    type nat hook postrouting priority srcnat; policy accept;\n"
        + hostports.way_back(ports, network, bridge)
        # Multicast stays on the bridge; between pods nothing is translated.
        + f"    ip saddr {network} ip daddr != {{ {network}, 224.0.0.0/4 }} masquerade\n"
        "  }\n"
        "}\n"
    )


def install(table: str, network: IPv4Network, bridge: str = "", published: Published | None = None) -> None:
    """Put the rules in place, those of published ports among them; one transaction, connections go on.

    Raises:
        UnsupportedError: nft is not installed, or the kernel does not know nf_tables or NAT.
    """
    _nft(ruleset(table, network, bridge, published), f"install masquerading for {network}")


def remove(table: str) -> None:
    """Remove the table; one that is not there is fine."""
    _nft(f"add table ip {table}\ndelete table ip {table}\n", f"remove the nftables table {table}")


def _nft(script: str, what: str) -> None:
    try:
        done = subprocess.run(
            ["nft", "-f", "-"], input=script, capture_output=True, text=True, timeout=_TIMEOUT, check=False
        )
    except FileNotFoundError:
        raise UnsupportedError(
            f"cannot {what}: nft is not installed",
            details=f"Pods reach the world through rules that nft puts in place. {WAY_OUT}",
            resolution="Install it: apt install nftables.",
        ) from None
    except subprocess.TimeoutExpired:
        raise NsrunError(f"cannot {what}: nft did not end within {_TIMEOUT:.0f} s", code="step") from None
    if done.returncode != 0:
        raise UnsupportedError(
            f"cannot {what}: nft: {done.stderr.strip().splitlines()[0] if done.stderr.strip() else done.returncode}",
            details=f"The kernel's nf_tables refused the rules (modules nf_tables, nft_chain_nat, nft_masq). {WAY_OUT}",
            resolution="Load the modules (modprobe nft_masq), or run on the distribution's own kernel.",
        )


def _drops_questions(firewall: Firewall) -> bool:
    """Whether iptables drops by default what comes to this machine, as ufw arranges: pods could not ask the resolver."""
    return firewall.drops("filter", "INPUT")


def forward_policy_drops(firewall: Firewall) -> bool:
    """Whether iptables, of either kind, drops packets by default that are forwarded, as docker arranges, or that come in.

    An accept in a table of ours would not help: a packet has to pass every chain on its way. Starting iptables(8) is the last resort.
    """
    if _drops_questions(firewall):
        return True
    if firewall.drops("filter", "FORWARD"):
        return True
    try:
        with open("/proc/net/ip_tables_names", encoding="ascii") as file:
            legacy = "filter" in file.read().split()
    except OSError:
        return False
    return legacy and "-P FORWARD DROP" in (_iptables("-S", "FORWARD") or "").splitlines()


def accept_forwarding(bridge: str) -> bool:
    """Let packets from and to the bridge pass iptables' FORWARD chain; what is there already is not added again.

    Returns:
        Whether they pass now: False without iptables(8).
    """
    rules = _forward_rules(bridge)
    return all(_iptables("-C", *rule) is not None or _iptables("-I", *rule) is not None for rule in rules)


def stop_accepting(bridge: str) -> None:
    """Take back `accept_forwarding`."""
    for rule in _forward_rules(bridge):
        while _iptables("-D", *rule) is not None:
            pass


def _forward_rules(bridge: str) -> list[tuple[str, ...]]:
    tail = ("-m", "comment", "--comment", _COMMENT, "-j", "ACCEPT")
    questions = [("INPUT", "-i", bridge, "-p", protocol, "--dport", "53", *tail) for protocol in ("udp", "tcp")]
    return [("FORWARD", "-i", bridge, *tail), ("FORWARD", "-o", bridge, *tail), *questions]


def _iptables(*arguments: str) -> str | None:
    """What iptables says, or None when it fails or is not installed."""
    program = shutil.which("iptables")
    if program is None:
        return None
    try:
        done = subprocess.run(
            [program, "--wait", "5", *arguments], capture_output=True, text=True, timeout=_TIMEOUT, check=False
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout if done.returncode == 0 else None
