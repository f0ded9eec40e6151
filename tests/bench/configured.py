"""What ConfigMaps, variables and limits cost a pod at its start, beside the same pod without them."""

from __future__ import annotations

import json
import time
from typing import Any

import nsrun
from tests.bench.measure import Figure, in_turn, timed
from tests.bench.nsrun_side import Nsrun
from tests.host.server.harness import Wire

VOLUMES = 10
VARIABLES = 20
EXTRA_MS = 5
UPDATE_MS = 20
PATIENCE_S = 10.0


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

        changes = _Changes(side, client)
        update = in_turn(runs, update=changes.one)["update"]
        changes.close()
        samples = in_turn(runs, **{kind: lambda kind=kind: start(kind) for kind in kinds})
    bare, whole = samples["bare"].median, samples["all"].median
    what = f"{VOLUMES} ConfigMap volumes, {VARIABLES} variables, limits"
    return [
        Figure(
            f"{what}: request to exec'ed", "ms", whole, f"at most {EXTRA_MS} ms more",
            whole - bare <= EXTRA_MS, "bare pod", bare, list(samples.values()),
        ),
        Figure(
            "request to change a ConfigMap, to its file in the pod", "ms", update.median, f"at most {UPDATE_MS} ms",
            update.median <= UPDATE_MS, samples=[update],
        ),
    ]  # fmt: skip


class _Changes:
    """A pod whose ConfigMap is changed again and again."""

    def __init__(self, side: Nsrun, client: nsrun.Client) -> None:
        self._client = client
        self._wire = Wire(side.root / "run" / "nsrun.sock")
        self._number = 0
        pod_ = client.up(pod("changes", volumes=True))
        self._file = side.root / "run" / "pods" / pod_.uid / "volumes" / ".configmaps" / "m0" / "key"

    def one(self) -> float:
        """Milliseconds from the request to the moment that the file, looked at all the time, has the new value."""
        self._number += 1
        text = f"change {self._number}"
        wanted = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "m0"}, "data": {"key": text}}
        documents = [{"name": "m0.json", "text": json.dumps(wanted)}]
        begun = time.perf_counter()
        self._wire.send("object.apply", {"documents": documents})
        while self._file.read_text() != text:
            if time.perf_counter() - begun > PATIENCE_S:
                raise TimeoutError("the ConfigMap's file does not change")
            time.sleep(0.0001)
        spent = (time.perf_counter() - begun) * 1e3
        self._wire.receive()
        return spent

    def close(self) -> None:
        self._wire.close()
        self._client.down("changes", grace_period=0, force=True)


def _started(client: nsrun.Client, name: str) -> float:
    return float(max(instance["started_at"] for instance in client.pod(name).runtime["instances"]))
