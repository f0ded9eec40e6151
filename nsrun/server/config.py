"""etc/config.toml, read before the socket listens: a server that cannot start says so to whoever starts it."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from nsrun.errors import SpecError

if TYPE_CHECKING:
    from nsrun.state.layout import Layout

_PATTERN = re.compile(r"([a-z0-9]([-_a-z0-9]*[a-z0-9])?[./])*([a-z0-9][-_a-z0-9]*)?[a-z0-9*]")
"""A sysctl or a pattern of them (kubernetes pkg/apis/policy/validation SysctlContainSlashPatternFmt)."""
TABLES = ("control", "dns", "images", "metrics", "network", "sysctls", "userNamespaces", "volumes")
PIDS_LIMIT = "podPidsLimit"
"""As in the kubelet's configuration: processes and threads of a pod; -1 and 0 are no limit of its own."""
LOG_KEYS = ("containerLogMaxSize", "containerLogMaxFiles", "containerLogMonitorInterval")
"""Of the kubelet's configuration, with its names, defaults and rules."""


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

    from nsrun.images.settings import ImageSettings
    from nsrun.network import NetworkConfig
    from nsrun.plan.ids import range_of
    from nsrun.server.dns_settings import DnsSettings

    with file:
        try:
            settings = tomllib.load(file)
        except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
            raise _refused(path, error) from error
    for name, value in settings.items():
        if name not in (*LOG_KEYS, PIDS_LIMIT) and (name not in TABLES or not isinstance(value, dict)):
            raise SpecError(
                f"the configuration {path} has {name!r}, which is no table and no setting that nsrun knows",
                resolution=f"Known: {', '.join((*(f'[{one}]' for one in TABLES), PIDS_LIMIT, *LOG_KEYS))}.",
            )
    NetworkConfig.all_for_root(layout.base, settings.get("network"))
    DnsSettings.of(settings.get("dns"))
    ImageSettings.of(settings.get("images"))
    allowed_sysctls(settings)
    pids_limit(settings)
    storage_classes(settings)
    if "metrics" in settings:
        from nsrun.server.metrics_settings import addresses

        addresses(settings["metrics"])
    range_of(settings.get("userNamespaces"))
    control_group(settings)
    if settings.keys() & set(LOG_KEYS):
        from nsrun.server.logpolicy import log_policy

        log_policy(settings)
    return settings


def pids_limit(settings: dict[str, Any]) -> int:
    """`podPidsLimit`; 0 for none.

    Raises:
        SpecError: it is no whole number from -1 up.
    """
    value = settings.get(PIDS_LIMIT, -1)
    if isinstance(value, bool) or not isinstance(value, int) or not -1 <= value < 1 << 22:
        raise SpecError(
            f"{PIDS_LIMIT} of the configuration is {value!r}: a whole number of processes and threads, or -1 for no limit",
            resolution=f"{PIDS_LIMIT} = 4096",
        )
    return max(value, 0)


def allowed_sysctls(settings: dict[str, Any]) -> tuple[str, ...]:
    """What `[sysctls] allowed` lets pods set beside the safe ones: names, or patterns that end in `*`.

    Raises:
        SpecError: something there is no such name, or a sysctl of the whole machine.
    """
    table = settings.get("sysctls", {})
    patterns = table.get("allowed", [])
    if table.keys() - {"allowed"} or not isinstance(patterns, list):
        raise SpecError(
            "the configuration's table [sysctls] is not understood",
            resolution='It has one list: allowed = ["net.core.somaxconn", "kernel.msg*"].',
        )
    if not patterns:
        return ()
    from nsrun.spec import sysctls

    own = (sysctls.NET, sysctls.IPC, sysctls.UTS)
    for pattern in patterns:
        if not isinstance(pattern, str) or not _PATTERN.fullmatch(pattern) or sysctls.namespace(pattern) not in own:
            raise SpecError(
                f"[sysctls] of the configuration allows {pattern!r}, which no pod has for itself",
                details="A pod can be allowed to set what belongs to its network, IPC or UTS namespace: net.*, fs.mqueue.*, kernel.shm*,"
                " kernel.msg*, kernel.sem and kernel.domainname. Anything else would be set for the whole machine.",
                resolution="Leave it out, and set it with sysctl(8) if the machine is to have it.",
            )
    return tuple(patterns)


def storage_classes(settings: dict[str, Any]) -> frozenset[str]:
    """What `[volumes] storageClasses` names: classes whose volumes are directories of nsrun's own, as the default class's are.

    Raises:
        SpecError: it is no list of such names.
    """
    table = settings.get("volumes", {})
    found = table.get("storageClasses", [])
    from nsrun.spec.names import subdomain

    if table.keys() - {"storageClasses"} or not isinstance(found, list):
        raise SpecError(
            "the configuration's table [volumes] is not understood",
            resolution='It has one list: storageClasses = ["standard", "gp3"].',
        )
    for name in found:
        if not isinstance(name, str) or subdomain(name):
            raise SpecError(f"[volumes] of the configuration has {name!r}, which cannot be the name of a storage class")
    return frozenset(found)


def control_group(settings: dict[str, Any]) -> int | None:
    """The id of the group that `[control] group` lets in at the control socket; None for nobody but root.

    Raises:
        SpecError: there is no such group, or the table says something else.
    """
    table = settings.get("control", {})
    name = table.get("group")
    if table.keys() - {"group"} or not isinstance(name, str | None):
        raise SpecError(
            "the configuration's table [control] is not understood",
            resolution='It has one word: group = "nsrun".',
        )
    if name is None:
        return None
    import grp

    try:
        return grp.getgrnam(name).gr_gid
    except KeyError:
        raise SpecError(
            f"[control] of the configuration lets the group {name!r} in, and there is no such group",
            resolution=f"groupadd --system {name}, and have users in it that may do all that root may: usermod -aG {name} USER",
        ) from None


def _refused(path: object, error: Exception) -> SpecError:
    return SpecError(
        f"the configuration {path} cannot be read: {error}", resolution="Correct the file, or move it away."
    )
