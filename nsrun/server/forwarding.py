"""Sockets inside a pod for those who want to talk to what listens there: the server makes them and is not on the bytes' way."""

from __future__ import annotations

import os
import socket
from typing import TYPE_CHECKING

from nsrun.errors import ConflictError, UsageError
from nsrun.network.sockets import sockets_in
from nsrun.server.control import FDS_MAX, Answer

if TYPE_CHECKING:
    from nsrun.server.control import Request
    from nsrun.server.engine import PodEngine

KINDS = {"tcp": socket.SOCK_STREAM, "udp": socket.SOCK_DGRAM}
FAMILIES = {4: socket.AF_INET, 6: socket.AF_INET6}


async def sockets(engine: PodEngine, request: Request) -> Answer:
    """pod.sockets: unconnected sockets in the pod's network namespace, as descriptors of the answer.

    Whoever gets them connects them to the pod's 127.0.0.1 or ::1, when it likes. They are of the sandbox there is now: after
    a new sandbox there is nothing to reach through them any more.

    Raises:
        ConflictError: the pod has no sandbox.
        UsageError: no such protocol, family or number.
    """
    protocol, family = request.text("protocol", "tcp"), int(request.number_or_none("family") or 4)
    count = int(request.number_or_none("count") or 1)
    if protocol not in KINDS or family not in FAMILIES or not 1 <= count <= FDS_MAX:
        raise UsageError(
            f"pod.sockets: {count} sockets of protocol {protocol!r} and family {family}",
            details=f"protocol is tcp or udp, family 4 or 6, count 1 to {FDS_MAX}.",
        )
    shim = engine.shim
    if shim is None:
        raise ConflictError(
            f'pod "{engine.label}" has no running sandbox: its phase is {engine.phase}',
            resolution=f"nsrun pod wait {engine.name} waits until it is ready.",
        )
    namespace, netlink = await shim.network()
    try:
        return Answer({}, await sockets_in(namespace, FAMILIES[family], KINDS[protocol], count))
    finally:
        netlink.close()
        os.close(namespace)
