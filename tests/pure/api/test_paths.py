"""Paths: what they name, and that tricks name nothing."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nsrun.api import paths


@pytest.mark.parametrize(
    ("path", "found"),
    [
        ("/api/v1/pods", ("pods", "", "", "")),
        ("/api/v1/namespaces/x/pods", ("pods", "x", "", "")),
        ("/api/v1/namespaces/x/pods/a/", ("pods", "x", "a", "")),
        ("/api/v1/namespaces/x/pods/a/status", ("pods", "x", "a", "status")),
        ("/api/v1/namespaces/x", ("namespaces", "", "x", "")),
        ("/api/v1/namespaces/x/status", ("namespaces", "", "x", "status")),
        ("/api/v1/namespaces/x/finalize", ("namespaces", "", "x", "finalize")),
        ("/api/v1/nodes/n", ("nodes", "", "n", "")),
        ("/apis/coordination.k8s.io/v1/namespaces/x/leases/l", ("leases", "x", "l", "")),
        ("/api/v1/watch/namespaces/x/pods", ("pods", "x", "", "")),
    ],
)
def test_what_a_path_names(path: str, found: tuple[str, str, str, str]) -> None:
    parts = paths.segments(path)
    assert parts is not None
    target = paths.target(parts)
    assert target is not None
    part = target.subresource.name if target.subresource is not None else ""
    assert (target.resource.plural, target.namespace, target.name, part) == found


@pytest.mark.parametrize(
    "path",
    [
        "/api/v1/foos",
        "/api/v1/pods/a",
        "/api/v1/namespaces/x/nodes",
        "/api/v1/namespaces/x/pods/a/b",
        "/api/v1/namespaces/x/pods/a/log/b",
        "/api/v2/pods",
        "/apis/apps/v1",
        "/api/v1/watch",
    ],
)
def test_what_names_nothing(path: str) -> None:
    parts = paths.segments(path)
    assert parts is not None
    assert paths.target(parts) is None


@pytest.mark.parametrize(
    "path",
    [
        "/api//v1/pods",
        "//api/v1/pods",
        "/api/v1/../v1/pods",
        "/api/v1/%2e%2e/pods",
        "/api/v1/namespaces/a%2Fb/pods",
        "/api/v1/namespaces/a%00/pods",
        "/api/v1/namespaces/a%252Fb/pods",
        "/api/v1/pods\\..",
        "/api/v1/pods/%zz",
        "*",
        "",
    ],
)
def test_tricks_are_no_paths(path: str) -> None:
    assert paths.segments(path) is None


@given(st.text(max_size=80))
def test_any_text_is_a_path_or_none(text: str) -> None:
    parts = paths.segments("/" + text)
    if parts is not None:
        assert all(part and "/" not in part and part not in (".", "..") for part in parts)
        paths.target(parts)
