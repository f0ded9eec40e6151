"""Entries in a kubeconfig that may have others, and whatever else lies there."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import yaml

from nsrun.api import kubeconfig
from nsrun.errors import SpecError

pytestmark = pytest.mark.pure
FRESH = kubeconfig.document("nsrun", "https://127.0.0.1:6443", authority="CA", token="secret")


@pytest.mark.parametrize("text", [b"\xff\xfe\xff", b"a: [", b"[1]", b"kind: Pod", b"clusters: {a: b}", b"users: x"])
def test_what_is_no_kubeconfig_is_left_alone(tmp_path: Path, text: bytes) -> None:
    path = tmp_path / "config"
    path.write_bytes(text)
    with pytest.raises(SpecError):
        kubeconfig.write(str(path), FRESH)
    assert path.read_bytes() == text
    assert list(tmp_path.iterdir()) == [path]


def test_a_file_that_lies_in_wait_does_not_get_the_token(tmp_path: Path) -> None:
    trap = tmp_path / "config.nsrun-new"
    trap.touch()
    with trap.open("rb") as held:
        kubeconfig.write(str(tmp_path / "config"), FRESH)
        assert held.read() == b""
    assert not trap.exists()
    assert yaml.safe_load((tmp_path / "config").read_text()) == FRESH


@pytest.mark.skipif(os.geteuid() != 0, reason="only root gives files away")
def test_the_file_stays_its_owners(tmp_path: Path) -> None:
    path = tmp_path / "config"
    path.touch()
    os.chown(path, 65534, 65533)
    link = tmp_path / "link"
    link.symlink_to(path)
    kubeconfig.write(str(link), FRESH)
    found = path.stat()
    assert (found.st_uid, found.st_gid, found.st_mode & 0o777) == (65534, 65533, 0o600)
    assert link.is_symlink()
