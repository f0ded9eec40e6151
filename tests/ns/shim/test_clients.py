"""Clients that come, go, hang, lie; the shim's own birth, death and memory."""

from __future__ import annotations

import array
import asyncio
import contextlib
import errno
import os
import random
import signal
import socket
import struct
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from nsrun import native, shim
from nsrun.shim import wire
from tests.ns.shim.harness import (
    LIB,
    Pod,
    eventually,
    new_id,
    op,
    program,
    run,
    shell,
    tmpfs,
    wait_until,
)

pytestmark = [pytest.mark.requires("root"), pytest.mark.timeout(60)]

PRIVATE_KB = 400
"""What a shim with three containers may have of its own."""


@contextlib.contextmanager
def raw_connection(directory: Path) -> Iterator[socket.socket]:
    """A connection without a client behind it."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as sock:
        descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
        try:
            sock.connect(f"/proc/self/fd/{descriptor}/shim.sock")
        finally:
            os.close(descriptor)
        sock.settimeout(20)
        yield sock


def send(sock: socket.socket, packet: bytes, fds: Sequence[int] = ()) -> None:
    control = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", fds))] if fds else []
    sock.sendmsg([packet], control)


def test_reconnecting_finds_everything(pod_dir: Path) -> None:
    async def body(pod: Pod) -> None:
        await pod.start(1, ["sleep", "1000"])
        await pod.start(2, shell("exit 5"))
        ended = await pod.exited(2)
        for _ in range(50):
            async with await shim.ShimClient.connect(pod_dir) as client:
                records = {r.id: r for r in await client.list()}
                assert records[new_id(1)].state is shim.State.RUNNING
                assert records[new_id(2)] == ended
        hello = await pod.client.hello()
        assert (hello.running, hello.known, hello.pid) == (1, 2, pod.pid)

    run(pod_dir, body)


def test_a_start_goes_on_without_the_client_that_asked(pod_dir: Path) -> None:
    async def body(pod: Pod) -> None:
        client = await shim.ShimClient.connect(pod_dir)
        task = asyncio.create_task(pod.start(1, shell("sleep 0.2; exit 8"), client=client))
        await asyncio.sleep(0)
        client.close()
        with pytest.raises(shim.ShimClosedError):
            await task
        assert (await pod.exited(1)).exit_code == 8

    run(pod_dir, body)


@pytest.mark.parametrize("argv", [["sleep", "1000"], ["/nothing/here"]])
def test_how_a_start_ended_is_told_to_others_when_who_asked_is_gone(pod_dir: Path, argv: list[str]) -> None:
    """A killed server's successor lists the instance as one that starts, and nobody would ever tell it more."""

    async def body(pod: Pod) -> None:
        reading, writing = os.pipe2(os.O_NONBLOCK)
        with contextlib.suppress(BlockingIOError):
            while True:
                os.write(writing, bytes(4096))
        os.set_blocking(writing, True)
        asking = await shim.ShimClient.connect(pod_dir)
        # Its first step writes to a full pipe: so long it is starting.
        slow = asyncio.create_task(
            pod.start(1, argv, client=asking, before=[op("JOIN_CGROUP", 3)], slots=[writing], clone_flags=0)
        )
        await eventually((pod_dir / "containers" / new_id(1)).exists)
        asking.close()
        with pytest.raises(shim.ShimClosedError):
            await slow
        (record,) = await pod.client.list()
        assert record.state is shim.State.STARTING
        os.read(reading, 1 << 20)
        event = await pod.until(lambda event: isinstance(event, shim.StartEnded))
        assert isinstance(event, shim.StartEnded)
        wanted = shim.State.RUNNING if argv[0] == "sleep" else shim.State.START_FAILED
        assert (event.record.state, event.record) == (wanted, pod.record_on_disk(1))
        os.close(reading)
        os.close(writing)

    run(pod_dir, body)


def test_a_start_that_was_answered_is_no_event(pod_dir: Path) -> None:
    async def body(pod: Pod) -> None:
        await pod.start(1, ["sleep", "1000"])
        with pytest.raises(shim.ShimStartError):
            await pod.start(2, ["/nothing/here"])
        await pod.client.hello()
        assert pod.events() == []

    run(pod_dir, body)


def test_a_full_house_of_clients_gets_every_event(pod_dir: Path) -> None:
    async def body(pod: Pod) -> None:
        seen: list[list[shim.Event]] = []
        clients = []
        for _ in range(63):
            client = await shim.ShimClient.connect(pod_dir)
            seen.append([])
            client.on_event = seen[-1].append
            await client.subscribe()
            clients.append(client)
        with pytest.raises(shim.ShimClosedError) as caught:
            async with await shim.ShimClient.connect(pod_dir) as late:
                await late.hello()
        assert caught.value.number == errno.ENOBUFS
        await pod.start(1, shell("exit 3"))
        record = await pod.exited(1)
        await eventually(lambda: all(events == [shim.Exited(record)] for events in seen))
        for client in clients:
            client.close()
        await eventually(lambda: pod.descriptors() < 20)
        async with await shim.ShimClient.connect(pod_dir) as late:
            await late.hello()

    run(pod_dir, body)


def test_a_client_that_reads_no_events_is_hung_up_on(pod_dir: Path) -> None:
    async def body(pod: Pod) -> None:
        with raw_connection(pod_dir) as deaf:
            send(deaf, wire.pack(wire.new_message("SUBSCRIBE", 1, 0)))
            for number in range(250):
                await pod.start(number, ["true"])
                await pod.exited(number)
                await pod.client.forget(new_id(number))
            # Nobody else noticed; the deaf one finds a piece of the story and its end.
            packets = 0
            while await asyncio.to_thread(deaf.recv, wire.MESSAGE_SIZE + 1):
                packets += 1
            assert 10 < packets < 250

    run(pod_dir, body)


def test_a_client_that_reads_no_answers_is_hung_up_on(pod_dir: Path) -> None:
    async def body(pod: Pod) -> None:
        with raw_connection(pod_dir) as deaf:
            with pytest.raises((BrokenPipeError, ConnectionResetError)):
                for _ in range(10_000):
                    send(deaf, wire.pack(wire.new_message("HELLO", 1, 0)))
            assert (await pod.client.hello()).pid == pod.pid

    run(pod_dir, body)


def test_a_list_waits_for_a_slow_reader(pod_dir: Path) -> None:
    async def body(pod: Pod) -> None:
        for number in range(250):
            await pod.start(number, ["true"])
        for number in range(250):
            await pod.exited(number)
        with raw_connection(pod_dir) as slow:
            send(slow, wire.pack(wire.new_message("LIST", 7, 0)))
            await asyncio.sleep(0.1)
            found = []
            while True:
                message = wire.unpack(await asyncio.to_thread(slow.recv, wire.MESSAGE_SIZE + 1))
                assert message.seq == 7
                if message.type != LIB.NSR_MSG_RECORD:
                    break
                found.append(wire.record(message.u.record).id)
            assert message.type == LIB.NSR_MSG_OK
            assert sorted(found) == [new_id(n) for n in range(250)]

    run(pod_dir, body)


def test_garbage_ends_the_connection_and_nothing_else(pod_dir: Path) -> None:
    rng = random.Random(3)
    sizes = [1, 2, 15, 16, wire.MESSAGE_SIZE - 1, wire.MESSAGE_SIZE + 1, 4096, 100_000]

    async def body(pod: Pod) -> None:
        await pod.start(1, ["sleep", "1000"])
        descriptors = pod.descriptors()
        for size in sizes:
            with raw_connection(pod_dir) as sock:
                send(sock, rng.randbytes(size))
                assert await asyncio.to_thread(sock.recv, 4096) == b""
        with raw_connection(pod_dir) as sock:
            for _ in range(3000):
                # The right size, a type that may be one, the rest of anything.
                packet = bytearray(rng.randbytes(wire.MESSAGE_SIZE))
                struct.pack_into("=IIi", packet, 0, rng.choice([0, *range(5, 15), 99]), 5, rng.choice((0, 1, 2)))
                send(sock, bytes(packet))
                answer = wire.unpack(await asyncio.to_thread(sock.recv, wire.MESSAGE_SIZE + 1))
                assert (answer.type, answer.seq) in (
                    (LIB.NSR_MSG_FAILED, 5),
                    (LIB.NSR_MSG_OK, 5),
                    (LIB.NSR_MSG_RECORD, 5),
                )
        assert [r.id for r in await pod.client.list()] == [new_id(1)]
        await eventually(lambda: pod.descriptors() == descriptors)

    run(pod_dir, body)


def test_wrong_numbers_of_descriptors_are_refused_and_closed(pod_dir: Path) -> None:
    async def body(pod: Pod) -> None:
        await pod.start(1, ["sleep", "1000"])
        descriptors = pod.descriptors()
        reader, writer = os.pipe()
        try:
            with raw_connection(pod_dir) as sock:
                for name, claimed, sent in (
                    ("HELLO", 0, 1),
                    ("HELLO", 1, 1),
                    ("START", 1, 1),
                    ("START", 16, 2),
                    ("START", 2, 0),
                    ("REOPEN", 0, 0),
                    ("REOPEN", 2, 2),
                    ("SANDBOX", 0, 0),
                    ("ATTACH", 3, 3),
                    ("EXEC", 4, 4),
                    ("SIGNAL", 1, 1),
                ):
                    message = wire.new_message(name, 9, claimed)
                    if name in ("REOPEN", "SIGNAL"):
                        wire.put_text(message.u.signal.id, new_id(1))
                    send(sock, wire.pack(message), [writer] * sent)
                    answer = wire.unpack(await asyncio.to_thread(sock.recv, wire.MESSAGE_SIZE + 1))
                    assert (answer.type, answer.seq, answer.error) == (LIB.NSR_MSG_FAILED, 9, errno.EINVAL), name
                # More than a message may carry: the kernel cuts, the shim refuses.
                send(sock, wire.pack(wire.new_message("START", 9, 20)), [writer] * 20)
                answer = wire.unpack(await asyncio.to_thread(sock.recv, wire.MESSAGE_SIZE + 1))
                assert answer.type == LIB.NSR_MSG_FAILED
        finally:
            os.close(writer)
        # Nobody has kept the pipe's write end.
        assert await asyncio.to_thread(os.read, reader, 1) == b""
        os.close(reader)
        await eventually(lambda: pod.descriptors() == descriptors)

    run(pod_dir, body)


def test_ids_and_names_cannot_leave_the_directory(pod_dir: Path) -> None:
    async def body(pod: Pod) -> None:
        log = os.open(pod_dir / "log", os.O_WRONLY | os.O_CREAT)
        try:
            for bad in ("../" + "a" * 61, "A" * 64, "a" * 63, "", "g" * 64):
                with pytest.raises(shim.ShimError) as caught:
                    await pod.client.start(shim.StartRequest(bad, "app", 0, program(["true"]), log))
                assert caught.value.number == errno.EINVAL
                with pytest.raises(shim.ShimError) as caught:
                    await pod.client.kill(bad)
                assert caught.value.number == errno.EINVAL
            for bad in ("", "UP", "a/b", "a b"):
                with pytest.raises(shim.ShimError) as caught:
                    await pod.client.start(shim.StartRequest(new_id(1), bad, 0, program(["true"]), log))
                assert caught.value.number == errno.EINVAL
            with pytest.raises(shim.ShimError) as caught:
                await pod.client.start(shim.StartRequest("a" * 65, "app", 0, program(["true"]), log))
            assert caught.value.number == errno.ENAMETOOLONG
        finally:
            os.close(log)
        assert os.listdir(pod_dir / "containers") == []

    run(pod_dir, body)


def test_sigterm_ends_a_shim_after_its_last_container(pod_dir: Path) -> None:
    async def body(pod: Pod) -> None:
        await pod.start(1, ["sh", "-c", "trap 'echo bye; exit 3' USR1; echo up; while :; do sleep 0.01; done"])
        await eventually(lambda: pod.log(1).content() == b"up\n")
        closed = asyncio.Event()
        pod.client.on_close = closed.set
        os.kill(pod.pid, signal.SIGTERM)
        # It stops nobody, and takes orders as ever.
        assert [record.pid > 0 for record in await pod.client.list()] == [True]
        assert shim.shim_alive(pod_dir)
        await pod.client.signal(new_id(1), signal.SIGUSR1)
        await asyncio.wait_for(closed.wait(), 10)
        await eventually(lambda: not shim.shim_alive(pod_dir))
        assert not (pod_dir / "shim.sock").exists()
        (record,) = shim.read_records(pod_dir)
        assert (record.id, record.exit_code) == (new_id(1), 3)
        assert pod.log(1).content() == b"up\nbye\n"

    run(pod_dir, body)


def test_sigterm_ends_a_shim_without_containers_at_once(pod_dir: Path) -> None:
    async def body(pod: Pod) -> None:
        os.kill(pod.pid, signal.SIGTERM)
        await eventually(lambda: not shim.shim_alive(pod_dir))
        assert not (pod_dir / "shim.sock").exists()

    run(pod_dir, body)


def test_quit_is_for_a_shim_without_work(pod_dir: Path) -> None:
    async def body(pod: Pod) -> None:
        await pod.start(1, ["sleep", "1000"])
        with pytest.raises(shim.ShimError) as caught:
            await pod.client.quit()
        assert caught.value.number == errno.EBUSY
        assert shim.shim_alive(pod_dir)
        await pod.client.kill(new_id(1))
        await pod.exited(1)
        closed = asyncio.Event()
        pod.client.on_close = closed.set
        await pod.client.quit()
        await asyncio.wait_for(closed.wait(), 10)
        await eventually(lambda: not shim.shim_alive(pod_dir))
        assert not (pod_dir / "shim.sock").exists()
        # What it knew stays readable; a new one can take its place.
        assert [r.id for r in shim.read_records(pod_dir)] == [new_id(1)]
        shim.spawn(pod_dir, "test/again")
        async with await shim.ShimClient.connect(pod_dir) as client:
            assert await client.list() == []
            await client.quit()
        await eventually(lambda: not shim.shim_alive(pod_dir))

    run(pod_dir, body)


def test_one_shim_for_a_directory(pod_dir: Path) -> None:
    async def body(pod: Pod) -> None:
        with pytest.raises(shim.ShimError) as caught:
            shim.spawn(pod_dir, "test/second")
        assert caught.value.number == errno.EBUSY
        assert (await pod.client.hello()).pid == pod.pid

    run(pod_dir, body)


def test_spawning_says_what_is_in_the_way(pod_dir: Path) -> None:
    with pytest.raises(shim.ShimError) as caught:
        shim.spawn(pod_dir / "missing", "test/pod")
    assert caught.value.number == errno.ENOENT
    assert not shim.shim_alive(pod_dir / "missing")
    assert shim.read_records(pod_dir / "missing") == []
    (pod_dir / "containers").write_text("not a directory", encoding="ascii")
    with pytest.raises(shim.ShimError) as caught:
        shim.spawn(pod_dir, "test/pod")
    assert caught.value.number == errno.ENOTDIR
    wait_until(lambda: not shim.shim_alive(pod_dir))


def test_a_long_path_is_no_obstacle(pod_dir: Path) -> None:
    deep = pod_dir / ("d" * 200)
    deep.mkdir()

    async def body(pod: Pod) -> None:
        await pod.start(1, ["true"])
        await pod.exited(1)

    run(deep, body)


def test_it_belongs_to_nobody_and_has_a_name(pod_dir: Path) -> None:
    async def body(pod: Pod) -> None:
        words = pod.about("stat").rsplit(b")", 1)[1].split()
        assert int(words[1]) != os.getpid()  # parent
        assert int(words[3]) == pod.pid  # session
        assert pod.about("cmdline") == b"nsrun-shim\0test/pod\0"
        links = [os.readlink(f"/proc/{pod.pid}/fd/{n}") for n in range(3)]
        assert links == ["/dev/null", "/dev/null", str(pod_dir / "shim.log")]
        for number in (signal.SIGHUP, signal.SIGINT, signal.SIGPIPE, signal.SIGUSR1):
            os.kill(pod.pid, number)
        assert (await pod.client.hello()).pid == pod.pid
        assert (pod_dir / "shim.log").read_bytes() == b""
        assert (pod_dir / "shim.sock").stat().st_mode & 0o777 == 0o600

    run(pod_dir, body)


def test_S_SANDBOX_killing_the_shim_ends_its_containers_and_leaves_the_records(pod_dir: Path) -> None:
    async def body(pod: Pod) -> None:
        await pod.start(1, shell("trap '' TERM HUP; sleep 1000 & sleep 1000"))
        await pod.start(2, shell("exit 5"))
        ended = await pod.exited(2)
        running = pod.record_on_disk(1)
        assert running.state is shim.State.RUNNING
        pidfd = native.pidfd_open(running.pid)
        lost = asyncio.Event()
        pod.client.on_close = lost.set
        os.kill(pod.pid, signal.SIGKILL)
        await asyncio.wait_for(lost.wait(), 10)
        await eventually(lambda: not shim.shim_alive(pod_dir))
        try:
            loop = asyncio.get_running_loop()
            gone = asyncio.Event()
            loop.add_reader(pidfd, gone.set)
            await asyncio.wait_for(gone.wait(), 10)
            loop.remove_reader(pidfd)
        finally:
            os.close(pidfd)
        records = {r.id: r for r in shim.read_records(pod_dir)}
        assert records == {new_id(1): running, new_id(2): ended}
        with pytest.raises(shim.ShimClosedError):
            await pod.client.hello()
        with pytest.raises(shim.ShimClosedError) as caught:
            await shim.ShimClient.connect(pod_dir)
        assert caught.value.number == errno.ECONNREFUSED

    run(pod_dir, body)


def test_a_torn_record_is_not_read(pod_dir: Path) -> None:
    async def body(pod: Pod) -> None:
        await pod.start(1, ["true"])
        await pod.exited(1)
        whole = (pod_dir / "containers" / new_id(1)).read_bytes()
        (pod_dir / "containers" / new_id(2)).write_bytes(b"")
        (pod_dir / "containers" / new_id(3)).write_bytes(whole[:-1])
        (pod_dir / "containers" / new_id(4)).write_bytes(bytes(len(whole)))
        (pod_dir / "containers" / new_id(5)).write_bytes(whole)  # another's
        assert [r.id for r in shim.read_records(pod_dir)] == [new_id(1)]

    run(pod_dir, body)


def test_events_as_an_iterator(pod_dir: Path) -> None:
    async def body(pod: Pod) -> None:
        client = await shim.ShimClient.connect(pod_dir)

        async def collect() -> list[shim.Event]:
            return [event async for event in client.events()]

        task = asyncio.create_task(collect())
        await client.hello()
        for number in (1, 2):
            await pod.start(number, ["true"])
            await pod.exited(number)
        await client.hello()
        client.close()
        assert [e.record.id for e in await task if isinstance(e, shim.Exited)] == [new_id(1), new_id(2)]

    run(pod_dir, body)


def test_a_cancelled_request_leaks_no_descriptor(pod_dir: Path) -> None:
    async def body(pod: Pod) -> None:
        before = len(os.listdir("/proc/self/fd"))
        for _ in range(20):
            task = asyncio.create_task(pod.client.network())
            await asyncio.sleep(0)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
        await pod.client.hello()
        assert len(os.listdir("/proc/self/fd")) == before

    run(pod_dir, body)


@pytest.mark.skipif("NSRUN_SANITIZE" in os.environ, reason="a sanitizer's shadow is not the shim's memory")
def test_memory_with_three_containers(pod_dir: Path) -> None:
    async def body(pod: Pod) -> None:
        await pod.client.sandbox(native.encode([op("UNSHARE", LIB.CLONE_NEWNET | LIB.CLONE_NEWUTS), op("LOOPBACK_UP")]))
        for number in range(3):
            await pod.start(number, shell("seq 500000; seq 500000 >&2; printf waiting; sleep 1000"))
        paths = [pod.log_paths[new_id(number)] for number in range(3)]
        # 3,388,895 bytes of numbered lines and 40 more for each line, twice.
        await eventually(lambda: all(path.stat().st_size == 2 * (3_388_895 + 40 * 500_000) for path in paths))
        # It is calm again after a second or two without much output.
        await eventually(lambda: pod.memory_kb() <= PRIVATE_KB, 20)

    run(pod_dir, body, timeout_s=50)


def test_a_blocked_log_costs_what_waits_and_no_more(pod_dir: Path) -> None:
    async def body(pod: Pod) -> None:
        log = os.open("log", os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, dir_fd=full)
        try:
            await pod.start(1, ["seq", "3000000"], log_fd=log)
        finally:
            os.close(log)
        await pod.until(lambda e: isinstance(e, shim.LogBlocked))
        await asyncio.sleep(2.5)
        assert pod.memory_kb() < 8192
        # The writer waits for room: all that it could write is in its pipe.
        assert pod.record_on_disk(1).state is shim.State.RUNNING

    with tmpfs(1 << 20) as full:
        run(pod_dir, body)


def test_thousands_of_containers_leave_no_trace_in_it(pod_dir: Path) -> None:
    async def body(pod: Pod) -> None:
        async def some(count: int) -> tuple[int, int]:
            for number in range(count):
                await pod.start(number, shell("echo x"))
                await pod.exited(number)
                await pod.client.forget(new_id(number))
                pod.forget_events()
            await asyncio.sleep(2.5)
            return pod.memory_kb(b"Private_Dirty:"), pod.descriptors()

        first = await some(100)
        later = await some(1000)
        assert later[1] == first[1]
        assert later[0] <= first[0] + 16

    run(pod_dir, body, timeout_s=55)
