"""Validation of a pod's containers.

Source of the rules: kubernetes pkg/apis/core/validation/validation.go (v1.36), validateContainers, validateInitContainers,
validateEphemeralContainers and what they call.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from nsrun.spec import names
from nsrun.spec.field_errors import Errors
from nsrun.spec.model import (
    Container,
    ContainerPort,
    EnvFromSource,
    EnvVar,
    EnvVarSource,
    EphemeralContainer,
    HTTPGetAction,
    Lifecycle,
    LifecycleHandler,
    PodSpec,
    Probe,
    ResourceRequirements,
    VolumeMount,
)
from nsrun.spec.model import Volume as VolumeType
from nsrun.spec.validate_downward import field_ref, resource_field_ref
from nsrun.spec.validate_paths import local_path, no_backsteps
from nsrun.spec.validate_resources import container_resources, resize_policy
from nsrun.spec.validate_security import container_security_context
from nsrun.spec.validate_volumes import pull_policy

_ENV_FIELDS = (
    "metadata.name", "metadata.namespace", "metadata.uid", "spec.nodeName", "spec.serviceAccountName",
    "status.hostIP", "status.hostIPs", "status.podIP", "status.podIPs",
)  # fmt: skip
_ONE_HANDLER = "may not specify more than 1 handler type"
_NOT_IN_INIT = "may not be set for init containers without restartPolicy=Always"
_NOT_IN_EPHEMERAL = "cannot be set for an Ephemeral Container"
_EPHEMERAL_FIELDS = frozenset({
    "name", "image", "command", "args", "workingDir", "envFrom", "env", "volumeMounts", "volumeDevices",
    "terminationMessagePath", "terminationMessagePolicy", "imagePullPolicy", "securityContext", "stdin",
    "stdinOnce", "tty", "targetContainerName",
})  # fmt: skip
_SIGNAL_WORDS = (
    "ABRT", "ALRM", "BUS", "CHLD", "CLD", "CONT", "FPE", "HUP", "ILL", "INT", "IO", "IOT", "KILL", "PIPE",
    "POLL", "PROF", "PWR", "QUIT", "SEGV", "STKFLT", "STOP", "SYS", "TERM", "TRAP", "TSTP", "TTIN", "TTOU",
    "URG", "USR1", "USR2", "VTALRM", "WINCH", "XCPU", "XFSZ", "RTMIN", "RTMAX",
)  # fmt: skip
LINUX_SIGNALS = frozenset(
    [
        *(f"SIG{word}" for word in _SIGNAL_WORDS),
        *(f"SIGRTMIN+{number}" for number in range(1, 16)),
        *(f"SIGRTMAX-{number}" for number in range(1, 15)),
    ]
)
"""The values of lifecycle.stopSignal."""


@dataclass(frozen=True)
class Context:
    """What the checks of a container need to know of its pod."""

    volumes: dict[str, VolumeType]
    claims: frozenset[str]
    grace_period_s: int | None
    restart_policy: str
    os: str | None
    host_users: bool


def all_containers(spec: PodSpec, context: Context, errors: Errors, path: str) -> None:
    """The three lists of containers."""
    _main_containers(spec.containers, context, errors, f"{path}.containers")
    _init_containers(spec, context, errors, f"{path}.initContainers")
    _ephemeral_containers(spec, context, errors, f"{path}.ephemeralContainers")


def _main_containers(containers: list[Container], context: Context, errors: Errors, path: str) -> None:
    if not containers:
        errors.required(path)
        return
    seen: set[str] = set()
    for index, container in enumerate(containers):
        here = f"{path}[{index}]"
        _common(container, context, errors, here)
        if container.name in seen:
            errors.duplicate(f"{here}.name", container.name)
        seen.add(container.name)
        _life(container, context, errors, here)
        _restart_policy(container, errors, here, init=False)
    _host_ports(containers, errors, [f"{path}[{index}]" for index in range(len(containers))])


def _init_containers(spec: PodSpec, context: Context, errors: Errors, path: str) -> None:
    seen = {container.name for container in spec.containers}
    for index, container in enumerate(spec.initContainers):
        here = f"{path}[{index}]"
        _common(container, context, errors, here)
        _restart_policy(container, errors, here, init=True)
        if container.name in seen:
            errors.duplicate(f"{here}.name", container.name)
        elif container.name:
            seen.add(container.name)
        # The server checks each init container alone and calls it the first.
        _host_ports([container], errors, [f"{path}[0]"])
        sidecar = container.restartPolicy == "Always"
        if sidecar:
            _life(container, context, errors, here)
        else:
            for field in ("lifecycle", "livenessProbe", "readinessProbe", "startupProbe"):
                if getattr(container, field) is not None:
                    errors.forbidden(f"{here}.{field}", _NOT_IN_INIT)
            for position, policy in enumerate(container.resizePolicy):
                if policy.restartPolicy == "RestartContainer":
                    errors.invalid(
                        f"{here}.resizePolicy[{position}].restartPolicy",
                        policy.restartPolicy,
                        "must not be set to 'RestartContainer' for non-sidecar initContainers",
                    )


def _ephemeral_containers(spec: PodSpec, context: Context, errors: Errors, path: str) -> None:
    others = {container.name for container in [*spec.containers, *spec.initContainers]}
    seen = set(others)
    for index, container in enumerate(spec.ephemeralContainers):
        here = f"{path}[{index}]"
        _common(container, context, errors, here)
        image_whitespace(container, errors, here)
        if container.name in seen:
            errors.duplicate(f"{here}.name", container.name)
        seen.add(container.name)
        if container.targetContainerName and container.targetContainerName not in others:
            errors.not_found(f"{here}.targetContainerName", container.targetContainerName)
        for field in container.__struct_fields__:
            value = getattr(container, field)
            empty = ResourceRequirements() if field == "resources" else None
            if field not in _EPHEMERAL_FIELDS and value and value != empty:
                errors.forbidden(f"{here}.{field}", _NOT_IN_EPHEMERAL)
        for position, mount in enumerate(container.volumeMounts):
            for field in ("subPath", "subPathExpr"):
                if getattr(mount, field):
                    errors.forbidden(f"{here}.volumeMounts[{position}].{field}", _NOT_IN_EPHEMERAL)


def image_whitespace(container: Container | EphemeralContainer, errors: Errors, path: str) -> None:
    """A pod's image reference has no space around it (a pod template's may)."""
    image = container.image or ""
    if image != image.strip():
        errors.invalid(f"{path}.image", image, "must not have leading or trailing whitespace")


def _common(container: Container | EphemeralContainer, context: Context, errors: Errors, path: str) -> None:
    if not container.name:
        errors.required(f"{path}.name")
    else:
        errors.each(f"{path}.name", container.name, names.label(container.name))
    if not container.image:
        errors.required(f"{path}.image")
    policy = container.terminationMessagePolicy
    if not policy:
        errors.required(f"{path}.terminationMessagePolicy")
    elif policy not in ("File", "FallbackToLogsOnError"):
        valid = ("File", "FallbackToLogsOnError")
        errors.unsupported(f"{path}.terminationMessagePolicy", policy, valid, ordered=True)
    _ports(container.ports, errors, f"{path}.ports")
    _env(container.env, errors, f"{path}.env")
    _env_from(container.envFrom, errors, f"{path}.envFrom")
    _mounts(container, context, errors, f"{path}.volumeMounts")
    _devices(container, context, errors, f"{path}.volumeDevices")
    pull_policy(container.imagePullPolicy, errors, f"{path}.imagePullPolicy")
    container_resources(container.resources, context.claims, errors, f"{path}.resources")
    resize_policy(container.resizePolicy, context.restart_policy, errors, f"{path}.resizePolicy")
    container_security_context(
        container.securityContext, errors, f"{path}.securityContext", host_users=context.host_users
    )


def _ports(ports: list[ContainerPort], errors: Errors, path: str) -> None:
    seen: set[str] = set()
    for index, port in enumerate(ports):
        here = f"{path}[{index}]"
        if port.name:
            objections = names.port_name(port.name)
            if objections:
                errors.each(f"{here}.name", port.name, objections)
            elif port.name in seen:
                errors.duplicate(f"{here}.name", port.name)
            else:
                seen.add(port.name)
        if port.containerPort == 0:
            errors.required(f"{here}.containerPort")
        else:
            errors.each(f"{here}.containerPort", port.containerPort, names.port_number(port.containerPort))
        if port.hostPort:
            errors.each(f"{here}.hostPort", port.hostPort, names.port_number(port.hostPort))
        if not port.protocol:
            errors.required(f"{here}.protocol")
        elif port.protocol not in ("SCTP", "TCP", "UDP"):
            errors.unsupported(f"{here}.protocol", port.protocol, ("SCTP", "TCP", "UDP"))


def _host_ports(containers: list[Container], errors: Errors, paths: list[str]) -> None:
    seen: set[str] = set()
    for container, path in zip(containers, paths, strict=True):
        for index, port in enumerate(container.ports):
            if port.hostPort:
                key = f"{port.protocol}/{port.hostIP or ''}/{port.hostPort}"
                if key in seen:
                    errors.duplicate(f"{path}.ports[{index}].hostPort", key)
                seen.add(key)


def _env(variables: list[EnvVar], errors: Errors, path: str) -> None:
    for index, variable in enumerate(variables):
        here = f"{path}[{index}]"
        if not variable.name:
            errors.required(f"{here}.name")
        else:
            errors.each(f"{here}.name", variable.name, names.environment_name(variable.name))
        if variable.valueFrom is not None:
            _value_from(variable.valueFrom, variable.value or "", errors, f"{here}.valueFrom")


def _value_from(source: EnvVarSource, value: str, errors: Errors, path: str) -> None:
    count = 0
    if source.fieldRef is not None:
        count += 1
        field_ref(source.fieldRef, _ENV_FIELDS, errors, f"{path}.fieldRef")
    if source.resourceFieldRef is not None:
        count += 1
        resource_field_ref(source.resourceFieldRef, errors, f"{path}.resourceFieldRef", volume=False)
    for field in ("configMapKeyRef", "secretKeyRef"):
        ref = getattr(source, field)
        if ref is not None:
            count += 1
            here = f"{path}.{field}"
            errors.each(f"{here}.name", ref.name or "", names.subdomain(ref.name or ""))
            if not ref.key:
                errors.required(f"{here}.key")
            else:
                errors.each(f"{here}.key", ref.key, names.config_key(ref.key))
    ref = source.fileKeyRef
    if ref is not None:
        count += 1
        here = f"{path}.fileKeyRef"
        if not ref.key:
            errors.required(f"{here}.key")
        else:
            errors.each(f"{here}.key", ref.key, names.environment_name(ref.key))
        if not ref.volumeName:
            errors.required(f"{here}.volumeName")
        else:
            errors.each(f"{here}.volumeName", ref.volumeName, names.label(ref.volumeName))
        if not ref.path:
            errors.required(f"{here}.path")
        else:
            no_backsteps(ref.path, errors, f"{here}.path")
    if count == 0:
        errors.invalid(
            path,
            "",
            "must specify one of: `fieldRef`, `resourceFieldRef`, `configMapKeyRef`, `secretKeyRef` or `fileKeyRef`",
        )
    elif value:
        errors.invalid(path, "", "may not be specified when `value` is not empty")
    elif count > 1:
        errors.invalid(path, "", "may not have more than one field specified at a time")


def _env_from(sources: list[EnvFromSource], errors: Errors, path: str) -> None:
    for index, source in enumerate(sources):
        here = f"{path}[{index}]"
        if source.prefix:
            errors.each(f"{here}.prefix", source.prefix, names.environment_name(source.prefix))
        count = 0
        for field in ("configMapRef", "secretRef"):
            ref = getattr(source, field)
            if ref is not None:
                count += 1
                if not ref.name:
                    errors.required(f"{here}.{field}.name")
                else:
                    errors.each(f"{here}.{field}.name", ref.name, names.subdomain(names.as_prefix(ref.name)))
        if count == 0:
            errors.invalid(path, "", "must specify one of: `configMapRef` or `secretRef`")
        elif count > 1:
            errors.invalid(path, "", "may not have more than one field specified at a time")


def _mounts(container: Container | EphemeralContainer, context: Context, errors: Errors, path: str) -> None:
    devices = {device.name: device.devicePath for device in container.volumeDevices}
    seen: set[str] = set()
    for index, mount in enumerate(container.volumeMounts):
        here = f"{path}[{index}]"
        if not mount.name:
            errors.required(f"{here}.name")
        if mount.name not in context.volumes:
            errors.not_found(f"{here}.name", mount.name)
        if not mount.mountPath:
            errors.required(f"{here}.mountPath")
        if mount.mountPath in seen:
            errors.invalid(f"{here}.mountPath", mount.mountPath, "must be unique")
        seen.add(mount.mountPath)
        if mount.name in devices:
            errors.invalid(f"{here}.name", mount.name, "must not already exist in volumeDevices")
        if mount.mountPath in devices.values():
            errors.invalid(f"{here}.mountPath", mount.mountPath, "must not already exist as a path in volumeDevices")
        # From here on the server names the list, not the item.
        if mount.subPath:
            local_path(mount.subPath, errors, f"{path}.subPath")
        if mount.subPathExpr:
            if mount.subPath:
                detail = "subPathExpr and subPath are mutually exclusive"
                errors.invalid(f"{here}.subPathExpr", mount.subPathExpr, detail)
            local_path(mount.subPathExpr, errors, f"{path}.subPathExpr")
        _propagation(mount, container, errors, f"{path}.mountPropagation")
        _recursive_read_only(mount, errors, f"{path}.recursiveReadOnly")


def _propagation(mount: VolumeMount, container: Container | EphemeralContainer, errors: Errors, path: str) -> None:
    value = mount.mountPropagation
    if value is None:
        return
    if value not in ("Bidirectional", "HostToContainer", "None"):
        errors.unsupported(path, value, ("Bidirectional", "HostToContainer", "None"))
    privileged = container.securityContext is not None and container.securityContext.privileged
    if value == "Bidirectional" and not privileged:
        errors.forbidden(path, "Bidirectional mount propagation is available only to privileged containers")


def _recursive_read_only(mount: VolumeMount, errors: Errors, path: str) -> None:
    value = mount.recursiveReadOnly
    if value is None or value == "Disabled":
        return
    if value not in ("Enabled", "IfPossible"):
        errors.unsupported(path, value, ("Disabled", "Enabled", "IfPossible"))
        return
    if not mount.readOnly:
        errors.forbidden(path, "may only be specified when readOnly is true")
    if mount.mountPropagation not in (None, "None"):
        errors.forbidden(path, "may only be specified when mountPropagation is None or not specified")


def _devices(container: Container | EphemeralContainer, context: Context, errors: Errors, path: str) -> None:
    mounts = {mount.name: mount.mountPath for mount in container.volumeMounts}
    seen_paths: set[str] = set()
    seen_names: set[str] = set()
    for index, device in enumerate(container.volumeDevices):
        here = f"{path}[{index}]"
        name, device_path = device.name, device.devicePath
        volume = context.volumes.get(name)
        if not name:
            errors.required(f"{here}.name")
        if name in seen_names:
            errors.invalid(f"{here}.name", name, "must be unique")
        if volume is None:
            errors.not_found(f"{here}.name", name)
        elif volume.persistentVolumeClaim is None and volume.ephemeral is None:
            detail = "can only use volume source type of PersistentVolumeClaim or Ephemeral for block mode"
            errors.invalid(f"{here}.name", name, detail)
        if not device_path:
            errors.required(f"{here}.devicePath")
        if device_path in seen_paths:
            errors.invalid(f"{here}.devicePath", device_path, "must be unique")
        if ".." in device_path.split("/"):
            errors.invalid(f"{here}.devicePath", device_path, "can not contain backsteps ('..')")
        else:
            seen_paths.add(device_path)
        if name in mounts:
            errors.invalid(f"{here}.name", name, "must not already exist in volumeMounts")
        if device_path in mounts.values():
            errors.invalid(f"{here}.devicePath", device_path, "must not already exist as a path in volumeMounts")
        if name:
            seen_names.add(name)


# Life cycle


def _life(container: Container, context: Context, errors: Errors, path: str) -> None:
    if container.lifecycle is not None:
        _lifecycle(container.lifecycle, context, errors, f"{path}.lifecycle")
    for field in ("livenessProbe", "readinessProbe", "startupProbe"):
        probe = getattr(container, field)
        if probe is None:
            continue
        here = f"{path}.{field}"
        _probe(probe, context, errors, here)
        if field != "readinessProbe":
            if probe.successThreshold != 1:
                errors.invalid(f"{here}.successThreshold", probe.successThreshold or 0, "must be 1")
        elif probe.terminationGracePeriodSeconds is not None:
            errors.invalid(
                f"{here}.terminationGracePeriodSeconds",
                probe.terminationGracePeriodSeconds,
                "must not be set for readinessProbes",
            )


def _lifecycle(lifecycle: Lifecycle, context: Context, errors: Errors, path: str) -> None:
    for field in ("postStart", "preStop"):
        handler = getattr(lifecycle, field)
        if handler is not None:
            _handler(handler, context, errors, f"{path}.{field}")
    signal = lifecycle.stopSignal
    if signal is not None:
        here = f"{path}.stopSignal"
        if context.os is None:
            errors.forbidden(here, "may not be set for containers with empty `spec.os.name`")
        elif context.os == "windows" and signal not in ("SIGKILL", "SIGTERM"):
            errors.unsupported(here, signal, ("SIGKILL", "SIGTERM"))
        elif context.os == "linux" and signal not in LINUX_SIGNALS:
            errors.unsupported(here, signal, LINUX_SIGNALS)


def _probe(probe: Probe, context: Context, errors: Errors, path: str) -> None:
    _handler(probe, context, errors, path)
    for field in ("initialDelaySeconds", "timeoutSeconds", "periodSeconds", "successThreshold", "failureThreshold"):
        errors.non_negative(f"{path}.{field}", getattr(probe, field))
    seconds = probe.terminationGracePeriodSeconds
    if seconds is not None and seconds <= 0:
        errors.invalid(f"{path}.terminationGracePeriodSeconds", seconds, "must be greater than 0")


def _handler(handler: Probe | LifecycleHandler, context: Context, errors: Errors, path: str) -> None:
    count = 0
    for field in ("exec", "httpGet", "tcpSocket", "grpc", "sleep"):
        action: Any = getattr(handler, field, None)
        if action is None:
            continue
        here = f"{path}.{field}"
        if count:
            errors.forbidden(here, _ONE_HANDLER)
            continue
        count += 1
        if field == "exec":
            if not action.command:
                errors.required(f"{here}.command")
        elif field == "httpGet":
            _http_get(action, errors, here)
        elif field == "sleep":
            grace = context.grace_period_s
            if grace is not None and not 0 <= action.seconds <= grace:
                detail = f"must be non-negative and less than terminationGracePeriodSeconds ({grace})"
                errors.invalid(here, action.seconds, detail)
        else:
            _port(action.port, errors, f"{here}.port")
    if count == 0:
        errors.required(path, "must specify a handler type")


def _http_get(action: HTTPGetAction, errors: Errors, path: str) -> None:
    if not action.path:
        errors.required(f"{path}.path")
    _port(action.port, errors, f"{path}.port")
    if action.scheme not in ("HTTP", "HTTPS"):
        errors.unsupported(f"{path}.scheme", action.scheme or "", ("HTTP", "HTTPS"))
    for header in action.httpHeaders:
        errors.each(f"{path}.httpHeaders", header.name, names.http_header(header.name))


def _port(port: int | str, errors: Errors, path: str) -> None:
    errors.each(path, port, names.port_number(port) if isinstance(port, int) else names.port_name(port))


def _restart_policy(container: Container, errors: Errors, path: str, *, init: bool) -> None:
    policy, rules = container.restartPolicy, container.restartPolicyRules
    here = f"{path}.restartPolicy"
    if policy is None:
        if not rules:
            return
        errors.required(here, "must specify restartPolicy when restart rules are used")
        if init:
            return
    elif policy not in ("Always", "Never", "OnFailure"):
        errors.unsupported(here, policy, ("Always", "Never", "OnFailure"))
    if len(rules) > 20:
        errors.too_many(f"{path}.restartPolicyRules", len(rules), 20)
    for index, rule in enumerate(rules):
        here = f"{path}.restartPolicyRules[{index}]"
        if rule.action not in ("Restart", "RestartAllContainers"):
            errors.unsupported(f"{here}.action", rule.action or "", ("Restart", "RestartAllContainers"))
        if rule.exitCodes is None:
            errors.required(f"{here}.exitCodes", "must be specified")
            continue
        if rule.exitCodes.operator not in ("In", "NotIn"):
            errors.unsupported(f"{here}.exitCodes.operator", rule.exitCodes.operator or "", ("In", "NotIn"))
        if len(rule.exitCodes.values) > 255:
            errors.too_many(f"{here}.exitCodes.values", len(rule.exitCodes.values), 255)
