"""metav1.Table: the columns of `kubectl get`, and PartialObjectMetadata.

Source: kubernetes pkg/printers/internalversion/printers.go (names, types, formats, priorities and cells), apiserver
pkg/endpoints/handlers/response.go and pkg/registry/rest/table.go. What is shown of a pod is nsrun.status.columns.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import msgspec

from nsrun.spec.model import Pod
from nsrun.spec.resources_table import Resource
from nsrun.status.columns import summary
from nsrun.status.times import human_duration, seconds_of

NONE, METADATA, OBJECT = "None", "Metadata", "Object"
"""What goes along with a row (`includeObject`)."""

_NONE, _UNSET, _UNKNOWN = "<none>", "<unset>", "<unknown>"
_MORE = 3
"""Elements of a list in a cell; the others are counted."""

_Object = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Column:
    """A column: its name as kubectl turns it into capitals, and what its cells are.

    `priority`: 0 is always shown, 1 with `-o wide`.
    """

    name: str
    type: str = "string"
    format: str = ""
    description: str = ""
    priority: int = 0

    def as_data(self) -> dict[str, Any]:
        """As a table has it."""
        return {
            "name": self.name,
            "type": self.type,
            "format": self.format,
            "description": self.description,
            "priority": self.priority,
        }


@dataclass(frozen=True, slots=True)
class _Printer:
    """The columns of a kind and what fills them."""

    columns: tuple[Column, ...]
    cells: Callable[[_Object, float], list[Any]]


def table(
    resource: Resource,
    objects: Iterable[_Object],
    now: float,
    *,
    include: str = METADATA,
    version: str = "v1",
    metadata: dict[str, Any] | None = None,
    columns: bool = True,
) -> _Object:
    """Objects as a table.

    Args:
        resource: of which they are.
        objects: in JSON terms.
        now: seconds since the epoch, for ages.
        include: what goes along with a row: NONE, METADATA or OBJECT.
        version: of the group meta.k8s.io.
        metadata: of the list; None takes the resourceVersion of the only object.
        columns: tell the columns, too; a watch does so in its first event only.
    """
    printer = _PRINTERS.get((resource.group, resource.kind), _DEFAULT)
    rows = []
    for obj in objects:
        row: _Object = {"cells": printer.cells(obj, now)}
        if printer is _POD and (completed := _COMPLETED.get(_status(obj).get("phase", ""))) is not None:
            row["conditions"] = [completed]
        if include == METADATA:
            row["object"] = partial(obj, version)
        elif include == OBJECT:
            row["object"] = obj
        else:
            row["object"] = None
        rows.append(row)
        if metadata is None:
            metadata = {"resourceVersion": _metadata(obj).get("resourceVersion", "")}
    return {
        "kind": "Table",
        "apiVersion": f"meta.k8s.io/{version}",
        "metadata": metadata or {},
        "columnDefinitions": [column.as_data() for column in printer.columns] if columns else None,
        "rows": rows,
    }


def partial(obj: _Object, version: str = "v1") -> _Object:
    """An object without all but its metadata."""
    return {"kind": "PartialObjectMetadata", "apiVersion": f"meta.k8s.io/{version}", "metadata": _metadata(obj)}


def partial_list(objects: Iterable[_Object], metadata: dict[str, Any], version: str = "v1") -> _Object:
    """Objects without all but their metadata, as a list."""
    return {
        "kind": "PartialObjectMetadataList",
        "apiVersion": f"meta.k8s.io/{version}",
        "metadata": metadata,
        "items": [partial(obj, version) for obj in objects],
    }


def _metadata(obj: _Object) -> _Object:
    found: _Object = obj.get("metadata") or {}
    return found


def _spec(obj: _Object) -> _Object:
    found: _Object = obj.get("spec") or {}
    return found


def _status(obj: _Object) -> _Object:
    found: _Object = obj.get("status") or {}
    return found


def _name(obj: _Object) -> str:
    return str(_metadata(obj).get("name", ""))


def _since(moment: Any, now: float) -> str:
    return human_duration(now - seconds_of(moment)) if moment else _UNKNOWN


def _age(obj: _Object, now: float) -> str:
    return _since(_metadata(obj).get("creationTimestamp"), now)


def _some(values: list[str], *, empty: str = _UNSET) -> str:
    """The first few of a list and how many more there are."""
    text = ",".join(values[:_MORE])
    if len(values) > _MORE:
        return f"{text} + {len(values) - _MORE} more..."
    return text or empty


def _pairs(labels: Any) -> str:
    return ",".join(f"{key}={labels[key]}" for key in sorted(labels)) if labels else _NONE


def _host_port(ip: str, port: Any) -> str:
    return f"[{ip}]:{port}" if ":" in ip else f"{ip}:{port}"


def _wide(name: str, description: str, kind: str = "string", format: str = "") -> Column:  # noqa: A002 - the field's name
    return Column(name, kind, format, description, 1)


_NAME = Column("Name", format="name", description="The name of the object, unique in its namespace.")
_AGE = Column("Age", description="How long ago the object was created.")


def _pod(obj: _Object, now: float) -> list[Any]:
    pod = msgspec.convert(obj, Pod, strict=False)
    found = summary(pod, pod.status, now)
    ips = _status(obj).get("podIPs") or []
    gates = pod.spec.readinessGates
    true = {one.type for one in pod.status.conditions if one.status == "True"}
    ready = f"{sum(gate.conditionType in true for gate in gates)}/{len(gates)}" if gates else _NONE
    return [
        _name(obj), found.ready, found.status, found.restarts, found.age,
        (ips[0].get("ip") if ips else "") or _NONE, pod.spec.nodeName or _NONE,
        _status(obj).get("nominatedNodeName") or _NONE, ready,
    ]  # fmt: skip


_POD = _Printer(
    (
        _NAME,
        Column("Ready", description="How many of the pod's containers are ready."),
        Column("Status", description="What the containers of the pod come to."),
        Column("Restarts", description="How often containers of the pod have been restarted, and when last."),
        _AGE,
        _wide("IP", "The address of the pod."),
        _wide("Node", "The node that the pod is on."),
        _wide("Nominated Node", "The node on which room is made for the pod."),
        _wide("Readiness Gates", "How many of the conditions that the pod's readiness waits for hold."),
    ),
    _pod,
)
_COMPLETED = {
    "Succeeded": {
        "type": "Completed", "status": "True", "reason": "Succeeded", "message": "The pod has completed successfully.",
    },
    "Failed": {"type": "Completed", "status": "True", "reason": "Failed", "message": "The pod failed."},
}  # fmt: skip


def _node(obj: _Object, now: float) -> list[Any]:
    ready = next((one for one in _status(obj).get("conditions") or [] if one.get("type") == "Ready"), None)
    words = ["Unknown" if ready is None else "Ready" if ready.get("status") == "True" else "NotReady"]
    if _spec(obj).get("unschedulable"):
        words.append("SchedulingDisabled")
    roles = set()
    for key, value in (_metadata(obj).get("labels") or {}).items():
        if key.startswith("node-role.kubernetes.io/"):
            roles.add(key.partition("/")[2])
        elif key == "kubernetes.io/role":
            roles.add(value)
    info = _status(obj).get("nodeInfo") or {}
    kernel = info.get("kernelVersion") or _UNKNOWN
    if info.get("architecture") and kernel != _UNKNOWN:
        kernel = f"{kernel} ({info['architecture']})"
    addresses = _status(obj).get("addresses") or []

    def address(kind: str) -> str:
        return next((str(one.get("address")) for one in addresses if one.get("type") == kind), _NONE)

    return [
        _name(obj), ",".join(words), ",".join(sorted(roles - {""})) or _NONE, _age(obj, now), info.get("kubeletVersion", ""),
        address("InternalIP"), address("ExternalIP"), info.get("osImage") or _UNKNOWN, kernel,
        info.get("containerRuntimeVersion") or _UNKNOWN,
    ]  # fmt: skip


def _event(obj: _Object, now: float) -> list[Any]:
    # The event of events.k8s.io says the same with other names.
    about = obj.get("involvedObject") or obj.get("regarding") or {}
    source = obj.get("source") or obj.get("deprecatedSource") or {}
    moment = obj.get("firstTimestamp") or obj.get("deprecatedFirstTimestamp") or obj.get("eventTime")
    first = _since(moment, now)
    last_moment = obj.get("lastTimestamp") or obj.get("deprecatedLastTimestamp")
    last = _since(last_moment, now) if last_moment else first
    count = obj.get("count") or obj.get("deprecatedCount") or 1
    series = obj.get("series")
    if series:
        last, count = _since(series.get("lastObservedTime"), now), series.get("count", 0)
    kind, name = str(about.get("kind", "")).lower(), about.get("name")
    component = source.get("component") or obj.get("reportingComponent") or obj.get("reportingController") or ""
    instance = source.get("host") or obj.get("reportingInstance") or ""
    return [
        last, obj.get("type", ""), obj.get("reason", ""), f"{kind}/{name}" if name else kind, about.get("fieldPath", ""),
        f"{component}, {instance}" if instance else component, str(obj.get("message") or obj.get("note") or "").strip(),
        first, count, _name(obj),
    ]  # fmt: skip


def _external(obj: _Object) -> str:
    spec = _spec(obj)
    kind = spec.get("type") or "ClusterIP"
    external = list(spec.get("externalIPs") or [])
    if kind in ("ClusterIP", "NodePort"):
        return ",".join(external) or _NONE
    if kind == "LoadBalancer":
        ingress = (_status(obj).get("loadBalancer") or {}).get("ingress") or []
        found = sorted({one.get("ip") or one.get("hostname") or "" for one in ingress} - {""})
        return ",".join(found + external) or "<pending>"
    return str(spec.get("externalName", "")) if kind == "ExternalName" else _UNKNOWN


def _service(obj: _Object, now: float) -> list[Any]:
    spec = _spec(obj)
    ports = []
    for one in spec.get("ports") or []:
        number = f"{one.get('port')}:{one['nodePort']}" if one.get("nodePort") else f"{one.get('port')}"
        ports.append(f"{number}/{one.get('protocol') or 'TCP'}")
    return [
        _name(obj), spec.get("type") or "ClusterIP", spec.get("clusterIP") or _NONE, _external(obj), ",".join(ports) or _NONE,
        _age(obj, now), _pairs(spec.get("selector")),
    ]  # fmt: skip


def _endpoints(obj: _Object, now: float) -> list[Any]:
    found = []
    for subset in obj.get("subsets") or []:
        addresses = [str(one.get("ip")) for one in subset.get("addresses") or []]
        ports = subset.get("ports") or []
        found += [_host_port(ip, port.get("port")) for port in ports for ip in addresses] if ports else addresses
    shown = _some(found, empty="" if obj.get("subsets") else _NONE)
    return [_name(obj), shown, _age(obj, now)]


def _slice(obj: _Object, now: float) -> list[Any]:
    ports = [str(one.get("port") or one.get("name") or "*") for one in obj.get("ports") or []]
    found = [str(address) for one in obj.get("endpoints") or [] for address in one.get("addresses") or []]
    return [_name(obj), obj.get("addressType", ""), _some(ports), _some(found), _age(obj, now)]


_MODES = {"ReadWriteOnce": "RWO", "ReadOnlyMany": "ROX", "ReadWriteMany": "RWX", "ReadWriteOncePod": "RWOP"}


def _modes(modes: Any) -> str:
    return ",".join(short for mode, short in _MODES.items() if mode in (modes or []))


def _phase(obj: _Object) -> str:
    return "Terminating" if _metadata(obj).get("deletionTimestamp") else str(_status(obj).get("phase", ""))


def _storage_class(obj: _Object) -> str:
    old = (_metadata(obj).get("annotations") or {}).get("volume.beta.kubernetes.io/storage-class")
    return str(old if old is not None else _spec(obj).get("storageClassName") or "")


def _claim(obj: _Object, now: float) -> list[Any]:
    spec, status = _spec(obj), _status(obj)
    bound = bool(spec.get("volumeName"))
    capacity = (status.get("capacity") or {}).get("storage", "0") if bound else ""
    return [
        _name(obj), _phase(obj), spec.get("volumeName", ""), capacity, _modes(status.get("accessModes")) if bound else "",
        _storage_class(obj), spec.get("volumeAttributesClassName") or _UNSET, _age(obj, now), spec.get("volumeMode") or _UNSET,
    ]  # fmt: skip


def _volume(obj: _Object, now: float) -> list[Any]:
    spec = _spec(obj)
    claim = spec.get("claimRef")
    return [
        _name(obj), (spec.get("capacity") or {}).get("storage", "0"), _modes(spec.get("accessModes")),
        spec.get("persistentVolumeReclaimPolicy", ""), _phase(obj),
        f"{claim.get('namespace', '')}/{claim.get('name', '')}" if claim else "", _storage_class(obj),
        spec.get("volumeAttributesClassName") or _UNSET, _status(obj).get("reason", ""), _age(obj, now),
        spec.get("volumeMode") or _UNSET,
    ]  # fmt: skip


def _quota(obj: _Object, now: float) -> list[Any]:
    status = _status(obj)
    used = status.get("used") or {}
    requests: list[str] = []
    limits: list[str] = []
    for name, hard in sorted((status.get("hard") or {}).items()):
        (limits if "limits" in name else requests).append(f"{name}: {used.get(name, '0')}/{hard}")
    return [_name(obj), ", ".join(requests), ", ".join(limits), _age(obj, now)]


def _config_map(obj: _Object, now: float) -> list[Any]:
    return [_name(obj), len(obj.get("data") or {}) + len(obj.get("binaryData") or {}), _age(obj, now)]


def _default(obj: _Object, _now: float) -> list[Any]:
    return [_name(obj), _metadata(obj).get("creationTimestamp", "")]


_DEFAULT = _Printer((_NAME, Column("Created At", "date", description="When the object was created.")), _default)

_EVENT = _Printer(
    (
        Column("Last Seen", description="When it happened last."),
        Column("Type", description="Normal or Warning."),
        Column("Reason", description="Why it happened, for programs."),
        Column("Object", description="What it happened to."),
        _wide("Subobject", "The part of it."),
        _wide("Source", "Who says so."),
        Column("Message", description="What happened."),
        _wide("First Seen", "When it happened first."),
        _wide("Count", "How often it happened."),
        _wide("Name", "The name of the event.", format="name"),
    ),
    _event,
)

_PRINTERS: dict[tuple[str, str], _Printer] = {
    ("", "Pod"): _POD,
    ("", "Event"): _EVENT,
    ("events.k8s.io", "Event"): _EVENT,
    ("", "Namespace"): _Printer(
        (_NAME, Column("Status", description="Active, or Terminating."), _AGE),
        lambda obj, now: [_name(obj), _status(obj).get("phase", ""), _age(obj, now)],
    ),
    ("", "Node"): _Printer(
        (
            _NAME,
            Column("Status", description="Whether pods can run there."),
            Column("Roles", description="What the node's labels call it."),
            _AGE,
            Column("Version", description="Of what runs the pods there."),
            _wide("Internal-IP", "An address of the node in its own network."),
            _wide("External-IP", "An address of the node for others."),
            _wide("OS-Image", "The operating system."),
            _wide("Kernel-Version", "The kernel and the architecture."),
            _wide("Container-Runtime", "What runs the containers."),
        ),
        _node,
    ),
    ("", "ConfigMap"): _Printer((_NAME, Column("Data", description="How many keys it has."), _AGE), _config_map),
    ("", "Secret"): _Printer(
        (_NAME, Column("Type", description="What it is for."), Column("Data", description="How many keys it has."), _AGE),
        lambda obj, now: [_name(obj), obj.get("type", ""), len(obj.get("data") or {}), _age(obj, now)],
    ),
    ("", "ServiceAccount"): _Printer(
        (_NAME, Column("Secrets", description="How many secrets its pods may use."), _AGE),
        lambda obj, now: [_name(obj), len(obj.get("secrets") or []), _age(obj, now)],
    ),
    ("", "Service"): _Printer(
        (
            _NAME,
            Column("Type", description="How it can be reached."),
            Column("Cluster-IP", description="Its own address."),
            Column("External-IP", description="Its addresses for others."),
            Column("Port(s)", description="Its ports."),
            _AGE,
            _wide("Selector", "The labels of its pods."),
        ),
        _service,
    ),
    ("", "Endpoints"): _Printer(
        (_NAME, Column("Endpoints", description="The addresses behind the service."), _AGE), _endpoints
    ),
    ("discovery.k8s.io", "EndpointSlice"): _Printer(
        (
            _NAME,
            Column("AddressType", description="IPv4, IPv6 or FQDN."),
            Column("Ports", description="The ports of all addresses."),
            Column("Endpoints", description="The addresses behind the service."),
            _AGE,
        ),
        _slice,
    ),
    ("", "PersistentVolumeClaim"): _Printer(
        (
            _NAME,
            Column("Status", description="Whether it has a volume."),
            Column("Volume", description="Its volume."),
            Column("Capacity", description="What the volume holds."),
            Column("Access Modes", description="How it can be mounted."),
            Column("StorageClass", description="What kind of volume it asks for."),
            Column("VolumeAttributesClass", description="With which attributes."),
            _AGE,
            _wide("VolumeMode", "Filesystem or Block."),
        ),
        _claim,
    ),
    ("", "PersistentVolume"): _Printer(
        (
            _NAME,
            Column("Capacity", description="What it holds."),
            Column("Access Modes", description="How it can be mounted."),
            Column("Reclaim Policy", description="What becomes of it after its claim."),
            Column("Status", description="Whether a claim has it."),
            Column("Claim", description="The claim that has it."),
            Column("StorageClass", description="What kind of volume it is."),
            Column("VolumeAttributesClass", description="With which attributes."),
            Column("Reason", description="Why it is in this status."),
            _AGE,
            _wide("VolumeMode", "Filesystem or Block."),
        ),
        _volume,
    ),
    ("", "ResourceQuota"): _Printer(
        (
            _NAME,
            Column("Request", description="What is used and allowed of requests."),
            Column("Limit", description="What is used and allowed of limits."),
            _AGE,
        ),
        _quota,
    ),
    ("coordination.k8s.io", "Lease"): _Printer(
        (_NAME, Column("Holder", description="Who has it."), _AGE),
        lambda obj, now: [_name(obj), _spec(obj).get("holderIdentity") or "", _age(obj, now)],
    ),
    ("node.k8s.io", "RuntimeClass"): _Printer(
        (_NAME, Column("Handler", description="What runs its pods."), _AGE),
        lambda obj, now: [_name(obj), obj.get("handler", ""), _age(obj, now)],
    ),
    ("scheduling.k8s.io", "PriorityClass"): _Printer(
        (
            _NAME,
            Column("Value", "integer", description="The priority of its pods."),
            Column("Global-Default", "boolean", description="Whether pods without a class have it."),
            _AGE,
            Column("PreemptionPolicy", description="Whether others must go for its pods."),
        ),
        lambda obj, now: [
            _name(obj), obj.get("value", 0), bool(obj.get("globalDefault")), _age(obj, now),
            obj.get("preemptionPolicy") or "PreemptLowerPriority",
        ],
    ),
}  # fmt: skip
