"""Requests and limits of real containers, in version 2's tree or in the hierarchies of version 1, whichever this machine has."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any

import pytest

from nsrun.cgroups import Cgroups, MissingControllerError, detect
from nsrun.plan.resources import Limits
from tests.host.lifecycle.in_force import group, inside, pid_of
from tests.host.server.harness import Server, box, pod, until
from tests.host.testhost import Host
from tests.host.volumes.looking import events

pytestmark = [pytest.mark.requires("limits"), pytest.mark.timeout(120)]

MIB = 1 << 20
PURE = detect().kind == "v2"
"""Version 2 alone: who is killed for want of memory takes all of its container along; version 1 kills one process."""
SOME = {"limits": {"cpu": "500m", "memory": "64Mi"}, "requests": {"cpu": "250m", "memory": "32Mi"}}


def conditions(server: Server, name: str, kind: str) -> list[dict[str, Any]]:
    """The conditions of a pod of this type: one or none."""
    return [one for one in server.get(name)["status"]["conditions"] if one["type"] == kind]


def test_S_CGROUP_limits_are_in_force(server: Server) -> None:
    server.up(pod("p", box("a", "pause", resources=SOME), box("b", "pause")))
    own = group(server, "p", "a")
    assert own.shares == 256
    assert own.quota_us == 50_000
    assert own.period_us == 100_000
    assert own.memory == 64 * MIB
    other = group(server, "p", "b")
    assert (other.shares, other.quota_us, other.memory) == (2, None, None)
    of_pod = group(server, "p")
    if not PURE:
        # Processes outside have 1024 each there; in version 2 pods share a cgroup that weighs as much as any other.
        assert int((of_pod.directory("cpu").parent / "cpu.shares").read_text()) == 1024 * (os.cpu_count() or 1)
    assert of_pod.shares == 256
    assert of_pod.quota_us is None, "not everybody has a limit"
    for directory in own.directories:
        assert (directory / "cgroup.procs").read_text().split() == [str(pid_of(server, "p", "a"))], directory
    if PURE:
        assert [(one.unified / "memory.oom.group").read_text() for one in (own, other, of_pod)] == ["1\n", "1\n", "0\n"]
        assert (own.unified / "memory.swap.max").read_text() == "0\n", "what is used up is not made good with swap"


def test_S_CGROUP_of_the_pod_when_all_have_limits(server: Server) -> None:
    half = {"limits": {"cpu": "250m", "memory": "16Mi"}}
    server.up(pod("p", box("a", "pause", resources=SOME), box("b", "pause", resources=half)))
    of_pod = group(server, "p")
    assert of_pod.quota_us == 75_000
    assert of_pod.shares == 512
    assert of_pod.memory == 80 * MIB


def test_S_CGROUP_who_asks_for_nothing_has_no_limit(server: Server) -> None:
    """And no cgroups of version 1; in version 2, where its cgroup is there anyway, it comes after those who ask."""
    server.up(pod("p", box("a", "pause")))
    for one in (group(server, "p"), group(server, "p", "a")):
        assert one.legacy == {}
        if PURE:
            assert (one.memory, one.pids) == (None, None)
    server.up(pod("asks", box("a", "pause", resources=SOME)))
    assert not PURE or (group(server, "p").unified / "cpu.weight").read_text() == "1\n"


def test_S_CGROUP_all_that_ever_runs_in_a_container_is_within(server: Server) -> None:
    """Root process, command, hook and probe, and what they fork."""
    tell = ["/bin/then", "append", "/dev/shm/seen", "x", ";", "cat", "/proc/self/cgroup"]
    server.up(
        pod(
            "p",
            box(
                "a", "pause",
                resources=SOME,
                lifecycle={"postStart": {"exec": {"command": ["/bin/then", "orphans", "2", "100", "100"]}}},
                readinessProbe={"exec": {"command": tell}, "periodSeconds": 1},
            ),
            terminationGracePeriodSeconds=1,
        ),
        wait="none",
    )  # fmt: skip
    until(lambda: server.runtime("p")["instances"] and group(server, "p", "a").memory)
    root = pid_of(server, "p", "a")
    here = inside(root)
    assert all(path.count("/pod-") == 1 for path in here.values())
    assert here.keys() == ({""} if PURE else {"cpu", "memory"})
    own = group(server, "p", "a")
    pods = group(server, "p").unified

    def everyone() -> set[int]:
        return {int(word) for file in pods.rglob("cgroup.procs") for word in file.read_text().split()}

    deadline = time.monotonic() + 4
    most = 0
    while time.monotonic() < deadline:
        for pid in everyone():
            try:
                # A process that was just born is on its way; it has not executed anything yet.
                if os.readlink(f"/proc/{pid}/exe").endswith("nsrun-shim"):
                    continue
                assert inside(pid) == here, Path(f"/proc/{pid}/cmdline").read_bytes()
            except (FileNotFoundError, ProcessLookupError):
                continue
            most = max(most, len(everyone()))
    assert most >= 2
    server.run("p", "/bin/true")
    assert str(root) in (own.directory("cpu") / "cgroup.procs").read_text().split()


def test_S_CGROUP_a_command_of_the_next_server_is_within(server: Server) -> None:
    server.up(pod("p", box("a", "pause", resources=SOME)))
    before = group(server, "p", "a")
    assert server.kill()
    code, out, _ = server.run("p", "/bin/alloc", "100")
    assert (code, out) == (137, b""), "it ran into the limit of the container"
    if PURE:
        until(lambda: server.container("p", "a")["restartCount"] == 1)
        assert server.container("p", "a")["lastState"]["terminated"]["reason"] == "OOMKilled"
        return
    assert before.oom_kills == 1
    assert group(server, "p", "a") == before


def test_S_CGROUP_nothing_is_left_of_a_pod(server: Server) -> None:
    server.up(pod("p", box("a", "orphans", "3", "1000", "1000", resources=SOME), terminationGracePeriodSeconds=1))
    directories = [*group(server, "p").directories, *group(server, "p", "a").directories]
    assert all(one.is_dir() for one in directories)
    assert server.kill()
    server.down("p", grace_period_s=0)
    assert not any(one.exists() for one in directories)


def test_S_CGROUP_a_quota_slows_down(server: Server) -> None:
    server.up(pod("p", box("a", "spin", "1000", resources={"limits": {"cpu": "100m"}})))
    own = group(server, "p", "a")
    time.sleep(1.5)
    found = dict(line.split() for line in (own.directory("cpu") / "cpu.stat").read_text().splitlines())
    assert int(found["nr_throttled"]) >= 5
    ticks = sum(map(int, Path(f"/proc/{pid_of(server, 'p', 'a')}/stat").read_text().rpartition(")")[2].split()[11:13]))
    assert ticks / os.sysconf("SC_CLK_TCK") < 0.6


def test_S_OOM_one_that_is_restarted_has_its_limit_again(server: Server) -> None:
    server.up(pod("p", box("a", "alloc", "100", resources={"limits": {"memory": "24Mi"}})), wait="none")
    until(lambda: server.container("p", "a")["restartCount"] >= 1, 30)
    last = server.container("p", "a")["lastState"]["terminated"]
    assert (last["exitCode"], last["reason"]) == (137, "OOMKilled")


def test_S_CGROUP_resize_in_place(server: Server) -> None:
    manifest = pod("p", box("a", "pause", resources=SOME), box("b", "pause", resources=SOME))
    server.up(manifest)
    before = [one["id"] for one in server.runtime("p")["instances"]]
    more: dict[str, Any] = {"limits": {"cpu": "1", "memory": "128Mi"}, "requests": {"cpu": "500m", "memory": "32Mi"}}
    for resources, quota, memory in ((more, 100_000, 128), (SOME, 50_000, 64)):
        manifest["spec"]["containers"][0]["resources"] = resources
        assert server.up(manifest)["pods"][0]["verdict"] == "configured"
        own, of_pod = group(server, "p", "a"), group(server, "p")
        until(lambda: of_pod.quota_us == quota + 50_000)  # noqa: B023
        assert own.quota_us == quota
        assert own.memory == memory * MIB
        assert of_pod.memory == (memory + 64) * MIB
        assert server.container("p", "a")["resources"] == resources
        assert server.container("p", "a")["allocatedResources"] == resources["requests"]
    assert [one["id"] for one in server.runtime("p")["instances"]] == before
    until(lambda: server.reasons("p").count("ResizeCompleted") + server.reasons("p").count("ResizeStarted") >= 4)
    assert not conditions(server, "p", "PodResizeInProgress")
    assert not conditions(server, "p", "PodResizePending")


def test_S_CGROUP_resize_of_a_pod_with_amounts_of_its_own(server: Server) -> None:
    """They are shared by containers without, which are started again for them where their policy says so."""
    policy = [{"resourceName": "cpu", "restartPolicy": "RestartContainer"}]
    boxes = [box("a", "pause", resources=SOME), box("b", "pause", resizePolicy=policy), box("c", "pause")]
    manifest = pod("p", *boxes, resources={"limits": {"cpu": "1", "memory": "128Mi"}})
    server.up(manifest)
    before = {one["name"]: one["id"] for one in server.runtime("p")["instances"]}
    own = manifest["spec"]["resources"] = {"limits": {"cpu": "2", "memory": "256Mi"}, "requests": {"cpu": "1"}}
    assert server.up(manifest)["pods"][0]["verdict"] == "configured"
    until(lambda: group(server, "p").quota_us == 200_000)
    assert group(server, "p").memory == 256 * MIB
    assert group(server, "p", "c").quota_us == 200_000
    assert group(server, "p", "c").memory == 256 * MIB
    assert group(server, "p", "a").quota_us == 50_000, "it has its own"
    until(lambda: server.container("p", "b")["restartCount"] == 1 and server.container("p", "b")["ready"])
    assert group(server, "p", "b").quota_us == 200_000
    after = {one["name"]: one["id"] for one in server.runtime("p")["instances"]}
    assert {name for name in before if before[name] != after[name]} == {"b"}
    status = server.get("p")["status"]
    assert status["resources"]["limits"] == own["limits"]
    assert status["allocatedResources"]["cpu"] == "1"
    # What the machine does not have is asked for, and told as that.
    cpus = os.cpu_count() or 1
    manifest["spec"]["resources"] = {
        "limits": {"cpu": str(cpus + 1), "memory": "256Mi"},
        "requests": {"cpu": str(cpus + 1)},
    }
    server.up(manifest)
    until(lambda: conditions(server, "p", "PodResizePending"))
    assert conditions(server, "p", "PodResizePending")[0]["reason"] == "Infeasible"
    assert server.kill()
    status = server.get("p")["status"]
    assert status["resources"]["limits"] == own["limits"]
    assert status["allocatedResources"]["cpu"] == "1"
    assert group(server, "p").quota_us == 200_000
    # A container's own amounts within them.
    manifest["spec"]["resources"] = own
    manifest["spec"]["containers"][0]["resources"] = {
        "limits": {"cpu": "1", "memory": "96Mi"},
        "requests": SOME["requests"],
    }
    server.up(manifest)
    until(lambda: group(server, "p", "a").quota_us == 100_000)
    assert not conditions(server, "p", "PodResizePending")
    until(lambda: not conditions(server, "p", "PodResizeInProgress"))
    assert server.container("p", "a")["restartCount"] == 0


@pytest.mark.parametrize("policy", ["Never", "Always"])
def test_S_CGROUP_resize_of_one_that_ended(server: Server, policy: str) -> None:
    """The cgroup of an instance that ended holds up nobody: neither of the last of its container nor of one in its back-off."""

    def manifest(cpu: str) -> dict[str, Any]:
        limits = {"resources": {"limits": {"cpu": cpu, "memory": "32Mi"}}}
        return pod("p", box("a", "pause", **limits), box("b", "false", **limits), restartPolicy=policy)

    def ended() -> bool:
        status = server.container("p", "b")
        return bool(status.get("lastState")) or "terminated" in status["state"]

    server.up(manifest("500m"), wait="none")
    until(ended)
    server.up(manifest("100m"), wait="none")
    until(lambda: group(server, "p").quota_us == 20_000, 4, "the pod is without a limit")
    until(lambda: not conditions(server, "p", "PodResizeInProgress"), 4)
    assert "ResizeError" not in server.reasons("p")


def test_S_CGROUP_resize_that_the_machine_does_not_have_room_for(server: Server) -> None:
    """Infeasible is for ever, Deferred until another pod needs less; what is in force goes on, whoever is killed."""
    cpus = os.cpu_count() or 1

    def asking(cpu: str, **more: Any) -> dict[str, Any]:
        return box("a", "pause", resources={"requests": {"cpu": cpu}}, **more)

    restart = [{"resourceName": "cpu", "restartPolicy": "RestartContainer"}]
    server.up(pod("other", asking(f"{cpus * 1000 - 500}m")), pod("p", asking("300m", resizePolicy=restart)))
    first = server.runtime("p")["instances"][0]["id"]
    server.up(pod("p", asking(str(cpus + 1), resizePolicy=restart)))
    (told,) = conditions(server, "p", "PodResizePending")
    assert (told["status"], told["reason"]) == ("True", "Infeasible")
    text = f"Node didn't have enough capacity: cpu, requested: {cpus * 1000 + 1000}, capacity: {cpus * 1000}"
    assert told["message"] == text
    assert server.get("p")["spec"]["containers"][0]["resources"]["requests"]["cpu"] == str(cpus + 1)
    assert server.container("p", "a")["allocatedResources"] == {"cpu": "300m"}
    assert server.container("p", "a")["resources"] == {"requests": {"cpu": "300m"}}
    assert group(server, "p", "a").shares == 307

    server.up(pod("p", asking("600m", resizePolicy=restart)))
    numbers = f"requested: 600, used: {cpus * 1000 - 500}, capacity: {cpus * 1000}"
    (told,) = conditions(server, "p", "PodResizePending")
    assert (told["reason"], told["message"], told["observedGeneration"]) == (
        "Deferred", f"Node didn't have enough resource: cpu, {numbers}", 3,
    )  # fmt: skip
    assert {"ResizeInfeasible", "ResizeDeferred"} <= set(server.reasons("p"))
    assert "ResizeStarted" not in server.reasons("p")
    assert server.kill()
    assert conditions(server, "p", "PodResizePending")[0]["reason"] == "Deferred"
    assert server.container("p", "a")["allocatedResources"] == {"cpu": "300m"}
    assert server.runtime("p")["instances"][0]["id"] == first
    # A third pod has the room that is not taken.
    server.up(pod("third", asking("200m")))
    server.down("third")
    server.down("other")
    until(lambda: not conditions(server, "p", "PodResizePending"))
    until(lambda: server.container("p", "a")["allocatedResources"] == {"cpu": "600m"})
    until(lambda: server.container("p", "a")["restartCount"] == 1 and server.container("p", "a")["ready"])
    until(lambda: "ResizeCompleted" in server.reasons("p"))
    assert group(server, "p", "a").shares == 614
    assert server.container("p", "a")["restartCount"] == 1
    messages = [
        one["message"] for one in server.call("pod.events", name="p").result["events"] if "esize" in one["reason"]
    ]
    assert any(text.startswith('Pod resize completed: {"containers":[{"name":"a","resources":') for text in messages)


def test_S_CGROUP_S_UPDATE_resize_with_a_restart_where_the_policy_says_so(server: Server) -> None:
    policy = [{"resourceName": "memory", "restartPolicy": "RestartContainer"}]
    manifest = pod("p", box("a", "pause", resources=SOME, resizePolicy=policy), box("b", "pause", resources=SOME))
    server.up(manifest)
    first = {one["name"]: one["id"] for one in server.runtime("p")["instances"]}
    for resources, restarts in (
        ({"limits": {"cpu": "1", "memory": "64Mi"}, "requests": SOME["requests"]}, 0),
        ({"limits": {"cpu": "1", "memory": "128Mi"}, "requests": SOME["requests"]}, 1),
    ):
        manifest["spec"]["containers"][0]["resources"] = resources
        assert server.up(manifest)["pods"][0]["verdict"] == "configured"
        until(lambda: server.container("p", "a")["restartCount"] == restarts)  # noqa: B023
        until(lambda: group(server, "p", "a").quota_us == 100_000)
    until(lambda: server.container("p", "a")["ready"])
    assert group(server, "p", "a").memory == 128 * MIB
    assert server.container("p", "a")["resources"]["limits"]["memory"] == "128Mi"
    assert server.container("p", "a")["restartCount"] == 1, "a policy of memory alone"
    assert {one["name"]: one["id"] for one in server.runtime("p")["instances"]}["b"] == first["b"]
    assert server.container("p", "b")["restartCount"] == 0


def test_S_CGROUP_memory_is_not_taken_from_who_uses_it(server: Server) -> None:
    manifest = pod("p", box("a", "alloc", "40", "1000", resources=SOME))
    server.up(manifest)
    until(lambda: server.lines("p", "a") == ["ready"])
    manifest["spec"]["containers"][0]["resources"] = {**SOME, "limits": {"cpu": "500m", "memory": "33Mi"}}
    server.up(manifest)
    until(lambda: "ResizeError" in server.reasons("p"))
    assert group(server, "p", "a").memory == 64 * MIB
    assert server.container("p", "a")["restartCount"] == 0
    until(lambda: conditions(server, "p", "PodResizeInProgress"))
    (told,) = conditions(server, "p", "PodResizeInProgress")
    assert (told["status"], told["reason"], told["observedGeneration"]) == ("True", "Error", 2)
    assert "below current usage" in told["message"]
    assert server.container("p", "a")["resources"] == SOME, "what it has"
    # Another one that the machine has no room for does not hide what there is, and that the first is still to be carried out.
    huge = {"limits": {"cpu": "500m", "memory": "100Ti"}, "requests": {**SOME["requests"], "memory": "100Ti"}}
    manifest["spec"]["containers"][0]["resources"] = huge
    server.up(manifest)
    until(lambda: conditions(server, "p", "PodResizePending"))
    assert conditions(server, "p", "PodResizePending")[0]["reason"] == "Infeasible"
    assert conditions(server, "p", "PodResizeInProgress")[0]["reason"] == "Error"
    assert server.container("p", "a")["resources"] == SOME, "what it has"
    assert server.container("p", "a")["allocatedResources"] == SOME["requests"]
    assert group(server, "p", "a").memory == 64 * MIB
    # Neither does a change of something else.
    manifest["metadata"]["labels"] = {"x": "y"}
    manifest["spec"]["containers"][0]["resources"] = {**SOME, "limits": {"cpu": "500m", "memory": "33Mi"}}
    server.up(manifest)
    manifest["metadata"]["labels"] = {"x": "z"}
    server.up(manifest)
    until(lambda: not conditions(server, "p", "PodResizePending"))
    assert conditions(server, "p", "PodResizeInProgress")[0]["reason"] == "Error"
    assert server.reasons("p").count("ResizeStarted") == 1
    # Also to a server that knows nothing of it; and asking for what there was ends it.
    assert server.kill()
    until(lambda: conditions(server, "p", "PodResizeInProgress"))
    assert server.container("p", "a")["resources"] == SOME
    manifest["spec"]["containers"][0]["resources"] = SOME
    server.up(manifest)
    until(lambda: not conditions(server, "p", "PodResizeInProgress"))
    assert group(server, "p", "a").memory == 64 * MIB


@pytest.mark.requires("memory1")
def test_S_CGROUP_a_missing_controller_is_named(host: Host) -> None:
    assert host.cgroup_base is not None
    cgroups = Cgroups(host.cgroup_base, detect(), legacy={})
    with pytest.raises(MissingControllerError, match='"cpu"'):
        cgroups.create_pod("0-1", Limits(("cpu",)))
    cgroups.close(remove=True)


def test_S_CGROUP_a_tree_where_nothing_can_be_made_is_told_of_and_tried_again(server: Server) -> None:
    server.up(pod("first", box("a", "pause")))
    recorded = (server.root / "run" / "cgroup-base").read_text(encoding="utf-8")
    most = Path(recorded.splitlines()[0]) / "cgroup.max.descendants"
    most.write_text("0")
    try:
        server.up(pod("p", box("a", "pause", resources=SOME)), wait="none", time_scale=20)
        words = f"the container cannot be held together: make cgroup {most.parent}/pod-"
        until(lambda: any(words in one for one in events(server, "FailedCreatePodSandBox", "p")))
        assert server.get("p")["status"]["phase"] == "Pending"
        server.kill()
        assert server.get("first")["status"]["phase"] == "Running"
    finally:
        most.write_text("max")
    server.wait("p", "condition=Ready")


def test_S_CGROUP_the_pids_limit_of_the_configuration(server: Server) -> None:
    (server.root / "etc").mkdir(exist_ok=True)
    config = server.root / "etc" / "config.toml"
    config.write_text("podPidsLimit = 40\n")
    server.up(pod("before", box("a", "pause")))
    assert server.kill()
    server.up(pod("p", box("a", "pause"), box("b", "pause", resources=SOME)))
    assert group(server, "p").pids == 40
    assert group(server, "p", "a").pids is None, "it is the pod's"
    code, out, _ = server.run("p", "/bin/forkmany", "10", "0.1", container="b")
    assert (code, out) == (0, b"ready\n")
    code, out, _ = server.run("p", "/bin/forkmany", "100", "0.1", container="a")
    assert (code, out) != (0, b"ready\n"), "no process of the pod can be one too many"
    assert int((group(server, "p").directory("pids") / "pids.current").read_text()) <= 40
    # In version 1 a pod of before has no cgroup that could hold it; it runs on as it is, in version 2 as well.
    assert group(server, "before").legacy == {}
    assert not PURE or group(server, "before").pids is None
    assert server.run("before", "/bin/forkmany", "100", "0.1")[0] == 0
    stats = server.call("pod.stats", names=["p"]).result["pods"][0]
    assert stats["process_stats"]["thread_count"] >= 2
    config.write_text("podPidsLimit = -2\n")
    assert server.kill()
    assert "podPidsLimit of the configuration is -2" in server.host.nsrun("pod", "ls", check=False).stderr
    config.unlink()


def test_S_ADMIT_huge_pages_that_the_machine_does_not_have(server: Server) -> None:
    limits = {"limits": {"memory": "64Mi", "hugepages-1Gi": "1023Gi"}}
    server.up(pod("huge", box("a", "pause", resources=limits)), wait="none")
    until(lambda: server.get("huge")["status"].get("phase") == "Failed")
    status = server.get("huge")["status"]
    assert status["reason"] == "OutOfhugepages-1Gi"
    assert f"requested: {1023 << 30}, used: 0, capacity: " in status["message"]


@pytest.mark.requires("huge-pages")
def test_S_CGROUP_huge_pages_that_the_machine_has(server: Server) -> None:
    """As many as the container may have, and none for who names none, whatever else it asks for."""
    memory = {"memory": "64Mi"}
    some = {"limits": {**memory, "hugepages-2Mi": "4Mi"}}
    server.up(
        pod("p", box("a", "huge", "4", "1000", resources=some), box("b", "pause", resources={"limits": memory})),
        pod("bare", box("a", "pause")),
    )
    until(lambda: server.lines("p", "a") == ["ready"])
    file = "hugetlb.2MB.max" if PURE else "hugetlb.2MB.limit_in_bytes"
    given = [(group(server, *of).directory("hugetlb") / file).read_text() for of in (("p",), ("p", "a"), ("p", "b"))]
    assert given == [f"{4 * MIB}\n", f"{4 * MIB}\n", "0\n"]
    for name, container in (("p", "a"), ("p", "b"), ("bare", "a")):
        code, out, err = server.run(name, "/bin/huge", "2", container=container)
        assert (code, out, err) == (1, b"", b"huge: mmap: ENOMEM\n"), (name, container)
    assert server.container("p", "a")["restartCount"] == 0


def test_S_CGROUP_amounts_at_the_edges(server: Server) -> None:
    tiny = {"limits": {"cpu": "1m", "memory": "4Mi"}, "requests": {"cpu": "1m", "memory": "1"}}
    vast = {"limits": {"cpu": "100000", "memory": "7Ei"}, "requests": {"cpu": "1m", "memory": "1"}}
    server.up(pod("tiny", box("a", "pause", resources=tiny)), pod("vast", box("a", "pause", resources=vast)))
    own = group(server, "tiny", "a")
    assert own.quota_us == 1000, "the least that the kernel takes"
    assert own.shares == 2
    assert own.memory == 4 * MIB
    assert group(server, "vast", "a").quota_us == 100_000 * 100_000
    assert group(server, "vast", "a").memory is None


def test_S_CGROUP_what_somebody_removed_by_hand(server: Server) -> None:
    """The cgroups of a running container cannot be removed; of one that is to start they are made again."""
    server.up(pod("p", box("a", "pause", resources=SOME), restartPolicy="Always"))
    own = group(server, "p", "a")
    with pytest.raises(OSError, match="busy"):
        own.directory("memory").rmdir()
    server.run("p", "/bin/true")
    code, _, _ = server.run("p", "/bin/alloc", "100")
    assert code == 137
    if not PURE:
        server.call("pod.kill", name="p", signal="SIGKILL")
    until(lambda: server.container("p", "a")["restartCount"] == 1 and server.container("p", "a")["ready"])
    assert group(server, "p", "a").memory == 64 * MIB


def test_S_OOM_in_a_child_and_in_an_init_container(server: Server) -> None:
    """Version 1 kills one process: the container goes on if it was not the root, and fails with OOMKilled if it ends because of that.

    In version 2 the container ends whoever it was.
    """
    small = {"limits": {"memory": "24Mi"}}
    server.up(
        pod("child", box("a", "seq", "alloc", "100", ";", "pause", resources=small)),
        pod("init", box("a", "pause"), inits=(box("i", "alloc", "100", resources=small),), restartPolicy="Never"),
        wait="none",
    )
    until(lambda: server.get("init")["status"].get("phase") == "Failed")
    ended = server.container("init", "i")["state"]["terminated"]
    assert (ended["exitCode"], ended["reason"]) == (137, "OOMKilled")

    if PURE:
        until(lambda: server.container("child", "a")["restartCount"] >= 1)
        ended = server.container("child", "a")["lastState"]["terminated"]
        assert (ended["exitCode"], ended["reason"]) == (137, "OOMKilled")
        return

    def kills() -> object:
        inside = server.call("pod.stats", names=["child"], containers=True).result["pods"][0].get("containers")
        return inside and inside[0]["memory"].get("oomKills")

    until(lambda: kills() == 1)
    assert server.container("child", "a")["state"].keys() == {"running"}
    assert server.container("child", "a")["restartCount"] == 0
