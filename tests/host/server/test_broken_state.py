"""State that somebody broke, and shims that do not answer: no pod is lost, none lives twice, and down takes it away."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
from pathlib import Path

import pytest

from nsrun.errors import ConflictError, NotFoundError, TimedOutError
from nsrun.server.clock import SystemClock
from nsrun.server.last_resort import LAST_RESORT_S
from nsrun.server.world import World
from nsrun.state.layout import Layout
from tests.host.server.harness import Server, alive, box, pod, until
from tests.host.testhost import Host

WEB = pod("web", box("a", "pause"))


def directory_of(server: Server) -> Path:
    return Path(server.runtime("web")["directory"])


def test_a_ledger_that_cannot_be_read_is_begun_anew(server: Server) -> None:
    server.up(WEB)
    ledger, shim = directory_of(server) / "ledger.json", server.runtime("web")["shim_pid"]
    server.kill()
    # Not even UTF-8 within a string: a server that trips over it cannot start, and takes all other pods with it.
    ledger.write_bytes(ledger.read_bytes().replace(b"Pulled", b"Pull\xff\xfe"))
    assert server.names() == ["web"]
    until(lambda: server.runtime("web")["sandbox"]["state"] == "ready")
    assert not alive(shim)
    assert "FailedSync" in server.reasons("web")
    assert server.up(WEB)["pods"][0]["verdict"] == "unchanged"
    server.down("web")
    assert server.names() == []


@pytest.mark.parametrize("killed", [False, True])
def test_a_shim_whose_directory_was_removed_is_found(server: Server, killed: bool) -> None:
    server.up(WEB)
    shim, directory = server.runtime("web")["shim_pid"], directory_of(server)
    if killed:
        server.kill()
    shutil.rmtree(directory)
    if killed:
        assert server.names() == []
    else:
        server.down("web")
    until(lambda: not alive(shim), what="a shim that nobody will ever find")


@pytest.mark.parametrize("name", ["shim.sock", "shim.lock"])
def test_a_shim_that_cannot_be_reached_does_not_live_beside_its_successor(server: Server, name: str) -> None:
    server.up(WEB)
    shim, directory = server.runtime("web")["shim_pid"], directory_of(server)
    server.kill()
    (directory / name).unlink()
    until(lambda: server.runtime("web")["shim_pid"] not in (None, shim))
    assert not alive(shim)
    server.down("web")


@pytest.mark.parametrize("killed", [False, True])
def test_down_does_not_wait_for_a_shim_that_is_stopped(server: Server, killed: bool) -> None:
    server.up(WEB)
    shim = server.runtime("web")["shim_pid"]
    os.kill(shim, signal.SIGSTOP)
    if killed:
        server.kill()
    server.down("web", force=True, timeout_s=LAST_RESORT_S + 8)
    assert not alive(shim)


def test_a_pod_whose_wish_cannot_be_read_is_not_run_twice_and_can_be_removed(server: Server) -> None:
    server.up(WEB)
    shim, wish = server.runtime("web")["shim_pid"], directory_of(server) / "pod.json"
    server.kill()
    wish.write_bytes(b"{")
    assert server.names() == []
    with pytest.raises(ConflictError, match="cannot be read") as raised:
        server.up(WEB)
    assert f"rm {wish}" in (raised.value.resolution or "")
    with pytest.raises(NotFoundError, match="cannot be read"):
        server.down("web")
    assert alive(shim)
    wish.unlink()
    with pytest.raises(NotFoundError):
        server.down("web")
    until(lambda: os.listdir(server.root / "run" / "pods") == [])
    assert not alive(shim)
    server.up(WEB)
    server.down("web")


def test_down_says_what_it_waits_for(server: Server) -> None:
    server.up(WEB)
    leases = server.root / "lib" / "leases"
    aside = leases.rename(leases.with_name("aside"))
    leases.touch()
    with pytest.raises(TimedOutError) as raised:
        server.down("web", timeout_s=2)
    assert str(leases) in (raised.value.details or "")
    leases.unlink()
    aside.rename(leases)
    server.down("web")


def test_logs_of_others_beside_ours_are_left_alone(host: Host) -> None:
    """/var/log/pods is where the kubelet keeps its logs, too."""
    layout = Layout(*(host.scratch / name for name in ("run", "lib", "log", "etc")))
    layout.prepare()
    ours, theirs = (layout.logs_of("default", name, f"{number}" * 8) for number, name in enumerate(("a", "b")))
    for directory in (ours, theirs):
        (directory / "main").mkdir(parents=True)
    layout.mark_logs(ours)

    async def collect() -> None:
        world = World(layout, SystemClock())
        await world.collect()
        await world.close()

    asyncio.run(collect())
    assert os.listdir(layout.pod_logs) == [theirs.name]
