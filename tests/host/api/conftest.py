"""A root directory, its server and `nsrun api serve` for a whole module; requests as bytes, and kubectl."""

from __future__ import annotations

import http.client
import itertools
import json
import os
import re
import select
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Generator, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import pytest

from tests.capabilities import PATIENCE
from tests.host.testhost import Host, Machine, leaks

_numbers = itertools.count(1)
START_S = 20.0 * PATIENCE
SLEEPER = ["sh", "-c", "trap 'exit 0' TERM; sleep 100000 & wait"]

Object = dict[str, Any]


@dataclass
class Reply:
    """An answer.

    Attributes:
        code: of HTTP.
        headers: by lower-case name; several of a name are joined.
        body: its bytes.
    """

    code: int
    headers: dict[str, str]
    body: bytes

    @property
    def object(self) -> Any:
        """The body's JSON."""
        return json.loads(self.body)


@dataclass
class ApiProcess:
    """`nsrun api serve` on a free port.

    Attributes:
        host: whose root.
        options: of the command.
        token: sent with each request.
        port: where it is.
    """

    host: Host
    options: tuple[str, ...] = ("--insecure-http",)
    token: str = ""
    port: int = 0
    process: subprocess.Popen[str] | None = None
    kubeconfig: Path = field(default_factory=Path)

    def start(self) -> None:
        """Start it, on the port that it had before."""
        log = self.log.open("a")
        self.process = subprocess.Popen(
            [sys.executable, "-m", "nsrun", "api", "serve", f"--listen=127.0.0.1:{self.port}", *self.options],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=log,
            text=True,
            env=self.host.environment,
        )
        log.close()
        assert self.process.stdout is not None
        ready, _, _ = select.select([self.process.stdout], [], [], START_S)
        line = self.process.stdout.readline() if ready else ""
        found = re.search(r":(\d+)$", line.strip())
        assert found is not None, f"the API did not start: {line!r} {self.said()}"
        self.port = int(found[1])
        deadline = time.monotonic() + START_S
        while self.get("/readyz").code != 200:
            assert time.monotonic() < deadline, self.said()
            time.sleep(0.02)

    @property
    def url(self) -> str:
        """Where it is."""
        return f"{'http' if '--insecure-http' in self.options else 'https'}://127.0.0.1:{self.port}"

    @property
    def log(self) -> Path:
        """What it has to say."""
        return self.host.scratch / "api.log"

    def said(self) -> str:
        """The end of its log."""
        return self.log.read_text()[-4000:] if self.log.exists() else ""

    def stop(self, number: int = signal.SIGTERM) -> int:
        """End it; how it ended."""
        assert self.process is not None
        self.process.send_signal(number)
        code = self.process.wait(20)
        assert self.process.stdout is not None
        self.process.stdout.close()
        self.process = None
        return code

    # requests

    def connection(self, timeout: float = 30.0) -> http.client.HTTPConnection:
        """A connection of HTTP."""
        return http.client.HTTPConnection("127.0.0.1", self.port, timeout=timeout)

    def request(
        self, method: str, path: str, body: object = None, *, content: str = "application/json", **headers: str
    ) -> Reply:
        """One request on a connection of its own; `body` is JSON unless it is bytes; `_` in names of headers is `-`."""
        connection = self.connection()
        sent = {name.replace("_", "-"): value for name, value in headers.items()}
        if self.token:
            sent.setdefault("Authorization", f"Bearer {self.token}")
        data = body if isinstance(body, bytes) or body is None else json.dumps(body).encode()
        if data is not None:
            sent["Content-Type"] = content
        try:
            connection.request(method, path, body=data, headers=sent)
            answer = connection.getresponse()
            found: dict[str, str] = {}
            for name, value in answer.getheaders():
                key = name.lower()
                found[key] = f"{found[key]}, {value}" if key in found else value
            return Reply(answer.status, found, answer.read())
        finally:
            connection.close()

    def get(self, path: str, query: Mapping[str, object] | None = None, **headers: str) -> Reply:
        """GET."""
        return self.request("GET", path + (f"?{urlencode(query)}" if query else ""), **headers)

    def post(self, path: str, body: object, **headers: str) -> Reply:
        """POST."""
        return self.request("POST", path, body, **headers)

    def delete(self, path: str, body: object = None, **headers: str) -> Reply:
        """DELETE."""
        return self.request("DELETE", path, body, **headers)

    def watch(
        self, path: str, query: Mapping[str, object], seconds: int = 20, **headers: str
    ) -> Generator[Object, None, None]:
        """The events of a watch as they come; ends when the server ends it."""
        connection = self.connection(timeout=seconds + 10)
        connection.request(
            "GET", f"{path}?{urlencode({'watch': 'true', 'timeoutSeconds': seconds, **query})}", headers=headers
        )
        answer = connection.getresponse()
        assert answer.status == 200, answer.read()
        try:
            while line := answer.readline():
                yield json.loads(line)
        finally:
            connection.close()

    def kubectl(
        self, *words: str, binary: str = "kubectl", stdin: str | None = None, timeout: float = 60.0, **environment: str
    ) -> subprocess.CompletedProcess[str]:
        """Run kubectl to its end."""
        return subprocess.run(
            [binary, *words],
            input=stdin,
            stdin=subprocess.DEVNULL if stdin is None else None,
            capture_output=True,
            text=True,
            timeout=timeout * PATIENCE,
            env={
                **os.environ,
                "KUBECONFIG": str(self.kubeconfig),
                "HOME": str(self.host.scratch),
                "TZ": "UTC",
                **environment,
            },
            check=False,
        )

    # pods

    def make(self, name: str, *, namespace: str = "default", command: list[str] | None = None, **more: Any) -> Object:
        """Create a pod of one container that goes down at once."""
        pod = pod_of(name, command=command, **more)
        answer = self.post(f"/api/v1/namespaces/{namespace}/pods", pod)
        assert answer.code == 201, answer.body
        made: Object = answer.object
        return made

    def until(self, path: str, condition: Any, seconds: float = 20.0) -> Object:
        """Ask until an object is as it should be."""
        deadline = time.monotonic() + seconds * PATIENCE
        while True:
            answer = self.get(path)
            if condition(answer.object):
                found: Object = answer.object
                return found
            assert time.monotonic() < deadline, answer.body
            time.sleep(0.02)

    def until_running(self, name: str, namespace: str = "default") -> Object:
        """Ask until a pod runs."""
        return self.until(
            f"/api/v1/namespaces/{namespace}/pods/{name}", lambda pod: pod.get("status", {}).get("phase") == "Running"
        )


def pod_of(
    name: str, *, command: list[str] | None = None, labels: Mapping[str, str] | None = None, **spec: Any
) -> Object:
    """A pod of this machine's /usr."""
    container = {
        "name": "c",
        "image": "nsrun.local/host",
        "imagePullPolicy": "IfNotPresent",
        "command": command or SLEEPER,
    }
    metadata: Object = {"name": name}
    if labels:
        metadata["labels"] = dict(labels)
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": metadata,
        "spec": {"terminationGracePeriodSeconds": 1, "containers": [container], **spec},
    }


@pytest.fixture(scope="module")
def box(machine: Machine) -> Iterator[Host]:
    """A test host whose root lives as long as the module; nothing may be left of it."""
    before = leaks.take(machine)
    directory = Path(machine.directory, f"api{next(_numbers)}")
    scratch = directory / "scratch"
    scratch.mkdir(parents=True)
    base = Path(machine.cgroup_base, directory.name) if machine.cgroup_base else None
    host = Host(machine=machine, root=directory / "root", scratch=scratch, cgroup_base=base)
    yield host
    host.nsrun("pod", "down", "--all", "--force")
    host.nsrun("server", "stop")
    shutil.rmtree(directory)
    lines = leaks.leaked(machine, before)
    assert not lines, "left behind:\n" + "\n".join(lines)


@pytest.fixture(scope="module")
def api(box: Host) -> Iterator[ApiProcess]:
    """The API of a root, in the clear and without tokens."""
    served = ApiProcess(box)
    try:
        served.start()
        served.kubeconfig = box.scratch / "kubeconfig"
        made = box.nsrun("api", "kubeconfig", "--insecure-http", "--server", f"http://127.0.0.1:{served.port}")
        served.kubeconfig.write_text(made.stdout)
        yield served
    finally:
        code = served.stop() if served.process is not None else 0
    assert code == 0, served.said()
    assert "Traceback" not in served.said(), served.said()
