"""The volumes of pods: `Volumes` is what a pod's engine has of them, `KINDS` says how each kind is set up.

`of_pod` goes through a pod's volumes; `kind` is what a kind can do, and each kind has a module; `mounting` makes what a single
instance needs of its volumes. How directories, tmpfs and files are made is the business of `nsrun.volumes`.
"""

from __future__ import annotations

from nsrun.server.volumes.of_pod import Volumes

__all__ = ["Volumes"]
