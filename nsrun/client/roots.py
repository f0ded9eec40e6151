"""Which directories belong to a root: `--root DIR`, NSRUN_ROOT, or the machine's own."""

from __future__ import annotations

import os
from typing import NamedTuple

SOCKET_NAME = "nsrun.sock"


class Root(NamedTuple):
    """The directories of one server.

    Attributes:
        given: the directory that was asked for, or None for the machine's own directories.
        run: sockets, locks and pods; gone after a reboot.
        lib: images and leases.
        log: logs of pods.
        etc: configuration.
    """

    given: str | None
    run: str
    lib: str
    log: str
    etc: str

    @property
    def socket_path(self) -> str:
        """The control socket."""
        return f"{self.run}/{SOCKET_NAME}"

    @property
    def server_log(self) -> str:
        """Where an auto-started server writes."""
        return f"{self.run}/server.log"

    @property
    def option(self) -> str:
        """`--root DIR ` as it has to be repeated in advice, or nothing."""
        return f"--root {self.given} " if self.given else ""


def find(root: str | os.PathLike[str] | None = None) -> Root:
    """The root for `root`, else for NSRUN_ROOT, else the machine's.

    Args:
        root: a directory; relative ones are taken from the working directory.
    """
    chosen = os.fspath(root) if root is not None else os.environ.get("NSRUN_ROOT") or None
    if chosen is None:
        return Root(None, "/run/nsrun", "/var/lib/nsrun", "/var/log", "/etc/nsrun")
    top = os.path.abspath(chosen)
    return Root(top, f"{top}/run", f"{top}/lib", f"{top}/log", f"{top}/etc")
