"""What there is by name: pure, made anew from the file that the server writes.

Below the domain (`cluster.local`):

    POD.NAMESPACE.pod               a pod, as long as it has an address (CoreDNS's plugin kubepods)
    10-88-0-5.NAMESPACE.pod         the pod of this namespace with this address (CoreDNS's `pods verified`)
    HOSTNAME.SUBDOMAIN.NAMESPACE.svc   a pod with a subdomain, while it is ready; a headless Service of that name has these in a cluster
    SUBDOMAIN.NAMESPACE.svc         all of them
    POD.NAMESPACE.svc               a pod where nothing else has that name: what makes plain `POD` and `POD.NAMESPACE` work by the
                                    search list that a kubelet would write

A Service that is kept takes the place of what is said here of its name: SERVICE.NAMESPACE.svc are its pods that are ready,
ENDPOINT.SERVICE.NAMESPACE.svc one of them, _PORT._PROTOCOL.SERVICE.NAMESPACE.svc (SRV) their names with the port. An address's pod is
found by its reverse name. Source: Kubernetes DNS-Based Service Discovery (kubernetes/dns docs/specification.md).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from typing import Any

A, NS, SOA, PTR, TXT, AAAA, SRV, ANY = 1, 2, 6, 12, 16, 28, 33, 255
NOERROR, NXDOMAIN = 0, 3

SCHEMA = "1.1.0"
"""Of the specification; it is told at dns-version.DOMAIN."""

Address = IPv4Address | IPv6Address
Record = tuple[int, str]
"""Type and text of the data."""


@dataclass(frozen=True, slots=True)
class Found:
    """What the zone says.

    Attributes:
        code: NOERROR or NXDOMAIN.
        records: of the name that was asked for; with none, the SOA goes into the authority section.
        apex: the zone's own name; "" for what is in none, and has no SOA.
    """

    code: int
    records: tuple[Record, ...]
    apex: str


@dataclass(frozen=True, slots=True)
class PodNames:
    """A pod as far as names go.

    Attributes:
        listed: it is to be found by its subdomain as well.
    """

    name: str
    namespace: str
    addresses: tuple[str, ...]
    hostname: str = ""
    subdomain: str = ""
    listed: bool = True


@dataclass(frozen=True, slots=True)
class ServiceNames:
    """A Service as far as names go.

    Attributes:
        address: its own; "" if its pods are answered.
        endpoints: name and addresses of each.
        ports: name, protocol and number of each.
    """

    namespace: str
    name: str
    address: str = ""
    endpoints: tuple[tuple[str, tuple[str, ...]], ...] = ()
    ports: tuple[tuple[str, str, int], ...] = ()


@dataclass(slots=True)
class Zone:
    """Everything that is answered here; names are lower-case texts without the last dot.

    Args:
        domain: what names end in.
        addresses: where the resolver itself is reached.
        networks: addresses of pods; reverse names of all others are not ours.
        pods: all of them.
        services: all that are kept.
        serial: of this state.
        ttl: seconds.
    """

    domain: str
    addresses: tuple[str, ...] = ()
    networks: tuple[IPv4Network | IPv6Network, ...] = ()
    pods: tuple[PodNames, ...] = ()
    services: tuple[ServiceNames, ...] = ()
    serial: int = 1
    ttl: int = 5
    _names: dict[str, list[Record]] = field(default_factory=dict)
    _inner: set[str] = field(default_factory=set)
    _dashed: set[tuple[str, Address]] = field(default_factory=set)

    def __post_init__(self) -> None:
        domain = self.domain
        names = self._names
        names[domain] = [(SOA, self.soa()), (NS, f"ns.dns.{domain}.")]
        names[f"ns.dns.{domain}"] = [_record(address) for address in self.addresses]
        names[f"dns-version.{domain}"] = [(TXT, f'"{SCHEMA}"')]
        services = {self._add_service(service) for service in self.services}
        for pod in self.pods:
            records = [_record(address) for address in pod.addresses]
            pointer = f"{pod.name}.{pod.namespace}.pod.{domain}"
            names.setdefault(pointer, []).extend(records)
            if pod.subdomain:
                group = f"{pod.subdomain}.{pod.namespace}.svc.{domain}"
                full = f"{pod.hostname or pod.name}.{group}"
                if group in services:
                    pointer = full if full in names else pointer
                else:
                    # Also when none of its pods is ready the name is there (CoreDNS tells NODATA of it).
                    names.setdefault(group, [])
                    if pod.listed:
                        pointer = full
                        names[group].extend(records)
                        names.setdefault(full, []).extend(records)
            for address in map(ip_address, pod.addresses):
                self._dashed.add((pod.namespace, address))
                # The machine's address is no pod's, though pods with its network have it.
                if str(address) not in self.addresses:
                    names.setdefault(address.reverse_pointer, [(PTR, f"{pointer}.")])
        for pod in self.pods:
            names.setdefault(f"{pod.name}.{pod.namespace}.svc.{domain}", [_record(one) for one in pod.addresses])
        self._inner = {f"{kind}.{domain}" for kind in ("svc", "pod", "dns")}
        for name in names:
            if name.endswith(f".{domain}"):
                above = name.partition(".")[2]
                while above != domain and above not in self._inner:
                    self._inner.add(above)
                    above = above.partition(".")[2]

    def _add_service(self, service: ServiceNames) -> str:
        names, group = self._names, f"{service.name}.{service.namespace}.svc.{self.domain}"
        names[group] = [_record(service.address)] if service.address else []
        ports = [names.setdefault(f"_{name}._{protocol}.{group}", []) for name, protocol, _ in service.ports]
        for endpoint, addresses in service.endpoints:
            records = [_record(address) for address in addresses]
            names[group].extend(records)
            names.setdefault(f"{endpoint}.{group}", []).extend(records)
            for told, (_, _, number) in zip(ports, service.ports, strict=True):
                told.append((SRV, f"0 100 {number} {endpoint}.{group}."))
        return group

    @staticmethod
    def of(data: dict[str, Any]) -> Zone:
        """The zone that the server's file describes.

        Raises:
            ValueError, KeyError, TypeError: it is no such file.
        """
        return Zone(
            domain=str(data["domain"]),
            addresses=tuple(data["addresses"]),
            networks=tuple(ip_network(text) for text in data["networks"]),
            pods=tuple(
                PodNames(name, namespace, tuple(addresses), hostname, subdomain, listed)
                for name, namespace, addresses, hostname, subdomain, listed in data["pods"]
            ),
            services=tuple(
                ServiceNames(
                    namespace,
                    name,
                    address,
                    tuple((one, tuple(ips)) for one, ips in endpoints),
                    tuple(map(tuple, ports)),
                )
                for namespace, name, address, endpoints, ports in data.get("services", ())
            ),
            serial=int(data["serial"]),
        )

    def soa(self) -> str:
        """The SOA's data; its last number is for how long a name that is not there may be remembered."""
        return f"ns.dns.{self.domain}. hostmaster.{self.domain}. {self.serial} 7200 1800 86400 {self.ttl}"

    def find(self, name: str, kind: int) -> Found | None:
        """What is there of a name.

        Args:
            name: lower case, without the last dot.
            kind: the type that is asked for.

        Returns:
            None where others are to be asked.
        """
        apex = self._apex(name)
        if apex is None:
            # What a search list leaves of a pod's name, when what was asked for is a type that it has not: nobody else knows it. Single
            # labels are for search lists, as systemd-resolved has it; with their machine cut off pods would wait for each of them.
            ours = "." not in name or f"{name}.pod.{self.domain}" in self._names
            return Found(NXDOMAIN, (), "") if ours and kind in (A, AAAA) else None
        records = self._names.get(name)
        if records is None:
            records = self._by_address(name)
        if records is None:
            return Found(NOERROR if name in self._inner else NXDOMAIN, (), apex)
        return Found(NOERROR, tuple(one for one in records if kind in (one[0], ANY)), apex)

    def allows(self, client: str) -> bool:
        """Whether a client is answered: pods and this machine are."""
        try:
            address = ip_address(client.partition("%")[0])
        except ValueError:
            return False
        if isinstance(address, IPv6Address) and address.ipv4_mapped is not None:
            address = address.ipv4_mapped
        return address.is_loopback or str(address) in self.addresses or any(address in one for one in self.networks)

    def _apex(self, name: str) -> str | None:
        if name == self.domain or name.endswith(f".{self.domain}"):
            return self.domain
        if name.endswith(".arpa"):
            address = reversed_address(name)
            if address is not None and any(address in network for network in self.networks):
                return name.partition(".")[2]
        return None

    def _by_address(self, name: str) -> list[Record] | None:
        """What `10-88-0-5.NAMESPACE.pod.DOMAIN` stands for."""
        label, _, rest = name.partition(".")
        namespace, _, tail = rest.partition(".")
        if tail != f"pod.{self.domain}":
            return None
        address = undashed(label)
        if address is None or (namespace, address) not in self._dashed:
            return None
        return [_record(str(address))]


def undashed(label: str) -> Address | None:
    """The address that a label spells: dots and colons are dashes in it."""
    for text in (label.replace("-", "."), label.replace("-", ":")):
        try:
            return ip_address(text)
        except ValueError:
            continue
    return None


def reversed_address(name: str) -> Address | None:
    """The address that a whole name below in-addr.arpa or ip6.arpa stands for."""
    labels = name.split(".")
    try:
        if labels[-2:] == ["in-addr", "arpa"] and len(labels) == 6:
            return IPv4Address(".".join(reversed(labels[:4])))
        if labels[-2:] == ["ip6", "arpa"] and len(labels) == 34 and all(len(one) == 1 for one in labels[:32]):
            return IPv6Address(int("".join(reversed(labels[:32])), 16))
    except ValueError:
        pass
    return None


def _record(address: str) -> Record:
    return (AAAA if ":" in address else A, address)
