"""exec and attach: streams, terminals, signals, exit codes, and a server that dies meanwhile."""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import os
import pty
import random
import re
import select
import signal
import struct
import subprocess
import termios
import threading
import time
from collections.abc import Iterator

import pytest

from tests.host.cli.conftest import SLEEPER, bring_up, container, manifest
from tests.host.testhost import Host


def execute(box: Host, *words: str, stdin: bytes | None = None) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(
        box.nsrun_argv("pod", "exec", *words),
        env=box.environment,
        input=stdin,
        stdin=subprocess.DEVNULL if stdin is None else None,
        capture_output=True,
        timeout=60,
        check=False,
    )


def test_streams_are_apart(box: Host, web: str) -> None:
    done = execute(box, "web", "--", "sh", "-c", "echo out; echo err >&2; exit 7")
    assert (done.stdout, done.stderr, done.returncode) == (b"out\n", b"err\n", 7)


@pytest.mark.parametrize(
    ("script", "code"), [("exit 0", 0), ("exit 255", 255), ("kill -9 $$", 137), ("kill -TERM $$", 143)]
)
def test_exit_codes(box: Host, web: str, script: str, code: int) -> None:
    assert execute(box, "web", "--", "sh", "-c", script).returncode == code


def test_without_i_standard_input_is_empty(box: Host, web: str) -> None:
    assert execute(box, "web", "--", "cat", stdin=b"not passed on").stdout == b""


def test_much_data_both_ways(box: Host, web: str) -> None:
    data = os.urandom(1 << 20) * 8
    done = execute(box, "-i", "web", "--", "cat", stdin=data)
    assert done.stdout == data
    assert done.returncode == 0


def test_who_does_not_read_does_not_hang_us(box: Host, web: str) -> None:
    done = execute(box, "-i", "web", "--", "true", stdin=b"x" * (4 << 20))
    assert done.returncode == 0


def test_output_to_a_file_and_appended(box: Host, web: str) -> None:
    path = box.scratch / "appended"
    path.write_text("before\n")
    with path.open("ab") as file:
        subprocess.run(
            box.nsrun_argv("pod", "exec", "web", "--", "echo", "after"), env=box.environment, stdout=file, check=True
        )
    assert path.read_text() == "before\nafter\n"


def test_children_left_behind_do_not_hold_us(box: Host, web: str) -> None:
    began = time.monotonic()
    done = execute(box, "web", "--", "sh", "-c", "sleep 20 & echo gone")
    assert done.stdout == b"gone\n"
    assert time.monotonic() - began < 10


def test_a_reader_that_leaves(box: Host, web: str) -> None:
    words = " ".join(box.nsrun_argv("pod", "exec", "web", "--", "yes"))
    done = box.run("bash", "-c", f"{words} | head -n 1; echo ${{PIPESTATUS[0]}}", timeout=20)
    assert done.stdout.splitlines()[0] == "y"
    assert done.stdout.splitlines()[1] in ("141", "1")


def test_container_environment_directory_and_user(box: Host, web: str) -> None:
    done = execute(box, "web", "-c", "other", "-e", "GREETING=hi there", "-w", "/tmp", "-u", "65534:65534", "--", "sh", "-c",
                   'echo "$GREETING"; pwd; id -u; id -g')  # fmt: skip
    assert done.stdout.decode().splitlines() == ["hi there", "/tmp", "65534", "65534"]


def test_it_is_the_container_that_was_named(box: Host, web: str) -> None:
    script = "tr '\\0' ' ' < /proc/1/cmdline"
    assert b"app speaks" in execute(box, "web", "--", "sh", "-c", script).stdout
    assert b"other" in execute(box, "-c", "other", "web", "--", "sh", "-c", script).stdout
    done = execute(box, "-c", "nope", "web", "--", "true")
    assert done.returncode == 4
    assert b"nope" in done.stderr


@pytest.mark.parametrize(
    ("command", "code", "words"),
    [
        ("no-such-command", 127, "No such file or directory (ENOENT)"),
        ("/usr/bin", 126, "Is a directory (EISDIR)"),
        ("/etc/hosts", 126, "Permission denied (EACCES)"),
    ],
)
def test_commands_that_cannot_be_run(box: Host, web: str, command: str, code: int, words: str) -> None:
    done = execute(box, "web", "--", command)
    assert done.returncode == code, done.stderr
    assert command in done.stderr.decode()
    assert words in done.stderr.decode()


def test_a_script_without_interpreter(box: Host, web: str) -> None:
    execute(box, "web", "--", "sh", "-c", "printf '#!/no/such/shell\\n' > /tmp/script; chmod +x /tmp/script")
    done = execute(box, "web", "--", "/tmp/script")
    assert done.returncode == 127
    assert "interpreter" in done.stderr.decode()
    execute(box, "web", "--", "sh", "-c", "echo true > /tmp/plain; chmod +x /tmp/plain")
    done = execute(box, "web", "--", "/tmp/plain")
    assert done.returncode == 126, done.stderr
    assert "(ENOEXEC)" in done.stderr.decode()
    assert "#!" in done.stderr.decode()


def test_signals_are_passed_on(box: Host, web: str) -> None:
    script = "trap 'echo interrupted; exit 9' INT; echo ready; while true; do sleep 0.05; done"
    process = subprocess.Popen(
        box.nsrun_argv("pod", "exec", "web", "--", "sh", "-c", script), env=box.environment, stdout=subprocess.PIPE
    )
    assert process.stdout is not None
    assert process.stdout.readline() == b"ready\n"
    process.send_signal(signal.SIGINT)
    assert process.communicate(timeout=10)[0] == b"interrupted\n"
    assert process.returncode == 9


def test_a_dead_server_does_not_touch_an_exec(box: Host, web: str) -> None:
    process = subprocess.Popen(
        box.nsrun_argv("pod", "exec", "-i", "web", "--", "sh", "-c", "echo ready; cat; exit 5"),
        env=box.environment,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    assert process.stdout is not None
    assert process.stdin is not None
    assert process.stdout.readline() == b"ready\n"
    status = json.loads(box.nsrun("server", "status", "-o", "json").stdout)
    os.kill(status["pid"], signal.SIGKILL)
    time.sleep(0.1)
    process.stdin.write(b"still here\n")
    assert process.communicate(timeout=10)[0] == b"still here\n"
    assert process.returncode == 5
    assert json.loads(box.nsrun("server", "start").stdout and box.nsrun("server", "status", "-o", "json").stdout)[
        "running"
    ]


class Terminal:
    """A terminal with a program in it, driven by a test."""

    def __init__(self, argv: list[str], environment: dict[str, str], rows: int = 30, columns: int = 100) -> None:
        self.leader, follower = pty.openpty()
        self.resize(rows, columns)
        self.before = termios.tcgetattr(follower)
        self.process = subprocess.Popen(
            argv, stdin=follower, stdout=follower, stderr=follower, env=environment, start_new_session=True
        )
        self.follower = follower
        self.text = b""

    def resize(self, rows: int, columns: int) -> None:
        fcntl.ioctl(self.leader, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))
        if hasattr(self, "process"):
            self.process.send_signal(signal.SIGWINCH)

    def write(self, text: bytes) -> None:
        os.write(self.leader, text)

    def expect(self, pattern: bytes, timeout: float = 15.0) -> re.Match[bytes]:
        deadline = time.monotonic() + timeout
        while True:
            found = re.search(pattern, self.text)
            if found:
                self.text = self.text[found.end() :]
                return found
            left = deadline - time.monotonic()
            readable, _, _ = select.select([self.leader], [], [], max(left, 0))
            assert readable, f"no {pattern!r} in {self.text!r}"
            self.text += os.read(self.leader, 4096)

    def end(self) -> int:
        deadline = time.monotonic() + 15
        while self.process.poll() is None:
            assert time.monotonic() < deadline, f"still runs: {self.text!r}"
            if select.select([self.leader], [], [], 0.05)[0]:
                self.text += os.read(self.leader, 4096)
        return self.process.returncode

    def restored(self) -> bool:
        return termios.tcgetattr(self.follower) == self.before

    def close(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        os.close(self.follower)
        os.close(self.leader)


@contextlib.contextmanager
def terminal(box: Host, *words: str) -> Iterator[Terminal]:
    opened = Terminal(box.nsrun_argv("pod", *words), {**box.environment, "TERM": "xterm"})
    try:
        yield opened
    finally:
        opened.close()


def test_a_terminal(box: Host, web: str) -> None:
    with terminal(
        box,
        "exec",
        "-it",
        "web",
        "--",
        "sh",
        "-c",
        "tty; stty size; echo TERM=$TERM; read line; echo got $line; exit 3",
    ) as shell:
        shell.expect(rb"/dev/pts/\d+\r\n")
        shell.expect(rb"30 100\r\n")
        shell.expect(rb"TERM=xterm\r\n")
        assert not shell.restored()
        shell.write(b"typed\r")
        shell.expect(rb"typed\r\n")
        shell.expect(rb"got typed\r\n")
        assert shell.end() == 3
        assert shell.restored()


def test_a_terminal_that_changes_its_size(box: Host, web: str) -> None:
    with terminal(
        box,
        "exec",
        "-it",
        "web",
        "--",
        "bash",
        "-c",
        "trap 'stty size' WINCH; trap 'exit 11' INT; echo ready; while true; do sleep 0.05; done",
    ) as shell:
        shell.expect(rb"ready\r\n")
        shell.resize(50, 132)
        shell.expect(rb"50 132\r\n")
        shell.write(b"\x03")
        assert shell.end() == 11
        assert shell.restored()


def test_keys_go_to_the_command(box: Host, web: str) -> None:
    with terminal(box, "exec", "-it", "web", "--", "cat") as shell:
        shell.write(b"line\r")
        shell.expect(rb"line\r\nline\r\n")
        shell.write(b"\x04")
        assert shell.end() == 0
        assert shell.restored()


UNICODE = "Grüße, 世界, ∑ 🙂 e\u0301"


def test_a_full_screen_editor(box: Host, web: str) -> None:
    """vi in a terminal: it draws for the size there is, redraws when that changes, and what is typed is UTF-8 to the file."""
    with terminal(
        box, "exec", "-it", "web", "--", "env", "LC_ALL=C.UTF-8", "vi", "-u", "NONE", "-N", "/tmp/text"
    ) as editor:
        # One line for each row of the text: empty ones begin with ~. The 30th is vi's own.
        editor.expect(rb'"/tmp/text" \[New\]')
        editor.write(f"i{UNICODE}\r{'x' * 150}\x1b".encode())
        editor.expect(re.escape("世界".encode()))
        editor.resize(12, 60)
        # Keys and the signal of the new size come by different ways: it is asked until it has come.
        deadline = time.monotonic() + 30
        while True:
            editor.write(b"\r:set columns? lines?\r")
            size = tuple(int(editor.expect(word + rb"=(\d+)")[1]) for word in (b"columns", b"lines"))
            if size == (60, 12):
                break
            assert time.monotonic() < deadline, size
        # A line of 150 takes three rows of 60.
        editor.write(b":wq\r")
        assert editor.end() == 0
        assert editor.restored()
    kept = execute(box, "web", "--", "cat", "/tmp/text").stdout
    assert kept.decode() == f"{UNICODE}\n{'x' * 150}\n"


def test_utf8_in_a_terminal(box: Host, web: str) -> None:
    """Characters of several bytes are echoed whole, and erased whole where the terminal knows of UTF-8 (stty iutf8)."""
    with terminal(
        box, "exec", "-it", "web", "--", "sh", "-c", "stty iutf8; echo ready; read line; echo got $line | od -An -tx1"
    ) as shell:
        shell.expect(rb"ready\r\n")
        shell.write("aü🙂".encode() + b"\x7f\x7fb\r")
        shell.expect(rb"67 6f 74 20 61 62 0a")
        assert shell.end() == 0


def test_a_pipe_without_loss(box: Host, web: str) -> None:
    """Much through exec at once in both directions, whole and in order; 1 GB with NSRUN_SOAK."""
    size = 1_000_000_000 if os.environ.get("NSRUN_SOAK") else 60_000_000
    block = random.Random(3).randbytes(1 << 20)
    process = subprocess.Popen(
        box.nsrun_argv("pod", "exec", "-i", "web", "--", "cat"),
        env=box.environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
    )  # fmt: skip
    sent, came = hashlib.sha256(), hashlib.sha256()
    assert process.stdin is not None
    assert process.stdout is not None
    stdin = process.stdin

    def feed() -> None:
        left = size
        while left:
            # Of another length every time: no end falls on a pipe's.
            piece = block[: min(left, 1 + left % len(block))]
            sent.update(piece)
            stdin.write(piece)
            left -= len(piece)
        stdin.close()

    feeder = threading.Thread(target=feed)
    feeder.start()
    count = 0
    while piece := os.read(process.stdout.fileno(), 1 << 20):
        came.update(piece)
        count += len(piece)
    feeder.join()
    process.stdout.close()
    assert process.wait(20) == 0
    assert (count, came.hexdigest()) == (size, sent.hexdigest())


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_the_terminal_is_restored_when_we_are_ended(box: Host, web: str, number: int) -> None:
    with terminal(box, "exec", "-it", "web", "--", "sh", "-c", "echo ready; sleep 100") as shell:
        shell.expect(rb"ready\r\n")
        shell.process.send_signal(number)
        assert shell.end() == 128 + number
        assert shell.restored()


def test_tty_without_a_terminal_of_ours(box: Host, web: str) -> None:
    for _ in range(8):  # cat closes its streams before it exits: that must not hang up on it
        done = execute(box, "-it", "web", "--", "cat", stdin=b"passed on\n")
        assert b"passed on\r\n" in done.stdout
        assert done.returncode == 0
    done = execute(box, "-t", "web", "--", "sh", "-c", "test -t 1 && echo a terminal; exit 6")
    assert done.stdout == b"a terminal\r\n"
    assert done.returncode == 6


def test_attach_sees_the_output_and_ends_with_the_container(box: Host) -> None:
    script = "read line; echo got $line; exit 8"
    bring_up(box, manifest("interactive", container("app", script, stdin=True, stdinOnce=True), restartPolicy="Never"))
    done = subprocess.run(
        box.nsrun_argv("pod", "attach", "-i", "interactive"),
        env=box.environment, input=b"hello\n", capture_output=True, timeout=30, check=False,
    )  # fmt: skip
    assert done.stdout == b"got hello\n"
    assert done.returncode == 8, done.stderr
    assert box.nsrun("pod", "logs", "interactive").stdout == "got hello\n"
    box.nsrun("pod", "down", "interactive")


def test_attach_to_a_terminal_and_leave(box: Host) -> None:
    script = "while read line; do echo got $line; done"
    bring_up(box, manifest("console", container("app", script, stdin=True, tty=True)))
    with terminal(box, "attach", "-it", "console") as shell:
        time.sleep(0.5)
        shell.write(b"one\r")
        shell.expect(rb"got one\r\n")
        shell.write(b"\x10\x11")
        assert shell.end() == 0
        assert shell.restored()
    with terminal(box, "attach", "-it", "console") as shell:
        time.sleep(0.5)
        shell.write(b"two\r")
        shell.expect(rb"got two\r\n")
        shell.write(b"\x10")
        time.sleep(0.1)
        shell.write(b"\x11")
        assert shell.end() == 0
    with terminal(box, "attach", "-it", "console", "--detach-keys=ctrl-a,d") as shell:
        time.sleep(0.5)
        # What was typed to leave has not reached the container, and keys that lead nowhere do.
        shell.write(b"three\r")
        shell.expect(rb"got three\r\n")
        shell.write(b"\x01\x10\r")
        shell.expect(rb"got \x01\x10\r\n")
        shell.write(b"\x01")
        time.sleep(0.1)
        shell.write(b"d")
        assert shell.end() == 0
    box.nsrun("pod", "down", "console", "--force")


def test_a_debug_container_has_a_terminal_that_can_be_left(box: Host) -> None:
    bring_up(box, manifest("examined", container("app", SLEEPER)))
    shell = ("env", "PS1=ready> ", "bash", "--norc", "--noprofile", "-i")
    words = ("-it", "examined", "--image=nsrun.local/host", "--target=app", "-c", "looking", "--", *shell)
    with terminal(box, "debug", *words) as looking:
        looking.expect(rb"ready> ")
        looking.write(b"stty size\r")
        looking.expect(rb"30 100\r\n")
        looking.resize(50, 132)
        # Keys and the signal of the new size come by different ways: it is asked until it has come.
        deadline = time.monotonic() + 30
        while True:
            looking.write(b"stty size\r")
            if looking.expect(rb"(\d+ \d+)\r\n")[1] == b"50 132":
                break
            assert time.monotonic() < deadline
        looking.write(b"echo beg''un; sleep 1000\r")
        looking.expect(rb"begun\r\n")
        looking.write(b"\x03")
        looking.expect(rb"(?s)\^C.*ready> ")
        looking.write(b"\x10")
        time.sleep(0.2)
        looking.write(b"\x11")
        assert looking.end() == 0
        assert looking.restored()
    # It runs on, and whoever comes back finds a line on which nothing is typed.
    with terminal(box, "attach", "-it", "examined", "-c", "looking") as again:
        again.write(b"exit 3\r")
        assert again.end() == 3
    box.nsrun("pod", "down", "examined", "--force")


def test_attach_without_input_ends_with_ctrl_c(box: Host, web: str) -> None:
    process = subprocess.Popen(box.nsrun_argv("pod", "attach", "web"), env=box.environment, stderr=subprocess.PIPE)
    time.sleep(0.6)
    assert process.poll() is None
    process.send_signal(signal.SIGINT)
    assert process.wait(10) == 130
    assert process.stderr is not None
    assert b"Defaulted container 'app'" in process.stderr.read()
    process.stderr.close()
    assert box.nsrun("pod", "ls", "web").stdout.count("Running") == 1


def test_exec_in_what_does_not_run(box: Host) -> None:
    bring_up(box, manifest("over", container("app", "exit 0"), restartPolicy="Never"))
    box.nsrun("pod", "wait", "over", "--for=phase=Succeeded")
    done = execute(box, "over", "--", "true")
    assert done.returncode == 5, done.stderr
    assert b"over" in done.stderr
    box.nsrun("pod", "down", "over")
    assert execute(box, "over", "--", "true").returncode == 4


def test_a_pod_that_goes_down_under_an_exec(box: Host) -> None:
    bring_up(box, manifest("vanishing", container("app", SLEEPER)))
    process = subprocess.Popen(
        box.nsrun_argv("pod", "exec", "vanishing", "--", "sh", "-c", "echo ready; sleep 100"),
        env=box.environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip
    assert process.stdout is not None
    assert process.stdout.readline() == b"ready\n"
    box.nsrun("pod", "down", "vanishing", "--force")
    _, errors = process.communicate(timeout=15)
    assert process.returncode in (137, 11), errors


def test_a_killed_client_hangs_up_its_terminal(box: Host, web: str) -> None:
    with terminal(box, "exec", "-it", "web", "--", "sh", "-c", "echo ready; exec sleep 54321") as shell:
        shell.expect(rb"ready\r\n")
        shell.process.kill()
        shell.process.wait()
        deadline = time.monotonic() + 10
        while execute(box, "web", "--", "pgrep", "-f", "^sleep 54321").returncode == 0:
            assert time.monotonic() < deadline
            time.sleep(0.05)


def test_a_killed_client_ends_the_input(box: Host, web: str) -> None:
    process = subprocess.Popen(
        box.nsrun_argv("pod", "exec", "-i", "web", "--", "sh", "-c", "echo ready; cat; touch /tmp/ended"),
        env=box.environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
    )  # fmt: skip
    assert process.stdout is not None
    assert process.stdin is not None
    assert process.stdout.readline() == b"ready\n"
    process.kill()
    process.communicate()
    deadline = time.monotonic() + 10
    while execute(box, "web", "--", "test", "-e", "/tmp/ended").returncode:
        assert time.monotonic() < deadline
        time.sleep(0.05)


@pytest.mark.parametrize("closed", ["<&-", ">&-", "2>&-", "<&- >&- 2>&-"])
def test_closed_standard_streams(box: Host, web: str, closed: str) -> None:
    words = " ".join(box.nsrun_argv("pod", "exec", "web", "--", "sh", "-c", "'echo x; echo y >&2; exit 4'"))
    assert box.run("bash", "-c", f"{words} {closed}", check=False).returncode == 4
    words = " ".join(box.nsrun_argv("pod", "ls"))
    assert box.run("bash", "-c", f"{words} {closed}", check=False).returncode == 0
