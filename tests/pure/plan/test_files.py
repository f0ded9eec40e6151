"""S-HOSTS, S-HOSTNAME, S-DNS."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nsrun.plan import ClusterDns, PlanError, pod_dns, pod_files, pod_hostname
from nsrun.plan.dns import PodDns
from nsrun.spec.model import HostAlias, PodDNSConfig, PodDNSConfigOption
from tests.pure.plan.pods import pod

HEAD = (
    "# Kubernetes-managed hosts file.\n"
    "127.0.0.1\tlocalhost\n"
    "::1\tlocalhost ip6-localhost ip6-loopback\n"
    "fe00::0\tip6-localnet\n"
    "fe00::0\tip6-mcastprefix\n"
    "fe00::1\tip6-allnodes\n"
    "fe00::2\tip6-allrouters\n"
)
NODE_RESOLV = """# a comment
; another
nameserver 192.0.2.1
nameserver   2001:db8::1
search old.example
search example.org. example.com .
options ndots:2 edns0
sortlist 1.2.3.4
"""


def _hosts(**spec: object) -> str:
    return pod_files(pod(**spec), ["10.200.0.5"], PodDns(), "127.0.0.1\tlocalhost\n192.0.2.7\tnode")["hosts"].decode()  # type: ignore[arg-type]


def _resolv(text: str = NODE_RESOLV, **spec: object) -> str:
    return pod_dns(pod(**spec), text, ClusterDns()).text()  # type: ignore[arg-type]


def test_S_HOSTS_hosts() -> None:
    assert _hosts() == HEAD + "10.200.0.5\tweb\n"


def test_S_HOSTS_hosts_with_two_addresses() -> None:
    assert (
        pod_files(pod(), ["10.200.0.5", "fd00::5"], PodDns())["hosts"].decode()
        == HEAD + "10.200.0.5\tweb\nfd00::5\tweb\n"
    )


def test_S_HOSTS_hosts_with_a_domain() -> None:
    assert _hosts(subdomain="sub", hostname="h") == HEAD + "10.200.0.5\th.sub.default.svc.cluster.local\th\n"


def test_S_HOSTS_hosts_with_a_name_that_overrides_all_others() -> None:
    assert _hosts(subdomain="sub", hostname="h", hostnameOverride="over.ride") == HEAD + "10.200.0.5\tover.ride\n"


def test_S_HOSTS_hosts_with_aliases() -> None:
    aliases = [HostAlias(ip="192.0.2.1", hostnames=["a", "b.example"]), HostAlias(ip="192.0.2.2", hostnames=["c"])]
    assert _hosts(hostAliases=aliases) == (
        HEAD + "10.200.0.5\tweb\n\n# Entries added by HostAliases.\n192.0.2.1\ta\tb.example\n192.0.2.2\tc\n"
    )


def test_S_HOSTS_hosts_of_the_host_network_are_the_nodes() -> None:
    assert _hosts(hostNetwork=True, hostAliases=[HostAlias(ip="192.0.2.2", hostnames=["c"])]) == (
        "# Kubernetes-managed hosts file (host network).\n127.0.0.1\tlocalhost\n192.0.2.7\tnode\n"
        "\n# Entries added by HostAliases.\n192.0.2.2\tc\n"
    )


def test_S_HOSTNAME_hostname_file() -> None:
    assert pod_files(pod(), [], PodDns())["hostname"] == b"web\n"
    assert pod_files(pod(hostNetwork=True), [], PodDns(), node_name="node-1")["hostname"] == b"node-1\n"


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("web", "web"),
        ("a" * 70, "a" * 63),
        ("a" * 62 + "-b", "a" * 62),
        ("a" * 61 + ".-b", "a" * 61),
        ("a.b.c", "a.b.c"),
    ],
)
def test_S_HOSTNAME_hostname_from_the_pods_name(name: str, expected: str) -> None:
    one = pod()
    one.metadata.name = name
    assert pod_hostname(one) == expected


def test_S_HOSTNAME_hostname_by_the_manifest() -> None:
    assert pod_hostname(pod(hostname="h", subdomain="s")) == "h"
    assert pod_hostname(pod(hostnameOverride="over.ride", hostname="h", subdomain="s")) == "over.ride"
    assert pod_hostname(pod(hostnameOverride="o" * 62 + ".x")) == "o" * 62
    assert pod_hostname(pod(hostname="h", subdomain="s", setHostnameAsFQDN=True)) == "h.s.default.svc.cluster.local"
    assert pod_hostname(pod(hostNetwork=True, hostname="h"), "node-1") == "node-1"


def test_S_HOSTNAME_a_full_name_that_the_kernel_does_not_take() -> None:
    with pytest.raises(
        PlanError, match="is too long \\(64 characters is the max, 70 characters requested\\)"
    ) as caught:
        pod_hostname(pod(hostname="h" * 40, subdomain="sub", setHostnameAsFQDN=True))
    assert caught.value.reason == "FailedCreatePodSandBox"


@given(st.text("ab-.", min_size=1, max_size=80).filter(lambda text: text.strip("-.")))
def test_S_HOSTNAME_a_hostname_always_fits(name: str) -> None:
    one = pod()
    one.metadata.name = name.strip("-.")
    result = pod_hostname(one)
    assert 0 < len(result) <= 63
    assert result[-1] not in "-."


@pytest.mark.parametrize("policy", ["ClusterFirst", "Default", None])
def test_S_DNS_resolv_conf_is_the_nodes(policy: str | None) -> None:
    assert _resolv(dnsPolicy=policy) == (
        "search example.org example.com .\nnameserver 192.0.2.1\nnameserver 2001:db8::1\noptions ndots:2 edns0\n"
    )


def test_S_DNS_resolv_conf_none_is_the_pods_alone() -> None:
    config = PodDNSConfig(
        nameservers=["192.0.2.9"], searches=["x.y"], options=[PodDNSConfigOption(name="ndots", value="1")]
    )
    assert _resolv(dnsPolicy="None", dnsConfig=config) == "search x.y\nnameserver 192.0.2.9\noptions ndots:1\n"


def test_S_DNS_resolv_conf_with_additions() -> None:
    config = PodDNSConfig(
        nameservers=["192.0.2.1", "192.0.2.9", "192.0.2.10"],
        searches=["example.com", "x.y"],
        options=[
            PodDNSConfigOption(name="ndots", value="1"),
            PodDNSConfigOption(name="edns0"),
            PodDNSConfigOption(name="rotate"),
        ],
    )
    assert _resolv(dnsConfig=config) == (
        "search example.org example.com . x.y\nnameserver 192.0.2.1\nnameserver 2001:db8::1\nnameserver 192.0.2.9\n"
        "options ndots:1 edns0 rotate\n"
    )


def test_S_DNS_resolv_conf_stays_within_what_resolvers_take() -> None:
    many = PodDNSConfig(nameservers=["192.0.2.9"], searches=[f"s{number}" for number in range(40)])
    (search, *_) = _resolv("", dnsConfig=many).splitlines()
    assert len(search.split()) == 1 + 32
    long = PodDNSConfig(nameservers=["192.0.2.9"], searches=[f"{letter * 250}" for letter in "abcdefghij"])
    (search, *_) = _resolv("", dnsConfig=long).splitlines()
    assert len(search.removeprefix("search ")) <= 2048
    assert len(search.split()) == 1 + 8


def test_S_DNS_resolv_conf_without_anything() -> None:
    assert _resolv("") == ""


CLUSTER = ClusterDns(("10.85.0.1",), "cluster.local")


def _cluster(text: str = NODE_RESOLV, cluster: ClusterDns = CLUSTER, **spec: Any) -> str:
    dns = pod_dns(pod(**spec), text, cluster)
    assert not dns.warnings
    return dns.text()


@pytest.mark.parametrize(
    "spec", [{}, {"dnsPolicy": "ClusterFirst"}, {"dnsPolicy": "ClusterFirstWithHostNet", "hostNetwork": True}]
)
def test_S_DNS_cluster_first_asks_the_resolver_of_pods(spec: dict[str, Any]) -> None:
    # The node's options do not count then; its searches do.
    assert _cluster(**spec) == (
        "search default.svc.cluster.local svc.cluster.local cluster.local example.org example.com .\n"
        "nameserver 10.85.0.1\n"
        "options ndots:5\n"
    )


@pytest.mark.parametrize("spec", [{"dnsPolicy": "Default"}, {"dnsPolicy": "ClusterFirst", "hostNetwork": True}])
def test_S_DNS_policies_that_ask_whom_the_node_asks(spec: dict[str, Any]) -> None:
    assert _cluster(**spec).startswith("search example.org example.com .\nnameserver 192.0.2.1\n")


def test_S_DNS_cluster_first_with_additions() -> None:
    config = PodDNSConfig(
        nameservers=["192.0.2.9"],
        searches=["x.y", "svc.cluster.local"],
        options=[PodDNSConfigOption(name="ndots", value="2"), PodDNSConfigOption(name="rotate")],
    )
    assert _cluster("", dnsConfig=config) == (
        "search default.svc.cluster.local svc.cluster.local cluster.local x.y\n"
        "nameserver 10.85.0.1\nnameserver 192.0.2.9\n"
        "options ndots:2 rotate\n"
    )


def test_S_DNS_another_domain() -> None:
    cluster = ClusterDns(("10.85.0.1", "fd00::1"), "lab.test")
    assert _cluster("", cluster) == (
        "search default.svc.lab.test svc.lab.test lab.test\nnameserver 10.85.0.1\nnameserver fd00::1\noptions ndots:5\n"
    )
    assert (
        pod_hostname(pod(hostname="h", subdomain="s", setHostnameAsFQDN=True), domain="lab.test")
        == "h.s.default.svc.lab.test"
    )


def test_S_DNS_without_a_resolver_the_kubelet_says_so() -> None:
    one = pod()
    one.metadata.uid = "1-2"
    dns = pod_dns(one, NODE_RESOLV, ClusterDns())
    assert dns.warnings == [
        (
            "MissingClusterDNS",
            'pod: "web_default(1-2)". kubelet does not have ClusterDNS IP configured and cannot create Pod using "ClusterFirst" policy.'
            ' Falling back to "Default" policy.',
        )
    ]
    assert dns.nameservers == ["192.0.2.1", "2001:db8::1"]


def test_S_DNS_what_is_left_out_is_told() -> None:
    config = PodDNSConfig(nameservers=[f"192.0.2.{number}" for number in range(3)], searches=["s" * 254, "t.u"])
    dns = pod_dns(pod(dnsConfig=config), "", CLUSTER)
    own = "default.svc.cluster.local svc.cluster.local cluster.local"
    assert dns.warnings == [
        (
            "DNSConfigForming",
            "Nameserver limits were exceeded, some nameservers have been omitted, the applied nameserver line is: "
            "10.85.0.1 192.0.2.0 192.0.2.1",
        ),
        (
            "DNSConfigForming",
            "Search Line limits were exceeded, some search paths have been omitted, the applied search line is: "
            + own
            + " t.u",
        ),
    ]


_searches = st.lists(st.text("ab.", min_size=1, max_size=300), max_size=60)


@given(_searches, _searches, st.lists(st.ip_addresses().map(str), max_size=6), st.booleans())
def test_S_DNS_the_limits_hold(node: list[str], own: list[str], servers: list[str], cluster: bool) -> None:
    text = f"search {' '.join(node)}\n" + "".join(f"nameserver {one}\n" for one in servers)
    config = PodDNSConfig(nameservers=servers, searches=own)
    dns = pod_dns(pod(dnsConfig=config), text, CLUSTER if cluster else ClusterDns())
    assert len(dns.nameservers) <= 3
    assert len(dns.searches) <= 32
    assert len(" ".join(dns.searches)) <= 2048
    assert all(len(one) <= 253 for one in dns.searches)
    assert len(set(dns.searches)) == len(dns.searches)
