"""Bad input gets a clear answer: one message that names the thing and the next step, the documented exit code, nothing half-made."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from nsrun.errors import EXIT_CODES
from tests.host.cli.conftest import SLEEPER, bring_up, container, manifest
from tests.host.testhost import Host

Done = subprocess.CompletedProcess[str]
NOBODY = 65534


def refused(done: Done, code: str | int, *words: str) -> None:
    """The answer is one error with that code and those words."""
    wanted = EXIT_CODES[code] if isinstance(code, str) else code
    assert done.returncode == wanted, done.stderr
    assert len(re.findall(r"^Error: ", done.stderr, re.MULTILINE)) == 1, done.stderr
    assert "Traceback" not in done.stderr
    for word in words:
        assert word in done.stderr, f"no {word!r} in {done.stderr}"
    assert len(done.stderr) < 4000


def nothing_half_made(box: Host) -> None:
    """No pod, and no directory of one."""
    assert box.nsrun("pod", "ls", "-q").stdout == ""
    assert list((box.root / "run" / "pods").iterdir()) == []


def up(box: Host, text: str | bytes, *options: str, name: str = "pod.yaml") -> Done:
    path = box.scratch / name
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    return box.nsrun("pod", "up", path, "--timeout=15s", *options, check=False)


def pod_text(**replaced: Any) -> str:
    wish = manifest("bad", container("app", SLEEPER))
    wish["spec"].update(replaced)
    return json.dumps(wish)


@pytest.fixture(autouse=True)
def clean(request: pytest.FixtureRequest) -> Iterator[None]:
    """What a failing test leaves does not fail the next one."""
    yield
    if "box" in request.fixturenames:
        request.getfixturevalue("box").nsrun("pod", "down", "--all", "--force")


# Manifests


@pytest.mark.parametrize("text", ["", "\n\n", "# only a comment\n", "---\n---\n"])
def test_empty(box: Host, text: str) -> None:
    refused(up(box, text), "spec", "pod.yaml")
    nothing_half_made(box)


def test_binary(box: Host) -> None:
    refused(up(box, bytes(range(256)) * 10), "spec", "pod.yaml:", "UTF-8")
    refused(up(box, b"\x7fELF\x02\x01\x01\x00rest"), "spec", "pod.yaml:1", "NUL")
    refused(box.nsrun("pod", "up", "/usr/bin/true", check=False), "spec", "/usr/bin/true")
    nothing_half_made(box)


def test_huge(box: Host) -> None:
    path = box.scratch / "huge.yaml"
    with path.open("wb") as file:
        file.write(b"apiVersion: v1\nkind: Pod\n# ")
        file.truncate(100 << 20)
    began = time.monotonic()
    refused(box.nsrun("pod", "up", path, check=False), "spec", "huge.yaml", str(100 << 20))
    assert time.monotonic() - began < 5
    with path.open("rb") as file:
        done = subprocess.run(
            box.nsrun_argv("pod", "up", "-"),
            stdin=file,
            env=box.environment,
            capture_output=True,
            text=True,
            check=False,
        )
    refused(done, "spec", "standard input")
    nothing_half_made(box)


def test_large_within_the_limit(box: Host) -> None:
    text = pod_text() + "\n# " + "x" * (5 << 20)
    refused(up(box, text), "spec", "pod.yaml")
    nothing_half_made(box)


def test_deeply_nested(box: Host) -> None:
    for text in ("[" * 100_000, "{a: " * 50_000, "- " * 50_000 + "x"):
        began = time.monotonic()
        refused(up(box, text), "spec", "pod.yaml")
        assert time.monotonic() - began < 10
    nothing_half_made(box)


def test_cyclic_and_exploding_aliases(box: Host) -> None:
    refused(up(box, "&a [*a]\n"), "spec", "pod.yaml")
    refused(up(box, "a: &a {b: *a}\n"), "spec", "pod.yaml")
    laughs = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n" + "".join(
        f"a{number}: &a{number} [{', '.join([f'*a{number - 1}'] * 10)}]\n" for number in range(1, 10)
    )
    began = time.monotonic()
    refused(up(box, laughs), "spec", "pod.yaml")
    assert time.monotonic() - began < 10
    nothing_half_made(box)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("a: [1, 2", ["pod.yaml"]),
        ("a: b\n\tc: d\n", ["pod.yaml"]),
        ("just words", ["pod.yaml"]),
        ("{}", ["pod.yaml"]),
        ("[1, 2]", ["pod.yaml"]),
        ("apiVersion: v2\nkind: Pod\n", ["v2"]),
        (pod_text(containers=[]), ["spec.containers"]),
        (pod_text(contaners=[]), ["contaners"]),
        (pod_text(restartPolicy="Sometimes"), ["spec.restartPolicy", "Sometimes"]),
        (pod_text(terminationGracePeriodSeconds="soon"), ["terminationGracePeriodSeconds"]),
    ],
)
def test_no_pod(box: Host, text: str, words: list[str]) -> None:
    refused(up(box, text), "spec", *words)
    nothing_half_made(box)


def test_another_kind(box: Host) -> None:
    refused(up(box, "apiVersion: v1\nkind: Service\nmetadata: {name: x}\n"), "unsupported", "Service", "x", "Pods")
    nothing_half_made(box)


@pytest.mark.parametrize("name", ["UPPER", "with space", "-dash", "a" * 300, "under_score", "ünïcode", "../../etc", ""])
def test_names_that_are_no_dns_labels(box: Host, name: str) -> None:
    wish = manifest(name, container("app", SLEEPER))
    refused(up(box, json.dumps(wish)), "spec", "metadata.name")
    wish = manifest("bad", container(name, SLEEPER))
    refused(up(box, json.dumps(wish)), "spec", "spec.containers[0].name")
    nothing_half_made(box)


def test_a_good_document_beside_a_bad_one_is_not_brought_up(box: Host) -> None:
    text = yaml.safe_dump(manifest("good", container("app", SLEEPER))) + "---\n" + pod_text(restartPolicy="Sometimes")
    refused(up(box, text), "spec", "spec.restartPolicy")
    nothing_half_made(box)


def test_the_same_pod_twice(box: Host) -> None:
    text = pod_text() + "\n---\n" + pod_text(hostname="other")
    done = up(box, text)
    assert done.returncode in (EXIT_CODES["conflict"], EXIT_CODES["spec"]), done.stderr
    assert "bad" in done.stderr
    nothing_half_made(box)


def test_a_pod_that_is_already_there(box: Host) -> None:
    bring_up(box, manifest("there", container("app", SLEEPER)))
    other = manifest("there", container("app", "true; " + SLEEPER))
    refused(up(box, json.dumps(other)), "conflict", "there", "spec.containers[0].command", "--replace")
    assert "1/1" in box.nsrun("pod", "ls", "there").stdout
    box.nsrun("pod", "down", "there")
    nothing_half_made(box)


# Containers


def test_a_container_without_image(box: Host) -> None:
    refused(up(box, pod_text(containers=[{"name": "app", "command": ["true"]}])), "spec", "spec.containers[0].image")
    nothing_half_made(box)


@pytest.mark.parametrize(
    ("image", "policy", "words"),
    [
        ("example.org/not/there:1", "IfNotPresent", ["example.org/not/there:1", "ErrImagePull", "nsrun image import"]),
        ("example.org/not/there:1", "Never", ["example.org/not/there:1", "ErrImageNeverPull"]),
        ("example.org/UPPER", "IfNotPresent", ["example.org/UPPER", "InvalidImageName"]),
    ],
)
def test_an_image_that_is_not_there(box: Host, image: str, policy: str, words: list[str]) -> None:
    app = {"name": "app", "image": image, "imagePullPolicy": policy, "command": ["true"]}
    done = up(box, pod_text(containers=[app]))
    assert done.returncode in (EXIT_CODES["pod-failed"], EXIT_CODES["timeout"]), done.stderr
    for word in words:
        assert word in done.stderr, done.stderr
    assert "app" in done.stderr
    assert "Traceback" not in done.stderr
    box.nsrun("pod", "down", "bad", "--force")
    nothing_half_made(box)


@pytest.mark.parametrize(
    ("command", "words"),
    [
        (["no-such-command"], ["no-such-command", "executable file not found in $PATH"]),
        (["/etc/hosts"], ["/etc/hosts", "permission denied"]),
        (["/usr/bin"], ["/usr/bin", "is a directory"]),
    ],
)
def test_commands_that_cannot_be_run(box: Host, command: list[str], words: list[str]) -> None:
    app = {"name": "app", "image": "nsrun.local/host", "command": command}
    done = up(box, pod_text(containers=[app], restartPolicy="Never"))
    refused(done, "pod-failed", "app", *words)
    status = json.loads(box.nsrun("pod", "inspect", "bad").stdout)["status"]["containerStatuses"][0]
    assert status["state"]["terminated"]["exitCode"] == 128
    assert status["state"]["terminated"]["reason"] == "StartError"
    box.nsrun("pod", "down", "bad")
    nothing_half_made(box)


def test_a_script_without_interpreter(box: Host) -> None:
    tree = box.scratch / "scripts"
    (tree / "bin").mkdir(parents=True)
    for name, text in (("missing", "#!/no/such/shell\n"), ("none", "true\n")):
        (tree / "bin" / name).write_text(text)
        (tree / "bin" / name).chmod(0o755)
    box.nsrun("image", "import", "example.org/scripts:1", tree)
    for name, words in (("missing", "interpreter"), ("none", "exec format error")):
        app = {"name": "app", "image": "example.org/scripts:1", "command": [f"/bin/{name}"]}
        done = up(box, pod_text(containers=[app], restartPolicy="Never"))
        refused(done, "pod-failed", f"/bin/{name}", words)
        box.nsrun("pod", "down", "bad")
    box.nsrun("image", "rm", "example.org/scripts:1")
    nothing_half_made(box)


def test_an_image_in_use_is_not_removed(box: Host) -> None:
    done = box.nsrun("image", "rm", "nsrun.local/host", check=False)
    assert done.returncode in (EXIT_CODES["conflict"], EXIT_CODES["usage"], EXIT_CODES["unsupported"]), done.stderr
    assert "nsrun.local/host" in done.stderr


@pytest.mark.parametrize(
    "make",
    [
        lambda path: path.write_bytes(b"no tar"),
        lambda path: path.write_bytes(b""),
        lambda path: path.write_bytes(b"\x1f\x8b\x08\x00rest that is no gzip"),
    ],
)
def test_an_image_of_what_is_no_tar(box: Host, make: Any) -> None:
    path = box.scratch / "image.tar"
    make(path)
    done = box.nsrun("image", "import", "example.org/bad:1", path, check=False)
    assert done.returncode in (
        EXIT_CODES["spec"],
        EXIT_CODES["step"],
        EXIT_CODES["unsupported"],
        EXIT_CODES["usage"],
    ), done.stderr
    assert "image.tar" in done.stderr
    assert "Traceback" not in done.stderr
    assert "example.org/bad:1" not in box.nsrun("image", "ls", "-q").stdout.split()
    refused(box.nsrun("image", "import", "Bad Name", box.scratch, check=False), "spec", "Bad Name")


def test_image_arguments_in_the_wrong_order(box: Host) -> None:
    done = box.nsrun("image", "import", box.scratch, "example.org/x:1", check=False)
    refused(done, "not-found", f"nsrun image import example.org/x:1 {box.scratch}")


def test_what_nsrun_cannot_do_is_said(box: Host) -> None:
    text = pod_text(volumes=[{"name": "v", "nfs": {"server": "x", "path": "/"}}])
    done = up(box, text)
    refused(done, "unsupported", "spec.volumes", "--ignore-unsupported")
    nothing_half_made(box)


# The machine


def unmount(path: Path) -> None:
    """Unmount; who is just ending may hold it a moment longer."""
    deadline = time.monotonic() + 5
    while subprocess.run(["umount", path], stderr=subprocess.DEVNULL, check=False).returncode:
        assert time.monotonic() < deadline, f"{path} is still in use"
        time.sleep(0.02)


AS_NOBODY = [
    *["setpriv", f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups"],
    # nsrun itself may lie in a directory that only root can look into; this lets nobody read it, and write nothing.
    *["--inh-caps=+dac_read_search", "--ambient-caps=+dac_read_search"],
]


def as_nobody(box: Host, *words: str | Path) -> Done:
    """Run nsrun as a user who is not root, with root's environment."""
    return box.run(*AS_NOBODY, *box.nsrun_argv(*words), check=False)


def test_not_root(box: Host) -> None:
    box.nsrun("pod", "ls")
    for words in (["pod", "ls"], ["pod", "up", "/dev/null"], ["pod", "exec", "x", "--", "true"], ["server", "stop"]):
        done = as_nobody(box, *words)
        if words[1] == "up":
            assert done.returncode in (EXIT_CODES["spec"], EXIT_CODES["permission"]), done.stderr
            continue
        refused(done, "permission", "sudo nsrun")
    argv = box.nsrun_argv("pod", "ls")
    argv[argv.index("--root") + 1] = "/tmp/nsrun-of-nobody"
    done = box.run(*AS_NOBODY, *argv, check=False)
    refused(done, "permission", "root", "sudo nsrun --root /tmp/nsrun-of-nobody")
    assert not Path("/tmp/nsrun-of-nobody").exists()


def test_without_root_much_is_possible(box: Host) -> None:
    path = Path("/tmp/nsrun-test-validate.yaml")
    path.write_text(pod_text())
    try:
        assert "valid" in as_nobody(box, "pod", "validate", path).stdout
        assert "exec sh -c" in as_nobody(box, "pod", "plan", path).stdout
        assert as_nobody(box, "--version").returncode == 0
        assert as_nobody(box, "pod", "--help").returncode == 0
        argv = ["setpriv", f"--reuid={NOBODY}", "--clear-groups", "test", "-x", sys.executable]
        if box.run(*argv, check=False).returncode == 0:  # root's own interpreter, below /root, is nobody's
            checks = json.loads(as_nobody(box, "doctor", "-o", "json").stdout)["checks"]
            assert any(not check["ok"] for check in checks)
    finally:
        path.unlink()


def test_a_file_where_the_state_directory_should_be(host: Host) -> None:
    blocker = host.scratch / "file"
    blocker.write_text("")
    for root in (blocker, blocker / "below"):
        done = host.run(host.nsrun_argv()[0], "--root", root, "pod", "ls", check=False)
        refused(done, "step", str(blocker), "Not a directory (ENOTDIR)")


def test_wrong_permissions_on_the_state_directory(host: Host) -> None:
    (host.root / "run").mkdir(parents=True)
    os.chown(host.root / "run", NOBODY, NOBODY)
    (host.root / "run").chmod(0o777)
    done = host.nsrun("pod", "ls", check=False)
    assert done.returncode in (EXIT_CODES["permission"], EXIT_CODES["server"]), done.stderr
    assert str(host.root / "run") in done.stderr
    assert "Traceback" not in done.stderr


def test_a_read_only_state_directory(host: Host) -> None:
    host.root.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "ro", "tmpfs", host.root], check=True)
    try:
        refused(host.nsrun("pod", "ls", check=False), "step", str(host.root), "Read-only file system (EROFS)", "--root")
    finally:
        unmount(host.root)


def test_a_full_disk(host: Host) -> None:
    host.root.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=2m,mode=755", "tmpfs", host.root], check=True)
    try:
        host.nsrun("server", "start")
        filler = host.root / "filler"
        with filler.open("wb", buffering=0) as file:
            for size in (65536, 4096, 1):
                while True:
                    try:
                        file.write(b"x" * size)
                    except OSError:
                        break
        done = up(host, pod_text())
        assert done.returncode != 0
        assert "No space left on device (ENOSPC)" in done.stderr, done.stderr
        assert "Traceback" not in done.stderr
        filler.unlink()
        assert up(host, pod_text()).returncode == 0
        host.nsrun("pod", "down", "--all")
        nothing_half_made(host)
        host.nsrun("server", "stop")
    finally:
        host.nsrun("pod", "down", "--all", "--force", check=False)
        host.nsrun("server", "stop", check=False)
        unmount(host.root)


def test_without_nftables_a_host_network_pod_still_runs(host: Host) -> None:
    import shutil

    tools = host.scratch / "bin"
    tools.mkdir()
    for name in ("setsid", "sh", "env"):
        found = shutil.which(name)
        assert found is not None
        (tools / name).symlink_to(found)
    environment = {**host.environment, "PATH": str(tools)}
    bare = host.scratch / "pod.yaml"
    bare.write_text(pod_text())
    hosts = host.scratch / "host.yaml"
    hosts.write_text(json.dumps(manifest("hosts", container("app", SLEEPER), hostNetwork=True)))
    done = host.run(*host.nsrun_argv("pod", "up", hosts, "--timeout=15s"), environment=environment, check=False)
    assert done.returncode == 0, done.stderr
    host.nsrun("pod", "down", "--all", "--force")
    host.nsrun("server", "stop")


def test_a_dead_shim(box: Host) -> None:
    bring_up(box, manifest("orphan", container("app", SLEEPER), restartPolicy="Never"))
    shim = json.loads(box.nsrun("pod", "inspect", "orphan", "--runtime").stdout)["runtime"]["shim_pid"]
    os.kill(shim, 9)
    box.nsrun("pod", "wait", "orphan", "--for=phase=Failed")
    done = box.nsrun("pod", "exec", "orphan", "--", "true", check=False)
    refused(done, "conflict", "orphan")
    assert box.nsrun("pod", "logs", "orphan").returncode == 0
    box.nsrun("pod", "down", "orphan")
    nothing_half_made(box)


# The command line


def test_arguments_in_the_wrong_order(box: Host) -> None:
    refused(box.nsrun("pod", "web", "exec", "--", "sh", check=False), "usage", "nsrun pod exec web")
    refused(box.nsrun("pod", "exec", "--", "web", "sh", check=False), "usage", "the pod stands before --")
    refused(box.nsrun("exec", "web", "sh", check=False), "usage", "nsrun pod exec")
    refused(box.nsrun("pod", "exec", "sh", "web", check=False), "not-found", "sh")
    refused(box.nsrun("pod", "logs", "app", "web", check=False), "not-found", "app")


@pytest.mark.parametrize(
    "words",
    [
        ["pod", "inspect", "nope"],
        ["pod", "describe", "nope"],
        ["pod", "down", "nope"],
        ["pod", "logs", "nope"],
        ["pod", "restart", "nope"],
        ["pod", "kill", "nope"],
        ["pod", "attach", "nope"],
        ["pod", "events", "nope"],
        ["pod", "exec", "nope", "--", "true"],
        ["image", "rm", "nope"],
    ],
)
def test_names_that_are_not_there(box: Host, words: list[str]) -> None:
    done = box.nsrun(*words, check=False)
    if words[1] == "events" and done.returncode == 0:
        # Events of a pod that is gone may still be asked for; there are none.
        assert "No events" in done.stderr
        return
    refused(done, "not-found", "nope")


def test_down_of_what_is_not_there_can_be_meant(box: Host) -> None:
    assert box.nsrun("pod", "down", "nope", "--ignore-not-found").stderr == "No pods.\n"
