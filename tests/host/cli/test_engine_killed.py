"""The engine inside a program, when its server is killed."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

import pytest

import nsrun
from nsrun import ServerError
from nsrun.client import roots, wire
from tests.host.cli.protocol_server import listening
from tests.host.testhost import Host

SLEEPER = {
    "apiVersion": "v1",
    "kind": "Pod",
    "metadata": {"name": "sleeper"},
    "spec": {"containers": [{"name": "a", "image": "nsrun.local/host", "command": ["/bin/sleep", "1000"]}]},
}


def test_close_takes_down_what_a_killed_server_left(leak_check: None, host: Host) -> None:
    engine = nsrun.Engine()
    shim = engine.up(SLEEPER).runtime["shim_pid"]
    root = engine.session.root
    os.kill(int(Path(root.run, "lock").read_text(encoding="ascii")), signal.SIGKILL)
    engine.close()
    assert not Path(f"/proc/{shim}").exists()
    assert not Path(root.run).exists()


def test_a_server_that_says_nothing_is_not_waited_for_for_ever(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(wire, "GREETING_TIMEOUT_S", 1)
    with (
        listening(host.root, lambda _peer: time.sleep(4)),
        pytest.raises(ServerError, match=rf"pid {os.getpid()}\b") as raised,
    ):
        wire.connect(roots.find(host.root))
    assert "kill -CONT" in (raised.value.resolution or "")


def test_the_answer_to_a_request_may_take_longer_than_the_greeting(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(wire, "GREETING_TIMEOUT_S", 1)
    with nsrun.Engine(host.root) as engine:
        engine.up(SLEEPER)
        with pytest.raises(nsrun.TimedOutError):
            engine.pod("sleeper").wait("phase=Failed", timeout=2.5)
