"""Records of the shim as the instances that deciding works on, and the sentence for a start that failed."""

from __future__ import annotations

import errno
import os
from collections.abc import Mapping

from nsrun.errors import errno_text
from nsrun.reconcile.model import Instance, InstanceState
from nsrun.shim import Record, Report, State

ID_MAPPED = " (id-mapped)"
"""How the subject of a mount ends that could not be given the pod's ids (csrc/op_mount.c)."""

_STATES = {
    State.STARTING: InstanceState.STARTING,
    State.RUNNING: InstanceState.RUNNING,
    State.EXITED: InstanceState.EXITED,
    State.START_FAILED: InstanceState.START_FAILED,
}


def instance_of(
    record: Record,
    *,
    image_id: str = "",
    killed_at: float | None = None,
    reason: str | None = None,
    message: str | None = None,
    mounts: Mapping[str, str] | None = None,
) -> Instance:
    """What deciding knows of the instance that `record` tells of.

    Args:
        record: the shim's.
        image_id: of the image it was made from.
        killed_at: when SIGKILL was last asked for, seconds since the epoch.
        reason: why it ended, where its exit code does not say that.
        message: what it left as its termination message.
        mounts: what its container mounts where, for the sentence about one that could not be.
    """
    return Instance(
        id=record.id,
        name=record.name,
        attempt=record.attempt,
        state=_STATES[record.state],
        pid=record.pid,
        started_at=_seconds(record.started_ns),
        finished_at=_seconds(record.finished_ns),
        exit_code=record.exit_code,
        signal=record.signal,
        reason=reason,
        message=start_error(record.report, mounts or {}) if record.report is not None else message,
        stop_signal=record.stop_signal or None,
        stop_at=_seconds(record.stop_ns),
        killed_at=killed_at,
        image_id=image_id,
        log_error=record.log_error,
    )


def _seconds(nanoseconds: int) -> float | None:
    return nanoseconds / 1e9 if nanoseconds else None


def start_error(report: Report, mounts: Mapping[str, str]) -> str:
    """Why a container could not start, as containerd and runc word it for commands.

    Args:
        report: the shim's.
        mounts: the volumes of the container by the place where they are mounted (`plan.mounts.places`).
    """
    if report.op == "EXEC":
        return f"failed to start container: unable to start container process: {exec_error(report)}"
    step = report.op.lower().replace("_", " ") or "start"
    subject = f" {report.subject}" if report.subject else ""
    if report.op == "ID_MAP" or report.subject.endswith(ID_MAPPED):
        return _not_mapped(report)
    if report.op in ("BIND", "BIND_BELOW") and report.subject in mounts:
        step, subject = "mount", f" {mounts[report.subject]} at {report.subject}"
    return (
        f"failed to create container: {step}{subject}: {errno_text(report.error)} (step {report.step} of its program)"
    )


def _not_mapped(report: Report) -> str:
    """hostUsers: false, and a file system of which the kernel has no mounts with other ids."""
    path = report.subject.removesuffix(ID_MAPPED)
    what = "a layer of the image" if report.op == "ID_MAP" else "the mount"
    return (
        f"failed to create container: {what} {path} cannot have the ids of the pod's user namespace: {errno_text(report.error)}: "
        "hostUsers: false needs a file system that can be mounted with other ids (ext4, xfs, btrfs and, from Linux 6.3 on, tmpfs can; "
        "proc, sysfs, overlay and NFS cannot)"
    )


def exec_error(report: Report) -> str:
    """Why a command was not executed, as runc words it; for a step before that, which one it was."""
    if report.op != "EXEC":
        return str(report)
    command = report.subject
    if report.error == errno.ENOENT:
        if "/" not in command:
            return f'exec: "{command}": executable file not found in $PATH'
        return f'exec: "{command}": stat {command}: no such file or directory (or the interpreter that it names is missing)'
    if report.error == errno.ENOEXEC:
        return f'exec: "{command}": exec format error (it has no #! line, or is for another machine)'
    if report.error == errno.EACCES:
        return f'exec: "{command}": permission denied (it is a directory, not executable, or on a noexec mount)'
    return f'exec: "{command}": {os.strerror(report.error).lower()}'
