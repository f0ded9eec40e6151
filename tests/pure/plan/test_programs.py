"""The programs of typical manifests, line by line, against golden files.

After a change that is meant: NSRUN_UPDATE_GOLDEN=1 pytest tests/pure/plan/test_programs.py, then read the difference.
"""

from __future__ import annotations

import dataclasses
import os
from pathlib import Path

import pytest

from nsrun import native
from nsrun.plan import (
    ContainerInputs,
    Device,
    ImageConfig,
    ImageUser,
    PlanError,
    container_program,
    exec_program,
    ops,
)
from nsrun.plan.describe import describe
from nsrun.plan.filesystem import MASKED, READONLY
from nsrun.plan.inputs import Program
from nsrun.spec.model import Container, Pod, SecurityContext
from tests.pure.plan.pods import HOST_ROOT, NODE, from_manifest, inputs, pod

HERE = Path(__file__).parent
MANIFESTS = sorted((HERE / "manifests").glob("*.yaml"))

SPECIAL: dict[str, ContainerInputs] = {
    "simple": inputs(rootfs=HOST_ROOT),
    "privileged": inputs(
        image_config=ImageConfig(cmd=("serve",)),
        node=dataclasses.replace(
            NODE,
            devices=(
                Device("/dev/null", "c", 1, 3, 0o666),
                Device("/dev/input/mice", "c", 13, 63, 0o660),
                Device("/dev/sda", "b", 8, 0, 0o660),
            ),
        ),
    ),
    "guaranteed": inputs(
        image_config=ImageConfig(entrypoint=("/server",), cmd=("help",), env=("PATH=/bin", "LANG=C")),
        node=dataclasses.replace(NODE, cgroup2=False, nofile=0, capabilities=NODE.capabilities - {"CAP_SYS_RESOURCE"}),
    ),
}
USUAL = inputs(image_config=ImageConfig(cmd=("serve",)), user=ImageUser(1000, 3000, (29,), "/home/app"))


def _plan(name: str) -> tuple[Pod, Program]:
    one = from_manifest((HERE / "manifests" / f"{name}.yaml").read_text())
    return one, container_program(one, one.spec.containers[0], SPECIAL.get(name, USUAL))


@pytest.mark.parametrize("name", [path.stem for path in MANIFESTS])
def test_program(name: str) -> None:
    one, program = _plan(name)
    executed = exec_program(one, one.spec.containers[0], SPECIAL.get(name, USUAL), ["ls", "-l"], tty=name == "terminal")
    text = "\n".join(["# container", *describe(program), "", "# exec", *describe(executed), ""])
    golden = HERE / "golden" / f"{name}.txt"
    if os.environ.get("NSRUN_UPDATE_GOLDEN"):
        golden.write_text(text)
    assert text.splitlines() == golden.read_text().splitlines()


@pytest.mark.parametrize("name", [path.stem for path in MANIFESTS])
def test_order(name: str) -> None:
    """The rules of nsrun/plan/container.py that a mistake would turn into a hole."""
    _, program = _plan(name)
    codes = [op.code for op in program.ops]

    def at(code: str) -> int:
        assert codes.count(code) == 1, f"{code} stands {codes.count(code)} times"
        return codes.index(code)

    mounts = [
        index
        for index, code in enumerate(codes)
        if code in ("OVERLAY", "MOUNT", "BIND", "MASK", "READONLY", "ATTR", "MKNOD", "SYMLINK", "MKDIR")
    ]
    assert at("UNSHARE") < at("PRIVATE") < min(mounts), "nothing is mounted before propagation is cut"
    assert max(mounts) < at("PIVOT_ROOT"), "nothing is mounted after the host is gone"
    covered = [index for index, code in enumerate(codes) if code in ("MASK", "READONLY", "ATTR")]
    others = [index for index in mounts if index not in covered]
    assert all(max(others) < index for index in covered), "what covers comes last"
    assert at("PIVOT_ROOT") < at("BOUNDING") < at("USER") < at("CAPS") < at("PDEATHSIG") < at("EXEC")
    assert at("PIVOT_ROOT") < at("CHDIR") < at("USER"), "the directory need not be searchable by the user"
    if "SECCOMP" in codes:
        late = "NO_NEW_PRIVS" in codes
        assert (at("NO_NEW_PRIVS") < at("SECCOMP") > at("CAPS")) if late else (at("SECCOMP") < at("USER"))
    assert codes[-3:] == ["CLOSE_REST", "ENV", "EXEC"]
    assert len(native.encode(program.ops)) < 16384
    assert native.flags(program.clone_flags) == native.lib.CLONE_NEWNS | native.lib.CLONE_NEWPID


@pytest.mark.parametrize("name", [path.stem for path in MANIFESTS])
def test_only_a_privileged_container_has_devices(name: str) -> None:
    one, program = _plan(name)
    context = one.spec.containers[0].securityContext
    privileged = bool(context and context.privileged)
    with_devices = [
        op.describe()
        for op in program.ops
        if (isinstance(op, ops.Mount) and "NODEV" not in op.attributes and op.fstype != "devpts")
        or (isinstance(op, ops.Overlay) and "NODEV" not in op.attributes)
        or (isinstance(op, ops.Bind) and "NODEV" not in op.attributes and "RDONLY" not in op.attributes)
        or isinstance(op, ops.Mknod)
    ]
    assert bool(with_devices) == privileged


@pytest.mark.parametrize(
    ("proc_mount", "privileged", "expected"),
    [(None, False, True), ("Default", False, True), ("Unmasked", False, False), (None, True, False)],
)
def test_masks(proc_mount: str | None, privileged: bool, expected: bool) -> None:
    container = Container(
        name="app", command=["x"], securityContext=SecurityContext(procMount=proc_mount, privileged=privileged)
    )
    program = container_program(pod(container), container, inputs())
    masked = [op.path for op in program.ops if isinstance(op, ops.Mask)]
    readonly = [op.path for op in program.ops if isinstance(op, ops.Readonly)]
    assert masked == ([*MASKED, *NODE.thermal_throttle] if expected else [])
    assert readonly == (list(READONLY) if expected else [])


def test_exec_has_its_own_words() -> None:
    one = pod()
    program = exec_program(
        one,
        one.spec.containers[0],
        inputs(),
        ["ls", "$(HOSTNAME)"],
        env=["A=b=c", "PATH=/x"],
        workdir="/tmp",
        user=ImageUser(5, 6, (7,), "/five"),
    )
    by_code = {op.code: op for op in program.ops}
    assert program.join_flags == "CLONE_NEWNS|CLONE_NEWPID|CLONE_NEWCGROUP"
    assert program.clone_flags == ""
    assert by_code["EXEC"] == ops.Exec(("ls", "$(HOSTNAME)"))
    assert by_code["ENV"] == ops.Env(("PATH=/x", "HOSTNAME=web", "HOME=/five", "A=b=c"))
    assert by_code["CHDIR"] == ops.Chdir("/tmp")
    assert by_code["USER"] == ops.User(5, 6, (6, 7))


@pytest.mark.parametrize(("command", "env"), [([], []), ([""], []), (["ls"], ["A"]), (["ls"], ["=x"])])
def test_exec_refuses_nonsense(command: list[str], env: list[str]) -> None:
    one = pod()
    with pytest.raises(PlanError) as caught:
        exec_program(one, one.spec.containers[0], inputs(), command, env=env)
    assert caught.value.reason == "CreateContainerError"


def test_a_program_says_which_descriptors_it_needs() -> None:
    one = pod()
    (slot,) = container_program(one, one.spec.containers[0], inputs()).slots
    assert (slot.kind, slot.profile) == ("seccomp", "RuntimeDefault")
    assert "CAP_CHOWN" in slot.capabilities
    assert "CAP_SYS_ADMIN" not in slot.capabilities
