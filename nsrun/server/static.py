"""Static pods: what lies in manifests/ runs, for as long as it lies there.

The directory is the wish, and what is on disk of the pods says what has become of it; nothing that decides is remembered here, so a
killed server's successor comes to the same end. inotify tells when to look, a look now and then tells what inotify did not.
"""

from __future__ import annotations

import asyncio
import errno
import logging
import os
import struct
from typing import TYPE_CHECKING, Any

from nsrun import native
from nsrun.errors import NsrunError, brief_of, errno_text
from nsrun.server import changes
from nsrun.server.manifests import Key, ManifestFile, StaticPod, is_ignored, objection, signature_of
from nsrun.status.events import WARNING

if TYPE_CHECKING:
    from pathlib import Path

    from nsrun.doctor import Check
    from nsrun.server.clock import Timer
    from nsrun.server.engine import PodEngine
    from nsrun.server.pods import Registry
    from nsrun.server.world import World

RESCAN_S = 20.0
"""How often everything is looked at whatever was heard (the kubelet's fileCheckFrequency)."""
QUIET_S = 1.0
"""How long a file that was written to and not closed, or that went away, is left alone: editors write files anew, or exchange them."""
SOON_S = 0.02
"""What is told within this time is looked at together."""
LARGE = 64 * 1024
"""Bytes from which on a file is read beside the loop."""
FAILED_VALIDATION = "FailedValidation"
"""The kubelet's word for a manifest that will not do (pkg/kubelet/events/event.go)."""

_EVENT = struct.Struct("iIII")
_LOG = logging.getLogger("nsrun.static")


class StaticPods:
    """The pods that come from files.

    Args:
        world: what all pods share.
        registry: where the pods are.
    """

    def __init__(self, world: World, registry: Registry) -> None:
        self._world = world
        self._registry = registry
        self._directory: Path = world.layout.manifests
        self._files: dict[str, ManifestFile] = {}
        """By name."""
        self._due: dict[str, float] = {}
        """When to look at a file that something was told of, in seconds since the epoch."""
        self._rescan_at = 0.0
        self._error = ""
        self._inotify = -1
        self._watched: Path | None = None
        self._unwatchable: int | None = None
        self._awake = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    async def open(self) -> None:
        """Bring up what is there, and follow it from now on."""
        await self._turn(first=True)
        self._task = asyncio.get_running_loop().create_task(self._live(), name="static pods")

    async def close(self) -> None:
        """Look at nothing any more; the pods run on."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])
            self._task = None
        self._unwatch()

    def wake(self) -> None:
        """A pod has gone, or has come: one of a file may be waiting for that."""
        self._awake.set()

    def status(self) -> dict[str, Any]:
        """What `nsrun server status` and `nsrun doctor` show."""
        return {
            "directory": str(self._directory),
            "error": self._error or None,
            "files": [
                {
                    "name": name,
                    "pods": ["/".join(pod.key) for pod in file.pods],
                    "error": "\n".join(filter(None, (file.error, *file.troubles.values()))) or None,
                }
                for name, file in sorted(self._files.items())
            ],
        }

    def check(self) -> Check:
        """What `nsrun doctor` says of them."""
        from nsrun.doctor import Check

        wrong = [self._error] if self._error else []
        wrong += [f"{one['name']}: {one['error']}" for one in self.status()["files"] if one["error"]]
        if not wrong:
            return Check("manifests", True, f"{len(self._files)} files in {self._directory}, and all of them run")
        hint = (
            f"What lies in {self._directory} is to run, and this does not: nsrun server status, nsrun pod validate FILE"
        )
        return Check("manifests", False, "; ".join(wrong), hint)

    # the loop

    async def _live(self) -> None:
        while True:
            timer: Timer = self._world.clock.call_at(min([self._rescan_at, *self._due.values()]), self.wake)
            try:
                await self._awake.wait()
            finally:
                timer.cancel()
            self._awake.clear()
            try:
                await self._turn()
            except Exception:
                # What is expected is told per file; whatever else it is, the other files go on being watched.
                _LOG.exception("static pods: a bug")
                self._rescan_at = self._world.clock.now() + RESCAN_S

    async def _turn(self, *, first: bool = False) -> None:
        now = self._world.clock.now()
        if self._watched is None or self._rescan_at <= now:
            self._watch()
        if self._rescan_at <= now:
            self._rescan_at = now + RESCAN_S
            self._rescan(now, first=first)
        for name in [name for name, at in self._due.items() if at <= now]:
            del self._due[name]
            await self._look(name)
        if not self._error:
            self._reconcile()

    # the directory

    def _watch(self) -> None:
        """Have changes told: of the directory, or while it is not there, of the nearest one that is to lead to it."""
        places = (self._directory, *self._directory.parents[:2])
        # Again, as a directory may be made after it was found missing, and before the one above it was watched.
        for _ in places:
            for place in places:
                if self._watched == place or self._watch_place(place):
                    break
            if self._watched == self._directory:
                return

    def _watch_place(self, place: Path) -> bool:
        lib = native.lib
        mask = lib.IN_ONLYDIR | lib.IN_CREATE | lib.IN_MOVED_TO | lib.IN_DELETE_SELF | lib.IN_MOVE_SELF
        if place == self._directory:
            mask |= lib.IN_MODIFY | lib.IN_CLOSE_WRITE | lib.IN_ATTRIB | lib.IN_DELETE | lib.IN_MOVED_FROM
        fd = -1
        try:
            fd = native.inotify_init1(lib.IN_NONBLOCK)
            native.inotify_add_watch(fd, place, mask)
        except OSError as error:
            if fd >= 0:
                os.close(fd)
            if error.errno not in (errno.ENOENT, errno.ENOTDIR) and error.errno != self._unwatchable:
                _LOG.warning("%s is looked at every %g s: inotify: %s", place, RESCAN_S, errno_text(error.errno or 0))
                self._unwatchable = error.errno
            return False
        self._unwatch()
        self._inotify, self._watched = fd, place
        asyncio.get_running_loop().add_reader(fd, self._told)
        # What happened before this watch is seen by looking.
        self._rescan_at = 0.0
        return True

    def _unwatch(self) -> None:
        if self._inotify >= 0:
            asyncio.get_running_loop().remove_reader(self._inotify)
            os.close(self._inotify)
        self._inotify, self._watched = -1, None

    def _told(self) -> None:
        """Something happened in the directory: note what, and when to look."""
        lib = native.lib
        try:
            data = os.read(self._inotify, 65536)
        except BlockingIOError:
            return
        now = self._world.clock.now()
        at = 0
        while at < len(data):
            _, mask, _, length = _EVENT.unpack_from(data, at)
            at += _EVENT.size
            name = os.fsdecode(data[at : at + length].rstrip(b"\0"))
            at += length
            if self._watched != self._directory or not name or mask & (lib.IN_Q_OVERFLOW | lib.IN_IGNORED):
                if mask & (lib.IN_IGNORED | lib.IN_DELETE_SELF | lib.IN_MOVE_SELF):
                    self._unwatch()
                self._rescan_at = 0.0
            elif not is_ignored(name):
                self._due[name] = now + (SOON_S if mask & (lib.IN_CLOSE_WRITE | lib.IN_MOVED_TO) else QUIET_S)
            if self._watched is None:
                break
        self.wake()

    def _rescan(self, now: float, *, first: bool) -> None:
        """Look at all names; files that are as they were are not read again."""
        try:
            why = objection(os.stat(self._directory))
            names = [] if why else [name for name in os.listdir(self._directory) if not is_ignored(name)]
            self._say("" if not why else f"{self._directory}: {why}")
        except (FileNotFoundError, NotADirectoryError):
            # Nobody wishes for anything. A kubelet sees it so, too.
            names = []
            self._say("")
        except OSError as error:
            self._say(f"{self._directory} cannot be read: {errno_text(error.errno or 0)}")
        if self._error:
            return
        for name in {*names, *self._files}:
            if name in self._due:
                continue
            file = self._files.get(name)
            if name not in names:
                self._due[name] = now
            elif file is None or file.signature != signature_of(file.path):
                self._due[name] = now if first else self._settled_at(name, now)

    def _settled_at(self, name: str, now: float) -> float:
        """When a file that nobody told of will have been left alone long enough to be whole."""
        try:
            written_at = os.stat(self._directory / name).st_mtime
        except OSError:
            return now
        return max(now, min(written_at, now) + QUIET_S)

    def _say(self, error: str) -> None:
        if error != self._error:
            self._error = error
            if error:
                _LOG.error("%s; the pods that came from there go on", error)

    async def _look(self, name: str) -> None:
        """Read a file that is there, forget one that is not."""
        path = self._directory / name
        if not os.path.lexists(path):  # noqa: ASYNC240 - as everything here that is small
            if self._files.pop(name, None) is not None:
                _LOG.info("%s is gone", path)
            return
        file = self._files.setdefault(name, ManifestFile(str(path), error="it is being written"))
        signature = signature_of(file.path)
        if signature and signature == file.signature:
            return
        fresh = ManifestFile(file.path, signature)
        if signature and signature[2] > LARGE:
            await asyncio.to_thread(fresh.read, self._world.node.name)
        else:
            fresh.read(self._world.node.name)
        if signature_of(file.path) != signature:
            # It is being written: what was read may be half of it.
            self._due[name] = self._world.clock.now() + QUIET_S
            return
        if fresh.error and fresh.error != file.error:
            _LOG.error("%s is not run: %s", path, fresh.error)
            text = f"{path} is not valid any more, and the pod goes on as it is: {fresh.error}"
            for engine in self._registry:
                if engine.static == file.path and not engine.deleting:
                    engine.note(WARNING, FAILED_VALIDATION, text)
        self._files[name] = fresh

    # the pods

    def _reconcile(self) -> None:
        """Begin what is wished for, end what is not any more. A changed manifest is another pod: the old one goes first."""
        wanted = self._wanted()
        by_path = {file.path: file for file in self._files.values()}
        for engine in list(self._registry):
            if engine.static is None or engine.deleting:
                continue
            pod = wanted.get((engine.namespace, engine.name))
            if pod is not None and pod.uid == engine.uid:
                continue
            origin = by_path.get(engine.static)
            if origin is None and os.path.basename(engine.static) in self._due:
                continue
            if origin is not None and origin.error:
                # Half-written, or broken by a mistake: nobody has asked for its end.
                if pod is not None:
                    self._trouble(pod, f"it runs from {engine.static}")
                continue
            self._end(engine, changed=pod is not None)
        for key, pod in wanted.items():
            there = self._registry.get(*key)
            if there is None:
                self._begin(pod)
            elif there.static is None:
                self._trouble(pod, "a pod of that name was brought up by hand; this one begins once that is taken down")
            elif there.uid == pod.uid:
                self._clear(pod)

    def _wanted(self) -> dict[Key, StaticPod]:
        """One pod for each name: that of the file that it runs from already, else of the first file that names it."""
        named: dict[Key, list[StaticPod]] = {}
        for _, file in sorted(self._files.items()):
            file.troubles = {} if file.error else file.troubles
            for pod in () if file.error else file.pods:
                named.setdefault(pod.key, []).append(pod)
        wanted: dict[Key, StaticPod] = {}
        for key, pods in named.items():
            there = self._registry.get(*key)
            mine = [pod for pod in pods if there is not None and there.static == pod.path]
            wanted[key] = (mine or pods)[0]
            for pod in pods:
                if pod is not wanted[key]:
                    self._trouble(pod, f"{wanted[key].path} has a pod of that name, too")
        return wanted

    def _end(self, engine: PodEngine, *, changed: bool) -> None:
        _LOG.info(
            "pod %s: %s %s", engine.label, engine.static, "has changed" if changed else "does not ask for it any more"
        )
        try:
            changes.delete(engine)
        except NsrunError as error:
            _LOG.error("pod %s cannot be taken down: %s", engine.label, error)

    def _begin(self, pod: StaticPod) -> None:
        """A new pod. What a reboot left of its logs stays, and its instances are numbered on from them."""
        try:
            self._world.set_roots_aside(pod.uid)
            self._world.collect_soon()
            self._registry.create(pod.wish(self._world.node.name, self._world.clock))
        except (NsrunError, OSError) as error:
            self._trouble(pod, brief_of(error))
            return
        self._clear(pod)
        _LOG.info("pod %s/%s: from %s", *pod.key, pod.path)

    def _trouble(self, pod: StaticPod, text: str) -> None:
        for file in self._files.values():
            if file.path == pod.path and file.troubles.get(pod.key) != text:
                file.troubles[pod.key] = text
                _LOG.error("%s: pod %s/%s is not run: %s", pod.path, *pod.key, text)

    def _clear(self, pod: StaticPod) -> None:
        for file in self._files.values():
            if file.path == pod.path:
                file.troubles.pop(pod.key, None)
