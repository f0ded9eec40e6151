"""A pod of a server, from Python: what runs in it, what it says, its files and its ports."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Any, NamedTuple, Self

from nsrun.client.crilog import LogLine
from nsrun.client.requests import condition, kill, restart, wait
from nsrun.client.session import Call
from nsrun.client.wire import Message
from nsrun.errors import NotFoundError, PodFailedError, TimedOutError, UsageError

if TYPE_CHECKING:
    import socket

    from nsrun.client.copying import Copied, Inside, Owner
    from nsrun.client.forward import Listening
    from nsrun.client.library import Client

Object = dict[str, Any]


class ExecResult(NamedTuple):
    """How a command in a container ended.

    Attributes:
        exit_code: 0 to 255; 128+n when signal n ended it.
        stdout, stderr: all it wrote. With a terminal everything is in stdout.
    """

    exit_code: int
    stdout: bytes
    stderr: bytes

    @property
    def text(self) -> str:
        """`stdout` as UTF-8, undecodable bytes replaced."""
        return self.stdout.decode("utf-8", "replace")


class CommandFailedError(PodFailedError):
    """A command with `check=True` ended with another code than 0; `result` has the ExecResult."""

    def __init__(self, brief: str, result: ExecResult) -> None:
        super().__init__(brief, details=result.stderr.decode("utf-8", "replace").strip() or None)
        self.result = result


class Pod:
    """A pod of a server. As a context manager it is taken down at the end of the block.

    Attributes:
        name, namespace, uid: of the pod.
        client: the Client it belongs to.
    """

    def __init__(self, client: Client, name: str, namespace: str, uid: str) -> None:
        self.client = client
        self.name = name
        self.namespace = namespace
        self.uid = uid

    def __repr__(self) -> str:
        return f"<nsrun.Pod {self.namespace}/{self.name}>"

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.down(missing_ok=True)

    @property
    def object(self) -> Object:
        """The Pod object with its status, as it is now.

        Raises:
            NotFoundError: it is gone.
        """
        pod: Object = self._get()["pod"]
        return pod

    @property
    def runtime(self) -> Object:
        """What nsrun knows beside the Kubernetes object: shim_pid, sandbox attempt, instances."""
        runtime: Object = self._get()["runtime"]
        return runtime

    def _get(self) -> Message:
        return self.client.session.request("pod.get", {"name": self.name, "namespace": self.namespace}).result

    @property
    def status(self) -> Object:
        """The PodStatus, as it is now."""
        status: Object = self.object.get("status") or {}
        return status

    @property
    def phase(self) -> str:
        """Pending, Running, Succeeded or Failed."""
        return str(self.status.get("phase", "Pending"))

    @property
    def ip(self) -> str | None:
        """The pod's address, or None: not yet, or it shares the machine's network."""
        return self.status.get("podIP") or None

    def wait(self, condition: str, timeout: float | None = None) -> None:
        """Wait for a condition, in the words of `kubectl wait --for`.

        Args:
            condition: `condition=Ready`, `phase=Succeeded`, `jsonpath={.status.podIP}=10.1.2.3`, `delete`.
            timeout: seconds to wait at most.

        Raises:
            TimedOutError, PodFailedError: it will not come. NotFoundError: the pod is gone.
        """
        wait(self.client.session, [self.name], self.namespace, condition, timeout)

    def wait_ready(self, timeout: float | None = None) -> None:
        """Wait until the pod is ready; as `wait`."""
        self.wait("condition=Ready", timeout)

    def wait_phase(self, phase: str, timeout: float | None = None) -> None:
        """Wait until the pod's phase is `phase`; as `wait`."""
        self.wait(f"phase={phase}", timeout)

    def exec(
        self,
        command: Sequence[str],
        *,
        container: str | None = None,
        stdin: bytes | None = None,
        tty: bool = False,
        env: Mapping[str, str] | None = None,
        workdir: str | None = None,
        user: str | None = None,
        timeout: float | None = None,
        check: bool = False,
        call: Call | None = None,
    ) -> ExecResult:
        """Run a command in a container and wait for it.

        Args:
            command: argument vector; no shell reads it.
            container: name; None is the pod's default container.
            stdin: what it reads; None is /dev/null.
            tty: give it a terminal of 24 rows and 80 columns.
            env: variables beside the container's own.
            workdir: directory in the container.
            user: `uid`, `uid:gid` or a name of the image.
            timeout: seconds after which it is killed.
            check: raise when it ends with another code than 0.
            call: lets another thread cancel; the command is killed.

        Raises:
            CommandNotStartedError: the command is not there or cannot be executed.
            NotFoundError: no such pod or container. ConflictError: the container does not run.
            TimedOutError, CommandFailedError.
        """
        from nsrun.client import execute

        if isinstance(command, str) or not command:
            raise UsageError(
                "exec needs the command as a list of words", resolution='For shell words: ["sh", "-c", "..."]'
            )
        request = execute.Request(
            self.name,
            self.namespace,
            command,
            container=container,
            tty=tty,
            env=[f"{key}={value}" for key, value in (env or {}).items()],
            workdir=workdir,
            user=user,
        )
        stdout, stderr = execute.Buffer(), execute.Buffer()
        process = execute.begin(
            self.client.session, request, want_stdin=stdin is not None, stdout=stdout, stderr=stderr, call=call
        )
        try:
            if call is not None:
                call.on_cancel = process.kill
                if call.cancelled:
                    process.kill()
            source = None if stdin is None else execute.Source(stdin)
            code = execute.pump(process, source, timeout_s=timeout)
            if code is None:
                process.kill()
                raise TimedOutError(f"{request.described} still ran after {timeout} s and was killed")
        finally:
            if call is not None:
                call.on_cancel = None
            process.close()
        result = ExecResult(code, bytes(stdout.data), bytes(stderr.data))
        if check and code:
            raise CommandFailedError(f"{request.described} ended with {code}", result)
        return result

    def logs(
        self,
        container: str | None = None,
        *,
        previous: bool = False,
        tail: int | None = None,
        since: float | None = None,
    ) -> str:
        """What a container wrote, stdout and stderr in the order of writing, undecodable bytes replaced.

        Args:
            container: name; None is the pod's default container.
            previous: of the instance before the current one.
            tail: only the last so many lines.
            since: only what is not older than this many seconds.
        """
        parts = []
        for line in self.log_lines(container, previous=previous, tail=tail, since=since):
            parts.append(line.text.decode("utf-8", "replace"))
            if line.complete:
                parts.append("\n")
        return "".join(parts)

    def log_lines(
        self,
        container: str | None = None,
        *,
        previous: bool = False,
        tail: int | None = None,
        since: float | None = None,
        follow: bool = False,
        call: Call | None = None,
    ) -> Iterator[LogLine]:
        """The log line by line; with `follow` until the container has ended for good. Other arguments as for `logs`."""
        from nsrun.client import logs

        moment = logs.moment(since) if since is not None else ""
        query = logs.Query(self.name, self.namespace, container, previous, tail, moment)
        session = self.client.session
        batches = logs.Follower(session, [query], call).lines() if follow else logs.read(session, [query], call)
        for batch in batches:
            yield from batch

    def connect(self, port: int, *, timeout: float | None = None, wait: float = 0.0) -> socket.socket:
        """A TCP connection to a port of the pod's loopback; a port of the manifest need not be declared.

        Args:
            port: 1 to 65535.
            timeout: seconds; None waits as long as the kernel does.
            wait: seconds to wait for something that listens.

        Returns:
            A connected, blocking socket, which the caller owns.

        Raises:
            PodFailedError: nothing listens there. TimeoutError: what listens does not answer.
            NotFoundError: no such pod. ConflictError: it has no sandbox.
        """
        from nsrun.client import podsockets

        return podsockets.connect(self.client.session, self.name, self.namespace, port, timeout, wait)

    def copy_to(
        self,
        path: str | os.PathLike[str],
        to: str,
        *,
        container: str | None = None,
        archive: bool = False,
        on_skipped: Callable[[str], None] = lambda _path: None,
    ) -> Copied:
        """Copy a file or a tree into a running container, which needs no program for it.

        Args:
            path: on this machine. A directory that ends in `/.` is copied without itself.
            to: in the container; relative ones begin in its working directory. An existing directory gets the copy under its own name.
            container: name; None is the pod's default container.
            archive: keep owners and set-id bits; without it everything belongs to the user whom the container runs as.
            on_skipped: called with the path of each device, socket or pipe: they are not copied.

        Raises:
            StepError: what failed on what. UsageError: a directory is to be copied over a file, or the like.
            ConflictError: the container does not run. NotFoundError.
        """
        from nsrun.client import copying

        with self._inside(container) as (side, owner):
            return copying.copy(copying.Here(), os.fspath(path), side, to, None if archive else owner, on_skipped)

    def copy_from(
        self,
        path: str,
        to: str | os.PathLike[str],
        *,
        container: str | None = None,
        archive: bool = False,
        on_skipped: Callable[[str], None] = lambda _path: None,
    ) -> Copied:
        """Copy a file or a tree out of a running container; as `copy_to`. What is made belongs to the caller."""
        from nsrun.client import copying

        with self._inside(container) as (side, _owner):
            owner = None if archive else (os.geteuid(), os.getegid())
            return copying.copy(side, path, copying.Here(), os.fspath(to), owner, on_skipped)

    @contextlib.contextmanager
    def _inside(self, container: str | None) -> Iterator[tuple[Inside, Owner]]:
        from nsrun.client import copying

        params = {"name": self.name, "namespace": self.namespace, "container": container}
        answer = self.client.session.request("pod.root", params)
        (root,) = answer.fds
        try:
            yield (
                copying.Inside(root, self.name, answer.result["workdir"], answer.result["root_id"]),
                (answer.result["uid"], answer.result["gid"]),
            )
        finally:
            os.close(root)

    @contextlib.contextmanager
    def forward(self, *ports: str | int, address: str = "127.0.0.1") -> Iterator[list[Listening]]:
        """Forward ports of this machine to the pod's loopback while the block runs.

        Args:
            ports: `80` takes a free port of this machine for the pod's port 80, `8080:80` port 8080; `53/udp`; `:http` by name.
            address: to listen on; `localhost` is 127.0.0.1 and ::1.

        Returns:
            Where, in the order of the ports: address, local, remote, protocol.

        Raises:
            ConflictError: a port is taken. NotFoundError: no such pod. UsageError: a port cannot be read.
        """
        from threading import Thread

        from nsrun.client import forward
        from nsrun.client import ports as words

        found = self.object
        wanted = [words.parse(port if ":" in port else f":{port}", found) for port in map(str, ports)]
        carrier = forward.Forwarder(self.client.session, self.name, self.namespace, wanted, words.addresses([address]))

        def carry() -> None:
            # A pod that is taken down ends its connections; whoever uses them sees that.
            with contextlib.suppress(NotFoundError):
                carrier.run()

        thread = Thread(target=carry, name="nsrun-forward", daemon=True)
        thread.start()
        try:
            yield carrier.listening
        finally:
            carrier.stop()
            thread.join()
            carrier.close()

    @contextlib.contextmanager
    def proxy(self, port: int | str = "", *, tls: bool = False, local: int = 0) -> Iterator[str]:
        """Lead a browser to the pod while the block runs; what listens on its loopback alone is not reached.

        Args:
            port: of the pod: a number, a name of its manifest; the first one of its manifest by default.
            tls: whether the pod speaks TLS there.
            local: port of this machine's loopback; 0 takes a free one.

        Returns:
            The address: `http://127.0.0.1:40123`.

        Raises:
            ConflictError: the local port is taken. NotFoundError: no such pod. UsageError: it has no such port.
        """
        from nsrun.client import proxy

        only = proxy.Target(self.namespace, self.name, str(port), tls)
        proxy.port_of(self.object, only)
        with proxy.in_background(self.client.session, "127.0.0.1", local, only) as address:
            yield address

    def events(self) -> list[Object]:
        """The pod's core/v1 Events, oldest first."""
        return self.client.events(self.name, self.namespace)

    def restart(self, *containers: str, grace_period: float | None = None) -> None:
        """Stop containers (none named: all) and have them started again in the same sandbox."""
        restart(self.client.session, self.name, self.namespace, containers, grace_period)

    def kill(self, *containers: str, signal: str | int = "SIGKILL") -> None:
        """Send a signal to the root process of containers (none named: all); the restart policy does the rest."""
        kill(self.client.session, self.name, self.namespace, containers, str(signal))

    def set_condition(
        self, kind: str, status: str | bool | None, *, reason: str | None = None, message: str | None = None
    ) -> None:
        """Set a condition of the pod's status that somebody else than nsrun decides about: that of a readiness gate.

        Args:
            kind: its type, a name like `example.com/warm`.
            status: "True", "False", "Unknown" or a bool; None takes the condition away.
            reason: why, in a word.
            message: why, in a sentence.

        Raises:
            UsageError: no such type or status, or a condition of nsrun's own.
        """
        value = str(status) if isinstance(status, bool) else status
        condition(self.client.session, self.name, self.namespace, {kind: value}, reason, message)

    def down(
        self,
        *,
        grace_period: float | None = None,
        force: bool = False,
        missing_ok: bool = False,
        timeout: float | None = None,
    ) -> None:
        """Take the pod down; arguments and errors as for Client.down."""
        self.client.down(
            self.name,
            namespace=self.namespace,
            grace_period=grace_period,
            force=force,
            missing_ok=missing_ok,
            timeout=timeout,
        )
