"""What the server says of pods to people."""

from __future__ import annotations

from unittest.mock import MagicMock

import pytest

from nsrun.images import ImageError
from nsrun.server import apply, pulls
from nsrun.server.apply import Job
from nsrun.server.wait import in_words
from nsrun.spec.model import ContainerState, ContainerStateTerminated, ContainerStatus, ObjectMeta, Pod
from nsrun.status.times import go_duration


def test_a_pod_with_a_generated_name_is_called_by_it() -> None:
    job = Job(Pod(metadata=ObjectMeta(generateName="job-", namespace="default")), {}, "pod.yaml:1")
    job.engine = MagicMock(label="default/job-x4f2k")
    assert job.label == "default/job-x4f2k"


def test_last_words_end_without_their_newline() -> None:
    ended = ContainerStateTerminated(exitCode=7, reason="Error", message="out of luck\n")
    status = ContainerStatus(name="app", state=ContainerState(terminated=ended))
    engine = MagicMock(phase="Failed")
    engine.status.reason = engine.status.message = ""
    engine.status.initContainerStatuses = []
    engine.status.containerStatuses = [status]
    engine.ledger.sandbox_waiting = None
    engine.trouble = ""
    assert in_words(engine) == "phase Failed; container app ended: Error, exit code 7 (out of luck)"


def test_a_missing_image_is_told_in_sentences() -> None:
    engine = MagicMock()
    engine.world.clock.now.return_value = 0.0
    engine.ledger.containers = {}
    pulls.failed(engine, "app", "x", ImageError("ErrImagePull", "it is not here", resolution="Import it."))
    waiting = engine.ledger.containers["app"].waiting
    assert waiting.message == "it is not here. Import it."
    assert [call.args[1] for call in engine.note.call_args_list] == ["Failed", "Failed"]


@pytest.mark.parametrize(
    ("name", "message", "text"),
    [
        ("s", "Container started", "s: Container started"),
        (
            "image",
            'Container image "x" already present on machine',
            'image: Container image "x" already present on machine',
        ),
        ("app", "Stopping container app-2", "app: Stopping container app-2"),
        ("app", "Stopping container app", "Stopping container app"),
        (
            "app",
            "Container app failed liveness probe, will be restarted",
            "Container app failed liveness probe, will be restarted",
        ),
        (
            "",
            "Pod sandbox changed, it will be killed and re-created.",
            "Pod sandbox changed, it will be killed and re-created.",
        ),
    ],
)
def test_what_is_told_of_a_container_names_it(name: str, message: str, text: str) -> None:
    path = f"spec.containers{{{name}}}" if name else ""
    assert apply._about({"involvedObject": {"fieldPath": path}, "message": message}) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "0s"), (0.64, "640ms"), (1.5, "1.5s"), (2, "2s"), (62.0034, "1m2.003s"), (3723.45, "1h2m3.45s")],
)
def test_durations_as_go_prints_them(seconds: float, text: str) -> None:
    assert go_duration(seconds) == text
