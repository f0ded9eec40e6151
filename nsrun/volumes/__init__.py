"""Volumes of pods on this machine: directories, tmpfs, paths of the host, and parts of them.

Each kind has a module. All of it can be begun again after a SIGKILL at any point, and finds what it did before.
"""

from __future__ import annotations

from nsrun.volumes.atomic import write_files
from nsrun.volumes.errors import VolumeError
from nsrun.volumes.hostpath import check_host_path, make_missing
from nsrun.volumes.imagetree import mount_layers
from nsrun.volumes.mounted import check_propagation, remove_volumes
from nsrun.volumes.ownership import give_to_group
from nsrun.volumes.persistent import check_local, check_own
from nsrun.volumes.reading import read_file
from nsrun.volumes.scratch import make_directory, mount_huge_pages, mount_memory
from nsrun.volumes.subpath import make_sub_path, open_tree
from nsrun.volumes.usage import Usage, disk_usage

__all__ = [
    "Usage",
    "VolumeError",
    "check_host_path",
    "check_local",
    "check_own",
    "check_propagation",
    "disk_usage",
    "give_to_group",
    "make_directory",
    "make_missing",
    "make_sub_path",
    "mount_huge_pages",
    "mount_layers",
    "mount_memory",
    "open_tree",
    "read_file",
    "remove_volumes",
    "write_files",
]
