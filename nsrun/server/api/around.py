"""Objects of single kinds: what is done with them besides keeping them."""

from __future__ import annotations

import ipaddress
import logging
import time
import uuid
from typing import TYPE_CHECKING, Any

import msgspec

from nsrun.errors import NsrunError, brief_of
from nsrun.server.api.kept import KeptWrites
from nsrun.server.api.options import Deletion
from nsrun.spec import api_status
from nsrun.spec.kinds import SYSTEM_PRIORITIES, fill_in
from nsrun.spec.model import Event, ObjectMeta
from nsrun.spec.model_kinds import PriorityClass, Service, ServicePort, ServiceSpec
from nsrun.spec.resources_table import kept_kind
from nsrun.spec.services import give_address, give_node_ports, keep_address
from nsrun.status.times import rfc3339, seconds_of

if TYPE_CHECKING:
    from nsrun.server.pods import Registry
    from nsrun.server.world import World
    from nsrun.spec.incoming import Incoming
    from nsrun.state.objects import Kept

ADDRESSES = ipaddress.IPv4Network("10.96.0.0/12")
"""What Services have addresses of, as where kubeadm set a cluster up."""
API_ADDRESS = "10.96.0.1"
EVENTS_KEPT_S = 3600.0
"""An event is forgotten so long after it was told last (the API server's --event-ttl)."""

_LOG = logging.getLogger("nsrun.api")


def begin(world: World) -> None:
    """Have the objects there that every cluster has.

    Raises:
        StepError: one cannot be written.
    """
    for name, value in SYSTEM_PRIORITIES.items():
        made = PriorityClass(
            metadata=ObjectMeta(name=name),
            value=value,
            description="Used for system critical pods that must "
            + (
                "run in the cluster, but can be moved to another node if necessary."
                if "cluster" in name
                else "not be moved from their current node."
            ),
        )
        _put_first(world, made)
    labels = {"component": "apiserver", "provider": "kubernetes"}
    port = ServicePort(name="https", protocol="TCP", port=443, targetPort=6443)
    service = Service(metadata=ObjectMeta(name="kubernetes", namespace="default", labels=labels))
    service.spec = ServiceSpec(ports=[port], clusterIP=API_ADDRESS, clusterIPs=[API_ADDRESS])
    give_address(service, ADDRESSES, ())
    _put_first(world, service)


def _put_first(world: World, made: Any) -> None:
    """Keep an object unless there is one of its name."""
    metadata = made.metadata
    if world.objects.get(made.kind, metadata.namespace or "", metadata.name or "") is not None:
        return
    fill_in(made, kept_kind(made.kind))
    metadata.uid = str(uuid.uuid4())
    metadata.creationTimestamp = rfc3339(world.clock.now())
    metadata.resourceVersion = world.hub.next_version()
    world.objects.put(made)


class ServiceWrites(KeptWrites):
    """Services have addresses that no other has.

    Args:
        world: what all pods share.
    """

    def __init__(self, world: World) -> None:
        super().__init__(world, kept_kind("Service"))

    def _before(self, old: Any, new: Any) -> None:
        others = [
            one for one in self._world.objects.all_of("Service") if one.metadata.uid != new.metadata.uid or old is None
        ]
        if old is not None:
            keep_address(old, new)
        name = new.metadata.name or ""
        taken = {address for one in others for address in one.spec.clusterIPs}
        ports = {port.nodePort for one in others for port in one.spec.ports if port.nodePort}
        if not (give_address(new, ADDRESSES, taken) and give_node_ports(new, ports)):
            text = f'Internal error occurred: failed to allocate a serviceIP or a node port for "{name}": range is full'
            raise api_status.refusal(500, "InternalError", text)
        for index, address in enumerate(new.spec.clusterIPs):
            if address != "None" and address in taken:
                from nsrun.spec.field_errors import INVALID, FieldError

                detail = f"failed to allocate IP {address}: provided IP is already allocated"
                raise api_status.invalid(
                    "Service", name, [FieldError(f"spec.clusterIPs[{index}]", INVALID, detail, [address])]
                )


class EventWrites(KeptWrites):
    """Events of clients are kept; those of pods are the pods', and can be removed.

    Args:
        world: what all pods share.
        registry: all pods.
    """

    def __init__(self, world: World, registry: Registry) -> None:
        super().__init__(world, kept_kind("Event"))
        self._registry = registry

    async def delete(self, namespace: str, name: str, how: Deletion) -> tuple[Kept, bool]:
        """As of all kinds."""
        if self._get(namespace, name) is None:
            for engine in self._registry:
                if engine.namespace == namespace and (found := engine.published.event(name)) is not None:
                    if not how.dry_run:
                        engine.published.forget(name)
                    return found, True
        return await super().delete(namespace, name, how)

    async def update(self, incoming: Incoming, subresource: str, *, dry_run: bool) -> Kept:
        """As of all kinds; one of a pod becomes one that is kept."""
        metadata = incoming.metadata
        namespace, name = metadata.namespace or "default", metadata.name or ""
        if self._get(namespace, name) is None:
            for engine in self._registry:
                if engine.namespace == namespace and (found := engine.published.event(name)) is not None:
                    self.keep([found])
                    engine.published.forget(name, told=False)
                    break
        return await super().update(incoming, subresource, dry_run=dry_run)

    def keep(self, events: list[dict[str, Any]]) -> None:
        """Keep events of a pod that is gone, which are known to whoever listens."""
        store = self._world.objects
        teller, store.teller = store.teller, None
        try:
            for one in events:
                store.put(msgspec.convert(one, Event))
        except (NsrunError, OSError) as error:
            _LOG.warning("events of a pod that is gone are not kept: %s", brief_of(error))
        finally:
            store.teller = teller

    def expire(self) -> None:
        """Forget those that are old."""
        now = time.time()
        for one in self._world.objects.all_of("Event"):
            at = one.lastTimestamp or (one.series.lastObservedTime if one.series is not None else None)
            at = at or one.eventTime or one.firstTimestamp or one.metadata.creationTimestamp
            if at is None or now - seconds_of(at) > EVENTS_KEPT_S:
                self._world.objects.delete("Event", one.metadata.namespace or "", one.metadata.name or "")
