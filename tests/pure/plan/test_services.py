"""The variables that tell of Services."""

from __future__ import annotations

import pytest

from nsrun.plan import ServiceAddress, ServicePort, service_variables

pytestmark = pytest.mark.pure


def test_S_ENV_variables_of_services_are_those_of_a_kubelet() -> None:
    ports = [ServicePort("", 8080, "TCP"), ServicePort("dns-udp", 53, "UDP")]
    assert service_variables([ServiceAddress("my-db", "10.96.0.7", ports)]) == {
        "MY_DB_SERVICE_HOST": "10.96.0.7",
        "MY_DB_SERVICE_PORT": "8080",
        "MY_DB_SERVICE_PORT_DNS_UDP": "53",
        "MY_DB_PORT": "tcp://10.96.0.7:8080",
        "MY_DB_PORT_8080_TCP": "tcp://10.96.0.7:8080",
        "MY_DB_PORT_8080_TCP_PROTO": "tcp",
        "MY_DB_PORT_8080_TCP_PORT": "8080",
        "MY_DB_PORT_8080_TCP_ADDR": "10.96.0.7",
        "MY_DB_PORT_53_UDP": "udp://10.96.0.7:53",
        "MY_DB_PORT_53_UDP_PROTO": "udp",
        "MY_DB_PORT_53_UDP_PORT": "53",
        "MY_DB_PORT_53_UDP_ADDR": "10.96.0.7",
    }


def test_S_ENV_a_service_without_an_address_has_no_variables() -> None:
    assert (
        service_variables([ServiceAddress("a", "", [ServicePort("", 1, "TCP")]), ServiceAddress("b", "10.0.0.1", [])])
        == {}
    )
    (host,) = (
        value
        for name, value in service_variables([ServiceAddress("a", "fd00::1", [ServicePort("", 1, "TCP")])]).items()
        if name == "A_PORT"
    )
    assert host == "tcp://[fd00::1]:1"
