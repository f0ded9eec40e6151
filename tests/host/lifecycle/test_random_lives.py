"""Random pods live at once, servers die, and everything that their containers tell is held against the rules.

The judge is written on what containers say of themselves; it knows nothing of what the server believes. `NSRUN_SEED` repeats a run.
"""

from __future__ import annotations

import random
import time
from typing import Any

import pytest

from tests.chance import SEED
from tests.host.lifecycle.assassin import Assassin
from tests.host.lifecycle.journal import Journal
from tests.host.lifecycle.oracle import judge, try_journal
from tests.host.server.harness import Server, until

pytestmark = pytest.mark.timeout(240)

PODS = 8
POLICIES = ("Always", "OnFailure", "Never")
TEMPO = 100.0
"""Back-off passes so much faster."""


def random_pod(number: int, chance: random.Random, journal: Journal) -> dict[str, Any]:
    """Up to three init containers, sidecars among them, and up to three mains, that end as they like."""
    name = f"p{number}"

    def life(what: str, **keys: Any) -> dict[str, Any]:
        made = journal.life(f"{name}.{what}", **keys)
        return made | {"name": what}

    def codes() -> str:
        return ",".join(str(chance.choice([0, 0, 1, 3])) for _ in range(3)) + f",{chance.choice([0, 0, 1])}"

    inits = []
    for at in range(chance.randint(0, 3)):
        if chance.random() < 0.4:
            keys = {"seconds": chance.choice(["-1", "0.3", "1"]), "code": chance.choice([0, 1])}
            inits.append(life(f"side{at}", **keys) | {"restartPolicy": "Always"})
        else:
            # It gets through in the end, unless the pod never restarts.
            keys = {"seconds": "0.05", "count": f"/dev/shm/i{at}", "codes": chance.choice(["0", "1,0", "2,1,0"])}
            inits.append(life(f"init{at}", **keys))
    mains = []
    for at in range(chance.randint(1, 3)):
        keys = {"seconds": chance.choice(["0.1", "0.5", "-1"]), "count": f"/dev/shm/m{at}", "codes": codes()}
        main = life(f"main{at}", **keys)
        if chance.random() < 0.3:
            main["restartPolicy"] = chance.choice(POLICIES)
        mains.append(main)
    spec = {
        "restartPolicy": chance.choice(POLICIES),
        "terminationGracePeriodSeconds": 10,
        "initContainers": inits,
        "containers": mains,
    }
    return {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name}, "spec": spec}


@pytest.mark.parametrize("deadly", [False, True], ids=["quiet", "deadly"])
def test_S_RESTART_S_INIT_S_SIDECAR_S_PHASE_of_random_pods(
    server: Server, journal: Journal, assassin: Assassin, deadly: bool
) -> None:
    chance = assassin.random
    pods = {f"p{number}": random_pod(number, chance, journal) for number in range(PODS)}

    def live() -> None:
        server.up(*pods.values(), wait="none", time_scale=TEMPO)
        until(lambda: len(journal.lines) > PODS, 40)
        until(_at_rest_or_busy(server, journal), 60)

    if deadly:
        with assassin.at_work(4.0, *(f"p{number}.main0 start" for number in range(PODS)), most=6):
            live()
    else:
        live()
    for name in pods:
        judge(server.get(name))
    running = {name for name in pods if server.get(name)["status"]["phase"] not in ("Succeeded", "Failed")}
    marks = len(journal.lines)
    server.down(*pods, grace_period_s=15)
    lines = journal.lines
    for name, pod in pods.items():
        own = [line.text.removeprefix(f"{name}.") for line in lines if line.text.startswith(f"{name}.")]
        try:
            try_journal(pod, own, told_to_stop=name in running)
        except AssertionError as problem:
            raise AssertionError(f"NSRUN_SEED={SEED}: {name}: {problem}; {own}; {pod['spec']}") from problem
    assert len(lines) >= marks


def _at_rest_or_busy(server: Server, journal: Journal) -> Any:
    """Enough has happened: nobody has said anything for a while, or much was said."""
    last = [-1]

    def enough() -> bool:
        count = len(journal.lines)
        still = count == last[0]
        last[0] = count
        server.call("server.ping")
        time.sleep(0.5)
        return still or count > 60 * PODS

    return enough
