"""Names of pods, asked for with dig and by pods themselves, while everything is killed, flooded and taken away."""

from __future__ import annotations

import concurrent.futures
import contextlib
import json
import os
import random
import select
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import dns.exception
import dns.flags
import dns.message
import dns.query
import dns.rcode
import dns.rdatatype
import pytest

from tests.capabilities import PATIENCE
from tests.host.resolver.upstream import BIG, Upstream
from tests.host.server.harness import IMAGE, Server
from tests.host.testhost import Host

pytestmark = pytest.mark.host

D = "cluster.local"


def manifest(
    name: str, namespace: str = "default", image: str = IMAGE, labels: dict[str, str] | None = None, **spec: Any
) -> dict[str, Any]:
    command = ["/bin/pause"] if image == IMAGE else ["sleep", "1000"]
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "namespace": namespace, "labels": labels or {}},
        "spec": {
            "terminationGracePeriodSeconds": 0,
            "containers": [{"name": "c", "image": image, "command": command}],
            **spec,
        },
    }


def names(server: Server) -> dict[str, Any]:
    """What the resolver answers from."""
    found: dict[str, Any] = json.loads((server.root / "run" / "dns" / "names.json").read_text())
    return found


def gateway(server: Server) -> str:
    return str(names(server)["addresses"][0])


def status(server: Server) -> dict[str, Any]:
    found: dict[str, Any] = server.call("server.status").result["dns"]
    return found


def configure(server: Server, text: str) -> None:
    """Have a server with this configuration."""
    server.stop()
    (server.root / "etc").mkdir(mode=0o700, exist_ok=True)
    (server.root / "etc" / "config.toml").write_text(text)
    server.start()


def ask(
    at: str, name: str, kind: str = "A", *, tcp: bool = False, timeout_s: float = 10, **words: Any
) -> dns.message.Message:
    """One question, once."""
    query = dns.message.make_query(name, kind, **words)
    if tcp:
        return dns.query.tcp(query, at, timeout=timeout_s * PATIENCE)
    return dns.query.udp(query, at, timeout=timeout_s * PATIENCE)


def answers(message: dns.message.Message) -> list[str]:
    return sorted(record.to_text() for rrset in message.answer for record in rrset)


def until(what: Any, timeout_s: float = 15.0) -> None:
    deadline = time.monotonic() + timeout_s * PATIENCE
    while not what():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def pid_of(server: Server, before: int = 0) -> int:
    """Of the resolver, once there is one, and another than before."""
    found: list[int] = []

    def there() -> bool:
        found[:] = [status(server)["pid"] or 0]
        return found[0] not in (0, before)

    until(there)
    return found[0]


def kill(pid: int) -> None:
    pidfd = os.pidfd_open(pid)
    try:
        signal.pidfd_send_signal(pidfd, signal.SIGKILL)
        select.select([pidfd], [], [], 10)
    finally:
        os.close(pidfd)


def dig(*words: str) -> str:
    done = subprocess.run(
        ["dig", "+tries=1", "+time=10", *words], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout.strip()


def test_S_DNS_pods_find_each_other_and_the_world(server: Server, upstream: Upstream) -> None:
    resolv = server.host.scratch / "resolv.conf"
    resolv.write_text(f"search lan.missing\nnameserver {upstream.address}\n")
    configure(server, f'[dns]\nresolvConf = "{resolv}"\n')
    server.up(
        manifest("web"),
        manifest("db-x", hostname="db-0", subdomain="db"),
        manifest("shop", namespace="other"),
        manifest("asks", image="nsrun.local/host"),
        wait="ready",
    )
    at = gateway(server)
    ips = {one: server.get(one)["status"]["podIP"] for one in ("web", "db-x", "asks")}

    # What a pod has, and what its own tools make of it.
    _, text, _ = server.run("asks", "cat", "/etc/resolv.conf")
    search = f"default.svc.{D} svc.{D} {D} lan.missing"
    assert text.decode() == f"search {search}\nnameserver {at}\noptions ndots:5\n"
    for name in ("web", "web.default", f"web.default.pod.{D}", "web.default.svc"):
        assert server.run("asks", "dig", "+search", "+short", name)[1].decode().split() == [ips["web"]]
    for name in ("db-0.db", "db", "db-x"):
        assert server.run("asks", "getent", "ahostsv4", name)[1].decode().split()[0] == ips["db-x"]
    assert server.run("asks", "dig", "+short", "-x", ips["db-x"])[1].decode().strip() == f"db-0.db.default.svc.{D}."
    assert server.run("asks", "dig", "+search", "+short", "+tcp", "shop.other")[1].decode().split() == [
        server.call("pod.get", name="shop", namespace="other").result["pod"]["status"]["podIP"]
    ]

    # Over IPv6, and of it.
    six = [one["ip"] for one in server.get("web")["status"]["podIPs"] if ":" in one["ip"]]
    for server_address in names(server)["addresses"]:
        assert answers(ask(server_address, f"web.default.svc.{D}", "AAAA")) == six
        assert answers(ask(server_address, f"web.default.svc.{D}", tcp=True)) == [ips["web"]]
    assert len(six) == len(names(server)["addresses"]) - 1
    for address in six:
        assert dig("+short", f"@{at}", "-x", address) == f"web.default.pod.{D}."

    # From the machine, over both.
    for protocol in ("+notcp", "+tcp"):
        assert dig(protocol, "+short", f"@{at}", f"web.default.pod.{D}") == ips["web"]
        assert dig(protocol, "+short", f"@{at}", f"{ips['web'].replace('.', '-')}.default.pod.{D}") == ips["web"]
        nothing = dig(protocol, f"@{at}", f"web.default.pod.{D}", "TXT")
        assert "status: NOERROR" in nothing
        assert "SOA" in nothing
        assert "status: NXDOMAIN" in dig(protocol, f"@{at}", f"nobody.default.pod.{D}")

    # The world: what others say, in one piece or over TCP.
    assert dig("+short", f"@{at}", "example.test") == "192.0.2.7"
    assert "status: NXDOMAIN" in dig(f"@{at}", "it.missing")
    assert len(dig("+short", f"@{at}", "big.test", "TXT").splitlines()) == BIG
    assert ("big.test.", "tcp") in upstream.asked
    cut = ask(at, "big.test", "TXT", use_edns=0, payload=4096)
    assert cut.flags & dns.flags.TC
    # Whoever has nothing more to ask still gets what was asked.
    with socket.create_connection((at, 53), timeout=10) as stream:
        for name in ("half.test", f"web.default.pod.{D}"):
            wire = dns.message.make_query(name, "A").to_wire()
            stream.sendall(len(wire).to_bytes(2, "big") + wire)
        stream.shutdown(socket.SHUT_WR)
        with stream.makefile("rb") as replies:
            told = replies.read()
    found = set()
    while told:
        size = int.from_bytes(told[:2], "big")
        found.update(answers(dns.message.from_wire(told[2 : 2 + size])))
        told = told[2 + size :]
    assert found == {"192.0.2.7", ips["web"]}
    # Forgeries that come first are not taken.
    upstream.mode = "lie"
    assert answers(ask(at, "forged.test")) == ["192.0.2.7"]
    upstream.mode = ""
    upstream.places.clear()
    for number in range(20):
        ask(at, f"n{number}.test")
    assert len({one for one, _ in upstream.places}) > 15
    assert len({port for _, port in upstream.places}) > 15

    # Another resolver for the machine counts at once; one that does not answer is passed over.
    with Upstream("127.0.0.8") as second:
        upstream.mode = "silent"
        resolv.write_text(f"nameserver {upstream.address}\nnameserver {second.address}\n")
        time.sleep(0.6)
        assert answers(ask(at, "slow.test")) == ["192.0.2.7"]
        began = time.monotonic()
        assert answers(ask(at, "fast.test")) == ["192.0.2.7"]
        assert time.monotonic() - began < 1.0 * PATIENCE
        second.mode = "refuse"
        upstream.mode = ""
        assert answers(ask(at, "other.test")) == ["192.0.2.7"]
        assert ask(at, "plain", "AAAA").rcode() == dns.rcode.NXDOMAIN
        assert ("plain.", "udp") not in upstream.asked + second.asked
    # Nobody there: said so, soon.
    resolv.write_text("nameserver 127.0.0.9\n")
    time.sleep(0.6)
    for tcp in (False, True):
        assert ask(at, "nobody.test", tcp=tcp).rcode() == dns.rcode.SERVFAIL

    # What is new is there, and what is gone is gone, as soon as the resolver has been told so. Nobody waits for that.
    server.up(manifest("late"))
    until(lambda: answers(ask(at, f"late.default.pod.{D}")) == [server.get("late")["status"]["podIP"]], 2.0 * PATIENCE)
    server.down("late")
    until(lambda: ask(at, f"late.default.pod.{D}").rcode() == dns.rcode.NXDOMAIN, 2.0 * PATIENCE)
    # Not ready: by its own name alone.
    server.up(manifest("raw", subdomain="db", readinessGates=[{"conditionType": "example.com/never"}]))
    raw = server.get("raw")["status"]["podIP"]
    until(lambda: answers(ask(at, f"raw.default.pod.{D}")) == [raw], 2.0 * PATIENCE)
    assert answers(ask(at, f"db.default.svc.{D}")) == [ips["db-x"]]
    server.call("pod.condition", name="raw", conditions={"example.com/never": "True"})
    until(lambda: answers(ask(at, f"db.default.svc.{D}")) == sorted([raw, ips["db-x"]]), 2)

    # A Service of the name says who is meant.
    service = {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": "db", "namespace": "default"},
        "spec": {"clusterIP": "None", "selector": {"app": "raw"}, "ports": [{"name": "sql", "port": 5432}]},
    }
    server.call("api.create", object=service, namespace="default")
    until(lambda: answers(ask(at, f"db.default.svc.{D}")) == [], 2)
    server.up(manifest("raw2", labels={"app": "raw"}))
    raw2 = server.get("raw2")["status"]["podIP"]
    until(lambda: answers(ask(at, f"db.default.svc.{D}")) == [raw2], 2)
    assert server.run("asks", "dig", "+search", "+short", "_sql._tcp.db", "SRV")[1].decode().split() == [
        "0", "100", "5432", f"{raw2.replace('.', '-')}.db.default.svc.{D}.",
    ]  # fmt: skip

    # As nobody, and of no use to a stranger.
    about = Path(f"/proc/{pid_of(server)}/status").read_text()
    assert "\nUid:\t65534\t65534\t65534\t65534\n" in about
    assert "\nCapEff:\t0000000000000000\n" in about
    assert "\nNoNewPrivs:\t1\n" in about


def test_S_DNS_nothing_is_lost_whoever_is_killed(server: Server) -> None:
    server.up(manifest("web"), manifest("other"))
    at, ip = gateway(server), server.get("web")["status"]["podIP"]
    pid = pid_of(server)
    stop = threading.Event()
    asked, lost, wrong = [0], [0], []

    def asks() -> None:
        while not stop.is_set():
            asked[0] += 1
            try:
                found = answers(ask(at, f"web.default.pod.{D}", tcp=asked[0] % 8 == 0, timeout_s=4))
            except (ConnectionError, EOFError, dns.exception.Timeout):
                # It was killed over that one.
                lost[0] += 1
                continue
            if found != [ip]:
                wrong.append(found)
            time.sleep(0.01)

    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        asking = pool.submit(asks)
        try:
            for _ in range(3):
                kill(pid)
                pid = pid_of(server, pid)
            # Without a server, and with a new one, which takes this one over.
            assert server.kill()
            assert answers(ask(at, f"web.default.pod.{D}")) == [ip]
            assert status(server)["pid"] == pid
            kill(pid)
            pid = pid_of(server, pid)
        finally:
            stop.set()
            asking.result()
    assert wrong == []
    assert asked[0] > 20
    # What it had not yet read waited for the next one; more than one for each of the four kills would be a gap.
    assert lost[0] <= 4
    # A server that ends leaves the resolver alone; one that comes back knows it.
    server.stop()
    assert answers(ask(at, f"other.default.pod.{D}")) != []
    server.start()
    assert status(server)["pid"] == pid
    # One that lives but does nothing is exchanged by a new server.
    server.stop()
    os.kill(pid, signal.SIGSTOP)
    server.start()
    # What came while neither was there is lost, with the one that had it.
    assert status(server)["addresses"][0] == at
    assert answers(ask(at, f"web.default.pod.{D}")) == [ip]
    assert pid_of(server) != pid
    # Killed together: the next command mends it.
    pid = pid_of(server)
    server.kill()
    kill(pid)
    server.call("server.ping")
    until(lambda: bool(status(server)["addresses"]))
    assert answers(ask(at, f"web.default.pod.{D}")) == [ip]
    # With the last pod it goes.
    server.down("web", "other")
    until(lambda: not (server.root / "run" / "dns").exists())
    assert status(server)["addresses"] == []


def garbage(seed: int) -> bytes:
    """Something that may look like a question."""
    chance = random.Random(seed)
    wire = bytearray(dns.message.make_query(f"web.default.pod.{D}", "ANY", use_edns=0).to_wire())
    if chance.random() < 0.3:
        return chance.randbytes(chance.randrange(200))
    for _ in range(chance.randrange(1, 8)):
        wire[chance.randrange(2, len(wire))] = chance.randrange(256)
    return bytes(wire[: chance.randrange(1, len(wire) + 1)])


def test_who_reads_what_strangers_send_writes_no_file(host: Host) -> None:
    """Also where everybody may; what is read, and what was open before, stays (Landlock)."""
    place = host.scratch / "open to all"
    place.mkdir()
    place.chmod(0o777)
    (place / "file").write_text("text")
    (place / "file").chmod(0o666)
    code = f"""
import os, sys
from nsrun.resolver import __main__ as resolver
os.chdir({str(place)!r})
before = open("file", "a")
if sys.argv[1] == "let go":
    resolver._let_go()
else:
    os.setresuid(65534, 65534, 65534)
def tried(what):
    try:
        what()
    except OSError as error:
        return error.errno
    return 0
print(tried(lambda: open("file", "a")), tried(lambda: open("new", "w")), tried(lambda: os.mkdir("dir")), tried(lambda: os.unlink("file")))
before.write("more")
before.close()
print(open("/etc/passwd").read(4), flush=True)
print(tried(lambda: os.execv("/bin/true", ["true"])))
"""
    said = [host.run(sys.executable, "-c", code, word).stdout.split() for word in ("let go", "as ever")]
    assert said == [["13", "13", "13", "13", "root", "13"], ["0", "0", "0", "0", "root"]]


def test_S_DNS_floods_and_garbage(server: Server) -> None:
    resolv = server.host.scratch / "resolv.conf"
    # Nobody answers there: what is put to others stays under way.
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as hole:
        hole.bind(("127.0.0.9", 53))
        resolv.write_text("nameserver 127.0.0.9\n")
        configure(server, f'[dns]\nresolvConf = "{resolv}"\n')
        server.up(
            manifest("web"), manifest("bad", image="nsrun.local/host"), manifest("good", image="nsrun.local/host")
        )
        at, ip = gateway(server), server.get("web")["status"]["podIP"]
        pid = pid_of(server)
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as one:
            for seed in range(3000):
                with contextlib.suppress(ConnectionError):
                    one.sendto(garbage(seed), (at, 53))
        for seed in range(100):
            with socket.create_connection((at, 53), timeout=10) as stream, contextlib.suppress(ConnectionError):
                wire = garbage(seed)
                stream.sendall(random.Random(seed).choice([len(wire).to_bytes(2, "big"), b"", b"\0\3"]) + wire)
                if seed % 4 == 0:
                    stream.shutdown(socket.SHUT_WR)
                    while stream.recv(4096):
                        pass
        # Half-open ones and slow ones, from one place: no more than its share.
        idle = [socket.create_connection((at, 53), timeout=10) for _ in range(40)]
        assert answers(ask(at, f"web.default.pod.{D}")) == [ip]
        for one in idle:
            one.close()
        # A pod that floods, with questions that nobody answers among them, delays neither other pods' questions nor pods.
        flood = (
            "import os, socket\n"
            "s = [socket.socket(socket.AF_INET, socket.SOCK_DGRAM) for _ in range(4)]\n"
            "n = 0\n"
            f"q = b'\\1\\0\\0\\1\\0\\0\\0\\0\\0\\0\\3web\\7default\\3pod\\7cluster\\5local\\0\\0\\1\\0\\1'\n"
            "while True:\n"
            "    n += 1\n"
            "    w = q if n % 8 else b'\\1\\0\\0\\1\\0\\0\\0\\0\\0\\0\\6%06d\\4test\\0\\0\\1\\0\\1' % (n % 1000000)\n"
            f"    s[n % 4].sendto(os.urandom(2) + w, ('{at}', 53))\n"
        )
        measure = (
            "import socket, sys, time\n"
            "s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); s.settimeout(3)\n"
            f"q = b'\\1\\0\\0\\1\\0\\0\\0\\0\\0\\0\\3web\\7default\\3pod\\7cluster\\5local\\0\\0\\1\\0\\1'\n"
            "lost = 0\n"
            "for n in range(100):\n"
            f"    s.sendto(n.to_bytes(2, 'big') + q, ('{at}', 53))\n"
            "    try:\n"
            "        while s.recv(512)[:2] != n.to_bytes(2, 'big'): pass\n"
            "    except TimeoutError: lost += 1\n"
            "print(lost)\n"
        )
        ips = [server.get(one)["status"]["podIP"] for one in ("bad", "good")]
        assert len({int(one.rpartition(".")[2]) % 8 for one in ips}) == 2
        with concurrent.futures.ThreadPoolExecutor(1) as pool:
            flooding = pool.submit(server.run, "bad", "timeout", "4", "python3", "-c", flood)
            time.sleep(0.5)
            began = time.monotonic()
            server.up(manifest("new"))
            took = time.monotonic() - began
            assert took < 3 * PATIENCE
            assert server.run("good", "python3", "-c", measure)[1] == b"0\n"
            flooding.result()
        assert answers(ask(at, f"web.default.pod.{D}")) == [ip]
        # The same process all along.
        assert status(server)["pid"] == pid
        assert status(server)["under_way"] <= 512


def test_S_DNS_a_port_that_is_taken_is_told_and_tried_again(server: Server) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as taken:
        taken.bind(("0.0.0.0", 53))
        server.up(manifest("web"))
        assert "MissingClusterDNS" in server.reasons("web")
        _, text, _ = server.run("web", "cat", "/etc/resolv.conf")
        assert "cluster.local" not in text.decode()
        about = status(server)
        assert about["addresses"] == []
        assert "in use" in about["error"]
        checks = {one["name"]: one for one in server.call("doctor").result["checks"]}
        assert not checks["names"]["ok"]
    until(lambda: bool(status(server)["addresses"]))
    assert status(server)["error"] == ""
    at = gateway(server)
    # Port 53 of its own, and of the machine: a pod may have both, the resolver's stays its own.
    server.up(
        manifest("dns", image="nsrun.local/host")
        | {
            "spec": {
                "terminationGracePeriodSeconds": 0,
                "containers": [
                    {
                        "name": "c",
                        "image": "nsrun.local/host",
                        "command": [
                            "python3",
                            "-c",
                            "import socket,time\ns=socket.socket(2,2)\ns.bind(('',53))\ntime.sleep(1000)",
                        ],
                        "ports": [{"containerPort": 53, "hostPort": 53, "protocol": "UDP"}],
                    }
                ],
            }
        },
        manifest("host", image="nsrun.local/host", hostNetwork=True, dnsPolicy="ClusterFirstWithHostNet"),
    )
    assert "MissingClusterDNS" not in server.reasons("dns") + server.reasons("host")
    web = server.get("web")["status"]["podIP"]
    assert server.run("dns", "dig", "+search", "+short", "web")[1].decode().split() == [web]
    assert server.run("host", "dig", "+search", "+short", "web")[1].decode().split() == [web]
    # As long as it is there, so is the bridge that it asks at.
    server.down("web", "dns")
    time.sleep(2.5)
    assert server.run("host", "dig", "+short", f"@{at}", f"host.default.pod.{D}")[1].decode().split() != []


@pytest.mark.requires("iptables")
def test_S_DNS_settings_and_a_firewall_that_drops(server: Server) -> None:
    configure(server, '[dns]\nresolver = "off"\n')
    server.up(manifest("web"))
    assert "MissingClusterDNS" in server.reasons("web")
    assert not (server.root / "run" / "dns").exists()
    server.down("web")
    # Without any pod, and under another domain.
    configure(server, '[dns]\nresolver = "always"\ndomain = "lab.test"\n')
    until(lambda: bool(status(server)["addresses"]))
    at = gateway(server)
    assert answers(ask(at, "dns-version.lab.test", "TXT")) == ['"1.1.0"']
    server.host.run("iptables", "-P", "INPUT", "DROP")
    try:
        server.up(manifest("web"), manifest("asks", image="nsrun.local/host", subdomain="s", setHostnameAsFQDN=True))
        ip = server.get("web")["status"]["podIP"]
        for protocol in ("+notcp", "+tcp"):
            found = server.run("asks", "dig", "+search", "+short", "+tries=1", protocol, "web")[1]
            assert found.decode().split() == [ip]
        assert server.run("asks", "hostname")[1] == b"asks.s.default.svc.lab.test\n"
    finally:
        server.host.run("iptables", "-P", "INPUT", "ACCEPT")
        server.down("web", "asks")
        server.wipe()
        assert "dport 53" not in server.host.run("iptables", "-S").stdout
        server.host.run("nft", "flush", "ruleset")
