"""Links of pages that are served below another path: which are rewritten, and that all else passes byte for byte."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nsrun.client.weblinks import TAG_MAX, LinkRewriter, cookie, rewritten

pytestmark = pytest.mark.pure

PREFIX = "/api/v1/namespaces/default/pods/web:80/proxy"


def change(address: str) -> str:
    return rewritten(address, PREFIX, "localhost:8001", ("10.0.0.5:80", "10.0.0.5"))


@pytest.mark.parametrize(
    ("address", "expected"),
    [
        ("/", f"{PREFIX}/"),
        ("/x/y?q=1#top", f"{PREFIX}/x/y?q=1#top"),
        ("x/y", "x/y"),
        ("../x", "../x"),
        ("?q", "?q"),
        ("#top", "#top"),
        ("", ""),
        ("mailto:a@b", "mailto:a@b"),
        ("data:text/html,/x", "data:text/html,/x"),
        ("http://example.com/x", "http://example.com/x"),
        ("//example.com/x", "//example.com/x"),
        ("http://10.0.0.5:80/x", f"http://localhost:8001{PREFIX}/x"),
        ("http://localhost:8001/x", f"http://localhost:8001{PREFIX}/x"),
        ("https://10.0.0.5/x", f"http://localhost:8001{PREFIX}/x"),
        (f"{PREFIX}/x", f"{PREFIX}/x"),
        (PREFIX, PREFIX),
        (f"{PREFIX}y", f"{PREFIX}{PREFIX}y"),
        ("http://[broken/x", "http://[broken/x"),
    ],
)
def test_addresses(address: str, expected: str) -> None:
    assert change(address) == expected
    assert change(change(address)) == change(address)


def test_without_a_prefix_only_the_pods_own_host_is_exchanged() -> None:
    for address, expected in (("/x", "/x"), ("http://10.0.0.5//evil/x", "http://localhost:8001//evil/x")):
        assert rewritten(address, "", "localhost:8001", ("10.0.0.5",)) == expected


@pytest.mark.parametrize(
    ("header", "expected"),
    [
        ("a=1", "a=1"),
        ("a=1; Path=/", f"a=1; Path={PREFIX}/"),
        ("a=1; path=/x; Domain=10.0.0.5; HttpOnly", f"a=1; Path={PREFIX}/x; HttpOnly"),
        ("a=1; Path=x; Secure", "a=1; Path=x; Secure"),
        ("__Host-a=1; Path=/; Secure", "__Host-a=1; Path=/; Secure"),
    ],
)
def test_cookies(header: str, expected: str) -> None:
    assert cookie(header, PREFIX) == expected


PAGES = [
    (b'<a href="/x">', b'<a href="%s/x">'),
    (b"<A class=b HREF = '/x?a=1&amp;b=2' >", b"<A class=b HREF = '%s/x?a=1&amp;b=2' >"),
    (b"<img src=/x.png><img/src=/y.png />", b"<img src=%s/x.png><img/src=%s/y.png />"),
    (b'<form action="/f"><button formaction=/g>', b'<form action="%s/f"><button formaction=%s/g>'),
    (b'<a title="/x" data-href="/x" hreflang=/x>', b'<a title="/x" data-href="/x" hreflang=/x>'),
    (b'<!-- <a href="/x"> --><a href="/y">', b'<!-- <a href="/x"> --><a href="%s/y">'),
    (b'<script src="/s">"<a href=/x>"</SCRIPT><a href=/y>', b'<script src="%s/s">"<a href=/x>"</SCRIPT><a href=%s/y>'),
    (b"<style><a href=/x></style>", b"<style><a href=/x></style>"),
    (b'1 < 2 <> <1 </a href="/x"> <?x href="/x"?>', b'1 < 2 <> <1 </a href="/x"> <?x href="/x"?>'),
    (b'<a x="1"=2 href="/x">', b'<a x="1"=2 href="%s/x">'),
    (b'<a href="/unfinished', b'<a href="/unfinished'),
    (b'<a title="a > b" href="/x">', b'<a title="a > b" href="%s/x">'),
    (b"\xff\xfe<a href='/\xff'>", b"\xff\xfe<a href='%s/\xff'>"),
    (b"<", b"<"),
]


def expectation(form: bytes) -> bytes:
    return form.replace(b"%s", PREFIX.encode())


@pytest.mark.parametrize(("page", "expected"), PAGES)
def test_pages(page: bytes, expected: bytes) -> None:
    links = LinkRewriter(change)
    assert links.feed(page) + links.close() == expectation(expected)
    # The same, however it is cut.
    links = LinkRewriter(change)
    assert b"".join(links.feed(page[at : at + 1]) for at in range(len(page))) + links.close() == expectation(expected)


MARKUP = st.lists(
    st.sampled_from(
        [
            b"<",
            b">",
            b"<a ",
            b"href=",
            b'"',
            b"'",
            b"/x",
            b" ",
            b"=",
            b"<!--",
            b"-->",
            b"<script>",
            b"</script>",
            b"t",
            b"\xc3",
        ]
    ),
    max_size=40,
).map(b"".join)


@given(MARKUP, st.integers(1, 7))
def test_cutting_changes_nothing(page: bytes, size: int) -> None:
    whole = LinkRewriter(change)
    expected = whole.feed(page) + whole.close()
    parts = LinkRewriter(change)
    got = b"".join(parts.feed(page[at : at + size]) for at in range(0, len(page), size)) + parts.close()
    assert got == expected
    same = LinkRewriter(str)
    assert same.feed(page) + same.close() == page


def test_a_tag_without_end_is_not_kept_back_for_ever() -> None:
    links = LinkRewriter(change)
    out = b"".join(links.feed(b' x="' + b"y" * 1000) for _ in range(1)) + links.feed(b"<a href='")
    for _ in range(300):
        out += links.feed(b"y" * 1000)
    assert len(out) > 300_000 - TAG_MAX
