"""Manifests of other people, with this machine's own programs for an image: each status of each is what a kubelet would say."""

from __future__ import annotations

import shutil
import time
from typing import Any

import pytest
import yaml

from nsrun.errors import NsrunError
from tests.host.environment.test_objects import apply
from tests.host.lifecycle.watching import Observer
from tests.host.server.harness import IMAGE, Server, until
from tests.pure.spec.corpus import ROOT, Case, cases

pytestmark = [pytest.mark.timeout(300), pytest.mark.skipif(not ROOT, reason="NSRUN_CORPUS is not set")]

BATCH = 15
AT_LEAST = 40
AT_LEAST_MOUNTED = 5
"""So many manifests of the corpus can be run here, whatever else is in it."""


def runnable(case: Case) -> dict[str, Any] | None:
    """The Pod of a valid document with this machine for an image, and `pause` for what says nothing of its command.

    None when its programs are not here, or it can start nowhere: a volume tells of a container that it has not.
    """
    if case.verdict != "valid":
        return None
    documents = list(yaml.safe_load_all(case.data()))
    pod = documents[case.index] if case.index < len(documents) else None
    if not isinstance(pod, dict) or pod.get("kind") != "Pod":
        return None
    names = {container["name"] for container in pod["spec"]["containers"] + pod["spec"].get("initContainers", [])}
    if {
        item["resourceFieldRef"]["containerName"] for item in downward_items(pod) if "resourceFieldRef" in item
    } - names:
        return None
    for container in pod["spec"]["containers"] + pod["spec"].get("initContainers", []):
        words = (container.get("command") or []) + (container.get("args") or [])
        if words and not (isinstance(words[0], str) and shutil.which(words[0])):
            return None
        container["image"] = "nsrun.local/host" if words else IMAGE
        container["imagePullPolicy"] = "Never"
    return pod


def parts_of(pod: dict[str, Any]) -> list[dict[str, Any]]:
    """Its volumes, and the sources of those that are projected."""
    volumes = pod["spec"].get("volumes") or []
    return [part for volume in volumes for part in (volume, *(volume.get("projected") or {}).get("sources", []))]


def downward_items(pod: dict[str, Any]) -> list[dict[str, Any]]:
    """The files that tell of the pod."""
    return [item for part in parts_of(pod) for item in (part.get("downwardAPI") or {}).get("items", [])]


def objects_for(pods: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """ConfigMaps and Secrets with everything in them that pods ask for; they are in no file of the corpus."""
    kinds: dict[tuple[str, str], dict[str, str]] = {}
    for pod in pods:
        _note_objects(pod, kinds)
    return [
        {
            "apiVersion": "v1",
            "kind": kind,
            "metadata": {"name": name},
            "data" if kind == "ConfigMap" else "stringData": data,
        }
        for (kind, name), data in kinds.items()
    ]


def _note_objects(pod: dict[str, Any], kinds: dict[tuple[str, str], dict[str, str]]) -> None:
    def wanted(kind: str, name: str, keys: list[str]) -> None:
        kinds.setdefault((kind, name), {"some.key": "1"}).update(dict.fromkeys(keys, "1"))

    def keys(source: dict[str, Any]) -> list[str]:
        return [item["key"] for item in source.get("items") or []]

    for part in parts_of(pod):
        if part.get("configMap"):
            wanted("ConfigMap", part["configMap"]["name"], keys(part["configMap"]))
        if part.get("secret"):
            secret = part["secret"]
            wanted("Secret", secret.get("secretName") or secret["name"], keys(secret))
    for container in pod["spec"]["containers"] + pod["spec"].get("initContainers", []):
        for variable in container.get("env") or []:
            source = variable.get("valueFrom") or {}
            for field, kind in (("configMapKeyRef", "ConfigMap"), ("secretKeyRef", "Secret")):
                if source.get(field):
                    wanted(kind, source[field]["name"], [source[field]["key"]])
        for source in container.get("envFrom") or []:
            for field, kind in (("configMapRef", "ConfigMap"), ("secretRef", "Secret")):
                if source.get(field):
                    wanted(kind, source[field]["name"], [])


def mounts_objects(pod: dict[str, Any]) -> bool:
    """Whether files of ConfigMaps or Secrets are among its volumes."""
    return any(part.get("configMap") or part.get("secret") for part in parts_of(pod))


def test_S_PHASE_S_COND_S_RESTART_of_manifests_from_everywhere(server: Server) -> None:
    pods = [pod for case in cases() if (pod := runnable(case)) is not None]
    apply(server, *objects_for(pods))
    observer = Observer(server)
    ran = 0
    mounted: list[str] = []
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
                if mounts_objects(pod):
                    mounted.append(name)
            until(lambda names=names: all(settled(server.get(name)) for name in names), 30)  # type: ignore[misc]  # bound early
            time.sleep(1.5)
            ran += len(names)
            assert not [name for name in names if "FailedMount" in server.reasons(name)]
            if names:
                server.down(*names, grace_period_s=1)
    finally:
        observer.close()
    assert not observer.problems, observer.problems[:3]
    assert ran >= AT_LEAST
    assert len(mounted) >= AT_LEAST_MOUNTED
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
