"""What a container sees and is, word for word: golden/NAME.txt. A change there is a decision.

After a change that is meant: run this file in a test host with NSRUN_UPDATE_GOLDEN=1, then read the difference. What differs from machine
to machine is named by what it is equal to, or is not in there: which of the paths that are covered in /proc and /sys a kernel has.
"""

from __future__ import annotations

import os
import re
import resource
from pathlib import Path

import pytest

from nsrun.plan.capabilities import ALL_CAPABILITIES
from nsrun.plan.filesystem import MASKED, READONLY
from nsrun.security import machine
from tests.host.escapes.stage import FREE, MAPPED, PRISON, VICTIM, Stage

GOLDEN = Path(__file__).with_name("golden")
SHOWN = {
    "default": f"{PRISON}/root",
    "user": f"{PRISON}/user",
    "strict": f"{PRISON}/strict",
    "own-users": f"{MAPPED}/root",
    "privileged": f"{FREE}/privileged",
}
COVERED = frozenset((*MASKED, *READONLY))
_STATUS = ("Umask", "Uid", "Gid", "Groups", "SigBlk", "SigIgn", "SigCgt", "NoNewPrivs", "Seccomp", "Seccomp_filters")
_CAPABILITIES = ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb")
_ID = re.compile(r"[0-9a-f]{64}|[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")


def said(stage: Stage, where: str, *command: str) -> list[str]:
    name, _, container = where.partition("/")
    code, out, err = stage.server.run(name, f"/bin/{command[0]}", *command[1:], container=container)
    assert (code, err) == (0, b""), (command, code, err)
    return out.decode().splitlines()


def names_of(mask: int) -> str:
    if not mask:
        return "none"
    names = {name for number, name in enumerate(ALL_CAPABILITIES) if mask >> number & 1}
    if names == machine().capabilities:
        return "all that the server has"
    return " ".join(sorted(name.removeprefix("CAP_") for name in names))


def status(stage: Stage, where: str) -> list[str]:
    fields = dict(line.split(":", 1) for line in stage.run(where, "show", "/proc/1/status") if ":" in line)
    lines = [f"{name}: {' '.join(fields[name].split())}" for name in _STATUS if name in fields]
    return lines + [f"{name}: {names_of(int(fields[name], 16))}" for name in _CAPABILITIES]


def mounts(stage: Stage, where: str) -> list[str]:
    """PLACE: SOURCE OPTIONS PROPAGATION. Of the machine's disk it says only that."""
    lines = []
    for line in said(stage, where, "mounts"):
        place, root, options, propagation, kind, _super = line.split()
        source = kind
        if str(stage.server.root) in root:
            source = _ID.sub("ID", root.removeprefix(root.partition("/root/")[0] + "/root"))
        elif kind in ("devtmpfs", "tmpfs") and root != "/":
            source = f"device {root}"
        elif root != "/":
            source = f"{kind}{root}"
        options = ",".join(option for option in options.split(",") if option not in ("relatime", "noatime"))
        if place != "/sys/fs/cgroup":  # where the machine has one tree
            lines.append(f"{place}: {source} {options} {propagation}")
    return lines


def namespaces(stage: Stage, where: str) -> list[str]:
    own = dict(line.split() for line in said(stage, where, "ns"))
    return [
        f"{name}: {'the machine' if str(os.stat(f'/proc/self/ns/{name}').st_ino) == number else 'its own'}"
        for name, number in own.items()
    ]


def devices(stage: Stage, where: str) -> list[str]:
    names = said(stage, where, "ls", "/dev")
    if where.endswith("privileged"):
        return ["all of the machine"] if {"null", "ptmx", "kmsg"} & set(names) else []
    return said(stage, where, "stat", *(f"/dev/{name}" for name in names if name not in ("mqueue", "pts")))


def limits(stage: Stage, where: str) -> list[str]:
    lines = []
    for line in said(stage, where, "rlimits"):
        name, soft, hard = line.split()
        ours = resource.getrlimit(getattr(resource, f"RLIMIT_{name.upper()}"))
        same = (int(soft), int(hard)) == ours
        most = name == "nofile" and (int(soft), int(hard)) == (ours[1], ours[1])
        lines.append(
            f"{name}: {'as the server, soft as hard' if most else 'as the server' if same else f'{soft} {hard}'}"
        )
    return lines


def listing(stage: Stage, where: str) -> str:
    parts = {
        "first process": status(stage, where),
        "mounts": [
            line for line in mounts(stage, where) if line.split(":")[0] not in COVERED and "throttle" not in line
        ],
        "namespaces": namespaces(stage, where),
        "/": said(stage, where, "ls", "/"),
        "/dev": devices(stage, where),
        "descriptors": [re.sub(r"\[.*", "", line) for line in said(stage, where, "fds")],
        "environment": said(stage, where, "env"),
        "limits": limits(stage, where),
        "directory": said(stage, where, "cwd"),
    }
    return "".join(f"# {title}\n" + "".join(f"{line}\n" for line in lines) + "\n" for title, lines in parts.items())


@pytest.mark.parametrize("name", SHOWN)
def test_what_is_visible(stage: Stage, name: str) -> None:
    found = listing(stage, SHOWN[name])
    path = GOLDEN / f"{name}.txt"
    if os.environ.get("NSRUN_UPDATE_GOLDEN"):
        path.write_text(found)
    assert found == path.read_text()


@pytest.mark.parametrize("name", SHOWN)
def test_what_is_covered(stage: Stage, name: str) -> None:
    covered = {} if name == "privileged" else {path: "ro" for path in (*MASKED, *READONLY) if os.path.exists(path)}
    found = [line.partition(": ") for line in mounts(stage, SHOWN[name])]
    options = {place: words.split()[-2].split(",")[0] for place, _, words in found if place in COVERED}
    assert options == covered
    masks = {words.split(" ro,")[0] for place, _, words in found if place in MASKED}
    assert masks <= {"device /null", "tmpfs"}


def test_what_containers_of_a_pod_share(stage: Stage) -> None:
    a, b = (dict(line.split() for line in said(stage, f"{VICTIM}/{name}", "ns")) for name in ("a", "b"))
    other = dict(line.split() for line in said(stage, f"{PRISON}/root", "ns"))
    assert {name for name in a if a[name] == b[name]} == {"ipc", "net", "time", "user", "uts"}
    assert {name for name in a if a[name] == other[name]} == {"time", "user"}
    mapped = dict(line.split() for line in said(stage, f"{MAPPED}/root", "ns"))
    assert {name for name in a if a[name] == mapped[name]} == {"time"}
