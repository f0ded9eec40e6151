"""Forwarding: what has to be set in the machine so that packets of pods go on, without the machine itself losing its way.

A machine that forwards IPv6 is a router to the kernel, and a router takes no addresses and routes from router advertisements any more,
unless an interface says accept_ra=2 (Documentation/networking/ip-sysctl.rst). So interfaces that listened to them go on doing so.
"""

from __future__ import annotations

import os
from contextlib import suppress

IP_FORWARD = "/proc/sys/net/ipv4/ip_forward"
NEIGHBOURS = "/proc/sys/net/ipv4/neigh/default/gc_thresh3"
IPV6 = "/proc/sys/net/ipv6/conf"


def has_ipv6() -> bool:
    """Whether links of this network namespace have IPv6: neither missing nor switched off for all or by default."""
    try:
        return all(read(f"{IPV6}/{name}/disable_ipv6") == "0" for name in ("all", "default"))
    except OSError:
        return False


def forwards(*, six: bool) -> bool:
    """Whether packets are forwarded: those of IPv4, and with `six` those of IPv6 too."""
    return read(IP_FORWARD) == "1" and (not six or read(f"{IPV6}/all/forwarding") == "1")


def crowded(pods: int) -> tuple[str, ...]:
    """What is to be said of the kernel's tables of neighbours, which all network namespaces of a machine share, with so many pods.

    A pod has an entry for the machine, and the machine one for it; more with every pair of pods that talk.
    """
    found = []
    for family, path in (("IPv4", NEIGHBOURS), ("IPv6", NEIGHBOURS.replace("ipv4", "ipv6"))):
        # Network namespaces other than the first do not see it.
        with suppress(OSError, ValueError):
            limit = int(read(path))
            if 2 * pods > limit:
                name = path.removeprefix("/proc/sys/").replace("/", ".")
                found.append(
                    f"the kernel keeps {limit:,} neighbours of {family} for the whole machine, and {pods:,} pods need {2 * pods:,}:"
                    f" packets are lost. It needs sysctl -w {name}={max(8192, 16 * pods)}"
                )
    return tuple(found)


def begin() -> None:
    """Have IPv4 forwarded.

    Raises:
        OSError: it is off and /proc/sys cannot be written.
    """
    if read(IP_FORWARD) != "1":
        write(IP_FORWARD, "1")


def begin_ipv6(bridge: str) -> None:
    """Have IPv6 forwarded, and what pods send never taken for a router's word by the bridge.

    Raises:
        OSError: /proc/sys cannot be written.
    """
    for name, value in (("disable_ipv6", "0"), ("accept_ra", "0"), ("accept_dad", "0")):
        if read(f"{IPV6}/{bridge}/{name}") != value:
            write(f"{IPV6}/{bridge}/{name}", value)
    if read(f"{IPV6}/all/forwarding") == "1":
        return
    # Before forwarding begins: the kernel throws away the default routes of those that do not say so at that moment.
    for link in os.listdir(IPV6):
        if link not in ("all", bridge):
            with suppress(FileNotFoundError):
                _keep_listening(f"{IPV6}/{link}")
    write(f"{IPV6}/all/forwarding", "1")


def _keep_listening(directory: str) -> None:
    if read(f"{directory}/accept_ra") == "1" and read(f"{directory}/forwarding") == "0":
        write(f"{directory}/accept_ra", "2")


def read(path: str) -> str:
    """A sysctl's value."""
    with open(path, encoding="ascii") as file:
        return file.read().strip()


def write(path: str, value: str) -> None:
    """Set a sysctl."""
    with open(path, "w", encoding="ascii") as file:
        file.write(value)
