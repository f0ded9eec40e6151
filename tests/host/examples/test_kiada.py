"""The Node.js application behind Envoy: examples/kiada does what it says, with curl as the client."""

from __future__ import annotations

import os
import re
import subprocess

import pytest

from tests.host.testhost import REPOSITORY, Host

pytestmark = [pytest.mark.host, pytest.mark.requires("kiada")]

DEMO = REPOSITORY / "examples" / "kiada" / "demo.sh"


def test_the_demo(leak_check: None, host: Host) -> None:
    environment = {
        **host.environment,
        "PATH": f"{REPOSITORY / '.venv' / 'bin'}:{os.environ['PATH']}",
        "KIADA_CACHE": str(REPOSITORY / "build" / "kiada"),
        "NO_COLOR": "1",
    }
    done = subprocess.run(
        [DEMO], env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=180, check=False
    )
    assert done.returncode == 0, done.stdout
    for said in (
        r"Kiada 0\.1: request \d+ to pod kiada \([0-9.]+\) over http\n",
        r"Kiada 0\.1: request 1 to pod kiada-ssl \([0-9.]+\) over https\n",
        # Behind the proxy the application sees its pod's own loopback, and who came to the proxy.
        r'"peer":"127\.0\.0\.1","client":"[0-9.]+","scheme":"https"',
        r"curl: \(7\) Failed to connect to [0-9.]+ port 8080",
        r"This is an init container of pod kiada-init\.\n",
        r"The network works: [0-9.]+ answers\.\n",
        r"Kiada 0\.1: request 1 to pod kiada-native-sidecar \([0-9.]+\) over https\n",
        r"Pod kiada-ambassador asked http://127\.0\.0\.1:9000, and pod kiada-ssl answered over https\n",
        r"Kiada 0\.1: request \d+ to pod kiada-ssl \([0-9.]+\) over https\n\n# 9",
        r"kiada-init +2/2 +Running",
        r"\[pod/kiada-ssl/kiada\] GET /facts from 127\.0\.0\.1\n",
        r"pod/kiada-ssl down\n",
    ):
        assert re.search(said, done.stdout), f"{said}\n{done.stdout}"
    # One after the other, and the application after them.
    order = [
        done.stdout.index(f"pod/kiada-init: {name}: Container started") for name in ("greet", "network-check", "kiada")
    ]
    assert order == sorted(order)
