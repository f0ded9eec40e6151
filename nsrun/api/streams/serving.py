"""The one door to the streams."""

from __future__ import annotations

from typing import Any, Protocol

from aiohttp import web

from nsrun.api.streams import forwarding, logs, remote
from nsrun.api.streams.calls import Calls
from nsrun.client.roots import Root


class Link(Protocol):
    """The way to the server."""

    @property
    def root(self) -> Root:
        """Its directories."""


_CALLS: dict[Root, Calls] = {}


def calls_to(root: Root) -> Calls:
    """The connections to a root's server that carry descriptors: one set for the whole process."""
    return _CALLS.setdefault(root, Calls(root))


async def serve(request: web.Request, pod: dict[str, Any], subresource: str, link: Link) -> web.StreamResponse:
    """Answer a request for a stream of a pod, to the stream's end.

    Args:
        request: that was authorized.
        pod: as published now.
        subresource: log, exec, attach or portforward.
        link: names the server.
    """
    calls = calls_to(link.root)
    if subresource == "log":
        return await logs.serve(request, pod, calls)
    if subresource == "portforward":
        return await forwarding.serve(request, pod, calls)
    return await remote.serve(request, pod, subresource, calls)
