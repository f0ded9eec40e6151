"""Acting as somebody else (`kubectl --as`): who asks gives rights up. To ignore it would leave rights that were meant to be given up.

Source: apiserver pkg/endpoints/filters/impersonation (v1.36).
"""

from __future__ import annotations

from collections.abc import Callable

from multidict import CIMultiDictProxy

from nsrun.api.roles import FULL, Caller
from nsrun.errors import StatusError
from nsrun.spec import api_status

MASTERS = "system:masters"
_USER, _GROUP = "Impersonate-User", "Impersonate-Group"


def acting(caller: Caller, headers: CIMultiDictProxy[str], role_of: Callable[[str], str]) -> Caller:
    """Who a request is to be judged as.

    Args:
        caller: who asks.
        headers: of the request.
        role_of: the role of a caller of a name, "" for names that nobody has: these may nothing.

    Raises:
        StatusError: 403, only who may everything may be others; 400, it says what somebody is, and not who.
    """
    said = [name for name in headers if name.lower().startswith("impersonate-")]
    if not said:
        return caller
    user, groups = headers.get(_USER, ""), headers.getall(_GROUP, [])
    if not user:
        raise api_status.bad_request(f"requested {', '.join(sorted(set(said)))} without impersonating a user")
    if caller.role != FULL:
        raise _forbidden(caller, user)
    return Caller(user, FULL if MASTERS in groups else role_of(user))


def _forbidden(caller: Caller, user: str) -> StatusError:
    why = f'User "{caller.name}" cannot impersonate resource "users" in API group "" at the cluster scope'
    text = f"users {api_status.quoted(user)} is forbidden: {why}"
    return api_status.refusal(403, "Forbidden", text, details={"name": user, "kind": "users"})
