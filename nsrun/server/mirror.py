"""What the shim knows of a pod's instances, mirrored: it can be had again from the shim, or from what it wrote."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from nsrun.plan.mounts import places
from nsrun.reconcile.model import Instance
from nsrun.server import termination
from nsrun.server.instances import instance_of
from nsrun.server.pause import is_pause
from nsrun.server.prepared import log_path
from nsrun.shim import Record

if TYPE_CHECKING:
    from nsrun.server.engine import PodEngine


OOM_KILLED = "OOMKilled"


@dataclass(frozen=True, slots=True)
class End:
    """What a dead instance left: why it ended, where its exit code does not say that, and its termination message."""

    reason: str | None = None
    message: str | None = None


_NOTHING = End()


class Mirror:
    """The records of one pod's instances, and what belongs to them.

    Attributes:
        records: by id.
        killed: when SIGKILL was last asked for, by id; seconds since the epoch.
        pause: the record of the first process of a PID namespace that the containers share, if there is one.
        settled_logs: ids of those whose shim is known to write to the log file with the log's own name (S-LOG).
    """

    def __init__(self, engine: PodEngine) -> None:
        self._engine = engine
        self.records: dict[str, Record] = {}
        self.pause: Record | None = None
        self.killed: dict[str, float] = {}
        self._ends: dict[str, End] = {}
        self.settled_logs: set[str] = set()

    def take(self, records: Iterable[Record]) -> None:
        """These are all there are."""
        self.records, self.pause = {}, None
        for record in records:
            self.note(record)

    def note(self, record: Record) -> None:
        """Mirror a record; an answer that was overtaken by the news of its exit does not undo it."""
        if is_pause(record):
            if self.pause is None or self.pause.id != record.id or self.pause.alive:
                self.pause = record
            return
        before = self.records.get(record.id)
        if before is None or before.alive:
            self.records[record.id] = record

    def log_blocked(self, instance_id: str, number: int) -> str | None:
        """Note that its log cannot be written (errno), or can again (0); the container's name, if the instance is known."""
        record = self.records.get(instance_id)
        if record is None:
            return None
        self.records[instance_id] = replace(record, log_error=number)
        return record.name

    def signalled(self, instance_id: str, signal: int, at: float) -> None:
        """Note that its stop signal is out, whatever signal somebody sent before: or `decide` asks for it for ever."""
        record = self.records.get(instance_id)
        if record is not None and record.alive:
            self.records[instance_id] = replace(record, stop_signal=signal, stop_ns=int(at * 1e9))

    def drop(self, instance_id: str) -> None:
        """Forget an instance."""
        self.records.pop(instance_id, None)
        self.killed.pop(instance_id, None)
        self._ends.pop(instance_id, None)
        self.settled_logs.discard(instance_id)

    def clear(self) -> None:
        """Forget all instances."""
        self.pause = None
        for instance_id in list(self.records):
            self.drop(instance_id)

    def instances(self) -> list[Instance]:
        """All instances whose record is still there, by name, oldest first."""
        found = []
        for record in self.records.values():
            end = self._end(record)
            found.append(
                instance_of(
                    record,
                    image_id=self._image_id(record),
                    killed_at=self.killed.get(record.id),
                    reason=end.reason,
                    message=end.message,
                    mounts=self._mounts(record),
                )
            )
        return sorted(found, key=lambda instance: (instance.name, instance.attempt))

    def _mounts(self, record: Record) -> dict[str, str]:
        if record.report is None:
            return {}
        return places(self._engine.pod, self._engine.container(record.name))

    def running(self, name: str) -> Instance | None:
        """The living instance of a container."""
        return next((one for one in reversed(self.instances()) if one.name == name and one.alive), None)

    def _image_id(self, record: Record) -> str:
        known = self._engine.ledger.containers.get(record.name)
        return known.image_id if known is not None and record.attempt == known.starts - 1 else ""

    def _end(self, record: Record) -> End:
        """What a dead instance left behind, looked at once: its cgroup and its files go when it is forgotten."""
        code = record.exit_code
        if code is None:
            return _NOTHING
        if record.id not in self._ends:
            engine = self._engine
            reason = None
            # With exit 0 it got over it, whoever was killed.
            if code != 0 and engine.world.cgroups.oom_kills(engine.uid, record.id):
                reason = OOM_KILLED
            log = log_path(engine, record.name, record.attempt)
            message = termination.read(engine.paths.root(record.id), engine.container(record.name), code, log, reason)
            self._ends[record.id] = End(reason, message)
        return self._ends[record.id]
