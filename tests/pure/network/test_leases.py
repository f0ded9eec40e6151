"""Leases as files: who has which address, and what becomes of files that say nothing."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv4Network
from pathlib import Path

import pytest

from nsrun.errors import ConflictError
from nsrun.network.leases import Leases

pytestmark = pytest.mark.pure

RANGE = IPv4Network("10.85.0.0/29")


def test_a_pod_keeps_its_address_also_for_the_next_server(tmp_path: Path) -> None:
    address, known = Leases(tmp_path).take("one", RANGE)
    assert not known
    assert Leases(tmp_path).take("one", RANGE) == (address, True)
    assert Leases(tmp_path).of("one") == str(address)


def test_every_address_once_and_then_a_clear_no(tmp_path: Path) -> None:
    leases = Leases(tmp_path)
    taken = [leases.take(f"pod-{number}", RANGE)[0] for number in range(5)]
    assert sorted(taken) == [IPv4Address("10.85.0.2") + number for number in range(5)]
    with pytest.raises(ConflictError, match=r"10\.85\.0\.0/29 are taken"):
        leases.take("one too many", RANGE)
    leases.release("pod-3")
    assert leases.take("one too many", RANGE) == (taken[3], False)


@pytest.mark.parametrize("content", [b"", b"a pod that is gone", b"\xff\xfe\x00"])
def test_a_lease_of_nobody_is_collected(tmp_path: Path, content: bytes) -> None:
    Leases(tmp_path).take("alive", RANGE)
    (tmp_path / "10.85.0.4").write_bytes(content)
    leases = Leases(tmp_path)
    assert leases.collect({"alive"}) == ["10.85.0.4"]
    assert list(leases.all().values()) == ["alive"]
    assert len(list(tmp_path.iterdir())) == 1


def test_files_that_are_no_leases_are_left_alone(tmp_path: Path) -> None:
    (tmp_path / "README").write_text("somebody's")
    leases = Leases(tmp_path)
    assert leases.collect(()) == []
    assert leases.count() == 0
    assert (tmp_path / "README").exists()
