"""Address leases: files named after the address, holding the pod's uid.

A lease is made with O_EXCL and removed with unlink; nothing about it is kept in the process. Whoever is killed between the two
leaves a file whose uid no pod has (or an empty one), and `collect` removes that. One server per root directory (its lock)
is the only writer.
"""

from __future__ import annotations

import os
from collections.abc import Collection
from ipaddress import IPv4Address, IPv4Network
from pathlib import Path

from nsrun.errors import ConflictError, StepError
from nsrun.network.addressing import free_addresses


class Leases:
    """The leases below `lib/leases`.

    Args:
        directory: made when the first lease is.
    """

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self._last: str | None = None

    def all(self) -> dict[str, str]:
        """Address -> uid of the pod that has it ("" for one that was cut short)."""
        found = {}
        try:
            names = os.listdir(self.directory)
        except FileNotFoundError:
            return {}
        for name in names:
            uid = self._read(name)
            if uid is not None:
                found[name] = uid
        return found

    def of(self, pod_uid: str) -> str | None:
        """The pod's address, or None."""
        return next((address for address, uid in self.all().items() if uid == pod_uid), None)

    def take(self, pod_uid: str, network: IPv4Network) -> tuple[IPv4Address, bool]:
        """The pod's address in the network, and whether it had it before.

        Raises:
            ConflictError: every address of the range is taken.
            StepError: the file cannot be written.
        """
        leases = self.all()
        for address, uid in leases.items():
            if uid == pod_uid:
                if IPv4Address(address) in network:
                    return IPv4Address(address), True
                self._remove(address)
        if self._last is None and leases:
            self._last = max(leases, key=self._age)
        for address_free in free_addresses(network, leases, self._last):
            if self._make(str(address_free), pod_uid):
                self._last = str(address_free)
                return address_free, False
        raise ConflictError(
            f"no address is left for the pod: all of {network} are taken",
            details=f"{len(leases)} leases in {self.directory}.",
            resolution='Take pods down, or give the network more room in config.toml: [network] range = "10.200.0.0/16".',
        )

    def release(self, pod_uid: str) -> list[str]:
        """Remove the pod's leases; their addresses."""
        gone = [address for address, uid in self.all().items() if uid == pod_uid]
        for address in gone:
            self._remove(address)
        return gone

    def collect(self, alive: Collection[str]) -> list[str]:
        """Remove the leases of pods that are not in `alive`; their addresses."""
        gone = [address for address, uid in self.all().items() if uid not in alive]
        for address in gone:
            self._remove(address)
        return gone

    def _make(self, address: str, pod_uid: str) -> bool:
        path = self.directory / address
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
        try:
            try:
                fd = os.open(path, flags, 0o600)
            except FileNotFoundError:
                os.makedirs(self.directory, mode=0o755, exist_ok=True)
                fd = os.open(path, flags, 0o600)
        except FileExistsError:
            return False
        except OSError as error:
            raise StepError("write lease", str(path), error.errno or 0, what="the pod gets no address") from error
        try:
            os.write(fd, pod_uid.encode())
        except OSError as error:
            self._remove(address)
            raise StepError("write lease", str(path), error.errno or 0, what="the pod gets no address") from error
        finally:
            os.close(fd)
        return True

    def _read(self, name: str) -> str | None:
        try:
            IPv4Address(name)
            return (self.directory / name).read_text(encoding="utf-8").strip()
        except (ValueError, OSError):
            return None

    def _remove(self, address: str) -> None:
        (self.directory / address).unlink(missing_ok=True)

    def _age(self, address: str) -> int:
        try:
            return os.stat(self.directory / address).st_mtime_ns
        except FileNotFoundError:
            return 0
