"""Images: the root file systems of containers, and what they say about their processes.

ImageStore      the images of a machine: import, list, remove, and find the one that a container asks for
Image           one of them
ImageError      why there is none
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from nsrun.lazy import homes

if TYPE_CHECKING:
    from nsrun.images.errors import ImageError
    from nsrun.images.image import Image
    from nsrun.images.reference import Reference, parse
    from nsrun.images.store import ImageStore, never_pull, parse_name
    from nsrun.images.trees import remove_tree
    from nsrun.plan.image import ImageConfig, RootBind, RootFs

__all__ = [
    "Image",
    "ImageConfig",
    "ImageError",
    "ImageStore",
    "Reference",
    "RootBind",
    "RootFs",
    "never_pull",
    "parse",
    "parse_name",
    "remove_tree",
]

__getattr__ = homes(
    __name__,
    {
        "nsrun.images.errors": ("ImageError",),
        "nsrun.images.image": ("Image",),
        "nsrun.images.reference": ("Reference", "parse"),
        "nsrun.images.store": ("ImageStore", "never_pull", "parse_name"),
        "nsrun.images.trees": ("remove_tree",),
        "nsrun.plan.image": ("ImageConfig", "RootBind", "RootFs"),
    },
)
