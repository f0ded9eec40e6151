"""What cgroups tell of what was used, from files as kernels write them."""

from __future__ import annotations

from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from nsrun.cgroups.usage import PAGE, Places, Usage, keyed, read, take_cpu, take_io, take_memory

CPU = """usage_usec 1500000
user_usec 1000000
system_usec 500000
nice_usec 0
core_sched.force_idle_usec 0
nr_periods 20
nr_throttled 5
throttled_usec 250000
"""
MEMORY = "anon 4096\nfile 8192\nkernel 100\nfile_mapped 2048\ninactive_file 6000\nactive_file 1000\npgfault 7\npgmajfault 1\n"


def cgroup(where: Path, **files: str) -> Path:
    """A directory with these files; `__` in a name is a dot."""
    where.mkdir(parents=True, exist_ok=True)
    for name, text in {"cgroup__procs": "", **files}.items():
        (where / name.replace("__", ".")).write_text(text)
    return where


def test_stats_version_2(tmp_path: Path) -> None:
    group = cgroup(
        tmp_path / "g",
        cgroup__procs="10\n0\n11\n",
        cpu__stat=CPU,
        memory__current="10000\n",
        memory__stat=MEMORY,
        memory__events="low 0\nhigh 0\nmax 3\noom 1\noom_kill 2\noom_group_kill 0\n",
        memory__peak="20000\n",
        memory__swap__current="512\n",
        pids__current="9\n",
        io__stat="8:0 rbytes=100 wbytes=20 rios=3 wios=2 dbytes=0 dios=0\n259:0 rbytes=1 wbytes=2 rios=1 wios=1\n7:0 \n",
    )
    cgroup(group / "job", cgroup__procs="12\n")
    usage = read(Places(str(group)))
    assert usage == Usage(
        cpu_ns=1_500_000_000, cpu_user_ns=1_000_000_000, cpu_system_ns=500_000_000,
        periods=20, throttled_periods=5, throttled_ns=250_000_000,
        memory=10_000, working_set=4_000, rss=4096, cache=8192, mapped_file=2048, swap=512,
        memory_peak=20_000, memory_failures=3, page_faults=7, major_page_faults=1, oom_kills=2,
        processes=3, threads=9,
        read_bytes=101, written_bytes=22, reads=4, writes=3,
    )  # fmt: skip


def test_stats_version_1_beside_it(tmp_path: Path) -> None:
    group = cgroup(tmp_path / "g", cpu__stat="usage_usec 7\nuser_usec 4\nsystem_usec 3\n", pids__current="1\n")
    cpu = cgroup(tmp_path / "cpu", cpu__stat="nr_periods 4\nnr_throttled 1\nthrottled_time 12345\n")
    memory = cgroup(
        tmp_path / "memory",
        memory__usage_in_bytes="1000\n",
        memory__stat="rss 1\ntotal_rss 200\ntotal_cache 300\ntotal_inactive_file 1500\ntotal_mapped_file 5\n"
        "total_pgfault 2\ntotal_pgmajfault 0\ntotal_swap 0\n",
        memory__oom_control="oom_kill_disable 0\nunder_oom 0\noom_kill 1\n",
        memory__max_usage_in_bytes="2000\n",
        memory__failcnt="6\n",
    )
    usage = read(Places(str(group), cpu=str(cpu), memory=str(memory)))
    assert usage is not None
    assert (usage.cpu_ns, usage.periods, usage.throttled_periods, usage.throttled_ns) == (7000, 4, 1, 12345)
    assert (usage.memory, usage.working_set, usage.rss, usage.cache) == (1000, 0, 200, 300)
    assert (usage.memory_peak, usage.memory_failures, usage.oom_kills, usage.swap) == (2000, 6, 1, 0)
    assert not usage.estimated
    assert usage.missing.keys() == {"diskIO"}


def test_stats_where_nobody_counts(tmp_path: Path) -> None:
    proc = tmp_path / "proc"
    for pid, resident, shared, threads in ((10, 30, 20, 1), (11, 5, 0, 4)):
        cgroup(
            proc / str(pid),
            statm=f"100 {resident} {shared} 1 0 10 0\n",
            stat=f"{pid} (a ) b) S 1 1 1 0 -1 4 0 0 0 0 0 0 0 0 20 0 {threads} 0 5 6\n",
        )
    group = cgroup(tmp_path / "g", cgroup__procs="10\n11\n12\n")
    usage = read(Places(str(group), cpu=str(tmp_path / "no"), memory=str(tmp_path / "no")), str(proc))
    assert usage is not None
    assert (usage.memory, usage.working_set, usage.rss) == (35 * PAGE, 35 * PAGE, 15 * PAGE)
    assert usage.estimated
    assert (usage.processes, usage.threads) == (3, 5), "one has gone meanwhile"
    assert usage.cpu_ns is None
    assert usage.missing.keys() == {"cpu", "memory", "diskIO"}
    assert read(Places(str(tmp_path / "gone"))) is None


@given(st.text())
def test_stats_whatever_a_file_holds(text: str) -> None:
    usage = Usage()
    take_cpu(usage, text)
    take_io(usage, text)
    take_memory(usage, "5", text)
    assert usage.working_set is not None
    assert 0 <= usage.working_set <= 5
    assert all(isinstance(number, int) for number in keyed(text).values())
