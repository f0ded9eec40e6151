"""pod.json and ledger.json: what is written comes back, and what is not ours is an error that says so."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from nsrun.errors import InternalError
from nsrun.reconcile.model import ContainerLedger, Deletion, Instance, InstanceState, Waiting
from nsrun.spec.model import Container, ObjectMeta, Pod, PodSpec, PodStatus
from nsrun.state import ledger as module
from nsrun.state.layout import PodPaths
from nsrun.state.ledger import (
    Ledger,
    Wish,
    read_ledger,
    read_wish,
    write_deletion,
    write_ledger,
    write_wish,
)
from nsrun.status.events import Event

POD = Pod(
    metadata=ObjectMeta(name="web", namespace="default", uid="1"), spec=PodSpec(containers=[Container(name="app")])
)


@pytest.fixture
def paths(tmp_path: Path) -> PodPaths:
    return PodPaths(tmp_path, tmp_path / "roots", tmp_path / "volumes")


def test_a_wish_comes_back(paths: PodPaths) -> None:
    assert read_wish(paths) is None
    wish = Wish(object=POD, options={"a": 1}, deletion=Deletion(12.25, 30.0))
    write_wish(paths, wish)
    assert read_wish(paths) == wish


def test_a_ledger_comes_back(paths: PodPaths) -> None:
    assert read_ledger(paths) == Ledger()
    dead = Instance(
        id="ab" * 32,
        name="app",
        attempt=3,
        state=InstanceState.EXITED,
        started_at=1.5,
        finished_at=2.25,
        exit_code=137,
        signal=9,
        reason="Error",
    )
    ledger = Ledger(
        start_time=1.0,
        sandbox_attempt=2,
        sandbox_created_at=1.25,
        sandbox_ready=True,
        sandbox_waiting=Waiting("FailedCreatePodSandBox", "no bridge", 11.0, 10.0),
        ips=("10.85.0.2",),
        terminal=True,
        containers={"app": ContainerLedger(starts=4, restart_count=3, backoff_s=20.0, last=dead, image_id="sha256:1")},
        events=[Event("Normal", "Started", "Container started", "spec.containers{app}", 2, 1.0, 2.0)],
        status=PodStatus(phase="Running"),
    )
    write_ledger(paths, ledger)
    assert read_ledger(paths) == ledger


def test_a_deletion_needs_no_block_of_a_full_disk(paths: PodPaths, monkeypatch: pytest.MonkeyPatch) -> None:
    write_wish(paths, Wish(object=POD))

    def full(*_arguments: object, **_options: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(module, "write_atomic", full)
    deletion = Deletion(1789.0625, 0.5)
    write_deletion(paths, Wish(object=POD, deletion=deletion))
    later = Deletion(1790.5, 0.0)
    write_deletion(paths, Wish(object=POD, deletion=later))
    found = read_wish(paths)
    assert found is not None
    assert found.deletion == later
    assert all((paths.directory / name).stat().st_size == 0 for name in os.listdir(paths.directory) if "@" in name)


TEXTS = [
    b"",
    b"{",
    b'{"object": 1}',
    b"\xff\xfe",
    b'{"object": {}, "deletion": "now"}',
    b'{"version": 1, "object": "\xff"}',
]


@pytest.mark.parametrize("text", TEXTS)
def test_a_file_that_is_not_ours_is_an_error_that_names_it(paths: PodPaths, text: bytes) -> None:
    paths.wish.write_bytes(text)
    with pytest.raises(InternalError, match=r"pod\.json"):
        read_wish(paths)
    paths.ledger.write_bytes(text if text != b'{"object": {}, "deletion": "now"}' else b"[]")
    if (
        not text.startswith(b'{"object": 1}') and b"version" not in text
    ):  # a ledger may have members that this version does not know
        with pytest.raises(InternalError, match=r"ledger\.json"):
            read_ledger(paths)


def test_bytes_that_are_no_text_and_marks_of_somebody_else(paths: PodPaths) -> None:
    write_ledger(paths, Ledger(sandbox_waiting=Waiting("reason", "message", 1.0)))
    paths.ledger.write_bytes(paths.ledger.read_bytes().replace(b"reason", b"rea\xffson"))
    with pytest.raises(InternalError, match=r"ledger\.json"):
        read_ledger(paths)
    write_wish(paths, Wish(object=POD))
    (paths.directory / "deletion@some+time").touch()
    found = read_wish(paths)
    assert found is not None
    assert found.deletion is None
