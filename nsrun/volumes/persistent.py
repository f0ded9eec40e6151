"""Directories behind persistent volumes: what has to be there before a pod gets them (Kubernetes pkg/volume/local/local.go)."""

from __future__ import annotations

import os
import stat

from nsrun.volumes.errors import VolumeError


def check_local(path: str) -> None:
    """Raise unless there is a directory at the path of a `local` volume. Links on the way are the machine owner's, and are followed.

    Raises:
        VolumeError: in the kubelet's words.
    """
    try:
        mode = os.stat(path).st_mode
    except (FileNotFoundError, NotADirectoryError):
        raise VolumeError(f'path "{path}" does not exist') from None
    if not stat.S_ISDIR(mode):
        raise VolumeError(f'path "{path}" is not a directory')


def check_own(path: str) -> None:
    """Raise unless a volume of nsrun's own is where it was made, and still a directory itself.

    Raises:
        VolumeError: it is gone, or something else stands in its place.
    """
    try:
        mode = os.lstat(path).st_mode
    except FileNotFoundError:
        raise VolumeError(
            f'path "{path}" does not exist',
            resolution="What was in the volume is lost. nsrun volume rm NAME forgets it; then apply its claim again.",
        ) from None
    if not stat.S_ISDIR(mode):
        raise VolumeError(f'path "{path}" is not a directory, and nsrun made one there')
