"""Containers: starting, ending, being signalled; what is remembered of them."""

from __future__ import annotations

import asyncio
import errno
import os
import resource
import signal
from pathlib import Path

import pytest

from nsrun import native, shim
from tests.ns.shim.harness import LIB, Pod, cgroup, eventually, new_id, op, program, run, shell, tmpfs, wait_until

pytestmark = [pytest.mark.requires("root"), pytest.mark.timeout(60)]


def test_S_REASONS_exit_codes_are_kept(pod_dir: Path) -> None:
    async def body(pod: Pod) -> None:
        for number, code in enumerate((0, 1, 7, 127, 255)):
            started = await pod.start(number, shell(f"exit {code}"))
            assert started.state is shim.State.RUNNING
            assert started.name == f"app-{number}"
            assert started.attempt == number
            record = await pod.exited(number)
            assert record.exit_code == code
            assert record.signal is None
            assert record.pid == started.pid
            assert 0 < record.started_ns <= record.finished_ns
            assert record.stop_signal == 0

    run(pod_dir, body)


def test_S_REASONS_death_by_a_signal_of_its_own(pod_dir: Path) -> None:
    async def body(pod: Pod) -> None:
        # Not PID 1 of a namespace: such a one cannot be hit by its own signals.
        await pod.start(1, shell("kill -SEGV $$"), clone_flags=0)
        record = await pod.exited(1)
        assert record.signal == signal.SIGSEGV
        assert record.exit_code == 128 + signal.SIGSEGV
        assert record.stop_signal == 0

    run(pod_dir, body)


def test_S_TERM_a_stop_signal_reaches_the_root_process_and_is_remembered(pod_dir: Path) -> None:
    async def body(pod: Pod) -> None:
        await pod.start(
            1, shell("trap 'echo usr1' USR1; trap 'echo term; exit 3' TERM; echo ready; while :; do sleep 0.05; done")
        )
        await eventually(lambda: b"ready" in pod.log(1).content())
        await pod.client.signal(new_id(1), 0)
        assert pod.record_on_disk(1).stop_signal == 0
        await pod.client.signal(new_id(1), signal.SIGUSR1, stop=True)
        await eventually(lambda: b"usr1" in pod.log(1).content())
        on_disk = pod.record_on_disk(1)
        assert on_disk.stop_signal == signal.SIGUSR1
        assert on_disk.stop_ns > on_disk.started_ns
        await pod.client.signal(new_id(1), signal.SIGTERM)
        record = await pod.exited(1)
        assert record.exit_code == 3
        assert record.stop_signal == signal.SIGUSR1
        assert record.stop_ns == on_disk.stop_ns
        with pytest.raises(shim.ShimError) as caught:
            await pod.client.signal(new_id(1), signal.SIGTERM)
        assert caught.value.number == errno.ESRCH
        with pytest.raises(shim.ShimError) as caught:
            await pod.client.signal(new_id(99), signal.SIGTERM)
        assert caught.value.number == errno.ENOENT

    run(pod_dir, body)


def test_S_TERM_kill_ends_every_process_of_the_pid_namespace(pod_dir: Path) -> None:
    async def body(pod: Pod) -> None:
        await pod.start(1, shell("trap '' TERM; setsid sleep 1000 & sleep 1000 & wait"))
        await eventually(lambda: len(children_of(pod.record_on_disk(1).pid)) == 2)
        below = children_of(pod.record_on_disk(1).pid)
        await pod.client.kill(new_id(1))
        record = await pod.exited(1)
        assert record.signal == signal.SIGKILL
        assert record.stop_signal == signal.SIGKILL
        wait_until(lambda: not any(Path(f"/proc/{pid}").exists() for pid in below))

    run(pod_dir, body)


def children_of(pid: int) -> list[int]:
    try:
        return [int(word) for word in Path(f"/proc/{pid}/task/{pid}/children").read_text(encoding="ascii").split()]
    except OSError:
        return []


def test_S_REASONS_a_missing_command_is_a_failed_start_with_its_step(pod_dir: Path) -> None:
    async def body(pod: Pod) -> None:
        with pytest.raises(shim.ShimStartError) as caught:
            await pod.start(1, ["/no/such/command"])
        report = caught.value.report
        assert (report.op, report.error, report.subject) == ("EXEC", errno.ENOENT, "/no/such/command")
        assert report.step == 6
        (record,) = await pod.client.list()
        assert record.state is shim.State.START_FAILED
        assert record.report == report
        assert record.started_ns == 0
        assert record.finished_ns > 0
        assert pod.record_on_disk(1) == record
        # It never ran: there is no exit to tell.
        await pod.start(2, ["true"])
        await pod.exited(2)
        assert [e.record.id for e in pod.events() if isinstance(e, shim.Exited)] == [new_id(2)]
        await pod.client.forget(new_id(1))
        assert [r.id for r in await pod.client.list()] == [new_id(2)]

    run(pod_dir, body)


def test_clone_errors_are_failed_starts(pod_dir: Path) -> None:
    async def body(pod: Pod) -> None:
        directory = os.open("/", os.O_RDONLY | os.O_DIRECTORY)
        try:
            with pytest.raises(shim.ShimError) as caught:
                await pod.start(1, ["true"], cgroup_fd=directory)  # not of a cgroup2 tree
        finally:
            os.close(directory)
        assert caught.value.number == errno.EBADF
        (record,) = await pod.client.list()
        assert record.state is shim.State.START_FAILED
        assert record.report is not None
        assert record.report.error == errno.EBADF
        with pytest.raises(shim.ShimError) as caught:
            await pod.start(2, ["true"], clone_flags=0x100)  # CLONE_VM is no namespace
        assert caught.value.number == errno.EINVAL

    run(pod_dir, body)


@pytest.mark.requires("cgroup2")
def test_a_slow_start_stops_nobody_else(pod_dir: Path) -> None:
    async def body(pod: Pod) -> None:
        # Frozen from birth: a program that takes its time.
        (freezer / "cgroup.freeze").write_text("1", encoding="ascii")
        directory = os.open(freezer, os.O_RDONLY | os.O_DIRECTORY)
        try:
            slow = asyncio.create_task(pod.start(1, shell("exit 9"), cgroup_fd=directory))
            await eventually(lambda: (freezer / "cgroup.procs").read_text(encoding="ascii") != "")
        finally:
            os.close(directory)
        assert pod.record_on_disk(1).state is shim.State.STARTING
        await pod.start(2, shell("echo quick; exit 4"))
        assert (await pod.exited(2)).exit_code == 4
        assert pod.log(2).content() == b"quick\n"
        assert not slow.done()
        with pytest.raises(shim.ShimError) as caught:
            await pod.client.quit()
        assert caught.value.number == errno.EBUSY
        (freezer / "cgroup.freeze").write_text("0", encoding="ascii")
        assert (await slow).id == new_id(1)
        assert (await pod.exited(1)).exit_code == 9

    with cgroup() as freezer:
        run(pod_dir, body)


@pytest.mark.requires("cgroup2")
@pytest.mark.parametrize("killed", [False, True])
def test_S_TERM_an_end_takes_the_rest_of_the_cgroup_along(pod_dir: Path, *, killed: bool) -> None:
    async def body(pod: Pod) -> None:
        directory = os.open(group, os.O_RDONLY | os.O_DIRECTORY)
        try:
            # No PID namespace: only the cgroup holds what the container leaves behind.
            script = "setsid sleep 1000 & echo left; " + ("exec sleep 1000" if killed else "exit 6")
            await pod.start(1, shell(script), cgroup_fd=directory, clone_flags=0)
        finally:
            os.close(directory)
        await eventually(lambda: b"left" in pod.log(1).content())
        if killed:
            await pod.client.kill(new_id(1))
        assert (await pod.exited(1)).exit_code == (137 if killed else 6)
        await eventually(lambda: (group / "cgroup.procs").read_text(encoding="ascii") == "")

    with cgroup() as group:
        run(pod_dir, body)


def test_the_record_is_on_disk_before_the_exit_is_told(pod_dir: Path) -> None:
    async def body(pod: Pod) -> None:
        seen: list[tuple[shim.Record, shim.Record]] = []

        def compare(event: shim.Event) -> None:
            if isinstance(event, shim.Exited):
                seen.append((event.record, pod.record_on_disk(event.record.attempt)))

        pod.client.on_event = compare
        for number in range(30):
            await pod.start(number, shell(f"echo {number}; exit {number}"))
        await eventually(lambda: len(seen) == 30)
        for told, on_disk in seen:
            assert told == on_disk
            assert told.exit_code == told.attempt
            # All of its output was in the log by then.
            assert pod.log(told.attempt).content() == f"{told.attempt}\n".encode()
            assert told.log_bytes == len(pod.log(told.attempt).data)

    run(pod_dir, body)


def test_a_full_disk_under_the_records_is_an_error_of_the_start(pod_dir: Path) -> None:
    with tmpfs(65536) as full:
        small = Path(f"/proc/self/fd/{full}")

        async def body(pod: Pod) -> None:
            log = os.open(pod_dir / "log", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
            try:
                filler = os.open("filler", os.O_WRONLY | os.O_CREAT, dir_fd=full)
                try:
                    with pytest.raises(OSError, match="No space"):
                        while True:
                            os.write(filler, bytes(4096))
                    with pytest.raises(shim.ShimError) as caught:
                        await pod.start(1, ["true"], log_fd=log)
                    assert caught.value.number == errno.ENOSPC
                    assert await pod.client.list() == []
                    assert os.listdir(small / "containers") == []
                    os.ftruncate(filler, 0)
                finally:
                    os.close(filler)
                await pod.start(1, ["true"], log_fd=log)
                assert (await pod.exited(1)).exit_code == 0
            finally:
                os.close(log)

        run(small, body)


def test_an_id_is_used_once(pod_dir: Path) -> None:
    async def body(pod: Pod) -> None:
        await pod.start(1, ["sleep", "1000"])
        with pytest.raises(shim.ShimError) as caught:
            await pod.start(1, ["true"])
        assert caught.value.number == errno.EEXIST
        with pytest.raises(shim.ShimError) as caught:
            await pod.client.forget(new_id(1))
        assert caught.value.number == errno.EBUSY
        await pod.client.kill(new_id(1))
        await pod.exited(1)
        await pod.client.forget(new_id(1))
        assert shim.read_records(pod_dir) == []
        with pytest.raises(shim.ShimError) as caught:
            await pod.client.forget(new_id(1))
        assert caught.value.number == errno.ENOENT
        await pod.start(1, ["true"])
        await pod.exited(1)

    run(pod_dir, body)


def test_a_full_table_says_so(pod_dir: Path) -> None:
    async def body(pod: Pod) -> None:
        descriptors = pod.descriptors()
        for number in range(256):
            await pod.start(number, ["true"])
        with pytest.raises(shim.ShimError) as caught:
            await pod.start(256, ["true"])
        assert caught.value.number == errno.ENOBUFS
        for number in range(256):
            await pod.exited(number)
        records = await pod.client.list()
        assert sorted(r.id for r in records) == [new_id(n) for n in range(256)]
        assert {r.exit_code for r in records} == {0}
        for number in range(256):
            await pod.client.forget(new_id(number))
        assert await pod.client.list() == []
        await pod.start(256, ["true"])
        await pod.exited(256)
        assert pod.descriptors() == descriptors

    run(pod_dir, body, timeout_s=50)


def test_S_NS_the_sandbox_is_the_shims_own_and_shared(pod_dir: Path) -> None:
    async def body(pod: Pod) -> None:
        flags = LIB.CLONE_NEWNET | LIB.CLONE_NEWUTS | LIB.CLONE_NEWIPC
        sandbox = [op("UNSHARE", flags), op("HOSTNAME", strings=["box"]), op("LOOPBACK_UP")]
        assert not (await pod.client.hello()).sandbox_ready
        await pod.client.sandbox(native.encode(sandbox))
        assert (await pod.client.hello()).sandbox_ready
        with pytest.raises(shim.ShimError) as caught:
            await pod.client.sandbox(native.encode(sandbox))
        assert caught.value.number == errno.EALREADY

        namespace, netlink = await pod.client.network()
        try:
            inside = os.readlink(f"/proc/self/fd/{namespace}")
            assert inside != os.readlink("/proc/self/ns/net")
            # RTM_GETLINK, dump: the socket answers with the sandbox's links, of which lo is the only one.
            netlink.settimeout(10)
            netlink.send(b"\x14\0\0\0\x12\0\x01\x03\x01\0\0\0\0\0\0\0\0\0\0\0")
            assert b"lo\0" in await asyncio.to_thread(netlink.recv, 65536)
        finally:
            os.close(namespace)
            netlink.close()
        for number in (1, 2):
            await pod.start(number, shell("readlink /proc/self/ns/net; hostname"), clone_flags=0)
            await pod.exited(number)
            assert pod.log(number).content().decode().split() == [inside, "box"]

    run(pod_dir, body)


def test_a_failing_sandbox_names_its_step(pod_dir: Path) -> None:
    async def body(pod: Pod) -> None:
        wrong = [op("UNSHARE", LIB.CLONE_NEWNET), op("SYSCTL", strings=["net/no/such", "1"])]
        with pytest.raises(shim.ShimStartError) as caught:
            await pod.client.sandbox(native.encode(wrong))
        assert (caught.value.report.step, caught.value.report.op) == (1, "SYSCTL")
        assert caught.value.report.error == errno.ENOENT
        assert not (await pod.client.hello()).sandbox_ready

    run(pod_dir, body)


def test_a_container_inherits_nothing_of_the_shim(pod_dir: Path) -> None:
    async def body(pod: Pod) -> None:
        await pod.start(1, ["sleep", "1000"], flags=shim.StartFlag.STDIN)
        await pod.start(
            2,
            shell("ls /proc/self/fd; ulimit -n; grep -E '^Sig(Blk|Ign)' /proc/self/status"),
            clone_flags=LIB.CLONE_NEWNS,
        )
        await pod.exited(2)
        words = pod.log(2).content().decode().split()
        # 3 is the directory that ls reads.
        assert words[:4] == ["0", "1", "2", "3"]
        assert words[4] == str(resource.getrlimit(resource.RLIMIT_NOFILE)[0])
        assert words[5:] == ["SigBlk:", "0" * 16, "SigIgn:", "0" * 16]

    run(pod_dir, body)


def test_orphans_without_a_pid_namespace_are_reaped(pod_dir: Path) -> None:
    async def body(pod: Pod) -> None:
        await pod.start(1, shell("(sleep 0.1; exit 5) & echo $!; exit 0"), clone_flags=0)
        await pod.exited(1)
        orphan = int(pod.log(1).content())
        await eventually(lambda: not Path(f"/proc/{orphan}").exists())

    run(pod_dir, body)


def test_a_program_that_is_none_is_refused(pod_dir: Path) -> None:
    async def body(pod: Pod) -> None:
        good = program(["true"])
        for bad in (b"", b"x", good[:-8], good + bytes(8), bytes(len(good)), b"\xff" * 4096):
            log = os.open(pod_dir / "log", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
            try:
                with pytest.raises(shim.ShimError) as caught:
                    await pod.client.start(shim.StartRequest(new_id(1), "app", 0, bad, log))
            finally:
                os.close(log)
            assert caught.value.number == errno.EINVAL
            assert not isinstance(caught.value, shim.ShimStartError)
        assert await pod.client.list() == []

    run(pod_dir, body)


def test_S_RESTART_a_container_has_one_living_instance_and_each_attempt_once(pod_dir: Path) -> None:
    """The request of a killed server may come after that of the next one."""

    async def body(pod: Pod) -> None:
        await pod.start(1, ["sleep", "1000"], name="app", attempt=0)
        for number, attempt in ((2, 0), (3, 1)):
            with pytest.raises(shim.ShimError) as caught:
                await pod.start(number, ["true"], name="app", attempt=attempt)
            assert caught.value.number == errno.EEXIST
        await pod.client.kill(new_id(1))
        await pod.exited(1)
        with pytest.raises(shim.ShimError) as caught:
            await pod.start(4, ["true"], name="app", attempt=0)
        assert caught.value.number == errno.EEXIST
        await pod.start(5, ["true"], name="app", attempt=1)
        await pod.exited(5)
        assert {record.id for record in await pod.client.list()} == {new_id(1), new_id(5)}
        assert {path.name for path in (pod_dir / "containers").iterdir()} == {new_id(1), new_id(5)}

    run(pod_dir, body)


def test_the_shim_cannot_be_overwritten_by_who_reaches_its_proc(pod_dir: Path) -> None:
    """CVE-2019-5736: what the shim starts in a container is the shim itself until its execve."""

    async def body(pod: Pod) -> None:
        program = os.open(f"/proc/{pod.pid}/exe", os.O_RDONLY | os.O_CLOEXEC)
        try:
            # While any shim runs the kernel says ETXTBSY to a writer; the attack waits until none does. The mount is what refuses then.
            assert os.fstatvfs(program).f_flag & os.ST_RDONLY
            with pytest.raises(OSError, match=r"Read-only|busy"):
                os.open(f"/proc/self/fd/{program}", os.O_WRONLY)
        finally:
            os.close(program)

    run(pod_dir, body)
    assert not os.statvfs(native.shim_path()).f_flag & os.ST_RDONLY


def test_S_NS_a_container_may_live_in_the_processes_of_another(pod_dir: Path) -> None:
    async def body(pod: Pod) -> None:
        root = await pod.start(1, ["sleep", "1000"])
        other = await pod.start(2, ["sleep", "1000"], clone_flags=LIB.CLONE_NEWNS, target=new_id(1))
        namespaces = [os.readlink(f"/proc/{pid}/ns/pid") for pid in (root.pid, other.pid)]
        assert namespaces[0] == namespaces[1] != os.readlink("/proc/self/ns/pid")
        assert os.readlink(f"/proc/{root.pid}/ns/mnt") != os.readlink(f"/proc/{other.pid}/ns/mnt")
        # Those that come later have their own again.
        third = await pod.start(3, ["sleep", "1000"])
        assert os.readlink(f"/proc/{third.pid}/ns/pid") not in (*namespaces, os.readlink("/proc/self/ns/pid"))
        # It ends with that container, as the kernel ends everything in a PID namespace with its first process.
        await pod.client.kill(new_id(1))
        ended = await pod.exited(2)
        assert ended.exit_code == 128 + signal.SIGKILL
        # The first process of a PID namespace ends after all others in it.
        await pod.exited(1)
        for wanted, number in ((errno.ESRCH, 1), (errno.ENOENT, 9)):
            with pytest.raises(shim.ShimError) as caught:
                await pod.start(4, ["sleep", "1000"], clone_flags=LIB.CLONE_NEWNS, target=new_id(number))
            assert caught.value.number == wanted
        # Refused before anything was made, so that it can be asked for again.
        assert new_id(4) not in {record.id for record in await pod.client.list()}

    run(pod_dir, body)


def test_containers_do_not_inherit_a_real_time_policy(pod_dir: Path) -> None:
    """Whoever begins a server may run under SCHED_RR: containers would go before everybody, and not into a cgroup with RT_GROUP_SCHED."""

    async def body(pod: Pod) -> None:
        started = await pod.start(1, ["sleep", "1000"])
        assert [os.sched_getscheduler(pid) for pid in (pod.pid, started.pid)] == [os.SCHED_OTHER] * 2
        await pod.client.kill(new_id(1))
        await pod.exited(1)

    try:
        os.sched_setscheduler(0, os.SCHED_RR, os.sched_param(1))
    except PermissionError:
        pytest.skip("no CAP_SYS_NICE")
    try:
        run(pod_dir, body)
    finally:
        os.sched_setscheduler(0, os.SCHED_OTHER, os.sched_param(0))
