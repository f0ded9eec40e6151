"""Runs planned containers for tests: sandbox and container in one child, its output collected."""

from __future__ import annotations

import contextlib
import os
import select
import time
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

from nsrun import native, security
from nsrun.images import Image
from nsrun.plan import (
    ClusterDns,
    ContainerInputs,
    NodeFacts,
    SandboxInputs,
    container_program,
    pod_dns,
    pod_files,
    pod_hostname,
    sandbox_program,
    user_spec,
)
from nsrun.plan.inputs import Program
from nsrun.spec.model import Container, Pod

PATIENCE_S = 20.0


@dataclass
class Result:
    """What a container did: its exit code (or minus the signal), and what it wrote."""

    code: int
    out: str
    err: str

    @property
    def lines(self) -> list[str]:
        """Lines of its standard output."""
        return self.out.splitlines()

    def section(self, name: str) -> list[str]:
        """What `testbox seq` printed under this title."""
        found: list[str] | None = None
        for line in self.lines:
            if line.startswith("== "):
                if found is not None:
                    return found
                if line == f"== {name}":
                    found = []
            elif found is not None:
                found.append(line)
        assert found is not None, f"no section {name} in:\n{self.out}\n{self.err}"
        return found


@dataclass
class Box:
    """A place for the instances of one pod, and the image they are made of."""

    directory: Path
    image: Image
    cache: Path
    node: NodeFacts = field(default_factory=security.machine)
    count: int = 0

    def inputs(self, pod: Pod, container: Container) -> ContainerInputs:
        """Inputs of a fresh instance, with all its files made."""
        self.count += 1
        instance = self.directory / f"instance-{self.count}"
        files = self.directory / "files"
        shm = self.directory / "shm"
        for path in (files, shm, instance):
            path.mkdir(exist_ok=True)
        dns = pod_dns(pod, "nameserver 10.9.8.1\n", ClusterDns())
        for name, data in pod_files(pod, ["10.9.8.7"], dns, "127.0.0.1\tlocalhost\n", self.node.name).items():
            (files / name).write_bytes(data)
        self.image.prepare_instance(instance)
        return ContainerInputs(
            rootfs=self.image.rootfs,
            image_config=self.image.config,
            user=self.image.user(user_spec(pod, container, self.image.config)),
            hostname=pod_hostname(pod, self.node.name),
            files_dir=str(files),
            shm_dir=str(shm),
            instance_dir=str(instance),
            node=self.node,
            pod_ips=("10.9.8.7",),
            host_ips=("10.9.8.1",),
        )

    def program(self, pod: Pod, container: Container) -> Program:
        """The sandbox's operations, then the container's: one child does both."""
        inputs = self.inputs(pod, container)
        sandbox = sandbox_program(pod, SandboxInputs(inputs.shm_dir, self.node))
        program = container_program(pod, container, inputs)
        return replace(program, ops=sandbox.ops + program.ops)

    def run(self, pod: Pod, container: Container | None = None, stdin: bytes = b"") -> Result:
        """Runs one container of the pod to its end."""
        with self.start(pod, container or pod.spec.containers[0], stdin) as running:
            return running.finish()

    @contextlib.contextmanager
    def start(self, pod: Pod, container: Container, stdin: bytes = b"") -> Iterator[Running]:
        """Starts one; whatever is left of it is killed at the end."""
        with self.start_program(self.program(pod, container), stdin) as running:
            yield running

    def run_program(self, program: Program, *more: int) -> Result:
        """Runs a program to its end; `more` are descriptors for slots behind its own."""
        with self.start_program(program, b"", *more) as running:
            return running.finish()

    @contextlib.contextmanager
    def start_program(self, program: Program, stdin: bytes, *more: int) -> Iterator[Running]:
        """Starts a program; whatever is left of it is killed at the end."""
        with contextlib.ExitStack() as stack:
            slots = self.slots(program, stack)
            with contextlib.ExitStack() as given:
                out, out_end = _pipe(stack, given)
                err, err_end = _pipe(stack, given)
                in_end = native.memfd(stdin, "stdin")
                given.callback(os.close, in_end)
                os.lseek(in_end, 0, os.SEEK_SET)
                child = native.run(
                    native.encode(program.ops),
                    [in_end, out_end, err_end, *slots, *more],
                    clone_flags=native.flags(program.clone_flags),
                )
            stack.enter_context(child)
            running = Running(child, (out, err))
            stack.callback(running.end)
            yield running

    def slots(self, program: Program, stack: contextlib.ExitStack) -> list[int]:
        """Descriptors for the program's slots."""
        result = []
        for slot in program.slots:
            assert slot.kind == "seccomp"
            data = security.seccomp_filter(slot.profile, slot.capabilities, cache=self.cache)
            fd = native.memfd(data, "seccomp")
            stack.callback(os.close, fd)
            result.append(fd)
        return result


def _pipe(mine: contextlib.ExitStack, given: contextlib.ExitStack) -> tuple[int, int]:
    """The reading end, which `mine` closes, and the writing end, which `given` closes."""
    reader, writer = os.pipe2(os.O_CLOEXEC)
    mine.callback(os.close, reader)
    given.callback(os.close, writer)
    return reader, writer


class Running:
    """A container that was started."""

    def __init__(self, child: native.Child, outputs: tuple[int, int]) -> None:
        self.child = child
        self._outputs = outputs
        self._code: int | None = None

    def finish(self) -> Result:
        """Reads until both outputs are closed, and waits."""
        texts = dict.fromkeys(self._outputs, b"")
        left = set(self._outputs)
        deadline = time.monotonic() + PATIENCE_S
        while left:
            ready, _, _ = select.select(list(left), [], [], deadline - time.monotonic())
            assert ready, f"still running after {PATIENCE_S} s: {texts}"
            for fd in ready:
                data = os.read(fd, 65536)
                texts[fd] += data
                if not data:
                    left.discard(fd)
        self._code = self.child.wait()
        out, err = (texts[fd].decode("utf-8", "replace") for fd in self._outputs)
        return Result(self._code, out, err)

    def gone(self) -> None:
        """Somebody else has waited for it."""
        self._code = 0

    def end(self) -> None:
        """Kills it if it still runs."""
        if self._code is None:
            with contextlib.suppress(OSError):
                self.child.send_signal(9)
            self._code = self.child.wait()
