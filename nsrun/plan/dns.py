"""/etc/resolv.conf of a pod (S-DNS): a function of the pod, the node's file, and whether there is a resolver for pods' names.

Source: Kubernetes pkg/kubelet/network/dns/dns.go; limits of pkg/apis/core/validation.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from nsrun.spec.model import Pod, PodDNSConfig
from nsrun.spec.names import pod_in_words

CLUSTER_DOMAIN = "cluster.local"
"""The domain of all pods' names unless the configuration says another."""

MAX_NAMESERVERS, MAX_SEARCHES, MAX_SEARCH_CHARACTERS, MAX_DOMAIN = 3, 32, 2048, 253
"""What resolvers can be expected to take; a longer domain makes some of them abort."""

CLUSTER_FIRST, CLUSTER_FIRST_WITH_HOST_NET, NONE = "ClusterFirst", "ClusterFirstWithHostNet", "None"

CONFIG_FORMING, MISSING_CLUSTER_DNS = "DNSConfigForming", "MissingClusterDNS"
"""Reasons of warnings."""


@dataclass(frozen=True, slots=True)
class ClusterDns:
    """The resolver that knows pods by their names.

    Attributes:
        servers: its addresses; none: there is no such resolver (now).
        domain: what all names of pods end in.
    """

    servers: tuple[str, ...] = ()
    domain: str = CLUSTER_DOMAIN


@dataclass(slots=True)
class PodDns:
    """What resolv.conf(5) says in the pod.

    Attributes:
        warnings: reason and text of the events that a kubelet would tell.
    """

    nameservers: list[str] = field(default_factory=list)
    searches: list[str] = field(default_factory=list)
    options: dict[str, str] = field(default_factory=dict)
    """Name to value; empty where there is none."""
    warnings: list[tuple[str, str]] = field(default_factory=list)

    def text(self) -> str:
        """The file."""
        lines = []
        if self.searches:
            lines.append(f"search {' '.join(self.searches)}\n")
        lines += [f"nameserver {address}\n" for address in self.nameservers]
        if self.options:
            words = (f"{name}:{value}" if value else name for name, value in self.options.items())
            lines.append(f"options {' '.join(words)}\n")
        return "".join(lines)


def wants_cluster_dns(pod: Pod) -> bool:
    """Whether the pod is to ask the resolver of pods' names first, where there is one."""
    policy = pod.spec.dnsPolicy or CLUSTER_FIRST
    return policy == CLUSTER_FIRST_WITH_HOST_NET or (policy == CLUSTER_FIRST and not pod.spec.hostNetwork)


def read_resolv_conf(text: str) -> PodDns:
    """A resolv.conf(5); of several search or options lines the last counts (dns.go parseResolvConf)."""
    result = PodDns()
    for line in text.splitlines():
        words = line.split()
        if not words or words[0].startswith(("#", ";")):
            continue
        if words[0] == "nameserver" and len(words) > 1:
            result.nameservers.append(words[1])
        elif words[0] == "search":
            result.searches = [word if word == "." else word.removesuffix(".") for word in words[1:]]
        elif words[0] == "options":
            result.options = {name: value for name, _, value in (word.partition(":") for word in words[1:])}
    return result


def pod_dns(pod: Pod, node_resolv: str, cluster: ClusterDns) -> PodDns:
    """What a pod's resolv.conf says.

    Args:
        pod: it.
        node_resolv: the node's file; where that names a resolver on a loopback address (systemd-resolved's stub), give the file that
            names the real ones, because the node's loopback is not the pod's.
        cluster: the resolver of pods' names.
    """
    result = PodDns() if pod.spec.dnsPolicy == NONE else read_resolv_conf(node_resolv)
    if wants_cluster_dns(pod):
        if cluster.servers:
            own = (
                f"{pod.metadata.namespace or 'default'}.svc.{cluster.domain}",
                f"svc.{cluster.domain}",
                cluster.domain,
            )
            result.nameservers = list(cluster.servers)
            result.searches = _once([*own, *result.searches])
            result.options = {"ndots": "5"}
        else:
            text = (
                f'pod: "{pod_in_words(pod)}". kubelet does not have ClusterDNS IP configured and cannot create Pod using '
                '"ClusterFirst" policy. Falling back to "Default" policy.'
            )
            result.warnings.append((MISSING_CLUSTER_DNS, text))
    if pod.spec.dnsConfig is not None:
        _merge(result, pod.spec.dnsConfig)
    _limit(result)
    return result


def _once(words: Iterable[str]) -> list[str]:
    return list(dict.fromkeys(words))


def _merge(dns: PodDns, config: PodDNSConfig) -> None:
    dns.nameservers = _once([*dns.nameservers, *config.nameservers])
    dns.searches = _once([*dns.searches, *config.searches])
    for option in config.options:
        if option.name:
            dns.options[option.name] = option.value or ""


def _limit(dns: PodDns) -> None:
    """Leave out what resolvers do not take, and say so."""
    if len(dns.nameservers) > MAX_NAMESERVERS:
        dns.nameservers = dns.nameservers[:MAX_NAMESERVERS]
        dns.warnings.append(
            (
                CONFIG_FORMING,
                "Nameserver limits were exceeded, some nameservers have been omitted, the applied nameserver line is: "
                + " ".join(dns.nameservers),
            )
        )
    fitting = [search for search in dns.searches[:MAX_SEARCHES] if len(search) <= MAX_DOMAIN]
    while len(" ".join(fitting)) > MAX_SEARCH_CHARACTERS:
        fitting.pop()
    if fitting != dns.searches:
        dns.searches = fitting
        dns.warnings.append(
            (
                CONFIG_FORMING,
                "Search Line limits were exceeded, some search paths have been omitted, the applied search line is: "
                + " ".join(fitting),
            )
        )
