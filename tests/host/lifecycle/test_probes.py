"""Probes of real servers in real pods, over the pod's network, timed by what the containers and the watch tell."""

from __future__ import annotations

import time
from datetime import datetime
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from tests.host.lifecycle.journal import Journal
from tests.host.lifecycle.watching import condition, container, watching
from tests.host.server.harness import Server, alive, box, pod, until

pytestmark = pytest.mark.timeout(120)


def get(path: str = "/", port: int | str = 80, **numbers: Any) -> dict[str, Any]:
    """An httpGet probe, once a second."""
    action = {"port": port, "path": path, **numbers.pop("action", {})}
    return {"httpGet": action, "periodSeconds": 1, **numbers}


def command(*words: str, **numbers: Any) -> dict[str, Any]:
    """An exec probe of a command of the test image, once a second."""
    return {"exec": {"command": [f"/bin/{words[0]}", *words[1:]]}, "periodSeconds": 1, **numbers}


def messages(server: Server, name: str, reason: str) -> list[str]:
    """The messages of the events with this reason."""
    return [one["message"] for one in server.call("pod.events", name=name).result["events"] if one["reason"] == reason]


def ready(name: str) -> Any:
    """Whether a container is ready in a status."""
    return lambda status: container(status, name)["ready"]


def requests(server: Server, name: str, of: str, path: str) -> list[float]:
    """When an httpd was asked for a path, by its own log."""
    times = []
    for line in server.log(name, of).split(b"\n")[:-1]:
        at, _stream, _tag, text = line.split(b" ", 3)
        if text.startswith(f"GET {path} ".encode()):
            digits = at.decode().partition(".")
            times.append(
                datetime.fromisoformat(digits[0] + "+00:00").timestamp()
                + float("0." + digits[2].split("Z")[0].split("+")[0])
            )
    return times


def test_S_PROBE_S_COND_readiness_follows_what_the_server_answers(server: Server) -> None:
    web = box("web", "httpd", "80", "/tmp/up", readinessProbe=get("/healthz", failureThreshold=2))
    with watching(server, "p") as watch:
        server.up(pod("p", web))
        watch.until(lambda status: container(status, "web")["started"])
        until(lambda: messages(server, "p", "Unhealthy"))
        assert condition(server.get("p")["status"], "Ready") == "False"
        server.run("p", "/bin/write", "/tmp/up", "x")
        watch.until(ready("web"))
        server.run("p", "/bin/rm", "/tmp/up")
        watch.until(lambda status: watch.course(ready("web")) == [False, True, False])
        watch.until(lambda status: condition(status, "Ready") == "False")
        assert watch.course(lambda status: condition(status, "Ready"))[-3:] == ["False", "True", "False"]
    assert messages(server, "p", "Unhealthy") == ["Readiness probe failed: HTTP probe failed with statuscode: 503"]
    assert server.container("p", "web")["restartCount"] == 0


def test_S_PROBE_readiness_of_a_server_that_listens_at_once_comes_with_the_first_look(server: Server) -> None:
    """Long before the first tick, and without a failure."""
    web = box("web", "httpd", "80", readinessProbe={"httpGet": {"port": 80}, "periodSeconds": 60})
    begun = time.monotonic()
    server.up(pod("p", web), wait="ready")
    assert time.monotonic() - begun < 5
    assert messages(server, "p", "Unhealthy") == []
    assert len(requests(server, "p", "web", "/")) == 1


def test_S_PROBE_liveness_kills_and_the_container_comes_back(server: Server, journal: Journal) -> None:
    web = box("web", "httpd", "80", livenessProbe=get("/status/500", failureThreshold=2))
    server.up(pod("p", web, journal.life("other")))
    until(lambda: server.container("p", "web")["restartCount"] == 1)
    asked = requests(server, "p", "web", "/status/500")
    assert messages(server, "p", "Unhealthy") == ["Liveness probe failed: HTTP probe failed with statuscode: 500"]
    assert any(
        "Container web failed liveness probe, will be restarted" in one for one in messages(server, "p", "Killing")
    )
    last = server.container("p", "web")["lastState"]["terminated"]
    assert last["exitCode"] == 137
    assert journal.of("other") == ["start"], "nobody else is touched"
    assert len(asked) <= 2


def test_S_PROBE_S_RESTART_liveness_of_a_pod_that_never_restarts_ends_it(server: Server) -> None:
    web = box("web", "httpd", "80", livenessProbe=get("/status/500", failureThreshold=1))
    server.up(pod("p", web, restartPolicy="Never"))
    server.wait("p", "phase=Failed")
    assert server.container("p", "web")["restartCount"] == 0
    assert "Container web failed liveness probe" in messages(server, "p", "Killing")


def test_S_PROBE_startup_blocks_the_others_until_it_succeeds_and_is_not_run_again(server: Server) -> None:
    web = box(
        "web", "httpd", "80",
        startupProbe=command("cat", "/tmp/up", failureThreshold=60),
        readinessProbe=get("/ready", periodSeconds=30),
        livenessProbe=get("/alive"),
    )  # fmt: skip
    with watching(server, "p") as watch:
        server.up(pod("p", web))
        until(lambda: messages(server, "p", "Unhealthy"))
        assert container(server.get("p")["status"], "web")["started"] is False
        assert server.lines("p", "web") == ["ready"], "nothing but the startup probe was run"
        server.run("p", "/bin/write", "/tmp/up", "x")
        started = time.monotonic()
        watch.until(ready("web"))
        assert time.monotonic() - started < 5, "readiness is run at once, not after its period"
        assert watch.course(lambda status: container(status, "web")["started"])[-2:] == [False, True]
        server.run("p", "/bin/rm", "/tmp/up")
        until(lambda: len(requests(server, "p", "web", "/alive")) >= 3)
    assert server.container("p", "web")["started"] is True
    assert server.container("p", "web")["restartCount"] == 0
    assert len(requests(server, "p", "web", "/ready")) == 1


def test_S_PROBE_startup_that_never_succeeds_kills(server: Server) -> None:
    web = box("web", "pause", startupProbe=command("false", failureThreshold=2))
    server.up(pod("p", web))
    until(lambda: server.container("p", "web")["restartCount"] == 1)
    assert messages(server, "p", "Unhealthy") == ["Startup probe failed: "]
    assert any(
        "Container web failed startup probe, will be restarted" in one for one in messages(server, "p", "Killing")
    )


def test_S_PROBE_S_SIDECAR_the_next_init_waits_for_a_sidecars_startup_probe(server: Server, journal: Journal) -> None:
    proxy = box("proxy", "httpd", "80", "/tmp/up", restartPolicy="Always", startupProbe=get("/up", failureThreshold=60))
    server.up(pod("p", journal.life("web"), inits=(proxy,)), wait="none")
    until(lambda: len(messages(server, "p", "Unhealthy")) == 1)
    assert journal.texts == []
    server.run("p", "/bin/write", "/tmp/up", "x", container="proxy")
    journal.until("web start")
    asked = requests(server, "p", "proxy", "/up")
    assert 0 <= journal.time("web start") - asked[-1] < 0.5


def test_S_PROBE_tcp(server: Server) -> None:
    web = box("web", "netserver", "80", "hello", readinessProbe={"tcpSocket": {"port": 80}, "periodSeconds": 1})
    deaf = box("deaf", "pause", readinessProbe={"tcpSocket": {"port": 81}, "periodSeconds": 1})
    server.up(pod("p", web, deaf))
    until(lambda: server.container("p", "web")["ready"])
    until(lambda: messages(server, "p", "Unhealthy"))
    ip = server.get("p")["status"]["podIP"]
    assert messages(server, "p", "Unhealthy") == [
        f"Readiness probe failed: dial tcp {ip}:81: connect: connection refused"
    ]


def test_S_PROBE_http_named_port_headers_and_redirects(server: Server) -> None:
    headers = [{"name": "Host", "value": "example.com"}, {"name": "x-key", "value": "1"}]
    port = {"ports": [{"name": "web", "containerPort": 8080}]}
    named = box("named", "httpd", "8080", **port,
                readinessProbe=get("/headers", "web", action={"httpHeaders": headers}))  # fmt: skip
    near = box("near", "httpd", "81", readinessProbe=get("/to/headers", 81))
    far = box("far", "httpd", "82", readinessProbe=get("/tohttp://10.9.9.9/", 82))
    server.up(pod("p", named, near, far), wait="ready")
    ip = server.get("p")["status"]["podIP"]
    assert server.lines("p", "named")[1:6] == [
        "GET /headers HTTP/1.1", "Host: example.com", "User-Agent: kube-probe/1.36", "Accept: */*", "X-Key: 1",
    ]  # fmt: skip
    said = server.lines("p", "near")
    assert said[1:3] == ["GET /to/headers HTTP/1.1", "GET /headers HTTP/1.1"]
    assert f"Referer: http://{ip}:81/to/headers" in said
    assert messages(server, "p", "ProbeWarning") == [
        "Readiness probe warning: Probe terminated redirects, Response body: moved"
    ]


def test_S_PROBE_http_time_out_and_refusal_in_the_kubelets_words(server: Server) -> None:
    slow = box("slow", "httpd", "80", readinessProbe=get("/hang"))
    deaf = box("deaf", "pause", readinessProbe=get("/x?y", 81))
    server.up(pod("p", slow, deaf))
    until(lambda: len(messages(server, "p", "Unhealthy")) == 2)
    ip = server.get("p")["status"]["podIP"]
    assert set(messages(server, "p", "Unhealthy")) == {
        f'Readiness probe failed: Get "http://{ip}:80/hang": context deadline exceeded (Client.Timeout exceeded while'
        " awaiting headers)",
        f'Readiness probe failed: Get "http://{ip}:81/x?y": dial tcp {ip}:81: connect: connection refused',
    }


def test_S_PROBE_exec_has_the_containers_environment_and_words_expanded_with_it(server: Server) -> None:
    env = [{"name": "A", "value": "one"}, {"name": "B", "value": "$(A)-two"}]
    words = ("then", "env", ";", "echo", "$(A) $(B) $(NONE) $$(A)", ";", "false")
    server.up(pod("p", box("web", "pause", env=env, readinessProbe=command(*words))))
    until(lambda: messages(server, "p", "Unhealthy"))
    (text,) = messages(server, "p", "Unhealthy")
    assert text.startswith("Readiness probe failed: ")
    assert "A=one\n" in text
    assert "B=one-two\n" in text, "the process has the container's environment"
    # The words are expanded with the values as they stand in the manifest.
    assert "one $(A)-two $(NONE) $(A)\n" in text


def test_S_PROBE_exec_that_cannot_be_executed_counts_for_nothing(server: Server) -> None:
    server.up(pod("p", box("web", "pause", livenessProbe=command("nothing", failureThreshold=1))))
    until(lambda: messages(server, "p", "Unhealthy"))
    time.sleep(1.5)
    assert messages(server, "p", "Unhealthy")[0].startswith(
        'Liveness probe errored and resulted in unknown state: failed to exec in container: exec: "/bin/nothing": '
    )
    assert server.container("p", "web")["restartCount"] == 0


def test_S_PROBE_exec_time_out_is_a_failure_and_kills_all_that_it_started(server: Server) -> None:
    probe = command("orphans", "3", "1000", "1000", failureThreshold=100)
    server.up(pod("p", box("web", "pause", livenessProbe=probe)))

    def others() -> list[int]:
        """The processes of the probe that live (their parents reap nobody)."""
        return [
            int(entry.name) for entry in Path("/proc").iterdir() if _is("orphans", entry) and alive(int(entry.name))
        ]

    until(others)
    until(lambda: messages(server, "p", "Unhealthy"))
    assert messages(server, "p", "Unhealthy") == [
        'Liveness probe failed: command timed out: "/bin/orphans 3 1000 1000" timed out after 1s'
    ]
    for _ in range(30):
        time.sleep(0.1)
        assert len(others()) <= 4, "what an earlier run started is still there"


def _is(name: str, process: Path) -> bool:
    try:
        return (process / "comm").read_text().strip() == name
    except (OSError, ValueError):
        return False


def test_S_PROBE_exec_output_without_end_is_cut_and_the_command_ends_as_it_likes(server: Server) -> None:
    loud = command("then", "lines", "20000", "100", ";", "exit", "3", timeoutSeconds=10)
    server.up(pod("p", box("web", "pause", readinessProbe=loud)))
    until(lambda: messages(server, "p", "Unhealthy"))
    (text,) = messages(server, "p", "Unhealthy")
    assert text.startswith("Readiness probe failed: 1 ")
    assert len(text) <= 1024


def test_S_PROBE_S_TERM_a_probes_own_grace_period_is_the_one_that_counts(server: Server, journal: Journal) -> None:
    web = journal.life(
        "web", linger=-1,
        container={"livenessProbe": command("false", failureThreshold=1, terminationGracePeriodSeconds=3)},
    )  # fmt: skip
    server.up(pod("p", web, terminationGracePeriodSeconds=300))
    journal.until("web term")
    until(lambda: server.container("p", "web")["restartCount"] == 1)
    last = server.container("p", "web")["lastState"]["terminated"]
    assert last["exitCode"] == 137
    journal.until("web start", 2)
    assert 2.9 < journal.times("web start")[1] - journal.times("web term")[0] < 4.5


def test_S_PROBE_S_TERM_readiness_goes_on_while_the_pod_terminates_and_liveness_does_not(server: Server) -> None:
    web = box("web", "httpd", "80", readinessProbe=get("/ready"), livenessProbe=get("/alive"))
    server.up(pod("p", web, terminationGracePeriodSeconds=4))
    until(lambda: requests(server, "p", "web", "/alive") and requests(server, "p", "web", "/ready"))
    log = server.runtime("p")["log_directory"]
    begun = time.time()
    kept = open(f"{log}/web/0.log", "rb")  # noqa: SIM115 - it is read after it was unlinked
    with kept:
        server.down("p", grace_period_s=4)
        text = kept.read().decode()
    asked: dict[str, list[float]] = {"/ready": [], "/alive": []}
    for line in text.splitlines():
        at, _, _, said = line.split(" ", 3)
        if said.startswith("GET"):
            moment = datetime.fromisoformat(at[:19] + "+00:00").timestamp() + float("0." + at[20:29])
            asked[said.split()[1]].append(moment)
    assert len([at for at in asked["/ready"] if at > begun + 0.1]) >= 3
    assert [at for at in asked["/alive"] if at > begun + 0.1] == []


def test_S_PROBE_a_ready_pod_stays_ready_when_the_server_is_killed(server: Server) -> None:
    web = box(
        "web", "httpd", "80",
        startupProbe=get("/started"), readinessProbe=get("/ready", periodSeconds=5), livenessProbe=get("/alive"),
    )  # fmt: skip
    server.up(pod("p", web), wait="ready")
    before = server.get("p")["status"]
    started = len(requests(server, "p", "web", "/started"))
    for _ in range(3):
        assert server.kill()
        server.start()
        with watching(server, "p") as watch:
            time.sleep(1.5)
            assert watch.course(lambda status: condition(status, "Ready")) == ["True"]
            assert watch.course(ready("web")) == [True]
    after = server.get("p")["status"]
    assert after["conditions"] == before["conditions"], "not even a transition time has changed"
    assert len(requests(server, "p", "web", "/started")) == started, "what has started up is not asked again"
    asked = len(requests(server, "p", "web", "/alive"))
    until(lambda: len(requests(server, "p", "web", "/alive")) > asked)


def test_S_PROBE_S_BACKOFF_a_verdict_outlives_the_server(server: Server, journal: Journal) -> None:
    """Killed between the verdict and the end of the grace period, the next server carries on with the kill."""
    web = journal.life(
        "web", linger=-1,
        container={"livenessProbe": command("false", failureThreshold=1, terminationGracePeriodSeconds=4)},
    )  # fmt: skip
    server.up(pod("p", web))
    journal.until("web term")
    assert server.kill()
    server.start()
    journal.until("web start", 2)
    assert journal.count("web term") == 1
    assert server.container("p", "web")["restartCount"] == 1


def test_S_PROBE_time_scale_divides_periods_and_initial_delays(server: Server) -> None:
    web = box("web", "httpd", "80", livenessProbe=get("/alive", periodSeconds=60, initialDelaySeconds=120))
    server.up(pod("p", web), time_scale=60.0)
    until(lambda: len(requests(server, "p", "web", "/alive")) >= 4)
    asked = requests(server, "p", "web", "/alive")
    started = datetime.fromisoformat(server.container("p", "web")["state"]["running"]["startedAt"]).timestamp()
    # The published time is in whole seconds.
    assert 1.5 < asked[0] - started < 4.5
    assert all(0.5 < later - earlier < 1.5 for earlier, later in pairwise(asked))
