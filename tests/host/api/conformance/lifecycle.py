"""How pods live: phases, init containers, probes, hooks, restarts, messages (test/e2e/common/node)."""

from __future__ import annotations

import asyncio
import contextlib
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

from tests.host.api.conformance.cluster import (
    LOOK_S,
    Namespace,
    Object,
    agent,
    box,
    condition,
    is_ready,
    phase,
    pod,
    restarts,
    status_of,
)
from tests.host.api.conformance.registry import add, case
from tests.host.probes.health import Health

CALM_S = 5.0
"""How long something that must not happen is waited for; the suite waits four minutes."""

# Probes


def calm(space: Namespace, name: str, container: str, ready: bool | None = True) -> None:
    """A container is not started anew for a while, and is ready all the time, or never."""
    until = time.monotonic() + CALM_S
    while time.monotonic() < until:
        found = space.pod(name)
        assert restarts(found, container) == 0, found["status"]
        assert ready is None or is_ready(found) is ready, found["status"]
        time.sleep(LOOK_S)


def again(space: Namespace, name: str, container: str) -> None:
    """A container is started anew."""
    space.until(name, lambda found: restarts(found, container) > 0, "started anew", 90)


def live(container: Object, probe: Object, **fields: Any) -> Object:
    """A pod with a liveness probe."""
    quick = {"periodSeconds": 1, "failureThreshold": 1, "timeoutSeconds": 5, **probe}
    return pod("p", {**container, "livenessProbe": quick}, restartPolicy="Always", **fields)


HEALTH = {"exec": {"command": ["cat", "/tmp/health"]}}
HEALTHZ = {"httpGet": {"path": "/healthz", "port": 8080}, "initialDelaySeconds": 1}


@case('[sig-node] Probing container should be restarted with a exec "cat /tmp/health" liveness probe')
def unhealthy_command(space: Namespace) -> None:
    script = "echo ok > /tmp/health; sleep 3; rm /tmp/health; sleep 600"
    space.running(live(box("c", script), {**HEALTH, "initialDelaySeconds": 1}))
    again(space, "p", "c")


@case('[sig-node] Probing container should *not* be restarted with a exec "cat /tmp/health" liveness probe')
def healthy_command(space: Namespace) -> None:
    space.ready(live(box("c", "echo ok > /tmp/health; sleep 600"), {**HEALTH, "initialDelaySeconds": 1}))
    calm(space, "p", "c")


@case("[sig-node] Probing container should be restarted with a /healthz http liveness probe")
def unhealthy_server(space: Namespace) -> None:
    space.running(live(agent("c", "liveness", "3"), HEALTHZ))
    again(space, "p", "c")


@case("[sig-node] Probing container should *not* be restarted with a /healthz http liveness probe")
def healthy_server(space: Namespace) -> None:
    space.ready(live(agent("c", "liveness", "600"), HEALTHZ))
    calm(space, "p", "c")


@case("[sig-node] Probing container should *not* be restarted with a tcp:8080 liveness probe")
def open_port(space: Namespace) -> None:
    space.ready(live(agent("c", "serve"), {"tcpSocket": {"port": 8080}, "initialDelaySeconds": 1}))
    calm(space, "p", "c")


@case("[sig-node] Probing container should have monotonically increasing restart count")
def counted(space: Namespace) -> None:
    space.running(live(agent("c", "liveness", "1"), {**HEALTHZ, "initialDelaySeconds": 2}))
    seen = [0]
    deadline = time.monotonic() + 120
    while seen[-1] < 2:
        assert time.monotonic() < deadline, seen
        seen.append(restarts(space.pod("p"), "c"))
        assert seen[-1] in (seen[-2], seen[-2] + 1), seen
        time.sleep(LOOK_S)


@contextlib.contextmanager
def health() -> Iterator[tuple[Health, int]]:
    """A health server of ours and its port."""
    told: list[int] = []
    ready = threading.Event()
    answers = Health()
    loop = asyncio.new_event_loop()

    async def serve() -> None:
        async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await answers.talk(reader, writer)
            writer.close()

        server = await asyncio.start_server(talk, "0.0.0.0", 0)
        told.append(server.sockets[0].getsockname()[1])
        ready.set()
        async with server:
            with contextlib.suppress(asyncio.CancelledError):
                await server.serve_forever()

    task = loop.create_task(serve())
    thread = threading.Thread(target=loop.run_until_complete, args=(task,))
    thread.start()
    ready.wait(10)
    try:
        yield answers, told[0]
    finally:
        loop.call_soon_threadsafe(task.cancel)
        thread.join(10)
        loop.close()


def over_grpc(space: Namespace, port: int) -> None:
    """A pod whose probe asks a server of ours: it has this machine's network."""
    space.running(live(box("c", "sleep 600"), {"grpc": {"port": port}, "initialDelaySeconds": 1}, hostNetwork=True))


@case("[sig-node] Probing container should *not* be restarted with a GRPC liveness probe")
def healthy_grpc(space: Namespace) -> None:
    with health() as (answers, port):
        over_grpc(space, port)
        calm(space, "p", "c")
        assert answers.asked


@case("[sig-node] Probing container should be restarted with a GRPC liveness probe")
def unhealthy_grpc(space: Namespace) -> None:
    with health() as (answers, port):
        over_grpc(space, port)
        answers.states[""] = 2
        again(space, "p", "c")


@case("[sig-node] Probing container with readiness probe that fails should never be ready and never restart")
def never_ready(space: Namespace) -> None:
    probe = {"exec": {"command": ["/bin/false"]}, "periodSeconds": 1, "initialDelaySeconds": 1}
    space.running(pod("p", box("c", "sleep 600", readinessProbe=probe), restartPolicy="Always"))
    calm(space, "p", "c", ready=False)


@case("[sig-node] Probing container with readiness probe should not be ready before initial delay and never restart")
def ready_later(space: Namespace) -> None:
    probe = {"exec": {"command": ["/bin/true"]}, "periodSeconds": 1, "initialDelaySeconds": 4}
    space.running(pod("p", box("c", "sleep 600", readinessProbe=probe), restartPolicy="Always"))
    begun = time.monotonic()
    found = space.until("p", is_ready, "ready")
    assert time.monotonic() - begun > 2.0, found["status"]
    assert restarts(found, "c") == 0


# Init containers

INITS = ("init1", "init2")


def with_inits(first: str, second: str, **spec: Any) -> Object:
    """A pod with two init containers."""
    inits = [box(name, command=[command]) for name, command in zip(INITS, (first, second), strict=True)]
    return pod("p", box("run1", "true" if "restartPolicy" not in spec else "sleep 600"), initContainers=inits, **spec)


def all_done(found: Object) -> None:
    """All init containers have succeeded."""
    assert condition(found, "Initialized")["status"] == "True"
    for name in INITS:
        status = status_of(found, name)
        assert status["ready"]
        assert status["state"]["terminated"]["exitCode"] == 0


@case("[sig-node] InitContainer should invoke init containers on a RestartNever pod")
def inits_never(space: Namespace) -> None:
    found = space.finished(with_inits("/bin/true", "/bin/true"))
    assert phase(found) == "Succeeded"
    all_done(found)


@case("[sig-node] InitContainer should invoke init containers on a RestartAlways pod")
def inits_always(space: Namespace) -> None:
    all_done(space.running(with_inits("/bin/true", "/bin/true", restartPolicy="Always")))


@case("[sig-node] InitContainer should not start app containers if init containers fail on a RestartAlways pod")
def inits_fail_always(space: Namespace) -> None:
    made = space.start(with_inits("/bin/false", "/bin/true", restartPolicy="Always"))
    version = made["metadata"]["resourceVersion"]
    query = {"watch": "true", "fieldSelector": "metadata.name=p", "resourceVersion": version}
    for event in space.api.watch(space.path("pods", **query)):
        found = event["object"]
        assert event["type"] in ("ADDED", "MODIFIED"), event
        for name in ("run1", "init2"):
            if status_of(found, name):
                assert status_of(found, name)["state"]["waiting"]["reason"] == "PodInitializing"
        if restarts(found, "init1") >= 2:
            break
    assert phase(found) == "Pending"
    told = condition(found, "Initialized")
    assert (told["status"], told["reason"]) == ("False", "ContainersNotInitialized")
    assert told["message"] == "containers with incomplete status: [init1 init2]"


@case(
    "[sig-node] InitContainer should not start app containers and fail the pod if init containers fail on a RestartNever pod"
)
def inits_fail_never(space: Namespace) -> None:
    found = space.finished(with_inits("/bin/true", "/bin/false"))
    assert phase(found) == "Failed"
    told = condition(found, "Initialized")
    assert (told["status"], told["reason"]) == ("False", "ContainersNotInitialized")
    assert told["message"] == "containers with incomplete status: [init2]"
    assert "waiting" in status_of(found, "run1")["state"]


# Hooks


def hooked(moment: str, how: str) -> Callable[[Namespace], None]:
    """A case: a hook is run, which another pod hears of."""

    def run(space: Namespace) -> None:
        listener = space.ready(pod("hears", agent("c", "serve"), restartPolicy="Always"))
        place = f"{listener['status']['podIP']}:8080/cgi-bin/echo?{moment}"
        if how == "exec":
            hook: Object = {"exec": {"command": ["sh", "-c", f"wget -q -O - 'http://{place}'"]}}
        else:
            hook = {"httpGet": {"path": f"/cgi-bin/dial?{place}", "port": 8080}}
        probe = {"httpGet": {"path": "/cgi-bin/echo", "port": 8080}, "periodSeconds": 1}
        helper = agent("helps", "serve", restartPolicy="Always", startupProbe=probe)
        container = box("c", "trap 'exit 0' TERM; sleep 600 & wait", lifecycle={moment: hook})
        manifest = pod(
            "p", container, initContainers=[helper], restartPolicy="Always", terminationGracePeriodSeconds=15
        )
        space.running(manifest)
        if moment == "postStart":
            space.until_log("hears", "c", f"heard {moment}\n")
        space.delete("p", 15)
        space.gone("p")
        space.until_log("hears", "c", f"heard {moment}\n")

    return run


for _moment, _word in (("postStart", "poststart"), ("preStop", "prestop")):
    for _how in ("exec", "http"):
        _title = f"[sig-node] Container Lifecycle Hook when create a pod with lifecycle hook should execute {_word} {_how} hook properly"
        add(_title, hooked(_moment, _how))


# Ends


@case(
    "[sig-node] Container Runtime blackbox test when starting a container that exits should run with the expected status"
)
def expected_status(space: Namespace) -> None:
    script = "echo hello >> /count/f; n=$(wc -l < /count/f); [ $n -eq 1 ] && exit 1; [ $n -eq 2 ] && exit 0; while :; do sleep 1; done"
    volume = {"name": "count", "emptyDir": {"medium": "Memory"}}
    wanted = {"Always": ("Running", 2, True), "OnFailure": ("Succeeded", 1, False), "Never": ("Failed", 0, False)}
    for policy in wanted:
        container = box("c", script, volumeMounts=[{"name": "count", "mountPath": "/count"}])
        space.start(pod(policy.lower(), container, volumes=[volume], restartPolicy=policy))
    for policy, (state, count, ready) in wanted.items():

        def met(found: Object, state: str = state, count: int = count) -> bool:
            return phase(found) == state and restarts(found, "c") == count

        found = space.until(policy.lower(), met, f"{state} after {count} restarts", 90)
        if policy == "Always":
            found = space.until("always", is_ready, "ready")
        assert is_ready(found) is ready
        assert list(status_of(found, "c")["state"]) == ["running" if ready else "terminated"]
        space.delete(policy.lower(), 0)
        space.gone(policy.lower())


def message(script: str, wanted: str, ends: str = "Succeeded", **fields: Any) -> Callable[[Namespace], None]:
    """A case: what a container leaves as its last words."""

    def run(space: Namespace) -> None:
        found = space.finished(pod("p", box("c", script, **fields)))
        assert phase(found) == ends
        assert status_of(found, "c")["state"]["terminated"].get("message", "") == wanted

    return run


_ENDED = "[sig-node] Container Runtime blackbox test on terminated container should report termination message"
_LOGS = {"terminationMessagePolicy": "FallbackToLogsOnError"}
add(
    f"{_ENDED} if TerminationMessagePath is set as non-root user and at a non-default path",
    message(
        "echo -n DONE > /dev/termination-custom-log",
        "DONE",
        terminationMessagePath="/dev/termination-custom-log",
        securityContext={"runAsUser": 10000},
    ),
)
add(
    f"{_ENDED} from log output if TerminationMessagePolicy FallbackToLogsOnError is set",
    message("echo -n DONE; false", "DONE", "Failed", **_LOGS),
)
add(
    f"{_ENDED} as empty when pod succeeds and TerminationMessagePolicy FallbackToLogsOnError is set",
    message("echo -n DONE; true", "", **_LOGS),
)
add(
    f"{_ENDED} from file when pod succeeds and TerminationMessagePolicy FallbackToLogsOnError is set",
    message("echo -n OK > /dev/termination-log; echo DONE; true", "OK", **_LOGS),
)
