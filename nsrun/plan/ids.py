"""Which of the machine's ids pods with `hostUsers: false` have, and which of them the next pod gets (S-USERNS).

Source: Kubernetes pkg/kubelet/userns/userns_manager.go, pkg/kubelet/kubelet_pods.go getKubeletMappings. A kubelet takes all ids from 65536
on where nobody says otherwise, those of users who were given theirs in /etc/subuid among them; nsrun takes ids that are nobody's.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

from nsrun.errors import SpecError
from nsrun.plan.inputs import IDS_PER_POD

USER = "nsrun"
"""Whose entries in /etc/subuid and /etc/subgid, where there are any, are the range (a kubelet looks for `kubelet`)."""

MAX_ID = 2**32 - 2
"""4294967295 is no id: it says that there is none."""


@dataclass(frozen=True, slots=True)
class IdRange:
    """Ids of the machine, users and groups alike, from `first` on, `count` of them; the room for `pods` pods.

    Raises:
        SpecError: a number that cannot be; `source` says where it stands.
    """

    first: int
    count: int
    source: str = "the default"

    def __post_init__(self) -> None:
        for what, value in (("first id", self.first), ("number of ids", self.count)):
            if value % IDS_PER_POD or value < IDS_PER_POD:
                raise SpecError(
                    f"{self.source}: the {what} for pods' user namespaces is {value}, which is not a multiple of {IDS_PER_POD}",
                    details="Each pod gets that many. The machine's own, below that, are no pod's.",
                    resolution=f"For example {DEFAULT_FIRST}, and {100 * IDS_PER_POD} for a hundred pods.",
                )
        if self.first + self.count - 1 > MAX_ID:
            raise SpecError(
                f"{self.source}: the ids for pods' user namespaces go up to {self.first + self.count - 1}; the highest is {MAX_ID}"
            )

    @property
    def pods(self) -> int:
        """How many pods can have ids of their own at a time."""
        return self.count // IDS_PER_POD

    def __contains__(self, first: int) -> bool:
        """Whether a pod's ids, from `first` on, are in here."""
        return first % IDS_PER_POD == 0 and self.first <= first < self.first + self.count


DEFAULT_FIRST = 0x70000000
DEFAULT = IdRange(DEFAULT_FIRST, 4092 * IDS_PER_POD)
"""Unused in systemd's table of ids (docs/UIDS-GIDS.md), between what containers of systemd-nspawn get and what it keeps for itself."""


def range_of(settings: Mapping[str, Any] | None) -> IdRange | None:
    """The table `[userNamespaces]` of config.toml: `firstID` and `count`; None when it says nothing.

    Raises:
        SpecError: a setting is of the wrong kind.
    """
    if not settings:
        return None
    values = [settings.get(key) for key in ("firstID", "count")]
    if settings.keys() - {"firstID", "count"} or any(
        isinstance(one, bool) or not isinstance(one, int) for one in values
    ):
        raise SpecError(
            "the configuration's table [userNamespaces] is not understood",
            resolution=f"It has two numbers: firstID = {DEFAULT_FIRST} and count = {100 * IDS_PER_POD}.",
        )
    return IdRange(int(values[0] or 0), int(values[1] or 0), "[userNamespaces] of the configuration")


def subordinate(subuid: str, subgid: str, user: str = USER) -> IdRange | None:
    """The range that /etc/subuid and /etc/subgid give to a user; None when they do not name it (subuid(5)).

    Raises:
        SpecError: they name it and do not give it one range, the same in both.
    """
    of_users, of_groups = _entries(subuid, user), _entries(subgid, user)
    if not of_users and not of_groups:
        return None
    if len(of_users) != 1 or of_users != of_groups:
        raise SpecError(
            f'/etc/subuid and /etc/subgid do not give the user "{user}" one range of ids, the same in both',
            details=f"/etc/subuid: {_told(of_users)}; /etc/subgid: {_told(of_groups)}.",
            resolution=f"One line in each, such as {user}:{DEFAULT_FIRST}:{100 * IDS_PER_POD}; or set [userNamespaces] in config.toml.",
        )
    return IdRange(*of_users[0], f'the entry of "{user}" in /etc/subuid')


def _entries(text: str, user: str) -> list[tuple[int, int]]:
    found = []
    for line in text.splitlines():
        fields = line.strip().split(":")
        if fields[0] == user and len(fields) == 3 and fields[1].isdecimal() and fields[2].isdecimal():
            found.append((int(fields[1]), int(fields[2])))
    return found


def _told(entries: list[tuple[int, int]]) -> str:
    return ", ".join(f"{first}:{count}" for first, count in entries) or "nothing"


def begin_at(ids: IdRange, root: str) -> int:
    """Where the server of a root directory ("": the machine's own) looks for free ids first: each elsewhere, as none knows the others."""
    if not root:
        return ids.first
    number = int.from_bytes(hashlib.sha256(root.encode()).digest()[:4], "big")
    return ids.first + number % ids.pods * IDS_PER_POD


def next_free(ids: IdRange, taken: Collection[int], after: int | None, begin: int) -> int | None:
    """The first of the ids for another pod; None when all are taken.

    Args:
        ids: the range.
        taken: the first ids of the pods that there are; some may be of another range.
        after: those given away last: what was theirs is not the next one's, as long as there are others.
        begin: where to look first when nothing was given away yet.
    """
    start = begin if after is None or after not in ids else after + IDS_PER_POD
    offset = (start - ids.first) // IDS_PER_POD if start in ids else 0
    for step in range(ids.pods):
        first = ids.first + (offset + step) % ids.pods * IDS_PER_POD
        if first not in taken:
            return first
    return None
