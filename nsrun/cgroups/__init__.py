"""Control groups: what holds a container's processes together, daemons that forked twice included.

    BASE/pod-<uid>/<container id>/

The shim's children are born in their container's cgroup (CLONE_INTO_CGROUP on the descriptor from `create_container`) and, with
/sys read-only, cannot leave it: cgroup.kill reaches every one of them. Nothing is kept in the process. Limits are not set here: no
controller is switched on.
"""

from nsrun.cgroups.groups import Cgroups, choose_base, older_bases
from nsrun.cgroups.layout import Layout, detect

__all__ = ["Cgroups", "Layout", "choose_base", "detect", "older_bases"]
