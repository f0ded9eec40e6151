"""Pods with volumes, and what is seen of them from inside and outside."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tests.host.server.harness import Server, box, pod


def volume(name: str, **source: Any) -> dict[str, Any]:
    """A volume; without a source an emptyDir."""
    return {"name": name, **(source or {"emptyDir": {}})}


def mount(name: str, path: str, **fields: Any) -> dict[str, Any]:
    """A volumeMount."""
    return {"name": name, "mountPath": path, **fields}


def pausing(name: str, *mounts: dict[str, Any], **fields: Any) -> dict[str, Any]:
    """A container that waits to be looked into."""
    return box(name, "pause", volumeMounts=list(mounts), **fields)


def up(
    server: Server,
    *volumes: dict[str, Any],
    mounts: list[dict[str, Any]],
    name: str = "web",
    objects: Sequence[dict[str, Any]] = (),
    **spec: Any,
) -> str:
    """Run a pod with these volumes, mounted in its one container, and the objects that they are made of; its uid."""
    manifest = pod(name, pausing("a", *mounts), volumes=list(volumes), **spec)
    uid: str = server.up(*objects, manifest)["pods"][0]["uid"]
    return uid


def said(server: Server, *command: str, name: str = "web", container: str = "a") -> str:
    """What a command in a container says; it has to succeed."""
    code, out, err = server.run(name, f"/bin/{command[0]}", *command[1:], container=container)
    assert code == 0, (command, code, out, err)
    return out.decode()


def fails(server: Server, *command: str, name: str = "web", container: str = "a") -> str:
    """What a command in a container complains of."""
    code, out, err = server.run(name, f"/bin/{command[0]}", *command[1:], container=container)
    assert code != 0, (command, out)
    return err.decode()


def mounts(server: Server, *, name: str = "web", container: str = "a") -> dict[str, list[str]]:
    """What is mounted in a container: by place, [root, options, propagation, type, ro or rw]; the last one where there are several."""
    lines = (line.split(" ") for line in said(server, "mounts", name=name, container=container).splitlines())
    return {fields[0]: fields[1:] for fields in lines}


def events(server: Server, reason: str, name: str = "web") -> list[str]:
    """The messages of a pod's events of one reason."""
    found = server.call("pod.events", name=name).result["events"]
    return [one["message"] for one in found if one["reason"] == reason]


def nothing_left(server: Server, uid: str) -> None:
    """Raise unless no volume of the pod is there any more."""
    assert not (server.root / "lib" / "volumes" / uid).exists()
    assert not (server.root / "run" / "pods" / uid).exists()
    assert uid not in Path("/proc/self/mountinfo").read_text(encoding="utf-8")
