"""Which of AppArmor's profiles a pod wants (Kubernetes pkg/security/apparmor/helpers.go). Pure."""

from __future__ import annotations

from nsrun.spec.model import AppArmorProfile, Container, Pod

ANNOTATION = "container.apparmor.security.beta.kubernetes.io/"
"""Before the name of a container: the key of an annotation that was what is a field now."""
RUNTIME_DEFAULT, LOCALHOST, UNCONFINED = "RuntimeDefault", "Localhost", "Unconfined"
_OLD_DEFAULT, _OLD_LOCALHOST, _OLD_UNCONFINED = "runtime/default", "localhost/", "unconfined"


def profile_of(pod: Pod, container: Container) -> AppArmorProfile | None:
    """What a container is to have: its own word, that of its annotation, the pod's; None when nothing is said."""
    own, of_pod = container.securityContext, pod.spec.securityContext
    if own is not None and own.appArmorProfile is not None:
        return own.appArmorProfile
    old = _old(pod.metadata.annotations.get(ANNOTATION + container.name, ""))
    if old is not None:
        return old
    return of_pod.appArmorProfile if of_pod is not None else None


def is_required(pod: Pod) -> bool:
    """Whether the pod asks for a profile at all."""
    spec = pod.spec
    contexts = [one.securityContext for one in (*spec.initContainers, *spec.containers)]
    contexts += [one.securityContext for one in spec.ephemeralContainers]
    fields = [one.appArmorProfile for one in (spec.securityContext, *contexts) if one is not None]
    if any(profile is not None and profile.type != UNCONFINED for profile in fields):
        return True
    old = [_old(value) for key, value in pod.metadata.annotations.items() if key.startswith(ANNOTATION)]
    return any(profile is not None and profile.type != UNCONFINED for profile in old)


def _old(value: str) -> AppArmorProfile | None:
    if value == _OLD_UNCONFINED:
        return AppArmorProfile(type=UNCONFINED)
    if value == _OLD_DEFAULT:
        return AppArmorProfile(type=RUNTIME_DEFAULT)
    if value.startswith(_OLD_LOCALHOST) and value != _OLD_LOCALHOST:
        return AppArmorProfile(type=LOCALHOST, localhostProfile=value.removeprefix(_OLD_LOCALHOST))
    return None
