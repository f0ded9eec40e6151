"""Other processes: of the machine, of other containers, and nsrun's own on their way into one."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.host.escapes.stage import ATTACKERS, FREE, PRISON, STRICT, VICTIM, Stage
from tests.host.server.harness import box, pod


def _outside(stage: Stage) -> list[int]:
    """Processes that are no attacker's: of the machine, of the victim, the shim of the attackers' own pod, the server."""
    runtime = stage.server.runtime(VICTIM)
    server = int((stage.server.root / "run" / "lock").read_text())
    own = stage.server.runtime(PRISON)["shim_pid"]
    return [stage.bystander.pid, runtime["instances"][0]["pid"], runtime["shim_pid"], own, server]


@pytest.mark.parametrize(
    "words",
    [
        ("signal", "{}", "9"),
        ("signal_pidfd", "{}"),
        ("trace", "{}"),
        ("read_memory", "{}"),
        ("take_descriptor", "{}", "0"),
    ],
    ids=lambda words: words[0],
)
def test_processes_of_others(stage: Stage, words: tuple[str, ...]) -> None:
    """Their numbers mean nothing in the container's own PID namespace."""
    for pid in _outside(stage):
        assert pid > 20000, "a number that the container has not"
        for where in (*ATTACKERS, f"{FREE}/privileged"):
            assert stage.attack(where, *(word.format(pid) for word in words)) == "ESRCH", (where, pid)


@pytest.mark.parametrize("name", ["signal_pidfd", "trace", "read_memory"])
def test_a_process_of_its_own_is_the_control(stage: Stage, name: str) -> None:
    assert stage.attack(f"{PRISON}/root", name, "1") == "ok"


def test_proc_of_others(stage: Stage) -> None:
    for pid in _outside(stage):
        for name in ("environ", "root/etc/shadow", "cwd", "maps", "mem", "ns/mnt", "fd/0"):
            for where in (*ATTACKERS, f"{FREE}/privileged"):
                assert stage.attack(where, "show", f"/proc/{pid}/{name}") == "ENOENT", (where, pid, name)


def test_set_user_id_programs(stage: Stage) -> None:
    """With allowPrivilegeEscalation: false the bit is of no effect (no_new_privs); else it makes root of the container."""
    said = {
        attacker: stage.server.run(PRISON, "/bin/suid", "become_root", container=attacker)[1].decode().splitlines()
        for attacker in ("user", "strict")
    }
    assert said["strict"] == ["euid 1000", "EPERM"]
    # Control. It is root of the container then: with the capabilities of the bounding set, under the same filter.
    assert said["user"] == ["euid 0", "ok"]
    for name in ("mount", "unshare_user"):
        assert stage.server.run(PRISON, "/bin/suid", name, container="user")[1] == b"EPERM\n", name


@pytest.fixture
def target(stage: Stage) -> Iterator[str]:
    """A pod whose containers are entered while they look."""
    stage.server.up(
        pod(
            "entered",
            box("root", "pause"),
            box("strict", "pause", securityContext=STRICT),
            box("free", "pause", securityContext={"privileged": True}),
        )
    )
    yield "entered"
    stage.server.down("entered")


def _meanwhile(stage: Stage, where: str, words: tuple[str, ...], do: Callable[[], object]) -> list[str]:
    """What an attack says while something is done again and again."""
    said: list[str] = []
    thread = threading.Thread(target=lambda: said.extend(stage.run(where, *words)))
    thread.start()
    while thread.is_alive():
        do()
    thread.join()
    return said


@pytest.mark.parametrize("container", ["root", "strict"])
def test_a_command_on_its_way_in(stage: Stage, target: str, container: str) -> None:
    """Until its execve a process that enters a container has the machine's files in its memory and descriptors (CVE-2016-9962,
    CVE-2024-21626): it is looked for in /proc and traced from the moment it can be seen."""

    def enter() -> None:
        assert stage.server.run(target, "/bin/true", container=container)[0] == 0

    said = _meanwhile(stage, f"{target}/{container}", ("spy", "1", "nsrun-start"), enter)
    assert said == ["nsrun-start seen often", "EACCES"]
    # Control: what it has become by then, a program of the container's, can be looked into. (`true` is too short.)
    said = _meanwhile(
        stage,
        f"{target}/root",
        ("spy", "1", "testbox"),
        lambda: stage.server.run(target, "/bin/testbox", "sleep", "0.2", container="root"),
    )
    assert {"testbox seen often", "opened root", "opened exe", "opened fd/0", "traced", "ok"} <= set(said)


def test_the_runtimes_program_cannot_be_written(stage: Stage, target: str) -> None:
    """Even whoever may trace everything (privileged) and holds the program of the process that enters finds it on a read-only mount
    that is nowhere (CVE-2019-5736)."""

    def enter() -> None:
        stage.server.run(target, "/bin/true", container="free")

    # Busy, as long as any pod has a shim; read-only, always.
    refused = (["held", "mode EROFS", "ETXTBSY"], ["held", "mode EROFS", "EROFS"])
    assert _meanwhile(stage, f"{target}/free", ("overwrite", "1", "nsrun-start"), enter) in refused

    def execute_itself() -> None:
        try:
            stage.server.run(target, "/proc/self/exe", container="free")
        except AssertionError as error:
            assert "exec failed" in str(error)

    said = _meanwhile(stage, f"{target}/free", ("overwrite", "1", "exe"), execute_itself)
    assert said == ["ESRCH"] or said in refused, "it needs a linker that the container does not have"
    # Control: a program of the container's own is taken the same way.
    assert stage.attack(f"{target}/free", "plant_suid", "/tmp/program") == "ok"
    said = _meanwhile(
        stage,
        f"{target}/free",
        ("overwrite", "3", "program"),
        lambda: stage.server.run(target, "/tmp/program", "spy", "0", "nobody", container="free"),
    )
    assert said == ["held", "mode ok", "ok"]


def test_the_runtimes_environment_stays_outside(stage: Stage) -> None:
    """Neither the shim nor what it starts has an environment that could be read."""
    for name in (PRISON, VICTIM, FREE):
        pid = stage.server.runtime(name)["shim_pid"]
        assert Path(f"/proc/{pid}/environ").read_bytes() == b""
    assert os.environ.get("NSRUN_TEST_HOST")
    code, out, _err = stage.server.run(PRISON, "/bin/env", container="root")
    assert code == 0 and b"NSRUN" not in out, out
