"""A root directory for a whole module, with a server and a pod that most tests only look at."""

from __future__ import annotations

import itertools
import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.host.testhost import Host, Machine, leaks

_numbers = itertools.count(1)

Manifest = dict[str, Any]


def container(name: str, script: str, **more: Any) -> dict[str, Any]:
    """A container of this machine's /usr that runs a shell script."""
    return {"name": name, "image": "nsrun.local/host", "command": ["sh", "-c", script], **more}


def manifest(name: str, *containers: dict[str, Any], **spec: Any) -> Manifest:
    """A pod that goes down within a second."""
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name},
        "spec": {"terminationGracePeriodSeconds": 1, "containers": list(containers), **spec},
    }


SLEEPER = "trap 'exit 0' TERM; sleep 100000 & wait"


@pytest.fixture(scope="module")
def box(machine: Machine) -> Iterator[Host]:
    """A test host whose root lives as long as the module; nothing may be left of it."""
    before = leaks.take(machine)
    directory = Path(machine.directory, f"cli{next(_numbers)}")
    scratch = directory / "scratch"
    scratch.mkdir(parents=True)
    base = Path(machine.cgroup_base, directory.name) if machine.cgroup_base else None
    host = Host(machine=machine, root=directory / "root", scratch=scratch, cgroup_base=base)
    yield host
    host.nsrun("pod", "down", "--all", "--force")
    host.nsrun("server", "stop")
    shutil.rmtree(directory)
    lines = leaks.leaked(machine, before)
    assert not lines, "left behind:\n" + "\n".join(lines)


def bring_up(box: Host, wish: Manifest, *options: str) -> None:
    """Write a manifest and bring it up."""
    import json

    path = box.scratch / f"{wish['metadata']['name']}.json"
    path.write_text(json.dumps(wish))
    box.nsrun("pod", "up", path, "--timeout=30s", *options)


@pytest.fixture(scope="module")
def web(box: Host) -> str:
    """A pod with an init container and two main containers."""
    wish = manifest(
        "web",
        container("app", "echo app speaks; echo to stderr >&2; " + SLEEPER),
        container("other", "for i in 1 2 3; do echo other $i; sleep 0.05; done; " + SLEEPER),
        initContainers=[container("first", "echo prepared")],
    )
    bring_up(box, wish, "--wait=ready")
    deadline = time.monotonic() + 10
    while "other 3" not in box.nsrun("pod", "logs", "web", "-c", "other").stdout:
        assert time.monotonic() < deadline
        time.sleep(0.02)
    return "web"
