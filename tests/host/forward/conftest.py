"""A pod with servers on its loopback, for the whole module."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

import nsrun
from tests.host.cli.conftest import Manifest, box, manifest
from tests.host.testhost import Host

__all__ = ["box"]

PEER = Path(__file__).with_name("peer.py").read_text(encoding="utf-8")


def wish(name: str = "peer", **more: object) -> Manifest:
    """A pod that runs peer.py."""
    container = {
        "name": "peer",
        "image": "nsrun.local/host",
        "command": ["python3", "-c", PEER],
        "ports": [{"name": "echo", "containerPort": 7001}],
        "readinessProbe": {"exec": {"command": ["true"]}},
        **more,
    }
    return manifest(name, container, terminationGracePeriodSeconds=0)


@pytest.fixture(scope="module")
def client(box: Host) -> Iterator[nsrun.Client]:
    """The library, on the module's root."""
    with nsrun.connect(box.root) as connected:
        yield connected


@pytest.fixture(scope="module")
def peer(client: nsrun.Client) -> Iterator[nsrun.Pod]:
    """The pod, listening."""
    with client.up(json.dumps(wish())) as pod:
        listening(pod)
        yield pod


def listening(pod: nsrun.Pod) -> None:
    """Wait until the pod's server says so."""
    for line in pod.log_lines(follow=True):
        if line.text == b"listening":
            return
