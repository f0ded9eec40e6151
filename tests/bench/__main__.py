"""`make bench`: the table and its JSON. Runs inside the test host (network, mounts and cgroup of its own). Root.

make bench BENCH_OPTIONS='--runs 20 --json bench-results/figures.json'
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import shutil
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.bench import conmon
from tests.bench.api import api
from tests.bench.api_streams import api_streams
from tests.bench.configured import configured
from tests.bench.files import files
from tests.bench.forward import forward
from tests.bench.identities import identities
from tests.bench.images import images
from tests.bench.measure import Figure, in_turn, run, timed
from tests.bench.network import network
from tests.bench.nsrun_side import NSRUN, POD, Nsrun
from tests.bench.peers import Bundle, Podman, bubblewrap
from tests.bench.probes import probes
from tests.bench.resolver import resolver
from tests.host.testhost import Machine
from tests.rootfs import build

BARE = Path(__file__).parent / "bare" / "bare.c"
PUMPED_MB = 400


def pure_cgroup2() -> None:
    """Shows this process and its children a plain cgroup2 tree where the machine's is a hybrid one: crun refuses those.

    Only in the mount namespace that `make bench` gives this process.
    """
    here = Path("/sys/fs/cgroup")
    if not (here / "unified").is_dir():
        return
    run(["umount", "--recursive", str(here)])
    run(["mount", "-t", "cgroup2", "cgroup2", str(here)])
    base = os.environ.get("NSRUN_CGROUP_BASE")
    if base:
        os.environ["NSRUN_CGROUP_BASE"] = str(here / Path(base).relative_to(here / "unified"))


IN_MEMORY = ("run", "log")


def in_memory(root: Path) -> None:
    """Makes root/run a tmpfs, as /run is where no root directory is given, and root/log: a disk's pace is not what is measured."""
    root.mkdir(mode=0o700)
    for name in IN_MEMORY:
        (root / name).mkdir(mode=0o700)
        run(["mount", "-t", "tmpfs", "-o", "mode=0700", "tmpfs", str(root / name)])


@contextmanager
def nsrun_at(root: Path, rootfs: Path) -> Iterator[Nsrun]:
    """nsrun on a root directory of its own, which is empty again afterwards."""
    in_memory(root)
    side = Nsrun(root, rootfs)
    try:
        yield side
    finally:
        side("pod", "down", "--all", "--force", "--grace-period", "0")
        side("server", "stop")
        for name in IN_MEMORY:
            run(["umount", "--lazy", str(root / name)])


@contextmanager
def podman_or_none(work: Path, rootfs: Path) -> Iterator[Podman | None]:
    """podman where it is installed and can start a pod here; else None, and why is said once."""
    if not shutil.which("podman") or not shutil.which("crun"):
        print("podman or crun is not installed: no figures beside theirs", file=sys.stderr)
        yield None
        return
    podman = Podman(work / "podman", rootfs)
    try:
        try:
            podman.up_and_down()
        except (RuntimeError, subprocess.TimeoutExpired) as error:
            print(f"podman cannot start a pod here: {error}", file=sys.stderr)
            yield None
            return
        yield podman
    finally:
        podman.close()


def starts(runs: int, side: Nsrun, podman: Podman | None, bare: Path, rootfs: Path) -> list[Figure]:
    """`pod up`: warm, cold, and the engine's part."""
    contenders = {"nsrun": side.up_and_down, "bare": lambda: float(run([str(bare), str(rootfs)]))}
    if podman:
        contenders["podman"] = podman.up_and_down
    warm = in_turn(runs, **contenders)
    nsrun = warm["nsrun"].median
    theirs = warm["podman"].median if podman else None
    figures = [
        Figure(
            "pod up, 2 containers, warm", "ms", nsrun, "at most 1/3 of podman's",
            None if theirs is None else nsrun <= theirs / 3, "podman kube play", theirs, list(warm.values()),
        ),
        Figure("the same as bare system calls", "ms", warm["bare"].median, "the floor", None),
    ]  # fmt: skip
    with side.connect() as client:
        text = side.manifest.read_text()

        answers: list[float] = []

        def engine_up() -> float:
            asked = time.time()
            answers.append(timed(lambda: client.up(text)))
            started = [instance["started_at"] for instance in client.pod("bench").runtime["instances"]]
            client.down("bench", grace_period=0, force=True)
            return float(max(started) - asked) * 1e3

        sample = in_turn(runs, engine=engine_up)["engine"]
    answered = statistics.median(answers[1:])
    figures += [
        Figure("request to both exec'ed", "ms", sample.median, "at most 10 ms", sample.median <= 10, samples=[sample]),
        Figure("request to answer `Running` (library)", "ms", answered, "for scale", None),
    ]
    cold = in_turn(max(3, runs // 3), cold=side.cold_up)["cold"]
    figures.append(Figure("pod up, server not running", "ms", cold.median, "at most 400 ms", cold.median <= 400))
    return figures


def inside(runs: int, side: Nsrun, podman: Podman | None) -> list[Figure]:
    """exec, ls and --version, with a pod running on either side."""
    side.up()
    contenders = {"nsrun": lambda: timed(lambda: side("pod", "exec", "bench", "-c", "a", "--", "/bin/testbox", "true"))}
    if podman:
        podman.up()
        contenders["podman"] = podman.exec
    execs = in_turn(runs, **contenders)
    nsrun = execs["nsrun"].median
    theirs = execs["podman"].median if podman else None
    figures = [
        Figure(
            "pod exec -- true", "ms", nsrun, "at most 1/2 of podman's",
            None if theirs is None else nsrun <= theirs / 2, "podman exec", theirs, list(execs.values()),
        )
    ]  # fmt: skip
    with side.connect() as client:
        pod = client.pod("bench")
        library = in_turn(runs * 3, library=lambda: timed(lambda: pod.exec(["/bin/true"], container="a")))
        sample = library["library"]
    figures.append(Figure("exec through the library", "ms", sample.median, "at most 3 ms", sample.median <= 3))
    plain = in_turn(
        runs,
        ls=lambda: timed(lambda: side("pod", "ls")),
        version=lambda: timed(lambda: run([NSRUN, "--version"])),
        python=lambda: timed(lambda: run([sys.executable, "-c", "pass"])),
    )
    ls, version = plain["ls"].median, plain["version"].median
    figures += [
        Figure("pod ls", "ms", ls, "at most 60 ms", ls <= 60, "python -c pass", plain["python"].median),
        Figure(
            "nsrun --version", "ms", version, "at most 35 ms", version <= 35, "python -c pass", plain["python"].median
        ),
    ]
    if podman:
        podman.down()
    side.down()
    return figures


def runtimes(runs: int, work: Path, rootfs: Path) -> list[Figure]:
    """What one container costs the runtimes that have no pods, for scale."""
    contenders = {}
    for runtime in ("crun", "runc"):
        if shutil.which(runtime):
            bundle = Bundle(work / runtime, rootfs, runtime)
            try:
                bundle.run()
            except RuntimeError as error:
                print(f"{runtime} cannot run here: {str(error).splitlines()[-1]}", file=sys.stderr)
                continue
            contenders[runtime] = bundle.run
    if shutil.which("bwrap"):
        contenders["bwrap"] = lambda: bubblewrap(rootfs)
    return [
        Figure(f"one container under {name}", "ms", sample.median, "for scale", None)
        for name, sample in in_turn(runs, **contenders).items()
    ]


def conmon_or_none(work: Path, rootfs: Path, log: Path) -> tuple[float, float] | None:
    """conmon's (MB/s, CPU seconds per GB) where it is installed; else None, and why is said."""
    if not shutil.which("conmon") or not shutil.which("crun"):
        print("conmon or crun is not installed: no figures beside its log pump", file=sys.stderr)
        return None
    try:
        return conmon.log_pump(work, rootfs, log, PUMPED_MB)
    except (RuntimeError, TimeoutError, OSError) as error:
        print(f"conmon cannot run a container here: {error}", file=sys.stderr)
        return None


def pumps(runs: int, side: Nsrun, work: Path, rootfs: Path) -> list[Figure]:
    """Logs: what a container's output costs the shim, and conmon."""
    ours: list[tuple[float, float]] = []
    theirs: list[tuple[float, float]] = []
    for number in range(max(3, runs // 3)):
        ours.append(side.log_pump(PUMPED_MB))
        found = conmon_or_none(work / f"conmon-{number}", rootfs, side.root / "log" / "conmon.log")
        if found is None:
            break
        theirs.append(found)
    rate, cpu = (statistics.median(values) for values in zip(*ours, strict=True))
    peer_rate, peer_cpu = (
        (statistics.median(values) for values in zip(*theirs, strict=True)) if theirs else (None, None)
    )
    return [
        Figure(
            "log pump, 100-byte lines", "MB/s", rate, "300, and twice conmon's",
            rate >= 300 and (peer_rate is None or rate >= 2 * peer_rate), "conmon", peer_rate,
        ),
        Figure(
            "log pump, CPU of it", "s/GB", cpu, "half of conmon's",
            None if peer_cpu is None else cpu <= peer_cpu / 2, "conmon", peer_cpu,
        ),
    ]  # fmt: skip


def upkeep(runs: int, side: Nsrun) -> list[Figure]:
    """Restart and memory."""
    restarts = sorted(side.restart_ms() for _ in range(max(3, runs // 2)))
    restart = restarts[len(restarts) // 2]
    side.up()
    shim = side.shim_private_kb("bench")
    side.down()
    return [
        Figure("first restart, exit to exec", "ms", restart, "at most 5 ms", restart <= 5),
        Figure("shim, private memory", "KiB", shim, "at most 400", shim <= 400),
    ]


def scale(side: Nsrun, many: int) -> list[Figure]:
    """Cost per pod with few and with many pods, and the server's memory."""
    # What a server imports with its first pod is not of each pod.
    side.up()
    side.down()
    base = side.server_kb()
    spent: dict[int, float] = {}
    made: list[str] = []
    with side.connect() as client:

        def up(number: int) -> None:
            name = f"scale-{number}"
            client.up(POD.format(name=name))
            made.append(name)

        for number in range(many):
            spent[number] = timed(lambda number=number: up(number))  # type: ignore[misc]
        stats = sorted(timed(lambda: client.stats(interval=0)) for _ in range(9))[4]
        full = side.server_kb()
        shims = sum(side.shim_private_kb(name) for name in made[:20]) / min(20, len(made))
        client.down(*made, grace_period=0, force=True)
    few = sorted(spent[n] for n in range(5, 15))[5]
    late = sorted(spent[n] for n in range(many - 10, many))[5]
    per_pod = (full - base) / many
    return [
        Figure(f"up of pod {many} beside pod 10", "ratio", late / few, "at most 1.5", late / few <= 1.5),
        Figure(f"stats of {many} pods in one call", "ms", stats, "at most 50 ms", stats <= 50),
        Figure("server, resident, no pods", "KiB", base, "at most 60 MB", base <= 60_000),
        Figure(f"server, per pod at {many}", "KiB", per_pod, "at most 50", per_pod <= 50),
        Figure(f"shim, private, mean at {many}", "KiB", shims, "at most 400", shims <= 400),
    ]


def table(figures: list[Figure]) -> str:
    """The figures as a Markdown table."""
    lines = ["| what | nsrun | beside it | ratio | wanted | holds |", "| --- | --- | --- | --- | --- | --- |"]
    for figure in figures:
        peer = "" if figure.peer_value is None else f"{figure.peer} {figure.peer_value:.1f} {figure.unit}"
        ratio = "" if figure.ratio is None else f"{figure.ratio:.2f}"
        holds = "" if figure.holds is None else ("yes" if figure.holds else "NO")
        lines.append(
            f"| {figure.name} | {figure.value:.1f} {figure.unit} | {peer} | {ratio} | {figure.wanted} | {holds} |"
        )
    return "\n".join(lines)


def main() -> None:
    """Measures, prints the table, writes the JSON."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench", description=__doc__)
    parser.add_argument("--runs", type=int, default=10, help="counted runs of each figure (10)")
    parser.add_argument("--pods", type=int, default=200, help="how many pods for the figures of scale (200)")
    parser.add_argument(
        "--only",
        choices=[
            "probes",
            "files",
            "forward",
            "streams",
            "configured",
            "images",
            "identities",
            "resolver",
            "api",
            "network",
            "scale",
        ],
        help="nothing but these figures (probes: 300 pods with three probes each, and more; forward: port-forward; "
        "files: logs --tail of a large log, cp of a large tree; "
        "configured: what ConfigMaps, variables and limits cost; images: pulls beside podman and skopeo; "
        "identities: users and PID namespaces of a pod's own; resolver: names of pods; api: the Kubernetes API; "
        "network: bytes from pod to pod; scale: many pods at once)",
    )
    parser.add_argument("--probed", type=int, default=300, help="how many pods for the figures of probes (300)")
    parser.add_argument("--json", type=Path, default=Path("bench-results/figures.json"), help="where the figures go")
    options = parser.parse_args()
    machine = Machine.from_environment()
    if machine is None:
        sys.exit("not in a test host; run: make bench")
    # It goes with the test host, also when this process is killed.
    work = Path(machine.directory, "bench")
    work.mkdir()
    figures: list[Figure] = []
    try:
        rootfs = build(work / "rootfs")
        if options.only in (None, "configured"):
            with nsrun_at(work / "configured", rootfs) as side:
                figures += configured(side, options.runs)
        # Without the machine's version 1 controllers, which limits need where it has those.
        pure_cgroup2()
        bare = work / "bare"
        for program, place in ((BARE, bare), (BARE.with_name("pour.c"), rootfs / "bin" / "pour")):
            run(["cc", "-O2", "-static", "-D_GNU_SOURCE", "-o", str(place), str(program)])
        with nsrun_at(work / "root", rootfs) as side:
            if options.only is None:
                with podman_or_none(work, rootfs) as podman:
                    figures += starts(options.runs, side, podman, bare, rootfs)
                    figures += inside(options.runs, side, podman)
                figures += runtimes(options.runs, work, rootfs)
                figures += upkeep(options.runs, side)
                figures += pumps(options.runs, side, work, rootfs)
            if options.only in (None, "scale"):
                figures += scale(side, options.pods)
            if options.only in (None, "forward"):
                figures += forward(side, options.runs)
            if options.only in (None, "network"):
                figures += network(side, options.runs)
            if options.only in (None, "streams"):
                figures += api_streams(side, options.runs)
            if options.only in (None, "files"):
                figures += files(side, options.runs)
            if options.only in (None, "resolver"):
                figures += resolver(side, options.runs)
            if options.only in (None, "api"):
                figures += api(side, options.runs)
            if options.only in (None, "identities"):
                figures += identities(side, options.runs)
            if options.only in (None, "probes"):
                figures += probes(side, options.runs, options.probed)
            if options.only in (None, "images"):
                figures += images(side, options.runs, work / "images")
    finally:
        shutil.rmtree(work, ignore_errors=True)
    print(
        f"{platform.release()}, {os.cpu_count()} processors, Python {platform.python_version()}, {options.runs} runs\n"
    )
    print(table(figures))
    options.json.parent.mkdir(parents=True, exist_ok=True)
    options.json.write_text(json.dumps([figure.as_data() for figure in figures], indent=1) + "\n")


if __name__ == "__main__":
    main()
