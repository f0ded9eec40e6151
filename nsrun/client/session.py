"""Requests to the server, made so that its death in the middle is not the caller's problem.

The server may be SIGKILLed at any moment. A request that may be repeated is sent again to the next server, which is
started when there is none; one that may not (restart, kill) ends in an error that says what is unknown.
"""

from __future__ import annotations

import select
import time
from _thread import allocate_lock
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

from nsrun.client.roots import Root
from nsrun.client.start import connect_or_start, last_words
from nsrun.client.wire import Connection, ConnectionLost, Message, ServerAway, close_all, connect
from nsrun.errors import NsrunError, ServerError

MAX_LOSSES = 20
"""How many servers one request may outlive; more dying in a row means that the request kills them."""

IDLE_CONNECTIONS = 8


class Answer(NamedTuple):
    """A request's answer: its result, and descriptors that the receiver owns."""

    result: Message
    fds: list[int]


EventHandler = Callable[[Message, list[int]], None]


class Call:
    """A running request that another thread may cancel."""

    def __init__(self) -> None:
        self._lock = allocate_lock()
        self._going_on = allocate_lock()
        self._going_on.acquire()
        self._connections: set[Connection] = set()
        self.cancelled = False
        self.on_cancel: Callable[[], None] | None = None

    def attach(self, connection: Connection) -> None:
        """Tell that the request waits on this connection from now on."""
        with self._lock:
            self._connections.add(connection)
            if self.cancelled:
                connection.abort()

    def detach(self, connection: Connection) -> None:
        """Tell that it does no more; before the connection is closed or given back."""
        with self._lock:
            self._connections.discard(connection)

    def cancel(self) -> None:
        """End the request: its thread sees the connections' end and raises Cancelled."""
        with self._lock:
            if not self.cancelled:
                self._going_on.release()
            self.cancelled = True
            for connection in self._connections:
                connection.abort()
            if self.on_cancel is not None:
                self.on_cancel()

    def sleep(self, seconds: float) -> None:
        """Let time pass between two requests.

        Raises:
            Cancelled: at once when the call is cancelled, before or meanwhile.
        """
        if self._going_on.acquire(timeout=seconds):
            self._going_on.release()
            raise Cancelled


class Cancelled(Exception):  # noqa: N818 - not an error: somebody asked for it
    """The request was cancelled by Call.cancel."""


class Session:
    """Requests to one root's server, from any number of threads.

    Args:
        root: the directories of the server.
        may_start: start a server when there is none.
    """

    def __init__(self, root: Root, *, may_start: bool = True) -> None:
        self.root = root
        self.may_start = may_start
        self._lock = allocate_lock()
        self._idle: list[Connection] = []
        self._closed = False

    def close(self) -> None:
        """Close the idle connections; running requests end with theirs."""
        with self._lock:
            self._closed = True
            idle, self._idle = self._idle, []
        for connection in idle:
            connection.close()

    def connection(self) -> Connection:
        """A connection to a server of our own version; the caller gives it back with `release` or closes it."""
        with self._lock:
            if self._closed:
                raise ServerError("this client is closed", resolution="Make a new one with nsrun.connect().")
            while self._idle:
                candidate = self._idle.pop()
                if not readable(candidate):
                    return candidate
                # Nothing is outstanding on an idle connection: what can be read is its end.
                candidate.close()
        if self.may_start:
            connection = connect_or_start(self.root)
        else:
            try:
                connection = connect(self.root)
            except (ServerAway, ConnectionLost) as error:
                raise away(self.root) from error
        try:
            connection.require_same_version(self.root)
        except BaseException:
            connection.close()
            raise
        return connection

    def release(self, connection: Connection) -> None:
        """Give back a connection on which nothing is outstanding."""
        with self._lock:
            if not self._closed and len(self._idle) < IDLE_CONNECTIONS:
                self._idle.append(connection)
                return
        connection.close()

    def request(
        self,
        method: str,
        params: Message,
        *,
        fds: Sequence[int] = (),
        on_event: EventHandler | None = None,
        repeat: bool = True,
        changed_for_repeat: Callable[[Message], Message] | None = None,
        call: Call | None = None,
    ) -> Answer:
        """Send a request and wait for its answer.

        Args:
            method: name of the protocol's table.
            params: members that are None are left out.
            fds: descriptors that travel with the request.
            on_event: called with each event and the descriptors that came with it, which it owns.
            repeat: send it again to the next server when this one dies.
            changed_for_repeat: makes the params of a repetition from the first ones.
            call: lets another thread cancel.

        Raises:
            NsrunError: what the server answered, or that it cannot be reached.
            Cancelled: through `call`.
        """
        deadline = None if params.get("timeout_s") is None else time.monotonic() + params["timeout_s"]
        losses = 0
        while True:
            connection = self.connection()
            if call is not None:
                call.attach(connection)
            reusable = False
            try:
                answer = exchange(connection, method, params, fds, on_event)
                reusable = True
                return answer
            except ConnectionLost as error:
                if call is not None and call.cancelled:
                    raise Cancelled from error
                losses += 1
                if not repeat:
                    raise lost(self.root, method) from error
                if losses > MAX_LOSSES:
                    raise kills(self.root, method, losses) from error
            except NsrunError as error:
                reusable = not isinstance(error, ServerError)
                raise
            finally:
                if call is not None:
                    call.detach(connection)
                if reusable:
                    self.release(connection)
                else:
                    connection.close()
            time.sleep(min(0.005 * 2**losses, 0.5))
            if changed_for_repeat is not None:
                params = changed_for_repeat(params)
            if deadline is not None:
                params = {**params, "timeout_s": max(deadline - time.monotonic(), 0.0)}

    def stream(self, method: str, params: Message, call: Call | None = None) -> Iterator[tuple[Message, list[int]]]:
        """Send a request on a connection of its own and give its events, with descriptors that the receiver owns.

        Ends when the server answers. Closing the generator cancels the request.

        Raises:
            ConnectionLost: the server died; the caller knows what it has already seen and asks again.
            NsrunError: the server's answer.
            Cancelled: through `call`.
        """
        connection = self.connection()
        try:
            if call is not None:
                call.attach(connection)
            number = connection.send(method, params)
            while True:
                message, fds = connection.receive()
                if message.get("id") != number and not hung_up(message):
                    close_all(fds)
                elif "event" in message:
                    yield message["event"], fds
                else:
                    close_all(fds)
                    if "error" in message:
                        raise NsrunError.from_data(message["error"])
                    return
        except ConnectionLost as error:
            if call is not None and call.cancelled:
                raise Cancelled from error
            raise
        finally:
            if call is not None:
                call.detach(connection)
            connection.close()


def exchange(
    connection: Connection, method: str, params: Message, fds: Sequence[int], on_event: EventHandler | None
) -> Answer:
    """One request and its answer on `connection`; events go to `on_event`.

    Raises:
        ConnectionLost: the server died first.
        NsrunError: the server's answer.
    """
    number = connection.send(method, params, fds)
    while True:
        message, received = connection.receive()
        if message.get("id") != number and not hung_up(message):
            close_all(received)
        elif "event" in message:
            if on_event is None:
                close_all(received)
            else:
                on_event(message["event"], received)
        elif "error" in message:
            close_all(received)
            raise NsrunError.from_data(message["error"])
        else:
            result: Any = message.get("result")
            return Answer(result if isinstance(result, dict) else {}, received)


def hung_up(message: Message) -> bool:
    """Whether the server says with this message that it cannot go on with the connection: an error to no request."""
    return message.get("id") == 0 and "error" in message


def readable(connection: Connection) -> bool:
    """Whether something, or the end, can be read from the connection at once."""
    poller = select.poll()
    poller.register(connection.fileno(), select.POLLIN)
    return bool(poller.poll(0))


def away(root: Root) -> ServerError:
    """The error of a session that may not start a server and finds none."""
    return ServerError(f"no server runs for {root.run}", resolution=f"sudo nsrun {root.option}server start")


def lost(root: Root, method: str) -> ServerError:
    """The error of a request that may not be repeated and got no answer."""
    what = method.removeprefix("pod.")
    return ServerError(
        f"the server ended before it answered to {what}",
        details=f"Whether the {what} was carried out is unknown; it is not repeated without being asked for.",
        resolution=f"Look with nsrun {root.option}pod ls, then repeat the command.",
    )


def kills(root: Root, method: str, times: int) -> ServerError:
    """The error of a request during which every server dies."""
    return ServerError(
        f"the server ended {times} times while it worked on {method}",
        details="\n".join(
            filter(None, ["Each time a new one was started and the request was repeated.", last_words(root, 0)])
        ),
        resolution=f"Its log: {root.server_log}",
    )
