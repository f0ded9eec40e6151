"""This machine as a Node: what it is follows from the machine, what clients have said of it is kept.

Source: kubernetes pkg/kubelet/nodestatus/setters.go, pkg/kubelet/kubelet_node_status.go (v1.36).
"""

from __future__ import annotations

import asyncio
import logging
import os
import platform
import uuid
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import msgspec

from nsrun._version import __version__
from nsrun.errors import NsrunError
from nsrun.server.api.options import Deletion, same_version
from nsrun.spec import api_status
from nsrun.spec.incoming import Incoming, metadata_update
from nsrun.spec.kinds import check
from nsrun.spec.model import ObjectMeta, OwnerReference
from nsrun.spec.model_kinds import (
    ContainerImage,
    DaemonEndpoint,
    Lease,
    Node,
    NodeAddress,
    NodeCondition,
    NodeDaemonEndpoints,
    NodeFeatures,
    NodeRuntimeHandler,
    NodeRuntimeHandlerFeatures,
    NodeStatus,
    NodeSystemInfo,
)
from nsrun.spec.resources_table import kept_kind
from nsrun.status.times import rfc3339

if TYPE_CHECKING:
    from nsrun.images import Image
    from nsrun.server.world import World

NODE = kept_kind("Node")
KUBELET_VERSION = "v1.36.2"
"""Whose rules pods follow here; what follows tells that it is nsrun that does."""
PODS = 110
"""What a kubelet says of how many pods it takes; nobody counts here."""
IMAGES_MAX = 50
"""So many images are named, the largest first (the kubelet's nodeStatusMaxImages)."""
LOOK_S = 10.0
"""How often a look is taken at what changes by itself, while somebody watches (the kubelet's nodeStatusUpdateFrequency)."""
LEASE_S = 40
"""How long the machine is taken to be there after that was told last (the kubelet's nodeLeaseDurationSeconds)."""
_LEASES = "kube-node-lease"
_LOG = logging.getLogger("nsrun.node")
_PRESSURES = (
    ("MemoryPressure", "KubeletHasSufficientMemory", "kubelet has sufficient memory available"),
    ("DiskPressure", "KubeletHasNoDiskPressure", "kubelet has no disk pressure"),
    ("PIDPressure", "KubeletHasSufficientPID", "kubelet has sufficient PID available"),
)
_OWN = (*(one[0] for one in _PRESSURES), "Ready")
_STANDARD = ("cpu", "memory", "ephemeral-storage", "pods")


class Machine:
    """The one Node.

    Args:
        world: what all pods share.
    """

    def __init__(self, world: World) -> None:
        self._world = world
        self._name = world.node.name
        self._images: list[ContainerImage] = []
        self._told: Node | None = None
        self._task: asyncio.Task[None] | None = None

    def begin(self) -> None:
        """Have it there.

        Raises:
            StepError: it cannot be written.
        """
        if self._world.objects.get("Node", "", self._name) is None:
            labels = self._world.node_labels()
            metadata = ObjectMeta(name=self._name, uid=str(uuid.uuid4()), labels=labels)
            metadata.creationTimestamp = rfc3339(self._world.clock.now())
            metadata.resourceVersion = self._world.hub.next_version()
            self._world.objects.put(Node(metadata=metadata))

    def node(self) -> Node:
        """The Node as it is told of, with the version that it has then."""
        if self._told is None:
            self._told = self._view()
            # The server before this one may have told of others than the one that is kept.
            self._told.metadata.resourceVersion = self._world.hub.next_version()
        return self._told

    def watched(self, watched: bool) -> None:
        """Somebody looks, or nobody does any more."""
        if watched and self._task is None:
            self._task = asyncio.get_running_loop().create_task(self._follow(), name="node")
        elif not watched and self._task is not None:
            self._task.cancel()
            self._task = None

    async def _follow(self) -> None:
        while True:
            try:
                found = await asyncio.to_thread(self._world.images.list)
            except (NsrunError, OSError):
                found = []
            self._images = _images(found)
            self.look()
            self._renew()
            await asyncio.sleep(LOOK_S)

    def _renew(self) -> None:
        """Tell by the Lease that is named after it that the machine is there (kubelet pkg/kubelet/nodelease)."""
        store, now = self._world.objects, self._world.clock.now()
        found = store.get("Lease", _LEASES, self._name)
        lease = found if isinstance(found, Lease) else Lease()
        if not lease.metadata.uid:
            owner = OwnerReference(apiVersion="v1", kind="Node", name=self._name, uid=self.node().metadata.uid or "")
            lease.metadata = ObjectMeta(
                name=self._name,
                namespace=_LEASES,
                uid=str(uuid.uuid4()),
                creationTimestamp=rfc3339(now),
                ownerReferences=[owner],
            )
        moment = datetime.fromtimestamp(now, UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
        lease.spec.holderIdentity, lease.spec.leaseDurationSeconds, lease.spec.renewTime = self._name, LEASE_S, moment
        lease.metadata.resourceVersion = self._world.hub.next_version()
        try:
            store.put(lease)
        except NsrunError as error:
            _LOG.warning("the lease of the node: %s", error.brief)

    def look(self) -> None:
        """Tell of it if it is another one."""
        before = self.node()
        view = self._view()
        view.metadata.resourceVersion = before.metadata.resourceVersion
        if view == before:
            return
        view.metadata.resourceVersion = self._world.hub.next_version()
        self._told = view
        self._world.hub.feed.tell("MODIFIED", "Node", view)

    def changed(self) -> None:
        """What is kept of it is another one, of which nobody was told yet."""
        self._told = self._view()
        self._world.hub.feed.tell("MODIFIED", "Node", self._told)

    # writing

    async def create(self, incoming: Incoming, _namespace: str | None, *, dry_run: bool) -> Node:  # noqa: ARG002 - as of all kinds
        """There is one, and no other.

        Raises:
            StatusError: always.
        """
        name = incoming.metadata.name or ""
        if name == self._name:
            raise api_status.already_exists(NODE, name)
        raise api_status.not_supported(NODE, "create")

    async def update(self, incoming: Incoming, subresource: str, *, dry_run: bool) -> Node:
        """Keep what a client says: labels, annotations, taints and the like; with `status`, conditions and resources of its own.

        Raises:
            StatusError: it is refused.
            StepError: it cannot be written.
        """
        new: Node = incoming.object
        name = new.metadata.name or ""
        if name != self._name:
            raise api_status.not_found(NODE, name)
        old = self.node()
        if not same_version(new.metadata, old.metadata.resourceVersion or ""):
            raise api_status.conflict(NODE, name)
        errors = [*metadata_update(old.metadata, new.metadata), *check(new, NODE)]
        if errors:
            raise api_status.invalid("Node", name, errors)
        kept = self._kept()
        spec, status = (kept.spec, _foreign(new.status)) if subresource == "status" else (new.spec, kept.status)
        made = Node(metadata=new.metadata, spec=spec, status=status)
        # What the machine is stays so (the kubelet sets these labels again, too).
        made.metadata.labels = {**new.metadata.labels, **self._world.node_labels()}
        if dry_run:
            return self._shown(made)
        made.metadata.resourceVersion = self._world.hub.next_version()
        teller, self._world.objects.teller = self._world.objects.teller, None
        try:
            self._world.objects.put(made)
        finally:
            self._world.objects.teller = teller
        self.changed()
        # Pods may have waited for a label, or for a taint to go.
        self._world.claims.wake_waiting()
        return self.node()

    async def delete(self, _namespace: str, name: str, _how: Deletion) -> tuple[Any, bool]:
        """The machine stays.

        Raises:
            StatusError: always.
        """
        if name != self._name:
            raise api_status.not_found(NODE, name)
        raise api_status.forbidden(NODE, name, "it is the machine that nsrun runs on")

    # what it is

    def _kept(self) -> Node:
        found = self._world.objects.get("Node", "", self._name)
        return found if isinstance(found, Node) else Node(metadata=ObjectMeta(name=self._name))

    def _view(self) -> Node:
        return self._shown(self._kept())

    def _shown(self, kept: Node) -> Node:
        """What is kept, with what follows from the machine."""
        world = self._world
        created = kept.metadata.creationTimestamp or ""
        conditions = [
            NodeCondition(
                type=type_, status="False", reason=reason, message=message,
                lastHeartbeatTime=created, lastTransitionTime=created,
            )
            for type_, reason, message in _PRESSURES
        ]  # fmt: skip
        conditions.append(
            NodeCondition(
                type="Ready", status="True", reason="KubeletReady", message="nsrun is ready to run pods",
                lastHeartbeatTime=created, lastTransitionTime=created,
            )
        )  # fmt: skip
        amounts = world.capacity()
        own = {
            "cpu": f"{amounts.cpu // 1000}" if amounts.cpu % 1000 == 0 else f"{amounts.cpu}m",
            "memory": f"{amounts.memory // 1024}Ki",
            "ephemeral-storage": f"{world.node.ephemeral_storage // 1024}Ki",
            "pods": str(PODS),
            **{name: str(amount) for name, amount in sorted(amounts.huge_pages.items())},
        }
        status = NodeStatus(
            capacity={**kept.status.capacity, **own},
            allocatable={**kept.status.capacity, **kept.status.allocatable, **own},
            conditions=[*kept.status.conditions, *conditions],
            addresses=[
                *(NodeAddress(type="InternalIP", address=ip) for ip in world.host_ips()),
                NodeAddress(type="Hostname", address=self._name),
            ],
            daemonEndpoints=NodeDaemonEndpoints(kubeletEndpoint=DaemonEndpoint(Port=0)),
            nodeInfo=_system(),
            images=self._images,
            runtimeHandlers=[
                NodeRuntimeHandler(
                    name=name, features=NodeRuntimeHandlerFeatures(recursiveReadOnlyMounts=True, userNamespaces=True)
                )
                for name in ("", "runc")
            ],
            features=NodeFeatures(supplementalGroupsPolicy=True),
        )
        return msgspec.structs.replace(kept, metadata=msgspec.structs.replace(kept.metadata), status=status)


def _foreign(status: NodeStatus) -> NodeStatus:
    """What clients may say of a node's status: conditions and resources that are none of the machine's."""

    def others(amounts: dict[str, str]) -> dict[str, str]:
        return {
            name: amount
            for name, amount in amounts.items()
            if name not in _STANDARD and not name.startswith("hugepages-")
        }

    return NodeStatus(
        capacity=others(status.capacity),
        allocatable=others(status.allocatable),
        conditions=[one for one in status.conditions if one.type not in _OWN],
    )


def _images(found: list[Image]) -> list[ContainerImage]:
    by_id: dict[str, ContainerImage] = {}
    for one in found:
        known = by_id.setdefault(one.id, ContainerImage(sizeBytes=one.size))
        if one.name:
            known.names = sorted([*known.names, one.name])
    return sorted(by_id.values(), key=lambda one: (-(one.sizeBytes or 0), one.names))[:IMAGES_MAX]


def _system() -> NodeSystemInfo:
    machine = _line("/etc/machine-id")
    arch = {"x86_64": "amd64", "aarch64": "arm64"}.get(os.uname().machine, os.uname().machine)
    return NodeSystemInfo(
        machineID=machine,
        systemUUID=_line("/sys/class/dmi/id/product_uuid") or machine,
        bootID=_line("/proc/sys/kernel/random/boot_id"),
        kernelVersion=os.uname().release,
        osImage=_os_image(),
        containerRuntimeVersion=f"nsrun://{__version__}",
        kubeletVersion=f"{KUBELET_VERSION}+nsrun",
        kubeProxyVersion="",
        operatingSystem="linux",
        architecture=arch,
    )


def _os_image() -> str:
    try:
        return platform.freedesktop_os_release().get("PRETTY_NAME", "Linux")
    except OSError:
        return "Linux"


def _line(path: str) -> str:
    try:
        with open(path, encoding="ascii", errors="replace") as file:
            return file.readline().strip()
    except OSError:
        return ""
