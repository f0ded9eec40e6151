"""Users of an image, looked up without trust in it."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from nsrun.images.users import look_up
from nsrun.plan import ImageUser, PlanError

PASSWD = """root:x:0:0:root:/root:/bin/sh
# a comment
app:x:1000:1001:App:/home/app:/bin/sh
1000:x:7:7::/seven:
bare:x:9:9
daemon:x:1:1:daemon:/usr/sbin:/usr/sbin/nologin
"""
GROUP = "root:x:0:\nstaff:x:50:app,daemon\naudio:x:29:app\nstaff2:x:50:app\nbroken:x:y:app\n"


@pytest.fixture
def lowers(tmp_path: Path) -> tuple[str, ...]:
    (tmp_path / "top").mkdir()
    (tmp_path / "base/etc").mkdir(parents=True)
    (tmp_path / "base/etc/passwd").write_text(PASSWD)
    (tmp_path / "base/etc/group").write_text(GROUP)
    return str(tmp_path / "top"), str(tmp_path / "base")


@pytest.mark.parametrize(
    ("spec", "expected"),
    [
        ("", ImageUser(0, 0, (), "/root")),
        ("0", ImageUser(0, 0, (), "/root")),
        ("app", ImageUser(1000, 1001, (50, 29), "/home/app")),
        ("app:audio", ImageUser(1000, 29, (50, 29), "/home/app")),
        ("app:77", ImageUser(1000, 77, (50, 29), "/home/app")),
        ("1", ImageUser(1, 1, (50,), "/usr/sbin")),
        ("4242", ImageUser(4242, 0, (), "/")),
        ("4242:50", ImageUser(4242, 50, (), "/")),
        ("bare", ImageUser(9, 9, (), "/")),
        # A name that looks like a number is a name first.
        ("1000", ImageUser(7, 7, (), "/seven")),
    ],
)
def test_look_up(lowers: tuple[str, ...], spec: str, expected: ImageUser) -> None:
    assert look_up(lowers, spec) == expected


@pytest.mark.parametrize("spec", ["nobody", "app:nobody", "-1", "4294967295", "99999999999", "١", "0:-1"])
def test_who_cannot_be(lowers: tuple[str, ...], spec: str) -> None:
    with pytest.raises(PlanError) as caught:
        look_up(lowers, spec)
    assert caught.value.reason == "CreateContainerError"


def test_an_image_without_users(tmp_path: Path) -> None:
    assert look_up((str(tmp_path),), "5:6") == ImageUser(5, 6, (), "/")


def test_the_topmost_layer_counts(lowers: tuple[str, ...], tmp_path: Path) -> None:
    (tmp_path / "top/etc").mkdir()
    (tmp_path / "top/etc/passwd").write_text("app:x:5:6::/x:\n")
    assert look_up(lowers, "app").uid == 5


@pytest.mark.parametrize("text", ["/outside", "../../outside", "../../../../../../../../etc/passwd"])
def test_a_link_does_not_lead_out_of_the_image(tmp_path: Path, text: str) -> None:
    (tmp_path / "outside").write_text("evil:x:1:1::/:\n")
    (tmp_path / "image/etc").mkdir(parents=True)
    (tmp_path / "image/etc/passwd").symlink_to(text)
    with pytest.raises(PlanError, match="no matching entries"):
        look_up((str(tmp_path / "image"),), "evil")
    with pytest.raises(PlanError, match="no matching entries"):
        look_up((str(tmp_path / "image"),), "daemon")


def test_a_pipe_for_a_file_does_not_stop_anything(tmp_path: Path) -> None:
    (tmp_path / "etc").mkdir()
    os.mkfifo(tmp_path / "etc/passwd")
    assert look_up((str(tmp_path),), "5") == ImageUser(5, 0, (), "/")


def test_directories_of_these_names_are_no_files(tmp_path: Path) -> None:
    for name in ("passwd", "group"):
        (tmp_path / "etc" / name).mkdir(parents=True)
    assert look_up((str(tmp_path),), "5:6") == ImageUser(5, 6, (), "/")
