"""The table [images] of the configuration, names of registries, and where credentials are found."""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import Any

import pytest

from nsrun.errors import SpecError, UsageError
from nsrun.images import credentials, parse
from nsrun.images.credentials import Credentials
from nsrun.images.settings import ImageSettings

pytestmark = pytest.mark.pure


def test_a_whole_table() -> None:
    settings = ImageSettings.of(
        {
            "gc_high_percent": 90,
            "gc_low_percent": 70,
            "gc_minimum_age_s": 0,
            "gc_maximum_age_s": 86400,
            "short_names": {"app": "registry.example.org/team/app"},
            "registries": {
                "docker.io": {
                    "mirrors": ["https://mirror.example.org", "http://10.0.0.1:5000/prefix", "plain.example.org"]
                },
                "registry.example.org:5000": {"insecure": True, "ca": "/etc/ca.pem"},
            },
        }
    )
    assert ImageSettings.from_data(json.loads(json.dumps(settings.as_data()))) == settings
    assert str(settings.full(parse("app:1"))) == "registry.example.org/team/app:1"
    assert str(settings.full(parse("team/app:1"))) == "docker.io/team/app:1"
    assert str(settings.full(parse("other"))) == "docker.io/library/other:latest"
    assert ImageSettings.of(None) == ImageSettings()


@pytest.mark.parametrize(
    ("table", "text"),
    [
        ({"x": 1}, "key x"),
        ({"gc_high_percent": 101}, "gc_high_percent"),
        ({"gc_high_percent": True}, "gc_high_percent"),
        ({"gc_high_percent": 50}, "gc_low_percent"),
        ({"registries": []}, "registries"),
        ({"registries": {"a": 1}}, 'registries."a"'),
        ({"registries": {"a": {"mirrors": "x"}}}, "mirrors"),
        ({"registries": {"a": {"mirrors": ["ftp://x"]}}}, "mirrors"),
        ({"registries": {"a": {"insecure": "yes"}}}, "insecure"),
        ({"registries": {"a": {"ca": "ca.pem"}}}, "ca"),
        ({"registries": {"a": {"mirror": []}}}, "mirror"),
        ({"short_names": {"a": 1}}, "short_names.a"),
        ({"short_names": {"a": "UPPER"}}, "short_names.a"),
        ({"short_names": {"a": "b:1"}}, "short_names.a"),
        ({"short_names": {"a/b": "c"}}, "short_names.a/b"),
    ],
)
def test_tables_that_are_wrong(table: dict[str, Any], text: str) -> None:
    with pytest.raises(SpecError) as caught:
        ImageSettings.of(table)
    assert text in caught.value.brief
    assert caught.value.resolution


@pytest.mark.parametrize(
    ("written", "domain"),
    [
        ("docker.io", "docker.io"),
        ("https://index.docker.io/v1/", "docker.io"),
        ("registry.example.org", "registry.example.org"),
        ("https://registry.example.org:5000/", "registry.example.org:5000"),
        ("localhost:5000", "localhost:5000"),
        ("[::1]:5000", "[::1]:5000"),
    ],
)
def test_what_a_registry_is_called(written: str, domain: str) -> None:
    assert credentials.domain_of(written) == domain


@pytest.mark.parametrize("written", ["a b", "registry.example.org/team", "example", "http://"])
def test_what_is_no_registry(written: str) -> None:
    if written == "http://":
        assert credentials.domain_of(written) == "docker.io"
        return
    with pytest.raises(UsageError):
        credentials.domain_of(written)


def write(path: Path, **config: Any) -> str:
    path.write_text(json.dumps(config))
    return str(path)


def auth(user: str, password: str) -> dict[str, str]:
    return {"auth": base64.b64encode(f"{user}:{password}".encode()).decode()}


def test_the_most_exact_entry_wins_and_the_first_file(tmp_path: Path) -> None:
    first = write(tmp_path / "1", auths={"example.org/team/app": auth("exact", "1"), "example.org": auth("any", "2:3")})
    second = write(
        tmp_path / "2", auths={"example.org": auth("second", "x"), "https://index.docker.io/v1/": auth("hub", "y")}
    )
    sources = [str(tmp_path / "none"), first, second]
    assert credentials.find("example.org", "team/app", sources) == Credentials("exact", "1")
    assert credentials.find("example.org", "team/app/x", sources) == Credentials("exact", "1")
    assert credentials.find("example.org", "team/apple", sources) == Credentials("any", "2:3")
    assert credentials.find("docker.io", "library/x", sources) == Credentials("hub", "y")
    assert credentials.find("other.org", "x", sources) is None
    assert "2:3" not in repr(Credentials("any", "2:3"))


@pytest.mark.parametrize(
    "text", ["", "{", "[]", '{"auths": {"a.b": {"auth": "!"}}}', '{"auths": [], "credHelpers": 3}']
)
def test_files_that_are_wrong(tmp_path: Path, text: str) -> None:
    (tmp_path / "f").write_text(text)
    if text in ("[]", '{"auths": [], "credHelpers": 3}'):
        assert credentials.find("a.b", "x", [str(tmp_path / "f")]) is None
        return
    with pytest.raises(SpecError, match="credentials"):
        credentials.find("a.b", "x", [str(tmp_path / "f")])


def test_what_login_writes(tmp_path: Path) -> None:
    file = tmp_path / "etc/auth.json"
    assert credentials.store(file, "a.b", Credentials("me", "word")) is False
    assert file.stat().st_mode & 0o777 == 0o600
    assert credentials.find("a.b", "x", [str(file)]) == Credentials("me", "word")
    assert credentials.store(file, "a.b", None) is True
    assert credentials.store(file, "a.b", None) is False
    assert credentials.find("a.b", "x", [str(file)]) is None
