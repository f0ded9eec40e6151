"""The server's side of `nsrun-shim`: start one, talk to one, read what a dead one left.

    spawn(pod_dir, name)         a new shim for the pod, detached; returns when it listens
    begin_spawn(pod_dir, name)   the same, to be waited for with `wait` of what it returns
    shim_alive(pod_dir)          asks the lock, not the process list
    read_records(pod_dir)        what a shim wrote, also after its death
    read_job(pod_dir, id, name)  the same of a job
    ShimClient                   asyncio: requests, answers and events over the shim's socket

Every function that takes a pod directory takes it as a path; sockets below it are reached through /proc/self/fd because
`sun_path` holds 107 bytes only.
"""

from nsrun.shim.client import ShimClient
from nsrun.shim.errors import ShimClosedError, ShimError, ShimStartError
from nsrun.shim.process import begin_spawn, forget_jobs, read_job, read_records, shim_alive, spawn
from nsrun.shim.records import (
    Event,
    ExecRequest,
    Exited,
    Hello,
    Job,
    JobEnded,
    JobRequest,
    LogBlocked,
    LogResumed,
    Record,
    Report,
    StartEnded,
    StartFlag,
    StartRequest,
    State,
    exit_code,
    signal_name,
)

__all__ = [
    "Event",
    "ExecRequest",
    "Exited",
    "Hello",
    "Job",
    "JobEnded",
    "JobRequest",
    "LogBlocked",
    "LogResumed",
    "Record",
    "Report",
    "ShimClient",
    "ShimClosedError",
    "ShimError",
    "ShimStartError",
    "StartEnded",
    "StartFlag",
    "StartRequest",
    "State",
    "begin_spawn",
    "exit_code",
    "forget_jobs",
    "read_job",
    "read_records",
    "shim_alive",
    "signal_name",
    "spawn",
]
