"""The process `nsrun api serve`: the link, the cache and all who answer, until a signal ends it."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import logging
import resource
import signal
import ssl
import sys
from collections.abc import Sequence

from aiohttp import web

from nsrun.api import certificates, credentials, listening
from nsrun.api.app import Api
from nsrun.api.authentication import Authenticator
from nsrun.api.cache import Cache
from nsrun.api.connections import CONNECTIONS_MAX, Connections
from nsrun.api.controllers import Controllers
from nsrun.api.doors import Door
from nsrun.api.link import Link
from nsrun.api.listening import Address
from nsrun.client.roots import Root
from nsrun.errors import UsageError

ENDING_S = 2.0
_LOG = logging.getLogger("nsrun.api")


def serve(root: Root, addresses: Sequence[Address], *, insecure: bool, names: Sequence[str] = ()) -> int:
    """Serve until SIGTERM or SIGINT.

    Args:
        root: whose server.
        addresses: where to listen.
        insecure: HTTP in the clear and without tokens; on loopback alone.
        names: more names and addresses for the certificate.

    Raises:
        UsageError: in the clear for everybody.
        NsrunError: it cannot begin.
    """
    for address in addresses:
        if insecure and not address.loopback:
            raise UsageError(
                f"--insecure-http is for loopback: whoever reaches {address.host} would be root on this machine",
                resolution="Leave it out: clients then need `nsrun api kubeconfig`.",
            )
    most = _room()
    asyncio.run(_serve(root, addresses, insecure=insecure, names=names, most=most))
    return 0


async def _serve(root: Root, addresses: Sequence[Address], *, insecure: bool, names: Sequence[str], most: int) -> None:
    loop = asyncio.get_running_loop()
    ended = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, ended.set)
    place = credentials.place_of(root)
    authority = certificates.authority(place)
    context = None if insecure else certificates.prepared(place, _hosts(addresses, names))
    cache = Cache()
    link = Link(root, cache.take, cache.begin)
    bound = [(address, sock) for address in addresses for sock in listening.bound(address)]
    files = listening.files_of(addresses)
    where = [_shown(address, sock.getsockname(), context) for address, sock in bound]
    authenticator = Authenticator(None if insecure else place.tokens, local=insecure)
    api = Api(link, cache, authenticator, where[0].partition("//")[2])
    controllers = Controllers(link, cache, authority)
    cache.on_steps = controllers.follow(cache.on_steps)
    runner = web.AppRunner(api.application(), access_log=None, handle_signals=False)
    await runner.setup()
    assert runner.server is not None
    connections = Connections(runner.server, most)
    doors = [loop.create_task(Door(sock, connections, context).run()) for _, sock in bound]
    tasks = [loop.create_task(link.run()), loop.create_task(controllers.run())]
    gc.freeze()
    for one in dict.fromkeys(where):
        print(f"The Kubernetes API is at {one}", flush=True)  # noqa: T201 - what a user waits for
    try:
        await _first_of(ended, [*tasks, *doors])
    finally:
        listening.remove(files)
        for door in doors:
            door.cancel()
        api.watching.close()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(ENDING_S):
                await runner.shutdown()
                await runner.cleanup()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, *doors, return_exceptions=True)


async def _first_of(ended: asyncio.Event, tasks: Sequence[asyncio.Task[None]]) -> None:
    """Until the end, or until one of the tasks that never end does: without them what is answered from the cache would be old for ever.

    Raises:
        Exception: what ended the task.
    """
    waiting = asyncio.create_task(ended.wait())
    try:
        done, _ = await asyncio.wait([waiting, *tasks], return_when=asyncio.FIRST_COMPLETED)
    finally:
        waiting.cancel()
    for task in done:
        task.result()


def _hosts(addresses: Sequence[Address], names: Sequence[str]) -> tuple[str, ...]:
    return (*[one.host for one in addresses if one.host and one.host not in ("0.0.0.0", "::")], *names)


def _shown(address: Address, name: object, context: ssl.SSLContext | None) -> str:
    if address.path:
        return f"unix:{address.path}"
    assert isinstance(name, tuple)
    host = f"[{name[0]}]" if ":" in name[0] else name[0]
    return f"{'http' if context is None else 'https'}://{host}:{name[1]}"


def _room() -> int:
    """How many connections there may be; the limit of descriptors is raised to have some for what streams lead to as well."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = CONNECTIONS_MAX * 4
    if soft < wanted:
        soft = min(wanted, hard)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    return min(CONNECTIONS_MAX, soft * 3 // 4)


def log_to(stream: object = sys.stderr) -> None:
    """Have what is to be said on standard error."""
    del stream
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    # Its words are about requests that are none, and clients that hung up: anybody could fill a disk with them.
    logging.getLogger("aiohttp").setLevel(logging.CRITICAL)
