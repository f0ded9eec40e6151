"""What objects, and files in volumes, hold for containers: their variables, and the files of their volumes.

Nothing here says a value of a Secret to anybody but the container.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from nsrun.plan import (
    NO_VALUES,
    ObjectData,
    ObjectValues,
    Reference,
    ServiceAddress,
    ServicePort,
    file_name,
    file_references,
    references,
    service_variables,
    volume_source,
)
from nsrun.spec.model import ConfigMap, Container, Pod, Secret
from nsrun.volumes import read_file

if TYPE_CHECKING:
    from nsrun.server.world import World

DEFAULT_NAMESPACE = "default"
MAX_ENV_FILE = 1024 * 1024
"""Bytes of a file that variables are read from: a container wrote it."""

_LOG = logging.getLogger("nsrun.objects")


def values_for(world: World, pod: Pod, container: Container) -> ObjectValues:
    """What the objects, and files in volumes, hold now that the container's variables refer to.

    Raises:
        InternalError, OSError: one of them cannot be read.
    """
    wanted, files = references(container), _files(world, pod, container)
    namespace = pod.metadata.namespace or DEFAULT_NAMESPACE
    services = {} if pod.spec.enableServiceLinks is False else _services(world, namespace)
    if not wanted and files is None and not services:
        return NO_VALUES
    config_maps: dict[str, dict[str, str]] = {}
    secrets: dict[str, dict[str, str]] = {}
    for kind, name in wanted:
        found = world.objects.get(kind, namespace, name)
        if isinstance(found, ConfigMap):
            config_maps[name] = found.data
        elif isinstance(found, Secret):
            secrets[name] = {key: value.decode("utf-8", "surrogateescape") for key, value in found.data.items()}
    return ObjectValues(config_maps, secrets, files or {}, services)


def _services(world: World, namespace: str) -> dict[str, str]:
    """The variables that tell of the Services of a namespace. That of the API server is not among them: it answers elsewhere."""
    found = world.objects.all_of("Service", namespace)
    return service_variables(
        ServiceAddress(
            one.metadata.name,
            "" if one.spec.clusterIP in (None, "None") else one.spec.clusterIP,
            [ServicePort(port.name or "", port.port, port.protocol or "TCP") for port in one.spec.ports],
        )
        for one in found
        if (namespace, one.metadata.name) != ("default", "kubernetes")
    )


def _files(world: World, pod: Pod, container: Container) -> dict[str, str] | None:
    """What the files hold that variables are read from, without those that cannot be read; None if there are to be none."""
    wanted = file_references(container)
    if not wanted:
        return None
    paths = world.layout.pod(pod.metadata.uid or "")
    volumes = {volume.name: volume for volume in pod.spec.volumes}
    found: dict[str, str] = {}
    for one in wanted:
        volume = volumes.get(one.volumeName)
        source = None if volume is None else volume_source(volume, str(paths.disk_volumes), str(paths.memory_volumes))
        if source is None:
            continue
        try:
            data = read_file(Path(source.path), one.path, MAX_ENV_FILE)
        except OSError as error:
            _LOG.warning(
                "%s in the volume %s of pod %s cannot be read: %s", one.path, one.volumeName, pod.metadata.uid, error
            )
            continue
        found[file_name(one)] = data.decode("utf-8", "surrogateescape")
    return found


def values_of(world: World, pod: Pod, container: Container, uid: str, instance_id: str) -> ObjectValues:
    """What the objects held when an instance was made: its commands have its variables.

    Raises:
        InternalError, OSError: that cannot be read.
    """
    if not references(container) and not file_references(container) and not world.objects.any_of("Service"):
        return NO_VALUES
    kept = world.objects.kept_values(uid, instance_id)
    return values_for(world, pod, container) if kept is None else kept


def data_of(world: World, namespace: str, wanted: Iterable[Reference]) -> ObjectData:
    """What objects hold now, as files of volumes have it; those that do not exist are left out.

    Raises:
        InternalError, OSError: one of them cannot be read.
    """
    result: dict[Reference, dict[str, bytes]] = {}
    for reference in wanted:
        found = world.objects.get(reference.kind, namespace, reference.name)
        if isinstance(found, ConfigMap):
            texts = {key: value.encode("utf-8", "surrogatepass") for key, value in found.data.items()}
            result[reference] = found.binaryData | texts
        elif isinstance(found, Secret):
            result[reference] = found.data
    return result
