"""`[dns]` of the configuration: names of pods, and who answers for them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from nsrun.errors import SpecError
from nsrun.plan.dns import CLUSTER_DOMAIN

RESOLV_CONF = "/etc/resolv.conf"
_RESOLVER = ("auto", "always", "off")


@dataclass(frozen=True, slots=True)
class DnsSettings:
    """What it says.

    Attributes:
        resolver: "auto" with the first pod that is to ask it, "always", or "off".
        domain: what all names of pods end in (a kubelet's clusterDomain).
        resolv_conf: whom this machine asks (a kubelet's resolvConf).
    """

    resolver: str = "auto"
    domain: str = CLUSTER_DOMAIN
    resolv_conf: str = RESOLV_CONF

    @staticmethod
    def of(table: Any) -> DnsSettings:
        """The settings of a table, which may be None.

        Raises:
            SpecError: it is not understood; it names the key.
        """
        if table is None:
            return DnsSettings()
        from nsrun.spec.names import subdomain

        words = dict(table)
        resolver = words.pop("resolver", "auto")
        if resolver not in _RESOLVER:
            raise _refused("resolver", resolver, 'one of "auto", "always" and "off"')
        domain = words.pop("domain", CLUSTER_DOMAIN)
        if not isinstance(domain, str) or subdomain(domain.removesuffix(".")):
            raise _refused("domain", domain, "a domain such as cluster.local")
        path = words.pop("resolvConf", RESOLV_CONF)
        if not isinstance(path, str) or not path.startswith("/"):
            raise _refused("resolvConf", path, "the path of a file such as /etc/resolv.conf")
        if words:
            raise _refused(
                next(iter(words)), next(iter(words.values())), "one of resolver, domain and resolvConf", "key"
            )
        return DnsSettings(resolver, domain.removesuffix("."), path)


def _refused(key: str, value: object, wanted: str, what: str = "value") -> SpecError:
    return SpecError(
        f"[dns] of the configuration has no key {key!r}"
        if what == "key"
        else f"[dns] {key} of the configuration is {value!r}",
        details=f"It has to be {wanted}.",
        resolution="Correct etc/config.toml and start the server again.",
    )
