"""What all pods of a server share: the machine's facts, images, network, cgroups, and how inputs of a plan are gathered."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import re
import secrets
from collections.abc import Callable, Collection, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from nsrun import native
from nsrun.cgroups import Cgroups, available, choose_base, detect, older_bases
from nsrun.errors import NsrunError
from nsrun.images import ImageStore
from nsrun.images.settings import ImageSettings
from nsrun.network import NetworkConfig, Networks
from nsrun.plan import NodeFacts, SandboxInputs, Slot
from nsrun.plan.ids import range_of
from nsrun.plan.resources import HUGE_PAGES
from nsrun.probes import Wires
from nsrun.reconcile.admission import Amounts, Facts, HostPort, host_ports, requests_of
from nsrun.reconcile.scheduling import Candidate, NodeTaint
from nsrun.security import (
    LOCALHOST,
    AppArmorProfiles,
    apparmor_enabled,
    host_devices,
    huge_page_name,
    huge_pages,
    machine,
    seccomp_filter,
)
from nsrun.server import logdir
from nsrun.server.claims import Claims
from nsrun.server.clock import Clock
from nsrun.server.config import allowed_sysctls, pids_limit, read_config, storage_classes
from nsrun.server.dns_settings import DnsSettings
from nsrun.server.imagegc import ImageCollector
from nsrun.server.logpolicy import log_policy
from nsrun.server.names import Names
from nsrun.server.namespaces import Namespaces
from nsrun.server.pulls import Pulls
from nsrun.server.watch import Hub
from nsrun.spec.model import Pod
from nsrun.state.files import remove_tree, write_atomic
from nsrun.state.ids import OF_THE_MACHINE, IdLeases
from nsrun.state.layout import Layout, PodPaths
from nsrun.state.objects import ObjectStore
from nsrun.state.versions import begin_versions
from nsrun.volumes import remove_volumes

PATIENCE_S = 10.0
"""How long killed processes have to go before a cgroup that they keep busy is an error."""
COLLECT_AFTER_S = 2.0
"""After the last pod that went, leftovers are looked for once."""

_FILTER = "seccomp"
"""File in an instance's directory: its filter, where its profile was a file."""
_SET_ASIDE = ".gone-"
"""Prefix of root file systems that are being removed."""
_LOG = logging.getLogger("nsrun.world")


class World:
    """The shared things of one server.

    Args:
        layout: the server's directories.
        clock: the time.

    Raises:
        SpecError: the configuration cannot be read.
    """

    def __init__(self, layout: Layout, clock: Clock) -> None:
        self.layout = layout
        self.clock = clock
        self.began_at = clock.now()
        self.hub = Hub(begin_versions(layout.versions, clock.now()))
        self.wires = Wires()
        settings = read_config(layout)
        self.log_policy = log_policy(settings)
        self.metrics: Any = settings.get("metrics")
        """`[metrics]` of the configuration."""
        self.image_settings = ImageSettings.of(settings.get("images"))
        self.images = ImageStore(layout.lib)
        self.objects = ObjectStore(layout)
        self.claims = Claims(self, storage_classes(settings))
        self.namespaces = Namespaces(self)
        self.pulls = Pulls(self)
        self.image_collector = ImageCollector(self)
        tree = detect()
        base = choose_base(tree, layout.base, layout.run)
        self.cgroups = Cgroups(base, tree, older_bases(base, tree, layout.run))
        networks = NetworkConfig.all_for_root(layout.base, settings.get("network"))
        self.networks = Networks(networks, layout.base, layout.lib)
        self.ids = IdLeases(
            layout.run / "ids", range_of(settings.get("userNamespaces")), layout.base, claims=OF_THE_MACHINE
        )
        self.node = machine(
            name=os.uname().nodename.lower(),
            cgroup2=tree.kind == "v2" and tree.mount is not None,
            storage=str(layout.run),
        )
        controllers = available(tree, self.cgroups.controllers.legacy)
        self.dns = DnsSettings.of(settings.get("dns"))
        self.names = Names(self, self.dns)
        self.node = replace(
            self.node,
            domain=self.dns.domain,
            pids_limit=pids_limit(settings),
            # Without the controller nobody could be kept from them; a pod that asks for some is told.
            huge_pages=tuple(huge_pages()) if HUGE_PAGES in controllers else (),
        )
        self.broken: set[str] = set()
        """uids whose directories could not be read: nothing of theirs is collected."""
        self.alive: Callable[[], Collection[str]] = set
        """Gives the uids of all pods; the registry sets it."""
        self.images_in_use: Callable[[], Mapping[str, list[str]]] = dict
        """Gives the ids of images that containers are made of, with the pods' names; the registry sets it."""
        self.ports_besides: Callable[[str], frozenset[HostPort]] = lambda _uid: frozenset()
        """Gives the machine's ports that the pods besides one have; the registry sets it."""
        self.requests_besides: Callable[[str], Amounts] = lambda _uid: Amounts()
        """Gives what the pods besides one have requested together; the registry sets it."""
        self.room_made: Callable[[], None] = lambda: None
        """Called when a pod needs less of the machine than before; the registry sets it."""
        self._kernel = _version(os.uname().release)
        self._sysctls = allowed_sysctls(settings)
        self._apparmor = apparmor_enabled()
        self.apparmor = AppArmorProfiles()
        self._selinux = os.path.exists("/sys/fs/selinux/enforce")
        self._filters: dict[Slot | bytes, int] = {}
        self._collect_lock = asyncio.Lock()
        self._collecting: asyncio.TimerHandle | None = None
        self._tasks: set[asyncio.Task[None]] = set()

    def host_ips(self, pod_uid: str = "") -> tuple[str, ...]:
        """The addresses that pods, or one of them, reach this machine by, at most one of each family: the bridge's, or loopback's."""
        return self.networks.gateways(pod_uid) or ("127.0.0.1",)

    def facts_for(self, pod: Pod, uid: str) -> Facts:
        """What admitting a pod depends on besides it (S-ADMIT)."""
        ports = self.ports_besides(uid) if host_ports(pod) else frozenset()
        wants = requests_of(pod) != Amounts()
        used = self.requests_besides(uid) if wants else Amounts()
        return Facts(
            kernel=self._kernel,
            allowed_sysctls=self._sysctls,
            ports=ports,
            capacity=self.capacity() if wants else Amounts(),
            used=used,
            selinux=self._selinux,
            apparmor=self._apparmor,
        )

    def node_labels(self) -> dict[str, str]:
        """The labels that this machine has as a node."""
        names = {"x86_64": "amd64", "aarch64": "arm64"}
        arch = os.uname().machine
        return {
            "kubernetes.io/hostname": self.node.name,
            "kubernetes.io/os": "linux",
            "kubernetes.io/arch": names.get(arch, arch),
        }

    def candidate(self) -> Candidate:
        """This machine as a scheduler looks at it: with what clients of the Kubernetes API have said of it."""
        node = self.objects.get("Node", "", self.node.name)
        if node is None:
            return Candidate(self.node.name, self.node_labels())
        taints = [NodeTaint(one.key, one.value or "", one.effect) for one in node.spec.taints]
        labels = {**node.metadata.labels, **self.node_labels()}
        return Candidate(self.node.name, labels, taints, bool(node.spec.unschedulable))

    def capacity(self) -> Amounts:
        """What pods can request of this machine; what is set aside for huge pages is no memory for others."""
        pages = huge_pages()
        memory = max(self.node.memory - sum(pages.values()), 0)
        return Amounts(self.node.cpus * 1000, memory, {huge_page_name(size): amount for size, amount in pages.items()})

    def host_files(self) -> tuple[str, str]:
        """This machine's hosts and resolv.conf, which pods' are made from.

        Where resolv.conf names a resolver on loopback (systemd-resolved's stub), the file with the real ones is taken:
        the machine's loopback is not the pod's.
        """
        resolv = _text(self.dns.resolv_conf)
        servers = [
            line.split()[1] for line in resolv.splitlines() if line.startswith("nameserver ") and line.split()[1:]
        ]
        if servers and all(server.startswith("127.") or server == "::1" for server in servers):
            resolv = _text("/run/systemd/resolve/resolv.conf") or resolv
        return _text("/etc/hosts"), resolv

    def sandbox_inputs(self, pod: Pod, uid: str, paths: PodPaths) -> SandboxInputs:
        """What the plan of a sandbox needs to know beside the pod. A pod with hostUsers: false has ids of its own from here on.

        Raises:
            NsrunError: there are none for it.
        """
        first = self.ids.take(uid) if pod.spec.hostUsers is False else 0
        return SandboxInputs(
            shm_dir=str(paths.shm),
            node=self.node,
            first_id=first,
            pause_dir=str(paths.pause),
            pause_file=native.pause_path(),
        )

    def node_for(self, *, privileged: bool) -> NodeFacts:
        """The machine as a plan is to see it: with its devices, looked up anew, for a privileged container."""
        return replace(self.node, devices=host_devices()) if privileged else self.node

    def descriptor(self, slot: Slot, directory: Path) -> int:
        """The descriptor that a program names by this slot; it stays this object's and is made once.

        Args:
            directory: of the instance. The filter of a profile from a file is kept there: what enters the container later is to
                have the filter of its first process, whatever has become of the file.

        Raises:
            NsrunError: no such thing can be made here.
            OSError: the directory cannot be written to.
        """
        if slot.kind != "seccomp":
            raise NsrunError(f"a program asks for a descriptor of the unknown kind {slot.kind!r}")
        key: Slot | bytes = slot
        if slot.profile.startswith(LOCALHOST):
            key = self._kept_filter(slot, directory / _FILTER)
        fd = self._filters.get(key)
        if fd is None:
            fd = native.memfd(key if isinstance(key, bytes) else self._filter(slot), "nsrun-seccomp")
            self._filters[key] = fd
        return fd

    def _filter(self, slot: Slot) -> bytes:
        cache, profiles = self.layout.lib / "seccomp", self.layout.seccomp
        return seccomp_filter(slot.profile, slot.capabilities, cache=cache, profiles=profiles)

    def _kept_filter(self, slot: Slot, path: Path) -> bytes:
        try:
            return path.read_bytes()
        except FileNotFoundError:
            found = self._filter(slot)
            write_atomic(path, found)
            return found

    # leftovers

    def collect_soon(self) -> None:
        """Look for leftovers in a while; asked again meanwhile, later."""
        if self._collecting is not None:
            self._collecting.cancel()
        loop = asyncio.get_running_loop()
        self._collecting = loop.call_later(COLLECT_AFTER_S, self._collect_now)

    def _collect_now(self) -> None:
        self._collecting = None
        task = asyncio.get_running_loop().create_task(self.collect())
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def collect(self) -> None:
        """Remove what belongs to no pod: what servers and shims that were killed left behind. Safe at any time.

        A pod is a directory with a wish in it. Whatever else carries a pod's uid belongs to one that is gone.
        """
        async with self._collect_lock:
            await self._collect()

    async def _collect(self) -> None:
        from nsrun.server.sandbox import end_unreachable

        end_unreachable(self.layout.pods)
        await self.sweep()
        alive = self._alive()
        for name in _listed(self.layout.pod_logs):
            if name.rpartition("_")[2] not in alive and self.layout.own_logs(self.layout.pod_logs / name):
                self._try(
                    "remove the logs", name, lambda name=name: logdir.remove(self.layout, self.layout.pod_logs / name)
                )
        # After a reboot there are such directories of pods of which run/ knows nothing any more.
        for uid in _listed(self.layout.roots):
            if uid not in alive and not uid.startswith(_SET_ASIDE):
                self._try("set aside the root file systems", uid, lambda uid=uid: self.set_roots_aside(uid))
        for name in _listed(self.layout.roots):
            if name.startswith(_SET_ASIDE):
                try:
                    await asyncio.to_thread(remove_tree, self.layout.roots / name)
                except OSError as error:
                    _LOG.warning("remove the root file systems %s: %s", name, error)
        for uid in _listed(self.layout.volumes):
            if uid not in alive and not self.layout.pod(uid).directory.exists():
                try:
                    await asyncio.to_thread(remove_volumes, [self.layout.pod(uid).disk_volumes], remove_tree)
                except OSError as error:
                    _LOG.warning("remove the volumes of %s: %s", uid, error)
        # Looked up anew: that took a while.
        alive = self._alive()
        for uid in self.objects.pods_with_values():
            if uid not in alive:
                self._try("forget the values of", uid, lambda uid=uid: self.objects.drop_values(uid))
        self._try("collect claims", "", self.claims.collect)
        self._try("collect ids", "", lambda: self.ids.collect(self._alive()))
        self._try("collect cgroups", "", lambda: self.cgroups.collect(self._alive()))
        try:
            await asyncio.to_thread(self.images.collect, self.images_in_use())
        except NsrunError as error:
            _LOG.warning("collect images: %s", error)
        try:
            await self.names.collect()
        except OSError as error:
            _LOG.warning("end the resolver: %s", error)
        try:
            for gone in await self.networks.collect(self._alive()):
                _LOG.info("collected %s", gone)
        except NsrunError as error:
            _LOG.warning("collect the network: %s", error)

    def set_roots_aside(self, uid: str) -> None:
        """Have what a pod that is gone left of its root file systems out of the way; `collect` removes it.

        That takes long, so it is done in a thread, and meanwhile there may be a pod of that uid again (a static one's follows
        from its file).

        Raises:
            OSError: it cannot be renamed.
        """
        with contextlib.suppress(FileNotFoundError):
            os.rename(self.layout.roots / uid, self.layout.roots / f"{_SET_ASIDE}{secrets.token_hex(4)}")

    async def sweep(self) -> None:
        """Remove directories of pods that have no wish: half-made, or half-removed."""
        alive = self._alive()
        for uid in self._directories():
            if uid not in alive:
                await self._sweep(uid)

    def pods_there(self) -> set[str]:
        """The uids of all pods, those that could not be read included."""
        return self._alive()

    def _alive(self) -> set[str]:
        broken = {uid for uid in self.broken if self.layout.pod(uid).wish.exists()}
        return set(self.alive()) | broken

    def _directories(self) -> list[str]:
        return _listed(self.layout.pods)

    async def _sweep(self, uid: str) -> None:
        """A pod directory without a wish: half-made or half-removed."""
        from nsrun.server.sandbox import end_shim

        paths = self.layout.pod(uid)
        if paths.wish.exists():
            return
        _LOG.info("collecting the remains of pod %s", uid)
        try:
            await end_shim(paths, uid)
            await self.remove_cgroup(uid)
            await asyncio.to_thread(remove_volumes, [paths.memory_volumes, paths.disk_volumes], remove_tree)
            remove_tree(paths.directory)
        except (NsrunError, OSError) as error:
            _LOG.warning("collect the remains of pod %s: %s", uid, error)

    async def remove_cgroup(self, uid: str, instance_id: str | None = None) -> None:
        """Kill what still runs in the cgroup of a pod or of one container, and remove it.

        In a thread when it is not empty already: what was killed may take a while to go.
        """
        try:
            self._remove_cgroup(uid, instance_id, 0.0)
        except NsrunError:
            await asyncio.to_thread(self._remove_cgroup, uid, instance_id, PATIENCE_S)

    def _remove_cgroup(self, uid: str, instance_id: str | None, patience_s: float) -> None:
        if instance_id is None:
            self.cgroups.remove_pod(uid, patience=patience_s)
        else:
            self.cgroups.remove_container(uid, instance_id, patience=patience_s)

    def cgroup_status(self) -> dict[str, Any]:
        """What `nsrun server status` shows of cgroups."""
        tree = self.cgroups.layout
        return {
            "kind": tree.kind,
            "base": None if self.cgroups.base is None else str(self.cgroups.base),
            "reason": tree.reason,
            "controllers": sorted(available(tree, self.cgroups.controllers.legacy)),
        }

    def _try(self, what: str, subject: str, work: Any) -> None:
        try:
            work()
        except (NsrunError, OSError) as error:
            _LOG.warning("%s %s: %s", what, subject, error)

    async def close(self) -> None:
        """Give descriptors and threads back. Pods and what they need stay; what the last one left goes now, not in a while."""
        if self._collecting is not None:
            self._collecting.cancel()
            await self.collect()
        if self._tasks:
            await asyncio.wait(self._tasks)
        for fd in self._filters.values():
            os.close(fd)
        self._filters.clear()
        self.wires.close()
        await self.image_collector.close()
        await self.claims.close()
        await self.pulls.close()
        await self.names.close()
        await self.networks.close()
        try:
            await asyncio.to_thread(self.cgroups.close)
        except (NsrunError, OSError) as error:
            _LOG.warning("give cgroups back: %s", error)


def _version(release: str) -> tuple[int, int]:
    """(6, 18) of `6.18.5-generic`."""
    found = re.match(r"(\d+)\.(\d+)", release)
    return (int(found[1]), int(found[2])) if found else (0, 0)


def _listed(directory: Path) -> list[str]:
    try:
        return sorted(os.listdir(directory))
    except FileNotFoundError:
        return []


def _text(path: str) -> str:
    try:
        return Path(path).read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
