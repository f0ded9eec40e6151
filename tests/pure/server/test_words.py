"""What the server says of pods to people."""

from __future__ import annotations

from unittest.mock import MagicMock

from nsrun.images import ImageError
from nsrun.server import containers
from nsrun.server.apply import Job
from nsrun.server.wait import in_words
from nsrun.spec.model import Container, ContainerState, ContainerStateTerminated, ContainerStatus, ObjectMeta, Pod


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
    engine.world.images.resolve.side_effect = ImageError("ErrImagePull", "it is not here", resolution="Import it.")
    engine.world.clock.now.return_value = 0.0
    engine.ledger.containers = {}
    container = Container(name="app", image="x")
    containers._image_failed(engine, container, engine.world.images.resolve.side_effect)
    waiting = engine.ledger.containers["app"].waiting
    assert waiting.message == "it is not here. Import it."
