"""What is said of the machine's limits."""

from __future__ import annotations

from pathlib import Path

import pytest

from nsrun.network import forwarding


def test_too_many_pods_for_the_tables_of_neighbours_are_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for family, limit in (("ipv4", 1024), ("ipv6", 4096)):
        path = tmp_path / "proc/sys/net" / family / "neigh/default/gc_thresh3"
        path.parent.mkdir(parents=True)
        path.write_text(f"{limit}\n")
    monkeypatch.setattr(forwarding, "NEIGHBOURS", str(tmp_path / "proc/sys/net/ipv4/neigh/default/gc_thresh3"))
    assert forwarding.crowded(512) == ()
    (text,) = forwarding.crowded(513)
    assert "1,024 neighbours of IPv4" in text
    assert "513 pods need 1,026" in text
    assert "gc_thresh3=8208" in text
    assert len(forwarding.crowded(3000)) == 2
    (tmp_path / "proc/sys/net/ipv4/neigh/default/gc_thresh3").unlink()
    assert forwarding.crowded(600) == ()
