"""Clients that people have: ssh and scp, redis-cli, iperf3, against servers in pods."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

import nsrun
from tests.host.cli.conftest import SLEEPER, Manifest, container, manifest
from tests.host.testhost import Host

pytestmark = [pytest.mark.host, pytest.mark.requires("ssh", "redis", "iperf3")]

SSHD = """
umask 022; mkdir -p /run/sshd /tmp/ssh; ssh-keygen -q -t ed25519 -N '' -f /tmp/ssh/host; echo "$KEY" > /tmp/ssh/authorized
grep -q ^sshd: /etc/passwd || echo sshd:x:74:74::/run/sshd:/usr/sbin/nologin >> /etc/passwd
exec /usr/sbin/sshd -D -e -f /dev/null -h /tmp/ssh/host -o AuthorizedKeysFile=/tmp/ssh/authorized -o StrictModes=no -o UsePAM=no \
    -o Subsystem='sftp internal-sftp'
"""


@pytest.fixture(scope="module")
def key(box: Host) -> Path:
    """An ssh key without a passphrase."""
    path = box.scratch / "id"
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", path], check=True)
    return path


def servers(key: str) -> Manifest:
    """A pod with one container for each server."""

    def listens(port: int) -> dict[str, object]:
        return {"tcpSocket": {"port": port}, "periodSeconds": 1}

    return manifest(
        "servers",
        container("sshd", SSHD, env=[{"name": "KEY", "value": key}], readinessProbe=listens(22)),
        container("redis", "exec redis-server --save '' --port 6379 --protected-mode no", readinessProbe=listens(6379)),
        container("iperf3", "exec iperf3 --server", readinessProbe=listens(5201)),
        terminationGracePeriodSeconds=0,
    )


@pytest.fixture(scope="module")
def pod(client: nsrun.Client, key: Path) -> Iterator[nsrun.Pod]:
    """The servers, ready."""
    wish = servers(key.with_suffix(".pub").read_text())
    with client.up(json.dumps(wish), wait="ready", timeout=40) as up:
        yield up


def said(*words: str | Path, data: bytes | None = None) -> bytes:
    done = subprocess.run(words, input=data, capture_output=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr.decode() + done.stdout.decode()
    return done.stdout


def test_ssh_and_scp(pod: nsrun.Pod, key: Path, box: Host) -> None:
    with pod.forward(22) as (port,):
        options: list[str] = [
            "-i", str(key), "-F", "none", "-o", "BatchMode=yes", "-o", "StrictHostKeyChecking=no", "-o", "LogLevel=ERROR",
            "-o", f"UserKnownHostsFile={box.scratch / 'known'}",
        ]  # fmt: skip
        to = ["ssh", *options, "-p", str(port.local), "root@127.0.0.1"]
        assert said(*to, "cat /etc/hostname") == b"servers\n"
        # A terminal of the pod's own, and bytes as they are through one connection in both directions.
        assert said(*to[:1], "-tt", *to[1:], "test -t 0 && stty size && tty").endswith(b"0 0\r\n/dev/pts/0\r\n")
        data = os.urandom(5_000_000)
        assert said(*to, "cat", data=data) == data
        local, back = box.scratch / "sent", box.scratch / "back"
        local.write_bytes(data)
        scp = ["scp", "-q", *options, "-P", str(port.local)]
        said(*scp, local, "root@127.0.0.1:/tmp/sent")
        assert pod.exec(["stat", "-c", "%s", "/tmp/sent"], container="sshd").text == "5000000\n"
        said(*scp, "root@127.0.0.1:/tmp/sent", back)
        assert back.read_bytes() == data


def test_redis(pod: nsrun.Pod) -> None:
    with pod.forward(6379) as (port,):
        cli = ["redis-cli", "-h", "127.0.0.1", "-p", str(port.local)]
        assert said(*cli, "ping") == b"PONG\n"
        data = os.urandom(1_000_000)
        assert said(*cli, "-x", "set", "key", data=data) == b"OK\n"
        assert said(*cli, "--raw", "get", "key") == data + b"\n"
        # 20,000 commands in one stream.
        stream = b"".join(b"*3\r\n$6\r\nINCRBY\r\n$1\r\nn\r\n$1\r\n2\r\n" for _ in range(20_000))
        assert b"errors: 0, replies: 20000" in said(*cli, "--pipe", data=stream)
        assert said(*cli, "get", "n") == b"40000\n"
    assert pod.ip is not None
    # From another container of the pod, and over the pod's address.
    assert pod.exec(["redis-cli", "get", "n"], container="sshd").text == "40000\n"
    assert said("redis-cli", "-h", pod.ip, "get", "n") == b"40000\n"


def test_iperf3(pod: nsrun.Pod, client: nsrun.Client) -> None:
    def rate(text: bytes) -> float:
        return float(json.loads(text)["end"]["sum_received"]["bits_per_second"])

    assert pod.ip is not None
    with client.up(json.dumps(manifest("other", container("app", SLEEPER), terminationGracePeriodSeconds=0))) as other:
        to = ["iperf3", "--json", "--time", "1", "--client"]
        for more in ([], ["--reverse"]):
            assert rate(other.exec([*to, pod.ip, *more], check=True).stdout) > 1e7
        told = json.loads(other.exec([*to, pod.ip, "--udp", "--bitrate", "50M"], check=True).stdout)
        assert told["end"]["sum"]["packets"] > 100
        assert told["end"]["sum"]["lost_percent"] < 50
    with pod.forward(5201) as (port,):
        for more in ([], ["--reverse", "--parallel", "4"]):
            assert rate(said(*to, "127.0.0.1", "--port", str(port.local), *more)) > 1e7
