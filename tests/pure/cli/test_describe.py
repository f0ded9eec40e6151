"""`pod describe`, `pod events` and `pod ls` as kubectl prints them."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nsrun.cli.describe_container import handler_words, probe_words, state_lines
from nsrun.cli.describe_volume import volume_lines
from nsrun.cli.pod_describe import annotation_lines, event_lines, lines_of, toleration_lines
from nsrun.cli.pod_show import event_row
from nsrun.cli.show import heads_of, in_columns, row
from nsrun.cli.tabs import tabbed

NOW = 1_763_836_300.0
"""2025-11-22T18:31:40Z."""


@pytest.fixture(autouse=True)
def _a_certain_time(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("TZ", "UTC")
    time.tzset()
    monkeypatch.setattr(time, "time", lambda: NOW)
    yield
    monkeypatch.undo()
    time.tzset()


POD: dict[str, Any] = {
    "metadata": {
        "name": "web",
        "namespace": "shop",
        "uid": "u-1",
        "labels": {"tier": "front", "app": "web"},
        "annotations": {
            "note": "short",
            "kubectl.kubernetes.io/last-applied-configuration": "hidden",
            "lines": "one\ntwo\n",
        },
    },
    "spec": {
        "nodeName": "box",
        "serviceAccountName": "default",
        "readinessGates": [{"conditionType": "example.com/lb"}, {"conditionType": "example.com/none"}],
        "initContainers": [{"name": "setup", "image": "img:1", "args": ["a b", "c\nd"]}],
        "containers": [
            {
                "name": "app",
                "image": "img:2",
                "command": ["serve", "--all"],
                "ports": [
                    {"containerPort": 80, "hostPort": 8080, "protocol": "TCP"},
                    {"containerPort": 53, "protocol": "UDP"},
                ],
                "resources": {"limits": {"memory": "64Mi", "cpu": "1"}, "requests": {"memory": "32Mi"}},
                "livenessProbe": {
                    "httpGet": {"path": "/healthz", "port": 80, "scheme": "HTTP"},
                    "initialDelaySeconds": 5,
                    "timeoutSeconds": 1,
                    "periodSeconds": 10,
                    "successThreshold": 1,
                    "failureThreshold": 3,
                },
                "readinessProbe": {"exec": {"command": ["cat", "/ready"]}},
                "lifecycle": {"preStop": {"sleep": {"seconds": 5}}},
                "envFrom": [
                    {"configMapRef": {"name": "settings"}, "prefix": "X_"},
                    {"secretRef": {"name": "s", "optional": True}},
                ],
                "env": [
                    {"name": "PLAIN", "value": "one\ntwo"},
                    {"name": "POD", "valueFrom": {"fieldRef": {"apiVersion": "v1", "fieldPath": "metadata.name"}}},
                    {"name": "TIER", "valueFrom": {"fieldRef": {"fieldPath": "metadata.labels['tier']"}}},
                    {"name": "IP", "valueFrom": {"fieldRef": {"fieldPath": "status.podIP"}}},
                    {"name": "KEY", "valueFrom": {"secretKeyRef": {"name": "s", "key": "k"}}},
                    {"name": "MAP", "valueFrom": {"configMapKeyRef": {"name": "m", "key": "k", "optional": True}}},
                    {"name": "MEM", "valueFrom": {"resourceFieldRef": {"resource": "limits.memory"}}},
                    {"name": "EPH", "valueFrom": {"resourceFieldRef": {"resource": "requests.ephemeral-storage"}}},
                ],
                "volumeMounts": [
                    {"name": "data", "mountPath": "/z", "subPath": "sub"},
                    {"name": "site", "mountPath": "/a", "readOnly": True},
                ],
            },
        ],
        "ephemeralContainers": [{"name": "debugger", "image": "img:3"}],
        "volumes": [
            {"name": "data", "emptyDir": {"sizeLimit": "1Gi"}},
            {"name": "site", "configMap": {"name": "pages"}},
        ],
        "tolerations": [{"key": "k", "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 300}],
    },
    "status": {
        "phase": "Running",
        "startTime": "2025-11-22T18:30:41Z",
        "hostIP": "192.0.2.1",
        "podIP": "10.85.0.2",
        "podIPs": [{"ip": "10.85.0.2"}, {"ip": "fd00::2"}],
        "qosClass": "Burstable",
        "conditions": [
            {"type": "example.com/lb", "status": "True"},
            {
                "type": "Ready",
                "status": "False",
                "reason": "ContainersNotReady",
                "message": "containers with unready status: [app]",
            },
        ],
        "initContainerStatuses": [
            {
                "name": "setup",
                "state": {
                    "terminated": {
                        "exitCode": 0,
                        "reason": "Completed",
                        "message": "made\nready\n",
                        "startedAt": "2025-11-22T18:30:41Z",
                        "finishedAt": "2025-11-22T18:30:42Z",
                    }
                },
                "ready": True,
                "restartCount": 0,
                "containerID": "nsrun://s",
                "imageID": "sha256:1",
            }
        ],
        "containerStatuses": [
            {
                "name": "app",
                "state": {"running": {"startedAt": "2025-11-22T18:30:50Z"}},
                "lastState": {
                    "terminated": {
                        "exitCode": 137,
                        "reason": "OOMKilled",
                        "startedAt": "2025-11-22T18:30:43Z",
                        "finishedAt": "2025-11-22T18:30:44Z",
                    }
                },
                "ready": False,
                "restartCount": 1,
                "containerID": "nsrun://a",
                "imageID": "sha256:2",
            }
        ],
        "ephemeralContainerStatuses": [
            {
                "name": "debugger",
                "state": {"waiting": {"reason": "ErrImagePull", "message": "no such image"}},
                "restartCount": 0,
                "image": "img:3",
            }
        ],
    },
}
EVENTS: list[dict[str, Any]] = [
    {
        "type": "Warning",
        "reason": "BackOff",
        "message": "Back-off\x1b[31m restarting",
        "count": 3,
        "firstTimestamp": "2025-11-22T18:29:40Z",
        "lastTimestamp": "2025-11-22T18:31:35Z",
        "source": {"component": "nsrun", "host": "box"},
        "involvedObject": {"kind": "Pod", "name": "web"},
    },
    {
        "type": "Normal",
        "reason": "Started",
        "message": "Container started\n",
        "count": 1,
        "firstTimestamp": "2025-11-22T18:30:50Z",
        "lastTimestamp": "2025-11-22T18:30:50Z",
        "source": {"component": "nsrun", "host": "box"},
        "involvedObject": {"kind": "Pod", "name": "web"},
    },
]

DESCRIPTION = """\
Name:             web
Namespace:        shop
Service Account:  default
Node:             box/192.0.2.1
Start Time:       Sat, 22 Nov 2025 18:30:41 +0000
Labels:           app=web
                  tier=front
Annotations:      lines:
                    one
                    two
                  note: short
Status:           Running
IP:               10.85.0.2
IPs:
  IP:  10.85.0.2
  IP:  fd00::2
Init Containers:
  setup:
    Container ID:  nsrun://s
    Image:         img:1
    Image ID:      sha256:1
    Port:          <none>
    Host Port:     <none>
    Args:
      a b
      c
      d
    State:          Terminated
      Reason:       Completed
      Message:      made
                    ready
      Exit Code:    0
      Started:      Sat, 22 Nov 2025 18:30:41 +0000
      Finished:     Sat, 22 Nov 2025 18:30:42 +0000
    Ready:          True
    Restart Count:  0
    Environment:    <none>
    Mounts:         <none>
Containers:
  app:
    Container ID:  nsrun://a
    Process:       pid 42
    Image:         img:2
    Image ID:      sha256:2
    Ports:         80/TCP, 53/UDP
    Host Ports:    8080/TCP, 0/UDP
    Command:
      serve
      --all
    State:          Running
      Started:      Sat, 22 Nov 2025 18:30:50 +0000
    Last State:     Terminated
      Reason:       OOMKilled
      Exit Code:    137
      Started:      Sat, 22 Nov 2025 18:30:43 +0000
      Finished:     Sat, 22 Nov 2025 18:30:44 +0000
    Ready:          False
    Restart Count:  1
    Limits:
      cpu:     1
      memory:  64Mi
    Requests:
      memory:   32Mi
    Liveness:   http-get http://:80/healthz delay=5s timeout=1s period=10s #success=1 #failure=3
    Readiness:  exec [cat /ready] delay=0s timeout=1s period=10s #success=1 #failure=3
    Pre-Stop:   sleep 5s
    Environment Variables from:
      settings  ConfigMap with prefix 'X_'  Optional: false
      s         Secret                      Optional: true
    Environment:
      PLAIN:  one
              two
      POD:    web (v1:metadata.name)
      TIER:   front (v1:metadata.labels['tier'])
      IP:      (v1:status.podIP)
      KEY:    <set to the key 'k' in secret 's'>      Optional: false
      MAP:    <set to the key 'k' of config map 'm'>  Optional: true
      MEM:    64Mi (limits.memory)
      EPH:    0 (requests.ephemeral-storage)
    Mounts:
      /a from site (ro)
      /z from data (rw,path="sub")
Ephemeral Containers:
  debugger:
    Container ID:
    Image:          img:3
    Image ID:
    Port:           <none>
    Host Port:      <none>
    State:          Waiting
      Reason:       ErrImagePull
      Message:      no such image
    Ready:          False
    Restart Count:  0
    Environment:    <none>
    Mounts:         <none>
Readiness Gates:
  Type               Status
  example.com/lb     True
  example.com/none   <none>
Conditions:
  Type             Status
  example.com/lb   True
  Ready            False   ContainersNotReady: containers with unready status: [app]
Volumes:
  data:
    Type:       EmptyDir (a temporary directory that shares a pod's lifetime)
    Medium:
    SizeLimit:  1Gi
  site:
    Type:        ConfigMap (a volume populated by a ConfigMap)
    Name:        pages
    Optional:    false
QoS Class:       Burstable
Node-Selectors:  <none>
Tolerations:     k:NoExecute op=Exists for 300s
Events:
  Type     Reason   Age              From   Message
  ----     ------   ----             ----   -------
  Normal   Started  50s              nsrun  Container started
  Warning  BackOff  5s (x3 over 2m)  nsrun  Back-off [31m restarting
"""


def test_the_whole_description_of_a_pod() -> None:
    runtime = {"instances": [{"name": "app", "pid": 42}]}
    assert "\n".join(lines_of(POD, runtime, EVENTS)) + "\n" == DESCRIPTION


def test_a_pod_that_goes_and_one_that_failed() -> None:
    metadata = {"name": "p", "deletionTimestamp": "2025-11-22T18:31:30Z", "deletionGracePeriodSeconds": 30}
    pod = {"metadata": metadata, "spec": {"containers": []}, "status": {"phase": "Running"}}
    text = "\n".join(lines_of(pod, {}, []))
    assert "Status:                    Terminating (lasts 10s)\nTermination Grace Period:  30s\n" in text
    assert text.endswith("Events:  <none>")
    pod["status"] = {"phase": "Failed", "reason": "DeadlineExceeded", "message": "too long"}
    text = "\n".join(lines_of(pod, {}, []))
    assert "Status:       Failed\nReason:       DeadlineExceeded\nMessage:      too long\n" in text
    assert "Node:         <none>\n" in text


@pytest.mark.parametrize(
    ("handler", "expected"),
    [
        ({"exec": {"command": ["a", "b c"]}}, "exec [a b c]"),
        ({"httpGet": {"port": "web", "scheme": "HTTPS", "host": "h", "path": "/x"}}, "http-get https://h:web/x"),
        ({"httpGet": {"port": 1, "host": "::1"}}, "http-get http://[::1]:1"),
        ({"tcpSocket": {"port": 5432}}, "tcp-socket :5432"),
        ({"grpc": {"port": 9, "service": "s"}}, "grpc <pod>:9 s"),
        ({"sleep": {"seconds": 3}}, "sleep 3s"),
        ({}, "unknown"),
    ],
)
def test_handlers(handler: dict[str, Any], expected: str) -> None:
    assert handler_words(handler) == expected
    assert probe_words(handler) == f"{expected} delay=0s timeout=1s period=10s #success=1 #failure=3"


@pytest.mark.parametrize(
    ("volume", "expected"),
    [
        ({"hostPath": {"path": "/x"}}, ["HostPath (bare host directory volume)", "/x", "<none>"]),
        ({"secret": {"secretName": "s", "optional": True}}, ["Secret (a volume populated by a Secret)", "s", "true"]),
        (
            {
                "projected": {
                    "sources": [{"configMap": {"name": "m"}}, {"downwardAPI": {}}, {"serviceAccountToken": {}}]
                }
            },
            ["Projected (a volume that contains injected data from multiple sources)", "m", "false", "true", "3600"],
        ),
        (
            {"persistentVolumeClaim": {"claimName": "c"}},
            ["PersistentVolumeClaim (a reference to a PersistentVolumeClaim in the same namespace)", "c", "false"],
        ),
        ({"image": {"reference": "r"}}, ["Image (a container image or OCI artifact)", "r", ""]),
        ({"iscsi": {}}, ["iscsi"]),
        ({}, ["EmptyDir (a temporary directory that shares a pod's lifetime)", "", "<unset>"]),
    ],
)
def test_volumes(volume: dict[str, Any], expected: list[str]) -> None:
    lines = volume_lines({"name": "v", **volume})
    assert lines[0] == "  v:"
    assert [line.partition("\t")[2] for line in lines[1:]] == expected


def test_files_of_the_downward_api() -> None:
    items = [
        {"path": "l", "fieldRef": {"fieldPath": "metadata.labels"}},
        {"path": "m", "resourceFieldRef": {"resource": "limits.cpu"}},
    ]
    lines = volume_lines({"name": "v", "downwardAPI": {"items": items}})
    assert lines[-3:] == ["    Items:", "      metadata.labels -> l", "      limits.cpu -> m"]


def test_long_annotations_are_cut() -> None:
    first, second = annotation_lines({"a": "x" * 300})
    assert first == "Annotations:\ta:"
    assert second == "\t  " + "x" * 138 + "..."


@pytest.mark.parametrize(
    ("toleration", "expected"),
    [
        ({"key": "k", "value": "v", "effect": "NoSchedule"}, "k=v:NoSchedule"),
        ({"operator": "Exists"}, "op=Exists"),
        ({"key": "k", "operator": "Exists"}, "k op=Exists"),
    ],
)
def test_tolerations(toleration: dict[str, Any], expected: str) -> None:
    assert toleration_lines([toleration]) == [f"Tolerations:\t{expected}"]


def test_an_unknown_state_is_waiting() -> None:
    assert state_lines("State", {}) == ["    State:\tWaiting"]


def test_S_EVENTS_as_kubectl_describes_and_lists_them() -> None:
    assert event_lines([]) == ["Events:\t<none>"]
    assert event_row(EVENTS[0]) == ["5s (x3 over 2m)", "Warning", "BackOff", "Pod/web", "Back-off [31m restarting"]
    assert event_row(EVENTS[1])[0] == "50s"


def test_a_row_of_pod_ls() -> None:
    columns = {"ready": "1/2", "status": "Running", "restarts": "3 (5s ago)", "age_s": 65.0}
    assert row(POD, columns, False, "table") == ["web", "1/2", "Running", "3 (5s ago)", "65s"]
    wide = row(POD, columns, True, "wide")
    assert dict(zip(heads_of(True, "wide"), wide, strict=True)) == {
        "NAMESPACE": "shop",
        "NAME": "web",
        "READY": "1/2",
        "STATUS": "Running",
        "RESTARTS": "3 (5s ago)",
        "AGE": "65s",
        "IP": "10.85.0.2",
        "NODE": "box",
        "NOMINATED NODE": "<none>",
        "READINESS GATES": "1/2",
    }
    bare: dict[str, Any] = {"metadata": {"name": "p"}, "spec": {"containers": []}}
    assert row(bare, columns, False, "wide")[5:] == ["<none>"] * 4


def test_columns_are_three_blanks_apart() -> None:
    assert in_columns(["a", "", "c"], [3, 2, 9]) == "a          c"


@given(st.lists(st.lists(st.text(alphabet="ab ", max_size=5), min_size=1, max_size=4), max_size=8))
def test_tabbed_keeps_every_cell_and_aligns_neighbours(rows: list[list[str]]) -> None:
    lines = tabbed(["\t".join(cells) for cells in rows])
    assert len(lines) == len(rows)
    for cells, line in zip(rows, lines, strict=True):
        assert line.replace(" ", "") == "".join(cells).replace(" ", "")
        assert line == line.rstrip()
    for above, below, first, second in zip(rows, rows[1:], lines, lines[1:], strict=False):
        if len(above) > 1 and len(below) > 1 and above[1].strip() and below[1].strip():
            width = max(len(above[0]), len(below[0])) + 2
            assert first[:width].strip() == above[0].strip()
            assert second[:width].strip() == below[0].strip()


def test_tabbed_as_gos_tabwriter_does() -> None:
    assert tabbed(["a\tb\tc", "aaa\tb\tc", "x", "a\tb"]) == ["a    b  c", "aaa  b  c", "x", "a  b"]
