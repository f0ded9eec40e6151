"""Pods in tests: the plugin comes with nsrun. Run as root:

sudo .venv/bin/python -m pytest examples/test_with_nsrun.py
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from nsrun import Pod
    from nsrun.pytest_plugin import PodFactory


# Without a readiness probe "ready" means that the process runs, not that it listens already.
FETCH = """
import sys, time, urllib.request
while True:
    try:
        print(urllib.request.urlopen(sys.argv[1], timeout=5).read().decode())
        break
    except OSError:
        time.sleep(0.1)
"""


@pytest.mark.nsrun_pod("pod.yaml")
def test_web_answers(nsrun_pod: Pod) -> None:
    """The pod of the manifest beside this file is up and ready; its logs stand in the report should this fail."""
    command = ["python3", "-c", FETCH, "http://localhost:8080/"]
    assert "Hello from pod hello" in nsrun_pod.exec(command, container="visitor", check=True, timeout=30).text


def test_pods_reach_each_other(nsrun_pod: PodFactory) -> None:
    """Without the marker the fixture brings up any number of pods."""
    server = nsrun_pod(pod("server", "python3 -m http.server --directory /usr/share 80"))
    client = nsrun_pod(pod("client", "sleep 1000"))
    command = ["python3", "-c", FETCH, f"http://{server.ip}/"]
    assert "Directory listing" in client.exec(command, check=True, timeout=30).text


def pod(name: str, command: str) -> dict[str, object]:
    """A manifest as an object."""
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name},
        "spec": {"containers": [{"name": "main", "image": "nsrun.local/host", "command": ["sh", "-c", command]}]},
    }
