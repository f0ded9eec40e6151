"""Everything at once, in an order that a seed chooses; afterwards nothing is lost and nothing is left."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import random
import socket
from pathlib import Path

import pytest

from nsrun import shim
from tests.ns.shim.harness import LogFile, Pod, eventually, execute, new_id, run, shell

pytestmark = [pytest.mark.requires("root"), pytest.mark.timeout(90)]

ROUNDS = 60
TASKS = 6


@pytest.mark.parametrize("seed", [1, 2])
def test_everything_at_once(pod_dir: Path, seed: int) -> None:
    async def body(pod: Pod) -> None:
        before = pod.descriptors()
        rng = random.Random(seed)
        await asyncio.gather(*(worker(pod, task, random.Random(rng.random())) for task in range(TASKS)))
        await eventually(lambda: pod.descriptors() == before)
        assert await pod.client.list() == []
        hello = await pod.client.hello()
        assert (hello.running, hello.known) == (0, 0)
        assert os.listdir(pod.directory / "containers") == []

    run(pod_dir, body, timeout_s=80)


async def worker(pod: Pod, task: int, rng: random.Random) -> None:
    for turn in range(ROUNDS):
        number = task * 1000 + turn
        await rng.choice((ends_by_itself, killed, restarted_client, entered, watched, rotated, fails))(pod, number, rng)


async def finish(pod: Pod, number: int) -> shim.Record:
    record = await pod.exited(number)
    assert pod.record_on_disk(number) == record
    await pod.client.forget(new_id(number))
    return record


def numbers(last: int) -> bytes:
    return b"".join(b"%d\n" % n for n in range(1, last + 1))


async def ends_by_itself(pod: Pod, number: int, rng: random.Random) -> None:
    last, code = rng.randrange(20000), rng.randrange(256)
    await pod.start(number, shell(f"seq {last}; exit {code}"))
    assert (await finish(pod, number)).exit_code == code
    assert pod.log(number).content() == numbers(last)


async def killed(pod: Pod, number: int, rng: random.Random) -> None:
    await pod.start(number, shell("seq 50000; exec sleep 1000"))
    await asyncio.sleep(rng.random() * 0.01)
    await pod.client.kill(new_id(number))
    assert (await finish(pod, number)).exit_code == 137
    # Up to a point that the kill chose, which may be within a line.
    assert numbers(50000).startswith(pod.log(number).content())


async def restarted_client(pod: Pod, number: int, rng: random.Random) -> None:
    client = await shim.ShimClient.connect(pod.directory)
    start = asyncio.create_task(pod.start(number, shell("echo x; sleep 0.01; exit 3"), client=client))
    await asyncio.sleep(rng.choice((0, 0, 0.001)))
    client.close()
    with contextlib.suppress(shim.ShimClosedError):
        await start
    assert (await finish(pod, number)).exit_code == 3


async def entered(pod: Pod, number: int, rng: random.Random) -> None:
    await pod.start(number, ["sleep", "1000"])
    async with execute(pod, number, shell("echo in; exit 4"), terminal=rng.random() < 0.3) as one:
        status = await one.next()
        assert status is not None
        assert status.kind == "started"
        if rng.random() < 0.5:
            ended = await one.next()
            assert ended is not None
            # 129 when closing our end of the terminal was faster.
            assert ended.exit_code == 4
        if status.terminal is not None:
            os.close(status.terminal)
    await pod.client.kill(new_id(number))
    await finish(pod, number)


async def watched(pod: Pod, number: int, rng: random.Random) -> None:
    last = rng.randrange(1000)
    await pod.start(number, shell(f"read go; seq {last}"), flags=shim.StartFlag.STDIN | shim.StartFlag.STDIN_ONCE)
    ours, theirs = socket.socketpair()
    stdin = await pod.client.attach(new_id(number), output_fd=theirs.fileno(), stdin=True)
    theirs.close()
    assert stdin is not None
    gone = rng.random() < 0.3
    if gone:
        ours.close()
    os.write(stdin, b"go\n")
    os.close(stdin)
    assert (await finish(pod, number)).exit_code == 0
    assert pod.log(number).content() == numbers(last)
    if not gone:
        got = bytearray()
        while data := await asyncio.to_thread(ours.recv, 65536):
            got += data
        ours.close()
        assert bytes(got) == numbers(last)


async def rotated(pod: Pod, number: int, rng: random.Random) -> None:
    last = rng.randrange(50000)
    await pod.start(number, ["seq", str(last)])
    path = pod.log_paths[new_id(number)]
    content = b""
    for turn in range(3):
        old = path.with_suffix(f".{turn}")
        path.rename(old)
        fresh = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC)
        try:
            await pod.client.reopen(new_id(number), fresh)
        except shim.ShimError as error:
            assert error.number == errno.ESRCH  # it was faster
        finally:
            os.close(fresh)
        content += LogFile(old.read_bytes()).content()
    assert (await finish(pod, number)).exit_code == 0
    assert content + pod.log(number).content() == numbers(last)


async def fails(pod: Pod, number: int, rng: random.Random) -> None:
    with pytest.raises(shim.ShimStartError):
        await pod.start(number, [rng.choice(("/no/such", "/etc/passwd", "/"))])
    await pod.client.forget(new_id(number))
