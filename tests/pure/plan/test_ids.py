"""Which ids pods get: ranges that may be named, and the choice of the next (S-USERNS)."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nsrun.errors import SpecError
from nsrun.plan.ids import DEFAULT, DEFAULT_FIRST, IdRange, begin_at, next_free, range_of, subordinate
from nsrun.plan.inputs import IDS_PER_POD as N


def test_S_USERNS_the_default_has_room_for_thousands_of_pods_and_none_of_a_users_ids() -> None:
    assert DEFAULT.first == DEFAULT_FIRST
    assert DEFAULT.pods == 4092
    assert DEFAULT.first > 1_879_048_191, "the last one of systemd-nspawn's"
    assert DEFAULT.first + DEFAULT.count <= 2_147_352_576, "systemd's own"


@pytest.mark.parametrize(
    ("first", "count"), [(0, N), (N - 1, N), (N + 1, N), (N, 0), (N, N - 1), (N, 1000), (65535 * N, 2 * N)]
)
def test_S_USERNS_a_range_is_whole_pods_and_never_the_machines_own_ids(first: int, count: int) -> None:
    with pytest.raises(SpecError, match=r"here: the (first id|number of ids|ids)"):
        IdRange(first, count, "here")


def test_S_USERNS_the_range_of_the_configuration() -> None:
    assert range_of(None) is None
    assert range_of({}) is None
    assert range_of({"firstID": 2 * N, "count": 3 * N}) == IdRange(
        2 * N, 3 * N, "[userNamespaces] of the configuration"
    )
    for wrong in ({"firstID": N}, {"count": N}, {"firstID": "1", "count": N}, {"firstID": N, "count": True}, {"x": 1}):
        with pytest.raises(SpecError, match=r"\[userNamespaces\]"):
            range_of(wrong)


def test_S_USERNS_the_range_of_etc_subuid() -> None:
    ours = f"root:1:2\nnsrun:{2 * N}:{3 * N}\nnsrunner:5:6\n"
    found = subordinate(ours, f"nsrun:{2 * N}:{3 * N}")
    assert found is not None
    assert (found.first, found.count) == (2 * N, 3 * N)
    assert subordinate("alice:100000:65536\nbroken\nnsrun:x:y", "") is None
    for users, groups in (
        (ours, ""),
        ("", ours),
        (ours, f"nsrun:{3 * N}:{3 * N}"),
        (ours + f"nsrun:{9 * N}:{N}", ours + f"nsrun:{9 * N}:{N}"),
    ):
        with pytest.raises(SpecError, match="do not give the user"):
            subordinate(users, groups)
    with pytest.raises(SpecError, match=r'the entry of "nsrun" in /etc/subuid: the first id .* is 100000'):
        subordinate("nsrun:100000:65536", "nsrun:100000:65536")


ranges = st.builds(lambda first, pods: IdRange(first * N, pods * N), st.integers(1, 60000), st.integers(1, 40))


@given(ids=ranges, data=st.data())
def test_S_USERNS_the_next_is_free_and_of_the_range_as_long_as_there_is_one(ids: IdRange, data: st.DataObject) -> None:
    every = [ids.first + place * N for place in range(ids.pods)]
    elsewhere = st.integers(1, 65000).map(lambda block: block * N)
    taken = data.draw(st.sets(st.sampled_from(every) | elsewhere))
    after = data.draw(st.none() | st.sampled_from(every) | elsewhere)
    begin = begin_at(ids, data.draw(st.text()))
    assert begin in ids
    found = next_free(ids, taken, after, begin)
    free = [first for first in every if first not in taken]
    if not free:
        assert found is None
        return
    assert found in free
    if after in every and len(free) > 1:
        assert found != after, "what was given back last is not the next one's"


def test_S_USERNS_servers_of_different_roots_begin_in_different_places() -> None:
    assert begin_at(DEFAULT, "") == DEFAULT.first
    assert len({begin_at(DEFAULT, f"/tmp/{number}") for number in range(50)}) > 45
