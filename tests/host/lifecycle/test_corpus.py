"""Manifests of other people, with this machine's own programs for an image: each status of each is what a kubelet would say."""

from __future__ import annotations

import shutil
import threading
import time
from typing import Any

import pytest
import yaml

from nsrun.errors import NsrunError
from tests.host.lifecycle.oracle import follow, judge
from tests.host.server.harness import IMAGE, LostError, Server, Wire, until
from tests.pure.spec.corpus import ROOT, Case, cases

pytestmark = [pytest.mark.timeout(300), pytest.mark.skipif(not ROOT, reason="NSRUN_CORPUS is not set")]

BATCH = 15
AT_LEAST = 40
"""So many manifests of the corpus can be run here, whatever else is in it."""


def runnable(case: Case) -> dict[str, Any] | None:
    """The Pod of a valid document with this machine for an image, and `pause` for what says nothing of its command.

    None when its programs are not here.
    """
    if case.verdict != "valid":
        return None
    documents = list(yaml.safe_load_all(case.data()))
    pod = documents[case.index] if case.index < len(documents) else None
    if not isinstance(pod, dict) or pod.get("kind") != "Pod":
        return None
    for container in pod["spec"]["containers"] + pod["spec"].get("initContainers", []):
        words = (container.get("command") or []) + (container.get("args") or [])
        if words and not (isinstance(words[0], str) and shutil.which(words[0])):
            return None
        container["image"] = "nsrun.local/host" if words else IMAGE
        container["imagePullPolicy"] = "Never"
    return pod


class Observer:
    """Judges every status that is published, as long as it lives."""

    def __init__(self, server: Server) -> None:
        self.seen: dict[str, dict[str, Any]] = {}
        self.count = 0
        self.problems: list[BaseException] = []
        self._over = False
        self._wire = Wire(server.socket)
        self._wire.sock.settimeout(0.2)
        self._wire.send("pod.watch", {})
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()

    def close(self) -> None:
        self._over = True
        self._thread.join(5)
        self._wire.close()

    def _watch(self) -> None:
        while not self._over:
            try:
                event = self._wire.receive()[0]["event"]
            except TimeoutError:
                continue
            except (LostError, OSError):
                return
            if event["type"] in ("BOOKMARK", "DELETED"):
                continue
            pod = event["object"]
            name = pod["metadata"]["name"]
            try:
                judge(pod)
                if name in self.seen:
                    follow(self.seen[name], pod)
            except AssertionError as problem:
                self.problems.append(problem)
            self.seen[name] = pod
            self.count += 1


def test_S_PHASE_S_COND_S_RESTART_of_manifests_from_everywhere(server: Server) -> None:
    pods = [pod for case in cases() if (pod := runnable(case)) is not None]
    observer = Observer(server)
    ran = 0
    try:
        for begin in range(0, len(pods), BATCH):
            names = []
            for number, pod in enumerate(pods[begin : begin + BATCH]):
                name = f"corpus-{begin + number}"
                pod["metadata"] = {"name": name, "labels": pod["metadata"].get("labels") or {}}
                try:
                    server.up(pod, wait="none")
                except NsrunError as error:
                    assert error.code in ("unsupported", "invalid"), (name, error)
                    continue
                names.append(name)
            until(lambda names=names: all(settled(server.get(name)) for name in names), 30)  # type: ignore[misc]  # bound early
            time.sleep(1.5)
            ran += len(names)
            if names:
                server.down(*names, grace_period_s=1)
    finally:
        observer.close()
    assert not observer.problems, observer.problems[:3]
    assert ran >= AT_LEAST
    assert observer.count > 3 * ran


def settled(pod: dict[str, Any]) -> bool:
    """Whether every container has begun, or will not."""
    status = pod["status"]
    if status.get("phase") in ("Succeeded", "Failed"):
        return True
    return all(
        one["restartCount"] or (one["state"].get("waiting") or {}).get("reason") != "ContainerCreating"
        for one in status.get("containerStatuses", [])
    )
