"""What a plan is told of an image. Alone here: whoever only brings images does not load what makes pods."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class RootBind:
    """A part of the root file system that is taken from elsewhere: `source` (host path) at `target`, always read-only."""

    source: str
    target: str


@dataclass(frozen=True, slots=True)
class RootFs:
    """A root file system: directories for an overlay, topmost first, and what is bound into it."""

    lowers: tuple[str, ...]
    binds: tuple[RootBind, ...] = ()


@dataclass(frozen=True, slots=True)
class ImageConfig:
    """What an image says about its processes (OCI image-spec config.md): the defaults that the pod overrides."""

    entrypoint: tuple[str, ...] = ()
    cmd: tuple[str, ...] = ()
    env: tuple[str, ...] = ()
    """KEY=VALUE."""
    user: str = ""
    """`name`, `uid`, `name:group`, `uid:gid` or empty for root."""
    workdir: str = ""
    stop_signal: str = ""


@dataclass(frozen=True, slots=True)
class ImageUser:
    """A user as the image's /etc/passwd and /etc/group know it; `groups` are the groups that list it as a member."""

    uid: int = 0
    """-1: a name that only the image knows (see `assumed_user`)."""
    gid: int = 0
    groups: tuple[int, ...] = ()
    home: str = "/"


HOST_IMAGE = "nsrun.local/host"
HOST_IMAGE_NAMES = (HOST_IMAGE, f"{HOST_IMAGE}:latest")
"""The built-in image: this machine's /usr and a fresh small root."""

HOST_IMAGE_CONFIG = ImageConfig(cmd=("/bin/sh",), env=("LANG=C.UTF-8",))
"""What the built-in image says about its processes."""
