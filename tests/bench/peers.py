"""The peers: podman, crun, runc and bubblewrap as Debian ships them, on the same root file system.

They run in the test host's namespaces with storage of their own. Where this machine lacks what they insist on (CAP_SYS_RESOURCE for
podman's default limits, a pure cgroup v2 tree for crun), the runtime is started through a few lines of shell that leave these
parts out; that costs each container start about 3 ms and is said in the table.
"""

from __future__ import annotations

import json
import os
import shutil
from contextlib import suppress
from pathlib import Path

from tests.bench.measure import run, timed

WRAPPER = """#!/bin/sh
# Leaves out what this machine refuses: higher resource limits and the devices' eBPF program.
for word do
	case $before in
	--bundle | -b)
		sed -i -E 's/"rlimits":\\[[^]]*\\]/"rlimits":[]/' "$word/config.json"
		sed -i -E 's/"resources":\\{"devices":\\[[^]]*\\],?/"resources":{/' "$word/config.json"
		;;
	--process | -p) sed -i -E 's/"rlimits":\\[[^]]*\\]/"rlimits":[]/' "$word" ;;
	esac
	before=$word
done
exec crun --cgroup-manager=disabled "$@"
"""

PARENT = Path("/sys/fs/cgroup/libpod_parent")
"""The cgroup that podman makes for pods, and leaves. `pure_cgroup2` has made the tree a plain one."""

CONTAINERS_CONF = """[containers]
default_ulimits = ["nofile=1024:1024", "nproc=1024:1024"]
log_driver = "k8s-file"
"""

POD = """apiVersion: v1
kind: Pod
metadata: {name: bench}
spec:
  containers:
  - {name: a, image: localhost/bench, command: [/bin/testbox, sleep, "1000"]}
  - {name: b, image: localhost/bench, command: [/bin/testbox, sleep, "1000"]}
"""


class Podman:
    """podman with storage below `work`; None of it survives `close`."""

    def __init__(self, work: Path, rootfs: Path) -> None:
        self.work = work
        work.mkdir(parents=True)
        (work / "crun").write_text(WRAPPER)
        (work / "crun").chmod(0o755)
        (work / "containers.conf").write_text(CONTAINERS_CONF)
        (work / "pod.yaml").write_text(POD)
        self.environment = {"CONTAINERS_CONF": str(work / "containers.conf")}
        self.command = [
            "podman", "--root", str(work / "root"), "--runroot", str(work / "runroot"), "--tmpdir", str(work / "tmp"),
            "--cgroup-manager", "cgroupfs", "--events-backend", "none", "--runtime", str(work / "crun"),
        ]  # fmt: skip
        self.tables = _nft_tables()
        self.had_parent = PARENT.is_dir()
        archive = work / "rootfs.tar"
        run(["tar", "-C", str(rootfs), "-cf", str(archive), "."])
        self._podman("import", str(archive), "localhost/bench")

    def _podman(self, *words: str) -> str:
        return run([*self.command, *words], environment=self.environment)

    def up(self) -> float:
        """Milliseconds of `kube play` of the two-container pod."""
        return timed(lambda: self._podman("kube", "play", str(self.work / "pod.yaml")))

    def down(self) -> None:
        """Takes the pod away."""
        self._podman("kube", "play", "--down", str(self.work / "pod.yaml"))

    def up_and_down(self) -> float:
        """Milliseconds of `up`; the pod is taken away uncounted."""
        spent = self.up()
        self.down()
        return spent

    def exec(self) -> float:
        """Milliseconds of `exec … true` in the running pod."""
        return timed(lambda: self._podman("exec", "bench-a", "/bin/testbox", "true"))

    def close(self) -> None:
        """Removes everything."""
        self._podman("pod", "rm", "--all", "--force")
        run(["umount", str(self.work / "root" / "overlay")], check=False)
        if not self.had_parent:
            with suppress(OSError):
                os.rmdir(PARENT)
        # Its network plugins leave their tables; only the test host has them.
        for table in _nft_tables() - self.tables:
            run(["nft", "delete", *table.split()])
        shutil.rmtree(self.work, ignore_errors=True)


def _nft_tables() -> set[str]:
    """`table ip nat` and the like, of this network namespace."""
    return set(run(["nft", "list", "tables"]).splitlines())


class Bundle:
    """One OCI bundle that crun and runc run."""

    def __init__(self, work: Path, rootfs: Path, runtime: str) -> None:
        self.work = work
        self.runtime = runtime
        self.number = 0
        work.mkdir(parents=True)
        run([runtime, "spec", "--bundle", str(work)])
        config = json.loads((work / "config.json").read_text())
        config["root"] = {"path": str(rootfs), "readonly": True}
        config["process"] |= {"terminal": False, "args": ["/bin/testbox", "true"], "rlimits": []}
        config["linux"].pop("resources", None)
        (work / "config.json").write_text(json.dumps(config))
        self.flags = ["--cgroup-manager=disabled"] if runtime == "crun" else []

    def run(self) -> float:
        """Milliseconds of `run` of one container to its end."""
        self.number += 1
        command = [self.runtime, *self.flags, "--root", str(self.work / "state"), "run", "--bundle", str(self.work)]
        return timed(lambda: run([*command, f"nsrun-bench-{self.number}"]))


def bubblewrap(rootfs: Path) -> float:
    """Milliseconds of one sandboxed process under bwrap."""
    return timed(
        lambda: run(
            [
                "bwrap",
                "--unshare-all",
                "--ro-bind",
                str(rootfs),
                "/",
                "--proc",
                "/proc",
                "--dev",
                "/dev",
                "/bin/testbox",
                "true",
            ]
        )
    )
