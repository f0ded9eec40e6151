"""Whether a container that ended gets another instance (S-RESTART).

Source: kubelet pkg/api/v1/pod/util.go ContainerShouldRestart, pkg/kubelet/container/helpers.go
ShouldContainerBeRestarted, kuberuntime_manager.go computePodActions (a container that the kubelet itself killed).
"""

from __future__ import annotations

from nsrun.spec.model import Container, Pod

ALWAYS, NEVER = "Always", "Never"
RESTART, RESTART_ALL = "Restart", "RestartAllContainers"


def is_sidecar(container: Container) -> bool:
    """Whether an init container is a native sidecar (S-SIDECAR)."""
    return container.restartPolicy == ALWAYS


def policy_of(pod: Pod, container: Container) -> str:
    """The container's own restart policy, or else the pod's."""
    return container.restartPolicy or pod.spec.restartPolicy or ALWAYS


def rule_action(container: Container, exit_code: int) -> str | None:
    """What the first rule that matches `exit_code` asks for: Restart, RestartAllContainers; None when there is none."""
    for rule in container.restartPolicyRules:
        codes = rule.exitCodes
        if codes is not None and (exit_code in codes.values) == (codes.operator == "In"):
            return rule.action
    return None


def should_restart(pod: Pod, container: Container, exit_code: int, *, by_itself: bool = True) -> bool:
    """Whether the policy wants another instance after an exit with `exit_code` (S-RESTART).

    `by_itself` is False when it did not exit but was lost; then rules on exit codes do not count.
    """
    if (
        container.restartPolicy is not None
        and by_itself
        and rule_action(container, exit_code) in (RESTART, RESTART_ALL)
    ):
        return True
    policy = policy_of(pod, container)
    return policy == ALWAYS or (policy != NEVER and exit_code != 0)


def restarts_all(container: Container, exit_code: int) -> bool:
    """Whether all containers of the pod are started anew after an exit with `exit_code` (S-RESTARTALL)."""
    return container.restartPolicy is not None and rule_action(container, exit_code) == RESTART_ALL


def restarts_after_kill(pod: Pod, container: Container) -> bool:
    """Whether a container that is killed for a failed probe is started again: how it takes its end does not matter."""
    return policy_of(pod, container) != NEVER
