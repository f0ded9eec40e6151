"""The Secrets that a pod names for its images (`imagePullSecrets`), and what it may use by them.

Source: kubelet pkg/kubelet/kubelet_pods.go (getPullSecretsForPod), pkg/kubelet/images/image_manager.go (EnsureImageExists).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from nsrun.errors import NsrunError, SpecError
from nsrun.images import ImageError, parse_name
from nsrun.images.keyring import PullCredential, keyring, lookup
from nsrun.server.objects import DEFAULT_NAMESPACE
from nsrun.spec.model import Secret
from nsrun.status.events import FAILED_TO_RETRIEVE_IMAGE_PULL_SECRET, WARNING
from nsrun.waiting import ERR_IMAGE_PULL

if TYPE_CHECKING:
    from nsrun.server.engine import PodEngine


def credentials_for(engine: PodEngine, image: str) -> tuple[PullCredential, ...]:
    """What a pod has for an image out of its Secrets, the most exact first. Those that are not there are told of, and done without.

    Raises:
        ImageError: a Secret of such a type holds something else.
    """
    secrets = _secrets(engine)
    if not secrets:
        return ()
    full = engine.world.image_settings.full(parse_name(image))
    try:
        return tuple(lookup(keyring(secrets), full.domain, full.path))
    except SpecError as error:
        raise ImageError(ERR_IMAGE_PULL, error.brief, code=error.code) from error


def _secrets(engine: PodEngine) -> list[Secret]:
    found: list[Secret] = []
    missing: list[str] = []
    for reference in engine.pod.spec.imagePullSecrets:
        if not reference.name:
            continue
        try:
            secret = engine.world.objects.get("Secret", engine.namespace or DEFAULT_NAMESPACE, reference.name)
        except (NsrunError, OSError):
            secret = None
        if isinstance(secret, Secret):
            found.append(secret)
        else:
            missing.append(reference.name)
    if missing:
        engine.note(
            WARNING,
            FAILED_TO_RETRIEVE_IMAGE_PULL_SECRET,
            f"Unable to retrieve some image pull secrets ({', '.join(missing)}); attempting to pull the image may not succeed.",
        )
    return found
