"""Names of sysctls: their spellings, and which namespace of the kernel each belongs to.

Source: kubernetes component-helpers/node/util/sysctl (namespace.go, sysctl.go).
"""

from __future__ import annotations

import re

NET, IPC, UTS, USER = "Net", "IPC", "UTS", "User"
"""Namespaces, as Kubernetes writes them in messages."""

_SWAP = str.maketrans("./", "/.")
_NAMES = {
    "kernel.domainname": UTS,
    **dict.fromkeys(("kernel.sem", "kernel.shmall", "kernel.shmmax", "kernel.shmmni", "kernel.shm_rmid_forced"), IPC),
    **dict.fromkeys(("kernel.msgmax", "kernel.msgmnb", "kernel.msgmni", "kernel.shm", "kernel.msg"), IPC),
}
_PREFIXES = {"net.": NET, "fs.mqueue.": IPC, "user.": USER}


def dotted(name: str) -> str:
    """`net.ipv4.conf.eth0/1.x` for either spelling: the first separator in the name decides which one is the separator."""
    first = re.search(r"[./]", name)
    return name if first is None or first.group() == "." else name.translate(_SWAP)


def path(name: str) -> str:
    """Its path below /proc/sys."""
    return dotted(name).translate(_SWAP)


def namespace(name: str) -> str:
    """NET, IPC, UTS, USER, or "" for what belongs to the whole machine (or is unknown). Of a pattern: of all it matches."""
    known = dotted(name).partition("*")[0]
    if known in _NAMES:
        return _NAMES[known]
    return next((found for prefix, found in _PREFIXES.items() if known.startswith(prefix)), "")
