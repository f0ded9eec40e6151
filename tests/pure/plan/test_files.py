"""S-HOSTS, S-HOSTNAME, S-DNS."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nsrun.plan import PlanError, pod_files, pod_hostname
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
    return pod_files(pod(**spec), ["10.200.0.5"], "127.0.0.1\tlocalhost\n192.0.2.7\tnode")["hosts"].decode()  # type: ignore[arg-type]


def _resolv(text: str = NODE_RESOLV, **spec: object) -> str:
    return pod_files(pod(**spec), [], "", text)["resolv.conf"].decode()  # type: ignore[arg-type]


def test_S_HOSTS_hosts() -> None:
    assert _hosts() == HEAD + "10.200.0.5\tweb\n"


def test_S_HOSTS_hosts_with_two_addresses() -> None:
    assert pod_files(pod(), ["10.200.0.5", "fd00::5"])["hosts"].decode() == HEAD + "10.200.0.5\tweb\nfd00::5\tweb\n"


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
    assert pod_files(pod(), [])["hostname"] == b"web\n"
    assert pod_files(pod(hostNetwork=True), [], node_name="node-1")["hostname"] == b"node-1\n"


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
