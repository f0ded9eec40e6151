"""The first process of a PID namespace that a pod's containers share, and what a pod with users of its own does otherwise."""

from __future__ import annotations

import dataclasses

import pytest

from nsrun.plan import (
    IDS_PER_POD,
    PlanError,
    SandboxInputs,
    container_program,
    exec_program,
    ops,
    pause_program,
    sandbox_program,
)
from nsrun.plan.image import ImageUser
from nsrun.plan.inputs import Device, Program, VolumeSource
from nsrun.spec.model import Container, SecurityContext, VolumeMount
from tests.pure.plan.pods import HOST_ROOT, NODE, inputs, pod

FIRST = 7 * IDS_PER_POD
SANDBOX = SandboxInputs("/run/pods/u/shm", NODE, pause_dir="/run/pods/u/pause", pause_file="/usr/lib/nsrun-pause")
OWN_USERS = dataclasses.replace(SANDBOX, first_id=FIRST)


def codes(program: Program) -> list[str]:
    return [op.code for op in program.ops]


@pytest.mark.parametrize("given", [SANDBOX, OWN_USERS], ids=["host-users", "own-users"])
def test_S_NS_the_first_process_has_nothing(given: SandboxInputs) -> None:
    program = pause_program(given)
    found = codes(program)
    # The machine's /dev/null is opened while there is one.
    assert found.index("STDIO") < found.index("ROOT") < found.index("PIVOT_ROOT") < found.index("USER")
    assert (
        found.index("USER")
        < found.index("CAPS")
        < found.index("NO_NEW_PRIVS")
        < found.index("SECCOMP")
        < found.index("EXEC")
    )
    assert found.index("SECCOMP") < found.index("PDEATHSIG")
    assert ops.User(65535, 65535) in program.ops
    assert ops.Bounding("") in program.ops
    assert ops.Caps("", "") in program.ops
    assert ops.Env(()) in program.ops
    assert program.clone_flags == "CLONE_NEWNS|CLONE_NEWPID"
    assert [op.source for op in program.ops if isinstance(op, ops.Bind)] == ["/usr/lib/nsrun-pause"]
    assert ("ENTER_USER" in found) is ("FS_USER" in found) is bool(given.first_id)


def test_S_NS_containers_that_share_have_no_pid_namespace_of_their_own() -> None:
    one = pod(shareProcessNamespace=True)
    assert container_program(one, one.spec.containers[0], inputs()).clone_flags == "CLONE_NEWNS"
    one = pod(hostPID=True)
    assert container_program(one, one.spec.containers[0], inputs()).clone_flags == "CLONE_NEWNS"
    one = pod()
    assert container_program(one, one.spec.containers[0], inputs()).clone_flags == "CLONE_NEWNS|CLONE_NEWPID"


def test_S_USERNS_the_sandboxes_namespaces_belong_to_it() -> None:
    made, unshared = sandbox_program(pod(hostUsers=False), OWN_USERS).ops[:2]
    assert isinstance(made, ops.UserNamespace)
    assert (made.first, made.count) == (FIRST, IDS_PER_POD)
    assert set(made.namespaces.split("|")) == {"CLONE_NEWNET", "CLONE_NEWIPC", "CLONE_NEWUTS"}
    assert isinstance(unshared, ops.Unshare)
    assert unshared.flags == "CLONE_NEWNS"


def test_S_USERNS_a_container_enters_it_once_all_that_takes_the_machines_root_is_done() -> None:
    one = pod(
        Container(name="app", image="box", command=["true"], volumeMounts=[VolumeMount(name="v", mountPath="/v")])
    )
    given = inputs(
        first_id=FIRST, rootfs=HOST_ROOT, user=ImageUser(1000, 1000), volumes={"v": VolumeSource("/disk/v", "emptyDir")}
    )
    program = container_program(one, one.spec.containers[0], given)
    found = codes(program)
    assert found.count("ENTER_USER") == 1
    entered = found.index("ENTER_USER")
    for before in ("OOM_SCORE_ADJ", "OVERLAY", "MASK", "READONLY", "PIVOT_ROOT", "RLIMIT", "STDIO", "STDIO_OWNER"):
        assert max(at for at, code in enumerate(found) if code == before) < entered, before
    for after in ("BOUNDING", "SECCOMP", "USER", "CAPS", "PDEATHSIG", "EXEC"):
        assert found.index(after) > entered, after
    assert found.index("ID_MAP") < found.index("FS_USER") < found.index("OVERLAY")
    assert ops.EnterUser("CLONE_NEWNS|CLONE_NEWCGROUP", why=program.ops[entered].why) == program.ops[entered]
    # The pod's own ids after it, the machine's before.
    assert ops.User(1000, 1000, (1000,)) in program.ops
    assert [op.uid for op in program.ops if isinstance(op, ops.StdioOwner)] == [FIRST + 1000]
    mapped = {op.target: op.flags.split("|")[-1] for op in program.ops if isinstance(op, ops.Bind)}
    for target in ("/v", "/etc/hosts", "/etc/resolv.conf", "/dev/termination-log"):
        assert mapped[target] == "NSR_BIND_ID_MAP", target
    assert mapped["/usr"] == "NSR_BIND_MAY_ID_MAP"
    assert "ID_MAP" not in mapped["/dev/null"]
    entering = codes(exec_program(one, one.spec.containers[0], given, ["ls"]))
    assert entering.index("STDIO_OWNER") < entering.index("ENTER_USER") < entering.index("BOUNDING")


def test_S_USERNS_not_even_a_privileged_one_owns_a_device() -> None:
    context = SecurityContext(privileged=True)
    mounts = [VolumeMount(name="v", mountPath="/v")]
    one = pod(Container(name="app", image="box", command=["true"], securityContext=context, volumeMounts=mounts))
    node = dataclasses.replace(NODE, devices=(Device("/dev/sda", "b", 8, 0, 0o660),))
    given = inputs(first_id=FIRST, node=node, volumes={"v": VolumeSource("/disk/v", "hostPath")})
    program = container_program(one, one.spec.containers[0], given)
    assert "MKNOD" not in codes(program)
    assert (
        ops.Bind("/dev/sda", "/dev/sda", "NSR_BIND_MAKE_TARGET|NSR_BIND_OPTIONAL", "", "MS_PRIVATE|MS_REC")
        in program.ops
    )
    (overlay,) = [op for op in program.ops if isinstance(op, ops.Overlay)]
    assert overlay.attributes == "MOUNT_ATTR_NODEV"
    (volume,) = [op for op in program.ops if isinstance(op, ops.Bind) and op.target == "/v"]
    assert "MOUNT_ATTR_NODEV" in volume.attributes


@pytest.mark.parametrize("user", [ImageUser(IDS_PER_POD, 0), ImageUser(0, IDS_PER_POD)])
def test_S_USERNS_ids_that_the_pod_does_not_have(user: ImageUser) -> None:
    one = pod()
    with pytest.raises(
        PlanError, match=r"cannot set (uid|gid) to unmapped (user|group) in user namespace: 65536"
    ) as caught:
        container_program(one, one.spec.containers[0], inputs(first_id=FIRST, user=user))
    assert caught.value.reason == "CreateContainerError"
    container_program(one, one.spec.containers[0], inputs(user=user))
