"""The server as a process: lock, log, socket, signals; what it serves is loaded once the socket listens."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import logging
import os
import resource
import signal
import socket
from typing import TYPE_CHECKING

from nsrun.server.config import control_group, read_config
from nsrun.server.control import ControlSocket
from nsrun.state.layout import Layout
from nsrun.state.lock import RootLock

if TYPE_CHECKING:
    from pathlib import Path

    from nsrun.server.__main__ import Arguments
    from nsrun.server.service import Service

LOG_MAX = 4 * 1024 * 1024
"""Bytes of run/server.log from which it is begun anew; the old one stays as server.log.1."""
PLACE_EVERY_S = 5.0
"""How often is looked whether the run directory is still there."""
SETTLED_S = 2.0
"""After this long what was loaded is there to stay: from then on the garbage collector passes it over (10 ms a time)."""

_LOG = logging.getLogger("nsrun.server")


def run(arguments: Arguments) -> int:
    """Serve until told to stop.

    Returns:
        0.

    Raises:
        NsrunError: it could not start; nothing was changed but missing directories.
    """
    os.umask(0o022)
    layout = Layout.at(arguments.root)
    layout.prepare()
    lock = RootLock(layout.lock)
    group = control_group(read_config(layout))
    layout.let_in(group)
    if arguments.metrics:
        from nsrun.server.metrics_settings import addresses

        addresses(None, arguments.metrics)
    _open_log(layout, foreground=arguments.foreground)
    _raise_descriptor_limit()
    # A client that hung up must not end the server; children are none of its own.
    signal.signal(signal.SIGPIPE, signal.SIG_IGN)
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    asyncio.run(_serve(layout, arguments, lock, group))
    lock.close()
    return 0


async def _serve(layout: Layout, arguments: Arguments, lock: RootLock, group: int | None) -> None:
    loop = asyncio.get_running_loop()
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    control = ControlSocket(layout.socket, str(layout.server_log), group)
    if arguments.ready is not None:
        with contextlib.suppress(OSError):
            os.write(arguments.ready, b"1")
        os.close(arguments.ready)
    _tell_systemd("READY=1")
    service: Service | None = None
    try:
        # One turn of the loop: a client that is waiting already gets its greeting before the long imports.
        await asyncio.sleep(0)
        from nsrun.server.service import Service

        _name_process()
        service = Service(layout, stop, temporary=arguments.temporary, metrics=arguments.metrics)
        await service.open()
        control.methods.update(service.methods())
        control.ready.set()
        loop.call_later(SETTLED_S, gc.freeze)
        _LOG.info("serving %s", layout.socket)
        lifeline = loop.create_task(_watch_lifeline(arguments.lifeline, stop))
        place = loop.create_task(_watch_place(lock, layout, stop))
        await stop.wait()
        lifeline.cancel()
        place.cancel()
        if arguments.lifeline is not None:
            await _take_all_away(control, service)
            return
    finally:
        _tell_systemd("STOPPING=1")
        # Answers that are under way (to server.stop among them) get out before the sockets close.
        await asyncio.sleep(0)
        control.close()
        if service is not None:
            await service.close()
    _LOG.info("stopped; the pods run on")


async def _watch_place(lock: RootLock, layout: Layout, stop: asyncio.Event) -> None:
    """Set `stop` when the run directory was removed or moved away: no client can find this server any more."""
    # Looked at, not waited for: inotify would have to watch every directory above it, too.
    while lock.stands():  # noqa: ASYNC110
        await asyncio.sleep(PLACE_EVERY_S)
    _LOG.error("%s is not there any more: this server ends", layout.lock)
    stop.set()


async def _watch_lifeline(fd: int | None, stop: asyncio.Event) -> None:
    """Set `stop` at the end of file of `fd`; whatever else comes through it is thrown away."""
    if fd is None:
        return
    loop = asyncio.get_running_loop()
    os.set_blocking(fd, False)

    def readable() -> None:
        try:
            if os.read(fd, 4096):
                return
        except BlockingIOError:
            return
        except OSError:
            # ECONNRESET of a socket: its other end is gone as well.
            _LOG.debug("the lifeline broke")
        loop.remove_reader(fd)
        stop.set()

    loop.add_reader(fd, readable)


async def _take_all_away(control: ControlSocket, service: Service) -> None:
    """The owner is gone: nothing may stay behind."""
    control.methods.clear()
    await service.remove_everything()


class BoundedLog(logging.Handler):
    """Appends to a file, which is begun anew whenever it has become too long; the one before stays as `<name>.1`.

    Args:
        path: the file.
        size: bytes from which on it is too long.

    Raises:
        OSError: the file cannot be opened.
    """

    def __init__(self, path: Path, size: int) -> None:
        super().__init__()
        self._path = path
        self._size = size
        self._fd = self._open()
        self._length = os.fstat(self._fd).st_size

    def _open(self) -> int:
        return os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)

    def emit(self, record: logging.LogRecord) -> None:
        """Write a record; what cannot be written (a full disk) is lost."""
        data = f"{self.format(record)}\n".encode("utf-8", "replace")
        with contextlib.suppress(OSError):
            if self._length > self._size:
                self._begin_anew()
            os.write(self._fd, data)
            self._length += len(data)

    def _begin_anew(self) -> None:
        """While there is no room even for a file's name it goes on in the old one."""
        self._length = 0
        with contextlib.suppress(OSError):
            os.rename(self._path, f"{self._path}.1")
            old, self._fd = self._fd, self._open()
            os.close(old)


def _open_log(layout: Layout, *, foreground: bool) -> None:
    logging.raiseExceptions = False  # a full disk silences the log, not the server
    handler: logging.Handler
    handler = logging.StreamHandler() if foreground else BoundedLog(layout.server_log, LOG_MAX)
    handler.setFormatter(
        logging.Formatter("%(asctime)s.%(msecs)03d %(levelname)s %(name)s: %(message)s", "%Y-%m-%dT%H:%M:%S")
    )
    root = logging.getLogger()
    root.addHandler(handler)
    root.setLevel(os.environ.get("NSRUN_LOG", "INFO").upper())
    logging.getLogger("asyncio").setLevel(logging.WARNING)


def _tell_systemd(words: str) -> None:
    """Report a state to the service manager that waits for it (`Type=notify`), if there is one: sd_notify(3)."""
    address = os.environ.get("NOTIFY_SOCKET", "")
    if not address:
        return
    if address.startswith("@"):
        address = "\0" + address[1:]
    with (
        contextlib.suppress(OSError),
        socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as channel,
    ):
        channel.sendto(words.encode("ascii"), address)


def _name_process() -> None:
    """`nsrun-server` in ps and top; and no core file, no tracer without CAP_SYS_PTRACE: Secrets are in its memory."""
    import prctl

    prctl.set_name("nsrun-server")
    prctl.set_dumpable(0)


def _raise_descriptor_limit() -> None:
    """As many descriptors as the kernel lets us have: about four per pod."""
    _soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with contextlib.suppress(ValueError, OSError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
