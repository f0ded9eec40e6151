"""The methods that are about images, and the processes that work on images for this server."""

from __future__ import annotations

import asyncio
import contextlib
import json
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nsrun.errors import InternalError, NotFoundError, NsrunError, ServerError, UsageError
from nsrun.images import Image, ImageError, ImageStore

if TYPE_CHECKING:
    from nsrun.server.control import Method, Request
    from nsrun.server.pods import Registry
    from nsrun.server.world import World

LINE_MAX = 1 << 24
_CONFIG_LISTS, _CONFIG_TEXTS = ("entrypoint", "cmd", "env"), ("user", "workdir", "stop_signal")

Event = dict[str, Any]


async def work(
    world: World,
    kind: str,
    request: dict[str, Any],
    *,
    fds: Sequence[int] = (),
    on_event: Callable[[Event], None] | None = None,
) -> list[str]:
    """Have a process of its own work on the images; it ends with this server, and when the caller is cancelled.

    Args:
        kind: a key of nsrun.images.worker.WORK.
        request: what that wants to know.
        fds: descriptors that the request names by their numbers; they stay the caller's.

    Raises:
        NsrunError: what went wrong there.
    """
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "nsrun.images.worker",
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        pass_fds=fds,
        cwd="/",
        limit=LINE_MAX,
    )
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        line = json.dumps({"work": kind, "lib": str(world.layout.lib), **request}) + "\n"
        with contextlib.suppress(ConnectionError):
            process.stdin.write(line.encode())
            await process.stdin.drain()
        while answer := await process.stdout.readline():
            message = json.loads(answer)
            if "event" in message and on_event is not None:
                on_event(message["event"])
            if "result" in message:
                result: list[str] = message["result"]
                return result
            if "error" in message:
                raise _error(message["error"])
    finally:
        # The end of its input ends it; one that is stopped would not notice.
        if process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                process.kill()
        process.stdin.close()
        await asyncio.shield(process.wait())
    raise ServerError(
        f"the process that was to {kind} an image ended (status {process.returncode})",
        details="Nothing of it is kept.",
        resolution="Try again; the server's log (nsrun server status) may tell why it ended.",
        code="internal" if process.returncode == 1 else "server",
    )


def _error(data: dict[str, Any]) -> NsrunError:
    reason = data.get("reason")
    if reason:
        return ImageError(
            reason, data["brief"], details=data["details"], resolution=data["resolution"], code=data["code"]
        )
    return NsrunError.from_data(data)


class ImageMethods:
    """The methods `image.*` of the control protocol."""

    def __init__(self, world: World, pods: Registry) -> None:
        self._world = world
        self._pods = pods

    @property
    def _store(self) -> ImageStore:
        return self._world.images

    def methods(self) -> dict[str, Method]:
        """By their names in the protocol."""
        return {
            "image.import": self._import,
            "image.pull": self._pull,
            "registry.login": self._login,
            "registry.logout": self._logout,
            "image.load": self._load,
            "image.save": self._save,
            "image.list": self._list,
            "image.inspect": self._inspect,
            "image.history": self._history,
            "image.prune": self._prune,
            "image.df": self._df,
            "image.tag": self._tag,
            "image.remove": self._remove,
        }

    async def _import(self, request: Request) -> object:
        given = request.params.get("config") or {}
        if not isinstance(given, dict):
            raise UsageError("image.import: parameter 'config' must be an object")
        config: dict[str, Any] = {key: list(given.get(key) or ()) for key in _CONFIG_LISTS}
        config |= {key: str(given.get(key) or "") for key in _CONFIG_TEXTS}
        name = self._store.name_for("import", request.text("name"))
        await work(self._world, "import", {"name": name, "path": request.text("path"), "config": config})
        return {"image": (await self._found([name]))[0]}

    async def _load(self, request: Request) -> object:
        wanted: dict[str, Any] = {"path": request.text("path"), "name": request.text_or_none("name")}
        if request.fds:
            wanted["fd"] = request.fds[0]
        request.cancellable = True
        names = await work(self._world, "load", wanted, fds=request.fds[:1])
        return {"images": await self._found(names)}

    async def _pull(self, request: Request) -> object:
        """Asks the registry even if the image is here: what it has meanwhile is what is wanted."""
        name = request.text("name")
        request.cancellable = True
        pulled = await self._world.pulls.pull(name, request.event)
        return {"image": self._data(pulled.image, self._pods.images_in_use()), "seconds": pulled.seconds}

    async def _login(self, request: Request) -> object:
        wanted: dict[str, Any] = {key: request.text(key) for key in ("registry", "user", "password")}
        wanted |= {"settings": self._world.image_settings.as_data(), "auth": str(self._auth_file)}
        request.cancellable = True
        await work(self._world, "login", wanted)
        return {"file": str(self._auth_file)}

    async def _logout(self, request: Request) -> object:
        from nsrun.images.credentials import domain_of, store

        registry = domain_of(request.text("registry"))
        if not await asyncio.to_thread(store, self._auth_file, registry, None):
            raise NotFoundError(f"not logged in to {registry}: {self._auth_file} has nothing of it")
        return {}

    @property
    def _auth_file(self) -> Path:
        return self._world.layout.etc / "auth.json"

    async def _save(self, request: Request) -> object:
        names = request.texts("names")
        if not names or not request.fds:
            raise UsageError("image.save: it needs names, and a descriptor to write to")
        request.cancellable = True
        done = await work(self._world, "save", {"names": names, "fd": request.fds[0]}, fds=request.fds[:1])
        return {"images": await self._found(done)}

    async def _list(self, _request: Request) -> object:
        images = await asyncio.to_thread(self._store.list)
        used = self._pods.images_in_use()
        return {"images": [self._data(image, used) for image in images]}

    async def _inspect(self, request: Request) -> object:
        image = await asyncio.to_thread(self._store.get, request.text("name"))
        more = await asyncio.to_thread(self._store.inspect, image)
        return {"image": self._data(image, self._pods.images_in_use()) | more}

    async def _history(self, request: Request) -> object:
        image = await asyncio.to_thread(self._store.get, request.text("name"))
        return {"steps": await asyncio.to_thread(self._store.history, image)}

    async def _prune(self, request: Request) -> object:
        """Without `all` only images that have no name any more, and what was left behind."""
        used = self._pods.images_in_use()
        every = request.flag("all")
        before = await asyncio.to_thread(self._store.list)
        gone, freed = await asyncio.to_thread(self._store.prune, used, named=every, partial_s=0.0)
        kept = {image.name for image in await asyncio.to_thread(self._store.list)}
        images = []
        for one in gone:
            # An image may have gone with several names, and by another digest may have kept some.
            names = sorted(image.name for image in before if image.id == one and image.name and image.name not in kept)
            images += [{"id": one, "name": name} for name in names or [""]]
        return {"images": images, "freed": freed}

    async def _df(self, _request: Request) -> object:
        usage = await asyncio.to_thread(self._store.usage, self._pods.images_in_use())
        return asdict(usage)

    async def _tag(self, request: Request) -> object:
        image = await asyncio.to_thread(self._store.tag, request.text("name"), request.text("new"))
        return {"image": self._data(image, self._pods.images_in_use())}

    async def _remove(self, request: Request) -> object:
        name = request.text("name")
        await asyncio.to_thread(self._store.remove, name, self._pods.images_in_use())
        return {}

    async def _found(self, names: Sequence[str]) -> list[dict[str, Any]]:
        used = self._pods.images_in_use()

        def find() -> list[dict[str, Any]]:
            found = []
            for name in names:
                # Somebody may have removed it already.
                with contextlib.suppress(NsrunError):
                    found.append(self._data(self._store.get(name), used))
            return found

        result = await asyncio.to_thread(find)
        if not result:
            raise InternalError(f"{', '.join(names)}: done, but not there any more")
        return result

    def _data(self, image: Image, used: dict[str, list[str]]) -> dict[str, Any]:
        return {
            "name": image.name,
            "id": image.id,
            "digest": image.digest,
            "size": image.size,
            "created": image.created,
            "origin": image.origin,
            "config": {
                "entrypoint": list(image.config.entrypoint),
                "cmd": list(image.config.cmd),
                "env": list(image.config.env),
                "user": image.config.user,
                "workdir": image.config.workdir,
                "stop_signal": image.config.stop_signal,
            },
            "used_by": sorted({*used.get(image.id, ()), *used.get(image.reference, ())}),
        }
