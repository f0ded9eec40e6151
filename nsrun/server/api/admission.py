"""What is filled into pods from the objects that are kept."""

from __future__ import annotations

from typing import TYPE_CHECKING

from nsrun.spec import admitted

if TYPE_CHECKING:
    from nsrun.server.world import World
    from nsrun.spec.model import Pod


def admit(world: World, pod: Pod) -> None:
    """Fill in the pod's account, priority, and what its runtime class has for it.

    Raises:
        StatusError: it names something that is not there.
    """
    store = world.objects
    named = pod.spec.serviceAccountName or pod.spec.serviceAccount or ""
    found = store.get("ServiceAccount", pod.metadata.namespace or "", named) if named else None
    admitted.service_account(pod, () if found is None else (named,))
    admitted.limit_ranges(pod, store.all_of("LimitRange", pod.metadata.namespace or ""))
    admitted.priority(pod, store.all_of("PriorityClass"))
    wanted = pod.spec.runtimeClassName
    admitted.runtime_class(pod, store.get("RuntimeClass", "", wanted) if wanted else None)
