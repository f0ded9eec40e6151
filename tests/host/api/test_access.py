"""Who may what: TLS, tokens, roles, kubeconfigs, and another user than root."""

from __future__ import annotations

import base64
import http.client
import json
import os
import signal
import socket
import ssl
import stat
import struct
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from tests.capabilities import PATIENCE
from tests.host.api.conftest import ApiProcess, pod_of
from tests.host.testhost import Host

PODS = "/api/v1/namespaces/default/pods"


class Secured(ApiProcess):
    """The API behind TLS and tokens."""

    def connection(self, timeout: float = 30.0) -> http.client.HTTPConnection:
        context = ssl.create_default_context(cafile=str(self.host.root / "lib" / "api" / "ca.crt"))
        return http.client.HTTPSConnection("127.0.0.1", self.port, timeout=timeout, context=context)

    def as_role(self, role: str) -> Secured:
        """The same, asked by another caller."""
        other = Secured(self.host, self.options, port=self.port)
        lines = (self.host.root / "lib" / "api" / "tokens").read_text().splitlines()
        other.token = next(line.split()[0] for line in lines if line.split()[2] == role)
        return other


@pytest.fixture(scope="module")
def secured(box: Host) -> Iterator[Secured]:
    served = Secured(box, ("--name", "box.example.org"))
    try:
        served.start()
        served.token = served.as_role("full").token
        yield served
    finally:
        code = served.stop() if served.process is not None else 0
    assert code == 0
    assert "Traceback" not in served.said(), served.said()


def test_only_tokens_let_in(secured: Secured) -> None:
    assert secured.get(PODS).code == 200
    assert secured.get("/version").code == 200
    for token in ("", "nonsense", secured.token[:-1], secured.token + "x", "\xff"):
        refused = Secured(secured.host, secured.options, token, secured.port)
        answer = refused.get(PODS)
        assert (answer.code, answer.object["reason"], answer.object["message"]) == (401, "Unauthorized", "Unauthorized")
        assert refused.get("/version").code == 401
    nobody = Secured(secured.host, secured.options, "", secured.port)
    assert nobody.get("/healthz").code == 200
    assert (
        nobody.get(PODS, Authorization=f"Basic {base64.b64encode(b'admin:' + secured.token.encode()).decode()}").code
        == 401
    )


def test_read_only_looks_and_changes_nothing(secured: Secured) -> None:
    secured.make("looked-at")
    secured.until_running("looked-at")
    viewer = secured.as_role("read-only")
    assert viewer.get(PODS).code == 200
    assert viewer.get(f"{PODS}/looked-at/log").code == 200
    assert viewer.get("/api").code == 200
    secret = viewer.get("/api/v1/namespaces/default/secrets/x")
    assert (secret.code, secret.object["message"]) == (
        403,
        'secrets "x" is forbidden: User "viewer" cannot get resource "secrets" in API group "" in the namespace "default"',
    )
    everywhere = viewer.get("/api/v1/secrets")
    assert everywhere.object["message"] == (
        'secrets is forbidden: User "viewer" cannot list resource "secrets" in API group "" at the cluster scope'
    )
    assert viewer.get("/api/v1/watch/secrets").code == 403
    assert viewer.post(PODS, pod_of("no")).code == 403
    assert viewer.delete(f"{PODS}/looked-at").code == 403
    assert viewer.delete(PODS).code == 403
    assert viewer.request("PATCH", f"{PODS}/looked-at", {}, content="application/merge-patch+json").code == 403
    for part in ("exec?command=id&stdout=1", "attach?stdout=1", "portforward"):
        assert viewer.get(f"{PODS}/looked-at/{part}").code == 403
        assert viewer.post(f"{PODS}/looked-at/{part}", None).code == 403
    question = {"spec": {"resourceAttributes": {"verb": "delete", "resource": "pods"}}}
    reviews = "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews"
    assert viewer.post(reviews, question).object["status"] == {"allowed": False}
    assert secured.post(reviews, question).object["status"] == {"allowed": True}
    table = "application/json;as=Table;v=v1;g=meta.k8s.io"
    assert secured.post(reviews, question, Accept=table).code == 406
    assert secured.post(reviews, question, Accept=f"{table},application/json").object["status"] == {"allowed": True}
    who = viewer.post("/apis/authentication.k8s.io/v1/selfsubjectreviews", {}).object
    assert who["status"]["userInfo"]["username"] == "viewer"
    secured.delete(f"{PODS}/looked-at?gracePeriodSeconds=0")


def test_a_line_of_the_tokens_counts_from_the_next_request_on(secured: Secured) -> None:
    path = secured.host.root / "lib" / "api" / "tokens"
    before = path.read_text()
    other = Secured(secured.host, secured.options, "another-token", secured.port)
    assert other.get(PODS).code == 401
    path.write_text(f"{before}another-token ci read-only\n")
    assert other.get(PODS).code == 200
    assert other.post(PODS, pod_of("no")).object["message"].startswith('pods is forbidden: User "ci" cannot create')
    path.write_text(before)
    assert other.get(PODS).code == 401


def test_whoever_acts_as_another_has_the_rights_of_that_one(secured: Secured) -> None:
    def ask(who: Secured, verb: str, path: str, body: object = None, **more: str) -> tuple[int, str]:
        answer = who.request(verb, path, body, **more)
        return answer.code, answer.object.get("message", "")

    review = "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews"
    question = {"spec": {"resourceAttributes": {"verb": "get", "resource": "pods"}}}
    secrets = "/api/v1/namespaces/default/secrets"
    why = 'User "bob" cannot list resource "pods" in API group "" in the namespace "default"'
    assert ask(secured, "GET", PODS, Impersonate_User="bob") == (403, f"pods is forbidden: {why}")
    assert secured.request("POST", review, question, Impersonate_User="bob").object["status"] == {"allowed": False}
    assert ask(secured, "GET", PODS, Impersonate_User="viewer")[0] == 200
    assert ask(secured, "GET", secrets, Impersonate_User="viewer")[0] == 403
    assert ask(secured, "GET", secrets, Impersonate_User="bob", Impersonate_Group="system:masters")[0] == 200
    assert ask(secured, "GET", PODS, Impersonate_Group="system:masters") == (
        400,
        "requested Impersonate-Group without impersonating a user",
    )
    for name in ("admin", "viewer", "bob"):
        assert ask(secured.as_role("read-only"), "GET", PODS, Impersonate_User=name) == (
            403,
            f'users "{name}" is forbidden: User "viewer" cannot impersonate resource "users" in API group "" at the cluster scope',
        )


def test_tokens_that_cannot_be_read_let_nobody_in(secured: Secured) -> None:
    tokens = secured.host.root / "lib" / "api" / "tokens"
    text = tokens.read_bytes()
    try:
        tokens.write_bytes(text + b"\xff\xfe x full\n")
        assert secured.get(PODS).code == 200
        tokens.unlink()
        tokens.mkdir()
        assert secured.get(PODS).code == 401
        tokens.rmdir()
        assert secured.get(PODS).code == 401
    finally:
        tokens.touch(0o600)
        tokens.write_bytes(text)
    assert secured.get(PODS).code == 200


def test_who_hangs_up_on_a_watch_is_forgotten(secured: Secured) -> None:
    def watches() -> int:
        said = secured.get("/metrics").body.decode()
        return int(said.rpartition("nsrun_api_watches ")[2].split()[0])

    context = ssl.create_default_context(cafile=str(secured.host.root / "lib" / "api" / "ca.crt"))
    request = f"GET {PODS}?watch=1 HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {secured.token}\r\n\r\n".encode()
    connections = []
    for _ in range(8):
        plain = socket.create_connection(("127.0.0.1", secured.port), timeout=10)
        connections.append(context.wrap_socket(plain, server_hostname="127.0.0.1"))
        connections[-1].sendall(request)
        assert connections[-1].recv(15) == b"HTTP/1.1 200 OK"
    assert watches() == 8
    for number, connection in enumerate(connections):
        if number % 2:
            # With a reset, not in order.
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        connection.close()
    deadline = time.monotonic() + 10 * PATIENCE
    while watches():
        assert time.monotonic() < deadline
        time.sleep(0.02)
    assert "Traceback" not in secured.said(), secured.said()


def test_what_is_on_the_disk_is_its_owners(secured: Secured) -> None:
    directory = secured.host.root / "lib" / "api"
    assert stat.S_IMODE(directory.stat().st_mode) == 0o700
    assert {path.name: stat.S_IMODE(path.stat().st_mode) for path in directory.iterdir()} == dict.fromkeys(
        ("ca.crt", "ca.key", "server.crt", "server.key", "tokens"), 0o600
    )
    said = subprocess.run(
        ["openssl", "x509", "-in", str(directory / "server.crt"), "-noout", "-ext", "subjectAltName"],
        capture_output=True, text=True, check=True,
    ).stdout  # fmt: skip
    assert "DNS:box.example.org" in said
    assert "IP Address:127.0.0.1" in said


def test_a_kill_leaves_all_in_order(secured: Secured) -> None:
    directory = secured.host.root / "lib" / "api"
    before = {path.name: path.read_bytes() for path in directory.iterdir()}
    secured.stop(9)
    secured.start()
    assert secured.get(PODS).code == 200
    assert {path.name: path.read_bytes() for path in directory.iterdir()} == before
    # A certificate that is broken is made anew, and clients go on to trust it.
    secured.stop()
    (directory / "server.crt").write_text("nonsense")
    secured.start()
    assert secured.get(PODS).code == 200


@pytest.mark.requires("kubectl")
def test_kubeconfigs(secured: Secured) -> None:
    url = f"https://127.0.0.1:{secured.port}"
    config = secured.host.scratch / "own" / "config"
    secured.kubeconfig = config
    environment = {**secured.host.environment, "KUBECONFIG": str(config)}
    config.parent.mkdir()
    mine = {"apiVersion": "v1", "kind": "Config", "clusters": [{"name": "mine", "cluster": {"server": "https://x"}}]}
    config.write_text(yaml.safe_dump(mine))
    argv = secured.host.nsrun_argv("api", "kubeconfig", "--server", url, "--write-kubeconfig")
    for _ in range(2):
        secured.host.run(*argv, environment=environment)
    written = yaml.safe_load(config.read_text())
    assert [one["name"] for one in written["clusters"]] == ["mine", "nsrun"]
    assert stat.S_IMODE(config.stat().st_mode) == 0o600
    assert secured.kubectl("auth", "can-i", "delete", "pods").stdout == "yes\n"
    viewer = secured.host.nsrun("api", "kubeconfig", "--server", url, "--role", "read-only")
    config.write_text(viewer.stdout)
    refused = secured.kubectl("auth", "can-i", "delete", "pods")
    assert (refused.returncode, refused.stdout) == (1, "no\n")
    assert secured.kubectl("get", "pods").returncode == 0


def test_in_the_clear_is_for_loopback(box: Host) -> None:
    done = box.nsrun("api", "serve", "--listen", "0.0.0.0:0", "--insecure-http", check=False)
    assert done.returncode == 2
    assert done.stderr.startswith("Error: --insecure-http is for loopback")
    assert "\n  Leave it out: " in done.stderr
    data = box.nsrun("--output", "json", "api", "serve", "--listen", "nonsense", check=False)
    assert (data.returncode, json.loads(data.stderr)["error"]["code"]) == (2, "usage")


def test_a_socket_file(box: Host) -> None:
    path = box.scratch / "api.sock"
    argv = box.nsrun_argv("api", "serve", "--listen", f"unix:{path}", "--insecure-http")
    for number in (signal.SIGKILL, signal.SIGTERM, signal.SIGINT):
        # The second finds the file that the first left when it was killed.
        process = subprocess.Popen(argv, stdout=subprocess.PIPE, env=box.environment)
        assert process.stdout is not None
        assert process.stdout.readline().decode() == f"The Kubernetes API is at unix:{path}\n"
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        said = box.run("curl", "-sf", "--unix-socket", path, "http://localhost/readyz")
        assert said.stdout == "ok"
        process.send_signal(number)
        process.wait()
        process.stdout.close()
        assert os.path.exists(path) == (number == signal.SIGKILL)


def test_a_socket_file_that_is_another_process_now_stays(box: Host) -> None:
    path = box.scratch / "api.sock"
    argv = box.nsrun_argv("api", "serve", "--listen", f"unix:{path}", "--insecure-http")
    first = subprocess.Popen(argv, stdout=subprocess.PIPE, env=box.environment)
    assert first.stdout is not None
    first.stdout.readline()
    path.unlink()
    second = subprocess.Popen(argv, stdout=subprocess.PIPE, env=box.environment)
    assert second.stdout is not None
    second.stdout.readline()
    for process in (first, second):
        assert path.exists()
        process.terminate()
        assert process.wait() == 0
        assert process.stdout is not None
        process.stdout.close()
    assert not path.exists()


def test_another_user(box: Host, tmp_path: Path) -> None:
    """Whoever is let in at the control socket may serve, with files of their own."""
    (box.root / "etc").mkdir(exist_ok=True)
    (box.root / "etc" / "config.toml").write_text('[control]\ngroup = "daemon"\n')
    box.nsrun("server", "restart")
    home = box.scratch / "home"
    home.mkdir()
    os.chown(home, 2, 1)
    box.scratch.chmod(0o755)
    box.scratch.parent.chmod(0o755)
    argv = ["setpriv", "--reuid=2", "--regid=1", "--clear-groups"]
    # nsrun itself may lie in a directory that only root can look into; this lets everybody read it, and write nothing.
    argv += ["--inh-caps=+dac_read_search", "--ambient-caps=+dac_read_search"]
    argv += [*map(str, box.nsrun_argv("api", "serve", "--listen", "127.0.0.1:0"))]
    environment = {**box.environment, "HOME": str(home)}
    process = subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment)
    try:
        assert process.stdout is not None
        assert process.stderr is not None
        line = process.stdout.readline()
        assert line.startswith("The Kubernetes API is at https://127.0.0.1:"), process.stderr.read()
        place = next((home / ".local" / "state" / "nsrun").iterdir())
        token = (place / "tokens").read_text().split()[0]
        said = box.run(
            "curl", "-sf", "--cacert", place / "ca.crt", "-H", f"Authorization: Bearer {token}",
            line.split()[-1] + "/api/v1/namespaces",
        )  # fmt: skip
        assert '"kube-system"' in said.stdout
    finally:
        process.terminate()
        assert process.wait(20) == 0
        assert process.stdout is not None
        process.stdout.close()
        assert process.stderr is not None
        process.stderr.close()
