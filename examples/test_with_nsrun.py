"""Pods in tests: the plugin comes with nsrun. Run as root:

sudo .venv/bin/python -m pytest examples/test_with_nsrun.py
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from nsrun import Pod
    from nsrun.pytest_plugin import PodFactory


@pytest.mark.nsrun_pod("pod.yaml")
def test_web_answers(nsrun_pod: Pod) -> None:
    """The pod of the manifest beside this file is up and ready; its logs stand in the report should this fail."""
    script = "import urllib.request as u; print(u.urlopen('http://localhost:8080/').read().decode())"
    assert "Hello from pod hello" in nsrun_pod.exec(["python3", "-c", script], container="visitor", check=True).text


def test_pods_reach_each_other(nsrun_pod: PodFactory) -> None:
    """Without the marker the fixture brings up any number of pods."""
    server = nsrun_pod(pod("server", "python3 -m http.server --directory /usr/share 80"))
    client = nsrun_pod(pod("client", "sleep 1000"))
    script = f"""
import time, urllib.request
for _ in range(100):
    try:
        print(urllib.request.urlopen("http://{server.ip}/", timeout=5).status)
        break
    except OSError:
        time.sleep(0.1)
"""
    assert client.exec(["python3", "-c", script], timeout=30).text.strip() == "200"


def pod(name: str, command: str) -> dict[str, object]:
    """A manifest as an object."""
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name},
        "spec": {"containers": [{"name": "main", "image": "nsrun.local/host", "command": ["sh", "-c", command]}]},
    }
