"""Back-off and probes that pass faster for those who ask for it."""

from __future__ import annotations

import time
from itertools import pairwise
from typing import Any

import pytest

import nsrun
from nsrun.errors import UsageError
from tests.host.lifecycle.journal import Journal
from tests.host.server.harness import Server, box, pod, until

pytestmark = [pytest.mark.requires("overlay", "bridge", "nftables"), pytest.mark.timeout(90)]


def waiting(server: Server, name: str) -> dict[str, Any]:
    found: dict[str, Any] = server.container(name, "a")["state"].get("waiting", {})
    return found


def test_S_BACKOFF_the_table_passes_in_seconds_with_a_time_scale(server: Server, journal: Journal) -> None:
    server.up(pod("web", journal.life("a", seconds=0, code=1)), wait="none", time_scale=100)
    # 0, 10, 20, 40, 80, 160 s: after 310 s, which are 3.1, the seventh instance begins.
    journal.until("a start", 7)
    gaps = [later - earlier for earlier, later in pairwise(journal.times("a start"))]
    for gap, nominal in zip(gaps, (0, 10, 20, 40, 80, 160), strict=False):
        # Not earlier; how much later is a matter of how busy the machine is.
        assert nominal / 100 <= gap + 0.005 < nominal / 100 + 1.5, gaps
    # Until the seventh one's end is seen, what the sixth waited for stands there.
    words = "back-off 5m0s restarting failed container=a"
    until(lambda: waiting(server, "web").get("message", "").startswith(words), what=f"not: {words}")
    assert waiting(server, "web")["reason"] == "CrashLoopBackOff"


def test_S_BACKOFF_a_time_scale_holds_across_servers_and_can_be_set_later(server: Server) -> None:
    manifest = pod("web", box("a", "false"))
    server.up(manifest, wait="none")
    until(lambda: waiting(server, "web").get("reason") == "CrashLoopBackOff")
    began = time.monotonic()
    answer = server.up(manifest, wait="none", time_scale=100)["pods"][0]
    assert (answer["verdict"], answer["changes"]) == ("configured", [])
    server.kill()
    until(lambda: server.container("web", "a")["restartCount"] >= 4)
    assert time.monotonic() - began < 8, "two restarts after 10 and 20 s would have come much later"
    assert server.up(manifest, wait="none")["pods"][0]["verdict"] == "unchanged"
    assert server.up(manifest, wait="none", time_scale=100)["pods"][0]["verdict"] == "unchanged"


@pytest.mark.parametrize("scale", [0, 0.001, 1e9, -1, "fast", True])
def test_a_time_scale_that_is_none_is_refused(server: Server, scale: Any) -> None:
    with pytest.raises(UsageError, match=r"time.scale"):
        server.up(pod("web", box("a", "pause")), time_scale=scale)
    assert server.names() == []


def test_grace_periods_are_not_scaled(server: Server) -> None:
    server.up(pod("web", box("a", "stubborn"), terminationGracePeriodSeconds=2), time_scale=1000)
    began = time.monotonic()
    server.call("pod.down", names=["web"], timeout_s=30)
    assert time.monotonic() - began > 1.9


def test_an_engine_with_a_time_scale(leak_check: None) -> None:
    manifest = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "crash"},
        "spec": {"containers": [{"name": "a", "image": "nsrun.local/host", "command": ["false"]}]},
    }
    began = time.monotonic()
    with nsrun.Engine(time_scale=200) as engine:
        for scale in (0.0, -1.0, float("inf"), float("nan")):
            with pytest.raises(UsageError, match="time scale"):
                engine.up(manifest, time_scale=scale)
        one = engine.up(manifest, wait="none")
        one.wait("jsonpath={.status.containerStatuses[0].restartCount}=4", timeout=20)
        # 0, 10, 20 and 40 s
        assert time.monotonic() - began < 15
