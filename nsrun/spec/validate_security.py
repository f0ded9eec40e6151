"""Validation of security contexts, and of what the pod's operating system allows.

Source of the rules: kubernetes pkg/apis/core/validation/validation.go (v1.36): ValidateSecurityContext,
validatePodSpecSecurityContext, validateWindows*, and the seccomp and AppArmor annotations.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from nsrun.spec import names, sysctls
from nsrun.spec.apparmor import ANNOTATION as APPARMOR_ANNOTATION
from nsrun.spec.field_errors import Errors
from nsrun.spec.model import (
    AppArmorProfile,
    Container,
    EphemeralContainer,
    ObjectMeta,
    PodSecurityContext,
    PodSpec,
    SeccompProfile,
    SecurityContext,
    WindowsSecurityContextOptions,
)
from nsrun.spec.validate_paths import local_path

_PROFILE_TYPES = ("Localhost", "RuntimeDefault", "Unconfined")
_WINDOWS = "cannot be set for a windows pod"
_SYSCTL_SEGMENT = "[a-z0-9]([-_a-z0-9]*[a-z0-9])?"
_SYSCTL_FORM = f"({_SYSCTL_SEGMENT}[\\./])*{_SYSCTL_SEGMENT}"
_SYSCTL = re.compile(_SYSCTL_FORM)
_SYSCTL_MAX = 253

SECCOMP_POD_ANNOTATION = "seccomp.security.alpha.kubernetes.io/pod"
SECCOMP_CONTAINER_ANNOTATION = "container.seccomp.security.alpha.kubernetes.io/"
_LOCALHOST = "localhost/"
_RUNTIME_DEFAULTS = ("runtime/default", "docker/default")


def containers_with_paths(spec: PodSpec, path: str) -> Iterator[tuple[Container | EphemeralContainer, str]]:
    """Every container of a pod with its path, in the order in which the API server visits them."""
    for field in ("initContainers", "containers", "ephemeralContainers"):
        for index, container in enumerate(getattr(spec, field)):
            yield container, f"{path}.{field}[{index}]"


def container_security_context(context: SecurityContext | None, errors: Errors, path: str, *, host_users: bool) -> None:
    """A container's security context."""
    if context is None:
        return
    if context.runAsUser is not None:
        errors.each(f"{path}.runAsUser", context.runAsUser, names.numeric_id(context.runAsUser))
    if context.runAsGroup is not None:
        errors.each(f"{path}.runAsGroup", context.runAsGroup, names.numeric_id(context.runAsGroup))
    if context.procMount is not None:
        if context.procMount not in ("Default", "Unmasked"):
            errors.unsupported(f"{path}.procMount", context.procMount, ("Default", "Unmasked"))
        if host_users and context.procMount == "Unmasked":
            errors.invalid(f"{path}.procMount", context.procMount, "`hostUsers` must be false to use `Unmasked`")
    _seccomp(context.seccompProfile, errors, f"{path}.seccompProfile")
    if context.allowPrivilegeEscalation is False:
        start = "cannot set `allowPrivilegeEscalation` to false and "
        if context.privileged:
            errors.invalid(path, context, start + "`privileged` to true")
        if context.capabilities is not None and "CAP_SYS_ADMIN" in context.capabilities.add:
            errors.invalid(path, context, start + "`capabilities.Add` CAP_SYS_ADMIN")
    _windows_options(context.windowsOptions, errors, f"{path}.windowsOptions")
    _apparmor(context.appArmorProfile, errors, f"{path}.appArmorProfile")


def pod_security_context(spec: PodSpec, errors: Errors, path: str) -> None:
    """The pod's security context; `path` is the spec's."""
    context = spec.securityContext
    if context is None:
        return
    here = f"{path}.securityContext"
    for field in ("fsGroup", "runAsUser", "runAsGroup"):
        value = getattr(context, field)
        if value is not None:
            errors.each(f"{here}.{field}", value, names.numeric_id(value))
    for index, group in enumerate(context.supplementalGroups):
        errors.each(f"{here}.supplementalGroups[{index}]", group, names.numeric_id(group))
    if spec.shareProcessNamespace and spec.hostPID:
        detail = "ShareProcessNamespace and HostPID cannot both be enabled"
        errors.invalid(f"{here}.shareProcessNamespace", True, detail)
    _sysctls(spec, context, errors, f"{here}.sysctls")
    policy = context.fsGroupChangePolicy
    if policy is not None and policy not in ("Always", "OnRootMismatch"):
        errors.unsupported(f"{here}.fsGroupChangePolicy", policy, ("Always", "OnRootMismatch"))
    _seccomp(context.seccompProfile, errors, f"{here}.seccompProfile")
    _windows_options(context.windowsOptions, errors, f"{here}.windowsOptions")
    _apparmor(context.appArmorProfile, errors, f"{here}.appArmorProfile")
    policy = context.supplementalGroupsPolicy
    if policy is not None and policy not in ("Merge", "Strict"):
        errors.unsupported(f"{here}.supplementalGroupsPolicy", policy, ("Merge", "Strict"))
    policy = context.seLinuxChangePolicy
    if policy is not None and policy != "Recursive":  # MountOption is behind a feature gate, which is off
        errors.unsupported(f"{here}.seLinuxChangePolicy", policy, ("Recursive",))


def _sysctls(spec: PodSpec, context: PodSecurityContext, errors: Errors, path: str) -> None:
    seen: set[str] = set()
    for index, sysctl in enumerate(context.sysctls):
        here = f"{path}[{index}].name"
        name = sysctl.name
        if not name:
            errors.required(here)
        elif names.size(name) > _SYSCTL_MAX or not _SYSCTL.fullmatch(name):
            detail = f"must have at most {_SYSCTL_MAX} characters and match regex ^{_SYSCTL_FORM}$"
            errors.invalid(here, name, detail)
        elif name in seen:
            errors.duplicate(here, name)
        namespace = sysctls.namespace(name)
        if spec.hostNetwork and namespace == sysctls.NET:
            errors.invalid(here, name, "may not be specified when 'hostNetwork' is true")
        elif spec.hostIPC and namespace == sysctls.IPC:
            errors.invalid(here, name, "may not be specified when 'hostIPC' is true")
        seen.add(name)


def _seccomp(profile: SeccompProfile | None, errors: Errors, path: str) -> None:
    if profile is None:
        return
    if not profile.type:
        errors.required(f"{path}.type", "type is required when seccompProfile is set")
    elif profile.type not in _PROFILE_TYPES:
        errors.unsupported(f"{path}.type", profile.type, _PROFILE_TYPES)
    if profile.type == "Localhost":
        if profile.localhostProfile is None:
            errors.required(f"{path}.localhostProfile", "must be set when seccomp type is Localhost")
        else:
            local_path(profile.localhostProfile, errors, f"{path}.localhostProfile")
    elif profile.localhostProfile is not None:
        errors.invalid(f"{path}.localhostProfile", profile, "can only be set when seccomp type is Localhost")


def _apparmor(profile: AppArmorProfile | None, errors: Errors, path: str) -> None:
    if profile is None:
        return
    here = f"{path}.localhostProfile"
    if profile.type == "Localhost":
        value = profile.localhostProfile
        if value is not None and value.strip() != value:
            errors.invalid(here, value, "must not be padded with whitespace")
        elif not value:
            errors.required(here, "must be set when AppArmor type is Localhost")
        if value is not None and names.size(value) > 4095:
            errors.too_long(here, 4095)
    elif profile.type in _PROFILE_TYPES:
        if profile.localhostProfile is not None:
            detail = "can only be set when AppArmor type is Localhost"
            errors.invalid(here, profile.localhostProfile, detail)
    elif not profile.type:
        errors.required(f"{path}.type", "type is required when appArmorProfile is set")
    else:
        errors.unsupported(f"{path}.type", profile.type, _PROFILE_TYPES)


# Annotations that were fields once


def security_annotations(annotations: dict[str, str], spec: PodSpec, errors: Errors, path: str) -> None:
    """The old seccomp and AppArmor annotations by themselves."""
    if SECCOMP_POD_ANNOTATION in annotations:
        here = f"{path}.{SECCOMP_POD_ANNOTATION}"
        _seccomp_annotation(annotations[SECCOMP_POD_ANNOTATION], errors, here)
    for key in sorted(annotations):
        if key.startswith(SECCOMP_CONTAINER_ANNOTATION):
            _seccomp_annotation(annotations[key], errors, f"{path}.{key}")
    known = {container.name for container, _ in containers_with_paths(spec, "")}
    for key in sorted(annotations):
        if key.startswith(APPARMOR_ANNOTATION):
            name, value = key.removeprefix(APPARMOR_ANNOTATION), annotations[key]
            if name not in known:
                errors.invalid(f"{path}[{key}]", name, "container not found")
            if value not in ("", "runtime/default", "unconfined") and not value.startswith(_LOCALHOST):
                errors.invalid(f"{path}[{key}]", value, f'invalid AppArmor profile name: "{value}"')


def _seccomp_annotation(value: str, errors: Errors, path: str) -> None:
    if value in _RUNTIME_DEFAULTS or value == "unconfined":
        return
    if value.startswith(_LOCALHOST):
        local_path(value.removeprefix(_LOCALHOST), errors, path)
    else:
        errors.invalid(path, value, "must be a valid seccomp profile")


def annotations_match_fields(meta: ObjectMeta, spec: PodSpec, errors: Errors, path: str) -> None:
    """Where both an annotation and the field are set, they must say the same."""
    pod = spec.securityContext
    if pod is not None and pod.seccompProfile is not None and SECCOMP_POD_ANNOTATION in meta.annotations:
        value = meta.annotations[SECCOMP_POD_ANNOTATION]
        _seccomp_match(value, pod.seccompProfile, errors, f"{path}.securityContext.seccompProfile")
    for container, here in containers_with_paths(spec, path):
        context = container.securityContext
        if context is not None and context.seccompProfile is not None:
            annotation = meta.annotations.get(SECCOMP_CONTAINER_ANNOTATION + container.name)
            if annotation is not None:
                _seccomp_match(annotation, context.seccompProfile, errors, f"{here}.securityContext.seccompProfile")
    if spec.os is not None and spec.os.name == "windows":
        return
    for container, here in containers_with_paths(spec, path):
        profile = pod.appArmorProfile if pod is not None else None
        if container.securityContext is not None and container.securityContext.appArmorProfile is not None:
            profile = container.securityContext.appArmorProfile
        annotation = meta.annotations.get(APPARMOR_ANNOTATION + container.name)
        if profile is not None and annotation is not None:
            _apparmor_match(annotation, profile, errors, f"{here}.securityContext.appArmorProfile")


def _seccomp_match(annotation: str, profile: SeccompProfile, errors: Errors, path: str) -> None:
    same = {
        "Unconfined": annotation == "unconfined",
        "RuntimeDefault": annotation in _RUNTIME_DEFAULTS,
        "Localhost": annotation.startswith(_LOCALHOST),
    }.get(profile.type, True)
    if not same:
        errors.forbidden(f"{path}.type", "seccomp type in annotation and field must match")
    elif profile.type == "Localhost" and annotation.removeprefix(_LOCALHOST) != profile.localhostProfile:
        errors.forbidden(f"{path}.localhostProfile", "seccomp profile in annotation and field must match")


def _apparmor_match(annotation: str, profile: AppArmorProfile, errors: Errors, path: str) -> None:
    same = {
        "Unconfined": annotation == "unconfined",
        "RuntimeDefault": annotation == "runtime/default",
        "Localhost": annotation.startswith(_LOCALHOST),
    }.get(profile.type, True)
    if not same:
        errors.forbidden(f"{path}.type", "apparmor type in annotation and field must match")
    elif profile.type == "Localhost" and annotation.removeprefix(_LOCALHOST) != profile.localhostProfile:
        errors.forbidden(f"{path}.localhostProfile", "apparmor profile in annotation and field must match")


# Operating systems

_NETBIOS = re.compile(r'[^\\/:*?"<>|.][^\\/:*?"<>|]{0,14}')
_DOMAIN_PART = r"[a-zA-Z0-9](?:[a-zA-Z0-9-]{0,61}[a-zA-Z0-9])?"
_DOMAIN = re.compile(rf"{_DOMAIN_PART}(?:\.{_DOMAIN_PART})*")
_CREDENTIAL_MAX_KIB = 64
_DOMAIN_MAX = 256
_USER_MAX = 104


def _windows_options(options: WindowsSecurityContextOptions | None, errors: Errors, path: str) -> None:
    if options is None:
        return
    if options.gmsaCredentialSpecName is not None:
        objections = names.subdomain(options.gmsaCredentialSpecName)
        errors.each(f"{path}.gmsaCredentialSpecName", options.gmsaCredentialSpecName, objections)
    spec = options.gmsaCredentialSpec
    if spec is not None:
        here = f"{path}.gmsaCredentialSpec"
        if not spec:
            errors.invalid(here, spec, "gmsaCredentialSpec cannot be an empty string")
        elif names.size(spec) > _CREDENTIAL_MAX_KIB * 1024:
            errors.invalid(here, spec, f"gmsaCredentialSpec size must be under {_CREDENTIAL_MAX_KIB} KiB")
    user = options.runAsUserName
    if user is not None:
        errors.each(f"{path}.runAsUserName", user, _windows_user(user))


def _windows_user(value: str) -> list[str]:
    start = "runAsUserName"
    if not value:
        return [f"{start} cannot be an empty string"]
    if any(ord(character) < 32 or ord(character) == 127 for character in value):
        return [f"{start} cannot contain control characters"]
    parts = value.split("\\")
    if len(parts) > 2:
        return [f"{start} cannot contain more than one backslash"]
    objections = []
    if len(parts) == 2:
        if names.size(parts[0]) >= _DOMAIN_MAX:
            objections.append(f"{start}'s Domain length must be under {_DOMAIN_MAX} characters")
        if not _NETBIOS.fullmatch(parts[0]) and not _DOMAIN.fullmatch(parts[0]):
            objections.append(f"{start}'s Domain doesn't match the NetBios nor the DNS format")
    user = parts[-1]
    if not user:
        objections.append(f"{start}'s User cannot be empty")
    elif names.size(user) > _USER_MAX:
        objections.append(f"{start}'s User length must not be longer than {_USER_MAX} characters")
    if user and not user.strip(". "):
        objections.append(f"{start}'s User cannot contain only periods or spaces")
    if re.search(r'["/\\:;|=,+*?<>@\[\]]', user):
        objections.append(f"{start}'s User cannot contain the following characters: \"/\\:;|=,+*?<>@[]")
    return objections


def host_process(spec: PodSpec, errors: Errors, path: str) -> None:
    """Windows host-process containers: all or none, and only on the host's network."""
    pod = spec.securityContext.windowsOptions if spec.securityContext is not None else None
    pod_value = pod.hostProcess if pod is not None else None
    total = count = 0
    for container, here in containers_with_paths(spec, path):
        total += 1
        context = container.securityContext
        own = context.windowsOptions.hostProcess if context is not None and context.windowsOptions is not None else None
        if pod_value is not None and own is not None and pod_value != own:
            detail = f"pod hostProcess value must be identical if both are specified, was {str(pod_value).lower()}"
            errors.invalid(f"{here}.securityContext.windowsOptions.hostProcess", own, detail)
        if own if own is not None else pod_value:
            count += 1
    if count:
        if count != total:
            detail = "If pod contains any hostProcess containers then all containers must be HostProcess containers"
            errors.invalid(path, "", detail)
        if not spec.hostNetwork:
            detail = "hostNetwork must be true if pod contains any hostProcess containers"
            errors.invalid(f"{path}.hostNetwork", False, detail)


def operating_system(spec: PodSpec, errors: Errors, path: str) -> None:
    """``os.name``, and the fields that the system named there does not have."""
    if spec.os is None:
        return
    if not spec.os.name:
        errors.required(f"{path}.os.name")
    elif spec.os.name not in ("linux", "windows"):
        errors.unsupported(f"{path}.os", spec.os.name, ("linux", "windows"))
    elif spec.os.name == "linux":
        _linux(spec, errors, path)
    else:
        _windows(spec, errors, path)


def _linux(spec: PodSpec, errors: Errors, path: str) -> None:
    detail = "windows options cannot be set for a linux pod"
    if spec.securityContext is not None and spec.securityContext.windowsOptions is not None:
        errors.forbidden(f"{path}.securityContext.windowsOptions", detail)
    for container, here in containers_with_paths(spec, path):
        if container.securityContext is not None and container.securityContext.windowsOptions is not None:
            errors.forbidden(f"{here}.securityContext.windowsOptions", detail)


_POD_FIELDS = (
    "securityContext.appArmorProfile", "securityContext.seLinuxOptions", "hostUsers", "hostPID", "hostIPC",
    "securityContext.seccompProfile", "securityContext.fsGroup", "securityContext.fsGroupChangePolicy",
    "securityContext.sysctls", "shareProcessNamespace", "securityContext.runAsUser", "securityContext.runAsGroup",
    "securityContext.supplementalGroups", "securityContext.supplementalGroupsPolicy",
    "securityContext.seLinuxChangePolicy",
)  # fmt: skip
_CONTAINER_FIELDS = (
    "appArmorProfile", "seLinuxOptions", "seccompProfile", "capabilities", "readOnlyRootFilesystem", "privileged",
    "allowPrivilegeEscalation", "procMount", "runAsUser", "runAsGroup",
)  # fmt: skip


def _windows(spec: PodSpec, errors: Errors, path: str) -> None:
    context = spec.securityContext
    for field in _POD_FIELDS:
        inner = field.removeprefix("securityContext.")
        value = getattr(spec, inner) if inner == field else getattr(context, inner) if context is not None else None
        if value is not None and value != []:
            errors.forbidden(f"{path}.{field}", _WINDOWS)
    for container, here in containers_with_paths(spec, path):
        for field in _CONTAINER_FIELDS:
            if container.securityContext is not None and getattr(container.securityContext, field) is not None:
                errors.forbidden(f"{here}.securityContext.{field}", _WINDOWS)
