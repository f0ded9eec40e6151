"""What a cluster's controllers put into every namespace: the ServiceAccount `default` and the ConfigMap `kube-root-ca.crt`.

Source: kubernetes pkg/controller/serviceaccount/serviceaccounts_controller.go, pkg/controller/certificates/rootcacertpublisher (v1.36).
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable
from typing import Any

from nsrun.api.cache import Cache
from nsrun.api.link import Link
from nsrun.errors import NsrunError, StatusError

_LOG = logging.getLogger("nsrun.api")
AGAIN_S = 1.0
ROOT_CA = "kube-root-ca.crt"
_DESCRIPTION = {
    "kubernetes.io/description": "Contains a CA bundle that can be used to verify the kube-apiserver when using internal"
    " endpoints such as the internal service IP or kubernetes.default.svc. No other usage is guaranteed across distributions"
    " of Kubernetes clusters."
}


class Controllers:
    """Sees to every namespace while the process runs.

    Args:
        link: for writes.
        cache: tells what there is.
        authority: the certificate, in PEM.
    """

    def __init__(self, link: Link, cache: Cache, authority: str) -> None:
        self._link = link
        self._cache = cache
        self._authority = authority
        self._changed = asyncio.Event()
        self._seen = 0

    def follow(self, then: Callable[[], None]) -> Callable[[], None]:
        """A listener for the cache that also calls `then`."""

        def heard() -> None:
            self._changed.set()
            then()

        return heard

    async def run(self) -> None:
        """See to it, for ever."""
        while True:
            self._changed.clear()
            if self._link.synced and self._concerned():
                try:
                    await self._see_to_all()
                except NsrunError as error:
                    _LOG.info("namespaces are not complete yet: %s", error.brief)
                    self._seen = 0
                    with contextlib.suppress(TimeoutError):
                        await asyncio.wait_for(self._changed.wait(), AGAIN_S)
                    continue
            await self._changed.wait()

    def _concerned(self) -> bool:
        """Whether something happened since the last look that may matter here."""
        steps = self._cache.after(self._seen) if self._seen else None
        self._seen = self._cache.last
        if steps is None or self._seen == 0:
            return True
        for step in steps:
            kind, name = step.entry.kind, step.entry.key[1]
            if kind == "Namespace" or (kind, name) in (("ServiceAccount", "default"), ("ConfigMap", ROOT_CA)):
                return True
        return False

    async def _see_to_all(self) -> None:
        for namespace in self._cache.of("Namespace"):
            if "deletionTimestamp" in namespace.metadata:
                continue
            name = namespace.key[1]
            if self._cache.get("ServiceAccount", name, "default") is None:
                await self._make({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "default"}}, name)
            found = self._cache.get("ConfigMap", name, ROOT_CA)
            metadata = {"name": ROOT_CA, "namespace": name, "annotations": _DESCRIPTION}
            wanted = {
                "apiVersion": "v1",
                "kind": "ConfigMap",
                "metadata": metadata,
                "data": {"ca.crt": self._authority},
            }
            if found is None:
                await self._make(wanted, name)
            elif found.object.get("data") != wanted["data"]:
                await self._call("api.update", {"object": wanted})

    async def _make(self, obj: dict[str, Any], namespace: str) -> None:
        await self._call("api.create", {"object": obj, "namespace": namespace})

    async def _call(self, method: str, params: dict[str, Any]) -> None:
        try:
            await self._link.call(method, params)
        except StatusError as error:
            # Somebody else was faster, or the namespace is going: what comes of it will be heard of.
            if error.status.get("code") not in (403, 404, 409):
                raise
