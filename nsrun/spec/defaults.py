"""Defaulting, as the API server does it before it validates.

Source of the rules: kubernetes pkg/apis/core/v1/defaults.go and zz_generated.defaults.go (v1.36). Objects are changed in
place; defaulting an object twice changes nothing more.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from nsrun.spec import resources
from nsrun.spec.model import (
    AzureDiskVolumeSource,
    ConfigMap,
    ConfigMapVolumeSource,
    Container,
    DownwardAPIVolumeFile,
    DownwardAPIVolumeSource,
    EmptyDirVolumeSource,
    EphemeralContainer,
    EphemeralVolumeSource,
    HostPathVolumeSource,
    HTTPGetAction,
    ImageVolumeSource,
    ISCSIPersistentVolumeSource,
    ISCSIVolumeSource,
    Object,
    PersistentVolume,
    PersistentVolumeClaim,
    PersistentVolumeClaimSpec,
    Pod,
    PodSecurityContext,
    PodSpec,
    Probe,
    ProjectedVolumeSource,
    RBDPersistentVolumeSource,
    RBDVolumeSource,
    ScaleIOPersistentVolumeSource,
    ScaleIOVolumeSource,
    Secret,
    SecretVolumeSource,
    Volume,
)
from nsrun.spec.quantity import parse

DEFAULT_NAMESPACE = "default"
TERMINATION_MESSAGE_PATH = "/dev/termination-log"
TERMINATION_GRACE_PERIOD_S = 30
SCHEDULER_NAME = "default-scheduler"
FILE_MODE = 0o644
TOKEN_EXPIRATION_S = 3600


def set_defaults(obj: Object) -> None:
    """Fill in what the API server fills in, in place; the namespace too.

    Args:
        obj: a decoded object; kinds without defaults are left alone.
    """
    if not obj.metadata.namespace and not isinstance(obj, PersistentVolume):
        obj.metadata.namespace = DEFAULT_NAMESPACE
    if isinstance(obj, Pod):
        _pod(obj)
        _pod_spec(obj.spec)
    elif isinstance(obj, ConfigMap):
        return
    elif isinstance(obj, Secret):
        for key, text in obj.stringData.items():  # the API server turns stringData into data before anything else
            obj.data[key] = text.encode("utf-8")
        obj.stringData = {}
        obj.type = obj.type or "Opaque"
    elif isinstance(obj, PersistentVolumeClaim):
        obj.status.phase = obj.status.phase or "Pending"
        _claim(obj.spec)
    elif isinstance(obj, PersistentVolume):
        obj.status.phase = obj.status.phase or "Pending"
        obj.spec.persistentVolumeReclaimPolicy = obj.spec.persistentVolumeReclaimPolicy or "Retain"
        if obj.spec.volumeMode is None:
            obj.spec.volumeMode = "Filesystem"
        for name in ("hostPath", "iscsi", "rbd", "azureDisk", "scaleIO"):
            if getattr(obj.spec, name) is not None:
                _SOURCE_DEFAULTS[name](getattr(obj.spec, name))
        _round(obj.spec.capacity)


def image_tag(image: str) -> str:
    """The tag that decides the pull policy: ``latest`` when the reference names neither tag nor digest.

    Source: kubernetes pkg/util/parsers/parsers.go. A reference that cannot be parsed has no tag.
    """
    match = _REFERENCE.fullmatch(image)
    if match is None or len(match["name"]) > 255 or _HEX64.fullmatch(image):
        return ""
    if match["tag"]:
        return match["tag"]
    return "" if match["digest"] else "latest"


_COMPONENT = r"[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*"
_DOMAIN_PART = r"(?:[a-zA-Z0-9]|[a-zA-Z0-9][a-zA-Z0-9-]*[a-zA-Z0-9])"
_DOMAIN = rf"(?:{_DOMAIN_PART}(?:\.{_DOMAIN_PART})*|\[(?:[a-fA-F0-9:]+)\])(?::[0-9]+)?"
_REFERENCE = re.compile(
    rf"(?P<name>(?:{_DOMAIN}/)?{_COMPONENT}(?:/{_COMPONENT})*)"
    r"(?::(?P<tag>[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}))?"
    r"(?:@(?P<digest>[A-Za-z][A-Za-z0-9]*(?:[-_+.][A-Za-z][A-Za-z0-9]*)*:[0-9a-fA-F]{32,}))?"
)
_HEX64 = re.compile(r"[a-f0-9]{64}")


def _pull_policy(image: str | None) -> str:
    return "Always" if image_tag(image or "") == "latest" else "IfNotPresent"


def _pod(pod: Pod) -> None:
    """What holds for a Pod but not for a pod template."""
    spec = pod.spec
    for container in [*spec.containers, *spec.initContainers]:
        for name, quantity in container.resources.limits.items():
            container.resources.requests.setdefault(name, quantity)
    _pod_resources(spec)
    if spec.enableServiceLinks is None:
        spec.enableServiceLinks = True
    if spec.hostNetwork:
        for container in [*spec.containers, *spec.initContainers]:
            for port in container.ports:
                port.hostPort = port.hostPort or port.containerPort or None


def _pod_resources(spec: PodSpec) -> None:
    """Pod-level requests from the containers and from the pod's own limits."""
    own = spec.resources
    if own is None:
        return
    if own.limits or own.requests:
        for name, limit in resources.aggregate_limits(spec).items():
            if resources.is_huge_page(name) and name not in own.requests:
                own.limits.setdefault(name, str(limit))
    if own.limits:
        for name, request in resources.aggregate_requests(spec).items():
            if resources.is_pod_level(name) and resources.may_overcommit(name):
                own.requests.setdefault(name, str(request))
        for name, text in own.limits.items():
            if resources.is_pod_level(name):
                own.requests.setdefault(name, text)


def _pod_spec(spec: PodSpec) -> None:
    spec.dnsPolicy = spec.dnsPolicy or "ClusterFirst"
    spec.restartPolicy = spec.restartPolicy or "Always"
    if spec.securityContext is None:
        spec.securityContext = PodSecurityContext()
    if spec.terminationGracePeriodSeconds is None:
        spec.terminationGracePeriodSeconds = TERMINATION_GRACE_PERIOD_S
    spec.schedulerName = spec.schedulerName or SCHEDULER_NAME
    for volume in spec.volumes:
        _volume(volume)
    for containers in (spec.initContainers, spec.containers, spec.ephemeralContainers):
        for container in containers:
            _container(container)
    _round(spec.overhead)
    if spec.resources is not None:
        _round(spec.resources.limits)
        _round(spec.resources.requests)


def _container(container: Container | EphemeralContainer) -> None:
    if not container.imagePullPolicy:
        container.imagePullPolicy = _pull_policy(container.image)
    container.terminationMessagePath = container.terminationMessagePath or TERMINATION_MESSAGE_PATH
    container.terminationMessagePolicy = container.terminationMessagePolicy or "File"
    for port in container.ports:
        port.protocol = port.protocol or "TCP"
    for variable in container.env:
        if variable.valueFrom is not None:
            if variable.valueFrom.fieldRef is not None:
                variable.valueFrom.fieldRef.apiVersion = variable.valueFrom.fieldRef.apiVersion or "v1"
            if variable.valueFrom.fileKeyRef is not None and variable.valueFrom.fileKeyRef.optional is None:
                variable.valueFrom.fileKeyRef.optional = False
    _round(container.resources.limits)
    _round(container.resources.requests)
    for probe in (container.livenessProbe, container.readinessProbe, container.startupProbe):
        if probe is not None:
            _probe(probe)
    if container.lifecycle is not None:
        for handler in (container.lifecycle.postStart, container.lifecycle.preStop):
            if handler is not None and handler.httpGet is not None:
                _http_get(handler.httpGet)


def _probe(probe: Probe) -> None:
    probe.timeoutSeconds = probe.timeoutSeconds or 1
    probe.periodSeconds = probe.periodSeconds or 10
    probe.successThreshold = probe.successThreshold or 1
    probe.failureThreshold = probe.failureThreshold or 3
    if probe.httpGet is not None:
        _http_get(probe.httpGet)
    if probe.grpc is not None and probe.grpc.service is None:
        probe.grpc.service = ""


def _http_get(action: HTTPGetAction) -> None:
    action.path = action.path or "/"
    action.scheme = action.scheme or "HTTP"


def _round(quantities: dict[str, str]) -> None:
    """Resource amounts finer than a thousandth are rounded up to one."""
    for name, text in quantities.items():
        quantity = parse(text)
        if quantity.scale < -3:
            quantities[name] = str(quantity.rounded_up(-3))


def _claim(spec: PersistentVolumeClaimSpec) -> None:
    if spec.volumeMode is None:
        spec.volumeMode = "Filesystem"
    _round(spec.resources.limits)
    _round(spec.resources.requests)


def _field_refs(items: Iterable[DownwardAPIVolumeFile]) -> None:
    for item in items:
        if item.fieldRef is not None:
            item.fieldRef.apiVersion = item.fieldRef.apiVersion or "v1"


def _volume(volume: Volume) -> None:
    sources = [(name, source) for name in VOLUME_SOURCES if (source := getattr(volume, name)) is not None]
    if not sources:
        volume.emptyDir = EmptyDirVolumeSource()
    for name, source in sources:
        if name in _SOURCE_DEFAULTS:
            _SOURCE_DEFAULTS[name](source)


def _host_path(source: HostPathVolumeSource) -> None:
    if source.type is None:
        source.type = ""


def _files(source: SecretVolumeSource | ConfigMapVolumeSource) -> None:
    if source.defaultMode is None:
        source.defaultMode = FILE_MODE


def _downward_api(source: DownwardAPIVolumeSource) -> None:
    if source.defaultMode is None:
        source.defaultMode = FILE_MODE
    _field_refs(source.items)


def _projected(source: ProjectedVolumeSource) -> None:
    if source.defaultMode is None:
        source.defaultMode = FILE_MODE
    for part in source.sources:
        if part.downwardAPI is not None:
            _field_refs(part.downwardAPI.items)
        if part.serviceAccountToken is not None and part.serviceAccountToken.expirationSeconds is None:
            part.serviceAccountToken.expirationSeconds = TOKEN_EXPIRATION_S


def _image(source: ImageVolumeSource) -> None:
    source.pullPolicy = source.pullPolicy or _pull_policy(source.reference)


def _iscsi(source: ISCSIVolumeSource | ISCSIPersistentVolumeSource) -> None:
    source.iscsiInterface = source.iscsiInterface or "default"


def _rbd(source: RBDVolumeSource | RBDPersistentVolumeSource) -> None:
    source.pool = source.pool or "rbd"
    source.user = source.user or "admin"
    source.keyring = source.keyring or "/etc/ceph/keyring"


def _azure_disk(source: AzureDiskVolumeSource) -> None:
    source.cachingMode = "ReadWrite" if source.cachingMode is None else source.cachingMode
    source.kind = "Shared" if source.kind is None else source.kind
    source.fsType = "ext4" if source.fsType is None else source.fsType
    source.readOnly = False if source.readOnly is None else source.readOnly


def _scale_io(source: ScaleIOVolumeSource | ScaleIOPersistentVolumeSource) -> None:
    source.storageMode = source.storageMode or "ThinProvisioned"
    source.fsType = source.fsType or "xfs"


def _ephemeral(source: EphemeralVolumeSource) -> None:
    if source.volumeClaimTemplate is not None:
        _claim(source.volumeClaimTemplate.spec)


VOLUME_SOURCES = tuple(name for name in Volume.__struct_fields__ if name != "name")
"""The fields of a volume of which exactly one is set."""

_SOURCE_DEFAULTS: Mapping[str, Callable[[Any], None]] = {
    "hostPath": _host_path,
    "secret": _files,
    "configMap": _files,
    "downwardAPI": _downward_api,
    "projected": _projected,
    "image": _image,
    "iscsi": _iscsi,
    "rbd": _rbd,
    "azureDisk": _azure_disk,
    "scaleIO": _scale_io,
    "ephemeral": _ephemeral,
}
