"""Who may talk to `pod proxy`."""

from __future__ import annotations

import pytest
from multidict import CIMultiDict

from nsrun.client.webfilter import from_elsewhere, host_of, rules
from nsrun.errors import UsageError

pytestmark = pytest.mark.pure


@pytest.mark.parametrize(
    ("header", "host"),
    [
        ("localhost", "localhost"),
        ("localhost:8001", "localhost"),
        ("127.0.0.1:8001", "127.0.0.1"),
        ("[::1]:8001", "[::1]"),
        ("[::1]", "[::1]"),
        ("evil.example:8001", "evil.example"),
        ("localhost:8001:x", "localhost:8001:x"),
        ("", ""),
    ],
)
def test_hosts(header: str, host: str) -> None:
    assert host_of(header) == host


@pytest.mark.parametrize(
    ("host", "accepted"),
    [
        ("localhost:8001", True),
        ("127.0.0.1", True),
        ("[::1]:1", True),
        ("localhost.evil.example", False),
        ("127.0.0.1.evil.example:8001", False),
        ("evil.example", False),
        ("", False),
    ],
)
def test_a_name_that_somebody_points_at_this_machine_is_refused(host: str, accepted: bool) -> None:
    assert (rules().refusal("GET", "/", CIMultiDict({"Host": host})) is None) is accepted


def test_lists() -> None:
    chosen = rules("^a$,^b$", "^/in/", "^/in/not", "POST,PUT")

    def refused(method: str, path: str, host: str) -> bool:
        return chosen.refusal(method, path, CIMultiDict({"Host": host})) is not None

    assert not refused("GET", "/in/x", "b:80")
    assert refused("GET", "/in/x", "c")
    assert refused("GET", "/in/not/x", "a")
    assert refused("GET", "/out", "a")
    assert refused("POST", "/in/x", "a")
    with pytest.raises(UsageError, match="no list of regular expressions"):
        rules("(")


OWN = {"Host": "localhost:8001"}
CROSS = {**OWN, "Sec-Fetch-Site": "cross-site"}


@pytest.mark.parametrize(
    ("method", "headers", "foreign"),
    [
        ("GET", OWN, False),
        ("POST", {**OWN, "Origin": "http://localhost:8001", "Sec-Fetch-Site": "same-origin"}, False),
        ("GET", {**OWN, "Sec-Fetch-Site": "none", "Sec-Fetch-Mode": "navigate"}, False),
        ("GET", {**CROSS, "Sec-Fetch-Mode": "navigate", "Sec-Fetch-Dest": "document"}, False),
        ("GET", {**CROSS, "Sec-Fetch-Mode": "navigate", "Sec-Fetch-Dest": "iframe"}, True),
        ("POST", {**CROSS, "Sec-Fetch-Mode": "navigate", "Sec-Fetch-Dest": "document"}, True),
        ("GET", {**CROSS, "Sec-Fetch-Mode": "no-cors", "Sec-Fetch-Dest": "image"}, True),
        ("GET", {**OWN, "Sec-Fetch-Site": "same-site", "Sec-Fetch-Mode": "cors"}, True),
        ("POST", {**OWN, "Origin": "http://evil.example"}, True),
        ("POST", {**OWN, "Origin": "null"}, True),
        ("GET", {**OWN, "Origin": "http://localhost:3000", "Upgrade": "websocket"}, True),
    ],
)
def test_other_sites_pages(method: str, headers: dict[str, str], foreign: bool) -> None:
    assert from_elsewhere(method, CIMultiDict(headers)) is foreign
