"""What needs no server: validating, planning, templates. The one door of the client to nsrun.spec, plan and status.

Nothing is touched. What only the server could look up (the image's directories, the pod's address) stands in a plan as a
name in angle brackets.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from nsrun.client.manifests import Document
from nsrun.client.roots import Root
from nsrun.errors import NotFoundError, NsrunError, SpecError

if TYPE_CHECKING:
    from nsrun.plan import ContainerInputs, ImageConfig, ObjectValues, Program
    from nsrun.spec import ConfigMap, Pod, Secret
    from nsrun.spec.model import ConfigMapKeySelector, EnvVarSource, SecretKeySelector


class DocumentVerdict(NamedTuple):
    """What Kubernetes would say of one object of a manifest.

    Attributes:
        file: as the user named it; document: its place in the file, from 0; line: where it begins, from 1.
        kind, name: of the object, empty when it has none.
        verdict: valid, invalid, unknown-field, decode-error, or other: a kind that nsrun does not read.
        messages: Kubernetes' own words.
        located: the messages with file and line.
        warnings: what nsrun does not do of a valid pod.
        object: after defaulting, where there is one.
    """

    file: str
    document: int
    line: int
    kind: str
    name: str
    verdict: str
    messages: list[str]
    located: list[str]
    warnings: list[str]
    object: dict[str, Any] | None


def validate(documents: Sequence[Document]) -> list[DocumentVerdict]:
    """One verdict for each object, in the order of the files.

    Raises:
        SpecError: a file that as a whole is no manifest (too large).
    """
    from nsrun import spec

    return [
        DocumentVerdict(
            file=document["name"],
            document=verdict.document.index,
            line=verdict.document.line,
            kind=verdict.kind,
            name=verdict.name,
            verdict=verdict.verdict,
            messages=list(verdict.messages),
            located=verdict.located_messages(),
            warnings=warnings_of(verdict),
            object=None if verdict.object is None else spec.to_dict(verdict.object),
        )
        for document in documents
        for verdict in spec.load(document["text"].encode(), document["name"])
    ]


def warnings_of(verdict: Any) -> list[str]:
    """What nsrun does not do of a valid pod."""
    from nsrun import spec

    if verdict.verdict != "valid" or not isinstance(verdict.object, spec.Pod):
        return []
    return [f"{verdict.where(one.path)}: {one.path}: {one.message}" for one in spec.unsupported(verdict.object)]


class Planned(NamedTuple):
    """The program of a container, or of the pod's sandbox.

    Attributes:
        pod: its name; container: the container's, empty for the sandbox.
        lines: the steps, in order, as text.
        problem: why there is no program; the kubelet would say so too.
    """

    pod: str
    container: str
    lines: list[str]
    problem: NsrunError | None


def plan(
    documents: Sequence[Document], root: Root, images: Mapping[str, Mapping[str, Any]], container: str | None = None
) -> list[Planned]:
    """The programs of all pods in the manifests.

    Args:
        images: configurations of images by name, as far as they are known.
        container: only this container's.

    Raises:
        SpecError: a manifest is not valid, or has no pod. NotFoundError: no pod has that container.
    """
    from nsrun import spec

    verdicts = [one for document in documents for one in spec.load(document["text"].encode(), document["name"])]
    pods = spec.pods(verdicts)
    if not pods:
        raise SpecError("the manifest has no pod", resolution="nsrun pod validate says what it has.")
    beside = [one.object for one in verdicts if isinstance(one.object, spec.ConfigMap | spec.Secret)]
    planned = [one for pod in pods for one in programs(pod, root, images, beside) if container in (None, one.container)]
    if not planned:
        names = ", ".join(one.name for pod in pods for one in [*pod.spec.initContainers, *pod.spec.containers])
        raise NotFoundError(f"no pod of the manifest has a container {container!r}", details=f"There is: {names}")
    return planned


def programs(
    pod: Pod, root: Root, images: Mapping[str, Mapping[str, Any]], beside: Sequence[ConfigMap | Secret] = ()
) -> Iterator[Planned]:
    """A pod's programs: the sandbox, then each container in the order of starting.

    Args:
        beside: the objects in the same manifests; of those of the pod's namespace its variables are made.
    """
    from nsrun import plan

    name = pod.metadata.name or ""
    sandbox = plan.SandboxInputs(
        shm_dir=f"{root.run}/pods/<uid>/shm",
        node=facts(),
        first_id=first_id(pod),
        pause_dir=f"{root.run}/pods/<uid>/pause",
        pause_file="<nsrun-pause>",
    )
    yield described(name, "", lambda: plan.sandbox_program(pod, sandbox))
    if pod.spec.shareProcessNamespace:
        yield described(name, "<pause>", lambda: plan.pause_program(sandbox))
    for container in [*pod.spec.initContainers, *pod.spec.containers]:
        config = image_config(str(container.image), images)
        yield described(
            name,
            container.name,
            lambda one=container, known=config: plan.container_program(
                pod, one, container_inputs(pod, one, root, known, object_values(pod, one, beside))
            ),
        )


def described(pod: str, container: str, make: Any) -> Planned:
    """A program as text, or why there is none."""
    from nsrun import plan
    from nsrun.plan.describe import describe

    try:
        program: Program = make()
    except plan.PlanError as problem:
        return Planned(pod, container, [], problem)
    return Planned(pod, container, describe(program), None)


def object_values(pod: Pod, container: Any, beside: Sequence[ConfigMap | Secret]) -> ObjectValues:
    """What the container's variables are made of: of objects in the manifests their values, but for those of Secrets."""
    from nsrun import plan, spec

    known = {(one.kind, one.metadata.name): one for one in beside if one.metadata.namespace == pod.metadata.namespace}
    values: dict[str, dict[str, dict[str, str]]] = {"ConfigMap": {}, "Secret": {}}
    for kind, name in plan.references(container):
        found = known.get((kind, name))
        if isinstance(found, spec.ConfigMap):
            values[kind][name] = found.data
        elif found is not None:
            values[kind][name] = {key: f"<{key} of secret {name}>" for key in found.data}
        else:
            refs = [ref for one in container.env if one.valueFrom is not None for ref in (key_of(one.valueFrom, kind),)]
            asked = {ref.key: f"<{ref.key} of {kind.lower()} {name}>" for ref in refs if ref and ref.name == name}
            many = [one.configMapRef if kind == "ConfigMap" else one.secretRef for one in container.envFrom]
            if any(ref is not None and ref.name == name for ref in many):
                asked[f"<keys of {kind.lower()} {name}>"] = "<values>"
            values[kind][name] = asked
    files: dict[str, str] = {}
    for one in plan.file_references(container):
        name = plan.file_name(one)
        files[name] = files.get(name, "") + f"{one.key}='<{one.key} of {one.path} in volume {one.volumeName}>'\n"
    return plan.ObjectValues(values["ConfigMap"], values["Secret"], files)


def key_of(source: EnvVarSource, kind: str) -> ConfigMapKeySelector | SecretKeySelector | None:
    """The key of an object of this kind that a variable's value comes from."""
    return source.configMapKeyRef if kind == "ConfigMap" else source.secretKeyRef


def container_inputs(
    pod: Pod, container: Any, root: Root, config: ImageConfig, objects: ObjectValues
) -> ContainerInputs:
    """What the server would have looked up, with names in angle brackets for what is not known yet."""
    from nsrun import plan

    directory = f"{root.run}/pods/<uid>"
    image = str(container.image)
    if image.split(":", maxsplit=1)[0] == plan.HOST_IMAGE:
        rootfs = plan.RootFs(lowers=("<skeleton of nsrun.local/host>",), binds=(plan.RootBind("/usr", "/usr"),))
    else:
        rootfs = plan.RootFs(lowers=(f"<root file system of {image}>",))
    return plan.ContainerInputs(
        rootfs=rootfs,
        image_config=config,
        user=plan.assumed_user(plan.user_spec(pod, container, config)),
        hostname=plan.pod_hostname(pod, os.uname().nodename),
        files_dir=f"{directory}/files",
        shm_dir=f"{directory}/shm",
        instance_dir=f"{root.lib}/roots/<uid>/<{container.name}>",
        node=facts(),
        pod_ips=("<address of the pod>",),
        host_ips=("<address of the machine>",),
        volumes=plan.volume_sources(pod, f"{root.lib}/volumes/<uid>", f"{directory}/volumes"),
        objects=objects,
        first_id=first_id(pod),
    )


def first_id(pod: Pod) -> int:
    """Where the ids of a pod with hostUsers: false begin: the first of those that pods have by default."""
    from nsrun.plan.ids import DEFAULT_FIRST

    return DEFAULT_FIRST if pod.spec.hostUsers is False else 0


def image_config(image: str, images: Mapping[str, Mapping[str, Any]]) -> ImageConfig:
    """The configuration of an image that is known, else an empty one."""
    from nsrun import plan

    if image.split(":", maxsplit=1)[0] == plan.HOST_IMAGE:
        return plan.HOST_IMAGE_CONFIG
    known = images.get(image) or images.get(f"{image}:latest") or {}
    return plan.ImageConfig(
        entrypoint=tuple(known.get("entrypoint") or ()),
        cmd=tuple(known.get("cmd") or ()),
        env=tuple(known.get("env") or ()),
        user=str(known.get("user") or ""),
        workdir=str(known.get("workdir") or ""),
        stop_signal=str(known.get("stop_signal") or ""),
    )


def facts() -> Any:
    """What programs depend on of this machine."""
    from nsrun import plan

    return plan.NodeFacts(
        name=os.uname().nodename,
        cpus=os.cpu_count() or 1,
        memory=os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"),
        cgroup2=os.path.exists("/sys/fs/cgroup/cgroup.controllers"),
    )


def fill_in(template: str, value: object) -> str:
    """kubectl's JSONPath template, filled in with what it finds in `value`; what is missing is left out.

    Raises:
        UsageError: the template cannot be read, or does not fit.
    """
    from nsrun.status.jsonpath import JsonPath

    return JsonPath(template).render(value)
