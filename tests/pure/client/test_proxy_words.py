"""What a path or the command line of `pod proxy` names."""

from __future__ import annotations

from typing import Any

import pytest

from nsrun.client.proxy import Target, port_of, target
from nsrun.client.webpages import pods_page
from nsrun.errors import UsageError

pytestmark = pytest.mark.pure


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("web", Target("n", "web")),
        ("web:80", Target("n", "web", "80")),
        ("web:http", Target("n", "web", "http")),
        ("http:web:80", Target("n", "web", "80")),
        ("https:web:8443", Target("n", "web", "8443", True)),
        ("https:web:", Target("n", "web", "", True)),
        (":web:80", Target("n", "web", "80")),
    ],
)
def test_targets(text: str, expected: Target) -> None:
    assert target(text, "n") == expected


@pytest.mark.parametrize("text", ["", ":", "web:", ":80", "ftp:web:80", "https::80", "a:b:c:d"])
def test_what_is_no_target(text: str) -> None:
    with pytest.raises(UsageError, match="invalid pod request"):
        target(text)


def pod(*ports: dict[str, Any], name: str = "web") -> dict[str, Any]:
    containers = [{"name": "first"}, {"name": "second", "ports": list(ports)}]
    return {"metadata": {"name": name}, "spec": {"containers": containers}, "status": {"phase": "Running"}}


def test_ports() -> None:
    some = pod({"containerPort": 8080, "name": "http"}, {"containerPort": 9090})
    assert port_of(some, Target(None, "web")) == 8080
    assert port_of(some, Target(None, "web", "http")) == 8080
    assert port_of(some, Target(None, "web", "7")) == 7
    assert port_of(pod(), Target(None, "web")) == 80
    assert port_of(pod(), Target(None, "web", tls=True)) == 443
    for bad in ("0", "65536", "nothing", "٣"):
        with pytest.raises(UsageError):
            port_of(some, Target(None, "web", bad))


def test_the_front_page() -> None:
    page = pods_page(
        [pod({"containerPort": 8080}, {"containerPort": 8443}, {"containerPort": 53, "protocol": "UDP"}, name="<b>")]
    )
    assert 'href="/api/v1/namespaces/default/pods/&lt;b&gt;:8080/proxy/"' in page
    assert 'href="/api/v1/namespaces/default/pods/https:&lt;b&gt;:8443/proxy/"' in page
    assert "<b>" not in page
    assert ":53/" not in page
