"""hostUsers: false: users and groups of the pod's own, from inside and from the machine (S-USERNS)."""

from __future__ import annotations

import fcntl
import os
import stat
from pathlib import Path
from typing import Any

import pytest

from nsrun.plan import IDS_PER_POD
from tests.capabilities import missing
from tests.host.namespaces.looking import namespace, pid_of, said
from tests.host.server.harness import IMAGE, Server, alive, box, pod, until
from tests.host.volumes.looking import events, mount, mounts, volume

pytestmark = pytest.mark.timeout(90)

MEMORY = missing("id-mapped tmpfs") is None
NS_GET_USERNS = 0xB701
DEFAULT = "00000000a80425fb"
"""The default set of capabilities."""


def first_id(pid: int, kind: str = "uid") -> int:
    """What 0 is on the machine for a process, whose ids have to be a pod's."""
    (line,) = Path(f"/proc/{pid}/{kind}_map").read_text(encoding="ascii").splitlines()
    inside, outside, count = map(int, line.split())
    assert (inside, count) == (0, IDS_PER_POD)
    assert outside % IDS_PER_POD == 0
    return outside


def owner_of(pid: int, kind: str) -> str:
    """The user namespace that a namespace of a process belongs to."""
    fd = os.open(f"/proc/{pid}/ns/{kind}", os.O_RDONLY)
    try:
        user = fcntl.ioctl(fd, NS_GET_USERNS)
        try:
            return os.readlink(f"/proc/self/fd/{user}")
        finally:
            os.close(user)
    finally:
        os.close(fd)


def owner(path: Path) -> tuple[int, int]:
    """uid and gid of a file on the machine."""
    facts = path.stat(follow_symlinks=False)
    return facts.st_uid, facts.st_gid


def owners(server: Server, *paths: str, container: str = "a") -> dict[str, str]:
    """Mode and owner of paths as a container has them: `0755 0 0`."""
    lines = said(server, "stat", *paths, container=container).splitlines()
    return {line.split()[0]: " ".join(line.split()[2:5]) for line in lines}


def status(pid: int, name: str) -> str:
    """A line of /proc/PID/status."""
    lines = Path(f"/proc/{pid}/status").read_text(encoding="utf-8").splitlines()
    return next(line.partition(":")[2].strip() for line in lines if line.startswith(f"{name}:"))


def test_S_USERNS_ids_files_volumes_and_capabilities(server: Server, tmp_path: Path) -> None:
    given = tmp_path / "given"
    given.mkdir()
    (given / "roots").write_text("of the machine's root")
    (given / "roots").chmod(0o600)
    (given / "node").mkdir()
    os.mknod(given / "node" / "null", stat.S_IFCHR | 0o666, os.makedev(1, 3))
    volumes = [volume("data"), volume("given", hostPath={"path": str(given), "type": "Directory"})]
    in_memory = [
        volume("mem", emptyDir={"medium": "Memory", "sizeLimit": "1Mi"}),
        volume("told", downwardAPI={"items": [{"path": "name", "fieldRef": {"fieldPath": "metadata.name"}}]}),
    ]
    # Before Linux 6.3 they cannot have the pod's ids; the next test is about that.
    volumes += in_memory if MEMORY else []
    all_mounts = [
        mount("data", "/data"),
        *([mount("mem", "/mem"), mount("told", "/told")] if MEMORY else []),
        mount("given", "/given"),
        mount("data", "/part", subPath="deep/er"),
        mount("given", "/given-ro", readOnly=True),
    ]
    user = {"runAsUser": 1000, "runAsGroup": 2000}
    web = pod(
        "web",
        box("a", "then", "write", "/tmp/mine", "x", ";", "pause", volumeMounts=all_mounts, workingDir="/made/for/it"),
        box("b", "pause", tty=True, volumeMounts=all_mounts, securityContext={**user, "readOnlyRootFilesystem": True}),
        hostUsers=False,
        volumes=volumes,
        securityContext={
            "fsGroup": 3000,
            "sysctls": [
                {"name": "kernel.shm_rmid_forced", "value": "1"},
                {"name": "net.ipv4.ip_local_port_range", "value": "20000 30000"},
            ],
        },
    )
    before = Path("/proc/self/mountinfo").read_text(encoding="utf-8")
    uid = server.up(web, pod("other", box("a", "pause"), hostUsers=False))["pods"][0]["uid"]
    a, b, other = pid_of(server, "web"), pid_of(server, "web", "b"), pid_of(server, "other")

    # One range for all of a pod, another for another.
    ids = first_id(a)
    assert ids == first_id(b) == first_id(a, "gid")
    assert abs(first_id(other) - ids) >= IDS_PER_POD
    assert status(a, "Uid").split() == status(a, "Gid").split() == [str(ids)] * 4
    assert (status(b, "Uid").split()[0], status(b, "Gid").split()[0]) == (str(ids + 1000), str(ids + 2000))
    assert status(b, "Groups").split() == [str(ids + one) for one in (29, 50, 2000, 3000)]
    assert said(server, "ids") == "uid=0 euid=0 gid=0 egid=0 groups=0,3000\n"
    assert said(server, "ids", container="b") == "uid=1000 euid=1000 gid=2000 egid=2000 groups=29,50,2000,3000\n"
    assert namespace(a, "user") == namespace(b, "user") not in (namespace(other, "user"), namespace("self", "user"))
    for kind in ("net", "ipc", "uts", "mnt", "cgroup"):
        assert owner_of(a, kind) == namespace(a, "user"), kind
    assert server.runtime("web")["first_id"] == ids

    # Capabilities, and what they are worth.
    assert f"CapEff {DEFAULT}" in said(server, "caps")
    assert "CapEff 0000000000000000" in said(server, "caps", container="b")
    tried = said(server, "try", "mount", "mknod", "mknod_disk", "remount_sys", "sethostname", "settime")
    assert {line.split()[1] for line in tried.splitlines()} <= {"EPERM", "EACCES", "EROFS"}, tried
    assert said(server, "try", "chown", "setuid").split() == ["chown", "ok", "setuid", "ok"]
    assert server.run("web", "/bin/kill", "9", str(b), container="a")[0] != 0

    # The root file system, what the pod has in it, and what of it is the machine's.
    seen = owners(
        server, "/", "/bin", "/dev", "/etc/hosts", "/etc/resolv.conf", "/made/for/it", "/tmp/mine", "/dev/mqueue"
    )
    assert {one.split(" ", 1)[1] for one in seen.values()} == {"0 0"}, seen
    assert owners(server, "/dev/null", "/sys", "/proc/sys")["/dev/null"] == "0666 65534 65534"
    (instance,) = [one["id"] for one in server.runtime("web")["instances"] if one["name"] == "a"]
    upper = server.root / "lib" / "roots" / uid / instance / "upper"
    assert owner(upper) == owner(upper / "tmp" / "mine") == owner(upper / "made" / "for") == (ids, ids)
    assert "web" in said(server, "cat", "/etc/hosts")
    for container in ("a", "b"):
        assert said(server, "cat", "/proc/sys/kernel/shm_rmid_forced", container=container) == "1\n"
        assert said(server, "cat", "/proc/sys/net/ipv4/ip_local_port_range", container=container) == "20000\t30000\n"
    assert server.run("web", "/bin/write", "/etc/hosts", "x", container="b")[0] != 0
    assert len(said(server, "pids").splitlines()) == 2

    # Volumes have the pod's ids on them wherever they come from; on disk stands what the container wrote.
    disk, memory = server.root / "lib/volumes" / uid, server.root / "run/pods" / uid / "volumes"
    for place, path in (("/data", disk / "data"), ("/mem", memory / "mem"))[: 2 if MEMORY else 1]:
        said(server, "write", f"{place}/root", "x")
        said(server, "write", f"{place}/user", "x", container="b")
        assert owner(path / "root") == (0, 3000)
        assert owner(path / "user") == (1000, 3000)
        assert owners(server, f"{place}/root", f"{place}/user") == {
            f"{place}/root": "0644 0 3000",
            f"{place}/user": "0644 1000 3000",
        }
    assert not MEMORY or said(server, "cat", "/told/name", container="b") == "web"
    assert said(server, "cat", "/given/roots") == "of the machine's root"
    assert server.run("web", "/bin/cat", "/given/roots", container="b")[0] != 0
    said(server, "write", "/given/new", "x")
    assert owner(given / "new") == (0, 0)
    said(server, "write", "/part/f", "x")
    assert (disk / "data" / "deep" / "er" / "f").read_text() == "x"
    assert server.run("web", "/bin/write", "/given-ro/f", "x", container="a")[0] != 0
    assert server.run("web", "/bin/cat", "/given/node/null", container="a")[0] != 0, "no device of a volume"
    assert all("idmapped" in mounts(server)[one["mountPath"]][1] for one in (*all_mounts, {"mountPath": "/etc/hosts"}))
    assert "ro" in mounts(server, container="b")["/"][1].split(",")

    # Commands have the pod's ids too; /dev/stdout can be opened by its name, and a pod in the machine's ids is as ever.
    assert server.run("web", "/bin/write", "/dev/stdout", "by name", container="a")[1] == b"by name"
    assert server.run("web", "/bin/write", "/dev/stdout", "by name", container="b")[1] == b"by name"
    assert f"{ids}" in said(server, "cat", "/proc/self/uid_map")
    assert Path("/proc/self/mountinfo").read_text(encoding="utf-8").count("idmapped") == before.count("idmapped")
    server.down("web", "other")
    assert not any((server.root / "run" / "ids").iterdir())
    assert Path("/proc/self/mountinfo").read_text(encoding="utf-8") == before


def test_S_USERNS_memory_has_the_ids_of_the_pod_or_it_is_told_why_not(server: Server) -> None:
    """Linux before 6.3 has no such mounts of tmpfs: pods with both are told, nobody else is concerned."""
    memory = volume("mem", emptyDir={"medium": "Memory"})
    server.up(
        pod("disk", box("a", "pause", volumeMounts=[mount("v", "/v")]), hostUsers=False, volumes=[volume("v")]),
        pod("memory", box("a", "pause", volumeMounts=[mount("mem", "/v")]), hostUsers=False, volumes=[memory]),
        pod("machine", box("a", "pause", volumeMounts=[mount("mem", "/v")]), volumes=[memory]),
        wait="none",
    )
    for name in ("disk", "machine"):
        server.wait(name, "condition=Ready")
    doctor = {one["name"]: one for one in server.call("doctor").result["checks"]}["user namespaces"]
    if MEMORY:
        server.wait("memory", "condition=Ready")
        assert doctor["ok"], doctor
    else:
        told = "/volumes/mem cannot have the ids of the pod's user namespace: Invalid argument"
        # It is tried again as any container that does not start: ended, then waiting.
        until(lambda: told in str(server.container("memory", "a")))
        assert (doctor["ok"], doctor["text"].split()[0]) == (False, "tmpfs"), doctor


def test_S_USERNS_probes_hooks_logs_debug_terminals_and_last_words(server: Server) -> None:
    command = {"exec": {"command": ["/bin/write", "/hooked", "x"]}}
    look = {"exec": {"command": ["/bin/cat", "/hooked"]}, "periodSeconds": 1}
    life = box(
        "a",
        "then", "echo", "hello", ";", "write", "/dev/termination-log", "last words", ";", "await", "/end", ";", "exit", "3",
        lifecycle={"postStart": command, "preStop": command},
        readinessProbe=look,
        tty=True,
        stdin=True,
    )  # fmt: skip
    server.up(pod("web", life, hostUsers=False, restartPolicy="Never"), wait="ready")
    pid = pid_of(server, "web")
    ids = first_id(pid)
    assert server.lines("web", "a")[:1] == ["hello\r"], "as a terminal has it"
    assert said(server, "stat", "/dev/console").split()[3:5] == ["0", "5"]
    extra = {
        "name": "dbg",
        "image": IMAGE,
        "imagePullPolicy": "Never",
        "command": ["/bin/pause"],
        "targetContainerName": "a",
    }
    server.call("pod.debug", name="web", container=extra)
    until(
        lambda: [1 for one in server.runtime("web")["instances"] if (one["name"], one["state"]) == ("dbg", "running")]
    )
    debug = pid_of(server, "web", "dbg")
    assert first_id(debug) == ids
    assert namespace(debug, "user") == namespace(pid, "user")
    assert namespace(debug, "pid") == namespace(pid, "pid")
    # Same user, same capabilities: it may look at what its target has.
    assert said(server, "cat", "/proc/1/root/hooked", container="dbg") == "x"
    server.run("web", "/bin/write", "/end", "x", container="a")
    until(lambda: "terminated" in server.container("web", "a")["state"])
    ended = server.container("web", "a")["state"]["terminated"]
    assert (ended["exitCode"], ended["message"]) == (3, "last words")
    server.down("web")


def test_S_USERNS_privileged_and_unmasked_are_of_the_pod_alone(server: Server) -> None:
    disks = [one for one in ("vda", "sda", "nvme0n1", "loop0") if Path(f"/dev/{one}").exists()]
    server.up(
        pod(
            "web",
            box("a", "pause", securityContext={"privileged": True}),
            box("b", "pause", securityContext={"procMount": "Unmasked", "capabilities": {"add": ["SYS_ADMIN"]}}),
            box("c", "pause", securityContext={"procMount": "Default", "capabilities": {"add": ["SYS_ADMIN"]}}),
            hostUsers=False,
        )
    )
    full = Path("/proc/self/status").read_text(encoding="utf-8").partition("CapBnd:\t")[2].split()[0]
    assert f"CapEff {full}" in said(server, "caps")
    # All of the machine's devices are there, and whose they are on the machine: not the pod's root's.
    for disk in disks:
        assert owners(server, f"/dev/{disk}")[f"/dev/{disk}"].split()[1] == "65534"
        assert server.run("web", "/bin/read", f"/dev/{disk}", "1", container="a")[0] != 0
    assert said(server, "try", "mknod_disk", "settime", "open_by_handle").splitlines()[1] == "settime EPERM"
    for name in ("/proc/sysrq-trigger", "/proc/sys/kernel/core_pattern"):
        assert server.run("web", "/bin/write", name, "h", container="a")[0] != 0, name
        assert server.run("web", "/bin/write", name, "h", container="b")[0] != 0, name
    unmasked, masked = mounts(server, container="b"), mounts(server, container="c")
    assert not [path for path in unmasked if path.startswith("/proc/")]
    assert {"/proc/kcore", "/proc/keys"} & {path for path in masked if path.startswith("/proc/")}
    # It may mount in its own namespace, and cannot take away what covers a part of /proc there.
    assert said(server, "try", "mount", container="c") == "mount ok\n"
    assert said(server, "try", "umount_mask", container="c") == "umount_mask EINVAL\n"
    server.down("web")


def test_S_USERNS_a_pod_keeps_its_ids_and_they_are_free_when_it_is_gone(server: Server) -> None:
    server.up(pod("web", box("a", "pause"), hostUsers=False))
    leases = server.root / "run" / "ids"
    pid = pid_of(server, "web")
    ids = first_id(pid)
    assert [path.name for path in leases.iterdir()] == [str(ids)]
    (leases / str(ids + 5 * IDS_PER_POD)).write_text("a-pod-that-is-gone")
    server.kill()
    assert pid_of(server, "web") == pid
    server.kill()
    os.kill(server.runtime("web")["shim_pid"], 9)
    until(lambda: server.container("web", "a").get("restartCount") == 1)
    again = pid_of(server, "web")
    assert (again != pid, first_id(again)) == (True, ids)
    until(lambda: [path.name for path in leases.iterdir()] == [str(ids)], what="what nobody has any more is collected")
    server.up(pod("next", box("a", "pause"), hostUsers=False))
    server.call("pod.down", names=["web"], grace_period_s=0, wait=False)
    server.kill()
    until(lambda: "web" not in server.names())
    until(lambda: not alive(again))
    until(lambda: len(list(leases.iterdir())) == 1)
    server.up(pod("last", box("a", "pause"), hostUsers=False))
    assert len({first_id(pid_of(server, name)) for name in ("next", "last")} | {ids}) == 3, "not at once another's"
    server.down("next", "last")


def test_S_USERNS_without_ids_a_pod_waits_and_says_so(server: Server) -> None:
    server.stop()
    config = server.root / "etc" / "config.toml"
    config.parent.mkdir(exist_ok=True)
    config.write_text(f"[userNamespaces]\nfirstID = {1000 * IDS_PER_POD}\ncount = {IDS_PER_POD}\n", encoding="utf-8")
    server.up(pod("one", box("a", "pause"), hostUsers=False))
    assert first_id(pid_of(server, "one")) == 1000 * IDS_PER_POD
    server.up(
        pod("two", box("a", "pause"), hostUsers=False), pod("with", box("a", "pause")), wait="none", time_scale=20
    )
    server.wait("with", "phase=Running")
    words = "could not find an empty slot to allocate a user namespace"
    until(lambda: any(words in one for one in events(server, "FailedCreatePodSandBox", "two")))
    assert server.get("two")["status"]["phase"] == "Pending"
    server.down("one")
    server.wait("two", "phase=Running")
    assert first_id(pid_of(server, "two")) == 1000 * IDS_PER_POD
    server.down("two", "with")


@pytest.mark.parametrize(
    ("spec", "words"),
    [
        (
            {"volumes": [volume("v", hostPath={"path": "/proc/sys/net"})], "mounts": [mount("v", "/v")]},
            "the mount /proc/sys/net cannot have the ids of the pod's user namespace: Invalid argument",
        ),
        ({"securityContext": {"runAsUser": 65536}}, "cannot set uid to unmapped user in user namespace: 65536"),
        (
            {"securityContext": {"supplementalGroups": [70000]}},
            "cannot set supplementary gid to unmapped group in user namespace: 70000",
        ),
        (
            {
                "volumes": [volume("v")],
                "mounts": [mount("v", "/v", mountPropagation="Bidirectional")],
                "own": {"privileged": True},
            },
            'volumeMount "v" cannot have mountPropagation Bidirectional with hostUsers: false',
        ),
    ],
    ids=["file-system", "user", "group", "propagation"],
)
def test_S_USERNS_what_cannot_be_is_named(server: Server, spec: dict[str, Any], words: str) -> None:
    fields = {"volumeMounts": spec.pop("mounts", []), "securityContext": spec.pop("own", {})}
    server.up(pod("web", box("a", "pause", **fields), hostUsers=False, **spec), wait="none")
    until(lambda: any(words in one for one in events(server, "Failed")), what=f"{words}: {events(server, 'Failed')}")
    server.down("web")
