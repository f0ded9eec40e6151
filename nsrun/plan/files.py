"""The files that a pod brings along: /etc/hosts, /etc/hostname (S-HOSTS, S-HOSTNAME), and with them /etc/resolv.conf (`plan.dns`)."""

from __future__ import annotations

from collections.abc import Sequence

from nsrun.plan.dns import CLUSTER_DOMAIN, PodDns
from nsrun.plan.inputs import PlanError
from nsrun.spec.model import HostAlias, Pod

MAX_HOSTNAME = 64
"""Bytes that the kernel takes for a host name (__NEW_UTS_LEN)."""

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


def names_of(pod: Pod, domain: str = CLUSTER_DOMAIN) -> tuple[str, str]:
    """Host name and domain, either of which /etc/hosts gets (Kubernetes kubelet_pods.go GeneratePodHostNameAndDomain)."""
    spec = pod.spec
    if spec.hostnameOverride:
        return _fitting_name(spec.hostnameOverride), ""
    hostname = spec.hostname or _fitting_name(pod.metadata.name or "")
    return hostname, f"{spec.subdomain}.{pod.metadata.namespace}.svc.{domain}" if spec.subdomain else ""


def pod_hostname(pod: Pod, node_name: str = "", domain: str = CLUSTER_DOMAIN) -> str:
    """What gethostname(2) says in the pod: with hostNetwork the node's name, as the UTS namespace is then the host's.

    Raises:
        PlanError: FailedCreatePodSandBox, setHostnameAsFQDN with a name over 64 bytes.
    """
    if pod.spec.hostNetwork:
        return node_name
    hostname, suffix = names_of(pod, domain)
    if pod.spec.setHostnameAsFQDN and suffix:
        full = f"{hostname}.{suffix}"
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


def hosts_file(pod: Pod, ips: Sequence[str], node_hosts: str = "", domain: str = CLUSTER_DOMAIN) -> str:
    """/etc/hosts of every container of the pod; with hostNetwork the node's own with the aliases added (S-HOSTS)."""
    aliases = _aliases(pod.spec.hostAliases)
    if pod.spec.hostNetwork:
        if node_hosts and not node_hosts.endswith("\n"):
            node_hosts += "\n"
        return f"# Kubernetes-managed hosts file (host network).\n{node_hosts}{aliases}"
    hostname, suffix = names_of(pod, domain)
    names = f"{hostname}.{suffix}\t{hostname}" if suffix else hostname
    return "# Kubernetes-managed hosts file.\n" + _LOCAL + "".join(f"{ip}\t{names}\n" for ip in ips) + aliases


def pod_files(
    pod: Pod, ips: Sequence[str], dns: PodDns, node_hosts: str = "", node_name: str = "", domain: str = CLUSTER_DOMAIN
) -> dict[str, bytes]:
    """Contents of `hosts`, `hostname` and `resolv.conf`. The node's hosts and name are needed for hostNetwork.

    Raises:
        PlanError: FailedCreatePodSandBox, as `pod_hostname`.
    """
    return {
        "hosts": hosts_file(pod, ips, node_hosts, domain).encode(),
        "hostname": f"{pod_hostname(pod, node_name, domain)}\n".encode(),
        "resolv.conf": dns.text().encode(),
    }
