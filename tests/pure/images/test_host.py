"""The built-in image: what it is made of on this machine and on made-up ones."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from nsrun.images import ImageStore, RootBind, host


@pytest.fixture
def machine(tmp_path: Path) -> Path:
    """Another machine's root, with secrets in all the places where they are kept."""
    root = tmp_path / "machine"
    for name in (
        "usr/bin",
        "usr/lib",
        "etc/ssl/certs",
        "etc/ssl/private",
        "etc/alternatives",
        "root",
        "home/a",
        "var/lib",
        "opt",
        "lib64",
    ):
        (root / name).mkdir(parents=True)
    (root / "bin").symlink_to("usr/bin")
    (root / "lib").symlink_to("usr/lib")
    (root / "usr/bin/bash").write_text("")
    for name in (
        "etc/shadow",
        "etc/passwd",
        "etc/hostname",
        "etc/hosts",
        "etc/resolv.conf",
        "etc/ssl/private/key.pem",
        "root/.ssh",
        "home/a/x",
        "var/lib/x",
        "opt/x",
        "etc/machine-id",
    ):
        (root / name).write_text("SECRET")
    (root / "etc/ssl/certs/ca-certificates.crt").write_text("public")
    (root / "etc/ssl/certs/hidden.pem").write_text("SECRET")
    (root / "etc/ssl/certs/hidden.pem").chmod(0o600)
    (root / "etc/ld.so.conf.d").mkdir()
    (root / "etc/ld.so.conf.d/x.conf").write_text("/usr/lib/x")
    (root / "etc/alternatives/vi").symlink_to("/usr/bin/vim")
    (root / "etc/services").write_text("SECRET")
    (root / "etc/services").chmod(0o640)
    return root


def test_only_what_is_public_comes_along(machine: Path, tmp_path: Path) -> None:
    made = host.skeleton(str(machine))
    target = tmp_path / "target"
    target.mkdir()
    made.write(str(target))
    files = {str(path.relative_to(target)): path for path in target.rglob("*")}
    contents = b"".join(path.read_bytes() for path in files.values() if path.is_file() and not path.is_symlink())
    assert b"SECRET" not in contents
    assert os.listdir(target / "root") == os.listdir(target / "home") == os.listdir(target / "opt") == []
    assert files["etc/ssl/certs/ca-certificates.crt"].read_text() == "public"
    assert files["etc/ld.so.conf.d/x.conf"].read_text() == "/usr/lib/x"
    assert os.readlink(files["etc/alternatives/vi"]) == "/usr/bin/vim"
    assert os.readlink(files["bin"]) == "usr/bin"
    assert "etc/ssl/private" not in files
    assert "etc/machine-id" not in files
    assert (target / "etc/hostname").read_text() == ""
    assert (target / "etc/passwd").read_text().startswith("root:x:0:0:root:/root:/bin/bash\n")
    assert stat.S_IMODE(os.stat(target / "tmp").st_mode) == 0o1777
    assert stat.S_IMODE(os.stat(target / "root").st_mode) == 0o700
    assert stat.S_IMODE(os.stat(target / "etc/shadow").st_mode) == 0o640


def test_what_is_not_merged_into_usr_is_bound(machine: Path) -> None:
    assert host.skeleton(str(machine)).binds == (
        RootBind(f"{machine}/usr", "/usr"),
        RootBind(f"{machine}/lib64", "/lib64"),
    )


def test_it_changes_when_the_machine_does(machine: Path) -> None:
    before, mark = host.skeleton(str(machine)).digest, host.signature(str(machine))
    assert host.signature(str(machine)) == mark
    assert host.skeleton(str(machine)).digest == before
    (machine / "etc/ld.so.conf.d/y.conf").write_text("/usr/lib/y")
    assert host.signature(str(machine)) != mark
    assert host.skeleton(str(machine)).digest != before


def test_on_this_machine(tmp_path: Path) -> None:
    store = ImageStore(tmp_path, durable=False)
    image = store.look("nsrun.local/host", "Always")
    assert image is not None
    (lower,) = image.rootfs.lowers
    assert RootBind("/usr", "/usr") in image.rootfs.binds
    assert sorted(os.listdir(lower)) == sorted(
        {path.partition("/")[0] for path, _ in host.DIRECTORIES}
        | {name for name in host.MERGED if os.path.lexists(f"/{name}")}
    )
    assert os.listdir(f"{lower}/root") == os.listdir(f"{lower}/home") == os.listdir(f"{lower}/opt") == []
    allowed = {path.partition("/")[2].partition("/")[0] for path in host.COPIED}
    allowed |= {path.partition("/")[2] for path, _, _ in host.FILES} | {"mtab"}
    assert set(os.listdir(f"{lower}/etc")) <= allowed
    assert image.user("www-data").uid == 33
    again = ImageStore(tmp_path, durable=False).look("nsrun.local/host:latest", "Never")
    assert again is not None
    assert (again.id, again.rootfs) == (image.id, image.rootfs)
