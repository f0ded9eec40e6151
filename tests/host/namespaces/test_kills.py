"""Servers, shims and first processes killed at random: a pod with a namespace and users of its own comes back to both."""

from __future__ import annotations

import contextlib
import os
import random
import signal
import time

import pytest

from tests.host.namespaces.looking import namespace, pid_of
from tests.host.namespaces.test_users import first_id
from tests.host.server.harness import Server, box, pod, until

pytestmark = pytest.mark.timeout(90)

ROUNDS = 8


def in_one_namespace(server: Server) -> bool:
    """Whether both containers run, with the first process that the server knows of."""
    with contextlib.suppress(OSError, StopIteration):
        first = namespace(int(server.runtime("web")["pause_pid"] or 0), "pid")
        return all(namespace(pid_of(server, "web", name), "pid") == first for name in "ab")
    return False


def test_S_USERNS_whoever_is_killed_it_comes_back_with_its_ids(server: Server) -> None:
    chance = random.Random(5)
    containers = (box("a", "pause"), box("b", "stubborn"))
    manifest = pod("web", *containers, inits=(box("i", "true"),), shareProcessNamespace=True, hostUsers=False)
    server.up(manifest, time_scale=10000)
    ids = server.runtime("web")["first_id"]
    for _ in range(ROUNDS):
        time.sleep(chance.random() * 0.15)
        runtime = server.runtime("web")
        victims = chance.choice([(), ("shim_pid",), ("pause_pid",)])
        if not victims or chance.random() < 0.5:
            server.kill()
        for victim in victims:
            with contextlib.suppress(ProcessLookupError):
                os.kill(runtime[victim] or 2**22, signal.SIGKILL)
    until(lambda: in_one_namespace(server), 40)
    assert first_id(pid_of(server, "web")) == ids == server.runtime("web")["first_id"]
    assert [path.name for path in (server.root / "run" / "ids").iterdir()] == [str(ids)]
    server.down("web")
    assert not any((server.root / "run" / "ids").iterdir())
