"""Why an image cannot be had."""

from __future__ import annotations

from nsrun.errors import NsrunError


class ImageError(NsrunError):
    """An image that is not there, or cannot be made.

    `reason` is the waiting container's (S-REASONS): ErrImagePull, ErrImageNeverPull, InvalidImageName, ImageInspectError.
    """

    code = "not-found"

    def __init__(
        self,
        reason: str,
        brief: str,
        *,
        details: str | None = None,
        resolution: str | None = None,
        code: str | None = None,
    ) -> None:
        super().__init__(brief, details=details, resolution=resolution, code=code)
        self.reason = reason
