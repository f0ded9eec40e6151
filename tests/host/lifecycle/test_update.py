"""A pod that is there becomes what a changed manifest asks for, as far as Kubernetes lets a pod change (S-UPDATE)."""

from __future__ import annotations

import copy
import random
import threading
import time
from functools import partial
from typing import Any

import pytest

from nsrun.errors import ConflictError
from tests.host.server.harness import IMAGE, Server, Workshop, box, pod, until

pytestmark = [pytest.mark.requires("overlay", "bridge", "nftables"), pytest.mark.timeout(120)]

SECOND = "tests.local/second"
SHOW = ("then", "env", ";", "pause")
"""Tells its environment, which tells the image, and goes on."""


@pytest.fixture(autouse=True)
def second(workshop: Workshop, server: Server) -> None:
    """Another image with the same files, which says so in its environment."""
    directory = workshop.rootfs
    config = {"env": ["PATH=/bin", "VERSION=2"], "cmd": ["/bin/pause"]}
    server.call("image.import", name=SECOND, path=str(directory), config=config)


def with_image(manifest: dict[str, Any], image: str, index: int = 0, field: str = "containers") -> dict[str, Any]:
    changed = copy.deepcopy(manifest)
    changed["spec"][field][index]["image"] = image
    return changed


def running(server: Server, name: str) -> dict[str, dict[str, Any]]:
    """The living instances by their containers."""
    return {one["name"]: one for one in server.runtime(name)["instances"] if one["state"] == "running"}


def messages(server: Server, name: str, reason: str) -> list[str]:
    events = server.call("pod.events", name=name).result["events"]
    return [event["message"] for event in events if event["reason"] == reason]


def test_S_UPDATE_another_image_starts_that_container_again_and_nothing_else(server: Server) -> None:
    manifest = pod("web", box("a", *SHOW), box("b", "pause"), inits=(box("side", "pause", restartPolicy="Always"),))
    first = server.up(manifest)["pods"][0]
    before, pids = server.get("web"), running(server, "web")
    answer = server.up(with_image(manifest, SECOND))["pods"][0]
    assert (answer["verdict"], answer["uid"]) == ("configured", first["uid"])
    assert answer["changes"] == ["spec.containers[0].image"]

    # It is up, as the answer says: the new instance is what runs.
    after, new = server.get("web"), running(server, "web")
    assert new["a"]["pid"] != pids["a"]["pid"]
    assert (new["b"]["pid"], new["side"]["pid"]) == (pids["b"]["pid"], pids["side"]["pid"])
    until(lambda: "VERSION=2" in server.lines("web", "a"), what="it is made of the new image")
    assert "VERSION=2" not in server.lines("web", "a", previous=True)
    assert after["status"]["podIP"] == before["status"]["podIP"]
    assert (before["metadata"]["generation"], after["metadata"]["generation"]) == (1, 2)
    assert after["status"]["observedGeneration"] == 2
    assert int(after["metadata"]["resourceVersion"]) > int(before["metadata"]["resourceVersion"])
    assert [server.container("web", name)["restartCount"] for name in ("a", "b", "side")] == [1, 0, 0]
    assert any(
        "Container a definition changed, will be restarted" in text for text in messages(server, "web", "Killing")
    )
    assert server.up(with_image(manifest, SECOND))["pods"][0]["verdict"] == "unchanged"

    server.kill()
    assert server.get("web")["metadata"]["generation"] == 2
    assert running(server, "web") == new


def test_S_UPDATE_a_sidecar_is_started_again_and_a_finished_init_container_is_not(server: Server) -> None:
    manifest = pod("web", box("a", "pause"), inits=(box("init", "true"), box("side", "pause", restartPolicy="Always")))
    server.up(manifest)
    before = running(server, "web")
    changed = with_image(with_image(manifest, SECOND, 1, "initContainers"), SECOND, 0, "initContainers")
    assert server.up(changed)["pods"][0]["verdict"] == "configured"
    after = running(server, "web")
    assert after["side"]["pid"] != before["side"]["pid"]
    assert after["a"]["pid"] == before["a"]["pid"]
    assert server.container("web", "init")["restartCount"] == 0
    assert any("Init container side definition changed" in text for text in messages(server, "web", "Killing"))


def test_S_UPDATE_labels_and_annotations_are_seen_at_once_and_start_nothing(server: Server) -> None:
    manifest = pod("web", box("a", "pause"))
    server.up(manifest)
    before, pids = server.get("web"), running(server, "web")
    manifest["metadata"] |= {"labels": {"tier": "front"}, "annotations": {"note": "x"}}
    answer = server.up(manifest)["pods"][0]
    assert (answer["verdict"], answer["changes"]) == (
        "configured",
        ["metadata.labels[tier]", "metadata.annotations[note]"],
    )
    after = server.get("web")
    assert after["metadata"]["labels"] == {"tier": "front"}
    assert after["metadata"]["annotations"] == {"note": "x"}
    assert after["metadata"]["generation"] == before["metadata"]["generation"]
    assert int(after["metadata"]["resourceVersion"]) > int(before["metadata"]["resourceVersion"])
    assert running(server, "web") == pids
    assert after["status"] == before["status"]


def test_S_UPDATE_what_may_not_change_is_refused_and_changes_nothing(server: Server) -> None:
    manifest, other = pod("web", box("a", "pause")), pod("other", box("a", "pause"))
    server.up(manifest, other)
    before = [server.get("web"), server.get("other")]
    changed = with_image(manifest, SECOND)
    changed["spec"]["containers"][0]["command"] = ["/bin/sleep", "1000"]
    with pytest.raises(ConflictError) as caught:
        server.up(with_image(other, SECOND), changed)
    details = str(caught.value.details)
    assert "spec: Forbidden: pod updates may not change fields other than `spec.containers[*].image`," in details
    assert "Cannot be changed in place: spec.containers[0].command" in details
    assert "Changed as well: spec.containers[0].image" in details
    assert "--replace" in str(caught.value.resolution)
    assert [server.get("web"), server.get("other")] == before


def test_S_UPDATE_the_image_that_was_not_there_is_exchanged_without_waiting(server: Server) -> None:
    manifest = with_image(pod("web", box("a", *SHOW)), "tests.local/none")
    server.up(manifest, wait="none")
    until(lambda: server.container("web", "a")["state"].get("waiting", {}).get("reason", "").startswith("Err"))
    began = time.monotonic()
    assert server.up(with_image(manifest, SECOND))["pods"][0]["verdict"] == "configured"
    assert time.monotonic() - began < 5, "the back-off of the image would have lasted ten seconds"
    until(lambda: "VERSION=2" in server.lines("web", "a"))
    assert server.container("web", "a")["restartCount"] == 0


def test_S_UPDATE_S_BACKOFF_begins_anew_with_another_image(server: Server) -> None:
    manifest = pod("web", box("a", "then", "env", ";", "false"))
    server.up(manifest, wait="none")
    until(lambda: server.container("web", "a")["state"].get("waiting", {}).get("reason") == "CrashLoopBackOff")
    assert server.container("web", "a")["restartCount"] == 1
    began = time.monotonic()
    server.up(with_image(manifest, SECOND), wait="none")
    # At once because of the change, and once more as after any first exit.
    until(lambda: server.container("web", "a")["restartCount"] == 2 and "VERSION=2" in server.lines("web", "a"))
    assert time.monotonic() - began < 5
    waiting = server.container("web", "a")["state"]["waiting"]
    assert waiting["message"].startswith("back-off 10s restarting failed container=a")


def test_S_UPDATE_of_a_finished_pod_starts_nothing(server: Server) -> None:
    manifest = pod("job", box("a", "true"), restartPolicy="Never")
    server.up(manifest)
    server.wait("job", "phase=Succeeded")
    manifest["metadata"]["labels"] = {"done": "yes"}
    answer = server.up(with_image(manifest, SECOND))["pods"][0]
    assert (answer["verdict"], answer["phase"]) == ("configured", "Succeeded")
    found = server.get("job")
    assert found["metadata"]["labels"] == {"done": "yes"}
    assert found["spec"]["containers"][0]["image"] == SECOND
    assert server.container("job", "a")["restartCount"] == 0
    assert running(server, "job") == {}


def test_S_UPDATE_of_a_pod_that_is_taken_down_is_refused(server: Server) -> None:
    manifest = pod("web", box("a", "stubborn"), terminationGracePeriodSeconds=20)
    server.up(manifest)
    server.call("pod.down", names=["web"], wait=False)
    with pytest.raises(ConflictError, match="being taken down"):
        server.up(with_image(manifest, SECOND))


def test_S_UPDATE_the_deadline_can_be_set_and_lowered(server: Server) -> None:
    manifest = pod("web", box("a", "pause"))
    server.up(manifest)
    for seconds, fine in ((600, True), (300, True), (301, False), (None, False)):
        manifest["spec"]["activeDeadlineSeconds"] = seconds
        if fine:
            assert server.up(manifest, ignore_unsupported=True)["pods"][0]["verdict"] == "configured"
            continue
        with pytest.raises(ConflictError) as caught:
            server.up(manifest, ignore_unsupported=True)
        assert "spec.activeDeadlineSeconds" in str(caught.value.details)
    assert server.get("web")["spec"]["activeDeadlineSeconds"] == 300
    assert server.get("web")["metadata"]["generation"] == 3


def settled(server: Server, name: str, image: str) -> bool:
    """Whether what runs is what is asked for."""
    if server.get(name)["spec"]["containers"][0]["image"] != image:
        return False
    now = running(server, name).get("a")
    lines = server.lines(name, "a")
    return now is not None and "PATH=/bin" in lines and ("VERSION=2" in lines) == (image == SECOND)


def test_S_UPDATE_several_at_once_leave_one_of_them_whole(server: Server) -> None:
    manifest = pod("web", box("a", *SHOW))
    server.up(manifest)
    failures: list[BaseException] = []

    def change(number: int) -> None:
        mine = with_image(manifest, (IMAGE, SECOND)[number % 2])
        mine["metadata"]["labels"] = {"by": str(number), "image": mine["spec"]["containers"][0]["image"].split("/")[1]}
        try:
            server.up(mine, wait="none")
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=change, args=(number,)) for number in range(12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    found = server.get("web")
    image = found["spec"]["containers"][0]["image"]
    assert found["metadata"]["labels"]["image"] == image.split("/")[1]
    until(lambda: settled(server, "web", image), what="the last one's image runs")


def test_S_UPDATE_a_server_that_is_killed_leaves_it_done_or_not_begun(server: Server) -> None:
    manifest = pod("web", box("a", *SHOW))
    server.up(manifest)
    chance = random.Random(4)
    for number in range(1, 16):
        image = (IMAGE, SECOND)[number % 2]
        killer = threading.Timer(chance.uniform(0.001, 0.06), server.kill)
        killer.start()
        try:
            # The request is repeated by who asked, as by nsrun's own client.
            answer = server.up(with_image(manifest, image), wait="none")["pods"][0]
        finally:
            killer.join()
        assert answer["verdict"] in ("configured", "unchanged")
        until(partial(settled, server, "web", image), what=f"image {image}")
        # What it writes may be seen before the shim has told that it runs.
        until(lambda: len(running(server, "web")) == 1, what="one instance runs")
    assert server.get("web")["metadata"]["generation"] == 16, "each change happened once"
    assert server.container("web", "a")["restartCount"] == 15, "each started the container again once"
