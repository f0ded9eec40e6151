"""Defaulting: single rules (whole objects are compared in test_corpus)."""

from __future__ import annotations

import json
from typing import Any

import pytest

from nsrun import spec
from nsrun.spec.defaults import image_tag


def defaulted(**fields: Any) -> spec.Pod:
    value = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p"}, "spec": fields}
    (verdict,) = spec.load(json.dumps(value).encode(), "p")
    assert isinstance(verdict.object, spec.Pod), verdict.messages
    return verdict.object


@pytest.mark.parametrize(
    ("image", "tag"),
    [
        ("nginx", "latest"), ("nginx:latest", "latest"), ("nginx:1.2", "1.2"), ("a.b:5000/c/d", "latest"),
        ("a.b:5000/c/d:e", "e"), ("localhost/x:y", "y"), (f"x@sha256:{'0' * 64}", ""), (f"x:t@sha256:{'0' * 64}", "t"),
        ("UPPER", ""), ("a b", ""), ("", ""), ("x:", ""), ("0" * 64, ""), ("a" * 300, ""), ("[::1]:5000/x", "latest"),
    ],
)  # fmt: skip
def test_tag_of_an_image(image: str, tag: str) -> None:
    assert image_tag(image) == tag
    policy = "Always" if tag == "latest" else "IfNotPresent"
    assert defaulted(containers=[{"name": "c", "image": image}]).spec.containers[0].imagePullPolicy == policy


def test_namespace() -> None:
    assert defaulted().metadata.namespace == "default"


def test_requests_come_from_limits() -> None:
    pod = defaulted(
        containers=[
            {"name": "c", "resources": {"limits": {"cpu": "0.0001", "memory": "1Gi"}, "requests": {"memory": "1"}}}
        ],
        initContainers=[{"name": "i", "resources": {"limits": {"cpu": "1"}}}],
    )
    assert pod.spec.containers[0].resources.limits == {"cpu": "1m", "memory": "1Gi"}
    assert pod.spec.containers[0].resources.requests == {"cpu": "1m", "memory": "1"}
    assert pod.spec.initContainers[0].resources.requests == {"cpu": "1"}


def test_pod_level_requests() -> None:
    def needs(cpu: str) -> dict[str, Any]:
        return {"resources": {"requests": {"cpu": cpu}}}

    pod = defaulted(
        resources={"limits": {"cpu": "9", "memory": "1Gi"}},
        containers=[{"name": "a", **needs("1")}, {"name": "b", **needs("500m")}],
        initContainers=[
            {"name": "first", **needs("4")},
            {"name": "sidecar", "restartPolicy": "Always", **needs("1")},
            {"name": "last", **needs("2")},
        ],
    )
    # Main containers and sidecar need 2.5; the first init container alone needs 4; the last one beside the sidecar 3.
    assert pod.spec.resources is not None
    assert pod.spec.resources.requests == {"cpu": "4", "memory": "1Gi"}


def test_host_network_ports() -> None:
    ports = [{"containerPort": 80}, {"containerPort": 81, "hostPort": 82}]
    pod = defaulted(hostNetwork=True, containers=[{"name": "c", "ports": ports}])
    assert [port.hostPort for port in pod.spec.containers[0].ports] == [80, 82]
    assert defaulted(containers=[{"name": "c", "ports": ports}]).spec.containers[0].ports[0].hostPort is None


def test_probes_and_hooks() -> None:
    pod = defaulted(
        containers=[
            {
                "name": "c",
                "livenessProbe": {"httpGet": {"port": 1}, "periodSeconds": 3},
                "startupProbe": {"grpc": {"port": 1}},
                "lifecycle": {"preStop": {"httpGet": {"port": 1}}},
            }
        ]
    )
    found = json.loads(spec.encode(pod))["spec"]["containers"][0]
    numbers = {"timeoutSeconds": 1, "successThreshold": 1, "failureThreshold": 3}
    get = {"path": "/", "port": 1, "scheme": "HTTP"}
    assert found["livenessProbe"] == {"httpGet": get, "periodSeconds": 3, **numbers}
    assert found["startupProbe"] == {"grpc": {"port": 1, "service": ""}, "periodSeconds": 10, **numbers}
    assert found["lifecycle"] == {"preStop": {"httpGet": get}}
