"""Pods from the shell: every command against the real server."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import time
from pathlib import Path

import pytest
import yaml

from tests.host.cli.conftest import SLEEPER, bring_up, container, manifest
from tests.host.testhost import Host


def wait_until(question: str, condition: object, timeout: float = 10.0) -> None:
    """Poll for what no command can be asked to wait for."""
    deadline = time.monotonic() + timeout
    assert callable(condition)
    while not condition():
        assert time.monotonic() < deadline, question
        time.sleep(0.02)


def test_ls(box: Host, web: str) -> None:
    lines = box.nsrun("pod", "ls").stdout.splitlines()
    assert lines[0].split() == ["NAME", "READY", "STATUS", "RESTARTS", "AGE"]
    (row,) = [line.split() for line in lines[1:] if line.startswith("web ")]
    assert row[1:4] == ["2/2", "Running", "0"]


def test_ls_formats(box: Host, web: str) -> None:
    wide = box.nsrun("pod", "ls", "-o", "wide", "web").stdout
    found = json.loads(box.nsrun("pod", "ls", "-o", "json").stdout)
    assert found["kind"] == "List"
    (pod,) = [one for one in found["items"] if one["metadata"]["name"] == "web"]
    assert pod["status"]["podIP"] in wide
    assert wide.splitlines()[1].split()[-2:] == ["<none>", "<none>"]
    assert yaml.safe_load(box.nsrun("pod", "ls", "-o", "yaml").stdout)["items"]
    assert "pod/web" in box.nsrun("pod", "ls", "-o", "name").stdout.split()
    assert "web" in box.nsrun("pod", "ls", "-q").stdout.split()
    assert box.nsrun("pod", "ls", "-A").stdout.startswith("NAMESPACE")
    assert "No pods in namespace" in box.nsrun("pod", "ls", "-n", "nowhere").stderr
    assert box.nsrun("pod", "ls", "--no-headers", "web").stdout.startswith("web ")


def test_ls_of_a_pod_that_is_not_there(box: Host, web: str) -> None:
    done = box.nsrun("pod", "ls", "nope", check=False)
    assert done.returncode == 4
    assert "nope" in done.stderr


def test_inspect_and_describe(box: Host, web: str) -> None:
    pod = json.loads(box.nsrun("pod", "inspect", "web").stdout)
    assert pod["kind"] == "Pod"
    assert pod["status"]["phase"] == "Running"
    assert yaml.safe_load(box.nsrun("pod", "inspect", "pod/web", "-o", "yaml").stdout)["metadata"] == pod["metadata"]
    runtime = json.loads(box.nsrun("pod", "inspect", "web", "--runtime").stdout)["runtime"]
    assert Path(f"/proc/{runtime['shim_pid']}/comm").exists()
    text = box.nsrun("pod", "describe", "web").stdout
    for word in (
        "Name:",
        "app:",
        "other:",
        "first:",
        "    State:          Running\n",
        "      Reason:       Completed\n      Exit Code:    0\n",
        "Restart Count:  0",
        "PodReadyToStartContainers",
        "Started",
    ):
        assert word in text


def test_up_again_changes_nothing(box: Host, web: str) -> None:
    before = json.loads(box.nsrun("pod", "inspect", "web").stdout)
    done = box.nsrun("pod", "up", box.scratch / "web.json")
    assert done.stdout == "pod/web unchanged and running\n"
    assert json.loads(box.nsrun("pod", "inspect", "web").stdout)["metadata"]["uid"] == before["metadata"]["uid"]


def test_a_changed_pod_needs_replace(box: Host) -> None:
    bring_up(box, manifest("changing", container("app", SLEEPER)))
    before = json.loads(box.nsrun("pod", "inspect", "changing").stdout)["metadata"]["uid"]
    path = box.scratch / "changing.json"
    path.write_text(json.dumps(manifest("changing", container("app", "true; " + SLEEPER))))
    done = box.nsrun("pod", "up", path, check=False)
    assert done.returncode == 5
    assert "changing" in done.stderr
    assert "spec.containers[0].command" in done.stderr
    assert "--replace" in done.stderr
    done = box.nsrun("pod", "up", path, "--replace")
    assert done.stdout.startswith("pod/changing replaced")
    assert json.loads(box.nsrun("pod", "inspect", "changing").stdout)["metadata"]["uid"] != before
    assert box.nsrun("pod", "down", path).stdout == "pod/changing down\n"


def test_up_from_standard_input_and_formats(box: Host) -> None:
    text = json.dumps(manifest("piped", container("app", SLEEPER)))
    done = box.run(*box.nsrun_argv("pod", "up", "-", "-o", "json"), stdin=text)
    (pod,) = json.loads(done.stdout)["pods"]
    assert (pod["name"], pod["verdict"]) == ("piped", "created")
    assert box.nsrun("pod", "up", "-o", "name", "-", stdin=text).stdout == "pod/piped\n"
    assert box.nsrun("pod", "down", "pod/piped", "-o", "name").stdout == "pod/piped\n"


def test_down_of_a_directory_without_its_slash_says_how(box: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    (box.scratch / "pods").mkdir()
    monkeypatch.chdir(box.scratch)
    done = box.nsrun("pod", "down", "pods", check=False)
    assert done.returncode == 4
    assert "nsrun pod down pods/" in done.stderr


def test_up_in_a_namespace(box: Host) -> None:
    text = json.dumps(manifest("placed", container("app", SLEEPER)))
    assert box.nsrun("pod", "up", "-n", "team", "-o", "name", "-", stdin=text).stdout == "pod/placed\n"
    assert box.nsrun("pod", "ls", "-n", "team", "-q").stdout == "placed\n"
    assert box.nsrun("pod", "up", "-n", "team", "--wait=none", "-", stdin=text).stdout == "pod/placed unchanged\n"
    assert box.nsrun("pod", "down", "placed", "-n", "team").stdout == "pod/placed down\n"


def test_up_of_a_directory_and_down_of_it(box: Host) -> None:
    directory = box.scratch / "several"
    (directory / "deeper").mkdir(parents=True)
    for name in ("one", "two"):
        (directory / f"{name}.yaml").write_text(yaml.safe_dump(manifest(name, container("app", SLEEPER))))
    (directory / "deeper" / "three.yml").write_text(yaml.safe_dump(manifest("three", container("app", SLEEPER))))
    (directory / "README.txt").write_text("no manifest")
    assert sorted(box.nsrun("pod", "up", "-f", directory).stdout.splitlines()) == [
        "pod/one created and running",
        "pod/two created and running",
    ]
    assert "pod/three created and running" in box.nsrun("pod", "up", "-R", directory).stdout
    assert sorted(box.nsrun("pod", "down", "-R", "-f", directory).stdout.split("\n")[:3]) == [
        "pod/one down",
        "pod/three down",
        "pod/two down",
    ]


def test_progress_lines_say_what_happens(box: Host) -> None:
    path = box.scratch / "progress.json"
    path.write_text(json.dumps(manifest("progress", container("app", SLEEPER))))
    done = box.nsrun("pod", "up", path)
    assert re.search(r"^pod/progress: app: Container started$", done.stderr, re.MULTILINE)
    assert "\x1b" not in done.stdout + done.stderr
    box.nsrun("pod", "down", "progress")


def test_no_wait_returns_before_the_pod_runs(box: Host) -> None:
    path = box.scratch / "slow.json"
    path.write_text(json.dumps(manifest("slow", container("app", SLEEPER), initContainers=[container("i", "sleep 3")])))
    began = time.monotonic()
    assert box.nsrun("pod", "up", path, "--no-wait").stdout == "pod/slow created\n"
    assert time.monotonic() - began < 2.5
    done = box.nsrun("pod", "up", path, "--timeout=300ms", check=False)
    assert done.returncode == 9, done.stderr
    assert "slow" in done.stderr
    box.nsrun("pod", "down", "slow", "--force")


def test_up_tells_why_a_pod_will_not_run(box: Host) -> None:
    path = box.scratch / "failing.json"
    wish = manifest(
        "failing", container("app", SLEEPER), initContainers=[container("i", "exit 3")], restartPolicy="Never"
    )
    path.write_text(json.dumps(wish))
    done = box.nsrun("pod", "up", path, "--wait=ready", check=False)
    assert done.returncode == 11, done.stderr
    assert "failing" in done.stderr
    box.nsrun("pod", "down", "failing")


def test_a_job_that_succeeds(box: Host) -> None:
    bring_up(box, manifest("job", container("app", "sleep 0.3; echo result"), restartPolicy="Never"))
    assert box.nsrun("pod", "wait", "job", "--for=phase=Succeeded").stdout == "pod/job condition met\n"
    assert box.nsrun("pod", "logs", "job").stdout == "result\n"
    done = box.nsrun("pod", "up", box.scratch / "job.json")
    assert done.stdout == "pod/job unchanged and succeeded\n"
    box.nsrun("pod", "down", "job")


def test_wait(box: Host, web: str) -> None:
    assert box.nsrun("pod", "wait", "web", "--for=condition=Ready").stdout == "pod/web condition met\n"
    done = box.nsrun("pod", "wait", "web", "--for=phase=Failed", "--timeout=200ms", check=False)
    assert done.returncode == 9
    ip = json.loads(box.nsrun("pod", "inspect", "web").stdout)["status"]["podIP"]
    box.nsrun("pod", "wait", "web", f"--for=jsonpath={{.status.podIP}}={ip}")
    assert done.stderr.startswith("Error: timed out waiting for the condition on pods/web\n")
    assert box.nsrun("pod", "wait", "nope", check=False).returncode == 4


def test_wait_for_several_pods_and_what_they_say(box: Host) -> None:
    bring_up(box, manifest("early", container("app", SLEEPER)))
    bring_up(box, manifest("late", container("app", "sleep 0.4; exit 0"), restartPolicy="Never"))
    done = box.nsrun("pod", "wait", "--all", "--for=condition=Ready=False", "--timeout=0.1s", check=False)
    assert done.returncode == 9
    assert "timed out waiting for the condition on pods/" in done.stderr
    once = box.nsrun("pod", "wait", "early", "--for=delete", "--timeout=0", check=False)
    assert once.stderr.startswith("Error: condition not met for pods/early\n")
    both = box.nsrun("pod", "wait", "pod/late", "early", "--for=jsonpath={.status.containerStatuses[0].name}=app")
    assert sorted(both.stdout.splitlines()) == ["pod/early condition met", "pod/late condition met"]
    path = '--for=jsonpath={.status.containerStatuses[?(@.name=="app")].state.terminated.exitCode}=0'
    assert box.nsrun("pod", "wait", "late", path, "--timeout=-1s").stdout == "pod/late condition met\n"
    waiting = subprocess.Popen(
        box.nsrun_argv("pod", "wait", "coming", "--for=create"), env=box.environment, stdout=subprocess.PIPE, text=True
    )
    bring_up(box, manifest("coming", container("app", SLEEPER)))
    assert waiting.communicate(timeout=10)[0] == "pod/coming condition met\n"
    box.nsrun("pod", "down", "early", "late", "coming", "--grace-period=0")
    none = box.nsrun("pod", "wait", "--all", "-n", "empty", check=False)
    assert (none.returncode, "no matching resources found" in none.stderr) == (4, True)


def test_wait_for_the_end(box: Host) -> None:
    bring_up(box, manifest("ending", container("app", SLEEPER)))
    waiting = subprocess.Popen(
        box.nsrun_argv("pod", "wait", "ending", "--for=delete"), env=box.environment, stdout=subprocess.PIPE, text=True
    )
    time.sleep(0.3)
    assert waiting.poll() is None
    box.nsrun("pod", "down", "ending")
    assert waiting.communicate(timeout=10)[0] == "pod/ending condition met\n"
    assert waiting.returncode == 0


def test_down_tells_of_each_pod_when_it_is_gone(box: Host) -> None:
    stubborn = manifest("stubborn", container("app", "trap '' TERM; while :; do sleep 0.05; done"))
    stubborn["metadata"]["labels"] = {"kind": "stubborn"}
    bring_up(box, stubborn)
    bring_up(box, manifest("willing", container("app", SLEEPER)))
    chosen = json.loads(box.nsrun("pod", "stats", "-l", "kind=stubborn", "-o", "json", "--interval=10ms").stdout)
    assert [one["podRef"]["name"] for one in chosen["pods"]] == ["stubborn"]
    assert box.nsrun("pod", "stats", "-l", "kind=none", "--no-stream").stderr == "No pods run.\n"
    assert box.nsrun("pod", "stats", "willing", "-l", "kind=stubborn", check=False).returncode == 2
    words = box.nsrun_argv("pod", "down", "stubborn", "willing", "--grace-period=30s")
    with subprocess.Popen(words, env=box.environment, stdout=subprocess.PIPE, text=True) as down:
        assert down.stdout is not None
        assert down.stdout.readline() == "pod/willing down\n"
        assert json.loads(box.nsrun("pod", "inspect", "stubborn").stdout)["metadata"]["deletionTimestamp"]
        assert box.nsrun("pod", "kill", "stubborn", "-s", "KILL").returncode == 0
        assert down.stdout.read() == "pod/stubborn down\n"
    assert down.returncode == 0


def test_kill_and_restart(box: Host) -> None:
    bring_up(box, manifest("restarting", container("app", SLEEPER), container("steady", SLEEPER)))

    def status(name: str) -> dict[str, object]:
        pod = json.loads(box.nsrun("pod", "inspect", "restarting").stdout)
        (found,) = [one for one in pod["status"]["containerStatuses"] if one["name"] == name]
        return dict(found)

    ip = json.loads(box.nsrun("pod", "inspect", "restarting").stdout)["status"]["podIP"]
    assert box.nsrun("pod", "kill", "restarting", "-c", "app", "-s", "9").stdout == "pod/restarting got SIGKILL\n"
    wait_until("app restarts after SIGKILL", lambda: status("app")["restartCount"] == 1 and status("app")["ready"])
    box.nsrun("pod", "restart", "restarting", "-c", "app")
    wait_until("app restarts on request", lambda: status("app")["restartCount"] == 2 and status("app")["ready"])
    assert status("steady")["restartCount"] == 0
    assert json.loads(box.nsrun("pod", "inspect", "restarting").stdout)["status"]["podIP"] == ip
    assert box.nsrun("pod", "kill", "restarting", "-c", "nope", check=False).returncode == 4
    box.nsrun("pod", "down", "restarting")


def test_events(box: Host, web: str) -> None:
    table = box.nsrun("pod", "events", "web").stdout
    assert table.splitlines()[0].split()[:2] == ["LAST", "SEEN"]
    assert "Container started" in table
    items = json.loads(box.nsrun("pod", "events", "web", "-o", "json").stdout)["items"]
    assert all(one["involvedObject"]["name"] == "web" for one in items)


def test_watches_tell_of_changes(box: Host) -> None:
    pods = subprocess.Popen(
        box.nsrun_argv("pod", "ls", "-w", "-o", "json", "--output-watch-events"),
        env=box.environment,
        stdout=subprocess.PIPE,
        text=True,
    )
    events = subprocess.Popen(
        box.nsrun_argv("pod", "events", "-w", "-o", "json"), env=box.environment, stdout=subprocess.PIPE, text=True
    )
    try:
        bring_up(box, manifest("watched", container("app", SLEEPER)))
        box.nsrun("pod", "down", "watched")
        assert pods.stdout is not None
        seen = []
        for line in pods.stdout:
            change = json.loads(line)
            if change["object"]["metadata"]["name"] == "watched":
                seen.append(change["type"])
                if change["type"] == "DELETED":
                    break
        assert seen[0] == "ADDED"
        assert "MODIFIED" in seen
        assert events.stdout is not None
        for line in events.stdout:
            event = json.loads(line)
            if event["involvedObject"]["name"] == "watched" and event["reason"] == "Started":
                break
    finally:
        for process in (pods, events):
            process.send_signal(signal.SIGINT)
        assert pods.wait(10) == 130
        assert events.wait(10) == 130
        for process in (pods, events):
            if process.stdout:
                process.stdout.close()


def test_attach_option_follows_and_takes_down(box: Host) -> None:
    path = box.scratch / "attached.json"
    path.write_text(json.dumps(manifest("attached", container("app", "echo here I am; " + SLEEPER))))
    process = subprocess.Popen(
        box.nsrun_argv("pod", "up", path, "--attach"),
        env=box.environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    lines = iter(process.stdout.readline, "")
    assert next(line for line in lines if "here I am" in line)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=20)
    assert process.returncode == 130
    assert "Taking down pod/attached" in errors
    assert box.nsrun("pod", "inspect", "attached", check=False).returncode == 4


def test_attach_option_ends_with_the_pod(box: Host) -> None:
    path = box.scratch / "short.json"
    path.write_text(json.dumps(manifest("short", container("app", "echo done; exit 4"), restartPolicy="Never")))
    done = box.nsrun("pod", "up", path, "--attach", "--wait=none", check=False)
    assert done.returncode == 11, done.stderr
    assert "done" in done.stdout
    box.nsrun("pod", "down", "short")


def test_images(box: Host) -> None:
    tree = box.scratch / "tree"
    (tree / "bin").mkdir(parents=True)
    (tree / "bin" / "hello").write_text("not run here\n")
    done = box.nsrun("image", "import", "example.org/tree:1", tree, "--cmd", "/bin/hello 'two words'", "--env", "A=b")
    assert done.stdout.startswith("image/example.org/tree:1 imported")
    listed = json.loads(box.nsrun("image", "ls", "-o", "json").stdout)["images"]
    (image,) = [one for one in listed if one["name"] == "example.org/tree:1"]
    assert image["config"]["cmd"] == ["/bin/hello", "two words"]
    assert "example.org/tree:1" in box.nsrun("image", "ls", "-q").stdout.split()
    table = box.nsrun("image", "ls", "-o", "wide").stdout
    assert "/bin/hello 'two words'" in table
    assert box.nsrun("image", "rm", "example.org/tree:1").stdout == "image/example.org/tree:1 removed\n"
    assert box.nsrun("image", "rm", "example.org/tree:1", check=False).returncode == 4


def test_doctor_and_versions(box: Host, web: str) -> None:
    checks = json.loads(box.nsrun("doctor", "-o", "json", check=False).stdout)["checks"]
    assert len(checks) >= 5
    assert all({"name", "ok", "text"} <= set(check) for check in checks)
    text = box.nsrun("doctor", check=False).stdout
    assert checks[0]["name"] in text
    version = json.loads(box.nsrun("version", "-o", "json").stdout)
    assert version["client"] == version["server"]


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_scripts(box: Host, shell: str) -> None:
    assert "_NSRUN_COMPLETE" in box.nsrun("completion", shell).stdout


def test_completion_knows_pods_and_containers(box: Host, web: str) -> None:
    def completed(*words: str) -> list[str]:
        environment = {
            **box.environment,
            "_NSRUN_COMPLETE": "bash_complete",
            "COMP_WORDS": " ".join(("nsrun", *words)),
            "COMP_CWORD": str(len(words)),
        }
        done = box.run(box.nsrun_argv()[0], environment=environment)
        return [line.partition(",")[2] for line in done.stdout.splitlines()]

    assert "logs" in completed("pod", "lo")
    assert completed("pod", "logs", "we") == ["web"]
    assert completed("pod", "logs", "web", "-c", "o") == ["other"]
    assert "--follow" in completed("pod", "logs", "--fol")


def test_a_closed_pipe_is_quiet(box: Host, web: str) -> None:
    script = " ".join(box.nsrun_argv("pod", "ls", "-o", "json"))
    done = box.run("bash", "-c", f"{script} | head -c 1; echo ${{PIPESTATUS[0]}}")
    assert done.stderr == ""
    assert done.stdout in ("{141\n", "{0\n")


def test_a_full_disk_under_standard_output_is_named(box: Host, web: str) -> None:
    done = box.run("bash", "-c", " ".join(box.nsrun_argv("pod", "ls")) + " > /dev/full", check=False)
    assert done.returncode == 8
    assert "standard output: No space left on device" in done.stderr


def test_colours_only_on_a_terminal(box: Host) -> None:
    import pty

    bring_up(box, manifest("red", container("app", "exit 1"), restartPolicy="Never"), "--wait=none")
    box.nsrun("pod", "wait", "red", "--for=phase=Failed")
    assert "\x1b" not in box.nsrun("pod", "ls").stdout

    def on_terminal(**more: str) -> bytes:
        leader, follower = pty.openpty()
        process = subprocess.Popen(
            box.nsrun_argv("pod", "ls"), env={**box.environment, "TERM": "xterm", **more}, stdout=follower
        )
        os.close(follower)
        text = b""
        try:
            while chunk := os.read(leader, 4096):
                text += chunk
        except OSError:
            pass
        os.close(leader)
        assert process.wait(10) == 0
        return text

    assert b"\x1b[31mred" in on_terminal()
    assert b"\x1b" not in on_terminal(NO_COLOR="1")
    box.nsrun("pod", "down", "red")
