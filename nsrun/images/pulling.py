"""Images from registries: the manifest for this machine, its layers side by side, gone on with where a pull was cut off."""

from __future__ import annotations

import contextlib
import os
import platform
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from nsrun.errors import NsrunError, SpecError, StepError
from nsrun.images import reference
from nsrun.images.content import OCI_MANIFEST, Content, DamagedError, Record, digest_of
from nsrun.images.credentials import Credentials, find
from nsrun.images.crew import WAITING, Member, MemberLostError, member
from nsrun.images.documents import Descriptor, Manifest, Platform, choose, parse, parse_config, platform_of
from nsrun.images.errors import ImageError
from nsrun.images.keyring import EVERYBODY
from nsrun.images.layers import Layer, Layers
from nsrun.images.registry import Client, Download, Endpoint, RegistryError, endpoints
from nsrun.images.settings import ImageSettings
from nsrun.waiting import ERR_IMAGE_PULL

if TYPE_CHECKING:
    from nsrun.images.image import Image
    from nsrun.images.store import ImageStore

AT_ONCE = 3
"""Layers that come side by side, as with docker."""
REPORT_S = 0.1
_MAX_DEPTH = 4
_CREW_PAYS = 8 << 20
"""Bytes: less than that comes in the time that another process takes to begin."""

Event = Callable[[dict[str, Any]], None]
T = TypeVar("T")
_Wish = tuple[Descriptor, str]
"""A layer: its blob and its diff id."""
_Taker = Callable[[Descriptor, str], Layer]


@dataclass(frozen=True, slots=True)
class _Wanted:
    """What a registry has for this machine: `digest` is what the name stands for, `manifest` the image's own."""

    digest: str
    document: bytes
    media_type: str
    manifest: Manifest

    @property
    def own(self) -> str:
        return digest_of(self.document)


class RegistryPuller:
    """Pulls images into a store.

    Args:
        settings: of the configuration.
        auth_files: where credentials are looked for, in this order.
        on_event: told of layers: {layer, state: waiting|pulling|here|done, done, total} (bytes).
        machine: what images are to be made for.
        credentials: for the image's registry, instead of what files have; mirrors are not shown them.
        access: who may use what is pulled: see nsrun.images.keyring.
        processes: how many may work on an image's layers, this one included.
        early: some of these that have begun already: what is wanted of them is taken from here, and the others are ended.
    """

    def __init__(
        self,
        settings: ImageSettings | None = None,
        *,
        auth_files: Sequence[str] = (),
        on_event: Event | None = None,
        machine: Platform | None = None,
        credentials: Credentials | None = None,
        access: Sequence[str] = (),
        processes: int = 1,
        early: list[Member] | None = None,
    ) -> None:
        self._settings = settings or ImageSettings()
        self._auth_files = tuple(auth_files)
        self._event = on_event or (lambda _event: None)
        self._machine = machine or platform_of(platform.machine())
        self._given = credentials
        self.access = tuple(access)
        self.processes = processes
        self.early = [] if early is None else early

    def pull(self, wanted: reference.Reference, store: ImageStore) -> Image:
        """Gets an image into the store; asks the registry even if it is there, and then gets what is missing.

        Raises:
            ImageError: ErrImagePull, with the registry's answer.
        """
        full = self._settings.full(wanted)
        try:
            image = _Pull(self, full, store.content).run(str(wanted), store)
            self.dismiss()
            return image
        except ImageError:
            raise
        except NsrunError as error:
            raise ImageError(
                ERR_IMAGE_PULL,
                f'pull "{wanted}": {error.brief}',
                details=error.details,
                resolution=error.resolution,
                code=error.code,
            ) from error

    def about(self, full: reference.Reference, content: Content) -> dict[str, Any]:
        """What another process needs to know to bring layers: see `taker`."""
        return {
            "images": str(content.directory),
            "durable": content.durable,
            "name": str(full),
            "settings": self._settings.as_data(),
            "auth_files": list(self._auth_files),
            "credentials": None if self._given is None else asdict(self._given),
        }

    def clients(self, full: reference.Reference) -> list[Client]:
        """One for each place that has the image's registry."""
        return [
            Client(endpoint, full.path, lambda domain, endpoint=endpoint: self._credentials(endpoint, domain, full))  # type: ignore[misc]  # a default binds the loop's
            for endpoint in endpoints(full.domain, self._settings)
        ]

    def _credentials(self, endpoint: Endpoint, domain: str, full: reference.Reference) -> Credentials | None:
        if self._given is not None and domain == full.domain:
            return self._given
        path = f"{endpoint.prefix}/{full.path}" if endpoint.prefix else full.path
        return find(domain, path, self._auth_files)

    def tell(self, event: dict[str, Any]) -> None:
        """Tell whoever looks on."""
        self._event(event)

    def dismiss(self) -> None:
        """End those that began early and are not wanted."""
        while self.early:
            self.early.pop().close()

    @property
    def machine(self) -> Platform:
        """What images are to be made for."""
        return self._machine


def pull_with(
    given: Sequence[tuple[Credentials, str]],
    wanted: reference.Reference,
    store: ImageStore,
    settings: ImageSettings,
    auth_files: Sequence[str],
    event: Event,
    processes: int = 1,
    early: list[Member] | None = None,
) -> Image:
    """Pulls with the credentials that a pod has, one after another, and then with the machine's own, or with none where a pod has none.

    Args:
        given: with what is remembered of an image that one of them brought.
        processes, early: as for RegistryPuller.

    Raises:
        ImageError: ErrImagePull, with what the registry answered to each.
    """
    full = settings.full(wanted)
    attempts: list[tuple[Credentials | None, str]] = [*given]
    if not given or find(full.domain, full.path, auth_files) is not None:
        attempts.append((None, EVERYBODY))
    errors: dict[str, ImageError] = {}
    for credentials, access in attempts:
        puller = RegistryPuller(
            settings,
            auth_files=auth_files,
            on_event=event,
            credentials=credentials,
            access=[access],
            processes=processes,
            early=early,
        )
        try:
            return puller.pull(wanted, store)
        except ImageError as error:
            if error.code != RegistryError.code:
                raise
            errors.setdefault(error.brief, error)
    last = next(reversed(errors.values()))
    if len(errors) == 1:
        raise last
    brief = f"[{', '.join(errors)}]"
    raise ImageError(ERR_IMAGE_PULL, brief, details=last.details, resolution=last.resolution, code=last.code)


def takers(about: dict[str, Any], events: Sequence[Event], turn: threading.Semaphore) -> list[_Taker]:
    """What brings single layers of a pull that another process makes, which told `RegistryPuller.about` it.

    Args:
        events: of each, as for RegistryPuller. All talk to a registry by the same connections.
        turn: held while a layer comes.
    """
    given = about["credentials"]
    credentials = None if given is None else Credentials(**given)
    settings, full = ImageSettings.from_data(about["settings"]), reference.parse(about["name"])
    content = Content(Path(about["images"]), durable=about["durable"])
    clients: list[Client] | None = None
    result: list[_Taker] = []
    for event in events:
        puller = RegistryPuller(settings, auth_files=about["auth_files"], on_event=event, credentials=credentials)
        clients = clients or puller.clients(full)
        pull = _Pull(puller, full, content, turn, clients)
        result.append(lambda blob, diff_id, pull=pull: pull.layer(blob, diff_id, threading.Event()))  # type: ignore[misc]  # a default binds the loop's
    return result


def _take_all(take: _Taker, left: deque[_Wish], made: dict[_Wish, Layer], stop: threading.Event) -> None:
    """Has layers brought until there is none left to begin with."""
    while not stop.is_set():
        try:
            one = left.popleft()
        except IndexError:
            return
        try:
            made[one] = take(*one)
        except MemberLostError:
            left.appendleft(one)
            return


class _Pull:
    """One pull. The endpoint that knew the image is asked first for all of it; the others only where it does not answer."""

    def __init__(
        self,
        puller: RegistryPuller,
        full: reference.Reference,
        content: Content,
        turn: threading.Semaphore | None = None,
        clients: Sequence[Client] | None = None,
    ) -> None:
        self._puller = puller
        self._full = full
        self._content = content
        self._subject = f"image {full}"
        self._clients = list(clients or puller.clients(full))
        self._turn = turn or threading.Semaphore(AT_ONCE)

    def run(self, name: str, store: ImageStore) -> Image:
        """All of the image, as `RegistryPuller.pull` gives it."""
        try:
            with self._content.adding():
                self._content.sweep()
                wanted = self._resolve()
                source = f"{self._full.domain}/{self._full.path}@{wanted.digest}"
                known = self._known(wanted)
                if known is not None:
                    return self._add(store, name, wanted, known.layers, source)
                config = self._document(wanted.manifest.config)
                facts = parse_config(config, wanted.manifest.config.digest)
                if len(facts.diff_ids) != len(wanted.manifest.layers):
                    raise SpecError(
                        f"its config speaks of {len(facts.diff_ids)} layers, and it has {len(wanted.manifest.layers)}"
                    )
                layers = self._layers(list(zip(wanted.manifest.layers, facts.diff_ids, strict=True)))
                lowers = Layers(self._content, self._subject).stack(layers)
                self._content.add_document(config)
                self._content.add_document(wanted.document)
                return self._add(store, name, wanted, lowers, source)
        except BaseException:
            with contextlib.suppress(NsrunError):
                store.remove_garbage()
            raise
        finally:
            for client in self._clients:
                client.close()

    def _add(self, store: ImageStore, name: str, wanted: _Wanted, lowers: Sequence[str], source: str) -> Image:
        return store.add(
            [name],
            wanted.own,
            len(wanted.document),
            wanted.media_type,
            lowers,
            origin="pull",
            source=source,
            access=self._puller.access,
        )

    def _known(self, wanted: _Wanted) -> Record | None:
        """The image, if all of it is here: then only its name may be new."""
        for record in self._content.records():
            if record.digest != wanted.own or not all(self._content.has_layer(one) for one in record.layers):
                continue
            blobs = (wanted.manifest.config, *wanted.manifest.layers)
            try:
                self._content.document(wanted.manifest.config.digest)
                self._content.document(wanted.own)
            except DamagedError:
                return None
            if all(self._content.has_blob(blob.digest, blob.size) for blob in blobs):
                return record
        return None

    # --- asking ------------------------------------------------------------------------------------------------------------

    def _any(self, work: Callable[[Client], T]) -> T:
        """What the first place has that has it; what the registry itself says where none has."""
        failure: RegistryError | None = None
        for client in list(self._clients):
            try:
                result = work(client)
            except RegistryError as error:
                failure = error
                continue
            self._clients.remove(client)
            self._clients.insert(0, client)
            return result
        assert failure is not None
        raise failure

    def _resolve(self) -> _Wanted:
        return self._any(self._resolve_at)

    def _resolve_at(self, client: Client) -> _Wanted:
        name = self._full.digest or self._full.tag
        document, kind = client.manifest(name)
        first = digest = digest_of(document)
        for _ in range(_MAX_DEPTH):
            parsed = parse(document, digest, kind)
            if isinstance(parsed, Manifest):
                return _Wanted(first, document, kind or OCI_MANIFEST, parsed)
            entry = choose(parsed, self._puller.machine, digest)
            document, kind = client.manifest(entry.digest)
            digest, kind = entry.digest, entry.media_type
        raise SpecError(f"{first} leads from index to index")

    def _document(self, blob: Descriptor) -> bytes:
        try:
            return self._content.document(blob.digest)
        except DamagedError:
            return self._any(lambda client: client.document(blob))

    # --- layers ------------------------------------------------------------------------------------------------------------

    def _layers(self, wanted: Sequence[_Wish]) -> list[Layer]:
        """All layers, some side by side. One that an image has twice comes once."""
        once = list(dict.fromkeys(wanted))
        for blob, _ in once:
            self._puller.tell({"layer": blob.digest, "state": "waiting", "done": 0, "total": blob.size})
        left, made, stop = deque(once), dict[_Wish, Layer](), threading.Event()
        with contextlib.ExitStack() as stack:
            members = [stack.enter_context(contextlib.closing(one)) for one in self._crew(once)]
            own = AT_ONCE - len(members)
            self._turn = threading.Semaphore(own)
            takers: list[_Taker] = [lambda blob, diff_id: self.layer(blob, diff_id, stop)] * (own + WAITING)
            takers += [lane.take for member in members for lane in member.lanes]
            with ThreadPoolExecutor(len(takers), thread_name_prefix="layer") as pool:
                futures = [pool.submit(_take_all, take, left, made, stop) for take in takers]
                try:
                    done, _ = wait(futures, return_when=FIRST_EXCEPTION)
                    for future in done:
                        future.result()
                except BaseException:
                    stop.set()
                    for member in members:
                        member.kill()
                    raise
        if members:
            # Of one that was killed.
            self._content.sweep()
        for one in left:
            made[one] = self.layer(*one, stop)
        return [made[one] for one in wanted]

    def _crew(self, once: Sequence[_Wish]) -> list[Member]:
        """Processes that bring layers beside this one, where it pays."""
        missing = [blob.size for blob, diff_id in once if not self._here(blob, diff_id)]
        count = 0 if sum(missing) < _CREW_PAYS else min(self._puller.processes, AT_ONCE, len(missing)) - 1
        early = self._puller.early
        members = [early.pop() if early else member() for _ in range(count)]
        self._puller.dismiss()
        about = self._puller.about(self._full, self._content)
        for one in members:
            one.begin(about, self._puller.tell)
        return members

    def layer(self, blob: Descriptor, diff_id: str, stop: threading.Event) -> Layer:
        """Bring one layer, unless it is here; `stop` ends it."""
        if self._here(blob, diff_id):
            return self._existing(blob, diff_id)
        with self._content.partial(blob.digest) as file:
            # Whoever had it before may have brought it.
            if self._here(blob, diff_id):
                file.unlink()
                return self._existing(blob, diff_id)
            for again in (True, False):
                have = file.stat().st_size
                if have > blob.size:
                    os.truncate(file, have := 0)
                try:
                    layer = self._take(blob, diff_id, file, have, stop)
                except SpecError:
                    if again and have:
                        # What was here before may be what is wrong.
                        with contextlib.suppress(FileNotFoundError):
                            os.truncate(file, 0)
                        continue
                    with contextlib.suppress(FileNotFoundError):
                        file.unlink()
                    raise
                else:
                    self._puller.tell({"layer": blob.digest, "state": "done", "done": blob.size, "total": blob.size})
                    return layer
        raise AssertionError("unreachable")

    def _here(self, blob: Descriptor, diff_id: str) -> bool:
        return self._content.has_blob(blob.digest, blob.size) and self._content.has_layer(diff_id[7:])

    def _existing(self, blob: Descriptor, diff_id: str) -> Layer:
        self._puller.tell({"layer": blob.digest, "state": "here", "done": blob.size, "total": blob.size})
        return Layer(blob, diff_id, diff_id[7:])

    def _take(self, blob: Descriptor, diff_id: str, file: Path, have: int, stop: threading.Event) -> Layer:
        if self._content.has_blob(blob.digest, blob.size):
            # Only what was unpacked of it is missing.
            with open(self._content.blob(blob.digest), "rb", buffering=0) as here:
                return Layers(self._content, self._subject).take(here, expected=blob, diff_id=diff_id, turn=self._turn)
        reporter = _Reporter(self._puller, blob, stop)
        with contextlib.ExitStack() as stack:
            beginning = stack.enter_context(open(file, "rb", buffering=0))
            client = self._clients[0]
            download = Download(
                lambda offset: self._open(blob, offset),
                blob,
                name=client.endpoint.name,
                offset=have,
                progress=reporter.at,
            )
            stack.callback(download.close)
            source = _Joined(beginning, have, download)
            return Layers(self._content, self._subject).take(
                source, expected=blob, diff_id=diff_id, file=file, skip=have, turn=self._turn
            )

    @contextlib.contextmanager
    def _open(self, blob: Descriptor, offset: int) -> Iterator[Any]:
        """The blob from whichever place has it; a place that breaks in the middle is asked again."""
        failure: RegistryError | None = None
        for client in list(self._clients):
            with contextlib.ExitStack() as stack:
                try:
                    response = stack.enter_context(client.blob(blob, offset))
                except RegistryError as error:
                    failure = error
                    continue
                yield response
                return
        assert failure is not None
        raise failure


class _Joined:
    """The beginning of a blob from a file, the rest from a registry."""

    def __init__(self, beginning: Any, have: int, rest: Download) -> None:
        self._beginning = beginning
        self._left = have
        self._rest = rest

    def read(self, size: int, /) -> bytes:
        if self._left:
            data: bytes = self._beginning.read(min(size, self._left))
            if not data:
                raise StepError("read", "the beginning of a layer", 5)
            self._left -= len(data)
            return data
        return self._rest.read(size)


class _Reporter:
    """Tells of a layer's progress, not too often; ends it where another layer failed."""

    def __init__(self, puller: RegistryPuller, blob: Descriptor, stop: threading.Event) -> None:
        self._puller = puller
        self._blob = blob
        self._stop = stop
        self._last = 0.0

    def at(self, done: int) -> None:
        if self._stop.is_set():
            raise StepError("pull", self._blob.digest, 125)
        now = time.monotonic()
        if now - self._last >= REPORT_S:
            self._last = now
            self._puller.tell({"layer": self._blob.digest, "state": "pulling", "done": done, "total": self._blob.size})
