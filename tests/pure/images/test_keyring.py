"""Credentials out of Secrets: which fit an image, and who may use one that is here."""

from __future__ import annotations

import base64
import contextlib
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nsrun.errors import SpecError
from nsrun.images.keyring import EVERYBODY, KEPT, joined, keyring, lookup, may_use
from nsrun.spec.model import ObjectMeta, Secret

pytestmark = pytest.mark.pure


def secret(name: str, auths: Any, *, old: bool = False) -> Secret:
    """A Secret with a docker config."""
    key, kind, data = (
        (".dockercfg", "kubernetes.io/dockercfg", auths)
        if old
        else (".dockerconfigjson", "kubernetes.io/dockerconfigjson", {"auths": auths})
    )
    meta = ObjectMeta(name=name, namespace="default", uid=f"uid-{name}")
    return Secret(metadata=meta, type=kind, data={key: json.dumps(data).encode()})


def entry(user: str) -> dict[str, str]:
    """An entry as docker login writes it."""
    return {"auth": base64.b64encode(f"{user}:p:w".encode()).decode()}


def users(auths: Any, domain: str, path: str) -> list[str]:
    """Whose credentials are tried."""
    return [one.user for one in lookup(keyring([secret("s", auths)]), domain, path)]


@pytest.mark.parametrize(
    ("key", "domain", "path", "fits"),
    [
        ("quay.io", "quay.io", "team/app", True),
        ("quay.io/team", "quay.io", "team/app", True),
        ("quay.io/team", "quay.io", "teamwork", True),  # a beginning is enough, for the kubelet too
        ("quay.io/other", "quay.io", "team/app", False),
        ("https://quay.io/v2/", "quay.io", "team/app", True),
        ("http://quay.io/v1/team", "quay.io", "team/app", True),
        ("quay.io:443", "quay.io", "team/app", False),
        ("r.example:5000", "r.example:5000", "app", True),
        ("r.example", "r.example:5000", "app", False),
        ("*.example.org", "eu.example.org", "app", True),
        ("*.example.org", "a.b.example.org", "app", False),
        ("*.example.org:5000/x", "eu.example.org:5000", "x/y", True),
        ("e*u.example.org", "emu.example.org", "app", True),
        ("https://index.docker.io/v1/", "docker.io", "library/nginx", True),
        ("docker.io", "docker.io", "library/nginx", True),
        ("https://index.docker.io/v1/", "quay.io", "nginx", False),
        ("https://[::1/", "quay.io", "nginx", False),
    ],
)
def test_what_a_key_is_for(key: str, domain: str, path: str, fits: bool) -> None:
    assert users({key: entry("me")}, domain, path) == (["me"] if fits else [])


def test_the_most_exact_comes_first_and_all_are_tried() -> None:
    auths = {"quay.io": entry("a"), "quay.io/team/app": entry("c"), "quay.io/team": entry("b"), "x.io": entry("d")}
    assert users(auths, "quay.io", "team/app") == ["c", "b", "a"]
    # Docker Hub's old name counts only where no other entry fits.
    auths = {"index.docker.io": entry("hub"), "docker.io/library": entry("exact")}
    assert users(auths, "docker.io", "library/nginx") == ["exact"]
    assert users(auths, "docker.io", "team/app") == ["hub"]


def test_forms_of_an_entry() -> None:
    both = {"username": "u", "password": "p", "auth": base64.b64encode(b"v:q:r").decode().rstrip("=")}
    made = keyring(
        [
            secret("old", {"r.io": {"username": "u", "password": "p"}}, old=True),
            secret("new", {"r.io": both}),
            Secret(metadata=ObjectMeta(name="other"), type="Opaque", data={".dockerconfigjson": b"{}"}),
            Secret(metadata=ObjectMeta(name="none"), type="kubernetes.io/dockercfg", data={}),
        ]
    )
    assert [(one.user, one.password) for one in lookup(made, "r.io", "x")] == [("u", "p"), ("v", "q:r")]
    assert "q:r" not in repr(made)


@pytest.mark.parametrize("auths", [{"r.io": {"auth": "!"}}, {"r.io": {"auth": "dXNlcg=="}}, {"r.io": 3}, [1]])
def test_a_secret_that_holds_something_else(auths: Any) -> None:
    with pytest.raises(SpecError, match='secret "default/s" holds no docker config'):
        keyring([secret("s", auths)])


@given(st.binary(max_size=200))
def test_bytes_of_any_kind_are_credentials_or_an_error(data: bytes) -> None:
    one = Secret(metadata=ObjectMeta(name="s"), type="kubernetes.io/dockercfg", data={".dockercfg": data})
    with contextlib.suppress(SpecError):
        keyring([one])


def test_who_may_use_an_image_that_is_here() -> None:
    (mine,) = keyring([secret("a", {"r.io": entry("me")})])
    (rotated,) = keyring([secret("a", {"r.io": entry("changed")})])
    (same,) = keyring([secret("b", {"r.io": entry("me")})])
    (other,) = keyring([secret("b", {"r.io": entry("you")})])
    access = joined((), [mine.grant])
    assert may_use((), [])
    assert may_use((EVERYBODY,), [])
    assert not may_use(access, [])
    assert may_use(access, [mine])
    assert may_use(access, [rotated])
    assert may_use(access, [same])
    assert not may_use(access, [other])
    assert may_use(joined(access, [other.grant]), [other])
    assert joined(access, [EVERYBODY]) == (EVERYBODY,)
    assert len(joined((), [f"{at}/u/n/s" for at in range(500)])) == KEPT
