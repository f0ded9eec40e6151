"""What the kernel's refusals mean, and the lock under which the shared parts are made."""

from __future__ import annotations

import errno
import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager

from nsrun.errors import ConflictError, NsrunError, PermissionDeniedError, UnsupportedError, errno_text

PORTS = 1023
"""Of a bridge (BR_MAX_PORTS of the kernel is 1,024; number 0 is none)."""
WAY_OUT = "Pods with `hostNetwork: true` need none of this and still work."


@contextmanager
def refusals(what: str) -> Iterator[None]:
    """Turn the kernel's refusal of a request into an error that says what was attempted and what to do."""
    try:
        yield
    except OSError as error:
        number = error.errno or 0
        words = error.strerror or ""
        answer = errno_text(number) + (f": {words}" if words and words != os.strerror(number) else "")
        if number in (errno.EPERM, errno.EACCES):
            raise PermissionDeniedError(
                f"cannot {what}: {answer}",
                details=f"That needs CAP_NET_ADMIN in this network namespace. {WAY_OUT}",
                resolution="Run nsrun as root on the machine itself; `nsrun doctor` says what is missing.",
            ) from error
        if number in (errno.EOPNOTSUPP, errno.EPROTONOSUPPORT, errno.EAFNOSUPPORT):
            raise UnsupportedError(
                f"cannot {what}: {answer}",
                details=f"The kernel lacks one of bridge, veth, nf_tables. {WAY_OUT}",
                resolution="Load the modules: modprobe -a bridge veth nf_tables. `nsrun doctor` shows which one is missing.",
            ) from error
        raise NsrunError(
            f"cannot {what}: {answer}",
            details=WAY_OUT,
            resolution="`nsrun doctor` looks at the network; `ip link` and `nft list ruleset` show its parts.",
            code="step",
        ) from error


def full() -> ConflictError:
    """What is said of a pod that the bridge has no port for."""
    return ConflictError(
        f"the pods' bridge is full: Linux has {PORTS:,} ports for each",
        resolution="Take pods down, or have more of them in a second network, which has a bridge of its own: a table [network.NAME] in"
        " config.toml, and the annotation nsrun.io/network: NAME.",
    )


@contextmanager
def namespace_lock() -> Iterator[None]:
    """One nsrun at a time sets up in this network namespace: two roots must not choose the same range.

    The lock is on the namespace's own file, so it needs no place on disk and ends with its holder.
    """
    fd = os.open("/proc/self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX)
        yield
    finally:
        os.close(fd)
