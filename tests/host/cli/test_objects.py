"""The objects of real pods, all the way from their beginning to their end, read by Kubernetes' own Python client."""

from __future__ import annotations

import json
import subprocess
import threading
import time
from collections.abc import Callable
from typing import Any

from tests.capabilities import PATIENCE
from tests.host.cli.conftest import SLEEPER, bring_up, container, manifest
from tests.host.testhost import Host
from tests.pure.status.api_models import assert_event, assert_pod


class Stream:
    """What a watching command prints, line by line."""

    def __init__(self, box: Host, *words: str) -> None:
        argv = box.nsrun_argv("pod", *words)
        self._process = subprocess.Popen(argv, env=box.environment, stdout=subprocess.PIPE, text=True)
        self.objects: list[dict[str, Any]] = []
        self._thread = threading.Thread(target=self._read)
        self._thread.start()

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            self.objects.append(json.loads(line))

    def until(self, heard: Callable[[list[dict[str, Any]]], bool]) -> None:
        """Wait until it has printed that: it has a process to begin with, and reads at its own speed."""
        deadline = time.monotonic() + 20 * PATIENCE
        while not heard(self.objects):
            assert time.monotonic() < deadline, self.objects
            time.sleep(0.01)

    def end(self) -> list[dict[str, Any]]:
        """Stop it; everything it printed."""
        self._process.terminate()
        self._process.wait()
        self._thread.join()
        assert self._process.stdout is not None
        self._process.stdout.close()
        return self.objects


def version(pod: dict[str, Any]) -> int:
    """The resourceVersion."""
    return int(pod["metadata"]["resourceVersion"])


def test_S_COND_S_REASONS_every_object_of_real_pods_fits_the_clients_models(box: Host) -> None:
    pods, events = Stream(box, "ls", "-w", "-o", "json"), Stream(box, "events", "-w", "-o", "json")
    crash = container("crash", "echo last words; exit 3") | {"terminationMessagePolicy": "FallbackToLogsOnError"}
    steady = container("steady", SLEEPER) | {"securityContext": {"runAsUser": 1000, "runAsGroup": 3000}}
    inits = [container("setup", "true"), container("side", SLEEPER) | {"restartPolicy": "Always"}]
    bring_up(box, manifest("many", crash, steady, initContainers=inits), "--no-wait")
    bring_up(box, manifest("done", container("app", "exit 0"), restartPolicy="Never"), "--no-wait")
    bring_up(
        box, manifest("bad", container("app", "x") | {"command": ["/not/there"]}, restartPolicy="Never"), "--no-wait"
    )
    box.nsrun(
        "pod",
        "wait",
        "many",
        '--for=jsonpath={.status.containerStatuses[?(@.name=="crash")].state.waiting.reason}=CrashLoopBackOff',
    )
    box.nsrun("pod", "wait", "done", "--for=phase=Succeeded")
    box.nsrun("pod", "wait", "bad", "--for=phase=Failed")
    listed = json.loads(box.nsrun("pod", "ls", "-o", "json").stdout)
    box.nsrun("pod", "down", "many", "done", "bad")
    pods.until(lambda seen: {"many", "done", "bad"} <= {pod["metadata"]["name"] for pod in seen})
    events.until(lambda happened: "Killing" in {event["reason"] for event in happened})
    seen, happened = pods.end(), events.end()
    for pod in (*seen, *listed["items"]):
        assert_pod(pod)
    for event in happened:
        assert_event(event)
    mine = [pod for pod in seen if pod["metadata"]["name"] == "many"]
    assert [version(pod) for pod in mine] == sorted({version(pod) for pod in mine})
    (crashing, running) = next(one for one in listed["items"] if one["metadata"]["name"] == "many")["status"][
        "containerStatuses"
    ]
    assert crashing["lastState"]["terminated"]["message"] == "last words\n"
    assert running["user"]["linux"] == {"uid": 1000, "gid": 3000, "supplementalGroups": [3000]}
    bad = next(one for one in listed["items"] if one["metadata"]["name"] == "bad")
    assert bad["status"]["containerStatuses"][0]["state"]["terminated"]["reason"] == "StartError"
    assert {event["reason"] for event in happened} >= {"Created", "Started", "BackOff", "Failed", "Killing"}


def test_S_PHASE_a_pod_that_goes_is_told_of_at_once_and_ends_failed(box: Host) -> None:
    bring_up(box, manifest("going", container("app", SLEEPER)))
    watched = Stream(box, "ls", "-w", "-o", "json", "--output-watch-events")
    box.nsrun("pod", "wait", "going", "--for=condition=Ready")
    watched.until(lambda changes: "going" in [one["object"]["metadata"]["name"] for one in changes])
    box.nsrun("pod", "down", "going")
    watched.until(lambda changes: changes[-1]["type"] == "DELETED")
    changes = [one for one in watched.end() if one["object"]["metadata"]["name"] == "going"]
    terminating = next(one["object"] for one in changes if one["object"]["metadata"].get("deletionTimestamp"))
    assert terminating["status"]["phase"] == "Running"
    assert changes[-1]["type"] == "DELETED"
    assert changes[-1]["object"]["status"]["phase"] in ("Failed", "Succeeded")


def test_objects_of_the_cluster_and_of_all_namespaces_are_removed(box: Host) -> None:
    """kubectl's words: a PersistentVolume has no namespace, and --all -A means all namespaces."""
    kept = [
        {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "c", "namespace": space}} for space in ("a", "b")
    ]
    kept.append(
        {
            "apiVersion": "v1",
            "kind": "PersistentVolume",
            "metadata": {"name": "v"},
            "spec": {"capacity": {"storage": "1Gi"}, "accessModes": ["ReadWriteOnce"], "hostPath": {"path": "/v"}},
        }
    )
    box.nsrun("object", "apply", "-", stdin="\n---\n".join(json.dumps(one) for one in kept))
    try:
        for words in (("cm", "c", "-A"), ("cm/c", "--all-namespaces")):
            refused = box.nsrun("object", "rm", *words, check=False)
            assert (refused.returncode, "by name across all namespaces" in refused.stderr) == (2, True)
        assert box.nsrun("object", "rm", "cm", "--all").stderr == "No resources found\n"
        gone = box.nsrun("object", "rm", "cm,pv", "--all", "-A").stdout.splitlines()
        assert [line for line in gone if "kube-root-ca.crt" not in line] == [
            'configmap "c" deleted from a namespace',
            'configmap "c" deleted from b namespace',
            'persistentvolume "v" deleted',
        ]
    finally:
        box.nsrun("object", "rm", "cm,pv", "--all", "-A")
    assert box.nsrun("object", "rm", "pv", "--all").stderr == "No resources found\n"
    lacking = box.nsrun("object", "rm", "pv", "v", check=False)
    assert (lacking.returncode, "namespace" in lacking.stderr) == (4, False)
    assert 'persistentvolumes "v" not found' in lacking.stderr
