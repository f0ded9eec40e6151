"""The runtimes that pods can ask for by a RuntimeClass: nsrun itself, under the names that stand for a plain one."""

from __future__ import annotations

from typing import TYPE_CHECKING

from nsrun.plan import PlanError

if TYPE_CHECKING:
    from nsrun.server.world import World
    from nsrun.spec.model import Pod

HANDLERS = ("", "nsrun", "runc")
"""What a RuntimeClass may name as its handler."""
_REASON = "FailedCreatePodSandBox"


def check(world: World, pod: Pod) -> None:
    """Raise unless the pod's runtime is here (kubelet pkg/kubelet/runtimeclass, containerd internal/cri/config).

    Raises:
        PlanError: there is no such class, or nothing here goes by the name of its handler.
    """
    name = pod.spec.runtimeClassName
    if not name:
        return
    found = world.objects.get("RuntimeClass", "", name)
    if found is None:
        raise PlanError(_REASON, f'failed to get sandbox runtime: RuntimeClass "{name}" not found')
    if found.handler not in HANDLERS:
        raise PlanError(_REASON, f'failed to get sandbox runtime: no runtime for "{found.handler}" is configured')
