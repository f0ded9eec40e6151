"""More processes in a running container."""

from __future__ import annotations

import asyncio
import errno
import fcntl
import os
import signal
import struct
import termios
from pathlib import Path

import pytest

from nsrun import shim
from tests.ns.shim.harness import Pod, cgroup, eventually, execute, new_id, read_all, run, shell

pytestmark = [pytest.mark.requires("root"), pytest.mark.timeout(60)]


def test_output_and_exit_code(pod_dir: Path) -> None:
    async def body(pod: Pod) -> None:
        root = await pod.start(1, ["sleep", "1000"])
        async with execute(pod, 1, shell("echo $$; readlink /proc/self/ns/mnt; exit 3")) as one:
            started = await one.next()
            assert started is not None
            assert started.kind == "started"
            assert started.terminal is None
            ended = await one.next()
            assert ended is not None
            assert (ended.kind, ended.exit_code, ended.pid) == ("exited", 3, started.pid)
            assert await one.next() is None
            number, namespace = (await one.output()).decode().split()
        assert int(number) > 1  # in the container's PID namespace, where the root process is 1
        assert int(number) < 100
        assert namespace == os.readlink(f"/proc/{root.pid}/ns/mnt")
        assert pod.log(1).entries == []

    run(pod_dir, body)


def test_stdin_and_death_by_signal(pod_dir: Path) -> None:
    async def body(pod: Pod) -> None:
        await pod.start(1, ["sleep", "1000"])
        reader, writer = os.pipe()
        try:
            async with execute(pod, 1, shell("read line; echo got $line; kill -9 $$"), stdin=reader) as one:
                os.write(writer, b"something\n")
                assert await one.output() == b"got something\n"
                await one.next()
                ended = await one.next()
                assert ended is not None
                assert ended.exit_code == 128 + signal.SIGKILL
        finally:
            os.close(reader)
            os.close(writer)

    run(pod_dir, body)


def test_a_missing_command_is_told_on_the_status_socket(pod_dir: Path) -> None:
    async def body(pod: Pod) -> None:
        await pod.start(1, ["sleep", "1000"])
        async with execute(pod, 1, ["/no/such"]) as one:
            status = await one.next()
            assert status is not None
            assert (status.kind, status.error, status.subject) == ("failed", errno.ENOENT, "/no/such")
            assert await one.next() is None

    run(pod_dir, body)


def test_a_terminal_of_its_own(pod_dir: Path) -> None:
    async def body(pod: Pod) -> None:
        await pod.start(1, ["sleep", "1000"])
        async with execute(
            pod, 1, shell("stty size; tty >/dev/null && read line; echo $line; stty size; exit 5"), terminal=True
        ) as one:
            status = await one.next()
            assert status is not None
            assert status.terminal is not None
            master = status.terminal
            try:
                assert os.read(master, 100) == b"24 80\r\n"
                fcntl.ioctl(master, termios.TIOCSWINSZ, struct.pack("HHHH", 50, 132, 0, 0))
                os.write(master, b"hello\n")
                assert await asyncio.to_thread(read_all, master) == b"hello\r\nhello\r\n50 132\r\n"
            finally:
                os.close(master)
            ended = await one.next()
            assert ended is not None
            assert ended.exit_code == 5

    run(pod_dir, body)


def test_closing_the_terminal_hangs_up(pod_dir: Path) -> None:
    async def body(pod: Pod) -> None:
        await pod.start(1, ["sleep", "1000"])
        async with execute(pod, 1, ["sleep", "1000"], terminal=True) as one:
            status = await one.next()
            assert status is not None
            assert status.terminal is not None
            os.close(status.terminal)
            ended = await one.next()
            assert ended is not None
            assert ended.exit_code == 128 + signal.SIGHUP

    run(pod_dir, body)


def test_nobody_needs_to_wait_for_it(pod_dir: Path) -> None:
    async def body(pod: Pod) -> None:
        await pod.start(1, ["sleep", "1000"])
        descriptors = pod.descriptors()
        async with execute(pod, 1, shell(f"sleep 0.2; echo done > {pod_dir}/done")) as one:
            await one.next()
        await eventually(lambda: (pod_dir / "done").exists())
        await eventually(lambda: pod.descriptors() == descriptors)

    run(pod_dir, body)


@pytest.mark.requires("cgroup2")
def test_it_lives_in_the_containers_cgroup_and_dies_with_it(pod_dir: Path) -> None:
    async def body(pod: Pod) -> None:
        directory = os.open(group, os.O_RDONLY | os.O_DIRECTORY)
        try:
            await pod.start(1, ["sleep", "1000"], cgroup_fd=directory)
        finally:
            os.close(directory)
        async with execute(pod, 1, ["sleep", "1000"]) as one:
            started = await one.next()
            assert started is not None
            processes = (group / "cgroup.procs").read_text(encoding="ascii").split()
            assert str(started.pid) in processes
            assert len(processes) == 2
            with pytest.raises(shim.ShimError) as caught:
                await pod.client.quit()
            assert caught.value.number == errno.EBUSY
            await pod.client.kill(new_id(1))
            ended = await one.next()
            assert ended is not None
            assert ended.exit_code == 128 + signal.SIGKILL
        await pod.exited(1)

    with cgroup() as group:
        run(pod_dir, body)


def test_without_namespaces_and_cgroup_it_still_dies_with_its_container(pod_dir: Path) -> None:
    async def body(pod: Pod) -> None:
        await pod.start(1, ["sleep", "1000"], clone_flags=0)
        async with execute(pod, 1, ["sleep", "1000"]) as one:
            await one.next()
            await pod.client.signal(new_id(1), signal.SIGTERM)
            assert (await pod.exited(1)).signal == signal.SIGTERM
            ended = await one.next()
            assert ended is not None
            assert ended.exit_code == 128 + signal.SIGKILL

    run(pod_dir, body)


def test_only_a_running_container_can_be_entered(pod_dir: Path) -> None:
    async def body(pod: Pod) -> None:
        with pytest.raises(shim.ShimError) as caught:
            async with execute(pod, 1, ["true"]):
                pass
        assert caught.value.number == errno.ENOENT
        await pod.start(1, ["true"])
        await pod.exited(1)
        with pytest.raises(shim.ShimError) as caught:
            async with execute(pod, 1, ["true"]):
                pass
        assert caught.value.number == errno.ESRCH

    run(pod_dir, body)


def test_many_at_once(pod_dir: Path) -> None:
    async def body(pod: Pod) -> None:
        await pod.start(1, ["sleep", "1000"])
        descriptors = pod.descriptors()

        async def one_of_them(code: int) -> None:
            async with execute(pod, 1, shell(f"exit {code}")) as one:
                await one.next()
                ended = await one.next()
                assert ended is not None
                assert ended.exit_code == code

        await asyncio.gather(*(one_of_them(code) for code in range(60)))
        await eventually(lambda: pod.descriptors() == descriptors)

    run(pod_dir, body)
