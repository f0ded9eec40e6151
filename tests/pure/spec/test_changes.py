"""What `pod up` says of a manifest that has changed."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest

from nsrun.spec import Pod, changes, load

TEXT = b"""\
apiVersion: v1
kind: Pod
metadata: {name: p, labels: {a: "1", b: "2"}}
spec:
  containers:
  - {name: c, image: i, args: [u, v], env: [{name: A, value: "1"}]}
  - {name: d, image: i}
"""


def pod() -> Pod:
    obj = load(TEXT, "p")[0].require_valid()
    assert isinstance(obj, Pod)
    return obj


def _edit(path: str, value: Any) -> Callable[[Pod], None]:
    def edit(target: Pod) -> None:
        *parents, last = path.split(".")
        place: Any = target
        for step in parents:
            place = place[int(step)] if isinstance(place, list) else getattr(place, step)
        if isinstance(place, dict):
            place[last] = value
        else:
            setattr(place, last, value)

    return edit


@pytest.mark.parametrize(
    ("edit", "paths"),
    [
        (_edit("spec.containers.0.image", "j"), ["spec.containers[0].image"]),
        (_edit("spec.containers.0.args", ["u"]), ["spec.containers[0].args"]),
        (_edit("spec.containers.0.env.0.value", "2"), ["spec.containers[0].env[0].value"]),
        (_edit("spec.hostNetwork", True), ["spec.hostNetwork"]),
        (_edit("spec.containers.0.securityContext", None), []),
        (_edit("metadata.labels.c", "3"), ["metadata.labels[c]"]),
        (_edit("metadata.labels.a", "3"), ["metadata.labels[a]"]),
        (_edit("metadata.uid", "x"), []),
        (_edit("metadata.resourceVersion", "7"), []),
        (_edit("status.phase", "Running"), []),
        (lambda target: target.spec.containers.pop(), ["spec.containers[1]"]),
        (lambda target: target.spec.containers.pop(0), [
            "spec.containers[0].name", "spec.containers[0].args", "spec.containers[0].env[0]", "spec.containers[1]",
        ]),
    ],
)  # fmt: skip
def test_changes(edit: Callable[[Pod], Any], paths: list[str]) -> None:
    old = pod()
    new = copy.deepcopy(old)
    edit(new)
    assert changes(old, new) == paths
    assert changes(new, old) == paths
