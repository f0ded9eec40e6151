"""Sockets in a pod's network namespace, fetched from the server before they are needed.

To connect to the pod is then one system call of ours: the server is not asked for each connection, and may be dead.
"""

from __future__ import annotations

import contextlib
import os
import queue
import socket
import threading
import time
from typing import NamedTuple

from nsrun.client.session import Call, Cancelled, Session
from nsrun.errors import NotFoundError, NsrunError, PodFailedError, StepError

BATCH = 8
"""Sockets of one request."""
LOW = 4
"""When fewer are left the next ones are fetched."""
LOOK_AGAIN_S = 0.02
"""How often a port is tried on which somebody is to listen."""
LOOPBACK = {4: "127.0.0.1", 6: "::1"}


class Kind(NamedTuple):
    """What sockets are for."""

    protocol: str
    family: int


def fetch(
    session: Session, pod: str, namespace: str | None, kind: Kind, count: int, call: Call | None = None
) -> list[socket.socket]:
    """Unconnected, non-blocking sockets in the pod's namespace.

    Raises:
        NsrunError: no such pod, or it has no sandbox.
        Cancelled: through `call`.
    """
    params = {"name": pod, "namespace": namespace, "protocol": kind.protocol, "family": kind.family, "count": count}
    made = [socket.socket(fileno=fd) for fd in session.request("pod.sockets", params, call=call).fds]
    for sock in made:
        # They are; the objects do not know it yet, and would wait in connect.
        sock.setblocking(False)
    return made


def connect(
    session: Session, pod: str, namespace: str | None, port: int, timeout: float | None, wait: float = 0.0
) -> socket.socket:
    """A connected, blocking TCP socket to a port of the pod's loopback.

    Args:
        session: to the server.
        pod: its name.
        namespace: its namespace; None is "default".
        port: 1 to 65535.
        timeout: seconds; None waits as long as the kernel does.
        wait: seconds to wait for somebody to listen.

    Raises:
        PodFailedError: nothing listens there. TimeoutError: what listens does not answer.
        NsrunError: no such pod, or it has no sandbox.
    """
    deadline = time.monotonic() + wait
    while True:
        try:
            return _connect(session, pod, namespace, port, timeout)
        except PodFailedError:
            if time.monotonic() >= deadline:
                raise
        time.sleep(LOOK_AGAIN_S)


def _connect(session: Session, pod: str, namespace: str | None, port: int, timeout: float | None) -> socket.socket:
    refusal: OSError | None = None
    for family, address in LOOPBACK.items():
        try:
            (sock,) = fetch(session, pod, namespace, Kind("tcp", family), 1)
        except StepError:
            # A machine without IPv6.
            if refusal is None:
                raise
            continue
        try:
            sock.settimeout(timeout)
            sock.connect((address, port))
            sock.settimeout(None)
        except TimeoutError:
            sock.close()
            raise
        except OSError as error:
            sock.close()
            refusal = refusal or error
        else:
            return sock
    raise refused(pod, port, refusal)


def refused(pod: str, port: int, error: OSError | None) -> PodFailedError:
    """The error for a port on which nothing answers."""
    why = os.strerror(error.errno) if error is not None and error.errno else "no answer"
    return PodFailedError(
        f"connect to port {port} in pod {pod!r}: {why}",
        details="Nothing in the pod listens there on 127.0.0.1, ::1 or all addresses.",
        resolution=f"What its containers say: nsrun pod logs {pod} --all-containers",
    )


class Supply:
    """A store of sockets that a thread refills.

    Args:
        session: to the server.
        pod: its name.
        namespace: its namespace.
        wake: a descriptor of an eventfd that is written to when there is news.

    Attributes:
        gone: why there will be no more: the pod was taken down.
    """

    def __init__(self, session: Session, pod: str, namespace: str | None, wake: int) -> None:
        self.gone: NsrunError | None = None
        self._session, self._pod, self._namespace, self._wake = session, pod, namespace, wake
        self._wanted: queue.SimpleQueue[Kind | None] = queue.SimpleQueue()
        self._asked: set[Kind] = set()
        self._lock = threading.Lock()
        self._store: dict[Kind, list[socket.socket]] = {}
        self._failed: dict[Kind, NsrunError] = {}
        self._call = Call()
        self._threads = [
            threading.Thread(target=target, name=f"nsrun-{name}", daemon=True)
            for name, target in (("sockets", self._fetch), ("gone", self._wait_for_end))
        ]
        for thread in self._threads:
            thread.start()

    def prepare(self, kind: Kind) -> None:
        """Have sockets fetched."""
        with self._lock:
            self._ask(kind)

    def take(self, kind: Kind) -> socket.socket | NsrunError | None:
        """A socket, why there is none, or None: it is being fetched, and `wake` will tell."""
        with self._lock:
            store = self._store.get(kind, [])
            found = store.pop() if store else self._failed.pop(kind, None)
            if len(store) < LOW and not isinstance(found, NsrunError):
                self._ask(kind)
            return found

    def _ask(self, kind: Kind) -> None:
        if kind not in self._asked:
            self._asked.add(kind)
            self._wanted.put(kind)

    def renew(self, protocol: str) -> None:
        """Drop what there is: it may be of a sandbox that is no more."""
        with self._lock:
            for kind, store in self._store.items():
                if kind.protocol == protocol:
                    while store:
                        store.pop().close()

    def close(self) -> None:
        """End the threads and close what is left."""
        self._call.cancel()
        self._wanted.put(None)
        for thread in self._threads:
            thread.join()
        with self._lock:
            for store in self._store.values():
                while store:
                    store.pop().close()

    def _fetch(self) -> None:
        while (kind := self._wanted.get()) is not None:
            made: list[socket.socket] = []
            error: NsrunError | None = None
            try:
                made = fetch(self._session, self._pod, self._namespace, kind, BATCH, self._call)
            except Cancelled:
                return
            except NsrunError as caught:
                error = caught
            with self._lock:
                self._asked.discard(kind)
                self._store.setdefault(kind, []).extend(made)
                if error is not None:
                    self._failed[kind] = error
            self._news()

    def _wait_for_end(self) -> None:
        params = {"names": [self._pod], "namespace": self._namespace, "for": "delete"}
        while True:
            try:
                self._session.request("pod.wait", params, call=self._call)
                self.gone = NotFoundError(f"pod {self._pod!r} was taken down")
            except Cancelled:
                return
            except NotFoundError as error:
                self.gone = error
            except NsrunError:
                # A server that cannot be started just now: the connections there are go on.
                time.sleep(0.5)
                continue
            self._news()
            return

    def _news(self) -> None:
        with contextlib.suppress(OSError):
            os.eventfd_write(self._wake, 1)
