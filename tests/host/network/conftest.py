"""A network and pods, taken apart after each test with a look at what stays behind."""

from __future__ import annotations

import asyncio
import itertools
import socket
from collections.abc import Callable, Coroutine, Iterator
from pathlib import Path
from typing import Any, TypeVar

import pytest

from nsrun.network import Network, NetworkConfig, PodAddress
from tests.host.network.pods import Pod
from tests.host.testhost import Host

_T = TypeVar("_T")


class Lab:
    """One network on the test's root, an event loop to drive it, and pods.

    Attributes:
        network: the one most tests need; `again()` makes another on the same directory, as a new server would.
    """

    def __init__(self, host: Host) -> None:
        self.host = host
        self.runner = asyncio.Runner()
        self.pods: list[Pod] = []
        self.networks: list[Network] = []
        self.network = self.again()
        self._numbers = itertools.count(1)

    @property
    def lib(self) -> Path:
        return self.host.root / "lib"

    @property
    def bridge(self) -> str:
        return self.network.config.bridge

    def again(self, settings: dict[str, Any] | None = None) -> Network:
        """A second Network on the same root that knows nothing of the first."""
        network = Network(NetworkConfig.for_root(self.host.root, settings), self.lib)
        self.networks.append(network)
        return network

    def run(self, work: Coroutine[Any, Any, _T]) -> _T:
        return self.runner.run(work)

    def pod(self) -> Pod:
        pod = Pod(f"00000000-0000-0000-0000-{next(self._numbers):012}")
        self.pods.append(pod)
        return pod

    def attach(self, pod: Pod) -> PodAddress:
        return self.run(self.network.attach(pod.uid, pod.netns, pod.netlink))

    def attached(self) -> tuple[Pod, PodAddress]:
        pod = self.pod()
        return pod, self.attach(pod)

    def close(self) -> None:
        for pod in self.pods:
            pod.close()
        for network in self.networks:
            self.run(network.close())
        last = self.again()
        self.run(last.close(remove=True))
        self.runner.close()


@pytest.fixture
def lab(leak_check: None, host: Host) -> Iterator[Lab]:
    lab = Lab(host)
    yield lab
    lab.close()


@pytest.fixture
def names() -> Callable[[], set[str]]:
    """The links of the test host."""
    return lambda: {name for _, name in socket.if_nameindex()}
