"""The environment, the command line and the working directory of a container (S-ENV, S-EXPAND)."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from nsrun.plan.env_files import EnvFileError, env_file_value
from nsrun.plan.expansion import expand
from nsrun.plan.image import ImageConfig
from nsrun.plan.inputs import ContainerInputs, NodeFacts, PlanError
from nsrun.spec.model import (
    ConfigMapKeySelector,
    Container,
    EnvFromSource,
    EnvVarSource,
    EphemeralContainer,
    FileKeySelector,
    Pod,
    ResourceFieldSelector,
    SecretKeySelector,
)
from nsrun.spec.quantity import Quantity, parse
from nsrun.waiting import CONFIG_ERROR, CREATE_CONTAINER_ERROR

DEFAULT_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
"""PATH where neither image nor pod set one (containerd pkg/oci/spec.go)."""

_KEYED = re.compile(r"metadata\.(labels|annotations)\['(.*)'\]")


def field_value(pod: Pod, path: str, node: NodeFacts, pod_ips: Sequence[str], host_ips: Sequence[str]) -> str:
    """What `fieldRef.fieldPath` stands for (Kubernetes pkg/kubelet/kubelet_pods.go podFieldSelectorRuntimeValue).

    A label or an annotation that is not there is the empty text; so is an address that there is none of.

    Raises:
        PlanError: CreateContainerConfigError, a path that has no value for an environment.
    """
    meta = pod.metadata
    keyed = _KEYED.fullmatch(path)
    if keyed:
        return (meta.labels if keyed[1] == "labels" else meta.annotations).get(keyed[2], "")
    ips = tuple(pod_ips) or (tuple(host_ips) if pod.spec.hostNetwork else ())
    values = {
        "metadata.name": meta.name,
        "metadata.namespace": meta.namespace,
        "metadata.uid": meta.uid,
        "spec.nodeName": pod.spec.nodeName or node.name,
        "spec.serviceAccountName": pod.spec.serviceAccountName,
        "status.hostIP": next(iter(host_ips), ""),
        "status.hostIPs": ",".join(host_ips),
        "status.podIP": next(iter(ips), ""),
        "status.podIPs": ",".join(ips),
    }
    if path not in values:
        raise PlanError(CONFIG_ERROR, f"unsupported fieldPath: {path}")
    return values[path] or ""


def resource_value(pod: Pod, container: Container, selector: ResourceFieldSelector, node: NodeFacts) -> str:
    """What `resourceFieldRef` stands for: rounded up to the divisor (Kubernetes pkg/api/v1/resource/helpers.go).

    A limit that is not set is what the node has; a request that is not set is the limit, which defaulting has done already, or 0.

    Raises:
        PlanError: CreateContainerConfigError, another container or another resource than there are.
    """
    name = selector.containerName
    if name:
        everyone = [*pod.spec.containers, *pod.spec.initContainers]
        found = next((one for one in everyone if one.name == name), None)
        if found is None:
            raise PlanError(CONFIG_ERROR, f"container {name} not found")
        container = found
    kind, _, resource = selector.resource.partition(".")
    amounts = {"limits": container.resources.limits, "requests": container.resources.requests}.get(kind)
    if amounts is None or not resource:
        raise PlanError(CONFIG_ERROR, f"unsupported container resource : {selector.resource}")
    if resource in amounts:
        amount = parse(amounts[resource])
    elif kind == "limits" and resource in ("cpu", "memory", "ephemeral-storage"):
        have = {"cpu": node.cpus, "memory": node.memory, "ephemeral-storage": node.ephemeral_storage}
        amount = Quantity(have[resource])
    else:
        amount = Quantity(0)
    divisor = parse(selector.divisor)
    if divisor.value == 0:
        divisor = Quantity(1)
    if resource == "cpu":
        return str(-(-amount.milli() // divisor.milli()))
    return str(-(-amount.whole() // divisor.whole()))


class Reference(NamedTuple):
    """An object that a container's variables come from: kind `ConfigMap` or `Secret`, in the pod's namespace."""

    kind: str
    name: str


def references(container: Container | EphemeralContainer) -> list[Reference]:
    """The objects that a container's variables come from, each once, in the order in which they are asked for."""
    found: dict[Reference, None] = {}
    for many in container.envFrom:
        if many.configMapRef is not None:
            found[Reference("ConfigMap", many.configMapRef.name or "")] = None
        elif many.secretRef is not None:
            found[Reference("Secret", many.secretRef.name or "")] = None
    for variable in container.env:
        source = variable.valueFrom
        if source is None:
            continue
        if source.configMapKeyRef is not None:
            found[Reference("ConfigMap", source.configMapKeyRef.name or "")] = None
        elif source.secretKeyRef is not None:
            found[Reference("Secret", source.secretKeyRef.name or "")] = None
    return list(found)


def file_references(container: Container | EphemeralContainer) -> list[FileKeySelector]:
    """The keys of files that a container's variables come from."""
    found = (one.valueFrom.fileKeyRef for one in container.env if one.valueFrom is not None)
    return [one for one in found if one is not None]


def file_name(selector: FileKeySelector) -> str:
    """What a file of a volume is called in `ObjectValues.files`; the name of a volume has no slash."""
    return f"{selector.volumeName}/{selector.path}"


def _values(reference: Reference, inputs: ContainerInputs) -> Mapping[str, str] | None:
    objects = inputs.objects
    return (objects.config_maps if reference.kind == "ConfigMap" else objects.secrets).get(reference.name)


def _missing(reference: Reference) -> PlanError:
    kind = reference.kind.lower()
    return PlanError(
        CONFIG_ERROR,
        f'{kind} "{reference.name}" not found',
        resolution=f"Apply it, and the container starts: nsrun object apply FILE. What there is: nsrun object get {kind}",
    )


def _all_of(source: EnvFromSource, inputs: ContainerInputs) -> Mapping[str, str]:
    """The variables of an `envFrom`; of an optional object that does not exist, none.

    Raises:
        PlanError: the object does not exist.
    """
    if source.configMapRef is not None:
        reference, optional = Reference("ConfigMap", source.configMapRef.name or ""), source.configMapRef.optional
    elif source.secretRef is not None:
        reference, optional = Reference("Secret", source.secretRef.name or ""), source.secretRef.optional
    else:
        return {}
    values = _values(reference, inputs)
    if values is None:
        if optional:
            return {}
        raise _missing(reference)
    prefix = source.prefix or ""
    return {prefix + key: values[key] for key in sorted(values)}


def _one_of(
    reference: Reference, key: str, optional: bool | None, namespace: str | None, inputs: ContainerInputs
) -> str | None:
    """The value of a key; None when it is optional and not there.

    Raises:
        PlanError: the object, or the key in it, does not exist.
    """
    values = _values(reference, inputs)
    if values is not None and key in values:
        return values[key]
    if optional:
        return None
    if values is None:
        raise _missing(reference)
    raise PlanError(
        CONFIG_ERROR, f"couldn't find key {key} in {reference.kind} {namespace or 'default'}/{reference.name}"
    )


def _of_file(selector: FileKeySelector, inputs: ContainerInputs) -> str | None:
    """The value of a key of a file; None when it is optional and not there. (Kubelet: makeEnvironmentVariables.)

    Raises:
        PlanError: there is no such key in the file; or the file is not there, or cannot be read, optional or not.
    """
    text = inputs.objects.files.get(file_name(selector))
    if text is None:
        raise PlanError(
            CONFIG_ERROR,
            "couldn't parse env file",
            details=f'There is no file {selector.path} in the volume "{selector.volumeName}" that could be read.',
        )
    try:
        value = env_file_value(text, selector.key)
    except EnvFileError as error:
        raise PlanError(CONFIG_ERROR, "couldn't parse env file", details=f"{selector.path}: {error}") from error
    if value:
        return value
    if selector.optional:
        return None
    raise PlanError(CONFIG_ERROR, f'environment variable key "{selector.key}" not found in file "{selector.path}"')


def _from(pod: Pod, container: Container, source: EnvVarSource, inputs: ContainerInputs) -> str | None:
    """The value of a `valueFrom`; None: there is to be no such variable, as what is optional is not there.

    (Or as `--ignore-unsupported` has let a kind come this far that nsrun has no value for; it was warned of then.)
    """
    if source.fieldRef is not None:
        return field_value(pod, source.fieldRef.fieldPath, inputs.node, inputs.pod_ips, inputs.host_ips)
    if source.resourceFieldRef is not None:
        return resource_value(pod, container, source.resourceFieldRef, inputs.node)
    if source.fileKeyRef is not None:
        return _of_file(source.fileKeyRef, inputs)
    key: ConfigMapKeySelector | SecretKeySelector
    if source.configMapKeyRef is not None:
        kind, key = "ConfigMap", source.configMapKeyRef
    elif source.secretKeyRef is not None:
        kind, key = "Secret", source.secretKeyRef
    else:
        return None
    return _one_of(Reference(kind, key.name or ""), key.key, key.optional, pod.metadata.namespace, inputs)


def pod_environment(pod: Pod, container: Container, inputs: ContainerInputs) -> dict[str, str]:
    """The variables that the manifest sets (S-ENV; Kubernetes pkg/kubelet/kubelet_pods.go makeEnvironmentVariables).

    Those that tell of Services come before all, then those of `envFrom`, of two with one name the later object's; then `env` in its
    order, where a later one of the same name wins, at the place of the first. `$(VAR)` sees all that were set before; what came from
    an object is not expanded.

    Raises:
        PlanError: CreateContainerConfigError.
    """
    result: dict[str, str] = dict(inputs.objects.services)
    for source in container.envFrom:
        result.update(_all_of(source, inputs))
    for variable in container.env:
        if variable.valueFrom is not None:
            value = _from(pod, container, variable.valueFrom, inputs)
            if value is None:
                continue
        else:
            value = expand(variable.value or "", result)
        result[variable.name] = value
    return result


def environment(pod_env: Mapping[str, str], inputs: ContainerInputs, *, tty: bool) -> dict[str, str]:
    """All variables of the container: the runtime's own, then the image's, then the pod's, each able to override those before."""
    result = {"PATH": DEFAULT_PATH, "HOSTNAME": inputs.hostname}
    if tty:
        result["TERM"] = "xterm"
    for entry in inputs.image_config.env:
        name, _, value = entry.partition("=")
        result[name] = value
    result.update(pod_env)
    result.setdefault("HOME", inputs.user.home or "/")
    return result


def as_strings(variables: Mapping[str, str]) -> tuple[str, ...]:
    """KEY=VALUE.

    Raises:
        PlanError: CreateContainerError, a NUL in it: no environment can hold that.
    """
    for name, value in variables.items():
        if "\0" in name or "\0" in value:
            raise PlanError(CREATE_CONTAINER_ERROR, f"environment variable {name!r} has a NUL character in it")
    return tuple(f"{name}={value}" for name, value in variables.items())


def command_line(container: Container, image: ImageConfig, variables: Mapping[str, str]) -> tuple[str, ...]:
    """argv: the pod's command or the image's entrypoint, then the pod's args or, with neither command nor args, the image's cmd.

    Raises:
        PlanError: CreateContainerError, there is nothing to run, or a NUL in it.
    """
    command = tuple(expand(word, variables) for word in container.command)
    args = tuple(expand(word, variables) for word in container.args)
    if not command:
        command, args = image.entrypoint, args or image.cmd
    argv = command + args
    if not argv or not argv[0]:
        raise PlanError(
            CREATE_CONTAINER_ERROR,
            f'container "{container.name}": no command specified',
            details=f'Neither the pod nor the image "{container.image or ""}" says what to run.',
            resolution="Give the container a command, or import the image with --cmd or --entrypoint.",
        )
    for word in argv:
        if "\0" in word:
            raise PlanError(CREATE_CONTAINER_ERROR, f'container "{container.name}": {word!r} has a NUL character in it')
    return argv


def working_directory(container: Container, image: ImageConfig) -> str:
    """Absolute.

    Raises:
        PlanError: CreateContainerError, a relative one.
    """
    directory = container.workingDir or image.workdir or "/"
    if not directory.startswith("/"):
        raise PlanError(
            CREATE_CONTAINER_ERROR, f'container "{container.name}": the working directory {directory!r} is not absolute'
        )
    return directory
