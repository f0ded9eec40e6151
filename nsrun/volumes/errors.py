"""What goes wrong with a volume."""

from __future__ import annotations

from nsrun.errors import NsrunError


class VolumeError(NsrunError):
    """A volume cannot be set up as the pod wants it; the brief is the kubelet's sentence."""

    code = "step"
