"""What the server decides of names, and whom the resolver asks."""

from __future__ import annotations

from typing import Any

import pytest

from nsrun.errors import SpecError
from nsrun.resolver.hostconf import servers_in
from nsrun.server.dns_settings import DnsSettings
from nsrun.spec.model import Container, ContainerPort, ObjectMeta, Pod, PodCondition, PodIP, PodStatus
from nsrun.spec.model_kinds import Service, ServicePort, ServiceSpec
from nsrun.status.naming import Entry, naming, service_naming
from tests.pure.plan.pods import pod

READY = PodStatus(conditions=[PodCondition(type="Ready", status="True")])


def test_S_DNS_what_a_pod_is_found_by() -> None:
    one = pod(hostname="h", subdomain="s")
    assert naming(one, READY, ["10.0.0.2"], deleting=False) == ["web", "default", ["10.0.0.2"], "h", "s", True]
    # Not ready, and on its way out: not below its subdomain.
    assert naming(one, PodStatus(), ["10.0.0.2"], deleting=False) == ["web", "default", ["10.0.0.2"], "h", "s", False]
    assert naming(one, READY, ["10.0.0.2"], deleting=True) == ["web", "default", ["10.0.0.2"], "h", "s", False]
    assert naming(one, READY, [], deleting=False) is None
    # It has ended.
    assert naming(one, PodStatus(phase="Succeeded"), ["10.0.0.2"], deleting=False) is None


def test_S_DNS_who_is_behind_a_service() -> None:
    container = Container(name="c", image="i", ports=[ContainerPort(name="http", containerPort=8080)])

    def one(name: str, label: str, address: str, status: PodStatus = READY, **spec: Any) -> tuple[Pod, Entry]:
        made = pod(container, **spec)
        made.metadata.name, made.metadata.labels = name, {"app": label}
        entry = naming(made, status, [address], deleting=False)
        assert entry is not None
        return made, entry

    pods = [
        one("a", "api", "10.0.0.2", hostname="first", subdomain="api"),
        one("b", "api", "fd00::3"),
        one("c", "api", "10.0.0.4", PodStatus()),
        one("d", "other", "10.0.0.5"),
    ]
    ports = [
        ServicePort(name="web", port=80, targetPort="http"),
        ServicePort(name="dns", port=53, protocol="UDP"),
        ServicePort(port=9),
    ]
    spec = ServiceSpec(selector={"app": "api"}, ports=ports, clusterIP="10.96.0.7")
    service = Service(metadata=ObjectMeta(name="api", namespace="default"), spec=spec)
    listed = [["web", "tcp", 8080], ["dns", "udp", 53]]
    endpoints = [["first", ["10.0.0.2"]], ["fd00--3", ["fd00::3"]]]
    assert service_naming(service, pods) == ["default", "api", "", endpoints, listed]
    spec.publishNotReadyAddresses = True
    assert service_naming(service, pods) == ["default", "api", "", [*endpoints, ["10-0-0-4", ["10.0.0.4"]]], listed]
    spec.selector = {}
    assert service_naming(service, pods) == ["default", "api", "10.96.0.7", [], []]
    spec.type = "ExternalName"
    assert service_naming(service, pods) is None


def test_S_DNS_a_pod_with_the_machines_network_has_its_addresses() -> None:
    status = PodStatus(conditions=READY.conditions, podIPs=[PodIP(ip="192.0.2.1"), PodIP(ip="2001:db8::1")])
    assert naming(pod(hostNetwork=True), status, [], deleting=False) == [
        "web", "default", ["192.0.2.1", "2001:db8::1"], "web", "", True,
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", ["127.0.0.1"]),
        ("search x\noptions ndots:2\n", ["127.0.0.1"]),
        ("nameserver 127.0.0.53\n", ["127.0.0.53"]),
        ("nameserver 192.0.2.1\nnameserver 192.0.2.1\n  nameserver fe80::1%eth0\n", ["192.0.2.1", "fe80::1%eth0"]),
        # It is not to ask itself.
        ("nameserver 10.85.0.1\nnameserver 192.0.2.1\n", ["192.0.2.1"]),
        ("nameserver 10.85.0.1\n", []),
        ("nameserver\n# nameserver 192.0.2.9\n", ["127.0.0.1"]),
    ],
)
def test_S_DNS_whom_the_machine_asks(text: str, expected: list[str]) -> None:
    assert servers_in(text, ("10.85.0.1",)) == expected


def test_S_DNS_settings() -> None:
    assert DnsSettings.of(None) == DnsSettings("auto", "cluster.local", "/etc/resolv.conf")
    table = {"resolver": "off", "domain": "lab.test.", "resolvConf": "/run/resolv.conf"}
    assert DnsSettings.of(table) == DnsSettings("off", "lab.test", "/run/resolv.conf")


@pytest.mark.parametrize(
    "table",
    [{"resolver": True}, {"resolver": "on"}, {"domain": "Not_One"}, {"domain": 3}, {"resolvConf": "x"}, {"other": 1}],
)
def test_S_DNS_settings_that_are_refused(table: dict[str, Any]) -> None:
    with pytest.raises(SpecError, match=next(iter(table))):
        DnsSettings.of(table)
