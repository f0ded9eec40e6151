"""Ranges, names and addresses: nothing but values."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv4Network
from itertools import islice

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nsrun.errors import ConflictError, SpecError
from nsrun.network.addressing import (
    DEFAULT_RANGES,
    NetworkConfig,
    choose_range,
    free_addresses,
    gateway_of,
    mac_of,
    networks,
    parse_ranges,
    valid_link_name,
)

NETWORK = IPv4Network("10.85.0.0/16")


def nets(*texts: str) -> list[IPv4Network]:
    return [IPv4Network(text) for text in texts]


def test_default_range_is_taken_on_an_ordinary_host() -> None:
    used = nets("0.0.0.0/0", "192.168.1.0/24", "172.17.0.0/16", "169.254.0.0/16")
    assert choose_range(NetworkConfig(), used) == NETWORK


@pytest.mark.parametrize(
    ("used", "expected"),
    [
        (["10.85.0.0/16"], "10.86.0.0/16"),
        (["10.85.3.0/24", "10.86.0.1/32"], "10.87.0.0/16"),
        (["10.0.0.0/8"], "172.24.0.0/16"),
        (["10.0.0.0/8", "172.16.0.0/12"], "192.168.200.0/24"),
    ],
)
def test_ranges_the_host_uses_are_passed_over(used: list[str], expected: str) -> None:
    assert choose_range(NetworkConfig(), nets(*used)) == IPv4Network(expected)


def test_no_free_range_says_what_uses_them_and_where_to_name_one() -> None:
    with pytest.raises(ConflictError) as caught:
        choose_range(NetworkConfig(), nets("10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16"))
    assert "10.85.0.0/16 (by 10.0.0.0/8)" in caught.value.brief
    assert "[network] range" in (caught.value.resolution or "")


def test_a_named_range_may_be_part_of_a_wider_route_but_not_hold_the_hosts_own() -> None:
    config = NetworkConfig.for_root(None, {"range": "10.200.0.0/16"})
    assert choose_range(config, nets("10.0.0.0/8")) == IPv4Network("10.200.0.0/16")
    with pytest.raises(ConflictError):
        choose_range(config, nets("10.200.7.0/24"))
    with pytest.raises(ConflictError):
        choose_range(config, nets("10.200.0.0/16"))


def test_a_list_of_ranges_is_tried_in_order() -> None:
    config = NetworkConfig.for_root(None, {"range": ["10.200.0.0/16", "10.201.0.0/24"]})
    assert choose_range(config, nets("10.200.7.0/24")) == IPv4Network("10.201.0.0/24")


@given(st.lists(st.sampled_from(DEFAULT_RANGES), unique=True, max_size=len(DEFAULT_RANGES) - 1))
def test_the_chosen_range_never_overlaps_a_used_one(used: list[IPv4Network]) -> None:
    assert not any(choose_range(NetworkConfig(), used).overlaps(other) for other in used)


def test_default_ranges_are_private_and_do_not_overlap() -> None:
    assert all(network.is_private for network in DEFAULT_RANGES)
    for position, network in enumerate(DEFAULT_RANGES):
        assert not any(network.overlaps(other) for other in DEFAULT_RANGES[position + 1 :])


@pytest.mark.parametrize(
    "settings",
    [
        {"range": "10.85.0.1/16"},
        {"range": "fd00::/64"},
        {"range": "10.0.0.0/30"},
        {"range": 7},
        {"range": []},
        {"bridge": "a-name-of-16-byte"},
        {"bridge": "a/b"},
        {"bridge": 3},
        {"mtu": 100},
        {"mtu": True},
        {"mtu": "1500"},
        {"bridg": "x"},
    ],
    ids=repr,
)
def test_wrong_settings_name_the_key(settings: dict[str, object]) -> None:
    with pytest.raises(SpecError) as caught:
        NetworkConfig.for_root(None, settings)
    assert next(iter(settings)) in caught.value.brief


def test_settings_are_used() -> None:
    config = NetworkConfig.for_root(None, {"range": "10.200.0.0/16", "bridge": "pods0", "mtu": 1400})
    assert (config.bridge, config.mtu, config.ranges) == ("pods0", 1400, (IPv4Network("10.200.0.0/16"),))
    assert parse_ranges("10.0.0.0/29") == (IPv4Network("10.0.0.0/29"),)


def test_names_of_two_roots_share_nothing() -> None:
    default, one, two = (
        NetworkConfig.for_root(None),
        NetworkConfig.for_root("/tmp/one"),
        NetworkConfig.for_root("/tmp/two"),
    )
    assert default.bridge == "nsrun0"
    assert len({config.bridge for config in (default, one, two)}) == 3
    assert len({config.table for config in (default, one, two)}) == 3
    assert len({config.link_prefix for config in (default, one, two)}) == 3
    assert len({config.doomed_group for config in (default, one, two)}) == 3
    assert NetworkConfig.for_root("/tmp/one") == NetworkConfig.for_root("/tmp/../tmp/one")


@given(st.uuids(), st.uuids())
def test_link_names_fit_and_are_the_pods_own(one: object, two: object) -> None:
    config = NetworkConfig.for_root("/tmp/one")
    name = config.link_name(str(one))
    assert valid_link_name(name)
    assert name.startswith(config.link_prefix)
    assert name == config.link_name(str(one))
    assert one == two or name != config.link_name(str(two))
    assert not name.startswith(config.bridge)
    assert valid_link_name(config.bridge)


@pytest.mark.parametrize("name", ["", ".", "..", "a b", "a/b", "a:b", "x" * 16, "ü" * 8])
def test_link_names_the_kernel_refuses(name: str) -> None:
    assert not valid_link_name(name)


def test_addresses_begin_behind_the_gateway() -> None:
    assert str(gateway_of(NETWORK)) == "10.85.0.1"
    assert [str(address) for address in islice(free_addresses(NETWORK, [], None), 2)] == ["10.85.0.2", "10.85.0.3"]


def test_a_freed_address_is_used_again_last() -> None:
    small = IPv4Network("10.0.0.0/29")
    order = [str(address) for address in free_addresses(small, ["10.0.0.6"], "10.0.0.3")]
    assert order == ["10.0.0.4", "10.0.0.5", "10.0.0.2", "10.0.0.3"]
    assert next(str(address) for address in free_addresses(small, [], "10.0.0.6")) == "10.0.0.2"
    assert next(str(address) for address in free_addresses(small, [], "192.168.0.1")) == "10.0.0.2"


@given(
    st.integers(22, 29),
    st.sets(st.integers(0, 1023), max_size=40),
    st.one_of(st.none(), st.integers(0, 1023)),
)
def test_every_address_is_offered_once_and_no_taken_one(prefix: int, taken: set[int], last: int | None) -> None:
    network = IPv4Network((IPv4Address("10.9.0.0"), prefix))
    base = int(network.network_address)
    texts = {str(IPv4Address(base + number)) for number in taken}
    offered = [
        str(address)
        for address in free_addresses(network, texts, str(IPv4Address(base + last)) if last is not None else None)
    ]
    everything = {str(address) for address in network.hosts()} - {str(gateway_of(network))}
    assert len(offered) == len(set(offered))
    assert set(offered) == everything - texts


def test_mac_is_local_unicast_and_made_of_the_address() -> None:
    mac = mac_of(IPv4Address("10.85.1.2"))
    assert mac == "0a:58:0a:55:01:02"
    first = int(mac.split(":")[0], 16)
    assert first & 2
    assert not first & 1


def test_networks_of_addresses_with_host_bits() -> None:
    assert networks(["192.168.1.7/24", "10.0.0.1/32"]) == set(nets("192.168.1.0/24", "10.0.0.1/32"))


def test_further_networks_have_everything_of_their_own() -> None:
    for root in (None, "/tmp/x"):
        every = NetworkConfig.all_for_root(
            root,
            {"mtu": 1400, "shop": {"range": "10.201.0.0/24", "namespaces": ["shop"]}, "a-name-of-more-letters": {}},
        )
        assert list(every) == ["default", "shop", "a-name-of-more-letters"]
        for told in ("bridge", "table", "tag", "link_prefix", "doomed_group"):
            assert len({getattr(one, told) for one in every.values()}) == 3, told
        assert all(valid_link_name(one.bridge) for one in every.values())
        assert set(every["shop"].beside) == {one.bridge for one in every.values()} - {every["shop"].bridge}
        assert (every["default"].mtu, every["shop"].mtu) == (1400, 0)
        assert every["shop"].namespaces == ("shop",)
    assert NetworkConfig.all_for_root(None)["default"] == NetworkConfig.for_root(None)


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"default": {}}, "cannot have the name 'default'"),
        ({"Shop": {}}, "cannot have the name 'Shop'"),
        ({"a/b": {}}, "cannot have the name 'a/b'"),
        ({"range": {}}, "[network] range"),
        ({"shop": {"rang": 1}}, "[network.shop] has no key 'rang'"),
        ({"shop": {"range": 1}}, "[network.shop] range"),
        ({"shop": {"isolated": "yes"}}, "[network.shop] isolated"),
        ({"shop": {"namespaces": "shop"}}, "[network.shop] namespaces"),
        ({"namespaces": ["shop"]}, "[network] namespaces"),
        ({"bridge": "b0", "shop": {"bridge": "b0"}}, "default and shop share the bridge b0"),
        ({"a": {"namespaces": ["x"]}, "b": {"namespaces": ["y", "x"]}}, "a and b share the namespace x"),
        ({"range": "10.0.0.0/16", "b": {"range": "10.0.1.0/24"}}, "share addresses: 10.0.0.0/16 and 10.0.1.0/24"),
        ({"range6": "fd00::/64", "b": {"range6": "fd00::/32"}}, "share addresses: fd00::/64 and fd00::/32"),
    ],
    ids=repr,
)
def test_networks_that_cannot_be_are_told(settings: dict[str, object], words: str) -> None:
    with pytest.raises(SpecError) as caught:
        NetworkConfig.all_for_root(None, settings)
    assert words in caught.value.brief
