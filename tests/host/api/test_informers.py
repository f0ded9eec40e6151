"""Clients that keep a copy of what there is: right after ten thousand changes, while processes are killed and history is forgotten.

The changes are of Secrets, which are kept in memory, and are made many at a time by nsrun itself: it is the watching that is tried here.
"""

from __future__ import annotations

import base64
import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.capabilities import PATIENCE
from tests.host.api.conftest import ApiProcess
from tests.host.api.informers import BEGIN, END, INFORMERS

pytestmark = pytest.mark.host

SPACE = "watched"
SECRETS = f"/api/v1/namespaces/{SPACE}/secrets"
BIG = "/api/v1/namespaces/default/secrets/big"
OBJECTS = 1000
CHANGES = 10_000
MERGE = "application/merge-patch+json"

Program = subprocess.Popen[str]


def version(obj: dict[str, Any]) -> str:
    found: str = obj["metadata"]["resourceVersion"]
    return found


def value(number: int) -> str:
    return base64.b64encode(str(number).encode()).decode()


def applied(api: ApiProcess, number: int, directory: Path) -> subprocess.Popen[bytes]:
    """Change all objects at once, or make them."""
    items = [
        {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": f"s{index}"}, "data": {"round": value(number)}}
        for index in range(OBJECTS)
    ]
    path = directory / f"{number}.json"
    path.write_text(json.dumps({"apiVersion": "v1", "kind": "List", "items": items}))
    return subprocess.Popen(
        api.host.nsrun_argv("object", "apply", "-n", SPACE, "-f", path),
        env=api.host.environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )


def kill_server(api: ApiProcess) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.kill(int((api.host.root / "run" / "lock").read_text()), signal.SIGKILL)


def reached(api: ApiProcess, number: int) -> None:
    """Until a round has come to some of the objects, but not to all: seen on the disk, for the server has no time to answer."""
    path = api.host.root / "run" / "objects" / "secret" / SPACE / "s99.json"
    deadline = time.monotonic() + 20 * PATIENCE
    while value(number) not in (path.read_text() if path.exists() else ""):
        assert time.monotonic() < deadline
        time.sleep(0.002)


@pytest.fixture
def informers(api: ApiProcess) -> Iterator[dict[str, Program]]:
    """One program for each client, following."""
    assert api.post("/api/v1/namespaces", {"metadata": {"name": SPACE}}).code == 201
    words = [str(api.kubeconfig), api.url, SPACE]
    started = {
        name: subprocess.Popen(
            [sys.executable, "-m", "tests.host.api.informers", name, *words],
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        for name in INFORMERS
    }
    try:
        assert api.post(SECRETS, {"metadata": {"name": BEGIN}}).code == 201
        # Some libraries take seconds to import where the processors have other work: what is changed before that, nobody hears of.
        for one in started.values():
            assert one.stdout is not None
            assert one.stdout.readline() == "\n"
        yield started
    finally:
        for one in started.values():
            one.kill()
            one.communicate()
    api.delete(BIG)
    api.delete(f"/api/v1/namespaces/{SPACE}")
    api.until(f"/api/v1/namespaces/{SPACE}", lambda found: found.get("code") == 404)


@pytest.mark.timeout(240)
def test_copies_stay_right(api: ApiProcess, informers: dict[str, Program], tmp_path: Path) -> None:
    # What is so big that the history's 128 MiB have no room for a hundred changes of it.
    big = {"metadata": {"name": "big"}, "data": {"x": "A" * (4 * 340_000)}}
    assert api.post("/api/v1/namespaces/default/secrets", big).code == 201
    changes = number = 0
    while changes < CHANGES:
        number += 1
        applying = applied(api, number, tmp_path)
        if number in (2, 5, 7):
            reached(api, number)
            if number != 5:
                kill_server(api)
            if number != 7:
                assert api.stop(signal.SIGKILL) == -signal.SIGKILL
                api.start()
        if applying.wait(60) != 0:
            assert applied(api, number, tmp_path).wait(60) == 0
        changes += OBJECTS
        if number % 3 == 0:
            assert api.delete(SECRETS).code == 200
            changes += OBJECTS
    at = version(api.get(SECRETS).object)
    for turn in range(100):
        found = api.request("PATCH", BIG, {"metadata": {"labels": {"turn": str(turn)}}}, content=MERGE)
        assert found.code == 200, found.body
    forgotten = list(api.watch(SECRETS, {"resourceVersion": at}, seconds=5))
    assert [(one["type"], one["object"]["code"], one["object"]["reason"]) for one in forgotten] == [
        ("ERROR", 410, "Expired")
    ]
    assert api.post(SECRETS, {"metadata": {"name": END}}).code == 201
    there = {one["metadata"]["name"]: version(one) for one in api.get(SECRETS).object["items"]}
    assert len(there) == OBJECTS + 1
    heard = {}
    for name, one in informers.items():
        said = json.loads(one.communicate(timeout=30 * PATIENCE)[0])
        known = said.pop("known")
        assert known == there, (name, said, sorted(set(known.items()) ^ set(there.items()))[:6])
        heard[name] = said
    # Two processes were killed that clients were connected to: their history went with them.
    assert heard["plain"]["expired"] == 2, heard
    assert heard["plain"]["wrong"] == []
    # Most is learnt by changes: lists are how one comes back.
    assert all(said["events"] > CHANGES / 2 for said in heard.values()), heard
