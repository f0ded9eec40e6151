"""What containers write, byte for byte, in their logs."""

from __future__ import annotations

import asyncio
import errno
import os
import random
import socket
import sys
import time
from datetime import datetime
from pathlib import Path

import pytest

from nsrun import shim
from tests.ns.shim.harness import LogFile, Pod, contents, eventually, new_id, run, shell, tmpfs

pytestmark = [pytest.mark.requires("root"), pytest.mark.timeout(90)]

PIECE = 16384


def python(source: str) -> list[str]:
    """argv of a Python that runs the source with `out` and `err`, which write every byte."""
    head = """
import os, sys, time
def put(fd, data):
    view = memoryview(data)
    while view:
        view = view[os.write(fd, view):]
out = lambda data: put(1, data)
err = lambda data: put(2, data)
"""
    return [sys.executable, "-I", "-c", head + source]


def assert_numbers(log: LogFile, last: int, stream: str = "stdout") -> None:
    """1..last, one a line, each once and in order; all lines whole."""
    assert log.content(stream) == b"".join(b"%d\n" % n for n in range(1, last + 1))


def test_S_LOG_lines_of_both_streams_with_the_time(pod_dir: Path) -> None:
    async def body(pod: Pod) -> None:
        before = time.time()
        await pod.start(1, shell("echo one; echo two >&2; echo; echo three"))
        await pod.exited(1)
        log = pod.log(1)
        assert [e for e in log.entries if e[0] == "stdout"] == [
            ("stdout", "F", b"one"),
            ("stdout", "F", b""),
            ("stdout", "F", b"three"),
        ]
        assert [e for e in log.entries if e[0] == "stderr"] == [("stderr", "F", b"two")]
        for line in log.data.decode().splitlines():
            stamp = line.split()[0]
            at = datetime.fromisoformat(stamp[:26] + "+00:00").timestamp()
            assert before - 0.001 <= at <= time.time()

    run(pod_dir, body)


def test_S_LOG_a_last_line_without_newline_is_partial(pod_dir: Path) -> None:
    async def body(pod: Pod) -> None:
        await pod.start(1, shell("echo whole; printf rest; printf more >&2"))
        await pod.exited(1)
        log = pod.log(1)
        assert [e for e in log.entries if e[0] == "stdout"] == [("stdout", "F", b"whole"), ("stdout", "P", b"rest")]
        assert [e for e in log.entries if e[0] == "stderr"] == [("stderr", "P", b"more")]

    run(pod_dir, body)


def test_S_LOG_a_line_is_split_after_16_kib(pod_dir: Path) -> None:
    sizes = [PIECE - 1, PIECE, PIECE + 1, 2 * PIECE, 2 * PIECE + 1]

    async def body(pod: Pod) -> None:
        await pod.start(1, python(f"for n in {sizes}: out(b'x' * n + b'\\n')\nout(b'y' * {PIECE})"))
        await pod.exited(1)
        shape = [(tag, len(content)) for _, tag, content in pod.log(1).entries]
        assert shape == [
            ("F", PIECE - 1),
            ("F", PIECE),
            ("P", PIECE),
            ("F", 1),
            ("P", PIECE),
            ("F", PIECE),
            ("P", PIECE),
            ("P", PIECE),
            ("F", 1),
            ("P", PIECE),
        ]

    run(pod_dir, body)


def test_S_LOG_a_line_that_comes_in_pieces_is_one(pod_dir: Path) -> None:
    async def body(pod: Pod) -> None:
        text = "grüße, 世界, 🦀"
        source = f"for b in {text.encode()!r}: out(bytes([b])); time.sleep(0.003)\nout(b'\\n')"
        await pod.start(1, python(source))
        await pod.exited(1)
        assert pod.log(1).entries == [("stdout", "F", text.encode())]

    run(pod_dir, body)


def test_S_LOG_a_line_of_a_mebibyte(pod_dir: Path) -> None:
    async def body(pod: Pod) -> None:
        await pod.start(1, python("out(bytes(range(32, 127)) * 11038 + b'\\nend\\n')"))
        await pod.exited(1)
        assert pod.log(1).content() == bytes(range(32, 127)) * 11038 + b"\nend\n"
        assert all(len(content) <= PIECE for _, _, content in pod.log(1).entries)

    run(pod_dir, body)


def test_S_LOG_binary_is_kept_whatever_the_sizes_of_the_writes(pod_dir: Path) -> None:
    (pod_dir / "data").write_bytes(random.Random(1).randbytes(3_000_000) + b"\r\n\0\r")
    source = f"""
import random
data = open({str(pod_dir / "data")!r}, "rb").read()
sizes = random.Random(2)
at = 0
while at < len(data):
    n = sizes.choice((1, 7, 100, 4096, 16384, 16385, 70000))
    out(data[at:at + n])
    at += n
"""

    async def body(pod: Pod) -> None:
        await pod.start(1, python(source))
        await pod.exited(1)
        assert pod.log(1).content() == (pod_dir / "data").read_bytes()

    run(pod_dir, body)


def test_S_LOG_numbered_lines_at_full_speed(pod_dir: Path) -> None:
    last = 1_000_000

    async def body(pod: Pod) -> None:
        await pod.start(1, ["seq", str(last)])
        await pod.start(2, shell("seq 300000 & seq 300000 >&2; wait"))
        record = await pod.exited(1)
        log = pod.log(1)
        assert record.log_bytes == len(log.data)
        assert_numbers(log, last)
        await pod.exited(2)
        log = pod.log(2)
        assert_numbers(log, 300000)
        assert_numbers(log, 300000, "stderr")

    run(pod_dir, body, timeout_s=80)


def test_one_write_a_line(pod_dir: Path) -> None:
    last = 100_000

    async def body(pod: Pod) -> None:
        await pod.start(1, python(f"for n in range(1, {last} + 1): out(b'%d\\n' % n)"))
        await pod.exited(1)
        assert_numbers(pod.log(1), last)

    run(pod_dir, body)


def test_S_LOG_what_was_written_before_a_kill_is_in_the_log(pod_dir: Path) -> None:
    async def body(pod: Pod) -> None:
        for number in range(10):
            # The writer tells a file how far it is after each line: at most one line more may be in the log.
            source = f"""
count = os.open({str(pod_dir / f"count{number}")!r}, os.O_WRONLY | os.O_CREAT)
n = 0
while True:
    n += 1
    out(b'%d\\n' % n)
    os.pwrite(count, b'%020d' % n, 0)
"""
            await pod.start(number, python(source))
            await asyncio.sleep(0.05)
            await pod.client.kill(new_id(number))
            await pod.exited(number)
            wrote = int((pod_dir / f"count{number}").read_bytes() or b"0")
            found = len(pod.log(number).entries)
            assert wrote <= found <= wrote + 1
            assert_numbers(pod.log(number), found)

    run(pod_dir, body)


def test_a_full_disk_blocks_the_writer_and_loses_nothing(pod_dir: Path) -> None:
    last = 400_000

    async def body(pod: Pod) -> None:
        log = os.open("log", os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, dir_fd=full)
        hog = os.open("hog", os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, dir_fd=full)
        try:
            os.posix_fallocate(hog, 0, 50 << 20)
            await pod.start(1, shell(f"seq {last} & seq {last} >&2; wait; exit 4"), log_fd=log)
            blocked = await pod.until(lambda e: isinstance(e, shim.LogBlocked))
            assert blocked == shim.LogBlocked(new_id(1), errno.ENOSPC)
            assert pod.record_on_disk(1).log_error == errno.ENOSPC
            await asyncio.sleep(0.5)  # past a vain retry
            assert pod.record_on_disk(1).state is shim.State.RUNNING
            assert not any(isinstance(e, shim.LogResumed) for e in pod.events())
            # Others are not affected.
            await pod.start(2, shell("echo fine"))
            await pod.exited(2)
            assert pod.log(2).content() == b"fine\n"
            os.ftruncate(hog, 0)
            await pod.until(lambda e: isinstance(e, shim.LogResumed))
            record = await pod.exited(1)
            assert record.exit_code == 4
            assert record.log_error == 0
            found = LogFile(contents(full, "log"))
            assert record.log_bytes == len(found.data)
            assert_numbers(found, last)
            assert_numbers(found, last, "stderr")
        finally:
            os.close(log)
            os.close(hog)

    # Room for 10 MiB of the 38 MB that will be written, until the hog goes.
    with tmpfs(60 << 20) as full:
        run(pod_dir, body)


def test_an_exit_is_told_though_the_log_is_full_and_the_rest_follows(pod_dir: Path) -> None:
    last = 5_000

    async def body(pod: Pod) -> None:
        log = os.open("log", os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, dir_fd=full)
        hog = os.open("hog", os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, dir_fd=full)
        try:
            os.posix_fallocate(hog, 0, (1 << 20) - (8 << 10))
            for number in (1, 2):
                # All of it fits into the pipe: the container can end.
                await pod.start(
                    number, shell(f"seq {last} | dd bs=60k iflag=fullblock status=none; exit 7"), log_fd=log
                )
                record = await pod.exited(number)
                assert record.exit_code == 7
                assert record.log_error == errno.ENOSPC
            # Forgotten, its bytes still wait.
            await pod.client.forget(new_id(2))
            assert [r.id for r in await pod.client.list()] == [new_id(1)]
            os.ftruncate(hog, 0)
            await pod.until(lambda e: isinstance(e, shim.LogResumed))
            await eventually(lambda: contents(full, "log").count(b"\n") == 2 * last)
            numbers = [int(content) for _, _, content in LogFile(contents(full, "log")).entries]
            assert sorted(numbers) == sorted(list(range(1, last + 1)) * 2)
            await eventually(lambda: pod.record_on_disk(1).log_error == 0)
        finally:
            os.close(log)
            os.close(hog)

    with tmpfs(1 << 20) as full:
        run(pod_dir, body)


def test_S_LOG_rotation_under_load_splits_no_line(pod_dir: Path) -> None:
    last = 2_000_000

    async def body(pod: Pod) -> None:
        await pod.start(1, ["seq", str(last)])
        names: list[Path] = []
        path = pod.log_paths[new_id(1)]
        while not any(isinstance(e, shim.Exited) for e in pod.events()):
            rotated = path.with_name(f"rotated.{len(names)}")
            path.rename(rotated)
            names.append(rotated)
            fresh = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND | os.O_CLOEXEC)
            try:
                await pod.client.reopen(new_id(1), fresh)
            except shim.ShimError as error:
                assert error.number == errno.ESRCH  # it has ended meanwhile
                break
            finally:
                os.close(fresh)
            await asyncio.sleep(0.002)
        assert len(names) > 5
        files = [LogFile(name.read_bytes()) for name in [*names, path]]
        assert sum(bool(file.data) for file in files) > 3
        assert b"".join(file.content() for file in files) == b"".join(b"%d\n" % n for n in range(1, last + 1))

    run(pod_dir, body, timeout_s=60)


def test_a_new_file_takes_a_blocked_log_over(pod_dir: Path) -> None:
    last = 200_000

    async def body(pod: Pod) -> None:
        log = os.open("log", os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, dir_fd=full)
        try:
            await pod.start(1, ["seq", str(last)], log_fd=log)
            await pod.until(lambda e: isinstance(e, shim.LogBlocked))
        finally:
            os.close(log)
        written = contents(full, "log")
        fresh = os.open(pod_dir / "fresh", os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC)
        try:
            await pod.client.reopen(new_id(1), fresh)
        finally:
            os.close(fresh)
        if not written.endswith(b"\n"):
            # Half a line is there. The other half belongs behind it: one page of room is enough.
            os.unlink("hold", dir_fd=full)
        await pod.exited(1)
        old = LogFile(contents(full, "log"))
        new = LogFile((pod_dir / "fresh").read_bytes())
        assert old.content() + new.content() == b"".join(b"%d\n" % n for n in range(1, last + 1))
        assert len(old.data) - len(written) < 100

    with tmpfs(256 << 10) as full:
        hold = os.open("hold", os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, dir_fd=full)
        try:
            os.posix_fallocate(hold, 0, 4096)
        finally:
            os.close(hold)
        run(pod_dir, body)


def test_S_LOG_a_pipe_held_from_outside_does_not_keep_the_exit_back(pod_dir: Path) -> None:
    async def body(pod: Pod) -> None:
        # Neither a PID namespace nor a cgroup: the sleeper survives with the container's stdout.
        await pod.start(1, shell("setsid sleep 5 & echo $!; exit 2"), clone_flags=0)
        record = await pod.exited(1, timeout_s=3)
        assert record.exit_code == 2
        os.kill(int(pod.log(1).content()), 9)

    run(pod_dir, body)


def test_S_LOG_a_terminal_is_logged_as_it_writes(pod_dir: Path) -> None:
    async def body(pod: Pod) -> None:
        script = "tty >/dev/null || exit 1; stty size; printf 'no end'"
        await pod.start(1, shell(script), flags=shim.StartFlag.TERMINAL)
        assert (await pod.exited(1)).exit_code == 0
        assert pod.log(1).entries == [("stdout", "F", b"24 80\r"), ("stdout", "P", b"no end")]

    run(pod_dir, body)


def test_much_on_a_terminal(pod_dir: Path) -> None:
    last = 100_000

    async def body(pod: Pod) -> None:
        await pod.start(1, shell(f"seq {last}; exit 8"), flags=shim.StartFlag.TERMINAL)
        assert (await pod.exited(1)).exit_code == 8
        assert pod.log(1).content() == b"".join(b"%d\r\n" % n for n in range(1, last + 1))

    run(pod_dir, body)


def test_attach_gets_a_copy_and_stdin(pod_dir: Path) -> None:
    async def body(pod: Pod) -> None:
        await pod.start(
            1, shell("while read line; do echo out $line; echo err $line >&2; done; exit 6"), flags=shim.StartFlag.STDIN
        )
        ours, theirs = socket.socketpair()
        err_reader, err_writer = os.pipe()
        both, both_theirs = socket.socketpair()
        stdin = await pod.client.attach(new_id(1), output_fd=theirs.fileno(), error_fd=err_writer, stdin=True)
        await pod.client.attach(new_id(1), output_fd=both_theirs.fileno())
        theirs.close()
        both_theirs.close()
        os.close(err_writer)
        assert stdin is not None
        try:
            os.write(stdin, b"a\nb\n")
        finally:
            os.close(stdin)
        await pod.client.close_stdin(new_id(1))
        assert (await pod.exited(1)).exit_code == 6
        assert ours.recv(100, socket.MSG_WAITALL) == b"out a\nout b\n"
        assert os.read(err_reader, 100) == b"err a\nerr b\n"
        assert sorted(both.recv(100, socket.MSG_WAITALL).split(b"\n")) == sorted(
            b"out a\nout b\nerr a\nerr b\n".split(b"\n")
        )
        assert os.read(err_reader, 100) == b""
        assert pod.log(1).content() == b"out a\nout b\n"
        assert pod.log(1).content("stderr") == b"err a\nerr b\n"
        ours.close()
        both.close()
        os.close(err_reader)
        with pytest.raises(shim.ShimError) as caught:
            await pod.client.attach(new_id(1), stdin=True)
        assert caught.value.number == errno.ESRCH

    run(pod_dir, body)


def test_S_LOG_stdin_once_ends_with_the_first_attach(pod_dir: Path) -> None:
    async def body(pod: Pod) -> None:
        await pod.start(1, ["cat"], flags=shim.StartFlag.STDIN | shim.StartFlag.STDIN_ONCE)
        stdin = await pod.client.attach(new_id(1), stdin=True)
        assert stdin is not None
        with pytest.raises(shim.ShimError) as caught:
            await pod.client.attach(new_id(1), stdin=True)
        assert caught.value.number == errno.EPIPE
        os.write(stdin, b"last words")
        os.close(stdin)
        assert (await pod.exited(1)).exit_code == 0
        assert pod.log(1).content() == b"last words"

    run(pod_dir, body)


def test_S_LOG_without_the_flag_stdin_is_empty(pod_dir: Path) -> None:
    async def body(pod: Pod) -> None:
        await pod.start(1, shell("readlink /proc/self/fd/0; wc -c; sleep 1000"))
        await eventually(lambda: pod.log(1).content() == b"/dev/null\n0\n")
        with pytest.raises(shim.ShimError) as caught:
            await pod.client.attach(new_id(1), stdin=True)
        assert caught.value.number == errno.EPIPE

    run(pod_dir, body)


def test_a_terminal_takes_input_and_a_new_size(pod_dir: Path) -> None:
    async def body(pod: Pod) -> None:
        await pod.start(1, shell("read line; stty size; exit 9"), flags=shim.StartFlag.TERMINAL | shim.StartFlag.STDIN)
        await pod.client.resize(new_id(1), 40, 100)
        master = await pod.client.attach(new_id(1), stdin=True)
        assert master is not None
        os.write(master, b"typed\n")
        os.close(master)
        assert (await pod.exited(1)).exit_code == 9
        assert pod.log(1).content() == b"typed\r\n40 100\r\n"
        await pod.start(2, ["sleep", "1000"])
        with pytest.raises(shim.ShimError) as caught:
            await pod.client.resize(new_id(2), 1, 1)
        assert caught.value.number == errno.ENOTTY

    run(pod_dir, body)


def test_a_watcher_that_does_not_read_is_cut_off_and_the_log_goes_on(pod_dir: Path) -> None:
    last = 1_000_000

    async def body(pod: Pod) -> None:
        ours, theirs = socket.socketpair()
        await pod.start(1, shell(f"read go; seq {last}"), flags=shim.StartFlag.STDIN)
        await pod.client.attach(new_id(1), output_fd=theirs.fileno())
        stdin = await pod.client.attach(new_id(1), stdin=True)
        theirs.close()
        assert stdin is not None
        os.write(stdin, b"go\n")
        os.close(stdin)
        await pod.exited(1)
        assert_numbers(pod.log(1), last)
        got = bytearray()
        while data := await asyncio.to_thread(ours.recv, 1 << 20):
            got += data
        ours.close()
        whole = b"".join(b"%d\n" % n for n in range(1, last + 1))
        assert whole.startswith(bytes(got))
        assert len(got) < 5 << 20

    run(pod_dir, body, timeout_s=60)


def test_a_slow_watcher_within_the_bound_gets_everything(pod_dir: Path) -> None:
    last = 300_000  # 2 MB

    async def body(pod: Pod) -> None:
        reader, writer = os.pipe()
        await pod.start(1, shell(f"read go; seq {last}"), flags=shim.StartFlag.STDIN)
        stdin = await pod.client.attach(new_id(1), output_fd=writer, stdin=True)
        os.close(writer)
        assert stdin is not None
        os.write(stdin, b"go\n")
        os.close(stdin)
        await pod.exited(1)
        got = bytearray()
        while data := await asyncio.to_thread(os.read, reader, 1 << 20):
            got += data
        os.close(reader)
        assert bytes(got) == b"".join(b"%d\n" % n for n in range(1, last + 1))

    run(pod_dir, body)


def test_output_goes_to_sockets_and_pipes_only(pod_dir: Path) -> None:
    async def body(pod: Pod) -> None:
        await pod.start(1, ["sleep", "1000"])
        file = os.open(pod_dir / "file", os.O_WRONLY | os.O_CREAT)
        packets, other = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        try:
            for fd in (file, packets.fileno()):
                with pytest.raises(shim.ShimError) as caught:
                    await pod.client.attach(new_id(1), output_fd=fd)
                assert caught.value.number == errno.EINVAL
            # Of two outputs both are taken or none.
            reader, writer = os.pipe()
            with pytest.raises(shim.ShimError) as caught:
                await pod.client.attach(new_id(1), output_fd=writer, error_fd=file)
            assert caught.value.number == errno.EINVAL
            os.close(writer)
            assert await asyncio.to_thread(os.read, reader, 1) == b""
            os.close(reader)
        finally:
            os.close(file)
            packets.close()
            other.close()

    run(pod_dir, body)
