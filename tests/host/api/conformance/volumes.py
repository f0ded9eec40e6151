"""Volumes of configMaps, secrets, the downward API and their projections, and emptyDir (test/e2e/common/storage)."""

from __future__ import annotations

import base64
from collections.abc import Callable
from typing import Any

from tests.host.api.conformance.cluster import Namespace, Object, box, pod
from tests.host.api.conformance.registry import add, case

DATA = {"data-1": "value-1", "data-2": "value-2", "data-3": "value-3"}
KINDS = {
    "ConfigMap": ("ConfigMap", False),
    "Secrets": ("Secret", False),
    "Projected configMap": ("ConfigMap", True),
    "Projected secret": ("Secret", True),
}
"""The suite's groups: which kind of object, and whether it is a part of a projected volume."""
MAPPED = [{"key": "data-2", "path": "path/to/data-2"}]


def encoded(kind: str, data: dict[str, str]) -> dict[str, dict[str, str]]:
    """The data of an object."""
    if kind == "Secret":
        data = {key: base64.b64encode(text.encode()).decode() for key, text in data.items()}
    return {"data": data}


def source(
    group: str, name: str, *, items: list[Object] | None = None, mode: int | None = None, optional: bool = False
) -> Object:
    """A volume of an object."""
    kind, projected = KINDS[group]
    about: Object = {}
    if items is not None:
        about["items"] = items
    if optional:
        about["optional"] = True
    if projected:
        word = "configMap" if kind == "ConfigMap" else "secret"
        volume: Object = {"sources": [{word: {"name": name, **about}}]}
        return {"projected": volume | ({} if mode is None else {"defaultMode": mode})}
    if mode is not None:
        about["defaultMode"] = mode
    if kind == "Secret":
        return {"secret": {"secretName": name, **about}}
    return {"configMap": {"name": name, **about}}


def volumes(*sources: Object) -> Object:
    """The fields of a pod and of its container that mount each at /v1, /v2, …"""
    return {
        "spec": {"volumes": [{"name": f"v{number}", **one} for number, one in enumerate(sources, 1)]},
        "mounts": [
            {"name": f"v{number}", "mountPath": f"/v{number}", "readOnly": True}
            for number in range(1, len(sources) + 1)
        ],
    }


def reader(script: str, *sources: Object, **spec: Any) -> Object:
    """A pod that looks at volumes."""
    made = volumes(*sources)
    return pod("looks", box("c", script, volumeMounts=made["mounts"]), **made["spec"], **spec)


def file(
    group: str,
    path: str = "data-1",
    text: str = "value-1",
    shown: str = "-rw-r--r-- 0:0",
    *,
    spec: Object | None = None,
    **how: Any,
) -> Callable[[Namespace], None]:
    """A case: an object's file in a volume has its text, this mode and this owner. `how` is what the volume says of it."""

    def run(space: Namespace) -> None:
        kind = KINDS[group][0]
        space.create(kind, "things", **encoded(kind, DATA))
        script = f"cat /v1/{path}; echo; stat -L -c '%A %u:%g' /v1/{path}; id -u"
        said = space.output(reader(script, source(group, "things", **how), **(spec or {}))).splitlines()
        user = (spec or {}).get("securityContext", {}).get("runAsUser", 0)
        assert said == [text, shown, str(user)]

    return run


USER = {"securityContext": {"runAsUser": 1000}}
GROUPED = {"securityContext": {"runAsUser": 1000, "fsGroup": 1001}}
MODE = [{**MAPPED[0], "mode": 0o400}]


def twice(group: str) -> Callable[[Namespace], None]:
    """A case: an object in two volumes of a pod."""

    def run(space: Namespace) -> None:
        kind = KINDS[group][0]
        space.create(kind, "things", **encoded(kind, DATA))
        one = source(group, "things")
        assert space.output(reader("cat /v1/data-1 /v2/data-1", one, one)) == "value-1value-1"

    return run


def live(group: str) -> Callable[[Namespace], None]:
    """A case: what is changed in an object is seen in the volume."""

    def run(space: Namespace) -> None:
        kind = KINDS[group][0]
        space.create(kind, "things", **encoded(kind, {"data-1": "value-1"}))
        watches = reader("while :; do cat /v1/data-1; echo; sleep 0.2; done", source(group, "things"))
        space.running(watches)
        space.until_log("looks", "c", "value-1")
        fresh = encoded(kind, {"data-1": "value-2"})["data"]
        space.change(kind.lower() + "s", "things", lambda found: found["data"].update(fresh))
        space.until_log("looks", "c", "value-2", 120)

    return run


def optional(group: str) -> Callable[[Namespace], None]:
    """A case: optional objects that go, change and come are seen in a pod's volumes."""

    def run(space: Namespace) -> None:
        kind = KINDS[group][0]
        plural = kind.lower() + "s"
        for name in ("goes", "changes"):
            space.create(kind, name, **encoded(kind, {"data-1": "value-1"}))
        script = 'while :; do for v in 1 2 3; do echo "v$v: $(cat /v$v/* 2>/dev/null)"; done; sleep 0.2; done'
        space.running(reader(script, *(source(group, name, optional=True) for name in ("goes", "changes", "comes"))))
        space.until_log("looks", "c", "v1: value-1")
        assert "v3: \n" in space.log("looks", "c")
        space.api.call("DELETE", space.path(plural, "goes"))
        fresh = encoded(kind, {"data-3": "value-3"})["data"]

        def edit(found: Object) -> None:
            found["data"] = fresh

        space.change(plural, "changes", edit)
        space.create(kind, "comes", **encoded(kind, {"data-1": "value-1"}))
        for wanted in ("v1: \n", "v2: value-3", "v3: value-1"):
            space.until_log("looks", "c", wanted, 120)

    return run


for _group in KINDS:
    _title = f"[sig-storage] {_group}"
    _secret = "ecret" in _group
    add(f"{_title} should be consumable from pods in volume", file(_group))
    add(
        f"{_title} should be consumable from pods in volume with defaultMode set",
        file(_group, shown="-r-------- 0:0", mode=0o400),
    )
    _mapped = ("path/to/data-2", "value-2")
    add(f"{_title} should be consumable from pods in volume with mappings", file(_group, *_mapped, items=MAPPED))
    _item = "Item Mode" if _secret else "Item mode"
    add(
        f"{_title} should be consumable from pods in volume with mappings and {_item} set",
        file(_group, *_mapped, "-r-------- 0:0", items=MODE),
    )
    if _secret:
        add(
            f"{_title} should be consumable from pods in volume as non-root with defaultMode and fsGroup set",
            file(_group, shown="-r--r----- 0:1001", mode=0o440, spec=GROUPED),
        )
        add(f"{_title} should be consumable in multiple volumes in a pod", twice(_group))
    else:
        add(f"{_title} should be consumable from pods in volume as non-root", file(_group, spec=USER))
        add(
            f"{_title} should be consumable from pods in volume with mappings as non-root",
            file(_group, *_mapped, items=MAPPED, spec=USER),
        )
        add(f"{_title} should be consumable in multiple volumes in the same pod", twice(_group))
        add(f"{_title} updates should be reflected in volume", live(_group))
    add(f"{_title} optional updates should be reflected in volume", optional(_group))


@case("[sig-storage] ConfigMap binary data should be reflected in volume")
def binary(space: Namespace) -> None:
    raw = base64.b64encode(b"\xde\xca\xfe\xba\xd0\xfe\xff").decode()
    space.create("ConfigMap", "things", data={"data-1": "value-1"}, binaryData={"dump.bin": raw})
    said = space.output(reader("cat /v1/data-1; echo; od -An -tx1 /v1/dump.bin", source("ConfigMap", "things"))).split()
    assert said == ["value-1", "de", "ca", "fe", "ba", "d0", "fe", "ff"]


@case(
    "[sig-storage] Secrets should be able to mount in a volume regardless of a different secret existing with same name in "
    "different namespace"
)
def other_namespace(space: Namespace) -> None:
    other = Namespace(space.api, f"{space.name}-other")
    try:
        other.create("Secret", "things", **encoded("Secret", {"data-1": "not this one"}))
        file("Secrets")(space)
    finally:
        other.close()


@case("[sig-storage] Projected combined should project all components that make up the projection API")
def combined(space: Namespace) -> None:
    space.create("ConfigMap", "c", data={"configmap-data": "configmap-value-1"})
    space.create("Secret", "s", **encoded("Secret", {"secret-data": "secret-value-1"}))
    parts = [
        {"downwardAPI": {"items": [{"path": "podname", "fieldRef": {"fieldPath": "metadata.name"}}]}},
        {"secret": {"name": "s", "items": [{"key": "secret-data", "path": "secret-data"}]}},
        {"configMap": {"name": "c", "items": [{"key": "configmap-data", "path": "configmap-data"}]}},
    ]
    script = "cat /v1/podname /v1/secret-data /v1/configmap-data"
    assert space.output(reader(script, {"projected": {"sources": parts}})) == "lookssecret-value-1configmap-value-1"


# The downward API

LIMITED = {"requests": {"cpu": "250m", "memory": "32Mi"}, "limits": {"cpu": "1250m", "memory": "64Mi"}}


def downward(group: str, items: list[Object], *, mode: int | None = None) -> Object:
    """A volume of the downward API."""
    extra = {} if mode is None else {"defaultMode": mode}
    if group.startswith("Projected"):
        return {"projected": {"sources": [{"downwardAPI": {"items": items}}], **extra}}
    return {"downwardAPI": {"items": items, **extra}}


NAME = {"path": "podname", "fieldRef": {"fieldPath": "metadata.name"}}


def name_file(
    group: str, shown: str, *, item: int | None = None, mode: int | None = None
) -> Callable[[Namespace], None]:
    """A case: the pod's name in a file of this mode."""

    def run(space: Namespace) -> None:
        one = NAME if item is None else {**NAME, "mode": item}
        script = "cat /v1/podname; echo; stat -L -c %A /v1/podname"
        assert space.output(reader(script, downward(group, [one], mode=mode))).split() == ["looks", shown]

    return run


def amount(group: str, resource: str, wanted: str | None) -> Callable[[Namespace], None]:
    """A case: an amount of the container's, or what the node has of it, in a file."""

    def run(space: Namespace) -> None:
        divisor = "1m" if resource.endswith("cpu") else "1Mi"
        item = {"path": "x", "resourceFieldRef": {"containerName": "c", "resource": resource, "divisor": divisor}}
        manifest = reader("cat /v1/x", downward(group, [item]))
        if wanted is not None:
            manifest["spec"]["containers"][0]["resources"] = LIMITED
        said = space.output(manifest)
        allocatable = space.api.node["status"]["allocatable"]
        if wanted is not None:
            assert said == wanted
        elif resource.endswith("cpu"):
            assert int(said) == milli(allocatable["cpu"])
        else:
            assert abs(int(said) - kibibytes(allocatable["memory"]) / 1024) <= 1

    return run


def milli(text: str) -> int:
    """Thousandths of processors."""
    return int(text[:-1]) if text.endswith("m") else int(text) * 1000


def kibibytes(text: str) -> float:
    """KiB of an amount of memory."""
    units = {"Ki": 1.0, "Mi": 1024.0, "Gi": 1024.0**2}
    return float(text[:-2]) * units[text[-2:]] if text[-2:] in units else int(text) / 1024


def told(group: str, field: str) -> Callable[[Namespace], None]:
    """A case: labels or annotations in a file follow those of the pod."""

    def run(space: Namespace) -> None:
        items = [{"path": field, "fieldRef": {"fieldPath": f"metadata.{field}"}}]
        manifest = reader(f"while :; do cat /v1/{field}; echo; sleep 0.2; done", downward(group, items))
        manifest["metadata"][field] = {"key1": "value1", "key2": "value2"}
        space.running(manifest)
        space.until_log("looks", "c", 'key1="value1"\n')
        space.change("pods", "looks", lambda found: found["metadata"][field].update({"key3": "value3"}))
        space.until_log("looks", "c", 'key3="value3"\n')

    return run


for _group in ("Downward API volume", "Projected downwardAPI"):
    _title = f"[sig-storage] {_group}"
    add(f"{_title} should provide podname only", name_file(_group, "-rw-r--r--"))
    add(f"{_title} should set DefaultMode on files", name_file(_group, "-r--------", mode=0o400))
    add(f"{_title} should set mode on item file", name_file(_group, "-r--------", item=0o400))
    add(f"{_title} should update labels on modification", told(_group, "labels"))
    add(f"{_title} should update annotations on modification", told(_group, "annotations"))
    add(f"{_title} should provide container's cpu limit", amount(_group, "limits.cpu", "1250"))
    add(f"{_title} should provide container's memory limit", amount(_group, "limits.memory", "64"))
    add(f"{_title} should provide container's cpu request", amount(_group, "requests.cpu", "250"))
    add(f"{_title} should provide container's memory request", amount(_group, "requests.memory", "32"))
    for _resource in ("cpu", "memory"):
        add(
            f"{_title} should provide node allocatable ({_resource}) as default {_resource} limit if the limit is not set",
            amount(_group, f"limits.{_resource}", None),
        )


# emptyDir


def scratch(script: str, *, memory: bool, user: int) -> Object:
    """A pod with an empty directory."""
    context: Object = {"seLinuxOptions": {"level": "s0"}} | ({"runAsUser": user} if user else {})
    mount = {"name": "v", "mountPath": "/v"}
    volume = {"name": "v", "emptyDir": {"medium": "Memory"} if memory else {}}
    return pod("looks", box("c", script, volumeMounts=[mount]), volumes=[volume], securityContext=context)


def made(mode: int, *, memory: bool, user: int) -> Callable[[Namespace], None]:
    """A case: a file made in an empty directory is there, with its mode, and the directory is of its medium."""

    def run(space: Namespace) -> None:
        script = (
            f"umask 0; echo new > /v/f; chmod {mode:o} /v/f; cat /v/f; stat -c '%a %u' /v/f; "
            "grep ' /v ' /proc/self/mounts | cut -d' ' -f3"
        )
        said = space.output(scratch(script, memory=memory, user=user)).split()
        assert said[:3] == ["new", f"{mode:o}", str(user)]
        assert (said[3] == "tmpfs") == memory

    return run


def directory(*, memory: bool) -> Callable[[Namespace], None]:
    """A case: everybody may write to an empty directory."""

    def run(space: Namespace) -> None:
        script = "stat -c %A /v; grep ' /v ' /proc/self/mounts | cut -d' ' -f3"
        said = space.output(scratch(script, memory=memory, user=0)).split()
        assert said[0] == "drwxrwxrwx"
        assert (said[1] == "tmpfs") == memory

    return run


for _memory in (True, False):
    _medium = "tmpfs" if _memory else "default"
    _name = "tmpfs" if _memory else "default medium"
    add(f"[sig-storage] EmptyDir volumes volume on {_name} should have the correct mode", directory(memory=_memory))
    for _user, _word in ((0, "root"), (1001, "non-root")):
        for _mode in (0o644, 0o666, 0o777):
            add(
                f"[sig-storage] EmptyDir volumes should support ({_word},{_mode:04o},{_medium})",
                made(_mode, memory=_memory, user=_user),
            )
