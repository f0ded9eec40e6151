"""The table `[images]` of etc/config.toml: registries, mirrors, short names, and when images are removed by themselves.

[images]
gc_high_percent = 85            # of the disk: unused images are removed when it is fuller
gc_low_percent = 80             # … until it is no fuller than this
gc_minimum_age_s = 120
gc_period_s = 300               # how often the disk is looked at

[images.short_names]
app = "registry.example.org/team/app"

[images.registries."docker.io"]
mirrors = ["https://mirror.example.org"]    # asked first, in this order; http:// for one without TLS

[images.registries."registry.example.org:5000"]
ca = "/etc/nsrun/example-ca.pem"            # beside the machine's own authorities
insecure = true                             # plain HTTP, or a certificate that nobody checks
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from nsrun.errors import SpecError
from nsrun.images import reference


@dataclass(frozen=True, slots=True)
class RegistrySettings:
    """How one registry is reached."""

    mirrors: tuple[str, ...] = ()
    insecure: bool = False
    ca: str = ""


@dataclass(frozen=True, slots=True)
class ImageSettings:
    """The whole table. Percentages are of the disk's size."""

    registries: Mapping[str, RegistrySettings] = field(default_factory=dict)
    short_names: Mapping[str, str] = field(default_factory=dict)
    gc_high_percent: int = 85
    gc_low_percent: int = 80
    gc_minimum_age_s: int = 120
    gc_maximum_age_s: int = 0
    gc_period_s: int = 300

    @staticmethod
    def of(table: Mapping[str, Any] | None) -> ImageSettings:
        """Reads the table.

        Raises:
            SpecError: a setting is unknown or of the wrong kind; it names the key.
        """
        left = dict(table or {})
        numbers = {}
        for key, lowest, highest in (
            ("gc_high_percent", 0, 100),
            ("gc_low_percent", 0, 100),
            ("gc_minimum_age_s", 0, 1 << 31),
            ("gc_maximum_age_s", 0, 1 << 31),
            ("gc_period_s", 1, 86400),
        ):
            value = left.pop(key, getattr(_DEFAULTS, key))
            if isinstance(value, bool) or not isinstance(value, int) or not lowest <= value <= highest:
                raise _wrong(key, value, f"a number from {lowest} to {highest}")
            numbers[key] = value
        if numbers["gc_low_percent"] > numbers["gc_high_percent"]:
            raise _wrong("gc_low_percent", numbers["gc_low_percent"], "not more than gc_high_percent")
        registries = {
            name: _registry(name, value) for name, value in _table("registries", left.pop("registries", {})).items()
        }
        short = {
            name: _short_name(name, value) for name, value in _table("short_names", left.pop("short_names", {})).items()
        }
        if left:
            key = next(iter(left))
            known = ", ".join((*numbers, "registries", "short_names"))
            raise _wrong(key, left[key], f"one of: {known}", "key")
        return ImageSettings(registries, short, **numbers)

    def full(self, wanted: reference.Reference) -> reference.Reference:
        """A reference with its short name replaced: only names without a registry and a slash are short."""
        if wanted.domain != "docker.io" or not wanted.path.startswith("library/"):
            return wanted
        target = self.short_names.get(wanted.path.removeprefix("library/"))
        if target is None:
            return wanted
        base = reference.parse(target)
        return reference.Reference(base.domain, base.path, wanted.tag, wanted.digest)

    def as_data(self) -> dict[str, Any]:
        """As JSON has it; `from_data` reads it."""
        return asdict(self)

    @staticmethod
    def from_data(data: Mapping[str, Any]) -> ImageSettings:
        """What `as_data` gave."""
        registries = {
            name: RegistrySettings(tuple(one["mirrors"]), one["insecure"], one["ca"])
            for name, one in data["registries"].items()
        }
        numbers = {key: value for key, value in data.items() if key.startswith("gc_")}
        return ImageSettings(registries, dict(data["short_names"]), **numbers)


_DEFAULTS = ImageSettings()


def _table(key: str, value: object) -> Mapping[str, Any]:
    if not isinstance(value, dict):
        raise _wrong(key, value, "a table")
    return value


def _registry(name: str, value: object) -> RegistrySettings:
    key = f'registries."{name}"'
    left = dict(_table(key, value))
    mirrors = left.pop("mirrors", [])
    if not isinstance(mirrors, list) or not all(isinstance(one, str) and one for one in mirrors):
        raise _wrong(f"{key}.mirrors", mirrors, "a list of addresses")
    for one in mirrors:
        scheme, separator, rest = one.partition("://")
        if separator and (scheme not in ("http", "https") or not rest):
            raise _wrong(f"{key}.mirrors", one, "addresses that begin with https:// or http://")
    insecure, ca = left.pop("insecure", False), left.pop("ca", "")
    if not isinstance(insecure, bool):
        raise _wrong(f"{key}.insecure", insecure, "true or false")
    if not isinstance(ca, str) or (ca and not ca.startswith("/")):
        raise _wrong(f"{key}.ca", ca, "the absolute path of a file")
    if left:
        raise _wrong(f"{key}.{next(iter(left))}", next(iter(left.values())), "one of: mirrors, insecure, ca", "key")
    return RegistrySettings(tuple(mirrors), insecure, ca)


def _short_name(name: str, value: object) -> str:
    key = f"short_names.{name}"
    if not isinstance(value, str):
        raise _wrong(key, value, "a name")
    try:
        target = reference.parse(value)
    except ValueError:
        raise _wrong(key, value, "a name") from None
    if target.digest or value.endswith(f":{target.tag}"):
        raise _wrong(key, value, "a name without tag and digest")
    if "/" in name or ":" in name or "@" in name:
        raise _wrong(key, name, "one word without slash, tag and digest", "key")
    return value


def _wrong(key: str, value: object, wanted: str, what: str = "setting") -> SpecError:
    return SpecError(
        f"the configuration's [images] has the {what} {key} = {value!r}",
        resolution=f"It has to be {wanted}.",
    )
