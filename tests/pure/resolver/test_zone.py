"""What there is by name."""

from __future__ import annotations

from ipaddress import ip_address, ip_network

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nsrun.resolver.zone import (
    AAAA,
    ANY,
    NOERROR,
    NS,
    NXDOMAIN,
    PTR,
    SOA,
    SRV,
    TXT,
    A,
    PodNames,
    ServiceNames,
    Zone,
    reversed_address,
)

D = "cluster.local"
PODS = (
    PodNames("web", "default", ("10.85.0.2", "fd00:85::2")),
    PodNames("db-0", "default", ("10.85.0.3",), "db-0", "db"),
    PodNames("db-1", "default", ("10.85.0.4",), "second", "db"),
    PodNames("db-2", "default", ("10.85.0.5",), "db-2", "db", listed=False),
    PodNames("db", "default", ("10.85.0.6",)),
    PodNames("web.v2", "shop", ("10.85.0.7",)),
    PodNames("host", "shop", ("10.85.0.1",)),
    PodNames("lonely", "shop", ("10.85.0.8",), "lonely", "none", listed=False),
)
ZONE = Zone(
    D, ("10.85.0.1", "fd00:85::1"), (ip_network("10.85.0.0/22"), ip_network("fd00:85::/64")), PODS, serial=7
)  # fmt: skip


def addresses(name: str, kind: int = A) -> list[str]:
    found = ZONE.find(name, kind)
    assert found is not None
    assert found.code == NOERROR
    return [text for _, text in found.records]


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("web.default.pod", ["10.85.0.2"]),
        ("web.v2.shop.pod", ["10.85.0.7"]),
        ("10-85-0-2.default.pod", ["10.85.0.2"]),
        ("db-0.db.default.svc", ["10.85.0.3"]),
        ("second.db.default.svc", ["10.85.0.4"]),
        # The pods of the subdomain that are ready, not the pod of that name.
        ("db.default.svc", ["10.85.0.3", "10.85.0.4"]),
        ("db.default.pod", ["10.85.0.6"]),
        # What a kubelet's search list makes of `web`, and of `web.default`.
        ("web.default.svc", ["10.85.0.2"]),
        ("db-2.default.svc", ["10.85.0.5"]),
        ("none.shop.svc", []),
        ("ns.dns", ["10.85.0.1"]),
    ],
)
def test_S_DNS_names_of_pods(name: str, expected: list[str]) -> None:
    assert addresses(f"{name}.{D}") == expected


@pytest.mark.parametrize("name", ["web.default.pod", "fd00-85--2.default.pod", "fd00-85-0-0-0-0-0-2.default.pod"])
def test_S_DNS_names_with_IPv6(name: str) -> None:
    assert addresses(f"{name}.{D}", AAAA) == ["fd00:85::2"]


@pytest.mark.parametrize(
    ("name", "kind", "code"),
    [
        ("nobody.default.pod", A, NXDOMAIN),
        ("10-85-0-99.default.pod", A, NXDOMAIN),
        # Of another namespace.
        ("10-85-0-2.shop.pod", A, NXDOMAIN),
        ("web.shop.svc", A, NXDOMAIN),
        # Not ready.
        ("db-2.db.default.svc", A, NXDOMAIN),
        ("db-0.default.pod", AAAA, NOERROR),
        ("web.default.pod", TXT, NOERROR),
        # What has something below it is there.
        ("svc", A, NOERROR),
        ("pod", A, NOERROR),
        ("default.svc", A, NOERROR),
        ("shop.pod", A, NOERROR),
        ("v2.shop.pod", A, NOERROR),
        ("other.svc", A, NXDOMAIN),
    ],
)
def test_S_DNS_what_is_not_there(name: str, kind: int, code: int) -> None:
    found = ZONE.find(f"{name}.{D}", kind)
    assert found is not None
    assert (found.code, found.records, found.apex) == (code, (), D)


def test_S_DNS_the_zone_itself() -> None:
    soa = f"ns.dns.{D}. hostmaster.{D}. 7 7200 1800 86400 5"
    assert addresses(D, SOA) == [soa]
    assert addresses(D, NS) == [f"ns.dns.{D}."]
    assert addresses(D, ANY) == [soa, f"ns.dns.{D}."]
    assert addresses(D) == []
    assert addresses(f"dns-version.{D}", TXT) == ['"1.1.0"']
    assert addresses(f"web.default.pod.{D}", ANY) == ["10.85.0.2", "fd00:85::2"]


@pytest.mark.parametrize(
    ("address", "name"),
    [
        ("10.85.0.2", "web.default.pod"),
        ("fd00:85::2", "web.default.pod"),
        ("10.85.0.4", "second.db.default.svc"),
        # Not ready: nobody finds it below its subdomain.
        ("10.85.0.5", "db-2.default.pod"),
    ],
)
def test_S_DNS_whose_address_it_is(address: str, name: str) -> None:
    assert addresses(ip_address(address).reverse_pointer, PTR) == [f"{name}.{D}."]


def test_S_DNS_addresses_of_nobody() -> None:
    inside = ZONE.find(ip_address("10.85.3.99").reverse_pointer, PTR)
    assert inside is not None
    assert (inside.code, inside.apex) == (NXDOMAIN, "3.85.10.in-addr.arpa")
    for outside in ("10.85.4.1", "8.8.8.8", "fd00:86::2"):
        assert ZONE.find(ip_address(outside).reverse_pointer, PTR) is None


@pytest.mark.parametrize(
    "name",
    ["example.com", "local", "xcluster.local", "in-addr.arpa", "85.10.in-addr.arpa", "1.2.3.4.5.in-addr.arpa", ""],
)
def test_S_DNS_what_others_are_asked_for(name: str) -> None:
    assert ZONE.find(name, NS) is None


def test_S_DNS_what_a_search_list_leaves_of_a_name_is_asked_of_nobody() -> None:
    for name in ("web", "nothing", "web.default", "web.v2.shop"):
        found = ZONE.find(name, AAAA)
        assert found is not None
        assert (found.code, found.apex) == (NXDOMAIN, "")
    assert ZONE.find("web.shop", A) is None


@pytest.mark.parametrize(
    ("client", "allowed"),
    [
        ("10.85.0.99", True),
        ("10.85.3.255", True),
        ("10.85.0.1", True),
        ("127.0.0.1", True),
        ("fd00:85::77", True),
        ("::1", True),
        ("::ffff:10.85.0.9", True),
        ("10.85.4.1", False),
        ("192.0.2.1", False),
        ("fd00:86::1", False),
        ("fe80::1%eth0", False),
        ("nonsense", False),
    ],
)
def test_S_DNS_only_pods_and_the_machine_are_answered(client: str, allowed: bool) -> None:
    assert ZONE.allows(client) is allowed


@given(st.ip_addresses())
def test_S_DNS_an_address_is_read_back_from_its_reverse_name(address: object) -> None:
    assert reversed_address(ip_address(str(address)).reverse_pointer) == address


@given(st.text("ab.-0159:fd", max_size=40), st.integers(0, 300))
def test_S_DNS_a_zone_has_an_answer_to_everything_below_it(name: str, kind: int) -> None:
    found = ZONE.find(f"{name}.{D}", kind)
    assert found is not None
    assert found.code == NOERROR or not found.records
    assert all(kind in (one, ANY) for one, _ in found.records)
    ZONE.find(name, kind)


def test_S_DNS_services() -> None:
    pods = (
        PodNames("a", "n", ("10.0.0.2", "fd00::2"), "first", "api"),
        PodNames("b", "n", ("10.0.0.3",), "b", "api"),
        PodNames("api", "n", ("10.0.0.4",)),
    )
    services = (
        ServiceNames(
            "n", "api", "", (("first", ("10.0.0.2", "fd00::2")), ("10-0-0-9", ("10.0.0.9",))), (("web", "tcp", 8080),)
        ),
        ServiceNames("n", "far", "192.0.2.1"),
        ServiceNames("n", "empty"),
    )
    zone = Zone(D, networks=(ip_network("10.0.0.0/24"),), pods=pods, services=services)

    def told(name: str, kind: int = A) -> list[str]:
        found = zone.find(f"{name}.{D}" if "arpa" not in name else name, kind)
        assert found is not None
        return [text for _, text in found.records]

    # The Service says who is meant, not the subdomain, nor the pod of that name.
    assert told("api.n.svc") == ["10.0.0.2", "10.0.0.9"]
    assert told("api.n.svc", AAAA) == ["fd00::2"]
    assert told("first.api.n.svc") == ["10.0.0.2"]
    assert told("10-0-0-9.api.n.svc") == ["10.0.0.9"]
    assert told("b.api.n.svc") == []
    assert told("_web._tcp.api.n.svc", SRV) == [f"0 100 8080 {one}.api.n.svc.{D}." for one in ("first", "10-0-0-9")]
    assert told("far.n.svc") == ["192.0.2.1"]
    assert told("empty.n.svc") == []
    assert told("api.n.pod") == ["10.0.0.4"]
    assert told("2.0.0.10.in-addr.arpa", PTR) == [f"first.api.n.svc.{D}."]
    assert told("3.0.0.10.in-addr.arpa", PTR) == [f"b.n.pod.{D}."]
    again = Zone.of(
        {
            "domain": D, "addresses": [], "networks": ["10.0.0.0/24"], "serial": 1,
            "pods": [["a", "n", ["10.0.0.2"], "first", "api", True]],
            "services": [["n", "api", "", [["first", ["10.0.0.2"]]], [["web", "tcp", 80]]]],
        }
    )  # fmt: skip
    assert again.services == (ServiceNames("n", "api", "", (("first", ("10.0.0.2",)),), (("web", "tcp", 80),)),)
