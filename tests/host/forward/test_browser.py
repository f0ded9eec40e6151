"""A browser: Debian's Chromium opens applications in pods, through port-forward and through `pod proxy`."""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

import nsrun
from nsrun.client.proxy import in_background
from tests.host.cli.conftest import manifest
from tests.host.forward.conftest import listening
from tests.host.testhost import REPOSITORY, Host

pytestmark = [pytest.mark.host, pytest.mark.requires("chromium")]

FLAGS = (
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync", "--disable-dev-shm-usage", "--dump-dom",
)  # fmt: skip
PAGE = Path(__file__).with_name("page.py").read_text(encoding="utf-8")


def shown(box: Host, address: str, *more: str) -> str:
    """The page as it is after its scripts have run."""
    profile = box.scratch / "chromium"
    words = ["chromium", *FLAGS, *more, f"--user-data-dir={profile}", address]
    done = subprocess.run(words, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def told(page: str) -> list[str]:
    found = re.search(r'id="told">([^<]*)<', page)
    assert found, page
    return [line.strip() for line in found[1].split(";")]


@pytest.fixture(scope="module")
def app(client: nsrun.Client) -> Iterator[nsrun.Pod]:
    """The application, listening."""
    container = {
        "name": "app",
        "image": "nsrun.local/host",
        "command": ["python3", "-c", PAGE],
        "ports": [{"name": "http", "containerPort": 8080}],
    }
    with client.up(json.dumps(manifest("app", container, terminationGracePeriodSeconds=0))) as pod:
        listening(pod)
        yield pod


def test_an_application_works_by_every_way(box: Host, client: nsrun.Client, app: nsrun.Pod) -> None:
    with (
        app.forward(8080) as (port,),
        app.proxy() as alone,
        in_background(client.session, "127.0.0.1", 0, None) as all_pods,
    ):
        for way, cookie in (
            (f"http://127.0.0.1:{port.local}/", "mine=1"),
            (f"http://{app.ip}:8080/", "mine=1"),
            (f"{alone}/", "mine=1"),
            (f"{all_pods}/api/v1/namespaces/default/pods/app:http/proxy/", "mine=1"),
        ):
            assert told(shown(box, way)) == [
                f"data, with cookie {cookie}",
                "form of 3 bytes",
                "over a socket",
                "color rgb(1, 2, 3)",
                f"cookie {cookie}",
                "end",
            ], way
        front = shown(box, all_pods)
        assert '<a href="/api/v1/namespaces/default/pods/app:8080/proxy/">8080</a> (http)' in front
        nobody = shown(box, f"{all_pods}/api/v1/namespaces/default/pods/nobody/proxy/")
        assert "404 NotFound" in nobody
    # Redirections stayed below the proxy's path.
    assert sum(line.text == b"got GET /landed" for line in app.log_lines()) == 4


def test_pages_of_other_sites_reach_nothing(box: Host, client: nsrun.Client, app: nsrun.Pod) -> None:
    with (
        app.forward(8080) as (port,),
        app.proxy() as alone,
        in_background(client.session, "127.0.0.1", 0, None) as all_pods,
    ):
        before = len(list(app.log_lines()))
        for target in (f"{alone}/", f"{all_pods}/api/v1/namespaces/default/pods/app:8080/proxy/"):
            # The same site by its name in Chromium's eyes (another port), and another one.
            for origin in (f"http://127.0.0.1:{port.local}", f"http://localhost:{port.local}"):
                page = told(shown(box, f"{origin}/attack?target={target}"))
                assert page == ["read: failed", "post: opaque", "image: failed", "socket: failed", "end"]
        # A name that its owner points at this machine.
        names = "--host-resolver-rules=MAP evil.example 127.0.0.1"
        assert "403 Forbidden" in shown(box, alone.replace("127.0.0.1", "evil.example"), names)
        reached = {line.text for line in list(app.log_lines())[before:]}
        assert {text.split(b"?")[0] for text in reached} <= {
            b"got GET /attack",
            b"got GET /hold",
            b"got GET /done",
            b"got GET /favicon.ico",
        }


@pytest.mark.requires("kiada")
def test_kiada(box: Host, client: nsrun.Client) -> None:
    """The example's page behind its TLS proxy: through port-forward as https, through `pod proxy` as http."""
    kiada = REPOSITORY / "examples" / "kiada"
    environment = {
        **box.environment,
        "NSRUN_ROOT": str(box.root),
        "PATH": f"{REPOSITORY / '.venv/bin'}:/usr/bin:/bin:/usr/sbin:/sbin",
    }
    for script, where in (
        ("make-images.sh", REPOSITORY / "build/kiada"),
        ("make-certificate.sh", box.scratch / "certificate"),
    ):
        subprocess.run([kiada / script, where], env=environment, check=True, capture_output=True, timeout=120)
    try:
        with client.up(kiada / "pod.kiada-ssl.yaml", wait="ready", timeout=60) as pod:
            with pod.forward(":https") as (port,):
                page = shown(box, f"https://localhost:{port.local}/", "--ignore-certificate-errors")
                assert "This is Pod <b>kiada-ssl</b>" in page
                assert "<th>scheme</th><td>https</td>" in page
            with pod.proxy("https", tls=True) as address:
                assert "This is Pod <b>kiada-ssl</b>" in shown(box, address)
    finally:
        box.nsrun("object", "rm", "secret/kiada-tls")
        box.nsrun("image", "rm", "localhost/kiada:0.1", "localhost/kiada-envoy:0.1")
