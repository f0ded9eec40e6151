"""The test host: a machine for the host ring that is thrown away afterwards.

Host-ring tests make bridges, firewall rules, cgroups and processes that outlive their makers. They do it inside

- a network namespace of their own, whose only way out is the link `out0` (198.51.100.2/24) to
- a second network namespace, the *outside*: 198.51.100.1 on the link and 203.0.113.1 beyond it (IPv6 likewise). It knows no route to pod
  addresses, so an answer comes back only to a packet whose source address was translated, and its server tells everybody
  the address it sees (`outside.py`);
- mount, PID, IPC and UTS namespaces of their own, with an empty /run: when the first process of the PID namespace ends,
  so does every process and every mount;
- a cgroup and a directory below /tmp of their own, removed by the process that stays outside of it all.

`python -m tests.host.testhost -- pytest tests/host` runs a command in there (`make test-host` does, twice or more) and looks afterwards
for what it left behind (`leaks.py`). A test has a root directory and a cgroup of its own (`Host`); a command that is run by hand finds
NSRUN_CGROUP_BASE set to one cgroup for one root: servers of two roots at once would each clean up the other's pods there. Nothing
here uses nsrun's own code: the measuring stick is made of unshare(1), ip(8) and the standard library.
"""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

ENVIRONMENT = "NSRUN_TEST_HOST"
"""Set for the command inside: the JSON of `Machine`."""

LINK = "out0"
HOST_ADDRESS = "198.51.100.2"
GATEWAY = "198.51.100.1"
BEYOND = "203.0.113.1"
PREFIX = 24
HOST_ADDRESS6 = "2001:db8:633::2"
GATEWAY6 = "2001:db8:633::1"
BEYOND6 = "2001:db8:113::1"
"""The same of IPv6, where the kernel has it."""
PORT = 8080
REPOSITORY = Path(__file__).resolve().parents[3]


@dataclass(frozen=True)
class Machine:
    """What the wrapper made; the same for all tests of a session.

    Attributes:
        id: of this test host; part of every name outside of its namespaces.
        directory: for root directories and scratch files.
        cgroup_base: an empty cgroup (v2), or None where the kernel has no such tree.
        link: the link to the outside.
        address: of this machine on that link.
        gateway: the outside's address on that link.
        beyond: an address that is reached through the gateway only.
        port: where the outside's server listens, TCP and UDP.
        outside_pid: a process in the outside's network namespace.
    """

    id: str
    directory: str
    cgroup_base: str | None
    link: str
    address: str
    gateway: str
    beyond: str
    port: int
    outside_pid: int

    def to_environment(self) -> str:
        """The text for the environment variable."""
        return json.dumps(asdict(self))

    @staticmethod
    def from_environment() -> Machine | None:
        """The machine that this process runs in, or None outside of any test host."""
        text = os.environ.get(ENVIRONMENT)
        return Machine(**json.loads(text)) if text else None


@dataclass(frozen=True)
class Host:
    """A test's view of the machine, with a root directory and a cgroup that no other test uses.

    Attributes:
        machine: what all tests share.
        root: for `nsrun --root`; does not exist yet.
        scratch: an empty directory for the test's own files.
        cgroup_base: value of NSRUN_CGROUP_BASE for this root, or None.
    """

    machine: Machine
    root: Path
    scratch: Path
    cgroup_base: Path | None

    @property
    def environment(self) -> dict[str, str]:
        """This process's environment with what selects this root."""
        environment = {**os.environ, "NSRUN_ROOT": str(self.root)}
        if self.cgroup_base is not None:
            environment["NSRUN_CGROUP_BASE"] = str(self.cgroup_base)
        return environment

    def run(
        self,
        *argv: str | Path,
        check: bool = True,
        timeout: float = 30.0,
        stdin: str | None = None,
        environment: Mapping[str, str] | None = None,
    ) -> subprocess.CompletedProcess[str]:
        """Run a command to its end; with `check` a failure raises AssertionError with all that it said.

        Args:
            timeout: seconds.
            stdin: text for its standard input; /dev/null without.
            environment: replaces this host's `environment`.
        """
        words = [str(word) for word in argv]
        done = subprocess.run(
            words,
            input=stdin,
            stdin=subprocess.DEVNULL if stdin is None else None,
            capture_output=True,
            text=True,
            timeout=timeout,
            env=dict(environment) if environment is not None else self.environment,
            check=False,
        )
        if check and done.returncode != 0:
            raise AssertionError(f"{' '.join(words)}: exit {done.returncode}\n{done.stdout}{done.stderr}")
        return done

    def nsrun_argv(self, *arguments: str | Path) -> list[str]:
        """The words of an nsrun command on this root."""
        return [str(REPOSITORY / ".venv/bin/nsrun"), "--root", str(self.root), *map(str, arguments)]

    def nsrun(
        self, *arguments: str | Path, check: bool = True, timeout: float = 60.0, stdin: str | None = None
    ) -> subprocess.CompletedProcess[str]:
        """Run `nsrun --root … ARGUMENTS`."""
        return self.run(*self.nsrun_argv(*arguments), check=check, timeout=timeout, stdin=stdin)

    def in_network(self, pid: int, *argv: str | Path, check: bool = True, timeout: float = 30.0) -> str:
        """Standard output of a command run in the network namespace of process `pid`."""
        return self.run("nsenter", "--net", "--target", str(pid), *argv, check=check, timeout=timeout).stdout

    def outside(self, *argv: str | Path, check: bool = True) -> str:
        """Standard output of a command run in the outside world."""
        return self.in_network(self.machine.outside_pid, *argv, check=check)


def in_test_host(argv: Sequence[str]) -> list[str]:
    """The words that run `argv` in a test host of its own."""
    return [str(REPOSITORY / ".venv/bin/python"), "-m", "tests.host.testhost", "--", *argv]


def legacy_twins(base: Path) -> list[Path]:
    """The directories of a cgroup's path in the hierarchies of version 1 that limits are kept in, where they are."""
    lines = Path("/proc/self/mountinfo").read_text(encoding="utf-8").splitlines()
    mounts = [(*line.partition(" - ")[2].split(), line.split()[4]) for line in lines]
    unified = next((Path(mount[-1]) for mount in mounts if mount[0] == "cgroup2"), None)
    if unified is None:
        return []
    tops = [
        Path(mount[-1])
        for mount in mounts
        if mount[0] == "cgroup" and {"cpu", "memory", "pids", "hugetlb"} & set(mount[-2].split(","))
    ]
    return [path for path in (top / base.relative_to(unified) for top in tops) if path.is_dir()]
