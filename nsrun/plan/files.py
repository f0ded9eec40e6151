"""The files that a pod brings along: /etc/hosts, /etc/hostname, /etc/resolv.conf (S-HOSTS, S-HOSTNAME, S-DNS)."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from nsrun.plan.inputs import PlanError
from nsrun.spec.model import HostAlias, Pod, PodDNSConfig

CLUSTER_DOMAIN = "cluster.local"
"""What follows `<subdomain>.<namespace>.svc.` in the name of a pod with a subdomain."""

MAX_HOSTNAME = 64
"""Bytes that the kernel takes for a host name (__NEW_UTS_LEN)."""

MAX_NAMESERVERS, MAX_SEARCHES, MAX_SEARCH_CHARACTERS = 3, 32, 2048
"""Kubernetes pkg/apis/core/validation: what resolvers can be expected to take."""

_LABEL = 63
_LOCAL = (
    "127.0.0.1\tlocalhost\n"
    "::1\tlocalhost ip6-localhost ip6-loopback\n"
    "fe00::0\tip6-localnet\n"
    "fe00::0\tip6-mcastprefix\n"
    "fe00::1\tip6-allnodes\n"
    "fe00::2\tip6-allrouters\n"
)


def _fitting_name(name: str) -> str:
    """A name that is cut where it is too long, although the API and the kernel would take one character more."""
    return name if len(name) <= _LABEL else name[:_LABEL].rstrip("-.")


def _names(pod: Pod) -> tuple[str, str]:
    """Host name and domain, either of which /etc/hosts gets (Kubernetes kubelet_pods.go GeneratePodHostNameAndDomain)."""
    spec = pod.spec
    if spec.hostnameOverride:
        return _fitting_name(spec.hostnameOverride), ""
    hostname = spec.hostname or _fitting_name(pod.metadata.name or "")
    domain = f"{spec.subdomain}.{pod.metadata.namespace}.svc.{CLUSTER_DOMAIN}" if spec.subdomain else ""
    return hostname, domain


def pod_hostname(pod: Pod, node_name: str = "") -> str:
    """What gethostname(2) says in the pod: with hostNetwork the node's name, as the UTS namespace is then the host's.

    Raises:
        PlanError: FailedCreatePodSandBox, setHostnameAsFQDN with a name over 64 bytes.
    """
    if pod.spec.hostNetwork:
        return node_name
    hostname, domain = _names(pod)
    if pod.spec.setHostnameAsFQDN and domain:
        full = f"{hostname}.{domain}"
        if len(full) > MAX_HOSTNAME:
            raise PlanError(
                "FailedCreatePodSandBox",
                f"failed to construct FQDN from Pod hostname and cluster domain, FQDN {full} is too long "
                f"({MAX_HOSTNAME} characters is the max, {len(full)} characters requested)",
                resolution="Shorten spec.hostname or spec.subdomain, or unset spec.setHostnameAsFQDN.",
            )
        return full
    return hostname


def _aliases(aliases: Sequence[HostAlias]) -> str:
    if not aliases:
        return ""
    lines = "".join("\t".join([alias.ip, *alias.hostnames]) + "\n" for alias in aliases)
    return f"\n# Entries added by HostAliases.\n{lines}"


def hosts_file(pod: Pod, ips: Sequence[str], node_hosts: str = "") -> str:
    """/etc/hosts of every container of the pod; with hostNetwork the node's own with the aliases added (S-HOSTS)."""
    aliases = _aliases(pod.spec.hostAliases)
    if pod.spec.hostNetwork:
        if node_hosts and not node_hosts.endswith("\n"):
            node_hosts += "\n"
        return f"# Kubernetes-managed hosts file (host network).\n{node_hosts}{aliases}"
    hostname, domain = _names(pod)
    names = f"{hostname}.{domain}\t{hostname}" if domain else hostname
    return "# Kubernetes-managed hosts file.\n" + _LOCAL + "".join(f"{ip}\t{names}\n" for ip in ips) + aliases


@dataclass(slots=True)
class _Resolver:
    """The three kinds of lines of resolv.conf(5) that count here."""

    nameservers: list[str] = field(default_factory=list)
    searches: list[str] = field(default_factory=list)
    options: dict[str, str] = field(default_factory=dict)
    """Name to value; empty where there is none."""


def _read(text: str) -> _Resolver:
    """The node's resolv.conf; of several search or options lines the last counts (Kubernetes dns.go parseResolvConf)."""
    result = _Resolver()
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


def _merge(resolver: _Resolver, config: PodDNSConfig) -> None:
    resolver.nameservers += config.nameservers
    resolver.searches += config.searches
    for option in config.options:
        if option.name:
            resolver.options[option.name] = option.value or ""


def _fitting(searches: Iterable[str]) -> list[str]:
    """As many of the searches as resolvers take."""
    result: list[str] = []
    length = -1
    for search in searches:
        length += 1 + len(search)
        if len(result) == MAX_SEARCHES or length > MAX_SEARCH_CHARACTERS:
            break
        result.append(search)
    return result


def resolv_conf(pod: Pod, node_resolv: str) -> str:
    """/etc/resolv.conf of every container of the pod.

    There is no cluster DNS here, so ClusterFirst is Default, as it is for a kubelet that was given none (S-DNS).
    `node_resolv` is the node's file; where that names a resolver on a loopback address (systemd-resolved's stub), give the file that
    names the real ones, because the node's loopback is not the pod's.
    """
    resolver = _Resolver() if pod.spec.dnsPolicy == "None" else _read(node_resolv)
    if pod.spec.dnsConfig is not None:
        _merge(resolver, pod.spec.dnsConfig)
    lines = []
    searches = _fitting(dict.fromkeys(resolver.searches))
    if searches:
        lines.append(f"search {' '.join(searches)}\n")
    nameservers = list(dict.fromkeys(resolver.nameservers))[:MAX_NAMESERVERS]
    lines += [f"nameserver {address}\n" for address in nameservers]
    if resolver.options:
        words = (f"{name}:{value}" if value else name for name, value in resolver.options.items())
        lines.append(f"options {' '.join(words)}\n")
    return "".join(lines)


def pod_files(
    pod: Pod, ips: Sequence[str], node_hosts: str = "", node_resolv: str = "", node_name: str = ""
) -> dict[str, bytes]:
    """Contents of `hosts`, `hostname` and `resolv.conf`. The node's own are needed for hostNetwork and for its resolvers.

    Raises:
        PlanError: FailedCreatePodSandBox, as `pod_hostname`.
    """
    return {
        "hosts": hosts_file(pod, ips, node_hosts).encode(),
        "hostname": f"{pod_hostname(pod, node_name)}\n".encode(),
        "resolv.conf": resolv_conf(pod, node_resolv).encode(),
    }
