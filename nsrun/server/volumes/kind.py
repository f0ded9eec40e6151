"""What a kind of volume can do. All of it may be begun again after a SIGKILL at any point, and finds what it did before."""

from __future__ import annotations

from typing import TYPE_CHECKING

from nsrun.plan import VolumeSource, volume_source
from nsrun.spec.model import Volume

if TYPE_CHECKING:
    from nsrun.server.engine import PodEngine


class VolumeKind:
    """A kind of volume. One object serves all pods and remembers nothing of them."""

    refreshes = False
    """Whether `refresh` does anything."""

    async def prepare(self, engine: PodEngine, volume: Volume, /) -> None:
        """What set-up has to wait for, or may touch only in the server's loop. Called there, right before `set_up`.

        Raises:
            NsrunError, OSError: the volume cannot be had now.
        """

    def set_up(self, engine: PodEngine, volume: Volume, /) -> None:
        """Make the volume, unless it is there. Called in a thread, before each sandbox of the pod: it changes nothing of the engine.

        Raises:
            NsrunError: it cannot be made; the brief is told as it is, in the kubelet's words.
            OSError: neither.
        """

    def source(self, engine: PodEngine, volume: Volume, /) -> VolumeSource | None:
        """Where a volume that was set up lies; None if containers are to start without it. In the loop, and often: cheap.

        The server that asks need not be the one that set it up.
        """
        return volume_source(volume, str(engine.paths.disk_volumes), str(engine.paths.memory_volumes))

    def refresh(self, engine: PodEngine, volume: Volume, /) -> None:
        """Bring a volume up to date that was set up, because the pod or an object may be another one. In a thread, as `set_up`.

        Raises:
            PlanError: it cannot be, unless pod or objects change once more; it is as it was.
            NsrunError, OSError: it cannot be now; it is as it was, and it is tried again.
        """

    def tear_down(self, engine: PodEngine, volume: Volume, /) -> None:
        """Give back what is not below the pod's directories of volumes, which are unmounted and removed afterwards. In a thread.

        Not called for a pod of which nothing but directories is left: `World.collect` finds whatever else it had.

        Raises:
            NsrunError, OSError: it cannot be given back; it is tried again.
        """


def group_of(engine: PodEngine) -> int | None:
    """The pod's fsGroup."""
    context = engine.pod.spec.securityContext
    return context.fsGroup if context is not None else None
