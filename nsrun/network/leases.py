"""Address leases: files named after the address, holding the pod's uid.

A lease is made with O_EXCL and removed with unlink. Whoever is killed between the two leaves a file whose uid no pod has (or an
empty one), and `collect` removes that. One server per root directory (its lock) is the only writer, so the files are read once
and an index of them is kept: with 200 pods reading them again would cost an attach more than the kernel's part.
"""

from __future__ import annotations

import os
import threading
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
        self._uids: dict[str, str] | None = None
        self._addresses: dict[str, str] = {}
        self._reading = threading.Lock()

    def all(self) -> dict[str, str]:
        """Address -> uid of the pod that has it ("" for one that was cut short)."""
        return dict(self._index())

    def count(self) -> int:
        """How many there are."""
        return len(self._index())

    def of(self, pod_uid: str) -> str | None:
        """The pod's address, or None."""
        self._index()
        return self._addresses.get(pod_uid)

    def take(self, pod_uid: str, network: IPv4Network) -> tuple[IPv4Address, bool]:
        """The pod's address in the network, and whether it had it before.

        Raises:
            ConflictError: every address of the range is taken.
            StepError: the file cannot be written.
        """
        known = self.of(pod_uid)
        if known is not None:
            if IPv4Address(known) in network:
                return IPv4Address(known), True
            self._remove(known)
        taken = self._index()
        for address in free_addresses(network, taken, self._last):
            if self._make(str(address), pod_uid):
                self._last = str(address)
                return address, False
        raise ConflictError(
            f"no address is left for the pod: all of {network} are taken",
            details=f"{len(taken)} leases in {self.directory}.",
            resolution='Take pods down, or give the network more room in config.toml: [network] range = "10.200.0.0/16".',
        )

    def release(self, pod_uid: str) -> str | None:
        """Remove the pod's lease; its address."""
        address = self.of(pod_uid)
        if address is not None:
            self._remove(address)
        return address

    def collect(self, alive: Collection[str]) -> list[str]:
        """Remove the leases of pods that are not in `alive`, and second ones of pods that are; their addresses."""
        gone = [
            address for address, uid in self.all().items() if uid not in alive or self._addresses.get(uid) != address
        ]
        for address in gone:
            self._remove(address)
        return gone

    def _index(self) -> dict[str, str]:
        # The network's thread attaches while the server's loop asks for the status.
        with self._reading:
            if self._uids is None:
                uids = self._load()
                self._addresses = {uid: address for address, uid in uids.items() if uid}
                self._last = max(uids, key=self._age, default=None)
                self._uids = uids
            return self._uids

    def _load(self) -> dict[str, str]:
        try:
            names = os.listdir(self.directory)
        except FileNotFoundError:
            return {}
        read = ((name, self._read(name)) for name in names)
        return {name: uid for name, uid in read if uid is not None}

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
        self._index()[address] = pod_uid
        self._addresses[pod_uid] = address
        return True

    def _read(self, name: str) -> str | None:
        try:
            IPv4Address(name)
            # Garbage is nobody's uid: such a lease is collected.
            return (self.directory / name).read_text(encoding="utf-8", errors="replace").strip()
        except (ValueError, OSError):
            return None

    def _remove(self, address: str) -> None:
        (self.directory / address).unlink(missing_ok=True)
        uid = self._index().pop(address, None)
        if uid is not None and self._addresses.get(uid) == address:
            del self._addresses[uid]

    def _age(self, address: str) -> int:
        try:
            return os.stat(self.directory / address).st_mtime_ns
        except FileNotFoundError:
            return 0
