"""Control groups: what holds a container's processes together, daemons that forked twice included.

    BASE/pod-<uid>/<container id>/

The shim's children are born in their container's cgroup (CLONE_INTO_CGROUP on the descriptor from `create_container`) and, with
/sys read-only, cannot leave it: cgroup.kill reaches every one of them.

Limits are written to the same cgroups where version 2 has the controllers, which are switched on in the base and in the pods' cgroups;
where version 1 has them, to directories of the same path in its hierarchies, which a process joins before it does anything else.
Only pods that ask for something have those.
"""

from nsrun.cgroups.controllers import MissingControllerError, available, legacy_mounts
from nsrun.cgroups.groups import Cgroups, choose_base, older_bases
from nsrun.cgroups.layout import Layout, detect

__all__ = [
    "Cgroups",
    "Layout",
    "MissingControllerError",
    "available",
    "choose_base",
    "detect",
    "legacy_mounts",
    "older_bases",
]
