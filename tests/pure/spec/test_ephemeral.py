"""Ephemeral containers are added as the API server adds them: validated, never changed, never removed."""

from __future__ import annotations

from typing import Any

import pytest

from nsrun.errors import ConflictError, SpecError
from nsrun.spec.ephemeral import with_ephemeral
from nsrun.spec.load import load
from nsrun.spec.model import Pod
from nsrun.spec.support import unsupported

MANIFEST = b"""
apiVersion: v1
kind: Pod
metadata: {name: web, namespace: shop}
spec:
  initContainers: [{name: first, image: a}]
  containers: [{name: app, image: a}]
  volumes: [{name: data, emptyDir: {}}]
"""


@pytest.fixture
def pod() -> Pod:
    (verdict,) = load(MANIFEST, "web.yaml")
    found = verdict.require_valid()
    assert isinstance(found, Pod)
    return found


def debugger(**more: Any) -> dict[str, Any]:
    return {"name": "debugger", "image": "tools", **more}


def test_it_is_defaulted_and_the_rest_stays(pod: Pod) -> None:
    new = with_ephemeral(pod, debugger(targetContainerName="app", command=["sh"]))
    (container,) = new.spec.ephemeralContainers
    assert (container.name, container.command, container.targetContainerName) == ("debugger", ["sh"], "app")
    assert (container.imagePullPolicy, container.terminationMessagePolicy) == ("Always", "File")
    assert pod.spec.ephemeralContainers == []
    assert new.spec.containers == pod.spec.containers
    assert [one.path for one in unsupported(new) if one.path.startswith("spec.ephemeral")] == []


def test_the_same_again_is_no_change_and_another_is_refused(pod: Pod) -> None:
    once = with_ephemeral(pod, debugger())
    assert with_ephemeral(once, debugger()) is once
    with pytest.raises(ConflictError, match='existing ephemeral containers "debugger" may not be changed'):
        with_ephemeral(once, debugger(command=["other"]))
    both = with_ephemeral(once, debugger(name="second"))
    assert [one.name for one in both.spec.ephemeralContainers] == ["debugger", "second"]
    # Whichever it is.
    assert with_ephemeral(both, debugger()) is both


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ({"ports": [{"containerPort": 80}]}, "ports: Forbidden: cannot be set for an Ephemeral Container"),
        ({"livenessProbe": {"exec": {"command": ["x"]}}}, "livenessProbe: Forbidden: cannot be set for an Ephemeral"),
        (
            {"lifecycle": {"preStop": {"exec": {"command": ["x"]}}}},
            "lifecycle: Forbidden: cannot be set for an Ephemeral",
        ),
        ({"resources": {"limits": {"cpu": "1"}}}, "resources: Forbidden: cannot be set for an Ephemeral Container"),
        ({"restartPolicy": "Always"}, "restartPolicy: Forbidden: cannot be set for an Ephemeral Container"),
        (
            {"volumeMounts": [{"name": "data", "mountPath": "/x", "subPath": "y"}]},
            "volumeMounts[0].subPath: Forbidden: cannot be set for an Ephemeral Container",
        ),
        ({"name": "app"}, 'name: Duplicate value: "app"'),
        ({"name": "first"}, 'name: Duplicate value: "first"'),
        ({"name": "No Name"}, "name: Invalid value"),
        ({"image": ""}, "image: Required value"),
        ({"targetContainerName": "nope"}, 'targetContainerName: Not found: "nope"'),
        ({"comand": ["x"]}, 'unknown field "spec.ephemeralContainers[0].comand"'),
        ({"command": "x"}, "ephemeralContainers"),
    ],
)
def test_what_the_api_server_refuses(pod: Pod, more: dict[str, Any], message: str) -> None:
    with pytest.raises(SpecError) as caught:
        with_ephemeral(pod, debugger(**more))
    assert message in str(caught.value.details)
    assert "shop/web" in caught.value.brief


def test_a_manifest_may_not_have_any() -> None:
    text = MANIFEST + b"  ephemeralContainers: [{name: x, image: tools}]\n"
    (verdict,) = load(text, "web.yaml")
    assert verdict.messages == ["spec.ephemeralContainers: Forbidden: cannot be set on create"]
