"""Names of images (distribution/reference)."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nsrun.images import parse

DIGEST = "sha256:" + "0123456789abcdef" * 4


@pytest.mark.parametrize(
    ("text", "full", "familiar"),
    [
        ("busybox", "docker.io/library/busybox:latest", "busybox"),
        ("busybox:1.36", "docker.io/library/busybox:1.36", "busybox:1.36"),
        ("docker.io/library/busybox:latest", "docker.io/library/busybox:latest", "busybox"),
        ("docker.io/busybox", "docker.io/library/busybox:latest", "busybox"),
        ("index.docker.io/busybox", "docker.io/library/busybox:latest", "busybox"),
        ("grafana/grafana", "docker.io/grafana/grafana:latest", "grafana/grafana"),
        ("a/b/c", "docker.io/a/b/c:latest", "a/b/c"),
        ("localhost/x", "localhost/x:latest", "localhost/x"),
        ("localhost:5000/x:y", "localhost:5000/x:y", "localhost:5000/x:y"),
        ("quay.io/a/b:1", "quay.io/a/b:1", "quay.io/a/b:1"),
        ("REGISTRY/x", "REGISTRY/x:latest", "REGISTRY/x"),
        ("[fd00::1]:5000/x", "[fd00::1]:5000/x:latest", "[fd00::1]:5000/x"),
        ("nsrun.local/host", "nsrun.local/host:latest", "nsrun.local/host"),
        ("a__b-c--d.e_f", "docker.io/library/a__b-c--d.e_f:latest", "a__b-c--d.e_f"),
        (f"x@{DIGEST}", f"docker.io/library/x@{DIGEST}", f"x@{DIGEST}"),
        (f"q.io/x:1@{DIGEST}", f"q.io/x:1@{DIGEST}", f"q.io/x:1@{DIGEST}"),
        ("x:A-b_c.9", "docker.io/library/x:A-b_c.9", "x:A-b_c.9"),
    ],
)
def test_good_names(text: str, full: str, familiar: str) -> None:
    assert str(parse(text)) == full
    assert parse(text).familiar == familiar
    assert parse(familiar) == parse(text)


@pytest.mark.parametrize(
    "text",
    [
        "",
        ":",
        "@",
        "/",
        "/x",
        "x/",
        "a//b",
        "x:",
        "x:-tag",
        "x:" + "t" * 129,
        "x y",
        "x\n",
        "x\0",
        "-x",
        "x-",
        "x..y",
        "x___y",
        "X",
        "a/B",
        "ä",
        "../x",
        "x/../y",
        "http://x/y",
        "x@sha256:123",
        "x@y",
        "q.io:port/x",
        "a" * 256,
        "q.io/" + "a/" * 130 + "a",
    ],
)
def test_bad_names(text: str) -> None:
    with pytest.raises(ValueError, match=r"invalid reference format|must not be more than 255"):
        parse(text)


@given(st.text(max_size=60) | st.text("ab./:@-_AB0", max_size=30))
def test_a_name_reads_back_as_itself_or_not_at_all(text: str) -> None:
    try:
        found = parse(text)
    except ValueError:
        return
    assert parse(str(found)) == found
    assert ".." not in str(found).split("/")
    assert not str(found).startswith("/")
