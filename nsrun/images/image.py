"""An image that is there, and what its instances need on disk."""

from __future__ import annotations

import os
import signal
import stat
from dataclasses import dataclass

from nsrun.errors import StepError
from nsrun.plan.image import ImageConfig, ImageUser, RootFs

# Whoever brings an image does not ask it anything: what answers comes in with the first question.


@dataclass(frozen=True, slots=True)
class Image:
    """An image that is here.

    Attributes:
        name: normalised; "" for one that has lost its name.
        id: `sha256:` and 64 digits: the digest of its config, as docker and podman have it.
        rootfs: what its containers' root file systems are made of.
        config: what it says about its processes.
        size: bytes of the files of its layers.
        created: seconds since the epoch.
        digest: of its manifest; "" for the built-in one.
        origin: `pull`, `load`, `import` or `host`.
        source: `domain/path@digest` that it was pulled by, or "".
        added: seconds since the epoch: when it came.
        access: which pods may use it: see nsrun.images.keyring.
    """

    name: str
    id: str
    rootfs: RootFs
    config: ImageConfig
    size: int
    created: float
    digest: str = ""
    origin: str = "import"
    source: str = ""
    added: float = 0.0
    access: tuple[str, ...] = ()

    @property
    def reference(self) -> str:
        """What a container's status calls it (imageID): by what it was pulled, or its id."""
        return self.source or self.id

    def user(self, spec: str) -> ImageUser:
        """The user that `nsrun.plan.user_spec` names, as this image's files have it.

        Raises:
            PlanError: CreateContainerError, there is no such user.
        """
        from nsrun.images.users import look_up

        return look_up(self.rootfs.lowers, spec)

    def stop_signal_number(self) -> int:
        """The number of the signal that stops a container of this image; SIGTERM where it says nothing that is a signal."""
        from nsrun.spec.signals import signal_number

        return signal_number(self.config.stop_signal) or signal.SIGTERM

    def prepare_instance(self, directory: str | os.PathLike[str], first_id: int = 0) -> None:
        """Makes what the overlay of one instance needs in `directory`: upper, work, merged.

        Args:
            directory: of the instance.
            first_id: which of the machine's ids is 0 in the pod.

        Raises:
            StepError: they cannot be made.
        """
        try:
            root = os.stat(self.rootfs.lowers[0])
            for name in ("upper", "work", "merged"):
                os.mkdir(os.path.join(directory, name), 0o700)
            # The upper layer's own mode and owner are those of the container's /.
            upper = os.path.join(directory, "upper")
            os.chown(upper, first_id + root.st_uid, first_id + root.st_gid)
            os.chmod(upper, stat.S_IMODE(root.st_mode))
        except OSError as error:
            raise StepError("make the layers of an instance", str(directory), error.errno or 0) from error
