"""The kernel's list of AppArmor profiles, and that of RuntimeDefault put there; the kernel and apparmor_parser are stand-ins."""

from __future__ import annotations

from pathlib import Path

import pytest

from nsrun.doctor import checks
from nsrun.plan import PlanError
from nsrun.plan.identity import APPARMOR_DEFAULT
from nsrun.security.apparmor import Profiles, default_profile, enabled

LISTED = "/usr/bin/man (enforce)\nmine (complain)\nwith space (enforce)\n:ns://other (kill)\n"


@pytest.fixture
def kernel(tmp_path: Path) -> Path:
    """A securityfs."""
    (tmp_path / "apparmor").mkdir()
    (tmp_path / "apparmor" / "profiles").write_text(LISTED)
    return tmp_path


def parser(directory: Path, script: str) -> str:
    """A directory with an apparmor_parser; its input goes to the file `read` beside it."""
    directory.mkdir(exist_ok=True)
    program = directory / "apparmor_parser"
    program.write_text(f"#!/bin/sh\necho $@ >>{directory}/ran\n/bin/cat >{directory}/read\n{script}\n")
    program.chmod(0o755)
    return str(directory)


def test_whether_it_is_enabled(kernel: Path) -> None:
    (kernel / "enabled").write_text("Y\n")
    assert enabled(kernel, kernel / "enabled")
    assert not enabled(kernel / "elsewhere", kernel / "enabled"), "securityfs is not mounted"
    (kernel / "enabled").write_text("N\n")
    assert not enabled(kernel, kernel / "enabled")
    assert not enabled(kernel, kernel / "missing")


def test_a_profile_that_is_loaded_is_used_and_another_is_named(kernel: Path) -> None:
    profiles = Profiles(kernel, "/nonexistent")
    assert profiles.names() == {"/usr/bin/man", "mine", "with space", ":ns://other"}
    profiles.ensure("mine")
    profiles.ensure("with space")
    with pytest.raises(PlanError, match="apparmor profile not found min") as caught:
        profiles.ensure("min")
    assert caught.value.reason == "CreateContainerError"


def test_that_of_runtime_default_is_loaded_once_by_each_server_and_again_when_it_is_gone(
    kernel: Path, tmp_path: Path
) -> None:
    listed = kernel / "apparmor" / "profiles"
    programs = parser(tmp_path / "bin", f"echo '{APPARMOR_DEFAULT} (enforce)' >>{listed}")
    profiles = Profiles(kernel, programs)
    for _ in range(3):
        profiles.ensure(APPARMOR_DEFAULT)
    ran = tmp_path / "bin" / "ran"
    assert ran.read_text().splitlines() == ["--replace --skip-cache --quiet"]
    assert (tmp_path / "bin" / "read").read_text() == default_profile()
    Profiles(kernel, programs).ensure(APPARMOR_DEFAULT)
    assert len(ran.read_text().splitlines()) == 2
    listed.write_text(LISTED)
    profiles.ensure(APPARMOR_DEFAULT)
    assert len(ran.read_text().splitlines()) == 3


def test_what_cannot_be_loaded_is_said_why(kernel: Path, tmp_path: Path) -> None:
    with pytest.raises(PlanError, match="apparmor_parser is not installed"):
        Profiles(kernel, "/nonexistent").ensure(APPARMOR_DEFAULT)
    programs = parser(tmp_path / "bin", "echo 'syntax error, line 3' >&2; exit 1")
    with pytest.raises(PlanError, match="ended with 1") as caught:
        Profiles(kernel, programs).ensure(APPARMOR_DEFAULT)
    assert caught.value.details == "syntax error, line 3"
    with pytest.raises(PlanError, match="does not say which AppArmor profiles it has"):
        Profiles(tmp_path / "unmounted").ensure("mine")


def test_the_text_of_runtime_default() -> None:
    lines = [line.strip() for line in default_profile("x").splitlines()]
    assert lines[0] == "profile x flags=(attach_disconnected, mediate_deleted) {"
    assert lines[-1] == "}"
    assert all(line.endswith(",") for line in lines[1:-1])
    assert {"file,", "capability,", "network,", "deny mount,", "deny /proc/sysrq-trigger rwklx,"} <= set(lines)
    assert "signal (receive) peer=unconfined," in lines


@pytest.mark.parametrize(
    ("enabled", "mounted", "parser", "words"),
    [
        (None, False, True, "not in this kernel, or switched off"),
        ("N", True, True, "not in this kernel, or switched off"),
        ("Y", False, True, "nobody can see its profiles"),
        ("Y", True, False, "apparmor_parser is missing"),
        ("Y", True, True, ""),
    ],
)
def test_the_doctor_says_what_there_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, enabled: str | None, mounted: bool, parser: bool, words: str
) -> None:
    if enabled is not None:
        (tmp_path / "enabled").write_text(f"{enabled}\n")
    if mounted:
        (tmp_path / "apparmor").mkdir()
    if parser:
        (tmp_path / "apparmor_parser").touch(0o755)
    monkeypatch.setattr(checks, "_APPARMOR", tmp_path / "enabled")
    monkeypatch.setattr(checks, "_SECURITYFS", tmp_path)
    monkeypatch.setattr(checks, "_ADMINS_PATH", str(tmp_path))
    (found,) = [check(tmp_path) for name, check in checks._CHECKS if name == "AppArmor"]
    assert (found.ok, found.optional, bool(found.hint)) == (not words, bool(words), bool(words))
    assert words in found.text
