"""The program of a pod's first process, where its containers share a PID namespace (S-NS, shareProcessNamespace).

As under a kubelet it is called /pause and is nobody's: what the containers see of it, as they see one another, is an empty file system
with that one file.
"""

from __future__ import annotations

from nsrun.plan import filesystem, ops
from nsrun.plan.container import oom_score_adj_op
from nsrun.plan.inputs import FIRST_SLOT, Program, SandboxInputs, Slot

USER = 65535
"""User and group of Kubernetes' own pause (build/pause in its repository)."""
OOM_SCORE_ADJ = -998
"""Of the processes that hold pods together (Kubernetes pkg/kubelet/qos/policy.go)."""
SEAL = "MOUNT_ATTR_RDONLY|MOUNT_ATTR_NOSUID|MOUNT_ATTR_NODEV"


def pause_program(inputs: SandboxInputs) -> Program:
    """The program of the first process; None of the pod's containers is begun before it runs."""
    own = inputs.first_id
    program: list[ops.Op] = [
        ops.Unshare("CLONE_NEWCGROUP", why="/proc/1/cgroup is / inside"),
        oom_score_adj_op(OOM_SCORE_ADJ, inputs.node),
        ops.Setsid(),
        # The machine's /dev/null: where it is going there is none.
        ops.Stdio(why="it has nothing to say"),
        ops.Private(why="nothing mounted from here on shows on the host"),
        *([ops.FsUser(own, own, why="hostUsers: false")] if own else []),
        ops.Root(inputs.pause_dir),
        ops.Mount("tmpfs", "/", ("mode=755", "size=16k", "nr_inodes=4"), "MOUNT_ATTR_NOSUID|MOUNT_ATTR_NODEV"),
        ops.Root(inputs.pause_dir),
        ops.Bind(inputs.pause_file, "/pause", "NSR_BIND_READONLY|NSR_BIND_MAKE_TARGET", SEAL, filesystem.ALONE),
        ops.Attr("/", SEAL),
        ops.PivotRoot(why="the host's file system is out of reach"),
        *([ops.EnterUser("CLONE_NEWNS|CLONE_NEWCGROUP")] if own else []),
        ops.Bounding(""),
        ops.User(USER, USER),
        ops.Caps("", ""),
        ops.NoNewPrivs(),
        ops.Seccomp(FIRST_SLOT, why="seccompProfile RuntimeDefault"),
        ops.Pdeathsig(why="it ends with the shim, and with it all that is in the namespace"),
        ops.SignalsDefault(),
        ops.CloseRest(),
        ops.Env(()),
        ops.Exec(("/pause",)),
    ]
    return Program(
        ops=tuple(program),
        clone_flags="CLONE_NEWNS|CLONE_NEWPID",
        slots=(Slot("seccomp", "RuntimeDefault"),),
    )
