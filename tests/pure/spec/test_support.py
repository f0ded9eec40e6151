"""The table of what nsrun does with each field of a pod."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from nsrun import spec
from nsrun.spec import model, support

STRUCTS = {"v1." + cls.__name__: cls for cls in model.GO_FIELDS}


def patterns(go_type: str, path: str = "") -> Iterator[str]:
    """Every leaf of a type as the table names it."""
    go_type = go_type.removeprefix("*")
    if go_type in model.GO_ALIASES:
        go_type = model.GO_ALIASES[go_type]
    if go_type.startswith("[]") and go_type != "[]byte":
        item = go_type[2:]
        yield from patterns(item, f"{path}[]" if item in STRUCTS else path)
    elif go_type in STRUCTS:
        for name, child in model.GO_FIELDS[STRUCTS[go_type]]:
            yield from patterns(child, f"{path}.{name}" if path else name)
    else:
        yield path


LEAVES = sorted(set(patterns("v1.Pod")))


def test_the_walk_sees_the_whole_api() -> None:
    assert len(LEAVES) > 1000
    assert "spec.initContainers[].env[].valueFrom.secretKeyRef.optional" in LEAVES
    assert "spec.volumes[].projected.sources[].podCertificate.keyType" in LEAVES
    assert "status.containerStatuses[].state.terminated.exitCode" in LEAVES


@pytest.mark.parametrize("pattern", LEAVES)
def test_every_field_has_a_row(pattern: str) -> None:
    row = support.classify(pattern)
    assert row is not None, "give it a row in nsrun/spec/support.py"
    assert row.status in (support.IMPLEMENTED, support.NOT_APPLICABLE, support.NOT_IMPLEMENTED)
    assert row.message or row.status == support.IMPLEMENTED


def test_every_row_is_about_a_field() -> None:
    for pattern in support._expand(support.TABLE):
        assert any(leaf == pattern or leaf.startswith((pattern + ".", pattern + "[")) for leaf in LEAVES), pattern


def test_no_row_is_hidden_by_another() -> None:
    """The walk stops at the first row it meets: a row below another would never be asked."""
    rows = support._expand(support.TABLE)
    for pattern in rows:
        for other in rows:
            assert not pattern.startswith((other + ".", other + "[")), (pattern, other)


def found(**fields: Any) -> dict[str, str]:
    fields.setdefault("containers", [{"name": "c", "image": "i"}])
    value = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p"}, "spec": fields}
    (verdict,) = spec.load(json.dumps(value).encode(), "p")
    assert verdict.verdict == "valid", verdict.messages
    assert isinstance(verdict.object, spec.Pod)
    return {each.path: each.kind for each in spec.unsupported(verdict.object)}


def with_container(**fields: Any) -> dict[str, str]:
    return found(containers=[{"name": "c", "image": "i", **fields}])


def _rule(action: str) -> dict[str, Any]:
    return {"action": action, "exitCodes": {"operator": "In", "values": [7]}}


NO, LATER = spec.NOT_APPLICABLE, spec.NOT_IMPLEMENTED
C = "spec.containers[0]"


def test_what_is_done_is_not_reported() -> None:
    assert found() == {}
    assert (
        found(
            restartPolicy="OnFailure",
            terminationGracePeriodSeconds=1,
            activeDeadlineSeconds=60,
            hostname="h",
            hostAliases=[{"ip": "1.2.3.4", "hostnames": ["x"]}],
            dnsPolicy="None",
            dnsConfig={"nameservers": ["1.1.1.1"], "options": [{"name": "ndots", "value": "1"}]},
            enableServiceLinks=False,
            automountServiceAccountToken=False,
            os={"name": "linux"},
            hostUsers=True,
            shareProcessNamespace=False,
            schedulerName="default-scheduler",
            securityContext={
                "runAsUser": 1,
                "runAsGroup": 1,
                "runAsNonRoot": True,
                "supplementalGroups": [1],
                "supplementalGroupsPolicy": "Strict",
                "seccompProfile": {"type": "Unconfined"},
                "appArmorProfile": {"type": "RuntimeDefault"},
                "sysctls": [{"name": "net.ipv4.tcp_syncookies", "value": "1"}],
            },
            initContainers=[
                {"name": "i", "image": "i", "restartPolicy": "Never"},
                {"name": "s", "image": "i", "restartPolicy": "Always"},
            ],
            containers=[
                {
                    "name": "c",
                    "image": "i",
                    "imagePullPolicy": "Never",
                    "restartPolicy": "OnFailure",
                    "restartPolicyRules": [_rule("Restart")],
                    "command": ["a"],
                    "args": ["b"],
                    "workingDir": "/",
                    "env": [{"name": "A", "value": "$(B)"}],
                    "ports": [{"containerPort": 80, "name": "web", "protocol": "UDP"}],
                    "stdin": True,
                    "stdinOnce": True,
                    "tty": True,
                    "terminationMessagePath": "/dev/termination-log",
                    "terminationMessagePolicy": "File",
                    "resources": {},
                    "lifecycle": {},
                    "securityContext": {
                        "privileged": True,
                        "readOnlyRootFilesystem": True,
                        "capabilities": {"add": ["NET_ADMIN"], "drop": ["ALL"]},
                        "seccompProfile": {"type": "RuntimeDefault"},
                        "procMount": "Default",
                    },
                }
            ],
        )
        == {}
    )


@pytest.mark.parametrize(
    ("reported", "expected"),
    [
        (found(nodeSelector={"a": "b"}, tolerations=[{"operator": "Exists"}], priority=1, schedulerName="mine"),
         {"spec.nodeSelector": NO, "spec.tolerations": NO, "spec.priority": NO, "spec.schedulerName": NO}),
        (found(serviceAccountName="x", imagePullSecrets=[{"name": "x"}], automountServiceAccountToken=True),
         {"spec.serviceAccountName": NO, "spec.automountServiceAccountToken": NO}),
        (found(subdomain="s", hostname="h", setHostnameAsFQDN=True), {}),
        (found(hostnameOverride="over.ride"), {}),
        (
            found(volumes=[{"name": "v", "nfs": {"server": "s", "path": "/"}}]),
            {"spec.volumes[0].nfs": LATER},
        ),
        (found(volumes=[{"name": "v"}, {"name": "h", "hostPath": {"path": "/"}}]), {}),
        (
            found(volumes=[{"name": "v", "emptyDir": {"medium": "Memory", "sizeLimit": "1Mi"}}]),
            {},
        ),
        (found(volumes=[{"name": "v", "emptyDir": {"sizeLimit": "1Mi"}}]), {}),
        (
            found(volumes=[{"name": "v", "emptyDir": {"medium": "Tape"}}]),
            {"spec.volumes[0].emptyDir.medium": LATER},
        ),
        *(
            (found(volumes=[{"name": "v", "image": {"reference": name}}]), {"spec.volumes[0].image": LATER} if own else {})
            for name, own in (("nsrun.local/host", True), ("nsrun.local/host:latest", True), ("nginx", False))
        ),
        (found(hostPID=True, hostIPC=True, hostNetwork=True, shareProcessNamespace=False), {}),
        (found(shareProcessNamespace=True, hostUsers=False), {}),
        (found(hostUsers=False, dnsPolicy="ClusterFirstWithHostNet"), {}),
        (found(runtimeClassName="x", overhead={"cpu": "1"}), {"spec.runtimeClassName": LATER, "spec.overhead": LATER}),
        (found(securityContext={"fsGroup": 1, "seccompProfile": {"type": "Localhost", "localhostProfile": "x"}}), {}),
        (with_container(livenessProbe={"exec": {"command": ["x"]}}), {}),
        (with_container(resources={"limits": {"cpu": "1", "memory": "1Mi"}, "requests": {"cpu": "1"}}), {}),
        (with_container(resources={"limits": {"ephemeral-storage": "1Gi"}}), {}),
        (with_container(resources={"limits": {"cpu": "1", "hugepages-2Mi": "2Mi"}}), {}),
        (found(runtimeClassName="gvisor"), {"spec.runtimeClassName": LATER}),
        (found(overhead={"cpu": "1"}), {"spec.overhead": LATER}),
        (with_container(env=[{"name": "A"}, {"name": "B", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}}]),
         {}),
        (with_container(env=[{"name": "A", "valueFrom": {"resourceFieldRef": {"resource": "limits.cpu"}}},
                             {"name": "B", "valueFrom": {"secretKeyRef": {"name": "s", "key": "k"}}},
                             {"name": "C", "valueFrom": {"configMapKeyRef": {"name": "s", "key": "k"}}}],
                        envFrom=[{"configMapRef": {"name": "m"}}, {"secretRef": {"name": "s"}, "prefix": "P_"}]),
         {}),
        (with_container(ports=[{"containerPort": 1, "hostPort": 1, "hostIP": "1.2.3.4"}]), {}),
        (with_container(ports=[{"containerPort": 1, "hostPort": 1, "hostIP": "fd00::1"}]), {}),
        *(
            (with_container(ports=[{"containerPort": 1, "hostPort": 1, "hostIP": ip}]), {f"{C}.ports[0].hostIP": LATER})
            for ip in ("localhost", "1.2.3", "01.2.3.4", "1.2.3.4/32", "::1", "1.2.3.4 . 22 : 10.0.0.1 . 22, 1.2.3.4")
        ),
        (found(hostNetwork=True, containers=[{"name": "c", "image": "i", "ports": [{"containerPort": 1}]}]), {}),
        (with_container(terminationMessagePath="/x", terminationMessagePolicy="FallbackToLogsOnError"), {}),
        (with_container(restartPolicy="Never", restartPolicyRules=[_rule("RestartAllContainers")]), {}),
        (with_container(lifecycle={"preStop": {"sleep": {"seconds": 1}}}), {}),
        (with_container(securityContext={"seLinuxOptions": {"level": "s0"}, "windowsOptions": {}}),
         {f"{C}.securityContext.seLinuxOptions": NO}),
    ],
)  # fmt: skip
def test_what_is_not_done_is_reported(reported: dict[str, str], expected: dict[str, str]) -> None:
    assert reported == expected


def test_metadata_and_status() -> None:
    value = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "p", "generateName": "p-", "uid": "x", "finalizers": ["a/b"], "labels": {"a": "b"}},
        "spec": {"containers": [{"name": "c", "image": "i"}]},
        "status": {"phase": "Running"},
    }
    (verdict,) = spec.load(json.dumps(value).encode(), "p")
    assert isinstance(verdict.object, spec.Pod)
    assert {each.path: each.kind for each in spec.unsupported(verdict.object)} == {
        "metadata.uid": NO,
        "status": NO,
    }


def test_the_docs_list_exactly_what_is_not_there_yet() -> None:
    page = (Path(__file__).resolve().parents[3] / "docs" / "pods.md").read_text()
    section = page.partition("\n## What is not there yet\n")[2].partition("\n## ")[0]
    listed = re.findall(r"`((?:metadata|spec|container)\.[\w.\[\]]+)(?:: \w+)?`", section)
    assert sorted(listed) == sorted(row.pattern for row in support.TABLE if row.status == LATER)
