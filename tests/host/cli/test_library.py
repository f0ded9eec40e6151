"""The library: sync, async, the private engine, the pytest plugin and the examples."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest

import nsrun
from tests.host.cli.conftest import SLEEPER, container, manifest
from tests.host.testhost import REPOSITORY, Host

APP = container("app", "echo hello; " + SLEEPER)


def test_a_pod_from_an_object(leak_check: None, host: Host) -> None:
    with nsrun.connect() as client:
        said: list[str] = []
        with client.up(manifest("lib", APP), on_progress=lambda event: said.append(event["text"])) as pod:
            assert said
            pod.wait_ready(timeout=10)
            assert pod.phase == "Running"
            assert pod.ip is not None
            assert pod.status["containerStatuses"][0]["ready"] is True
            assert pod.runtime["shim_pid"] > 0
            assert [one["metadata"]["name"] for one in client.pods()] == ["lib"]
            assert client.pod("lib").uid == pod.uid == pod.object["metadata"]["uid"]
            assert {event["reason"] for event in pod.events()} >= {"Created", "Started"}
            assert pod.logs() == "hello\n"
            assert pod.logs(tail=0) == ""
        with pytest.raises(nsrun.NotFoundError):
            client.pod("lib")
        assert client.server_status()["pods"] == 0
    host.nsrun("server", "stop")


def test_manifests_as_path_text_and_several(leak_check: None, host: Host) -> None:
    import json

    path = host.scratch / "pod.json"
    path.write_text(json.dumps(manifest("from-path", APP)))
    with nsrun.connect() as client:
        client.up(path)
        client.up(str(path))
        client.up(json.dumps(manifest("from-text", APP)))
        pods = client.up_all([manifest("one", APP), manifest("two", APP)])
        assert [pod.name for pod in pods] == ["one", "two"]
        with pytest.raises(nsrun.UsageError, match="2 pods"):
            client.up([manifest("one", APP), manifest("two", APP)])
        with pytest.raises(nsrun.ConflictError):
            client.up(manifest("one", container("app", SLEEPER)))
        with pytest.raises(nsrun.SpecError):
            client.up({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "UPPER"}})
        with pytest.raises(nsrun.StepError):
            client.up("no-such-file.yaml")
        client.down("one", "two")
        client.down("one", missing_ok=True)
        client.down_all(force=True)
        assert client.pods() == []
    host.nsrun("server", "stop")


def test_exec(leak_check: None, host: Host) -> None:
    with nsrun.connect() as client, client.up(manifest("lib", APP)) as pod:
        result = pod.exec(["sh", "-c", "cat; echo err >&2; exit 3"], stdin=b"in")
        assert result == nsrun.ExecResult(3, b"in", b"err\n")
        assert pod.exec(["pwd"], workdir="/tmp", user="1:1", env={"A": "b"}).text == "/tmp\n"
        assert pod.exec(["tty"], tty=True).stdout.startswith(b"/dev/pts/")
        big = os.urandom(3 << 20)
        assert pod.exec(["cat"], stdin=big).stdout == big
        with pytest.raises(nsrun.CommandNotStartedError) as refused:
            pod.exec(["no-such-command"])
        assert refused.value.exit_code == 127
        with pytest.raises(nsrun.CommandFailedError) as failed:
            pod.exec(["sh", "-c", "echo why >&2; exit 9"], check=True)
        assert failed.value.result.exit_code == 9
        assert failed.value.details == "why"
        with pytest.raises(nsrun.TimedOutError):
            pod.exec(["sleep", "60"], timeout=0.3)
        assert pod.exec(["sh", "-c", "pgrep -x sleep | wc -l"]).text.strip() == "1"
        with pytest.raises(nsrun.UsageError):
            pod.exec("ls -l")
        before = len(os.listdir("/proc/self/fd"))
        for _ in range(50):
            pod.exec(["true"])
        assert len(os.listdir("/proc/self/fd")) == before
    host.nsrun("server", "stop")


def test_a_request_goes_on_when_the_server_dies(leak_check: None, host: Host) -> None:
    with nsrun.connect() as client, client.up(manifest("lib", APP)) as pod:
        for _ in range(3):
            os.kill(client.server_status()["pid"], signal.SIGKILL)
            assert pod.exec(["echo", "x"]).text == "x\n"
            os.kill(client.server_status()["pid"], signal.SIGKILL)
            assert pod.phase == "Running"
    host.nsrun("server", "stop")


def test_follow_and_watch(leak_check: None, host: Host) -> None:
    script = "for i in 1 2 3; do echo line $i; sleep 0.2; done"
    with nsrun.connect() as client:
        pod = client.up(manifest("lines", container("app", script), restartPolicy="Never"), wait="none")
        lines = list(pod.log_lines(follow=True))
        assert [line.text for line in lines] == [b"line 1", b"line 2", b"line 3"]
        assert all(line.container == "app" and line.stream == "stdout" for line in lines)
        seen = []
        for change in client.watch():
            seen.append(change.type)
            if change.type == "ADDED":
                client.down("lines", missing_ok=True)
            if change.type == "DELETED":
                break
        assert seen[0] == "ADDED"
    host.nsrun("server", "stop")


def test_async(leak_check: None, host: Host) -> None:
    async def use() -> None:
        async with await nsrun.aconnect() as client:
            pods = await asyncio.gather(*(client.up(manifest(f"a{number}", APP)) for number in range(3)))
            async with pods[0] as pod:
                await pod.wait_ready(timeout=10)
                assert (await pod.exec(["echo", "x"])).text == "x\n"
                assert await pod.phase() == "Running"
                assert await pod.ip()
                assert await pod.logs() == "hello\n"
                async for line in pod.log_lines(follow=True):
                    assert line.text == b"hello"
                    break
                began = time.monotonic()
                with pytest.raises(TimeoutError):
                    await asyncio.wait_for(pod.exec(["sleep", "60"]), 0.5)
                with pytest.raises(TimeoutError):
                    await asyncio.wait_for(pod.wait_phase("Failed"), 0.5)
                assert time.monotonic() - began < 5
                assert (await pod.exec(["sh", "-c", "pgrep -x sleep | wc -l"])).text.strip() == "1"
                async for change in client.watch():
                    assert change.object["kind"] == "Pod"
                    break
            assert len(await client.pods()) == 2
            await client.down_all(force=True)
            assert (await client.server_status())["pods"] == 0
            with pytest.raises(nsrun.NotFoundError):
                await client.pod("a0")

    asyncio.run(use())
    host.nsrun("server", "stop")


def test_an_engine_of_ones_own(leak_check: None, host: Host) -> None:
    with nsrun.Engine(host.scratch / "own") as engine, engine.up(manifest("mine", APP)) as pod:
        assert pod.exec(["echo", "x"]).text == "x\n"
        assert host.nsrun("server", "status", check=False).returncode == 10
        with pytest.raises(nsrun.ConflictError):
            nsrun.Engine(host.scratch / "own")
        # A pod that is left running goes with its engine.
        engine.up(manifest("left", APP))


def test_an_engine_in_a_temporary_root_leaves_no_directory(leak_check: None, host: Host) -> None:
    engine = nsrun.Engine()
    root = engine.session.root.given
    assert root is not None
    engine.up(manifest("mine", APP))
    assert Path(root).is_dir()
    engine.close()
    engine.close()
    assert not Path(root).exists()
    with pytest.raises(nsrun.ServerError):
        engine.pods()


def test_an_engine_ends_with_a_killed_program(leak_check: None, host: Host) -> None:
    program = f"""
    import os, sys, time
    import nsrun
    engine = nsrun.Engine()
    engine.up({manifest("doomed", APP)!r})
    print(engine.server_status()["pid"], engine.pod("doomed").runtime["shim_pid"], engine.session.root.given, flush=True)
    if os.fork() == 0:
        time.sleep(30)  # a child of the program does not keep the engine alive
        os._exit(0)
    time.sleep(60)
    """
    process = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(program)], stdout=subprocess.PIPE, text=True, env=host.environment,
        process_group=0,
    )  # fmt: skip
    assert process.stdout is not None
    server, shim, root = process.stdout.readline().split()
    process.kill()
    process.wait()
    deadline = time.monotonic() + 20
    while any(
        Path(f"/proc/{pid}/cmdline").exists() and Path(f"/proc/{pid}/cmdline").read_bytes() for pid in (server, shim)
    ):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    assert not Path(root).exists()
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.stdout.close()


def test_it_costs_little_to_import() -> None:
    program = "import sys; before = set(sys.modules); import nsrun; print(len(set(sys.modules) - before))"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert int(done.stdout) <= 3
    program = "import sys; import nsrun; nsrun.connect; print('asyncio' in sys.modules, 'msgspec' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout == "False False\n"


def test_everything_that_is_promised_can_be_imported() -> None:
    for name in nsrun.__all__:
        assert getattr(nsrun, name) is not None
    assert set(dir(nsrun)) == set(nsrun.__all__)
    with pytest.raises(AttributeError):
        nsrun.nonsense  # noqa: B018


def test_the_plugin_shows_logs_of_a_failing_test(leak_check: None, host: Host) -> None:
    import json

    (host.scratch / "pod.yaml").write_text(
        json.dumps(manifest("plugged", container("app", "echo the reason; " + SLEEPER)))
    )
    (host.scratch / "test_it.py").write_text(
        textwrap.dedent("""
        import pytest

        @pytest.mark.nsrun_pod("pod.yaml")
        def test_fails(nsrun_pod):
            assert nsrun_pod.exec(["echo", "hi"]).text == "ho"

        @pytest.mark.nsrun_pod("pod.yaml")
        def test_passes(nsrun_pod):
            assert nsrun_pod.phase == "Running"

        def test_by_call(nsrun_pod):
            pod = nsrun_pod("pod.yaml", wait="running")
            assert pod.name == "plugged"

        def test_fails_in_setup(nsrun_pod):
            script = "echo another reason; sleep 0.2; exit 1"
            nsrun_pod({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "never"}, "spec": {"restartPolicy": "Never",
                "containers": [{"name": "c", "image": "nsrun.local/host", "command": ["sh", "-c", script]}]}},
                wait="none").wait("phase=Succeeded", timeout=10)

        def test_sees_the_back_off_in_a_second(nsrun_pod):
            crashing = nsrun_pod({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "crash"}, "spec":
                {"containers": [{"name": "c", "image": "nsrun.local/host", "command": ["false"]}]}}, wait="none")
            crashing.wait("jsonpath={.status.containerStatuses[0].restartCount}=3", timeout=8)
        """)
    )
    words: list[str | Path] = ["-q", "-p", "no:cacheprovider", "--nsrun-time-scale=60", host.scratch]
    done = host.run(sys.executable, "-m", "pytest", *words, check=False, timeout=100)
    assert "2 failed, 3 passed" in done.stdout, done.stdout + done.stderr
    assert "nsrun pod plugged" in done.stdout
    assert "the reason" in done.stdout
    assert "another reason" in done.stdout


@pytest.mark.parametrize(
    "words",
    [
        ["examples/demo.sh"],
        [sys.executable, "examples/library.py"],
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "examples/test_with_nsrun.py"],
    ],
)
def test_examples_run(leak_check: None, host: Host, words: list[str]) -> None:
    environment = {**host.environment, "PATH": f"{REPOSITORY / '.venv/bin'}:{os.environ['PATH']}"}
    done = subprocess.run(
        words, cwd=REPOSITORY, env=environment, capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "Traceback" not in done.stderr
