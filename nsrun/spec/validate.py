"""Validation of whole objects, as the API server does it when an object is created.

Source of the rules: kubernetes pkg/apis/core/validation/validation.go (v1.36) with that release's default feature gates;
the order of the errors is the order of the checks there, except that maps are walked in the order of their keys.
"""

from __future__ import annotations

import json
import re

import msgspec

from nsrun.spec import names, resources
from nsrun.spec.field_errors import Errors, FieldError
from nsrun.spec.model import (
    ConfigMap,
    Object,
    PersistentVolume,
    PersistentVolumeClaim,
    Pod,
    PodDNSConfig,
    PodSpec,
    ResourceRequirements,
    Secret,
    Toleration,
)
from nsrun.spec.quantity import parse
from nsrun.spec.validate_containers import Context, all_containers, image_whitespace
from nsrun.spec.validate_meta import label_map, object_meta
from nsrun.spec.validate_persistent import persistent_volume
from nsrun.spec.validate_resources import container_resources, pod_resources
from nsrun.spec.validate_scheduling import affinity, scheduling_gates, tolerations, topology_spread
from nsrun.spec.validate_security import (
    annotations_match_fields,
    containers_with_paths,
    host_process,
    operating_system,
    pod_security_context,
    security_annotations,
)
from nsrun.spec.validate_volumes import claim_spec, volumes

MIRROR_ANNOTATION = "kubernetes.io/config.mirror"
_TOLERATIONS_ANNOTATION = "scheduler.alpha.kubernetes.io/tolerations"
_DELETION_COST_ANNOTATION = "controller.kubernetes.io/pod-deletion-cost"
_MAX_DATA_BYTES = 1024 * 1024
_MAX_NAMESERVERS = 3
_MAX_SEARCHES = 32
_MAX_SEARCH_BYTES = 2048
_MAX_INT32 = 2147483647
_MAX_HOSTNAME = 64


def validate(obj: Object) -> list[FieldError]:
    """The errors of an object, [] when it is valid.

    Args:
        obj: decoded and defaulted. It is not changed.
    """
    errors = Errors()
    if isinstance(obj, Pod):
        _pod(obj, errors)
    elif isinstance(obj, ConfigMap):
        object_meta(obj.metadata, errors)
        _config_map(obj, errors)
    elif isinstance(obj, Secret):
        object_meta(obj.metadata, errors)
        _secret(obj, errors)
    elif isinstance(obj, PersistentVolumeClaim):
        object_meta(obj.metadata, errors)
        claim_spec(obj.spec, errors, "spec")
    elif isinstance(obj, PersistentVolume):
        object_meta(obj.metadata, errors, namespaced=False)
        persistent_volume(obj.spec, errors)
    else:
        object_meta(obj.metadata, errors)
    return list(errors)


def _pod(pod: Pod, errors: Errors) -> None:
    spec = pod.spec
    object_meta(pod.metadata, errors)
    _annotations(pod, errors, "metadata.annotations")
    _pod_spec(pod, errors, "spec")
    if not service_account(spec):
        for index, volume in enumerate(spec.volumes):
            for position, source in enumerate(volume.projected.sources if volume.projected is not None else []):
                if source.serviceAccountToken is not None:
                    here = f"spec.volumes[{index}].projected.sources[{position}].serviceAccountToken"
                    errors.forbidden(here, "must not be specified when serviceAccountName is not set")
    for index, container in enumerate(spec.containers):
        image_whitespace(container, errors, f"spec.containers[{index}]")
    for index, container in enumerate(spec.initContainers):
        image_whitespace(container, errors, f"spec.initContainers[{index}]")
    if spec.ephemeralContainers:
        errors.forbidden("spec.ephemeralContainers", "cannot be set on create")
    if spec.nodeName and spec.schedulingGates:
        errors.forbidden("spec.nodeName", "cannot be set until all schedulingGates have been cleared")
    annotations_match_fields(pod.metadata, spec, errors, "spec")


def service_account(spec: PodSpec) -> str:
    """The service account's name, whichever of the two fields names it."""
    return spec.serviceAccountName or spec.serviceAccount or ""


def _annotations(pod: Pod, errors: Errors, path: str) -> None:
    annotations = pod.metadata.annotations
    if MIRROR_ANNOTATION in annotations and not pod.spec.nodeName:
        detail = "must set spec.nodeName if mirror pod annotation is set"
        errors.invalid(f"{path}[{MIRROR_ANNOTATION}]", annotations[MIRROR_ANNOTATION], detail)
    text = annotations.get(_TOLERATIONS_ANNOTATION)
    if text:
        try:
            items = msgspec.json.decode(text, type=list[Toleration])
        except (msgspec.MsgspecError, RecursionError) as error:
            errors.invalid(path, _TOLERATIONS_ANNOTATION, str(error))
        else:
            tolerations(items, errors, f"{path}.{_TOLERATIONS_ANNOTATION}")
    cost = annotations.get(_DELETION_COST_ANNOTATION)
    if cost is not None:
        number = re.fullmatch(r"0|-?[1-9][0-9]{0,9}", cost, re.ASCII)
        if number is None or not -_MAX_INT32 - 1 <= int(cost) <= _MAX_INT32:
            errors.invalid(f"{path}[{_DELETION_COST_ANNOTATION}]", cost, "must be a 32bit integer")
    security_annotations(annotations, pod.spec, errors, path)


def _pod_spec(pod: Pod, errors: Errors, path: str) -> None:
    spec = pod.spec
    if spec.terminationGracePeriodSeconds is None:
        errors.required(f"{path}.terminationGracePeriodSeconds")
    good_volumes = volumes(spec.volumes, pod.metadata, errors, f"{path}.volumes")
    claims = _resource_claims(pod, errors, f"{path}.resourceClaims")
    context = Context(
        volumes=good_volumes,
        claims=claims,
        grace_period_s=spec.terminationGracePeriodSeconds,
        restart_policy=spec.restartPolicy or "",
        os=spec.os.name if spec.os is not None else None,
        host_users=spec.hostUsers is not False,
    )
    all_containers(spec, context, errors, path)
    _own_resources(spec, errors, path)
    _host_network(spec, errors, path)
    _one_of(spec.restartPolicy, ("Always", "OnFailure", "Never"), errors, f"{path}.restartPolicy")
    policies = ("ClusterFirstWithHostNet", "ClusterFirst", "Default", "None")
    _one_of(spec.dnsPolicy, policies, errors, f"{path}.dnsPolicy")
    label_map(spec.nodeSelector, errors, f"{path}.nodeSelector")
    pod_security_context(spec, errors, path)
    affinity(spec.affinity, errors, f"{path}.affinity")
    _dns_config(spec.dnsConfig, spec.dnsPolicy or "", errors, f"{path}.dnsConfig")
    for index, gate in enumerate(spec.readinessGates):
        here = f"{path}.readinessGates[{index}].conditionType"
        errors.each(here, gate.conditionType, names.qualified_name(gate.conditionType))
    scheduling_gates(spec.schedulingGates, errors, f"{path}.schedulingGates")
    topology_spread(spec.topologySpreadConstraints, errors, f"{path}.topologySpreadConstraints")
    host_process(spec, errors, path)
    _host_users(spec, errors, path)
    _hostname_override(spec, errors, path)
    account = service_account(spec)
    if account:
        errors.each(f"{path}.serviceAccountName", account, names.subdomain(account))
    if spec.nodeName:
        errors.each(f"{path}.nodeName", spec.nodeName, names.subdomain(spec.nodeName))
    if spec.activeDeadlineSeconds is not None and not 1 <= spec.activeDeadlineSeconds <= _MAX_INT32:
        detail = names.in_range(1, _MAX_INT32)
        errors.invalid(f"{path}.activeDeadlineSeconds", spec.activeDeadlineSeconds, detail)
    for field in ("hostname", "subdomain"):
        value = getattr(spec, field)
        if value:
            errors.each(f"{path}.{field}", value, names.label(value))
    tolerations(spec.tolerations, errors, f"{path}.tolerations")
    for index, alias in enumerate(spec.hostAliases):
        here = f"{path}.hostAliases[{index}]"
        errors.each(f"{here}.ip", alias.ip, names.ip_address(alias.ip))
        for position, hostname in enumerate(alias.hostnames):
            errors.each(f"{here}.hostnames[{position}]", hostname, names.subdomain(hostname))
    if spec.priorityClassName:
        errors.each(f"{path}.priorityClassName", spec.priorityClassName, names.subdomain(spec.priorityClassName))
    if spec.runtimeClassName is not None:
        errors.each(f"{path}.runtimeClassName", spec.runtimeClassName, names.subdomain(spec.runtimeClassName))
    if spec.preemptionPolicy is not None:
        valid = ("PreemptLowerPriority", "Never")
        _one_of(spec.preemptionPolicy, valid, errors, f"{path}.preemptionPolicy")
    if spec.overhead:
        needs = ResourceRequirements(limits=spec.overhead)
        container_resources(needs, frozenset(), errors, f"{path}.overhead")
    operating_system(spec, errors, path)
    if spec.schedulingGroup is not None:
        here = f"{path}.schedulingGroup.podGroupName"
        name = spec.schedulingGroup.podGroupName
        if name is None:
            errors.invalid(here, None, "must specify one of: `podGroupName`")
        else:
            errors.each(here, name, names.subdomain(name))
    _file_key_volumes(spec, errors, path)


def _one_of(value: str | None, valid: tuple[str, ...], errors: Errors, path: str) -> None:
    if not value:
        errors.required(path)
    elif value not in valid:
        errors.unsupported(path, value, valid, ordered=True)


def _resource_claims(pod: Pod, errors: Errors, path: str) -> frozenset[str]:
    seen: set[str] = set()
    for index, claim in enumerate(pod.spec.resourceClaims):
        here = f"{path}[{index}]"
        if MIRROR_ANNOTATION in pod.metadata.annotations:
            errors.forbidden("", "static pods do not support resource claims")
            continue
        if not claim.name:
            errors.required(f"{here}.name")
        elif claim.name in seen:
            errors.duplicate(f"{here}.name", claim.name)
        else:
            errors.each(f"{here}.name", claim.name, names.label(claim.name))
            seen.add(claim.name)
        if claim.resourceClaimName is not None and claim.resourceClaimTemplateName is not None:
            detail = "at most one of `resourceClaimName` or `resourceClaimTemplateName` may be specified"
            errors.invalid(here, claim, detail)
        if claim.resourceClaimName is None and claim.resourceClaimTemplateName is None:
            errors.invalid(here, claim, "must specify one of: `resourceClaimName`, `resourceClaimTemplateName`")
        for field in ("resourceClaimName", "resourceClaimTemplateName"):
            value = getattr(claim, field)
            if value is not None:
                errors.each(f"{here}.{field}", value, names.subdomain(value))
    return frozenset(claim.name for claim in pod.spec.resourceClaims if claim.name)


def _own_resources(spec: PodSpec, errors: Errors, path: str) -> None:
    """Resources of the pod as a whole, and that the containers' fit into them."""
    own = spec.resources
    if own is None:
        return
    here = f"{path}.resources"
    if spec.os is not None and spec.os.name == "windows":
        errors.forbidden(here, "may not be set for a windows pod")
        return
    if own.claims:
        errors.forbidden(f"{here}.claims", "claims may not be set for Resources at pod-level")
    pod_resources(own, errors, here)
    for name, total in sorted(resources.aggregate_requests(spec).items()):
        if name in own.requests and total > parse(own.requests[name]):
            detail = f"must be greater than or equal to aggregate container requests of {total}"
            errors.invalid(f"{here}.requests[{name}]", own.requests[name], detail)
    for name, total in sorted(resources.aggregate_limits(spec).items()):
        if resources.is_huge_page(name) and name in own.limits and total > parse(own.limits[name]):
            detail = f"must be greater than or equal to aggregate container limits of {total}"
            errors.invalid(f"{here}.limits[{name}]", own.limits[name], detail)
    for index, container in enumerate(spec.containers):
        for name, limit in sorted(container.resources.limits.items()):
            if name in own.limits and parse(limit) > parse(own.limits[name]):
                detail = f"must be less than or equal to pod limits of {own.limits[name]}"
                errors.invalid(f"{here}.containers[{index}][{name}].limits", limit, detail)


def _host_network(spec: PodSpec, errors: Errors, path: str) -> None:
    if not spec.hostNetwork:
        return
    for index, container in enumerate(spec.containers):
        for position, port in enumerate(container.ports):
            if (port.hostPort or 0) != port.containerPort:
                here = f"{path}.containers[{index}].ports[{position}].hostPort"
                errors.invalid(here, port.hostPort or 0, "must match `containerPort` when `hostNetwork` is true")


def _dns_config(config: PodDNSConfig | None, policy: str, errors: Errors, path: str) -> None:
    if policy == "None":
        if config is None:
            errors.required(path, "must provide `dnsConfig` when `dnsPolicy` is None")
            return
        if not config.nameservers:
            detail = "must provide at least one DNS nameserver when `dnsPolicy` is None"
            errors.required(f"{path}.nameservers", detail)
            return
    if config is None:
        return
    if len(config.nameservers) > _MAX_NAMESERVERS:
        detail = f"must not have more than {_MAX_NAMESERVERS} nameservers"
        errors.invalid(f"{path}.nameservers", config.nameservers, detail)
    for index, server in enumerate(config.nameservers):
        errors.each(f"{path}.nameservers[{index}]", server, names.ip_address(server))
    if len(config.searches) > _MAX_SEARCHES:
        detail = f"must not have more than {_MAX_SEARCHES} search paths"
        errors.invalid(f"{path}.searches", config.searches, detail)
    if names.size(" ".join(config.searches)) > _MAX_SEARCH_BYTES:
        detail = f"must not have more than {_MAX_SEARCH_BYTES} characters (including spaces) in the search list"
        errors.invalid(f"{path}.searches", config.searches, detail)
    for index, search in enumerate(config.searches):
        if search != ".":
            name = search.removesuffix(".")
            errors.each(f"{path}.searches[{index}]", name, names.underscore_subdomain(name))
    for index, option in enumerate(config.options):
        if not option.name:
            errors.required(f"{path}.options[{index}]", "must not be empty")


def _host_users(spec: PodSpec, errors: Errors, path: str) -> None:
    if spec.hostUsers is not False:
        return
    detail = "when `hostUsers` is false"
    if spec.hostNetwork:
        errors.forbidden(f"{path}.hostNetwork", detail)
    if spec.hostPID:
        errors.forbidden(f"{path}.HostPID", detail)
    if spec.hostIPC:
        errors.forbidden(f"{path}.HostIPC", detail)
    for container, here in containers_with_paths(spec, path):
        if container.volumeDevices:
            errors.forbidden(f"{here}.volumeDevices", detail)


def _hostname_override(spec: PodSpec, errors: Errors, path: str) -> None:
    value = spec.hostnameOverride
    if value is None:
        return
    here = f"{path}.hostnameOverride"
    if spec.setHostnameAsFQDN:
        errors.forbidden(here, "may not be specified when setHostnameAsFQDN is true")
    if spec.hostNetwork:
        errors.forbidden(here, "may not be specified when hostNetwork is true")
    if names.size(value) > _MAX_HOSTNAME:
        errors.too_long(here, _MAX_HOSTNAME)
    errors.each(here, value, names.subdomain(value))


def _file_key_volumes(spec: PodSpec, errors: Errors, path: str) -> None:
    sources = {volume.name: volume for volume in spec.volumes}
    for container, here in containers_with_paths(spec, path):
        for index, variable in enumerate(container.env):
            if variable.valueFrom is None or variable.valueFrom.fileKeyRef is None:
                continue
            name = variable.valueFrom.fileKeyRef.volumeName
            there = f"{here}.env[{index}].valueFrom.fileKeyRef.volumeName"
            if name not in sources:
                errors.not_found(there, name)
            elif sources[name].emptyDir is None:
                errors.invalid(there, name, "referenced volume must be of type emptyDir")


# The pod's companions


def _config_map(obj: ConfigMap, errors: Errors) -> None:
    total = 0
    for key in sorted(obj.data):
        errors.each(f"data[{key}]", key, names.config_key(key))
        if key in obj.binaryData:
            errors.invalid(f"data[{key}]", key, "duplicate of key present in binaryData")
        total += names.size(obj.data[key])
    for key in sorted(obj.binaryData):
        errors.each(f"binaryData[{key}]", key, names.config_key(key))
        total += len(obj.binaryData[key])
    if total > _MAX_DATA_BYTES:
        errors.too_long("", _MAX_DATA_BYTES)


_SECRET_KEYS = {
    "kubernetes.io/dockercfg": (".dockercfg",),
    "kubernetes.io/dockerconfigjson": (".dockerconfigjson",),
    "kubernetes.io/tls": ("tls.crt", "tls.key"),
}


def _secret(obj: Secret, errors: Errors) -> None:
    for key in sorted(obj.data):
        errors.each(f"data[{key}]", key, names.config_key(key))
    if sum(len(value) for value in obj.data.values()) > _MAX_DATA_BYTES:
        errors.too_long("data", _MAX_DATA_BYTES)
    kind = obj.type or ""
    for key in _SECRET_KEYS.get(kind, ()):
        if key not in obj.data:
            errors.required(f"data[{key}]")
        elif key.startswith(".docker"):
            try:
                good = isinstance(json.loads(obj.data[key]), dict)
                problem = "" if good else "json: cannot unmarshal into Go value of type map[string]interface {}"
            except (ValueError, RecursionError) as error:
                problem = str(error)
            if problem:
                errors.invalid(f"data[{key}]", "<secret contents redacted>", problem)
    if kind == "kubernetes.io/basic-auth" and not {"username", "password"} & obj.data.keys():
        errors.required("data[username]")
        errors.required("data[password]")
    if kind == "kubernetes.io/ssh-auth" and not obj.data.get("ssh-privatekey"):
        errors.required("data[ssh-privatekey]")
    annotation = "kubernetes.io/service-account.name"
    if kind == "kubernetes.io/service-account-token" and not obj.metadata.annotations.get(annotation):
        errors.required(f"metadata.annotations[{annotation}]")
