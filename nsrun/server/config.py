"""etc/config.toml, read before the socket listens: a server that cannot start says so to whoever starts it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from nsrun.errors import SpecError

if TYPE_CHECKING:
    from nsrun.state.layout import Layout

KNOWN = ("network",)
"""The tables that mean something."""


def read_config(layout: Layout) -> dict[str, Any]:
    """The settings; an empty table when there is no file.

    Raises:
        SpecError: it is not TOML, cannot be read, or sets something that is not there or not of that kind.
    """
    path = layout.config
    try:
        file = path.open("rb")
    except FileNotFoundError:
        return {}
    except OSError as error:
        raise _refused(path, error) from error
    # Only now: most machines have no such file, and a server is to start fast.
    import tomllib

    from nsrun.network import NetworkConfig

    with file:
        try:
            settings = tomllib.load(file)
        except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
            raise _refused(path, error) from error
    for name, value in settings.items():
        if name not in KNOWN or not isinstance(value, dict):
            raise SpecError(
                f"the configuration {path} has {name!r}, which is no table that nsrun knows",
                resolution=f"Known: {', '.join(f'[{one}]' for one in KNOWN)}.",
            )
    NetworkConfig.for_root(layout.base, settings.get("network"))
    return settings


def _refused(path: object, error: Exception) -> SpecError:
    return SpecError(
        f"the configuration {path} cannot be read: {error}", resolution="Correct the file, or move it away."
    )
