"""Zstandard: the standard library's from Python 3.14 on, before that its backport."""

from __future__ import annotations

import importlib
from typing import Any

_WINDOW_LOG_MAX = 27
"""128 MiB, what the zstd command and Go's decoders accept."""


def _module() -> Any:
    try:
        return importlib.import_module("compression.zstd")
    except ImportError:
        return importlib.import_module("backports.zstd")


def decompressor() -> Any:
    """An object like bz2.BZ2Decompressor."""
    module = _module()
    return module.ZstdDecompressor(options={module.DecompressionParameter.window_log_max: _WINDOW_LOG_MAX})


def compress(data: bytes) -> bytes:
    """One frame with `data`."""
    result: bytes = _module().compress(data)
    return result
