"""What may be removed of claims and volumes, and what is in the way."""

from __future__ import annotations

from collections.abc import Collection
from typing import TYPE_CHECKING

from nsrun.errors import ConflictError
from nsrun.reconcile.binding import own
from nsrun.server.claims import CLAIM, VOLUME

if TYPE_CHECKING:
    from nsrun.server.world import World

Key = tuple[str, str, str]
"""Kind, namespace and name."""


def refuse_removal(world: World, keys: Collection[Key]) -> None:
    """Raise if one of these objects is in use. A cluster would let it wait for its end (pvc-protection, pv-protection): nobody waits here.

    Raises:
        ConflictError: a pod uses the claim; a claim that is to stay is bound to the volume; it is one of nsrun's own.
    """
    for kind, namespace, name in keys:
        if kind == CLAIM:
            users = world.claims.users(namespace, name)
            if users:
                raise ConflictError(
                    f'persistentvolumeclaim "{name}" is in use by {_these(users)}',
                    resolution="Take those pods down first: nsrun pod down NAME",
                )
        elif kind == VOLUME:
            _refuse_volume(world, name, keys)


def _refuse_volume(world: World, name: str, keys: Collection[Key]) -> None:
    volume = world.claims.volume(name)
    if volume is None:
        return
    if own(volume):
        raise ConflictError(
            f'persistentvolume "{name}" is a directory of nsrun\'s own, which would be left behind',
            resolution=f"nsrun volume rm {name} removes it with what is in it.",
        )
    reference = volume.spec.claimRef
    if reference is None or not reference.uid:
        return
    claim = world.claims.claim(reference.namespace or "", reference.name or "")
    if claim is None or claim.metadata.uid != reference.uid:
        return
    if (CLAIM, reference.namespace, reference.name) not in keys:
        raise ConflictError(
            f'persistentvolume "{name}" is bound to the claim {reference.namespace}/{reference.name}',
            resolution=f"Remove that first: nsrun object rm pvc {reference.name} -n {reference.namespace}",
        )


def _these(labels: list[str]) -> str:
    return ", ".join(f"pod {label}" for label in labels)
