"""What nsrun does with each field of a pod: ONE table, a row per field or subtree.

Later work deletes rows or moves them to IMPLEMENTED; a test walks the whole Pod API and asks that every field has a row, so
that nothing of a manifest is ever dropped in silence.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from nsrun.plan.image import HOST_IMAGE, HOST_IMAGE_NAMES
from nsrun.spec.defaults import SCHEDULER_NAME
from nsrun.spec.model import ApiStruct, Object, Pod, Volume
from nsrun.spec.names import plain_ip
from nsrun.spec.resources import is_standard

IMPLEMENTED = "implemented"
NOT_APPLICABLE = "not-applicable"
NOT_IMPLEMENTED = "not-implemented"

_When = Callable[[Any, Pod, list[Any]], bool]


@dataclass(frozen=True)
class Unsupported:
    """A field of a pod that has no effect here.

    Attributes:
        path: the field, as in ``spec.volumes[0]``.
        kind: "not-applicable": it has no meaning on one machine, the pod runs all the same; "not-implemented": nsrun
            cannot do it yet, the pod is refused unless the user asks to ignore that.
        message: one line for the user.
    """

    path: str
    kind: str
    message: str


@dataclass(frozen=True)
class Row:
    """What holds for the fields below `pattern`.

    Attributes:
        pattern: a path; ``[]`` stands for any index or key, a leading ``container`` for each of containers[],
            initContainers[] and ephemeralContainers[]. A longer pattern wins.
        status: IMPLEMENTED, NOT_APPLICABLE or NOT_IMPLEMENTED.
        message: why, or what is meant.
        fine: values that are no matter, given the value, the pod, and the objects around it (innermost last).
    """

    pattern: str
    status: str
    message: str = ""
    fine: _When | None = None


def _tree(source: Any, _pod: Pod, _around: list[Any]) -> bool:
    """An image volume of any image but the built-in one, which has only a few files of its own."""
    return source.reference not in HOST_IMAGE_NAMES


def _is(*values: Any) -> _When:
    return lambda value, _pod, _around: value in values


def _address(value: Any, _pod: Pod, _around: list[Any]) -> bool:
    # An API server takes any text.
    return not value or plain_ip(value) not in ("", "::1")


def _standard(value: Any, _pod: Pod, _around: list[Any]) -> bool:
    return not value.claims and all(is_standard(name) for name in (*value.requests, *value.limits))


BLOCK = "block devices as volumes are not implemented"
COPIES = "volumes that begin as copies are not implemented"
NO_ATTRIBUTES = "there are no classes of volume attributes"
_TEMPLATE = "spec.volumes[].ephemeral.volumeClaimTemplate"


_NO_SELINUX = "containers get no SELinux label; a machine that has SELinux switched on rejects the pod"
_NO_CLUSTER = "nothing schedules pods here"
_NO_API = "there is no Kubernetes API server to talk to"
_ASSIGNED = "assigned by nsrun"
_NEVER = tuple(
    name
    for name in Volume.__struct_fields__
    if name not in ("name", "emptyDir", "hostPath", "configMap", "secret", "downwardAPI", "projected")
    and name not in ("persistentVolumeClaim", "ephemeral", "image")
)
"""Kinds of volumes that need a cluster, a cloud or a driver."""

TABLE: tuple[Row, ...] = (
    Row("kind", IMPLEMENTED),
    Row("apiVersion", IMPLEMENTED),
    # Metadata
    Row("metadata.name", IMPLEMENTED),
    Row("metadata.namespace", IMPLEMENTED),
    Row("metadata.labels", IMPLEMENTED),
    Row("metadata.annotations", IMPLEMENTED),
    Row("metadata.generateName", IMPLEMENTED),
    Row("metadata.selfLink", NOT_APPLICABLE, _ASSIGNED),
    Row("metadata.uid", NOT_APPLICABLE, _ASSIGNED),
    Row("metadata.resourceVersion", NOT_APPLICABLE, _ASSIGNED),
    Row("metadata.generation", NOT_APPLICABLE, _ASSIGNED),
    Row("metadata.creationTimestamp", NOT_APPLICABLE, _ASSIGNED),
    Row("metadata.deletionTimestamp", NOT_APPLICABLE, _ASSIGNED),
    Row("metadata.deletionGracePeriodSeconds", NOT_APPLICABLE, _ASSIGNED),
    Row("metadata.ownerReferences", IMPLEMENTED),
    Row("metadata.finalizers", IMPLEMENTED),
    Row("metadata.managedFields", NOT_APPLICABLE, _NO_API),
    Row("status", NOT_APPLICABLE, "the status is what nsrun observes"),
    # Pod: life cycle
    Row("spec.restartPolicy", IMPLEMENTED),
    Row("spec.terminationGracePeriodSeconds", IMPLEMENTED),
    Row("spec.activeDeadlineSeconds", IMPLEMENTED),
    Row("spec.readinessGates", IMPLEMENTED),
    Row("spec.ephemeralContainers[].targetContainerName", IMPLEMENTED),
    Row("spec.volumes[].name", IMPLEMENTED),
    Row("spec.volumes[].emptyDir.medium", NOT_IMPLEMENTED, "there are no other media than Memory and HugePages",
        fine=lambda value, _pod, _around: value in ("", "Memory") or value.startswith("HugePages")),
    Row("spec.volumes[].emptyDir.sizeLimit", IMPLEMENTED),
    Row("spec.volumes[].hostPath", IMPLEMENTED),
    Row("spec.volumes[].configMap", IMPLEMENTED),
    Row("spec.volumes[].secret", IMPLEMENTED),
    Row("spec.volumes[].downwardAPI", IMPLEMENTED),
    Row("spec.volumes[].persistentVolumeClaim", IMPLEMENTED),
    Row("spec.volumes[].image", NOT_IMPLEMENTED,
        f"{HOST_IMAGE} is this machine's own files, and no tree to be mounted: a hostPath volume mounts those", fine=_tree),
    Row(f"{_TEMPLATE}.metadata", IMPLEMENTED),
    Row(f"{_TEMPLATE}.spec.accessModes", IMPLEMENTED),
    Row(f"{_TEMPLATE}.spec.selector", IMPLEMENTED),
    Row(f"{_TEMPLATE}.spec.resources", IMPLEMENTED),
    Row(f"{_TEMPLATE}.spec.volumeName", IMPLEMENTED),
    Row(f"{_TEMPLATE}.spec.storageClassName", IMPLEMENTED),
    Row(f"{_TEMPLATE}.spec.volumeMode", NOT_IMPLEMENTED, BLOCK, fine=_is("Filesystem")),
    Row(f"{_TEMPLATE}.spec.dataSource", NOT_IMPLEMENTED, COPIES),
    Row(f"{_TEMPLATE}.spec.dataSourceRef", NOT_IMPLEMENTED, COPIES),
    Row(f"{_TEMPLATE}.spec.volumeAttributesClassName", NOT_IMPLEMENTED, NO_ATTRIBUTES),
    Row("spec.volumes[].projected.defaultMode", IMPLEMENTED),
    *(
        Row(f"spec.volumes[].projected.sources[].{kind}", IMPLEMENTED)
        for kind in ("configMap", "secret", "downwardAPI")
    ),
    Row("spec.volumes[].projected.sources[].serviceAccountToken", NOT_IMPLEMENTED,
        "a serviceAccountToken is issued by a Kubernetes API server, and there is none"),
    *(
        Row(f"spec.volumes[].projected.sources[].{kind}", NOT_IMPLEMENTED, f"a {kind} comes from a cluster's signers, and there are none")
        for kind in ("clusterTrustBundle", "podCertificate")
    ),
    *(Row(f"spec.volumes[].{kind}", NOT_IMPLEMENTED, f"{kind} volumes are not supported") for kind in _NEVER),
    # Pod: network and names
    Row("spec.hostname", IMPLEMENTED),
    Row("spec.hostNetwork", IMPLEMENTED),
    Row("spec.hostAliases", IMPLEMENTED),
    Row("spec.dnsPolicy", IMPLEMENTED),
    Row("spec.dnsConfig", IMPLEMENTED),
    Row("spec.enableServiceLinks", IMPLEMENTED),
    Row("spec.subdomain", IMPLEMENTED),
    Row("spec.setHostnameAsFQDN", IMPLEMENTED),
    Row("spec.hostnameOverride", IMPLEMENTED),
    # Pod: namespaces
    Row("spec.hostPID", IMPLEMENTED),
    Row("spec.hostIPC", IMPLEMENTED),
    Row("spec.hostUsers", IMPLEMENTED),
    Row("spec.shareProcessNamespace", IMPLEMENTED),
    # Pod: security
    Row("spec.securityContext.runAsUser", IMPLEMENTED),
    Row("spec.securityContext.runAsGroup", IMPLEMENTED),
    Row("spec.securityContext.runAsNonRoot", IMPLEMENTED),
    Row("spec.securityContext.supplementalGroups", IMPLEMENTED),
    Row("spec.securityContext.supplementalGroupsPolicy", IMPLEMENTED),
    Row("spec.securityContext.seccompProfile", IMPLEMENTED),
    Row("spec.securityContext.appArmorProfile", IMPLEMENTED),
    Row("spec.securityContext.seLinuxOptions", NOT_APPLICABLE, _NO_SELINUX),
    Row("spec.securityContext.seLinuxChangePolicy", NOT_APPLICABLE, "it matters only with SELinux labels"),
    Row("spec.securityContext.fsGroup", IMPLEMENTED),
    Row("spec.securityContext.fsGroupChangePolicy", IMPLEMENTED),
    Row("spec.securityContext.sysctls", IMPLEMENTED),
    Row("spec.securityContext.windowsOptions", NOT_APPLICABLE, "this is not Windows"),
    Row("spec.os.name", IMPLEMENTED),
    # Pod: resources
    Row("spec.resources", NOT_IMPLEMENTED, "of resources of the whole pod only cpu, memory and huge pages are implemented",
        fine=_standard),
    Row("spec.resourceClaims", NOT_IMPLEMENTED, "resource claims are not implemented"),
    Row("spec.overhead", NOT_IMPLEMENTED,
        "pod rejected: Pod Overhead set without corresponding RuntimeClass defined Overhead: there are no RuntimeClasses here"),
    Row("spec.runtimeClassName", NOT_IMPLEMENTED,
        'pod rejected: RuntimeClass "{}" not found: nsrun starts containers itself, and there is no other runtime here'),
    # Pod: cluster
    Row("spec.automountServiceAccountToken", NOT_APPLICABLE, _NO_API, fine=_is(False)),
    Row("spec.serviceAccountName", NOT_APPLICABLE, _NO_API),
    Row("spec.serviceAccount", NOT_APPLICABLE, _NO_API),
    Row("spec.imagePullSecrets", IMPLEMENTED),
    Row("spec.nodeName", NOT_APPLICABLE, _NO_CLUSTER),
    Row("spec.nodeSelector", NOT_APPLICABLE, _NO_CLUSTER),
    Row("spec.affinity", NOT_APPLICABLE, _NO_CLUSTER),
    Row("spec.tolerations", NOT_APPLICABLE, _NO_CLUSTER),
    Row("spec.topologySpreadConstraints", NOT_APPLICABLE, _NO_CLUSTER),
    Row("spec.schedulerName", NOT_APPLICABLE, _NO_CLUSTER, fine=_is(SCHEDULER_NAME)),
    Row("spec.schedulingGates", NOT_APPLICABLE, _NO_CLUSTER),
    Row("spec.schedulingGroup", NOT_APPLICABLE, _NO_CLUSTER),
    Row("spec.priorityClassName", NOT_APPLICABLE, _NO_CLUSTER),
    Row("spec.priority", NOT_APPLICABLE, _NO_CLUSTER),
    Row("spec.preemptionPolicy", NOT_APPLICABLE, _NO_CLUSTER),
    # Containers
    Row("container.name", IMPLEMENTED),
    Row("container.image", IMPLEMENTED),
    Row("container.imagePullPolicy", IMPLEMENTED),
    Row("container.command", IMPLEMENTED),
    Row("container.args", IMPLEMENTED),
    Row("container.workingDir", IMPLEMENTED),
    Row("container.env[].name", IMPLEMENTED),
    Row("container.env[].value", IMPLEMENTED),
    Row("container.env[].valueFrom.fieldRef", IMPLEMENTED),
    Row("container.env[].valueFrom.resourceFieldRef", IMPLEMENTED),
    Row("container.env[].valueFrom.configMapKeyRef", IMPLEMENTED),
    Row("container.env[].valueFrom.secretKeyRef", IMPLEMENTED),
    Row("container.env[].valueFrom.fileKeyRef", IMPLEMENTED),
    Row("container.envFrom", IMPLEMENTED),
    Row("container.ports[].name", IMPLEMENTED),
    Row("container.ports[].containerPort", IMPLEMENTED),
    Row("container.ports[].protocol", IMPLEMENTED),
    Row("container.ports[].hostPort", IMPLEMENTED),
    Row("container.ports[].hostIP", NOT_IMPLEMENTED, "a port is published at an address of the machine, but for ::1", fine=_address),
    Row("container.stdin", IMPLEMENTED),
    Row("container.stdinOnce", IMPLEMENTED),
    Row("container.tty", IMPLEMENTED),
    Row("container.terminationMessagePath", IMPLEMENTED),
    Row("container.terminationMessagePolicy", IMPLEMENTED),
    Row("container.resources", NOT_IMPLEMENTED,
        "of resource requests and limits only cpu, memory, ephemeral-storage and huge pages are implemented",
        fine=_standard),
    Row("container.resizePolicy", IMPLEMENTED),
    Row("container.restartPolicy", IMPLEMENTED),
    Row("container.restartPolicyRules", IMPLEMENTED),
    Row("container.volumeMounts", IMPLEMENTED),
    Row("container.volumeDevices", NOT_IMPLEMENTED, "block devices as volumes are not implemented yet"),
    Row("container.livenessProbe", IMPLEMENTED),
    Row("container.readinessProbe", IMPLEMENTED),
    Row("container.startupProbe", IMPLEMENTED),
    Row("container.lifecycle.postStart", IMPLEMENTED),
    Row("container.lifecycle.preStop", IMPLEMENTED),
    Row("container.lifecycle.stopSignal", IMPLEMENTED),
    Row("container.securityContext.runAsUser", IMPLEMENTED),
    Row("container.securityContext.runAsGroup", IMPLEMENTED),
    Row("container.securityContext.runAsNonRoot", IMPLEMENTED),
    Row("container.securityContext.capabilities", IMPLEMENTED),
    Row("container.securityContext.privileged", IMPLEMENTED),
    Row("container.securityContext.readOnlyRootFilesystem", IMPLEMENTED),
    Row("container.securityContext.allowPrivilegeEscalation", IMPLEMENTED),
    Row("container.securityContext.seccompProfile", IMPLEMENTED),
    Row("container.securityContext.appArmorProfile", IMPLEMENTED),
    Row("container.securityContext.seLinuxOptions", NOT_APPLICABLE, _NO_SELINUX),
    Row("container.securityContext.procMount", IMPLEMENTED),
    Row("container.securityContext.windowsOptions", NOT_APPLICABLE, "this is not Windows"),
)  # fmt: skip
"""The rows, in the order of the API."""


_CONTAINERS = ("spec.containers[]", "spec.initContainers[]", "spec.ephemeralContainers[]")


def _expand(rows: Iterable[Row]) -> dict[str, Row]:
    table: dict[str, Row] = {}
    for row in rows:
        head, dot, rest = row.pattern.partition(".")
        heads = _CONTAINERS if head == "container" else (head,)
        for start in heads:
            table[start + dot + rest] = row
    return table


_ROWS = _expand(TABLE)


def classify(pattern: str) -> Row | None:
    """The row for a field, given as a pattern (``spec.containers[].env[].value``); None when it has none."""
    while pattern:
        row = _ROWS.get(pattern)
        if row is not None:
            return row
        cut = max(pattern.rfind("."), pattern.rfind("["))
        pattern = pattern[: max(cut, 0)]
    return None


def unsupported(pod: Pod) -> list[Unsupported]:
    """The fields of a pod that have no effect here, in the order of the API.

    Args:
        pod: defaulted and valid.
    """
    found: list[Unsupported] = []
    _walk(pod, "", "", pod, [], found)
    return found


def unsupported_metadata(obj: Object) -> list[Unsupported]:
    """The fields of the metadata of an object of any kind that have no effect here."""
    found: list[Unsupported] = []
    _walk(obj.metadata, "metadata", "metadata", Pod(), [], found)
    return found


def _walk(value: Any, path: str, pattern: str, pod: Pod, around: list[Any], found: list[Unsupported]) -> None:
    if value is None or value == [] or value == {}:
        return
    row = _ROWS.get(pattern)
    if row is not None:
        if row.status == IMPLEMENTED or _is_empty(value) or (row.fine is not None and row.fine(value, pod, around)):
            return
        found.append(Unsupported(path, row.status, row.message.replace("{}", str(value))))
    elif isinstance(value, ApiStruct):
        dot = "." if path else ""
        for name in value.__struct_fields__:
            child = getattr(value, name)
            _walk(child, f"{path}{dot}{name}", f"{pattern}{dot}{name}", pod, [*around, value], found)
    elif isinstance(value, list):
        for index, item in enumerate(value):
            _walk(item, f"{path}[{index}]", f"{pattern}[]", pod, around, found)
    else:
        # A field without a row: a test keeps this from happening, and a user must still hear of it.
        found.append(Unsupported(path, NOT_IMPLEMENTED, "nsrun does not know this field"))


def _is_empty(value: Any) -> bool:
    """Whether an object says nothing (``status: {}``, ``resources: {}``)."""
    return isinstance(value, ApiStruct) and value == type(value)()
