"""Chains of others that drop what pods send: firewalld's, ufw's, a hand-written ruleset's.

A packet has to pass every base chain of a hook, and an accept in a table of ours opens none but that table. So what others
reject cannot be let through by nsrun: it is recognised, and told with the chain's name. A chain that has a rule about the bridge
is somebody's decision and not spoken of. What iptables keeps is left out: exceptions are put there (`masquerade.py`).
"""

from __future__ import annotations

from typing import NamedTuple

from nsrun.network.firewall import INET, IP, IP6, Chain, Firewall

REASON = "FirewallBlocksNetwork"
"""Of the event on pods."""
_INPUT, _FORWARD = 1, 2
"""NF_INET_LOCAL_IN, NF_INET_FORWARD."""
_FAMILIES = {IP: "ip", IP6: "ip6", INET: "inet"}
_IPTABLES = ("FORWARD", "INPUT")
_PASSIVE = {"counter", "log", "limit", "comment"}


class Obstacle(NamedTuple):
    """A chain that drops what no rule of its own lets through.

    Attributes:
        table: with its family, as nft has it.
        chain: its name.
        forwards: what goes through the machine; otherwise what comes to it.
    """

    table: str
    chain: str
    forwards: bool

    def text(self, bridge: str) -> str:
        """What it means, and what to do."""
        if self.forwards:
            lost = "pods reach neither the world nor other networks, and nobody from there reaches them"
        else:
            lost = "pods do not reach this machine, nor its resolver at port 53"
        remedy = f'a rule: iifname "{bridge}" accept' + (f', and oifname "{bridge}" accept' if self.forwards else "")
        if self.table == "inet firewalld":
            remedy = f"firewall-cmd --permanent --zone=trusted --add-interface={bridge} && firewall-cmd --reload"
        return (
            f"a firewall drops what no rule of it lets through (chain {self.chain} of the table {self.table}), and none is about the"
            f" bridge {bridge}: {lost}. It needs {remedy}"
        )


def obstacles(firewall: Firewall, own: str, bridge: str) -> tuple[Obstacle, ...]:
    """The chains of others that most likely drop what the bridge's pods send.

    Args:
        firewall: of this network namespace.
        own: how the names of all of nsrun's tables begin.
        bridge: its name.

    Raises:
        OSError: the kernel does not tell.
    """
    found = []
    for chain in firewall.chains():
        if chain.family not in _FAMILIES or chain.hook not in (_INPUT, _FORWARD) or chain.table.startswith(own):
            continue
        if chain.table == "filter" and chain.name in _IPTABLES and chain.family != INET:
            continue
        if (chain.drops or _drops_at_its_end(firewall, chain)) and not _speaks_of(firewall, chain, bridge):
            found.append(Obstacle(f"{_FAMILIES[chain.family]} {chain.table}", chain.name, chain.hook == _FORWARD))
    return tuple(found)


def _drops_at_its_end(firewall: Firewall, chain: Chain) -> bool:
    """Whether the last rule drops or rejects whatever comes that far."""
    rules = list(firewall.rules(chain.family, chain.table, chain.name))
    deciding = [one for one in rules[-1].expressions if one.name not in _PASSIVE] if rules else []
    return len(deciding) == 1 and (deciding[0].name == "reject" or deciding[0].drops)


def _speaks_of(firewall: Firewall, chain: Chain, bridge: str) -> bool:
    """Whether any rule of the table, or any of its sets of links, has the bridge, or a pattern that it fits."""
    name = bridge.encode() + b"\0"
    return any(
        name in rule.raw or any(_is_pattern_of(bridge, part.compared) for part in rule.expressions)
        for rule in firewall.rules(chain.family, chain.table)
    ) or any(name in text for text in firewall.links_in_sets(chain.family, chain.table))


def _is_pattern_of(bridge: str, compared: bytes) -> bool:
    """As nft has it: a whole name is compared with zeros behind it, of `nsr*` the first three bytes. Numbers have zeros in them, too."""
    return len(compared) > 1 and compared.isascii() and b"\0" not in compared and bridge.encode().startswith(compared)
