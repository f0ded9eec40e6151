"""The containers of a pod, whichever list they stand in."""

from __future__ import annotations

from nsrun.spec.model import Container, EphemeralContainer, Pod


def as_container(ephemeral: EphemeralContainer) -> Container:
    """An ephemeral container as the container that it is, but for the one whose processes it sees."""
    return Container(**{name: getattr(ephemeral, name) for name in Container.__struct_fields__})


def target_of(pod: Pod, name: str) -> str:
    """The container whose processes container `name` is to see; "" for its own (S-NS)."""
    return next((one.targetContainerName or "" for one in pod.spec.ephemeralContainers if one.name == name), "")


def container_of(pod: Pod, name: str) -> Container:
    """The container of this name.

    Raises:
        StopIteration: there is none.
    """
    for one in (*pod.spec.containers, *pod.spec.initContainers):
        if one.name == name:
            return one
    return as_container(next(one for one in pod.spec.ephemeralContainers if one.name == name))
