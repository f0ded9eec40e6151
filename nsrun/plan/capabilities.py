"""The names of the capabilities, those a container has by default, and what a manifest makes of them."""

from __future__ import annotations

from collections.abc import Iterable

ALL_CAPABILITIES: tuple[str, ...] = tuple(
    f"CAP_{name}"
    for name in (
        "CHOWN",
        "DAC_OVERRIDE",
        "DAC_READ_SEARCH",
        "FOWNER",
        "FSETID",
        "KILL",
        "SETGID",
        "SETUID",
        "SETPCAP",
        "LINUX_IMMUTABLE",
        "NET_BIND_SERVICE",
        "NET_BROADCAST",
        "NET_ADMIN",
        "NET_RAW",
        "IPC_LOCK",
        "IPC_OWNER",
        "SYS_MODULE",
        "SYS_RAWIO",
        "SYS_CHROOT",
        "SYS_PTRACE",
        "SYS_PACCT",
        "SYS_ADMIN",
        "SYS_BOOT",
        "SYS_NICE",
        "SYS_RESOURCE",
        "SYS_TIME",
        "SYS_TTY_CONFIG",
        "MKNOD",
        "LEASE",
        "AUDIT_WRITE",
        "AUDIT_CONTROL",
        "SETFCAP",
        "MAC_OVERRIDE",
        "MAC_ADMIN",
        "SYSLOG",
        "WAKE_ALARM",
        "BLOCK_SUSPEND",
        "AUDIT_READ",
        "PERFMON",
        "BPF",
        "CHECKPOINT_RESTORE",
    )
)
"""Every capability of linux/capability.h in the order of its numbers: the index is the number."""

DEFAULT_CAPABILITIES: frozenset[str] = frozenset(
    f"CAP_{name}"
    for name in (
        "CHOWN",
        "DAC_OVERRIDE",
        "FSETID",
        "FOWNER",
        "MKNOD",
        "NET_RAW",
        "SETGID",
        "SETUID",
        "SETFCAP",
        "SETPCAP",
        "NET_BIND_SERVICE",
        "SYS_CHROOT",
        "KILL",
        "AUDIT_WRITE",
    )
)
"""What a container gets that asks for nothing (containerd's pkg/oci default set, the same as Docker's)."""


def full_name(name: str) -> str:
    """`CAP_NET_ADMIN` for the ways a manifest may write it: NET_ADMIN, net_admin, CAP_NET_ADMIN."""
    upper = name.upper()
    return upper if upper.startswith("CAP_") else f"CAP_{upper}"


def resolve(add: Iterable[str], drop: Iterable[str], available: frozenset[str]) -> frozenset[str]:
    """The set that `securityContext.capabilities` describes: of the default set what is available, and all that was asked for by name.

    In containerd's order (internal/cri/server, container_create_linux.go): ALL in `add` is all that are available, ALL in `drop`
    then empties the set, then the single names are added, then the single names are dropped.

    Raises:
        ValueError: a name that no kernel has; its argument is the name as it was written.
    """
    added = {full_name(name): name for name in add}
    dropped = {full_name(name): name for name in drop}
    for full, written in (added | dropped).items():
        if full != "CAP_ALL" and full not in ALL_CAPABILITIES:
            raise ValueError(written)
    result = set(available if "CAP_ALL" in added else DEFAULT_CAPABILITIES & available)
    if "CAP_ALL" in dropped:
        result.clear()
    result |= added.keys() - {"CAP_ALL"}
    result -= dropped.keys()
    return frozenset(result)


def flags(capabilities: frozenset[str]) -> str:
    """The operand of an op for a set, in the order of the numbers."""
    return "|".join(name for name in ALL_CAPABILITIES if name in capabilities)
