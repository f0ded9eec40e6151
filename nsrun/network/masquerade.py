"""The way out: nftables rules of nsrun's own table, and what other firewalls do to forwarded packets.

One table for each root directory, put in place as a whole by one nft(8) transaction. Masquerading names the range, never a pod:
nothing in it changes when pods come and go, but for those that have ports of the machine.
"""

from __future__ import annotations

import shutil
import subprocess
from ipaddress import IPv4Network, IPv6Network

from nsrun.errors import NsrunError, UnsupportedError
from nsrun.network import hostports
from nsrun.network.addressing import Ranges
from nsrun.network.firewall import IP, IP6, Firewall
from nsrun.network.hostports import Rules
from nsrun.network.refusals import WAY_OUT

CHAIN = "postrouting"
_COMMENT = "nsrun"
_TIMEOUT = 20.0


def ruleset(table: str, ranges: Ranges, bridge: str, rules: Rules) -> str:
    """The transaction for `nft -f -`: whatever the tables were, afterwards they are this. That of IPv6 goes where pods have none.

    `add` before `delete` because deleting what is not there fails, and nft's own `destroy` came with 1.0.7 only.
    """
    text = emptied("ip", table) + _table("ip", table, ranges.ipv4, bridge, rules)
    if ranges.ipv6 is not None:
        text += emptied("ip6", table) + _table("ip6", table, ranges.ipv6, bridge, rules)
    return text


def emptied(family: str, table: str) -> str:
    """The lines after which there is no such table, whatever there was."""
    return f"add table {family} {table}\ndelete table {family} {table}\n"


def _table(ip: str, table: str, network: IPv4Network | IPv6Network, bridge: str, rules: Rules) -> str:
    elsewhere = "224.0.0.0/4" if network.version == 4 else "fe80::/10, ff00::/8"
    return (
        f"table {ip} {table} {{\n"
        + hostports.maps(rules, network)
        + hostports.chains(rules, bridge, network)
        + f"  chain {CHAIN} {{\n"
        "    type nat hook postrouting priority srcnat; policy accept;\n"
        + hostports.way_back(rules.published, network, bridge)
        # Multicast stays on the bridge; between pods nothing is translated.
        + f"    {ip} saddr {network} {ip} daddr != {{ {network}, {elsewhere} }} {_not_beside(rules)}masquerade\n"
        "  }\n" + _apart("icmp" if network.version == 4 else "icmpv6", bridge, rules) + "}\n"
    )


def _not_beside(rules: Rules) -> str:
    return f"oifname != {hostports.names(rules.beside)} " if rules.beside else ""


def _apart(icmp: str, bridge: str, rules: Rules) -> str:
    """The chain that keeps an isolated network's pods and those of the others apart; ports of the machine lead to both."""
    if not (rules.isolated and rules.beside):
        return ""
    others = hostports.names(rules.beside)
    refused = f"reject with {icmp} type admin-prohibited"
    return (
        "  chain apart {\n"
        "    type filter hook forward priority filter; policy accept;\n"
        f'    iifname "{bridge}" oifname {others} ct status & dnat != dnat {refused}\n'
        f'    iifname {others} oifname "{bridge}" ct status & dnat != dnat {refused}\n'
        "  }\n"
    )


def install(table: str, ranges: Ranges, bridge: str, rules: Rules) -> None:
    """Put the rules in place, those of published ports among them; one transaction, connections go on.

    Raises:
        UnsupportedError: nft is not installed, or the kernel does not know nf_tables or NAT.
    """
    nft(ruleset(table, ranges, bridge, rules), f"install masquerading for {ranges.ipv4}")


def installed(firewall: Firewall, table: str, ranges: Ranges) -> bool:
    """Whether the rules are there, as far as can be seen without reading each."""
    families = (IP,) if ranges.ipv6 is None else (IP, IP6)
    return all(firewall.rules_in(table, CHAIN, family) for family in families)


def remove(firewall: Firewall, table: str) -> None:
    """Remove the tables; those that are not there are fine."""
    there = [word for word, family in (("ip", IP), ("ip6", IP6)) if firewall.has_table(table, family)]
    if there:
        nft("".join(emptied(word, table) for word in there), f"remove the nftables table {table}")


def nft(script: str, what: str) -> None:
    """Have nft(8) carry out a transaction.

    Raises:
        UnsupportedError: it is not installed, or refused; the text has `what`.
    """
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
    return firewall.drops("filter", "INPUT") or firewall.drops("filter", "INPUT", IP6)


def forward_policy_drops(firewall: Firewall) -> bool:
    """Whether iptables, of either kind and family, drops packets by default that are forwarded, as docker arranges, or that come in.

    An accept in a table of ours would not help: a packet has to pass every chain on its way. Starting iptables(8) is the last resort.
    """
    if _drops_questions(firewall):
        return True
    if firewall.drops("filter", "FORWARD") or firewall.drops("filter", "FORWARD", IP6):
        return True
    return any(
        "-P FORWARD DROP" in (_iptables(program, "-S", "FORWARD") or "").splitlines()
        for program, names in (("iptables", "ip_tables_names"), ("ip6tables", "ip6_tables_names"))
        if _has_legacy_filter(f"/proc/net/{names}")
    )


def _has_legacy_filter(path: str) -> bool:
    try:
        with open(path, encoding="ascii") as file:
            return "filter" in file.read().split()
    except OSError:
        return False


def accept_forwarding(bridge: str, *, six: bool) -> bool:
    """Let packets from and to the bridge pass the FORWARD chain of iptables, and with `six` that of ip6tables.

    What is there already is not added again.

    Returns:
        Whether they pass now: False without iptables(8).
    """
    return all(
        _iptables(program, "-C", *rule) is not None or _iptables(program, "-I", *rule) is not None
        for program in (("iptables", "ip6tables") if six else ("iptables",))
        for rule in _forward_rules(bridge)
    )


def stop_accepting(bridge: str) -> None:
    """Take back `accept_forwarding`."""
    for program in ("iptables", "ip6tables"):
        for rule in _forward_rules(bridge):
            while _iptables(program, "-D", *rule) is not None:
                pass


def _forward_rules(bridge: str) -> list[tuple[str, ...]]:
    tail = ("-m", "comment", "--comment", _COMMENT, "-j", "ACCEPT")
    questions = [("INPUT", "-i", bridge, "-p", protocol, "--dport", "53", *tail) for protocol in ("udp", "tcp")]
    return [("FORWARD", "-i", bridge, *tail), ("FORWARD", "-o", bridge, *tail), *questions]


def _iptables(program: str, *arguments: str) -> str | None:
    """What iptables says, or None when it fails or is not installed."""
    found = shutil.which(program)
    if found is None:
        return None
    try:
        done = subprocess.run(
            [found, "--wait", "5", *arguments], capture_output=True, text=True, timeout=_TIMEOUT, check=False
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout if done.returncode == 0 else None
