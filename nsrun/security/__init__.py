"""What a container's processes may do: capability sets, seccomp filters, and what this machine can hand on.

seccomp_filter(profile, capabilities)   the filter of a profile as the kernel takes it
default_capabilities()                  the set of a container that asks for nothing
AppArmorProfiles()                      the kernel's, and that of RuntimeDefault among them
machine()                               the facts of this machine that plans depend on
"""

from __future__ import annotations

from nsrun.plan.capabilities import DEFAULT_CAPABILITIES
from nsrun.security.apparmor import Profiles as AppArmorProfiles
from nsrun.security.apparmor import enabled as apparmor_enabled
from nsrun.security.machine import host_devices, huge_page_name, huge_pages, machine
from nsrun.security.seccomp import LOCALHOST, seccomp_filter

__all__ = [
    "LOCALHOST",
    "AppArmorProfiles",
    "apparmor_enabled",
    "default_capabilities",
    "host_devices",
    "huge_page_name",
    "huge_pages",
    "machine",
    "seccomp_filter",
]


def default_capabilities() -> frozenset[str]:
    """Full names (CAP_CHOWN, …) of what a container has that asks for nothing."""
    return DEFAULT_CAPABILITIES
