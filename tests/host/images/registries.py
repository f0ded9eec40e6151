"""Registries that tests start: Debian's docker-registry, and one that misbehaves on purpose."""

from __future__ import annotations

import contextlib
import hashlib
import http.server
import json
import re
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, ClassVar

USER, PASSWORD = "tester", "secret"
HTPASSWD = f"{USER}:$2b$04$T4bZZD4f1IX20YFefTku4uednQl0z6Cqw8.kpiBBPVuE7AZrdLp8q\n"
"""bcrypt of PASSWORD, which is all that docker-registry takes."""


def free_port() -> int:
    """A port of the loopback that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def certificate(directory: Path) -> tuple[Path, Path, Path]:
    """An authority of our own, and a certificate for localhost and 127.0.0.1 that it signed: (ca, certificate, key)."""
    ca, ca_key, cert, key, request = (directory / name for name in ("ca.pem", "ca.key", "cert.pem", "key.pem", "req"))

    def openssl(*words: str | Path) -> None:
        subprocess.run(["openssl", *map(str, words)], check=True, capture_output=True)

    openssl(
        "req",
        "-x509",
        "-newkey",
        "rsa:2048",
        "-nodes",
        "-days",
        "2",
        "-subj",
        "/CN=test authority",
        "-keyout",
        ca_key,
        "-out",
        ca,
    )
    openssl("req", "-newkey", "rsa:2048", "-nodes", "-subj", "/CN=localhost", "-keyout", key, "-out", request)
    (directory / "ext").write_text("subjectAltName=DNS:localhost,DNS:registry.test,IP:127.0.0.1\n")
    openssl(
        "x509", "-req", "-in", request, "-CA", ca, "-CAkey", ca_key, "-CAcreateserial", "-days", "2",
        "-extfile", directory / "ext", "-out", cert,
    )  # fmt: skip
    return ca, cert, key


class Registry:
    """A running docker-registry."""

    def __init__(self, directory: Path, *, auth: bool = False, tls: bool = False, upstream: str = "") -> None:
        directory.mkdir()
        self.port = free_port()
        self.host = f"127.0.0.1:{self.port}"
        self.scheme = "https" if tls else "http"
        self.auth = auth
        self.ca: Path | None = None
        config: dict[str, Any] = {
            "version": "0.1",
            "log": {"level": "info", "accesslog": {"disabled": False}},
            "storage": {"filesystem": {"rootdirectory": str(directory / "storage")}, "delete": {"enabled": True}},
            "http": {"addr": self.host, "secret": "x"},
        }
        if tls:
            self.ca, cert, key = certificate(directory)
            config["http"]["tls"] = {"certificate": str(cert), "key": str(key)}
        if auth:
            (directory / "htpasswd").write_text(HTPASSWD)
            config["auth"] = {"htpasswd": {"realm": "test", "path": str(directory / "htpasswd")}}
        if upstream:
            config["proxy"] = {"remoteurl": upstream}
        (directory / "config.yml").write_text(json.dumps(config))
        self.log = directory / "log"
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(
                ["docker-registry", "serve", str(directory / "config.yml")], stdout=log, stderr=log
            )
        deadline = time.monotonic() + 20
        while True:
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", self.port)):
                return
            assert time.monotonic() < deadline and self.process.poll() is None, self.log.read_text()
            time.sleep(0.02)

    def push(self, layout: Path, tag: str, name: str) -> None:
        """Has skopeo push an image of a layout."""
        words = [
            "skopeo",
            "copy",
            "--dest-tls-verify=false",
            "--all",
            f"oci:{layout}:{tag}",
            f"docker://{self.host}/{name}",
        ]
        if self.auth:
            words.insert(2, f"--dest-creds={USER}:{PASSWORD}")
        subprocess.run(words, check=True, capture_output=True)

    def requests(self) -> list[str]:
        """What it was asked for: `GET /v2/…`."""
        return re.findall(r'"((?:GET|HEAD|POST) /v2/[^ "]*)', self.log.read_text())

    def close(self) -> None:
        """Ends it."""
        self.process.kill()
        self.process.wait()


@contextlib.contextmanager
def running(directory: Path, **options: Any) -> Iterator[Registry]:
    """A docker-registry."""
    registry = Registry(directory, **options)
    try:
        yield registry
    finally:
        registry.close()


class Handler(http.server.BaseHTTPRequestHandler):
    """Asks the test what to answer."""

    protocol_version = "HTTP/1.1"
    shelf: ClassVar[Shelf]

    def do_GET(self) -> None:
        with contextlib.suppress(ConnectionError):
            self.shelf.answer(self)

    def do_POST(self) -> None:
        self.do_GET()

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the base class's name
        """Quiet."""

    def say(self, status: int, body: bytes = b"", **headers: str) -> None:
        """A whole answer."""
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


class Shelf:
    """A registry in this process, whose answers the test bends: it has the blobs of an OCI layout and one name.

    `bend` sees each request first, and says whether it has answered it.
    """

    def __init__(self, layout: Path, manifest: dict[str, Any], bend: Callable[[Handler], bool] | None = None) -> None:
        self.layout = layout
        self.manifest = manifest
        self.bend = bend
        self.asked: list[tuple[str, dict[str, str]]] = []
        handler = type("Bound", (Handler,), {"shelf": self})
        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
        self.server.daemon_threads = True
        self.host = f"127.0.0.1:{self.server.server_address[1]}"
        self._thread = threading.Thread(target=self.server.serve_forever, kwargs={"poll_interval": 0.02})
        self._thread.start()

    def blob(self, digest: str) -> bytes | None:
        """A blob."""
        path = self.layout / "blobs/sha256" / digest.removeprefix("sha256:")
        return path.read_bytes() if path.exists() else None

    def answer(self, handler: Handler) -> None:
        """Answers a request."""
        self.asked.append((handler.path, dict(handler.headers.items())))
        if self.bend is not None and self.bend(handler):
            return
        kind, _, name = handler.path.rpartition("/")
        data = self.blob(name if name.startswith("sha256:") else self.manifest["digest"])
        if data is None:
            handler.say(404, b'{"errors":[{"code":"MANIFEST_UNKNOWN","message":"manifest unknown"}]}')
        elif kind.endswith("/manifests"):
            found = json.loads(data).get("mediaType", self.manifest["mediaType"])
            handler.say(200, data, Content_Type=found)
        else:
            self.send_blob(handler, data)

    def send_blob(self, handler: Handler, data: bytes, cut: int | None = None) -> None:
        """A blob, from where it is asked for, cut off after `cut` bytes."""
        wanted = re.fullmatch(r"bytes=(\d+)-", handler.headers.get("Range", ""))
        start = int(wanted[1]) if wanted else 0
        handler.send_response(206 if wanted else 200)
        if wanted:
            handler.send_header("Content-Range", f"bytes {start}-{len(data) - 1}/{len(data)}")
        handler.send_header("Content-Length", str(len(data) - start))
        handler.end_headers()
        if cut is None:
            handler.wfile.write(data[start:])
        else:
            handler.wfile.write(data[start : start + cut])
            handler.wfile.flush()
            handler.close_connection = True
            handler.connection.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        """Ends it."""
        self.server.shutdown()
        self._thread.join()
        self.server.server_close()


def digest(data: bytes) -> str:
    """`sha256:` and the digits."""
    return f"sha256:{hashlib.sha256(data).hexdigest()}"
