"""The facts of this machine."""

from __future__ import annotations

import os
import platform
import resource
from pathlib import Path

from nsrun.plan.capabilities import ALL_CAPABILITIES
from nsrun.security import default_capabilities, host_devices, huge_page_name, huge_pages, machine


def test_machine() -> None:
    facts = machine(name="node-1", cgroup2=True, storage="/tmp")
    assert (facts.name, facts.cgroup2, facts.cpus) == ("node-1", True, os.cpu_count())
    assert 64 << 20 < facts.memory < 1 << 50
    assert facts.ephemeral_storage > 1 << 20
    assert facts.nofile == resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    assert machine().name == platform.node()


def test_capabilities_are_those_of_this_process() -> None:
    with open("/proc/self/status", encoding="utf-8") as status:
        masks = {line.partition(":")[0]: int(line.split()[1], 16) for line in status if line.startswith("Cap")}
    have = machine().capabilities
    assert have == {
        name for number, name in enumerate(ALL_CAPABILITIES) if masks["CapPrm"] & masks["CapBnd"] & 1 << number
    }
    assert default_capabilities() <= set(ALL_CAPABILITIES)


def test_host_devices() -> None:
    found = {device.path: device for device in host_devices()}
    null = found["/dev/null"]
    assert (null.kind, null.major, null.minor) == ("c", 1, 3)
    assert not [path for path in found if path.startswith(("/dev/pts/", "/dev/shm/")) or path == "/dev/ptmx"]


def test_S_CGROUP_the_huge_pages_of_the_machine(tmp_path: Path) -> None:
    for size, count in (("2048", "3"), ("1048576", "0"), ("64", "10\n"), ("32", "?")):
        (tmp_path / f"hugepages-{size}kB").mkdir()
        (tmp_path / f"hugepages-{size}kB" / "nr_hugepages").write_text(count)
    assert huge_pages(str(tmp_path)) == {64 << 10: 640 << 10, 2 << 20: 6 << 20}
    assert huge_pages(str(tmp_path / "none")) == {}
    assert [huge_page_name(size) for size in (64 << 10, 2 << 20, 1 << 30, 16 << 20)] == [
        "hugepages-64Ki", "hugepages-2Mi", "hugepages-1Gi", "hugepages-16Mi",
    ]  # fmt: skip
