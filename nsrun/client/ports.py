"""What the words of `pod port-forward` mean: `8080:80`, `80`, `:80`, `8080:http`, `5353:53/udp`."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from ipaddress import ip_address
from typing import Any, NamedTuple

from nsrun.errors import UsageError

LOCALHOST = ("127.0.0.1", "::1")
PROTOCOLS = ("tcp", "udp")


class Port(NamedTuple):
    """One port that is forwarded.

    Attributes:
        local: on this machine; 0 takes a free one.
        remote: in the pod.
        protocol: "tcp" or "udp".
    """

    local: int
    remote: int
    protocol: str = "tcp"


def parse(text: str, pod: dict[str, Any]) -> Port:
    """One word of the command line.

    Args:
        text: [LOCAL:]REMOTE[/PROTOCOL]; REMOTE may be the name of a port in the pod's manifest.
        pod: the Pod object.

    Raises:
        UsageError: it is no such word, or the pod has no port of that name.
    """
    ports, slash, protocol = text.partition("/")
    local, colon, remote = ports.rpartition(":")
    protocol = protocol.lower() if slash else "tcp"
    if protocol not in PROTOCOLS:
        raise UsageError(f"port {text!r}: {protocol!r} is no protocol that can be forwarded", resolution="tcp or udp")
    if not remote:
        raise _unreadable(text)
    inside = _number(remote, text) if remote.isdecimal() else _named(remote, pod, text)
    if not colon:
        return Port(inside, inside, protocol)
    return Port(_number(local, text, lowest=0) if local else 0, inside, protocol)


def _unreadable(text: str) -> UsageError:
    return UsageError(f"port {text!r} is no [LOCAL:]REMOTE", resolution="8080:80, 80, :80 (a free port), 8080:http")


def _number(text: str, whole: str, lowest: int = 1) -> int:
    if not text.isdecimal():
        raise _unreadable(whole)
    number = int(text)
    if not lowest <= number <= 65535:
        raise UsageError(f"port {whole!r}: {number} is not between {lowest} and 65535")
    return number


def _named(name: str, pod: dict[str, Any], whole: str) -> int:
    named = {
        port["name"]: int(port["containerPort"])
        for container in (*(pod["spec"].get("initContainers") or ()), *pod["spec"]["containers"])
        for port in container.get("ports") or ()
        if port.get("name")
    }
    if name not in named:
        known = ", ".join(f"{one} ({number})" for one, number in named.items())
        raise UsageError(
            f"port {whole!r}: pod {pod['metadata']['name']!r} has no port of the name {name!r}",
            resolution=f"It has: {known}" if known else "Its ports have no names: give the number.",
        )
    return named[name]


def addresses(texts: Iterable[str]) -> list[Sequence[str]]:
    """The addresses to listen on, each with the one that may stand in for it: `localhost` is 127.0.0.1 and ::1.

    Raises:
        UsageError: one is neither an address nor `localhost`.
    """
    found: list[Sequence[str]] = []
    for text in (part.strip() for word in texts for part in word.split(",")):
        if text == "localhost":
            found.append(LOCALHOST)
            continue
        try:
            found.append((str(ip_address(text.strip("[]"))),))
        except ValueError:
            raise UsageError(
                f"--address {text!r} is no IP address", resolution="127.0.0.1, ::1, 0.0.0.0 or localhost"
            ) from None
    return list(dict.fromkeys(map(tuple, found)))
