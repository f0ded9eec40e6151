"""`python -m nsrun.resolver --udp N --tcp M`: answers questions about names. See `process.py`; started by `nsrun.server.names`.

Descriptors that come with it, from 3 on: the directory, its lock (locked), the control socket, N UDP sockets, M TCP sockets.
"""

from __future__ import annotations

import contextlib
import getopt
import os
import resource
import signal
import socket
import sys

FIRST = 3
DESCRIPTORS = 4096
MEMORY = 512 << 20
"""Bytes of address space: far more than it needs, far less than would hurt."""
NOBODY = 65534


def main() -> int:
    """Answers until it is killed."""
    options, _ = getopt.getopt(sys.argv[1:], "", ["udp=", "tcp="])
    words = dict(options)
    udp, tcp = int(words["--udp"]), int(words["--tcp"])
    directory, lock = FIRST, FIRST + 1
    sockets = [socket.socket(fileno=fd) for fd in range(FIRST + 2, FIRST + 3 + udp + tcp)]
    for fd in range(FIRST, FIRST + 3 + udp + tcp):
        os.set_inheritable(fd, False)
    for one in sockets:
        one.setblocking(False)
    signal.signal(signal.SIGPIPE, signal.SIG_IGN)
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    with contextlib.suppress(OSError):
        # For whoever finds the lock held and wants to know by whom.
        os.pwrite(lock, f"{os.getpid()}\n".encode(), 0)
    from nsrun.resolver.process import Resolver

    _let_go()
    Resolver(directory, lock, sockets[0], sockets[1 : 1 + udp], sockets[1 + udp :]).loop.run()
    return 0


def _let_go() -> None:
    """Of everything that answering does not need, before the first question is read."""
    import prctl

    from nsrun import native

    prctl.set_name("nsrun-resolver"[:15])
    resource.setrlimit(resource.RLIMIT_NOFILE, (DESCRIPTORS, DESCRIPTORS))
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    if os.geteuid() == 0:
        os.setgroups([])
        os.setresgid(NOBODY, NOBODY, NOBODY)
        # All capabilities go with it.
        os.setresuid(NOBODY, NOBODY, NOBODY)
    prctl.set_no_new_privs(1)
    with contextlib.suppress(OSError):
        # Where the kernel has Landlock: not even where nobody may write.
        native.only_read_files()
    prctl.set_dumpable(0)


if __name__ == "__main__":
    sys.exit(main())
