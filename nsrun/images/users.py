"""Users and groups of an image, from its own /etc/passwd and /etc/group."""

from __future__ import annotations

import functools
import os
import stat
from collections.abc import Iterator, Sequence

from nsrun.images.merged import Merged
from nsrun.plan.image import ImageUser
from nsrun.plan.inputs import PlanError
from nsrun.waiting import CREATE_CONTAINER_ERROR

_MAX_FILE = 4 << 20
_MAX_ID = (1 << 32) - 2  # the last one is "no change" in setresuid(2)


@functools.lru_cache(maxsize=256)
def look_up(lowers: tuple[str, ...], spec: str) -> ImageUser:
    """The user that `name`, `uid`, `name:group` or `uid:gid` is in the image with these layers, topmost first.

    It is remembered: what lies in a layer never changes.

    A number need not be listed; its group is then 0 and its home `/` (runc libcontainer/user, GetExecUser).

    Raises:
        PlanError: CreateContainerError, a name that is not listed or a number that cannot be.
    """
    user, colon, group = spec.partition(":")
    user = user or "0"
    entry = _entry(lowers, "etc/passwd", user, fields=7)
    if entry is not None:
        name, uid, gid, home = entry[0], _number(entry[2]), _number(entry[3]), entry[5] or "/"
    elif user.isascii() and user.isdigit():
        name, uid, gid, home = "", _number(user), 0, "/"
    else:
        raise PlanError(
            CREATE_CONTAINER_ERROR,
            f"unable to find user {user}: no matching entries in passwd file",
            resolution="Name the user by its number, or one that the image's /etc/passwd lists.",
        )
    if colon:
        found = _entry(lowers, "etc/group", group, fields=4)
        if found is not None:
            gid = _number(found[2])
        elif group.isascii() and group.isdigit():
            gid = _number(group)
        else:
            raise PlanError(CREATE_CONTAINER_ERROR, f"unable to find group {group}: no matching entries in group file")
    groups = tuple(dict.fromkeys(_memberships(lowers, name))) if name else ()
    return ImageUser(uid, gid, groups, home)


def _number(text: str) -> int:
    if not (text.isascii() and text.isdigit() and int(text) <= _MAX_ID):
        raise PlanError(CREATE_CONTAINER_ERROR, f"uids and gids must be in range 0-{_MAX_ID}: {text}")
    return int(text)


def _entry(lowers: Sequence[str], path: str, wanted: str, *, fields: int) -> list[str] | None:
    """The first line for a name or, with a number, for that number; a name beats a number, as a name may look like one."""
    by_number = None
    for line in _lines(lowers, path, fields):
        if line[0] == wanted:
            return line
        if by_number is None and line[2] == wanted:
            by_number = line
    return by_number


def _memberships(lowers: Sequence[str], name: str) -> Iterator[int]:
    for line in _lines(lowers, "etc/group", 4):
        if name in line[3].split(",") and line[2].isascii() and line[2].isdigit():
            yield _number(line[2])


def _lines(lowers: Sequence[str], path: str, fields: int) -> Iterator[list[str]]:
    for line in _read(lowers, path).splitlines():
        parts = line.strip().split(":")
        if line.strip() and not line.startswith("#"):
            yield parts + [""] * (fields - len(parts))


def _read(lowers: Sequence[str], path: str) -> str:
    """A file of the image. Links are followed inside it only, and nothing but a file is read."""
    found = Merged(lowers).resolve(path.encode())
    if found is None:
        return ""
    try:
        fd = os.open(found, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError:
        return ""
    try:
        if not stat.S_ISREG(os.fstat(fd).st_mode):
            return ""
        with open(fd, "rb", closefd=False) as file:
            return file.read(_MAX_FILE).decode("utf-8", "replace")
    finally:
        os.close(fd)
