"""persistentVolumeClaim and ephemeral: the volume that a claim is bound to."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import TYPE_CHECKING

from nsrun.plan import VolumeSource
from nsrun.plan.volumes import host_path
from nsrun.reconcile.binding import own
from nsrun.reconcile.placement import claim_name, not_owned, owned_by
from nsrun.server.volumes.kind import VolumeKind, group_of
from nsrun.spec.model import PersistentVolume, Volume
from nsrun.volumes import VolumeError, check_host_path, check_local, check_own, give_to_group

if TYPE_CHECKING:
    from nsrun.server.engine import PodEngine

_LOG = logging.getLogger("nsrun.volumes")


class Claimed(VolumeKind):
    """Volumes that a claim stands for. That it is bound was seen to before the pod began (`server.claims.Placing`)."""

    def set_up(self, engine: PodEngine, volume: Volume, /) -> None:
        persistent = self._persistent(engine, volume)
        spec = persistent.spec
        if spec.hostPath is not None:
            check_host_path(host_path(spec.hostPath.path), spec.hostPath.type or "")
        elif spec.local is not None:
            (check_own if own(persistent) else check_local)(spec.local.path)
            self._give(engine, volume, Path(spec.local.path))

    def source(self, engine: PodEngine, volume: Volume, /) -> VolumeSource | None:
        spec = self._persistent(engine, volume).spec
        kind = "persistentVolumeClaim" if volume.persistentVolumeClaim is not None else "ephemeral"
        path = (
            spec.local.path
            if spec.local is not None
            else ""
            if spec.hostPath is None
            else host_path(spec.hostPath.path)
        )
        must_be = (
            "Directory" if spec.local is not None else (spec.hostPath.type or "") if spec.hostPath is not None else ""
        )
        return VolumeSource(path, kind, read_only=_read_only(volume), type=must_be)

    def _give(self, engine: PodEngine, volume: Volume, path: Path) -> None:
        """fsGroup, as a kubelet gives `local` volumes to it, and no hostPath; what cannot be given is told in the log alone, as there."""
        context, group = engine.pod.spec.securityContext, group_of(engine)
        if context is None or group is None or _read_only(volume):
            return
        error = give_to_group(path, group, on_root_mismatch=context.fsGroupChangePolicy == "OnRootMismatch")
        if error is not None:
            _LOG.warning("pod %s: volume %s: fsGroup %d: %s", engine.label, volume.name, group, error)

    def _persistent(self, engine: PodEngine, volume: Volume) -> PersistentVolume:
        """The volume behind the claim.

        Raises:
            VolumeError: claim or volume went since the pod began; in the kubelet's words (volumemanager/populator).
            InternalError, OSError: they cannot be read.
        """
        claims, name = engine.world.claims, claim_name(engine.pod, volume)
        which = f"error processing PVC {engine.namespace}/{name}"
        claim = claims.claim(engine.namespace, name)
        if claim is None:
            raise VolumeError(
                f'{which}: failed to fetch PVC from API server: persistentvolumeclaims "{name}" not found'
            )
        if volume.ephemeral is not None and not owned_by(engine.pod, claim):
            raise VolumeError(f"{which}: {not_owned(engine.pod, claim)}")
        found = claims.volume(claim.spec.volumeName) if claim.spec.volumeName else None
        if claim.status.phase != "Bound" or not claim.spec.volumeName:
            raise VolumeError(f"{which}: PVC is not bound")
        if found is None:
            text = f'failed to fetch PV {claim.spec.volumeName} from API server: persistentvolumes "{claim.spec.volumeName}" not found'
            raise VolumeError(f"{which}: {text}")
        return found


def _read_only(volume: Volume) -> bool:
    return volume.persistentVolumeClaim is not None and bool(volume.persistentVolumeClaim.readOnly)
