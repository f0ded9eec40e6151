"""Strategic merge patches at random: what becomes of a Pod is what kubectl makes of it, whose code is the API server's.

`kubectl patch --local` asks nobody. Left out is what Go's own answer depends on chance for, or ends in a panic.
"""

from __future__ import annotations

import json
import os
import random
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from nsrun.api.forms import strategic
from nsrun.errors import StatusError
from tests.chance import SEED
from tests.host.api.test_kubectl import binaries

pytestmark = [pytest.mark.host, pytest.mark.requires("kubectl")]

COUNT = 2000 if os.environ.get("NSRUN_SOAK") else 80
WORDS = ("x", "y", "z")
MERGE_KEYS = ("name", "containerPort", "protocol", "mountPath", "ip", "topologyKey")

Value = Any
Make = Callable[[], Value]


class Pods:
    """Random Pods, and patches of them."""

    def __init__(self, seed: int) -> None:
        self.chance = random.Random(seed)

    def some(self, fields: dict[str, Make], share: float = 0.5) -> dict[str, Value]:
        return {name: make() for name, make in fields.items() if self.chance.random() < share}

    def word(self) -> str:
        return self.chance.choice(WORDS)

    def words(self) -> list[str]:
        return [self.word() for _ in range(self.chance.randrange(4))]

    def map(self) -> dict[str, str]:
        return {self.chance.choice("abc"): self.word() for _ in range(self.chance.randrange(3))}

    def several(self, make: Make, key: str = "") -> list[Value]:
        """Elements; mostly with a key of their own."""
        found: list[Value] = []
        for one in [make() for _ in range(self.chance.randrange(4))]:
            if not key or all(other.get(key) != one.get(key) for other in found) or self.chance.random() < 0.05:
                found.append(one)
        return found

    def env(self) -> Value:
        sources: list[Value] = [
            {"value": self.word()},
            {"valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}},
            {"valueFrom": {"configMapKeyRef": {"name": "c", "key": self.word()}}},
        ]
        return {"name": self.chance.choice("ABC"), **self.chance.choice(sources)}

    def port(self) -> Value:
        fields: dict[str, Make] = {"protocol": lambda: self.chance.choice(("TCP", "UDP")), "name": self.word}
        return {"containerPort": self.chance.randrange(1, 4), **self.some(fields)}

    def mount(self) -> Value:
        return {"name": "v", "mountPath": f"/{self.word()}"}

    def volume(self) -> Value:
        sources: list[Value] = [
            {"emptyDir": {}},
            {"emptyDir": {"medium": "Memory"}},
            {"hostPath": {"path": "/x"}},
            {"configMap": {"name": self.word(), "items": [{"key": self.word(), "path": "p"}]}},
        ]
        return {"name": self.chance.choice("vwu"), **self.chance.choice(sources)}

    def container(self) -> Value:
        capabilities: dict[str, Make] = {"add": self.words, "drop": self.words}
        security: dict[str, Make] = {
            "runAsUser": lambda: self.chance.randrange(3),
            "capabilities": lambda: self.some(capabilities),
        }
        fields: dict[str, Make] = {
            "image": self.word,
            "args": self.words,
            "env": lambda: self.several(self.env, "name"),
            "ports": lambda: self.several(self.port, "containerPort"),
            "volumeMounts": lambda: self.several(self.mount, "mountPath"),
            "resources": lambda: self.some({"limits": self.map, "requests": self.map}),
            "securityContext": lambda: self.some(security),
            "envFrom": lambda: self.several(lambda: {"configMapRef": {"name": self.word()}}),
        }
        return {"name": self.chance.choice("abc"), **self.some(fields, 0.4)}

    def pod(self) -> Value:
        containers = lambda: self.several(self.container, "name")  # noqa: E731  said once for both
        spec: dict[str, Make] = {
            "containers": containers,
            "initContainers": containers,
            "volumes": lambda: self.several(self.volume, "name"),
            "tolerations": lambda: self.several(lambda: {"key": self.word()}),
            "imagePullSecrets": lambda: self.several(lambda: {"name": self.word()}, "name"),
            "hostAliases": lambda: self.several(lambda: {"ip": self.word(), "hostnames": self.words()}, "ip"),
            "nodeSelector": self.map,
            "securityContext": lambda: self.some({"fsGroup": lambda: self.chance.randrange(3), "sysctls": list}),
            "restartPolicy": lambda: self.chance.choice(("Always", "Never")),
            "dnsConfig": lambda: self.some({"nameservers": self.words, "searches": self.words}),
        }
        metadata: dict[str, Make] = {
            "labels": self.map,
            "annotations": self.map,
            "finalizers": lambda: sorted(set(self.words())),
        }
        return {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {"name": "pod", **self.some(metadata)},
            "spec": self.some(spec),
        }

    def patch(self) -> dict[str, Value]:
        other = self.pod()
        return {"metadata": self._bent(other["metadata"]), "spec": self._bent(other["spec"])}

    def _bent(self, value: Value) -> Value:
        """What could stand there, as a patch says it."""
        if isinstance(value, list):
            found = [self._bent(one) for one in value]
            if found and isinstance(found[0], dict) and self.chance.random() < 0.2:
                found.append({"$patch": "delete", "name": self.chance.choice("abcxyzvwABC")})
            return found
        if not isinstance(value, dict):
            return value
        patch: dict[str, Value] = {}
        for name, one in value.items():
            patch[name] = None if self.chance.random() < 0.12 else self._bent(one)
            if isinstance(one, list) and one and self.chance.random() < 0.25:
                self._direct(patch, name, one)
        if self.chance.random() < 0.05:
            patch["$patch"] = self.chance.choice(("replace", "delete"))
        if self.chance.random() < 0.06:
            patch["$retainKeys"] = [name for name in patch if not name.startswith("$")]
        return patch

    def _direct(self, patch: dict[str, Value], name: str, elements: list[Value]) -> None:
        if isinstance(elements[0], str) and self.chance.random() < 0.5:
            patch[f"$deleteFromPrimitiveList/{name}"] = [self.word()]
            # With both, Go does one or the other first.
            del patch[name]
        elif isinstance(elements[0], str) or MERGE_KEYS[0] in elements[0]:
            order = [_named(one) for one in elements] + [_named(one) for one in elements[:1]]
            self.chance.shuffle(order)
            patch[f"$setElementOrder/{name}"] = order
            if patch[name] is None or self.chance.random() < 0.3:
                del patch[name]
            else:
                # Where something goes and something comes, Go's answer is that of one array under two lists.
                patch[name] = [
                    one for one in patch[name] if not (isinstance(one, dict) and one.get("$patch") == "delete")
                ]


def _named(element: Value) -> Value:
    if not isinstance(element, dict):
        return element
    return {key: value for key, value in element.items() if key in MERGE_KEYS}


def by_kubectl(pod: Value, patch: Value, directory: Path) -> Value:
    """What kubectl makes of it; None where it refuses, "panic" where it breaks."""
    file = directory / "pod.json"
    file.write_text(json.dumps(pod))
    words = [binaries()[-1], "patch", "--local", "-f", str(file), "--type", "strategic", "-p", json.dumps(patch)]
    done = subprocess.run([*words, "-o", "json"], capture_output=True, text=True, timeout=60)
    if "panic:" in done.stderr:
        return "panic"
    return json.loads(done.stdout) if done.returncode == 0 else None


def by_nsrun(pod: Value, patch: Value) -> Value:
    """What nsrun makes of it; None where it refuses."""
    try:
        return strategic.merge("v1", "Pod", pod, patch)
    except StatusError:
        return None


def test_random_patches_are_kubectls(tmp_path: Path) -> None:
    pods = Pods(SEED)
    applied = 0
    for number in range(COUNT):
        pod, patch = pods.pod(), pods.patch()
        theirs = by_kubectl(pod, patch, tmp_path)
        if theirs == "panic":
            continue
        applied += theirs is not None
        told = f"NSRUN_SEED={SEED}, number {number}\npod   {json.dumps(pod)}\npatch {json.dumps(patch)}"
        assert by_nsrun(pod, patch) == theirs, told
    assert applied > COUNT / 4
