"""A pod's life as the protocol shows it."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from nsrun.errors import (
    ConflictError,
    NotFoundError,
    NsrunError,
    PodFailedError,
    SpecError,
    TimedOutError,
    UnsupportedError,
    UsageError,
)
from nsrun.native import exec_status
from tests.host.server.harness import IMAGE, Server, alive, box, pod, texts, until

pytestmark = pytest.mark.timeout(90)


def test_up_runs_a_pod_and_down_takes_all_of_it_away(server: Server) -> None:
    answer = server.up(pod("web", box("a", "lines", "3"), box("b", "pause"), restartPolicy="Never"), wait="none")
    assert [(one["name"], one["verdict"]) for one in answer["pods"]] == [("web", "created")]
    server.wait("web", "jsonpath={.status.containerStatuses[0].state.terminated.reason}=Completed")
    found = server.get("web")
    assert found["status"]["phase"] == "Running"
    assert found["metadata"]["uid"] == answer["pods"][0]["uid"]
    assert found["status"]["podIP"].startswith("10.")
    assert server.lines("web", "a") == ["0", "1", "2"] or len(server.lines("web", "a")) == 3
    runtime = server.runtime("web")
    pids = [one["pid"] for one in runtime["instances"] if one["state"] == "running"]
    assert len(pids) == 1
    assert alive(pids[0])
    assert alive(runtime["shim_pid"])
    uid = found["metadata"]["uid"]
    server.down("web")
    assert not alive(pids[0])
    assert not alive(runtime["shim_pid"])
    assert server.names() == []
    assert not Path(runtime["directory"]).exists()
    assert not Path(runtime["log_directory"]).exists()
    assert os.listdir(server.root / "lib" / "leases") == []
    if server.host.cgroup_base is not None:
        assert not (server.host.cgroup_base / f"pod-{uid}").exists()
    with pytest.raises(NotFoundError):
        server.get("web")


def test_up_again_is_no_change_and_a_changed_manifest_wants_replace(server: Server) -> None:
    manifest = pod("web", box("a", "pause"))
    first = server.up(manifest)["pods"][0]
    again = server.up(manifest)["pods"][0]
    assert (again["verdict"], again["uid"], again["changes"]) == ("unchanged", first["uid"], [])
    manifest["spec"]["containers"][0]["command"] = ["/bin/sleep", "1000"]
    manifest["metadata"]["labels"] = {"app": "web"}
    with pytest.raises(ConflictError, match="already there") as caught:
        server.up(manifest)
    assert "spec.containers[0].command" in str(caught.value.details)
    assert "Changed as well: metadata.labels[app]" in str(caught.value.details)
    replaced = server.up(manifest, replace=True)["pods"][0]
    assert replaced["verdict"] == "replaced"
    assert replaced["uid"] != first["uid"]
    assert server.get("web")["metadata"]["labels"] == {"app": "web"}


def test_nothing_is_begun_when_one_of_several_is_wrong(server: Server) -> None:
    good, bad = pod("good", box("a", "pause")), pod("bad", {"name": "A_B", "image": IMAGE})
    with pytest.raises(SpecError, match="bad"):
        server.up(good, bad)
    with pytest.raises(SpecError, match="twice"):
        server.up(good, good)
    with pytest.raises(UnsupportedError, match="Service"):
        server.up(good, {"apiVersion": "v1", "kind": "Service", "metadata": {"name": "s"}, "spec": {}})
    assert server.names() == []
    assert os.listdir(server.root / "run" / "pods") == []


def test_what_is_not_implemented_is_an_error_or_a_warning(server: Server) -> None:
    manifest = pod(
        "web",
        box("a", "pause", ports=[{"containerPort": 1, "hostPort": 1, "hostIP": "localhost"}]),
        nodeSelector={"a": "b"},
    )
    with pytest.raises(UnsupportedError, match="not implement") as caught:
        server.up(manifest)
    assert "hostIP" in str(caught.value.details)
    answer = server.up(manifest, ignore_unsupported=True)
    warnings = "\n".join(answer["pods"][0]["warnings"])
    assert "hostIP" in warnings
    assert "nodeSelector" in warnings


def test_S_NET_S_NS_several_pods_reach_one_another_and_share_what_a_pod_shares(server: Server) -> None:
    server.up(
        pod(
            "one",
            box("server", "netserver", "8080", "hello"),
            box("local", "then", "netclient", "127.0.0.1", "8080", "x", "10", ";", "pause"),
        ),
        pod("two", box("pause", "pause")),
    )
    until(lambda: any("hello" in line for line in server.lines("one", "local")), what="localhost is shared")
    address = server.get("one")["status"]["podIP"]
    code, out, err = server.run("two", "/bin/netclient", address, "8080", "over", "5")
    assert (code, err) == (0, b"")
    assert b"hello" in out
    assert b"over" in out
    assert server.run("one", "/bin/write", "/dev/shm/x", "shared", container="server")[0] == 0
    assert server.run("one", "/bin/cat", "/dev/shm/x", container="local")[1] == b"shared"
    assert server.run("two", "/bin/hostname")[1].split()[0] == b"two"


def test_a_generated_name_is_free_and_follows_its_prefix(server: Server) -> None:
    manifest = pod("x", box("a", "pause"))
    manifest["metadata"] = {"generateName": "job-"}
    names = [server.up(manifest, wait="none")["pods"][0]["name"] for _ in range(3)]
    assert len(set(names)) == 3
    assert all(name.startswith("job-") and len(name) == 9 for name in names)


def test_namespaces_keep_names_apart(server: Server) -> None:
    manifest = pod("web", box("a", "pause"))
    server.up(manifest)
    server.up(manifest, namespace="other")
    assert server.names() == ["web", "web"]
    server.down("web", namespace="other")
    assert server.names() == ["web"]
    with pytest.raises(NotFoundError, match="other/web") as caught:
        server.down("web", namespace="other")
    assert "default" in str(caught.value.resolution)


def test_S_RESTART_S_BACKOFF_restarts_keep_sandbox_and_address_and_back_off(server: Server) -> None:
    server.up(pod("web", box("a", "failing", "/dev/shm/count", "1"), box("b", "pause")), wait="none")
    until(lambda: server.container("web", "a")["restartCount"] == 1, what="the first restart is immediate")
    status = server.container("web", "a")
    until(lambda: "waiting" in server.container("web", "a")["state"])
    status = server.container("web", "a")
    assert status["state"]["waiting"]["reason"] == "CrashLoopBackOff"
    assert status["state"]["waiting"]["message"].startswith(
        "back-off 10s restarting failed container=a pod=web_default("
    )
    assert status["lastState"]["terminated"]["exitCode"] == 0
    assert server.get("web")["status"]["phase"] == "Running"
    assert server.runtime("web")["sandbox"]["attempt"] == 0
    assert "BackOff" in server.reasons("web")
    assert [file.name for file in sorted((Path(server.runtime("web")["log_directory"]) / "a").iterdir())] == [
        "0.log",
        "1.log",
    ]


def test_S_PHASE_jobs_end_succeeded_or_failed_and_free_their_address(server: Server) -> None:
    server.up(
        pod("good", box("a", "true"), restartPolicy="Never"),
        pod("bad", box("a", "exit", "7"), restartPolicy="Never"),
        wait="none",
    )
    server.wait("good", "phase=Succeeded")
    server.wait("bad", "phase=Failed")
    end = server.container("bad", "a")["state"]["terminated"]
    assert (end["exitCode"], end["reason"]) == (7, "Error")
    until(lambda: os.listdir(server.root / "lib" / "leases") == [], what="the addresses are given back")
    until(lambda: server.runtime("bad")["shim_pid"] is None)
    server.kill()
    assert server.container("bad", "a")["state"]["terminated"]["exitCode"] == 7
    assert server.get("good")["status"]["phase"] == "Succeeded"


def test_S_INIT_init_containers_run_in_their_order_before_the_mains(server: Server) -> None:
    server.up(
        pod(
            "web",
            box("main", "cat", "/dev/shm/order"),
            inits=(
                box("one", "append", "/dev/shm/order", "1"),
                box("side", "pause", restartPolicy="Always"),
                box("two", "append", "/dev/shm/order", "2"),
            ),
            restartPolicy="Never",
        ),
        wait="none",
    )
    server.wait("web", "phase=Succeeded")
    assert "".join(server.lines("web", "main")).replace("\n", "") == "12"
    server.wait("web", "jsonpath={.status.initContainerStatuses[1].state.terminated.exitCode}=137")


def test_S_INIT_a_failing_init_container_ends_a_pod_that_never_restarts(server: Server) -> None:
    with pytest.raises(PodFailedError, match="one"):
        server.up(pod("web", box("main", "pause"), inits=(box("one", "exit", "3"),), restartPolicy="Never"))
    assert server.get("web")["status"]["phase"] == "Failed"


@pytest.mark.parametrize(
    ("command", "words"),
    [
        (["nosuch"], 'exec: "nosuch": executable file not found in \\$PATH'),
        (["/bad/nosuch"], "no such file or directory"),
        (["/bin"], "is a directory"),
    ],
)
def test_S_REASONS_a_command_that_cannot_start_fails_up_at_once(server: Server, command: list[str], words: str) -> None:
    with pytest.raises(PodFailedError, match=words):
        server.up(pod("web", {**box("a", "x"), "command": command}))
    status = server.container("web", "a")
    ends = [status[key].get("terminated") for key in ("state", "lastState")]
    assert any(end and (end["exitCode"], end["reason"]) == (128, "StartError") for end in ends)
    assert "Failed" in server.reasons("web")


def test_S_REASONS_an_image_that_is_not_there_fails_up_at_once(server: Server) -> None:
    with pytest.raises(PodFailedError, match="ErrImageNeverPull"):
        server.up(pod("web", {"name": "a", "image": "nowhere.local/x", "imagePullPolicy": "Never"}))
    assert "ErrImageNeverPull" in server.reasons("web")
    with pytest.raises(PodFailedError, match="ErrImagePull"):
        server.up(pod("web2", {"name": "a", "image": "nowhere.local/x"}))


def test_up_times_out_and_the_pod_goes_on(server: Server) -> None:
    slow = pod("web", box("main", "pause"), inits=(box("slow", "sleep", "60"),))
    with pytest.raises(TimedOutError, match="PodInitializing"):
        server.up(slow, timeout_s=0.5)
    assert server.names() == ["web"]


def test_S_TERM_down_gives_time_and_then_kills(server: Server) -> None:
    server.up(pod("polite", box("a", "trap", "0"), terminationGracePeriodSeconds=20), pod("rude", box("a", "stubborn")))
    until(lambda: "ready" in server.lines("polite") and "ready" in server.lines("rude"))
    begun = time.monotonic()
    server.call("pod.down", names=["polite"])
    assert time.monotonic() - begun < 5
    begun = time.monotonic()
    server.call("pod.down", names=["rude"], grace_period_s=1)
    assert 1.9 < time.monotonic() - begun < 8, "S-TERM: no less than two seconds"
    with pytest.raises(NotFoundError):
        server.down("polite")
    server.down("polite", missing_ok=True)


def test_S_TERM_down_can_be_shortened_while_it_waits(server: Server) -> None:
    server.up(pod("rude", box("a", "stubborn")))
    until(lambda: "ready" in server.lines("rude"))
    server.call("pod.down", names=["rude"], grace_period_s=300, wait=False)
    until(lambda: "Killing" in server.reasons("rude"))
    assert server.get("rude")["metadata"]["deletionGracePeriodSeconds"] == 300
    with pytest.raises(ConflictError, match="being taken down"):
        server.up(pod("rude", box("a", "pause")))
    server.call("pod.down", names=["rude"], force=True)
    assert server.names() == []


def test_exec_gives_output_input_and_exit_code(server: Server) -> None:
    server.up(pod("web", box("a", "pause"), box("b", "pause")))
    assert server.run("web", "/bin/cat", stdin=b"through") == (0, b"through", b"")
    assert server.run("web", "/bin/exit", "42", container="b")[0] == 42
    assert server.run("web", "/bin/die", "9")[0] == 137
    with pytest.raises(AssertionError, match="exec failed"):
        server.run("web", "/bin/nosuch")
    with pytest.raises(NotFoundError, match="has no container"):
        server.run("web", "/bin/true", container="c")
    with pytest.raises(UsageError):
        server.call("pod.exec", name="web", command=["/bin/true"])
    server.up(pod("done", box("a", "true"), restartPolicy="Never"), wait="none")
    server.wait("done", "phase=Succeeded")
    with pytest.raises(ConflictError, match="Completed, exit code 0"):
        server.run("done", "/bin/true")


def test_exec_with_a_terminal_hands_over_its_master(server: Server) -> None:
    server.up(pod("web", box("a", "pause")))
    ours, theirs = exec_status.status_pair()
    with ours:
        with theirs:
            command = ["/bin/tty"]
            fds = (theirs.fileno(),)
            server.call("pod.exec", name="web", command=command, tty=True, rows=11, columns=77, fds=fds, again=False)
        started = exec_status.read_status(ours)
        assert started is not None
        assert started.kind == "started"
        assert started.terminal is not None
        with os.fdopen(started.terminal, "rb", 0) as master:
            ended = exec_status.read_status(ours)
            assert ended is not None
            assert ended.exit_code == 0
            said = os.read(master.fileno(), 4096).decode()
    assert "11" in said
    assert "77" in said


def test_attach_gives_the_output_and_takes_input(server: Server) -> None:
    server.up(pod("web", box("in", "cat", stdin=True), box("out", "lines", "-1", "20", "5000")))
    read, write = os.pipe2(os.O_CLOEXEC)
    reply = server.call("pod.attach", name="web", container="in", stdin=True, fds=(write,))
    os.close(write)
    assert reply.result == {"tty": False, "stdin": True}
    with os.fdopen(reply.fds[0], "wb", 0) as stdin, os.fdopen(read, "rb", 0) as output:
        stdin.write(b"hello\n")
        assert output.read(6) == b"hello\n"
        server.kill()
        stdin.write(b"still\n")
        assert output.read(6) == b"still\n", "the server is not on the way"
    until(lambda: server.lines("web", "in") == ["hello", "still"])
    with pytest.raises(ConflictError, match="no standard input"):
        server.call("pod.attach", name="web", container="out", stdin=True)


def test_restart_and_kill_on_request(server: Server) -> None:
    server.up(pod("web", box("a", "pause"), box("b", "pause"), restartPolicy="Never"))
    before = {one["name"]: one["id"] for one in server.runtime("web")["instances"]}
    server.call("pod.restart", name="web", containers=["a"], grace_period_s=0, wait=True)
    after = {one["name"]: one["id"] for one in server.runtime("web")["instances"] if one["state"] == "running"}
    assert after["b"] == before["b"]
    assert after["a"] != before["a"]
    assert server.container("web", "a")["restartCount"] == 1
    server.call("pod.kill", name="web", containers=["b"], signal="SIGKILL")
    server.wait("web", "jsonpath={.status.containerStatuses[1].state.terminated.exitCode}=137")
    with pytest.raises(NsrunError, match="signal"):
        server.call("pod.kill", name="web", signal="SIGNAL")


def test_S_LOG_S_KEEP_logs_of_this_and_the_previous_instance(server: Server) -> None:
    server.up(
        pod("web", box("a", "then", "lines", "2", ";", "failing", "/dev/shm/n", "1"), box("b", "pause")), wait="none"
    )
    until(
        lambda: server.container("web", "a")["restartCount"] == 1 and "waiting" in server.container("web", "a")["state"]
    )
    assert len(server.lines("web", "a")) == len(server.lines("web", "a", previous=True)) == 3
    with pytest.raises(NotFoundError, match="previous"):
        server.lines("web", "b", previous=True)


def test_events_and_watch_tell_what_happens(server: Server) -> None:
    from tests.host.server.harness import Wire

    wire, events = Wire(server.socket), Wire(server.socket)
    try:
        wire.send("pod.watch", {})
        assert wire.receive()[0]["event"] == {"type": "BOOKMARK"}
        events.send("pod.events", {"watch": True})
        server.up(pod("web", box("a", "pause")))
        kinds: list[str] = []
        versions: list[int] = []
        while not kinds or kinds[-1] != "DELETED":
            event = wire.receive()[0]["event"]
            kinds.append(event["type"])
            versions.append(int(event["object"]["metadata"]["resourceVersion"]))
            if event["object"]["status"].get("phase") == "Running" and len(kinds) < 50:
                server.call("pod.down", names=["web"], grace_period_s=0, wait=False, missing_ok=True)
        assert kinds[0] == "ADDED"
        assert versions == sorted(set(versions))
        reasons = []
        while "Killing" not in reasons:
            reasons.append(events.receive()[0]["event"]["event"]["reason"])
        assert [one for one in reasons if one in ("Pulled", "Created", "Started")] == ["Pulled", "Created", "Started"]
    finally:
        wire.close()
        events.close()


def test_a_new_server_adopts_what_runs(server: Server) -> None:
    server.up(pod("web", box("a", "lines", "-1", "10", "1000"), box("b", "pause")))
    before = server.runtime("web")
    version = int(server.get("web")["metadata"]["resourceVersion"])
    server.kill()
    assert alive(before["shim_pid"])
    server.start()
    until(lambda: server.runtime("web")["shim_pid"] == before["shim_pid"])
    after = server.runtime("web")
    assert {one["id"] for one in after["instances"]} == {one["id"] for one in before["instances"]}
    assert int(server.get("web")["metadata"]["resourceVersion"]) > version
    assert server.get("web")["status"]["phase"] == "Running"
    assert server.run("web", "/bin/true", container="b")[0] == 0


def test_S_SANDBOX_a_killed_shim_takes_its_containers_and_the_policy_brings_them_back(server: Server) -> None:
    server.up(
        pod("web", box("a", "pause"), inits=(box("i", "true"),)), pod("once", box("a", "pause"), restartPolicy="Never")
    )
    before = server.runtime("web")
    pids = [
        one["pid"] for name in ("web", "once") for one in server.runtime(name)["instances"] if one["state"] == "running"
    ]
    for name in ("web", "once"):
        os.kill(server.runtime(name)["shim_pid"], 9)
    until(lambda: not any(alive(pid) for pid in pids), what="the containers end with their shim")
    until(
        lambda: server.runtime("web")["sandbox"]["attempt"] == 1 and server.get("web")["status"]["phase"] == "Running"
    )
    server.wait("web", "condition=Ready")
    assert server.runtime("web")["shim_pid"] != before["shim_pid"]
    assert "SandboxChanged" in server.reasons("web")
    last = server.container("web", "a")["lastState"]["terminated"]
    assert (last["exitCode"], last["reason"]) == (137, "ContainerStatusUnknown")
    server.wait("once", "phase=Failed")
    assert server.container("once", "a")["state"]["terminated"]["exitCode"] == 137


def test_S_SANDBOX_a_shim_that_died_while_no_server_ran_is_noticed(server: Server) -> None:
    server.up(pod("web", box("a", "pause")))
    shim = server.runtime("web")["shim_pid"]
    server.kill()
    os.kill(shim, 9)
    server.start()
    until(lambda: server.runtime("web")["sandbox"]["attempt"] == 1)
    server.wait("web", "condition=Ready")


def test_S_REASONS_an_exit_while_no_server_ran_is_known(server: Server) -> None:
    server.up(pod("web", box("a", "then", "sleep", "0.5", ";", "exit", "5"), restartPolicy="Never"))
    server.kill()
    time.sleep(1)
    server.start()
    server.wait("web", "phase=Failed")
    assert server.container("web", "a")["state"]["terminated"]["exitCode"] == 5


def test_a_second_server_is_refused_and_named(server: Server) -> None:
    other = Server(server.host)
    with pytest.raises(AssertionError, match="did not start"):
        other.start()
    assert other.process is not None
    assert other.process.returncode == 5
    assert server.process is not None
    assert f"process {server.process.pid}" in other.said()


def test_stop_leaves_pods_running(server: Server) -> None:
    server.up(pod("web", box("a", "pause")))
    pid = server.runtime("web")["instances"][0]["pid"]
    assert server.process is not None
    server.call("server.stop")
    assert server.process.wait(timeout=10) == 0
    assert alive(pid)
    assert not server.socket.exists()
    server.start()
    assert server.names() == ["web"]


def test_the_lifeline_takes_everything_along(server: Server) -> None:
    server.up(pod("web", box("a", "stubborn")), pod("two", box("a", "pause")))
    pids = [server.runtime(name)["instances"][0]["pid"] for name in ("web", "two")]
    server.wipe()
    assert not any(alive(pid) for pid in pids)
    assert not server.root.exists()
    server.start()


def test_S_NET_host_network_needs_no_address(server: Server) -> None:
    server.up(pod("web", box("a", "pause"), hostNetwork=True))
    assert not (server.root / "lib" / "leases").exists() or os.listdir(server.root / "lib" / "leases") == []
    status = server.get("web")["status"]
    assert status["podIP"] == status["hostIP"]


def test_images_in_use_are_kept(server: Server) -> None:
    server.up(pod("web", box("a", "pause")))
    listed = {one["name"]: one for one in server.call("image.list").result["images"]}
    assert listed[f"{IMAGE}:latest"]["used_by"] == ["default/web"]
    with pytest.raises(ConflictError):
        server.call("image.remove", name=IMAGE)
    server.down("web")
    server.call("image.remove", name=IMAGE)
    assert f"{IMAGE}:latest" not in {one["name"] for one in server.call("image.list").result["images"]}


def test_S_TERMMSG_a_file_or_the_log(server: Server) -> None:
    server.up(
        pod(
            "web",
            box("file", "then", "write", "/dev/termination-log", "my last words", ";", "exit", "1"),
            box(
                "log",
                "then",
                "echo",
                "said in the log",
                ";",
                "exit",
                "1",
                terminationMessagePolicy="FallbackToLogsOnError",
            ),
            restartPolicy="Never",
        ),
        wait="none",
    )
    server.wait("web", "phase=Failed")
    assert server.container("web", "file")["state"]["terminated"]["message"] == "my last words"
    assert server.container("web", "log")["state"]["terminated"]["message"] == "said in the log\n"


def test_S_LOG_following_a_log_goes_over_restarts_to_the_end(server: Server) -> None:
    from tests.host.server.harness import Wire

    server.up(
        pod("web", box("a", "then", "lines", "2", ";", "failing", "/dev/shm/n", "1"), restartPolicy="OnFailure"),
        wait="none",
    )
    wire = Wire(server.socket)
    files: list[int] = []
    try:
        number = wire.send("pod.logs", {"name": "web", "follow": True})
        while True:
            message, fds = wire.receive()
            assert message["id"] == number
            files += fds
            if "result" in message:
                break
        # Each message lists all the files there are by then.
        different = {os.fstat(fd).st_ino: fd for fd in files}.values()
        assert sum(len(texts(Path(f"/proc/self/fd/{fd}").read_bytes())) for fd in different) == 6
    finally:
        wire.close()
        for fd in files:
            os.close(fd)


def test_down_of_one_that_is_there_and_one_that_is_not_says_that_it_did_nothing(server: Server) -> None:
    server.up(pod("there", box("a", "pause")))
    with pytest.raises(NotFoundError) as caught:
        server.down("there", "nope")
    assert (caught.value.brief, caught.value.details) == ('pod "default/nope" not found', "Nothing was taken down.")
    assert "--ignore-not-found" in str(caught.value.resolution)
    assert server.names() == ["there"]
    server.down("there", "nope", missing_ok=True)
    assert server.names() == []
