"""The methods `volume.*`: the persistent volumes that there are, and their removal with what is in them."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Any

from nsrun.errors import ConflictError, NotFoundError, UsageError
from nsrun.plan.volumes import host_path
from nsrun.reconcile.binding import BOUND, STORAGE, capacity, class_of_volume, own
from nsrun.server.claims import CLAIM
from nsrun.spec.model import PersistentVolume, PersistentVolumeClaim
from nsrun.volumes import Usage, disk_usage

if TYPE_CHECKING:
    from nsrun.server.control import Method, Request
    from nsrun.server.world import World

MEASURING_S = 2.0
"""Seconds that a list's sizes may take together; of what was not seen until then there is a lower bound."""
DEFAULT_NAMESPACE = "default"


class VolumeMethods:
    """The methods of the protocol that are about volumes that outlive their pods.

    Args:
        world: what all pods share.
    """

    def __init__(self, world: World) -> None:
        self._world = world

    def methods(self) -> dict[str, Method]:
        """By their names in the protocol."""
        return {"volume.list": self._list, "volume.remove": self._remove}

    async def _list(self, request: Request) -> object:
        claims = self._world.claims
        found = [self._data(volume) for volume in claims.all_volumes()]
        if request.flag("sizes"):
            # Of directories of somebody else's nobody asked to read all.
            mine = [one for one in found if one["own"]]
            share = MEASURING_S / max(len(mine), 1)
            for one in mine:
                usage = await asyncio.to_thread(_measured, one["path"], share)
                one["used"], one["complete"] = usage.used, usage.complete
        waiting = []
        for claim in claims.all_claims():
            if claim.status.phase != BOUND:
                namespace, name = claim.metadata.namespace or DEFAULT_NAMESPACE, claim.metadata.name or ""
                reason = claims.reason(namespace, name)
                text = None if reason is None else reason[1]
                waiting.append({"namespace": namespace, "name": name, "phase": claim.status.phase, "message": text})
        return {"volumes": found, "claims": waiting}

    def _data(self, volume: PersistentVolume) -> dict[str, Any]:
        reference, spec = volume.spec.claimRef, volume.spec
        users: list[str] = []
        if reference is not None and volume.status.phase == BOUND:
            users = self._world.claims.users(reference.namespace or DEFAULT_NAMESPACE, reference.name or "")
        path = (
            spec.local.path
            if spec.local is not None
            else ""
            if spec.hostPath is None
            else host_path(spec.hostPath.path)
        )
        return {
            "name": volume.metadata.name,
            "kind": "local" if spec.local is not None else "hostPath",
            "own": own(volume),
            "path": path,
            "capacity": capacity(volume),
            "size": spec.capacity.get(STORAGE, ""),
            "access_modes": spec.accessModes,
            "reclaim_policy": spec.persistentVolumeReclaimPolicy,
            "storage_class": class_of_volume(volume),
            "status": volume.status.phase,
            "message": volume.status.message,
            "created": volume.metadata.creationTimestamp,
            "claim": None if reference is None else {"namespace": reference.namespace, "name": reference.name},
            "used_by": users,
            "used": None,
            "complete": True,
        }

    async def _remove(self, request: Request) -> object:
        """All are looked at before one is removed. A claim that is bound to one goes with it."""
        namespace, missing_ok = request.text("namespace", DEFAULT_NAMESPACE), request.flag("missing_ok")
        names = request.texts("names")
        if not names:
            raise UsageError("volume.remove: no volume was named")
        chosen: list[tuple[str, PersistentVolume | None, PersistentVolumeClaim | None]] = []
        for name in dict.fromkeys(names):
            volume, claim = self._find(namespace, name)
            if volume is None and claim is None:
                if missing_ok:
                    continue
                raise NotFoundError(
                    f"no such volume: {name}",
                    details=f"Neither a volume has this name, nor a claim in namespace {namespace}.",
                    resolution="nsrun volume ls lists all there are.",
                )
            if claim is not None:
                users = self._world.claims.users(claim.metadata.namespace or "", claim.metadata.name or "")
                if users:
                    raise ConflictError(
                        f"remove {name}: volume is in use - [{', '.join(users)}]",
                        resolution="Take those pods down first: nsrun pod down NAME",
                    )
            chosen.append((name, volume, claim))
        gone: list[dict[str, Any]] = []
        removing: list[asyncio.Task[None]] = []
        for name, volume, claim in chosen:
            if claim is not None:
                self._world.objects.delete(CLAIM, claim.metadata.namespace or "", claim.metadata.name or "")
            if volume is not None:
                task = self._world.claims.remove_volume(volume.metadata.name or "")
                if task is not None:
                    removing.append(task)
            gone.append({"name": name, "volume": None if volume is None else volume.metadata.name})
        for task in removing:
            await asyncio.shield(task)
        return {"volumes": gone}

    def _find(self, namespace: str, name: str) -> tuple[PersistentVolume | None, PersistentVolumeClaim | None]:
        """A volume by its own name, or by that of the claim that has it; with the claim, if that is still there."""
        claims = self._world.claims
        volume = claims.volume(name)
        if volume is None:
            claim = claims.claim(namespace, name)
            if claim is not None and claim.spec.volumeName:
                volume = claims.volume(claim.spec.volumeName)
                if volume is not None and not _of(volume, claim):
                    volume = None
            return volume, claim
        reference = volume.spec.claimRef
        claim = None if reference is None else claims.claim(reference.namespace or "", reference.name or "")
        return volume, claim if claim is not None and _of(volume, claim) else None


def _of(volume: PersistentVolume, claim: PersistentVolumeClaim) -> bool:
    return volume.spec.claimRef is not None and volume.spec.claimRef.uid == claim.metadata.uid


def _measured(path: str, time_s: float) -> Usage:
    try:
        deadline = time.monotonic() + time_s
        return disk_usage(path, lambda: time.monotonic() > deadline)
    except OSError:
        return Usage(complete=False)
