"""What a container is told of its own pod: fields, resources of the machine, names."""

from __future__ import annotations

import math
import os
from typing import Any

import pytest

from nsrun.errors import PodFailedError
from tests.host.server.harness import Server, box, pod

pytestmark = [pytest.mark.requires("overlay", "bridge", "nftables"), pytest.mark.timeout(90)]


def field(name: str, path: str) -> dict[str, Any]:
    return {"name": name, "valueFrom": {"fieldRef": {"fieldPath": path}}}


def resource(name: str, which: str, **more: str) -> dict[str, Any]:
    return {"name": name, "valueFrom": {"resourceFieldRef": {"resource": which, **more}}}


def variables(server: Server, name: str) -> dict[str, str]:
    """The environment that a container's `env` has printed."""
    server.wait(name, "phase=Succeeded")
    return dict(line.split("=", 1) for line in server.lines(name))


def test_S_ENV_the_fields_of_the_pod_itself(server: Server) -> None:
    env = [
        field("NAME", "metadata.name"),
        field("NAMESPACE", "metadata.namespace"),
        field("UID", "metadata.uid"),
        field("TIER", "metadata.labels['example.com/tier']"),
        field("NOTE", "metadata.annotations['note']"),
        field("NONE", "metadata.labels['none']"),
        field("NODE", "spec.nodeName"),
        field("ACCOUNT", "spec.serviceAccountName"),
        field("HOST_IP", "status.hostIP"),
        field("HOST_IPS", "status.hostIPs"),
        field("IP", "status.podIP"),
        field("IPS", "status.podIPs"),
        {"name": "URL", "value": "http://$(IP)/$(NAME)?$(GONE)$$(IP)"},
    ]
    manifest = pod("web", box("a", "env", env=env), restartPolicy="Never")
    manifest["metadata"] |= {"labels": {"example.com/tier": "back"}, "annotations": {"note": "a b=c $(IP)"}}
    server.up(manifest, wait="none")
    found = variables(server, "web")
    told = server.get("web")
    ip = told["status"]["podIP"]
    expected = {
        "NAME": "web",
        "NAMESPACE": "default",
        "UID": told["metadata"]["uid"],
        "TIER": "back",
        "NOTE": "a b=c $(IP)",
        "NONE": "",
        "NODE": os.uname().nodename.lower(),
        "ACCOUNT": "",
        "HOST_IP": told["status"]["hostIP"],
        "HOST_IPS": ",".join(one["ip"] for one in told["status"]["hostIPs"]),
        "IP": ip,
        "IPS": ",".join(one["ip"] for one in told["status"]["podIPs"]),
        "URL": f"http://{ip}/web?$(GONE)$(IP)",
    }
    assert {name: found.get(name) for name in expected} == expected


def test_S_ENV_an_init_container_and_a_command_see_the_address_too(server: Server) -> None:
    init = box("i", "env", env=[field("IP", "status.podIP")])
    server.up(pod("web", box("a", "pause", env=[field("IP", "status.podIP")]), inits=(init,)))
    ip = server.get("web")["status"]["podIP"]
    assert f"IP={ip}" in server.lines("web", "i")
    assert f"IP={ip}\n".encode() in server.run("web", "/bin/env")[1]


def test_S_ENV_a_limit_that_is_not_set_is_what_the_machine_has(server: Server) -> None:
    env = [
        resource("CPU", "limits.cpu"),
        resource("MILLI", "limits.cpu", divisor="1m"),
        resource("MIB", "limits.memory", divisor="1Mi"),
        resource("DISK", "limits.ephemeral-storage", divisor="1Gi"),
        resource("WANTED", "requests.cpu"),
        resource("OTHER", "limits.cpu", containerName="b"),
        {"name": "GOMAXPROCS", "value": "$(CPU)"},
    ]
    server.up(pod("web", box("a", "env", env=env), box("b", "true"), restartPolicy="Never"), wait="none")
    server.wait("web", "phase=Succeeded")
    found = dict(line.split("=", 1) for line in server.lines("web", "a"))
    cpus, memory = os.cpu_count() or 1, os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    assert (found["CPU"], found["MILLI"], found["OTHER"]) == (str(cpus), str(cpus * 1000), str(cpus))
    assert found["GOMAXPROCS"] == found["CPU"]
    assert found["MIB"] == str(math.ceil(memory / 2**20))
    assert int(found["DISK"]) > 0
    assert found["WANTED"] == "0"


def test_S_HOSTNAME_a_subdomain_is_in_hosts_and_not_in_the_hostname(server: Server) -> None:
    server.up(pod("web", box("a", "pause"), hostname="h", subdomain="sub"))
    ips = [one["ip"] for one in server.get("web")["status"]["podIPs"]]
    assert server.run("web", "/bin/hostname")[1].split()[0] == b"h"
    assert server.run("web", "/bin/cat", "/etc/hostname")[1] == b"h\n"
    hosts = server.run("web", "/bin/cat", "/etc/hosts")[1].decode()
    assert hosts.endswith("".join(f"{ip}\th.sub.default.svc.cluster.local\th\n" for ip in ips))


def test_S_HOSTNAME_the_full_name_as_hostname(server: Server) -> None:
    full = b"web.sub.default.svc.cluster.local\n"
    server.up(pod("web", box("a", "env"), box("b", "pause"), subdomain="sub", setHostnameAsFQDN=True))
    assert server.run("web", "/bin/hostname", container="b")[1].split()[0] == full.strip()
    assert server.run("web", "/bin/cat", "/etc/hostname", container="b")[1] == full
    assert "HOSTNAME=web.sub.default.svc.cluster.local" in server.lines("web", "a")


def test_S_HOSTNAME_a_name_that_overrides_all_others(server: Server) -> None:
    server.up(pod("web", box("a", "pause"), hostname="h", subdomain="sub", hostnameOverride="over.ride.example"))
    ips = [one["ip"] for one in server.get("web")["status"]["podIPs"]]
    assert server.run("web", "/bin/hostname")[1].split()[0] == b"over.ride.example"
    hosts = server.run("web", "/bin/cat", "/etc/hosts")[1].decode()
    assert hosts.endswith("".join(f"{ip}\tover.ride.example\n" for ip in ips))


def test_S_HOSTNAME_a_full_name_that_is_too_long_keeps_the_pod_pending(server: Server) -> None:
    name = "h" * 40
    full = f"{name}.sub.default.svc.cluster.local"
    manifest = pod("web", box("a", "pause"), hostname=name, subdomain="sub", setHostnameAsFQDN=True)
    with pytest.raises(PodFailedError, match="is too long"):
        server.up(manifest)
    assert server.get("web")["status"]["phase"] == "Pending"
    events = server.call("pod.events", name="web").result["events"]
    (event,) = [one for one in events if one["reason"] == "FailedCreatePodSandBox"]
    assert (event["type"], event["message"]) == (
        "Warning",
        "Failed to create pod sandbox: failed to construct FQDN from Pod hostname and cluster domain, "
        f"FQDN {full} is too long (64 characters is the max, {len(full)} characters requested)",
    )
    runtime = server.runtime("web")
    assert (runtime["shim_pid"], runtime["instances"]) == (None, [])
    server.down("web")
