"""Files in manifests/: read with care, and the pods that they ask for.

What is done here is the kubelet's pkg/kubelet/config/file.go and common.go, except that a file may hold several pods, that it is
taken as a whole (valid or not at all), and that a pod keeps the name that the manifest gives it: there is one machine.
"""

from __future__ import annotations

import hashlib
import json
import os
import stat
from dataclasses import dataclass, field
from pathlib import Path

import msgspec

from nsrun.errors import NsrunError, SpecError, UnsupportedError, errno_text
from nsrun.server.clock import Clock
from nsrun.spec import NOT_IMPLEMENTED, Pod, Verdict, load, unsupported
from nsrun.spec.model import PodStatus, Toleration
from nsrun.state.ledger import Wish
from nsrun.status.times import rfc3339

MAX_BYTES = 10 * 1024 * 1024
"""Of one file, as for a kubelet (pkg/kubelet/config/common.go maxConfigLength)."""
SOURCE = "kubernetes.io/config.source"
HASH = "kubernetes.io/config.hash"
SEEN = "kubernetes.io/config.seen"

Signature = tuple[int, ...]
Key = tuple[str, str]
"""Namespace and name of a pod."""


@dataclass(frozen=True, slots=True)
class StaticPod:
    """A pod that a file asks for.

    Attributes:
        pod: as the manifest has it, defaulted.
        uid: follows from the machine, the file's path and what the manifest says: another manifest is another pod.
        path: of the file.
    """

    pod: Pod
    uid: str
    path: str

    @property
    def key(self) -> Key:
        """Namespace and name."""
        return self.pod.metadata.namespace or "default", self.pod.metadata.name or ""

    def wish(self, node: str, clock: Clock) -> Wish:
        """What is stored of it."""
        now = rfc3339(clock.now())
        metadata = msgspec.structs.replace(
            self.pod.metadata,
            uid=self.uid,
            creationTimestamp=now,
            generation=1,
            resourceVersion=None,
            deletionTimestamp=None,
            deletionGracePeriodSeconds=None,
            selfLink=None,
            annotations={**self.pod.metadata.annotations, SOURCE: "file", HASH: self.uid, SEEN: now},
        )
        # As a kubelet's: no trouble of the machine evicts it.
        stands_all = Toleration(operator="Exists", effect="NoExecute")
        tolerations = [
            *self.pod.spec.tolerations,
            *([stands_all] if stands_all not in self.pod.spec.tolerations else []),
        ]
        spec = msgspec.structs.replace(self.pod.spec, nodeName=node, tolerations=tolerations)
        pod = msgspec.structs.replace(self.pod, metadata=metadata, spec=spec, status=PodStatus())
        return Wish(object=pod, options={"nodeName": self.pod.spec.nodeName, "static": self.path})


@dataclass(slots=True)
class ManifestFile:
    """A file that is there.

    Attributes:
        path: of it.
        signature: tells whether it is another one than when it was read; () = it could not even be looked at.
        pods: that it asks for; () when it is not valid.
        error: why it is not valid; "" = it is.
        troubles: by pod: why one of its pods is not run, though the file is valid.
    """

    path: str
    signature: Signature = ()
    pods: tuple[StaticPod, ...] = ()
    error: str = ""
    troubles: dict[Key, str] = field(default_factory=dict)

    def read(self, node: str) -> None:
        """Fill in pods or error."""
        try:
            self.pods = tuple(_pods(_content(self.path), self.path, node))
        except (NsrunError, OSError) as error:
            self.error = _words(error)


def is_ignored(name: str) -> bool:
    """Names that begin with a dot, as for a kubelet, and what editors leave: `web.yaml~`, `#web.yaml#`."""
    return name.startswith((".", "#")) or name.endswith("~")


def signature_of(path: str) -> Signature:
    """Of what is there now; () when it cannot be looked at."""
    try:
        found = os.stat(path)
    except OSError:
        return ()
    return (
        found.st_dev,
        found.st_ino,
        found.st_size,
        found.st_mtime_ns,
        found.st_ctime_ns,
        found.st_mode,
        found.st_uid,
    )


def objection(found: os.stat_result) -> str:
    """Why what is in there must not be run as root: somebody else may write it. "" = nobody else may."""
    if found.st_uid not in (0, os.geteuid()):
        return f"it belongs to uid {found.st_uid}, who could have anything run as root; chown it to root"
    writable = found.st_mode & stat.S_IWOTH or (found.st_mode & stat.S_IWGRP and found.st_gid != 0)
    mode = stat.S_IMODE(found.st_mode)
    return f"others may write it (mode {mode:04o}) and have anything run as root; chmod go-w it" if writable else ""


def _content(path: str) -> bytes:
    # Neither a FIFO nor a device may hold the server up.
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOCTTY)
    with open(fd, "rb") as file:
        found = os.fstat(fd)
        if stat.S_ISDIR(found.st_mode):
            raise SpecError("it is a directory, and directories are not read")
        if not stat.S_ISREG(found.st_mode):
            raise SpecError("it is not a regular file")
        why = objection(found)
        if why:
            raise SpecError(why)
        data = file.read(MAX_BYTES + 1) if found.st_size <= MAX_BYTES else b""
        if found.st_size > MAX_BYTES or len(data) > MAX_BYTES:
            raise SpecError(f"it is larger than {MAX_BYTES >> 20} MiB, the most that a manifest may be")
    return data


def _pods(data: bytes, path: str, node: str) -> list[StaticPod]:
    found = [_judged(verdict, path, node) for verdict in load(data, Path(path).name)]
    if not found:
        raise SpecError("there is no pod in it; remove the file to end its pods")
    keys = [one.key for one in found]
    for key in keys:
        if keys.count(key) > 1:
            raise SpecError(f'pod "{"/".join(key)}" is there twice')
    return found


def _judged(verdict: Verdict, path: str, node: str) -> StaticPod:
    pod = verdict.require_valid()
    if not isinstance(pod, Pod):
        raise UnsupportedError(f"{verdict.where()}: {verdict.kind} {verdict.name!r} is not something nsrun runs")
    if not pod.metadata.name:
        raise SpecError(f"{verdict.where()}: the pod needs a name; none is generated for a pod that comes from a file")
    missing = [one for one in unsupported(pod) if one.kind == NOT_IMPLEMENTED]
    if missing:
        first = missing[0]
        raise UnsupportedError(f"{verdict.where(first.path)}: {first.path}: {first.message}")
    pod.metadata.namespace = pod.metadata.namespace or "default"
    said = json.dumps([node, path, verdict.raw], sort_keys=True, default=str)
    return StaticPod(pod, hashlib.sha256(said.encode("utf-8", "surrogatepass")).hexdigest()[:32], path)


def _words(error: NsrunError | OSError) -> str:
    if isinstance(error, OSError):
        return errno_text(error.errno or 0)
    return "\n".join(filter(None, (error.brief, error.details)))
