"""What an httpGet probe sends, and to whom (kubelet pkg/probe/http/request.go, Go's net/url and net/http)."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nsrun.probes.http import Request, request_for
from nsrun.probes.outcome import ProbeError
from nsrun.probes.ports import resolve_port
from nsrun.probes.url import Url, UrlError, probe_url, resolve
from nsrun.probes.wording import canonical, duration, errno_word, joined, quoted
from nsrun.spec.model import Container, ContainerPort, HTTPGetAction, HTTPHeader

pytestmark = pytest.mark.pure

CONTAINER = Container(name="a", ports=[ContainerPort(name="web", containerPort=8080), ContainerPort(containerPort=1)])


def sent(path: str = "/", *headers: tuple[str, str], **fields: str) -> str:
    action = HTTPGetAction(path=path, port=80, httpHeaders=[HTTPHeader(*one) for one in headers], **fields)
    return request_for(action, CONTAINER, "10.0.0.5").encode().decode()


def test_S_PROBE_http_request_is_the_kubelets() -> None:
    assert sent("/healthz") == (
        "GET /healthz HTTP/1.1\r\nHost: 10.0.0.5:80\r\nUser-Agent: kube-probe/1.36\r\nAccept: */*\r\nConnection: close\r\n\r\n"
    )


def test_S_PROBE_http_headers_of_the_manifest_are_sent_as_go_sends_them() -> None:
    text = sent("/", ("x-b", "2"), ("X-a", "1"), ("x-B", "3"), ("accept", "text/html"), ("user-agent", "me"))
    assert text.split("\r\n")[1:-2] == [
        "Host: 10.0.0.5:80", "User-Agent: me", "Accept: text/html", "X-A: 1", "X-B: 2", "X-B: 3", "Connection: close",
    ]  # fmt: skip


def test_S_PROBE_http_host_header_and_host_field() -> None:
    text = sent("/", ("Host", "example.com"))
    assert "Host: example.com\r\n" in text
    assert text.count("Host:") == 1
    request = request_for(HTTPGetAction(path="/", port=80, host="127.0.0.1"), CONTAINER, "10.0.0.5")
    assert (request.url.host, str(request.url)) == ("127.0.0.1", "http://127.0.0.1:80/")


def test_S_PROBE_http_empty_accept_and_agent_are_not_sent() -> None:
    text = sent("/", ("Accept", ""), ("User-Agent", ""))
    assert "Accept" not in text
    assert "User-Agent" not in text


@pytest.mark.parametrize(
    ("headers", "text"),
    [
        ([("X", "a\r\nEvil: 1")], 'net/http: invalid header field value for "X"'),
        ([("X Y", "a")], 'net/http: invalid header field name "X Y"'),
        ([("Host", "a b")], "http: invalid Host header"),
        ([("Host", "a\r\nEvil: 1")], "http: invalid Host header"),
    ],
)
def test_S_PROBE_http_nothing_can_be_smuggled_in_by_a_header(headers: list[tuple[str, str]], text: str) -> None:
    with pytest.raises(ProbeError) as caught:
        sent("/", *headers)
    assert str(caught.value) == text


@given(path=st.text(), name=st.text(), value=st.text(), host=st.text())
def test_S_PROBE_http_a_request_is_one_request_whatever_the_manifest_says(
    path: str, name: str, value: str, host: str
) -> None:
    try:
        text = sent(path, (name, value), ("Host", host))
    except (ProbeError, UnicodeEncodeError):
        return
    head, end, rest = text.partition("\r\n\r\n")
    lines = head.split("\r\n")
    assert (end, rest) == ("\r\n\r\n", "")
    assert 3 <= len(lines) <= 6
    assert lines[0].startswith("GET /")
    assert lines[0].endswith(" HTTP/1.1")
    assert "\n" not in head.replace("\r\n", "")


@pytest.mark.parametrize(
    ("path", "url"),
    [
        ("/", "http://h:80/"),
        ("healthz", "http://h:80/healthz"),
        ("/a?b=c&d#e", "http://h:80/a?b=c&d#e"),
        ("/a b", "http://h:80/a%20b"),
        ("/%7Ea", "http://h:80/%7Ea"),
        ("/a(b)", "http://h:80/a(b)"),
        ("/%zz?x", "http://h:80/%25zz%3Fx"),
        ("//evil/x", "http://h:80/x"),
        ("ftp://evil:99/x?y", "http://h:80/x?y"),
        ("/ä", "http://h:80/%C3%A4"),
        ("/a\n", "http://h:80/a%0A"),
    ],
)
def test_S_PROBE_http_url_of_a_path(path: str, url: str) -> None:
    assert str(probe_url("http", "h", 80, path)) == url


def test_S_PROBE_http_url_of_an_ipv6_address() -> None:
    url = probe_url("https", "fd00::1", 8443, "/x")
    assert (str(url), url.authority, url.number) == ("https://[fd00::1]:8443/x", "[fd00::1]:8443", 8443)


@pytest.mark.parametrize(
    ("location", "url"),
    [
        ("/b", "http://h:80/b"),
        ("b", "http://h:80/x/b"),
        ("../b?c", "http://h:80/b?c"),
        ("?q", "http://h:80/x/a?q"),
        ("", "http://h:80/x/a?z"),
        ("//other/b", "http://other/b"),
        ("https://h/b", "https://h/b"),
        ("https://u:p@h:444", "https://h:444/"),
        ("http://[fd00::1]:1/", "http://[fd00::1]:1/"),
        ("mailto:x", "mailto:///x"),
    ],
)
def test_S_PROBE_http_location(location: str, url: str) -> None:
    assert str(resolve(Url("http", "h", "80", "/x/a", "z"), location)) == url


@pytest.mark.parametrize("location", ["http://h:x/", "/%q", "http://[::1/", "/\x00", "http://h:123456/"])
def test_S_PROBE_http_a_location_that_is_none(location: str) -> None:
    with pytest.raises(UrlError):
        resolve(Url("http", "h", "80", "/"), location)


@given(st.text())
def test_S_PROBE_http_any_location_is_a_url_or_an_error(location: str) -> None:
    try:
        url = resolve(Url("http", "h", "80", "/x"), location)
    except (UrlError, UnicodeEncodeError):
        return
    assert url.path.startswith("/")
    assert not any(ord(c) < 32 for c in str(url))


def test_S_PROBE_ports_by_number_and_name() -> None:
    assert resolve_port(8080, CONTAINER) == 8080
    assert resolve_port("web", CONTAINER) == 8080
    for port, text in (
        ("nope", 'port "nope" not found'),
        (0, "invalid port number: 0"),
        (65536, "invalid port number: 65536"),
    ):
        with pytest.raises(ProbeError) as caught:
            resolve_port(port, CONTAINER)
        assert str(caught.value) == text


def test_S_HOOK_plain_request_of_a_server_without_tls_has_no_authorization() -> None:
    url = Url("https", "h", "80", "/")
    request = Request(url, (("User-Agent", "x"), ("Authorization", "secret"), ("X-Y", "z")))
    plain = request.plain()
    assert plain.url.scheme == "http"
    assert plain.headers == (("User-Agent", "x"), ("X-Y", "z"))


@pytest.mark.parametrize(
    ("text", "words"),
    [("a", '"a"'), ('a"b\\', '"a\\"b\\\\"'), ("\n\t\x01", '"\\n\\t\\x01"'), ("ä", '"ä"'), ("\udcff", '"\\xff"'), ("\u200b", '"\\u200b"')],
)  # fmt: skip
def test_words_are_quoted_as_go_does(text: str, words: str) -> None:
    assert quoted(text) == words


def test_words_of_times_errors_names_and_ends() -> None:
    assert [duration(s) for s in (1, 10, 60, 90, 3600, 3661)] == ["1s", "10s", "1m0s", "1m30s", "1h0m0s", "1h1m1s"]
    assert errno_word(111) == "connection refused"
    assert [canonical(name) for name in ("x-api-KEY", "Accept", "a b", "")] == ["X-Api-Key", "Accept", "a b", ""]
    assert (joined("10.0.0.1", 80), joined("::1", 80)) == ("10.0.0.1:80", "[::1]:80")
