"""Keeps a copy of the Secrets of a namespace with one client library, and says at the end what it knows: a program for test_informers.py.

usage: python -m tests.host.api.informers NAME KUBECONFIG URL NAMESPACE

The Secret `aa-begin` is made before all changes: who has heard of it says so, by an empty line. `zz-end` is the end: it is made after all
other changes, and is the last of any list.
"""

from __future__ import annotations

import asyncio
import contextlib
import http.client
import importlib
import json
import os
import sys
import threading
import time
from typing import Any
from urllib.parse import urlencode, urlsplit

BEGIN = "aa-begin"
END = "zz-end"
PAUSE_S = 0.02
Known = dict[str, str]
"""Names of what there is, with versions."""


class Informer:
    """Somebody who keeps a copy by a client of their own.

    Attributes:
        known: the copy.
        events: how many changes were heard of.
        lists: how often all had to be asked for.
    """

    def __init__(self, kubeconfig: str, url: str, namespace: str) -> None:
        self.kubeconfig = kubeconfig
        self.url = url
        self.namespace = namespace
        self.known: Known = {}
        self.events = 0
        self.lists = 0
        self.expired = 0
        self.wrong: list[str] = []
        self.begun = False

    def follow(self) -> None:
        """Until the end."""
        raise NotImplementedError

    @property
    def done(self) -> bool:
        """The end was heard of."""
        return END in self.known

    def begin(self, name: str) -> None:
        """Say that changes are heard of from now on, if this is the Secret that tells it."""
        if name == BEGIN and not self.begun:
            self.begun = True
            print(flush=True)

    def listed(self, known: Known) -> None:
        self.known = known
        self.lists += 1
        if BEGIN in known:
            self.begin(BEGIN)

    def heard(self, change: str, name: str, version: str) -> None:
        self.events += 1
        self.begin(name)
        if change == "DELETED":
            self.known.pop(name, None)
        else:
            self.known[name] = version


class Plain(Informer):
    """HTTP by hand: goes on at the last version that it heard of, and judges what it is told on the way."""

    def follow(self) -> None:
        version = ""
        while not self.done:
            try:
                if not version:
                    found = json.load(self.asked({}))
                    version = _version(found)
                    self.listed({one["metadata"]["name"]: _version(one) for one in found["items"]})
                version = self.watched(version)
            except (OSError, http.client.HTTPException, ValueError):
                time.sleep(PAUSE_S)

    def asked(self, query: dict[str, str]) -> http.client.HTTPResponse:
        connection = http.client.HTTPConnection(urlsplit(self.url).netloc, timeout=60)
        connection.request("GET", f"/api/v1/namespaces/{self.namespace}/secrets?{urlencode(query)}")
        answer = connection.getresponse()
        if answer.status != 200:
            raise OSError(answer.read())
        return answer

    def watched(self, version: str) -> str:
        answer = self.asked({"watch": "true", "resourceVersion": version, "allowWatchBookmarks": "true"})
        with contextlib.suppress(OSError, http.client.HTTPException, ValueError):
            while not self.done and (line := answer.readline()):
                event = json.loads(line)
                if event["type"] == "ERROR":
                    assert event["object"]["code"] == 410, event
                    self.expired += 1
                    return ""
                self.judge(event["type"], event["object"], version)
                version = _version(event["object"])
                if event["type"] != "BOOKMARK":
                    self.heard(event["type"], event["object"]["metadata"]["name"], version)
        return version

    def judge(self, change: str, obj: dict[str, Any], version: str) -> None:
        """No change is told twice, out of order, or of what it cannot be of."""
        name = obj["metadata"].get("name", "")
        if change != "BOOKMARK" and int(_version(obj)) <= int(version):
            self.wrong.append(f"{change} {name} {_version(obj)} after {version}")
        if change in ("MODIFIED", "DELETED") and name not in self.known:
            self.wrong.append(f"{change} of {name}, which there was not")
        if change == "ADDED" and name in self.known:
            self.wrong.append(f"{change} of {name}, which there was")


class Official(Informer):
    """The shared informer of the package `kubernetes`."""

    def follow(self) -> None:
        from kubernetes import client

        # It has no types.
        SharedInformer: Any = importlib.import_module("kubernetes.informer").SharedInformer

        core = client.CoreV1Api(client.ApiClient(client.Configuration(host=self.url)))
        informer = SharedInformer(list_func=core.list_namespaced_secret, namespace=self.namespace)
        ended = threading.Event()

        def hear(obj: Any) -> None:
            self.events += 1
            self.begin(obj.metadata.name)
            if obj.metadata.name == END:
                ended.set()

        for kind in ("ADDED", "MODIFIED", "DELETED"):
            informer.add_event_handler(kind, hear)
        informer.start()
        ended.wait()
        self.known = {one.metadata.name: one.metadata.resource_version for one in informer.cache.list()}


class Light(Informer):
    """lightkube: lists, then watches from there on until it is too late for that."""

    def follow(self) -> None:
        import lightkube

        config = lightkube.KubeConfig.from_file(self.kubeconfig)
        with lightkube.Client(config=config, trust_env=False) as client:
            while not self.done:
                try:
                    self.round(client)
                except Exception:
                    # Which library's exceptions these are depends on the client's version; what is known at the end is what matters.
                    time.sleep(PAUSE_S)

    def round(self, client: Any) -> None:
        from lightkube.core.exceptions import ApiError
        from lightkube.resources.core_v1 import Secret

        listing = client.list(Secret, namespace=self.namespace)
        self.listed({one.metadata.name: one.metadata.resourceVersion for one in listing})
        version = listing.resourceVersion
        while not self.done:
            try:
                for change, one in client.watch(Secret, namespace=self.namespace, resource_version=version):
                    version = one.metadata.resourceVersion
                    self.heard(change, one.metadata.name, version)
                    if self.done:
                        return
            except ApiError as error:
                if error.status.code == 410:
                    self.expired += 1
                    return
                time.sleep(PAUSE_S)
            except Exception:
                time.sleep(PAUSE_S)


class Kr8s(Informer):
    """kr8s: each watch begins with all there is, for it does not come back from 410 otherwise."""

    def follow(self) -> None:
        asyncio.run(self.followed())

    async def followed(self) -> None:
        import kr8s.asyncio

        while not self.done:
            try:
                client = await kr8s.asyncio.api(kubeconfig=self.kubeconfig)
                self.listed({})
                async for change, one in client.async_watch("secrets", namespace=self.namespace):
                    self.heard(change, one.name, one.metadata.resourceVersion)
                    if self.done:
                        return
            except Exception:
                await asyncio.sleep(PAUSE_S)


def _version(obj: dict[str, Any]) -> str:
    found: str = obj["metadata"]["resourceVersion"]
    return found


INFORMERS: dict[str, type[Informer]] = {"plain": Plain, "kubernetes": Official, "lightkube": Light, "kr8s": Kr8s}


def main() -> None:
    name, *rest = sys.argv[1:]
    informer = INFORMERS[name](*rest)
    informer.follow()
    found = {"known": informer.known, "events": informer.events, "lists": informer.lists}
    print(json.dumps(found | {"expired": informer.expired, "wrong": informer.wrong}), flush=True)
    # Some of the clients have threads that wait for another change.
    os._exit(0)


if __name__ == "__main__":
    main()
