"""Containers that end while others start: nothing that is known of an end may be undone."""

from __future__ import annotations

import asyncio
from unittest.mock import MagicMock

from nsrun.reconcile.model import Role, StartContainer
from nsrun.server.containers import start_all
from nsrun.server.mirror import Mirror
from nsrun.shim import Record, Report, ShimStartError, State


def test_the_list_after_a_failed_start_does_not_revive_who_ended_meanwhile() -> None:
    quick = {"id": "1" * 64, "name": "quick", "attempt": 0, "pid": 7, "started_ns": 1}
    running = Record(State.RUNNING, **quick)  # type: ignore[arg-type]
    exited = Record(State.EXITED, **quick, finished_ns=2)  # type: ignore[arg-type]
    failed = Record(State.START_FAILED, "2" * 64, "bad", 0, report=Report(0, "EXEC", 2, "bad"))
    engine = MagicMock()
    mirror = Mirror(engine)
    engine.mirror = mirror

    class Shim:
        """Lists what was so when it was asked; that `quick` ended comes between its list and who reads it."""

        async def start(self, request: object) -> Record:
            assert failed.report is not None
            raise ShimStartError("START", failed.report, "bad")

        async def list(self) -> list[Record]:
            mirror.note(exited)
            return [running, failed]

    engine.shim = Shim()
    engine.ledger.containers = {}
    engine.container.return_value.name = "bad"
    engine.prepared = {"bad": MagicMock(id="2" * 64, target="")}
    mirror.note(running)

    action = StartContainer(reason="it is due", name="bad", attempt=0, role=Role.MAIN)
    asyncio.run(start_all(engine, [action]))

    assert mirror.records == {exited.id: exited, failed.id: failed}
