"""Validation of paths and file modes inside volumes.

Source of the rules: kubernetes pkg/apis/core/validation/validation.go (v1.36).
"""

from __future__ import annotations

from nsrun.spec.field_errors import Errors
from nsrun.spec.model import KeyToPath

_FILE_MODE = "must be a number between 0 and 0777 (octal), both inclusive"


def local_path(value: str, errors: Errors, path: str) -> None:
    """A path below a directory: relative, without ``..``."""
    if value.startswith("/"):
        errors.invalid(path, value, "must be a relative path")
    no_backsteps(value, errors, path)


def no_backsteps(value: str, errors: Errors, path: str) -> None:
    """A path without ``..``."""
    if ".." in value.split("/"):
        errors.invalid(path, value, "must not contain '..'")


def file_path(value: str, errors: Errors, path: str) -> None:
    """A file inside a volume: names that begin with ``..`` are the kubelet's."""
    local_path(value, errors, path)
    if value.startswith("..") and not value.startswith("../"):
        errors.invalid(path, value, "must not start with '..'")


def file_mode(value: int | None, errors: Errors, path: str) -> None:
    if value is not None and not 0 <= value <= 0o777:
        errors.invalid(path, value, _FILE_MODE)


def key_to_path(item: KeyToPath, errors: Errors, path: str) -> None:
    if not item.key:
        errors.required(f"{path}.key")
    if not item.path:
        errors.required(f"{path}.path")
    file_path(item.path, errors, f"{path}.path")
    file_mode(item.mode, errors, f"{path}.mode")
