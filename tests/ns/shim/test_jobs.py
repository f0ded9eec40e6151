"""Processes in a container that go on when nobody waits for them, and are begun once."""

from __future__ import annotations

import asyncio
import errno
import os
import resource
import signal
from collections.abc import Sequence
from pathlib import Path

import pytest

from nsrun import shim
from tests.ns.shim.harness import (
    LIB,
    Pod,
    cgroup,
    eventually,
    kill_shim,
    new_id,
    program,
    run,
    shell,
)

pytestmark = [pytest.mark.requires("root"), pytest.mark.timeout(60)]


async def begin(
    pod: Pod, number: int, argv: Sequence[str], name: str = "hook", client: shim.ShimClient | None = None
) -> None:
    await (client or pod.client).job(
        shim.JobRequest(target=new_id(number), name=name, program=program(argv), join_flags=LIB.CLONE_NEWNS)
    )


async def ended(pod: Pod, number: int, name: str = "hook") -> shim.Job:
    """What is in its file when its end is told."""
    target = new_id(number)
    event = await pod.until(lambda e: isinstance(e, shim.JobEnded) and (e.record.id, e.record.name) == (target, name))
    job = shim.read_job(pod.directory, target, name)
    assert job is not None
    assert isinstance(event, shim.JobEnded)
    assert event.record == job.record
    return job


def output_of(pod: Pod, number: int, name: str = "hook") -> bytes:
    """What a job has written so far."""
    job = shim.read_job(pod.directory, new_id(number), name)
    return b"" if job is None else job.output


def test_S_HOOK_output_and_exit_code_are_kept(pod_dir: Path) -> None:
    async def body(pod: Pod) -> None:
        root = await pod.start(1, ["sleep", "1000"])
        await begin(pod, 1, shell("echo out; echo err >&2; readlink /proc/self/ns/mnt; cat; exit 3"))
        job = await ended(pod, 1)
        assert job.ended
        assert job.record.exit_code == 3
        assert job.record.state is shim.State.EXITED
        assert 0 < job.record.started_ns <= job.record.finished_ns
        assert job.output.split() == [b"out", b"err", os.readlink(f"/proc/{root.pid}/ns/mnt").encode()]
        assert job.record.log_bytes == len(job.output)
        assert pod.log(1).entries == []
        assert [record.id for record in await pod.client.list()] == [new_id(1)]

    run(pod_dir, body)


def test_S_HOOK_a_job_is_begun_once_whoever_asks(pod_dir: Path) -> None:
    async def body(pod: Pod) -> None:
        await pod.start(1, ["sleep", "1000"])
        marks = pod_dir / "marks"
        async with await shim.ShimClient.connect(pod_dir) as other:
            results = await asyncio.gather(
                *(begin(pod, 1, shell(f"echo x >> {marks}"), client=one) for one in (pod.client, other, pod.client)),
                return_exceptions=True,
            )
        refused = [result for result in results if result is not None]
        assert [result.number for result in refused if isinstance(result, shim.ShimError)] == [errno.EEXIST] * 2
        assert (await ended(pod, 1)).record.exit_code == 0
        with pytest.raises(shim.ShimError) as failure:  # not when it has ended either
            await begin(pod, 1, ["true"])
        assert failure.value.number == errno.EEXIST
        await begin(pod, 1, ["true"], name="another")
        await ended(pod, 1, "another")
        assert marks.read_text() == "x\n"

    run(pod_dir, body)


def test_S_HOOK_a_job_goes_on_without_who_asked_for_it(pod_dir: Path) -> None:
    async def body(pod: Pod) -> None:
        await pod.start(1, ["sleep", "1000"])
        client = await shim.ShimClient.connect(pod_dir)
        await begin(pod, 1, shell("echo early; sleep 0.3; echo late; exit 4"), client=client)
        client.close()
        early = shim.read_job(pod_dir, new_id(1), "hook")
        assert early is not None
        assert not early.ended
        job = await ended(pod, 1)
        assert (job.record.exit_code, job.output) == (4, b"early\nlate\n")

    run(pod_dir, body)


def test_S_HOOK_only_the_beginning_of_much_output_is_kept_and_nobody_waits(pod_dir: Path) -> None:
    async def body(pod: Pod) -> None:
        await pod.start(1, ["sleep", "1000"])
        before = pod.memory_kb()
        await begin(pod, 1, shell("head -c 200000000 /dev/zero | tr '\\0' y; echo >&2; exit 5"))
        job = await ended(pod, 1)
        assert (job.record.exit_code, job.output) == (5, b"y" * LIB.NSR_JOB_OUTPUT)
        assert pod.memory_kb() - before < 256

    run(pod_dir, body)


def test_S_HOOK_what_a_job_leaves_running_keeps_its_output_and_ends_with_the_container(pod_dir: Path) -> None:
    async def body(pod: Pod) -> None:
        await pod.start(1, ["sleep", "1000"])
        descriptors = pod.descriptors()
        ticks = pod_dir / "ticks"
        # A write to a pipe that nobody reads would end it with SIGPIPE.
        await begin(pod, 1, shell(f"(while sleep 0.01; do echo tick; echo >> {ticks}; done) & exit 0"))
        job = await ended(pod, 1)
        assert job.record.exit_code == 0
        count = ticks.stat().st_size if ticks.exists() else 0
        await eventually(lambda: ticks.exists() and ticks.stat().st_size > count + 5)
        assert shim.read_job(pod_dir, new_id(1), "hook") == job
        assert (await pod.client.hello()).running == 1
        await pod.client.kill(new_id(1))
        await pod.exited(1)
        size = ticks.stat().st_size
        await asyncio.sleep(0.1)
        assert ticks.stat().st_size == size
        assert pod.descriptors() < descriptors
        await pod.client.quit()

    run(pod_dir, body)


@pytest.mark.requires("cgroup2")
def test_S_HOOK_a_job_is_in_the_cgroup_of_its_container(pod_dir: Path) -> None:
    async def body(pod: Pod) -> None:
        with cgroup() as path:
            fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            try:
                await pod.start(1, ["sleep", "1000"], cgroup_fd=fd)
                await begin(pod, 1, shell("cat /proc/self/cgroup; sleep 1000"))
                await eventually(lambda: path.name.encode() in output_of(pod, 1))
                await pod.client.kill(new_id(1))
                job = await ended(pod, 1)
            finally:
                os.close(fd)
            assert job.record.signal == signal.SIGKILL

    run(pod_dir, body)


def test_S_HOOK_a_job_ends_with_its_container(pod_dir: Path) -> None:
    async def body(pod: Pod) -> None:
        await pod.start(1, shell("sleep 0.2"))
        await begin(pod, 1, shell("trap '' TERM HUP INT; while :; do sleep 1000; done"))
        job = await ended(pod, 1)
        assert job.record.signal == signal.SIGKILL
        with pytest.raises(shim.ShimError) as failure:
            await begin(pod, 1, ["true"], name="late")
        assert failure.value.number == errno.ESRCH
        assert shim.read_job(pod_dir, new_id(1), "late") is None
        with pytest.raises(shim.ShimError) as failure:
            await begin(pod, 2, ["true"])
        assert failure.value.number == errno.ENOENT

    run(pod_dir, body)


def test_S_HOOK_a_command_that_is_missing_is_told_in_the_file(pod_dir: Path) -> None:
    async def body(pod: Pod) -> None:
        await pod.start(1, ["sleep", "1000"])
        descriptors = pod.descriptors()
        await begin(pod, 1, ["/no/such"])
        job = await ended(pod, 1)
        assert job.record.state is shim.State.START_FAILED
        assert job.record.report is not None
        assert (job.record.report.op, job.record.report.error) == ("EXEC", errno.ENOENT)
        assert job.record.report.subject == "/no/such"
        await eventually(lambda: pod.descriptors() == descriptors)

    run(pod_dir, body)


def test_S_HOOK_jobs_of_a_shim_that_was_killed(pod_dir: Path) -> None:
    async def body(pod: Pod) -> None:
        await pod.start(1, ["sleep", "1000"])
        await begin(pod, 1, ["true"], name="done")
        await ended(pod, 1, "done")
        await begin(pod, 1, shell("echo $$; sleep 1000"))
        await eventually(lambda: output_of(pod, 1) != b"")
        job = shim.read_job(pod_dir, new_id(1), "hook")
        assert job is not None
        pid = job.record.pid
        kill_shim(pod_dir, pod.pid)
        await eventually(lambda: not Path(f"/proc/{pid}/root/bin").exists())
        job = shim.read_job(pod_dir, new_id(1), "hook")
        assert job is not None
        assert not job.ended
        done = shim.read_job(pod_dir, new_id(1), "done")
        assert done is not None
        assert done.record.exit_code == 0
        shim.forget_jobs(pod_dir, new_id(1))
        assert os.listdir(pod_dir / "jobs") == []
        assert shim.read_job(pod_dir, new_id(1), "done") is None

    run(pod_dir, body)


def test_S_HOOK_a_full_disk_is_an_error_of_the_job_and_nothing_ran(pod_dir: Path) -> None:
    async def body(pod: Pod) -> None:
        await pod.start(1, ["sleep", "1000"])
        descriptors = pod.descriptors()
        before = resource.prlimit(pod.pid, resource.RLIMIT_FSIZE)
        mark = pod_dir / "mark"
        # A file that may not grow is what a full disk is to a write, once SIGXFSZ is blocked, as the shim has it.
        resource.prlimit(pod.pid, resource.RLIMIT_FSIZE, (100, before[1]))
        with pytest.raises(shim.ShimError) as failure:
            await begin(pod, 1, shell(f"echo ran > {mark}"))
        assert failure.value.number in (errno.ENOSPC, errno.EFBIG)
        assert os.listdir(pod_dir / "jobs") == []
        await eventually(lambda: pod.descriptors() <= descriptors)
        resource.prlimit(pod.pid, resource.RLIMIT_FSIZE, before)
        assert not mark.exists()
        await begin(pod, 1, shell(f"echo ran > {mark}"))
        assert (await ended(pod, 1)).record.exit_code == 0
        assert mark.read_text() == "ran\n"

    run(pod_dir, body)


def test_S_HOOK_output_that_finds_no_room_is_dropped_and_the_end_is_told(pod_dir: Path) -> None:
    async def body(pod: Pod) -> None:
        await pod.start(1, ["sleep", "1000"])
        go = pod_dir / "go"
        await begin(pod, 1, shell(f"while [ ! -e {go} ]; do sleep 0.01; done; yes | head -c 9000; exit 6"))
        before = resource.prlimit(pod.pid, resource.RLIMIT_FSIZE)
        size = (pod_dir / "jobs" / f"{new_id(1)}.hook").stat().st_size
        resource.prlimit(pod.pid, resource.RLIMIT_FSIZE, (size, before[1]))
        go.touch()
        job = await ended(pod, 1)
        resource.prlimit(pod.pid, resource.RLIMIT_FSIZE, before)
        assert (job.record.exit_code, job.output, job.record.log_bytes) == (6, b"", 0)
        assert job.record.log_error == errno.EFBIG

    run(pod_dir, body)


def test_S_HOOK_bounds(pod_dir: Path) -> None:
    async def body(pod: Pod) -> None:
        await pod.start(1, ["sleep", "1000"])
        for number in range(128):
            await begin(pod, 1, ["sleep", "1000"], name=f"job-{number}")
        with pytest.raises(shim.ShimError) as failure:
            await begin(pod, 1, ["sleep", "1000"], name="one-more")
        assert failure.value.number == errno.ENOBUFS
        assert shim.read_job(pod_dir, new_id(1), "one-more") is None
        await pod.client.kill(new_id(1))
        await pod.exited(1)
        await eventually(lambda: sum(isinstance(event, shim.JobEnded) for event in pod.events()) == 128)
        await pod.start(2, ["sleep", "1000"])
        await begin(pod, 2, ["true"])
        await ended(pod, 2)

    run(pod_dir, body)


def test_S_TERM_only_the_stop_signal_is_noted_and_the_latest_counts(pod_dir: Path) -> None:
    async def body(pod: Pod) -> None:
        await pod.start(1, shell("trap '' HUP TERM USR1; while :; do sleep 0.05; done"))
        await pod.client.signal(new_id(1), signal.SIGHUP)
        assert pod.record_on_disk(1).stop_signal == 0
        await pod.client.signal(new_id(1), signal.SIGTERM, stop=True)
        first = pod.record_on_disk(1)
        assert first.stop_signal == signal.SIGTERM
        await pod.client.signal(new_id(1), signal.SIGHUP)
        assert pod.record_on_disk(1) == first
        await pod.client.signal(new_id(1), signal.SIGUSR1, stop=True)
        second = pod.record_on_disk(1)
        assert second.stop_signal == signal.SIGUSR1
        assert second.stop_ns > first.stop_ns
        await pod.client.kill(new_id(1))
        record = await pod.exited(1)
        assert (record.stop_signal, record.stop_ns) == (second.stop_signal, second.stop_ns)
        await pod.start(2, ["sleep", "1000"])
        await pod.client.kill(new_id(2))
        assert (await pod.exited(2)).stop_signal == signal.SIGKILL

    run(pod_dir, body)
