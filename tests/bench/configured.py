"""What ConfigMaps, variables and limits cost a pod at its start, beside the same pod without them."""

from __future__ import annotations

import json
import time
from typing import Any

import nsrun
from tests.bench.measure import Figure, in_turn, timed
from tests.bench.nsrun_side import Nsrun

VOLUMES = 10
VARIABLES = 20
EXTRA_MS = 5


def config_maps() -> list[dict[str, Any]]:
    """Those that the pod's volumes and variables are made of."""
    return [
        {
            "apiVersion": "v1",
            "kind": "ConfigMap",
            "metadata": {"name": f"m{number}"},
            "data": {"key": f"value {number}", "app.conf": "line of text\n" * 100},
        }
        for number in range(VOLUMES)
    ]


def pod(name: str, *, volumes: bool = False, variables: bool = False, limits: bool = False) -> str:
    """A pod of one container; JSON."""
    container: dict[str, Any] = {
        "name": "a",
        "image": "bench",
        "imagePullPolicy": "Never",
        "command": ["/bin/testbox", "sleep", "1000"],
    }
    spec: dict[str, Any] = {"terminationGracePeriodSeconds": 0, "containers": [container]}
    if volumes:
        names = [f"m{number}" for number in range(VOLUMES)]
        spec["volumes"] = [{"name": one, "configMap": {"name": one}} for one in names]
        container["volumeMounts"] = [{"name": one, "mountPath": f"/config/{one}"} for one in names]
    if variables:
        half = VARIABLES // 2
        container["env"] = [{"name": f"PLAIN_{number}", "value": f"$(PLAIN_0){number}"} for number in range(half)]
        container["env"] += [
            {"name": f"MAP_{number}", "valueFrom": {"configMapKeyRef": {"name": f"m{number % VOLUMES}", "key": "key"}}}
            for number in range(VARIABLES - half)
        ]
    if limits:
        container["resources"] = {
            "requests": {"cpu": "10m", "memory": "16Mi"},
            "limits": {"cpu": "500m", "memory": "64Mi"},
        }
    return json.dumps({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name}, "spec": spec})


def configured(side: Nsrun, runs: int) -> list[Figure]:
    """From the library's request to the exec, and to its answer; what each part adds stands in the JSON."""
    kinds: dict[str, dict[str, bool]] = {
        "bare": {},
        "volumes": {"volumes": True},
        "variables": {"variables": True},
        "limits": {"limits": True},
        "all": {"volumes": True, "variables": True, "limits": True},
    }
    objects = side.root / "objects.yaml"
    objects.write_text("\n---\n".join(map(json.dumps, config_maps())))
    side("object", "apply", "-f", str(objects))
    with side.connect() as client:
        answers: dict[str, list[float]] = {kind: [] for kind in kinds}

        def start(kind: str) -> float:
            text, name = pod(kind, **kinds[kind]), kind
            asked = time.time()
            answers[kind].append(timed(lambda: client.up(text)))
            started = _started(client, name)
            client.down(name, grace_period=0, force=True)
            return (started - asked) * 1e3

        samples = in_turn(runs, **{kind: lambda kind=kind: start(kind) for kind in kinds})
    bare, whole = samples["bare"].median, samples["all"].median
    what = f"{VOLUMES} ConfigMap volumes, {VARIABLES} variables, limits"
    return [
        Figure(
            f"{what}: request to exec'ed", "ms", whole, f"at most {EXTRA_MS} ms more",
            whole - bare <= EXTRA_MS, "bare pod", bare, list(samples.values()),
        )
    ]  # fmt: skip


def _started(client: nsrun.Client, name: str) -> float:
    return float(max(instance["started_at"] for instance in client.pod(name).runtime["instances"]))
