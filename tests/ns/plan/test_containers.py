"""Planned containers on the real kernel: what they see, what they do not, and what is refused."""

from __future__ import annotations

import contextlib
import os
import socket
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from nsrun import native
from nsrun.images import Image, host
from nsrun.plan import NodeFacts, exec_program, ops
from nsrun.plan.capabilities import DEFAULT_CAPABILITIES, flags
from nsrun.security import host_devices
from nsrun.spec.model import (
    Capabilities,
    Container,
    EnvVar,
    ObjectMeta,
    Pod,
    PodSecurityContext,
    PodSpec,
    SeccompProfile,
    SecurityContext,
)
from tests.ns.plan.box import Box

GOLDEN = Path(__file__).with_name("golden")


def pod(
    *command: str, context: SecurityContext | None = None, container: dict[str, Any] | None = None, **spec: Any
) -> Pod:
    """A pod with one container that runs this."""
    one = Container(name="app", image="box", command=list(command), securityContext=context, **(container or {}))
    return Pod(metadata=ObjectMeta(name="web", namespace="default", uid="u"), spec=PodSpec(containers=[one], **spec))


def seq(*steps: str) -> list[str]:
    """`testbox seq` of several sub-commands, each one text."""
    words = ["testbox", "seq"]
    for step in steps:
        words += [*step.split(), ";"]
    return words


def _golden(name: str, lines: list[str]) -> None:
    """Compares with a golden file; NSRUN_UPDATE_GOLDEN=1 writes it."""
    path = GOLDEN / name
    if os.environ.get("NSRUN_UPDATE_GOLDEN"):
        path.write_text("\n".join(lines) + "\n")
    assert lines == path.read_text().splitlines()


def _mounts(lines: list[str]) -> list[str]:
    """Without what differs from machine to machine: file systems below binds, access times, what there is to mask in /proc and /sys."""
    result = []
    for line in lines:
        point, root, options, propagation, kind, _ = line.split()
        words = [word for word in options.split(",") if not word.endswith("atime")]
        if point.startswith(("/proc/", "/sys/")):
            continue
        if point.startswith("/etc/"):
            root, kind = root[root.rindex("/files/") :], "any"
            words = [word for word in words if word in ("rw", "ro", "nodev")]
        elif root != "/":
            kind = "any"
        result.append(" ".join((point, root, ",".join(words), propagation, kind)))
    return result


def test_every_mount_is_one_of_the_plans(box: Box) -> None:
    result = box.run(pod("testbox", "mounts"))
    _golden("mounts.txt", _mounts(result.lines))
    allowed = {"overlay", "proc", "sysfs", "tmpfs", "devtmpfs", "devpts", "mqueue", "cgroup2"}
    foreign = [line for line in result.lines if line.split()[4] not in allowed and not line.startswith("/etc/")]
    assert foreign == []
    assert not [line for line in result.lines if line.split()[3] != "private"], "nothing goes in or out later"


def test_what_is_masked(box: Box) -> None:
    result = box.run(
        pod(*seq("mounts", "ls /sys/firmware", "cat /proc/kcore /proc/keys /proc/timer_list /proc/interrupts"))
    )
    masked = {
        line.split()[0]: line.split() for line in result.section("mounts") if line.startswith(("/proc/", "/sys/"))
    }
    for path in ("/proc/keys", "/proc/timer_list", "/proc/interrupts", "/proc/kcore"):
        if os.path.exists(path):
            assert masked[path][1:3] == ["/null", "ro,nosuid,noexec,relatime"]
    assert result.section("ls") == []
    assert result.section("cat") == []
    for path in ("/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys"):
        if os.path.exists(path):
            assert masked[path][2].startswith("ro,")


def test_the_machine_shows_nothing_of_it(box: Box) -> None:
    before = Path("/proc/self/mountinfo").read_text()
    with box.start(one := pod("testbox", "then", "echo", "up", ";", "pause"), one.spec.containers[0]):
        assert Path("/proc/self/mountinfo").read_text() == before
    assert os.listdir(box.directory / "shm") == []
    assert os.listdir(box.directory / "instance-1/merged") == []


def test_devices(box: Box) -> None:
    result = box.run(
        pod(
            *seq(
                "ls /dev /dev/pts /dev/mqueue",
                "stat /dev/null /dev/zero /dev/full /dev/random /dev/urandom /dev/tty /dev/ptmx /dev/fd /dev/stdin /dev/shm",
                "write /dev/null x",
                "write /dev/full x",
                "read /dev/zero 100000",
                "read /dev/urandom 100000",
                "try mknod mknod_disk open_disk chmod_null chmod_mask",
            )
        )
    )
    expected = "fd full mqueue null ptmx pts random shm stderr stdin stdout tty urandom zero ptmx"
    assert result.section("ls") == expected.split()
    assert result.section("stat") == [
        "/dev/null c 0666 0 0 1:3",
        "/dev/zero c 0666 0 0 1:5",
        "/dev/full c 0666 0 0 1:7",
        "/dev/random c 0666 0 0 1:8",
        "/dev/urandom c 0666 0 0 1:9",
        "/dev/tty c 0666 0 0 5:0",
        "/dev/ptmx l 0777 0 0 8 -> pts/ptmx",
        "/dev/fd l 0777 0 0 13 -> /proc/self/fd",
        "/dev/stdin l 0777 0 0 15 -> /proc/self/fd/0",
        "/dev/shm d 1777 0 0 0",
    ]
    assert "read 100000" in result.section("read")
    assert result.err == "write: /dev/full: ENOSPC\n"
    # Making a node is allowed and useless; the machine's own nodes cannot be touched through the container's.
    assert result.section("try") == [
        "mknod ok",
        "mknod_disk ok",
        "open_disk EACCES",
        "chmod_null EROFS",
        "chmod_mask EROFS",
    ]


def test_the_process_itself(box: Box) -> None:
    result = box.run(pod(*seq("fds", "signals", "self", "cwd", "env", "args a b", "hostname", "links")), stdin=b"hello")
    numbers = [line.split()[0] for line in result.section("fds")]
    assert numbers == ["0", "1", "2"], "no descriptor leaks in"
    assert result.section("self") == [f"pid=4 ppid=1 sid=1 pgid=1 umask=0022 nice={os.nice(0)} oom_score_adj=1000"]
    assert result.section("signals") == ["pdeathsig 0"]
    assert result.section("cwd") == ["/"]
    assert result.section("hostname") == ["web (none)"]
    assert result.section("links") == ["lo"]
    assert result.section("env") == [
        "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
        "HOSTNAME=web",
        "HOME=/root",
    ]


def test_the_first_process_dies_with_its_parent(box: Box) -> None:
    assert box.run(pod("testbox", "signals")).lines == ["pdeathsig 9"]


def test_S_NS_other_processes_are_invisible(box: Box) -> None:
    result = box.run(pod("testbox", "pids"))
    assert result.lines == ["1 testbox"]


def test_S_NS_namespaces_are_all_its_own(box: Box) -> None:
    result = box.run(pod("testbox", "ns"))
    theirs = dict(line.split() for line in result.lines)
    for name in ("cgroup", "ipc", "mnt", "net", "pid", "uts"):
        assert theirs[name] != str(os.stat(f"/proc/self/ns/{name}").st_ino), name
    assert theirs["user"] == str(os.stat("/proc/self/ns/user").st_ino)


def test_S_NS_host_network(box: Box) -> None:
    result = box.run(pod(*seq("ns", "hostname", "cat /etc/hosts"), hostNetwork=True))
    theirs = dict(line.split() for line in result.section("ns"))
    for name in ("net", "uts"):
        assert theirs[name] == str(os.stat(f"/proc/self/ns/{name}").st_ino)
    assert theirs["ipc"] != str(os.stat("/proc/self/ns/ipc").st_ino)
    assert result.section("hostname")[0].split()[0] == socket.gethostname()
    assert result.section("cat")[0] == "# Kubernetes-managed hosts file (host network)."


def test_the_pods_files(box: Box) -> None:
    result = box.run(pod(*seq("cat /etc/hosts /etc/hostname /etc/resolv.conf", "append /etc/hosts 1.2.3.4:mine")))
    assert result.section("cat")[0] == "# Kubernetes-managed hosts file."
    assert result.section("cat")[-3:] == ["10.9.8.7\tweb", "web", "nameserver 10.9.8.1"]
    assert (box.directory / "files/hosts").read_text().endswith("10.9.8.7\tweb\n1.2.3.4:mine"), "as with a kubelet"


def _sets(result_lines: list[str]) -> dict[str, int]:
    return {name: int(value, 16) for name, value in (line.split() for line in result_lines) if name.startswith("Cap")}


def test_capabilities_of_root(box: Box) -> None:
    sets = _sets(box.run(pod("testbox", "caps")).lines)
    expected = native.flags(flags(DEFAULT_CAPABILITIES))
    assert sets == {"CapInh": 0, "CapPrm": expected, "CapEff": expected, "CapBnd": expected, "CapAmb": 0}


def test_capabilities_of_anybody_else(box: Box) -> None:
    context = SecurityContext(runAsUser=1000, capabilities=Capabilities(drop=["ALL"], add=["NET_BIND_SERVICE"]))
    sets = _sets(box.run(pod("testbox", "caps", context=context)).lines)
    assert sets == {"CapInh": 0, "CapPrm": 0, "CapEff": 0, "CapBnd": native.flags("CAP_NET_BIND_SERVICE"), "CapAmb": 0}


def test_no_capabilities_at_all(box: Box) -> None:
    context = SecurityContext(capabilities=Capabilities(drop=["ALL"]))
    result = box.run(
        pod(*seq("caps", "try chown chroot setuid raw_socket mknod low_port ping_socket"), context=context)
    )
    assert set(_sets(result.section("caps")[:5]).values()) == {0}
    assert result.section("try") == [
        "chown EPERM",
        "chroot EPERM",
        "setuid EPERM",
        "raw_socket EPERM",
        "mknod EPERM",
        # The pod's own network namespace lets anybody have these.
        "low_port ok",
        "ping_socket ok",
    ]


FORBIDDEN = (
    *(
        "add_key",
        "bpf",
        "clone_user",
        "dmesg",
        "init_module",
        "io_uring",
        "iopl",
        "kexec",
        "keyctl",
        "mount",
        "open_by_handle",
    ),
    *("perf", "personality", "reboot", "remount_sys", "sethostname", "setns", "settime", "swapon", "umount", "unshare"),
    *("unshare_user", "userfaultfd", "vsock"),
)


@pytest.mark.parametrize("no_new_privs", [False, True])
def test_what_seccomp_refuses(box: Box, no_new_privs: bool) -> None:
    context = SecurityContext(allowPrivilegeEscalation=not no_new_privs)
    result = box.run(
        pod(
            *seq("status Seccomp NoNewPrivs", f"try {' '.join(FORBIDDEN)} clone3 ptrace personality_query"),
            context=context,
        )
    )
    assert result.section("status") == [f"NoNewPrivs {int(no_new_privs)}", "Seccomp 2"]
    assert result.section("try") == [f"{name} EPERM" for name in FORBIDDEN] + [
        "clone3 ENOSYS",
        "ptrace ok",
        "personality_query ok",
    ]


def test_without_a_filter_only_capabilities_decide(box: Box) -> None:
    context = SecurityContext(seccompProfile=SeccompProfile(type="Unconfined"))
    result = box.run(pod(*seq("status Seccomp", "try clone3 mount personality"), context=context))
    assert result.section("status") == ["Seccomp 0"]
    assert result.section("try") == ["clone3 EINVAL", "mount EPERM", "personality ok"]


def test_root_file_system(box: Box) -> None:
    result = box.run(
        pod(*seq("ls /", "write /tmp/new x", "write /bin/testbox2 x", "try write_proc_sys write_sys write_root"))
    )
    assert result.section("ls") == ["bad", "bin", "dev", "etc", "home", "proc", "root", "sys", "tmp"]
    assert result.section("try")[0] == "write_proc_sys EROFS"
    assert result.section("try")[1] in ("write_sys EROFS", "write_sys ENOENT", "write_sys EPERM")
    assert result.section("try")[2] == "write_root ok"
    assert result.code == 0
    for lower in box.image.rootfs.lowers:
        assert not os.path.exists(f"{lower}/tmp/new"), "the image stays as it is"
    assert (box.directory / "instance-1/upper/tmp/new").read_text() == "x"
    again = box.run(pod("testbox", "ls", "/tmp"))
    assert again.lines == [], "every instance begins afresh"


def test_read_only_root_file_system(box: Box) -> None:
    context = SecurityContext(readOnlyRootFilesystem=True)
    steps = ("try write_root", "write /etc/hosts x", "write /dev/shm/x ok", "write /tmp/x no", "cwd", "cat /dev/shm/x")
    result = box.run(pod(*seq(*steps), context=context, container={"workingDir": "/made/for/it"}))
    assert result.section("try") == ["write_root EROFS"]
    assert result.err == "write: /etc/hosts: EROFS\nwrite: /tmp/x: EROFS\n"
    assert result.section("cwd") == ["/made/for/it"]
    assert result.section("cat") == ["ok"]


@pytest.mark.parametrize("given", ["/made/here", "/tmp", "/home/app", "/bin/../tmp"])
def test_working_directory(box: Box, given: str) -> None:
    result = box.run(pod(*seq("cwd", "stat ."), container={"workingDir": given}))
    assert result.section("cwd") == [os.path.normpath(given)]


def test_a_working_directory_that_is_a_file(box: Box) -> None:
    with pytest.raises(native.ProgramError) as caught:
        box.run(pod("testbox", "cwd", container={"workingDir": "/bin/testbox"}))
    assert caught.value.subject == "/bin/testbox"


def test_users(box: Box) -> None:
    everyone = PodSecurityContext(supplementalGroups=[4000], runAsUser=1000)
    assert box.run(pod("testbox", "ids", securityContext=everyone)).lines == [
        "uid=1000 euid=1000 gid=1000 egid=1000 groups=29,50,1000,4000"
    ]
    context = SecurityContext(runAsUser=4242, runAsGroup=77)
    result = box.run(pod(*seq("ids", "env", "write /root/x y", "write /home/app/x y"), context=context))
    assert result.section("ids") == ["uid=4242 euid=4242 gid=77 egid=77 groups=77"]
    assert "HOME=/" in result.section("env")
    assert result.err == "write: /root/x: EACCES\nwrite: /home/app/x: EACCES\n"


def test_anybody_can_open_standard_output_by_name(box: Box) -> None:
    context = SecurityContext(runAsUser=1000)
    steps = seq("append /dev/stdout one", "append /dev/stderr two", "append /proc/self/fd/1 three")
    result = box.run(pod(*steps, context=context))
    assert result.code == 0
    assert (result.out.count("one"), result.out.count("three"), result.err) == (1, 1, "two")


def test_a_directory_that_the_user_cannot_search_may_be_the_working_directory(box: Box) -> None:
    result = box.run(pod("testbox", "cwd", context=SecurityContext(runAsUser=1000), container={"workingDir": "/root"}))
    assert result.lines == ["/root"]


def test_environment_reaches_the_process(box: Box) -> None:
    variables = [EnvVar(name="A", value="1"), EnvVar(name="B", value="$(A)$$(A)"), EnvVar(name="UML", value="ä\nb")]
    result = box.run(pod("testbox", "seq", "env", ";", "args", "$(B)", container={"env": variables}))
    assert "B=1$(A)" in result.section("env")
    assert result.section("args") == ["0:args", "1:1$(A)"]
    assert "UML=ä\nb" in result.out


def test_limits(box: Box) -> None:
    box.node = replace(box.node, nofile=512)
    assert "nofile 512 512" in box.run(pod("testbox", "rlimits")).lines


@pytest.mark.parametrize(
    ("command", "number"),
    [
        (["nothing-there"], 2),
        (["/nothing/there"], 2),
        (["/bad/data"], 13),
        (["/bad/directory"], 21),
        (["/bad/script"], 8),
        (["/bad/interpreter"], 2),
        (["/bad/empty"], 8),
    ],
)
def test_commands_that_cannot_start(box: Box, command: list[str], number: int) -> None:
    with pytest.raises(native.ProgramError) as caught:
        box.run(pod(*command))
    assert (caught.value.code_name, caught.value.errno, caught.value.subject) == ("EXEC", number, command[0])


def test_shared_memory_is_the_pods(box: Box) -> None:
    """In a box each run has a sandbox of its own, so this looks at the mount alone: a tmpfs of 64 MiB that nobody else sees."""
    (line,) = [line for line in box.run(pod("testbox", "mounts")).lines if line.startswith("/dev/shm ")]
    assert line == "/dev/shm / rw,nosuid,nodev,noexec,relatime private tmpfs rw"


def test_a_terminal(box: Box) -> None:
    one = pod(
        "testbox",
        "seq",
        "tty",
        ";",
        "fds",
        ";",
        "stat",
        "/dev/console",
        context=SecurityContext(runAsUser=1000),
        container={"tty": True},
    )
    with box.start(one, one.spec.containers[0]) as running:
        master = running.child.terminal
        assert master >= 0
        text = b""
        while True:
            try:
                data = os.read(master, 4096)
            except OSError:
                break
            text += data
        assert running.child.wait() == 0
        running.gone()
    lines = text.decode().replace("\r\n", "\n").splitlines()
    assert "0 /dev/pts/0 rows=0 columns=0 foreground=1" in lines
    assert "2 /dev/pts/0" in lines
    assert any(line.startswith("/dev/console c 0620 1000 5 ") for line in lines)


# --- privileged ----------------------------------------------------------------------------------------------------------


def test_privileged(box: Box) -> None:
    box.node = replace(box.node, devices=host_devices())
    steps = ("caps", "try mount unshare keyctl", "ls /dev", "mounts", "stat /dev/null")
    result = box.run(pod(*seq(*steps), context=SecurityContext(privileged=True)))
    have = native.flags(flags(box.node.capabilities))
    sets = _sets([line for line in result.section("caps") if line.startswith("Cap")])
    assert (sets["CapEff"], sets["CapBnd"]) == (have, have)
    assert "Seccomp 0" in result.section("caps")
    assert result.section("try") == ["mount ok", "unshare ok", "keyctl ok"]
    theirs = {device.path.split("/")[2] for device in host_devices()}
    assert theirs <= set(result.section("ls"))
    points = [line.split()[0] for line in result.section("mounts")]
    assert not [point for point in points if point.startswith("/proc/")], "nothing is masked"
    (sys,) = [line for line in result.section("mounts") if line.startswith("/sys ")]
    assert sys.split()[2].startswith("rw,")


# --- the built-in image --------------------------------------------------------------------------------------------------

LOOK = """
set -e
echo "== shadow"; cat /etc/shadow
echo "== empty"; ls -A /root /home /opt /srv /mnt /media /var/lib /var/log /run
echo "== etc"; ls -A /etc
echo "== top"; ls -A /
echo "== write"; touch /usr/x 2>&1 || true; touch /etc/x && echo etc is writable
echo "== mounts"; grep -c . /proc/self/mounts
echo "== tools"; test -x /usr/bin/env && awk 'BEGIN { print 6 * 7 }'
"""


def test_the_built_in_image_shows_programs_and_no_secrets(host_box: Box) -> None:
    result = host_box.run(pod("/bin/sh", "-c", LOOK))
    assert result.err == ""
    assert result.code == 0
    assert all(line.split(":")[1] == "*" for line in result.section("shadow"))
    assert [line for line in result.section("empty") if line and not line.endswith(":")] == ["lock"]
    ours = set(result.section("etc"))
    assert not ours & {
        "machine-id",
        "ssh",
        "sudoers",
        "gshadow",
        "crontab",
        "passwd-",
        "docker",
        "kubernetes",
        "nsrun",
        "NetworkManager",
    }
    known = {path.partition("/")[0] for path, _ in host.DIRECTORIES} | set(host.MERGED)
    assert set(result.section("top")) <= known
    assert result.section("write")[0].endswith("Read-only file system")
    assert result.section("write")[1] == "etc is writable"
    assert result.section("tools") == ["42"]


def test_the_built_in_image_does_not_show_the_hosts_accounts(host_box: Box) -> None:
    theirs = host_box.run(pod("/bin/cat", "/etc/passwd", "/etc/group")).lines
    usual = {
        "root",
        "daemon",
        "bin",
        "sys",
        "mail",
        "www-data",
        "nobody",
        "adm",
        "tty",
        "disk",
        "shadow",
        "utmp",
        "staff",
        "users",
    }
    assert {line.split(":")[0] for line in theirs} <= usual | {"nogroup"}


def test_nodes_facts_are_not_needed_to_run(image: Image, tmp_path: Path, cache: Path) -> None:
    assert Box(tmp_path, image, cache, NodeFacts()).run(pod("echo", "fine")).lines == ["fine"]


# --- exec ----------------------------------------------------------------------------------------------------------------


@contextlib.contextmanager
def born_into_pid_namespace(pidfd: int) -> Iterator[None]:
    """Children of this process are born into that process's PID namespace."""
    own = os.open("/proc/self/ns/pid", os.O_RDONLY | os.O_CLOEXEC)
    try:
        native.setns(pidfd, native.lib.CLONE_NEWPID)
        yield
    finally:
        native.setns(own, native.lib.CLONE_NEWPID)
        os.close(own)


def test_an_exec_is_as_confined_as_its_container(box: Box) -> None:
    """Joined here by an operation in front, in place of the shim that does it before the program."""
    context = SecurityContext(runAsUser=1000, allowPrivilegeEscalation=False, capabilities=Capabilities(drop=["ALL"]))
    one = pod(
        "testbox", "then", "write", "/tmp/here", "x", ";", "pause", context=context, container={"workingDir": "/tmp"}
    )
    container = one.spec.containers[0]
    with box.start(one, container) as running:
        inputs = box.inputs(one, container)
        command = seq("await /tmp/here", "ls /tmp", "cwd", "ids", "caps", "hostname", "env", "fds", "try mount clone3")
        program = exec_program(one, container, inputs, command, env=["MORE=1"])
        joined = ops.Setns(4, "CLONE_NEWNS|CLONE_NEWCGROUP|CLONE_NEWNET|CLONE_NEWIPC|CLONE_NEWUTS")
        with born_into_pid_namespace(running.child.pidfd):
            result = box.run_program(replace(program, ops=(joined, *program.ops)), running.child.pidfd)
    assert result.code == 0
    assert result.section("ls") == ["here"]
    assert result.section("cwd") == ["/tmp"]
    assert result.section("ids") == ["uid=1000 euid=1000 gid=1000 egid=1000 groups=29,50,1000"]
    assert result.section("caps")[3:] == [
        "CapBnd 0000000000000000",
        "CapAmb 0000000000000000",
        "NoNewPrivs 1",
        "Seccomp 2",
    ]
    assert result.section("hostname") == ["web (none)"]
    assert "MORE=1" in result.section("env")
    assert [line.split()[0] for line in result.section("fds")] == ["0", "1", "2"]
    assert result.section("try") == ["mount EPERM", "clone3 ENOSYS"]
