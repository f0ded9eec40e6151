"""A registry, as the OCI distribution specification has it: manifests and blobs by HTTP, with tokens or passwords, mirrors and proxies.

Nothing that comes is believed: sizes are limited, digests are checked by whoever reads. Credentials go to nobody but the registry they
are for, and to whoever it says gives tokens; a redirection takes none of them along to another place, and none leads to anything but HTTP.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import ssl
import threading
import time
import urllib.parse
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import urllib3
from urllib3.exceptions import HTTPError, InsecureRequestWarning, MaxRetryError, ReadTimeoutError, SSLError
from urllib3.response import BaseHTTPResponse

from nsrun._version import __version__
from nsrun.errors import NsrunError
from nsrun.images.content import MAX_DOCUMENT, digest_of
from nsrun.images.credentials import Credentials
from nsrun.images.documents import ACCEPTED, Descriptor
from nsrun.images.settings import ImageSettings

CONNECT_S = 20.0
READ_S = 60.0
"""How long a registry may be silent."""
PACE_S, PACE_BYTES = 60.0, 64 << 10
"""A blob of which less than this comes in this time does not come."""
ATTEMPTS = 6
"""How often a blob is gone on with when nothing of it has come since the last time."""
MAX_REDIRECTS = 8
MAX_TOKEN = 1 << 20
_MANIFESTS = ", ".join(ACCEPTED)
_RETRIED = (429, 500, 502, 503, 504)
_CHALLENGE = re.compile(r'([A-Za-z_]+)=(?:"((?:[^"\\]|\\.)*)"|([^\s,]+))')


class RegistryError(NsrunError):
    """What a registry answered, or why it did not. `status` is that of HTTP, 0 where there was no answer."""

    code = "not-found"

    def __init__(self, brief: str, *, status: int = 0, details: str | None = None, resolution: str | None = None):
        super().__init__(brief, details=details, resolution=resolution)
        self.status = status


class BrokenError(RegistryError):
    """A connection that broke: it may be worth another try."""


@dataclass(frozen=True, slots=True)
class Endpoint:
    """One place that has a registry's images: the registry itself or a mirror of it.

    `urls` are tried in this order until one is connected to; `prefix` goes before a repository's name.
    """

    name: str
    urls: tuple[str, ...]
    prefix: str = ""
    insecure: bool = False
    ca: str = ""
    domain: str = ""
    """Whose credentials go there."""


def endpoints(domain: str, settings: ImageSettings) -> list[Endpoint]:
    """Where a registry's images are to be had: its mirrors, then itself."""
    own = settings.registries.get(domain)
    result = []
    for mirror in own.mirrors if own else ():
        address = mirror if "://" in mirror else f"https://{mirror}"
        parts = urllib.parse.urlsplit(address)
        known = settings.registries.get(parts.netloc)
        insecure = parts.scheme == "http" or (known is not None and known.insecure)
        urls = _urls(parts.netloc, insecure) if "://" not in mirror else (f"{parts.scheme}://{parts.netloc}",)
        prefix = parts.path.strip("/").removesuffix("v2").strip("/")
        result.append(Endpoint(parts.netloc, urls, prefix, insecure, known.ca if known else "", parts.netloc))
    host = "registry-1.docker.io" if domain == "docker.io" else domain
    insecure = bool(own and own.insecure) or _is_loopback(domain)
    result.append(Endpoint(host, _urls(host, insecure), "", insecure, own.ca if own else "", domain))
    return result


def _proxy(scheme: str, host: str) -> str | None:
    """The proxy that the environment names for a host."""
    if not any(name.lower().endswith("_proxy") for name in os.environ):
        return None
    # Not read in where nobody has a proxy.
    import urllib.request

    proxies = urllib.request.getproxies()
    proxy = proxies.get(scheme) or proxies.get("all")
    return None if proxy and urllib.request.proxy_bypass(host) else proxy


def _urls(host: str, insecure: bool) -> tuple[str, ...]:
    return (f"https://{host}", f"http://{host}") if insecure else (f"https://{host}",)


def _is_loopback(domain: str) -> bool:
    """Registries on this machine need no TLS, as for docker."""
    host = domain.rpartition(":")[0] if domain.rpartition(":")[2].isdigit() else domain
    return host == "localhost" or host.startswith("127.") or host == "[::1]"


class Client:
    """Talks to one endpoint about one repository. Safe to use from several threads.

    Args:
        endpoint: where.
        path: the repository, without the registry's name.
        credentials: gives them when they are first needed.
    """

    def __init__(self, endpoint: Endpoint, path: str, credentials: Callable[[str], Credentials | None]) -> None:
        self.endpoint = endpoint
        self.repository = f"{endpoint.prefix}/{path}" if endpoint.prefix else path
        self._credentials = credentials
        self._lock = threading.Lock()
        self._authorizing = threading.Lock()
        self._authorization: str | None = None
        self._base: str | None = None
        self._pools: dict[str, urllib3.PoolManager] = {}

    # --- what is asked for -------------------------------------------------------------------------------------------------

    def check(self) -> None:
        """Asks whether the registry lets one in.

        Raises:
            RegistryError: it does not (status 401 or 403), or there is no answer.
        """
        with self._get_path("/v2/", {}, "login"):
            pass

    def manifest(self, name: str) -> tuple[bytes, str]:
        """A manifest or an index by its tag or digest, and what the registry says it is.

        Raises:
            RegistryError: there is none, or no answer.
        """
        with self._get(f"manifests/{name}", {"Accept": _MANIFESTS}, f"manifest {name}") as response:
            data = self._limited(response, MAX_DOCUMENT, f"manifest {name}")
            if name.startswith("sha256:") and digest_of(data) != name:
                raise RegistryError(f"{self.endpoint.name} answers for {name} with {digest_of(data)}")
            return data, str(response.headers.get("Content-Type") or "").partition(";")[0].strip()

    def document(self, blob: Descriptor) -> bytes:
        """A small blob, checked.

        Raises:
            RegistryError: it is too large, is not there, or is another one.
        """
        if blob.size > MAX_DOCUMENT:
            raise RegistryError(f"{blob.digest} has {blob.size} bytes, and a config has {MAX_DOCUMENT} at most")
        with self._get(f"blobs/{blob.digest}", {}, f"blob {blob.digest}") as response:
            data = self._limited(response, blob.size, f"blob {blob.digest}")
        if len(data) != blob.size or digest_of(data) != blob.digest:
            raise RegistryError(f"{self.endpoint.name} answers for {blob.digest} with {digest_of(data)}")
        return data

    @contextlib.contextmanager
    def blob(self, blob: Descriptor, offset: int) -> Iterator[BaseHTTPResponse]:
        """A blob from a byte on; what comes has to be checked.

        Raises:
            RegistryError: it is not there, or no answer.
        """
        headers = {"Range": f"bytes={offset}-"} if offset else {}
        with self._get(f"blobs/{blob.digest}", headers, f"blob {blob.digest}") as response:
            if offset and response.status != 206:
                # It knows no ranges: what is here already comes again, and is dropped.
                left = offset
                while left:
                    data = response.read1(min(left, 1 << 18), decode_content=False)
                    if not data:
                        raise BrokenError(f"{self.endpoint.name}: blob {blob.digest} ends at {offset - left} bytes")
                    left -= len(data)
            elif offset and not str(response.headers.get("Content-Range", "")).startswith(f"bytes {offset}-"):
                raise RegistryError(f"{self.endpoint.name} was asked for bytes from {offset} on, and sends others")
            yield response

    def close(self) -> None:
        """Ends the connections."""
        with self._lock:
            while self._pools:
                self._pools.popitem()[1].clear()

    # --- HTTP --------------------------------------------------------------------------------------------------------------

    def _get(
        self, what: str, headers: Mapping[str, str], subject: str
    ) -> contextlib.AbstractContextManager[BaseHTTPResponse]:
        return self._get_path(f"/v2/{self.repository}/{what}", headers, subject)

    @contextlib.contextmanager
    def _get_path(self, path: str, headers: Mapping[str, str], subject: str) -> Iterator[BaseHTTPResponse]:
        asked = False
        attempt = 0
        while True:
            before = self._authorization
            own = {**headers, **({"Authorization": before} if before else {})}
            response = self._follow(path, own, subject)
            if response.status == 401 and not asked:
                asked = True
                challenge = str(response.headers.get("WWW-Authenticate") or "")
                self._give_back(response)
                self._authorize(challenge, before, subject)
                continue
            if response.status in _RETRIED and attempt < 3:
                attempt += 1
                self._give_back(response)
                time.sleep(_pause(attempt, str(response.headers.get("Retry-After") or "")))
                continue
            break
        try:
            if response.status not in (200, 206):
                raise self._refused(response, subject)
            yield response
        finally:
            response.close()
            response.release_conn()

    def _give_back(self, response: BaseHTTPResponse) -> None:
        with contextlib.suppress(HTTPError, OSError):
            response.read1(64 << 10)
        response.close()
        response.release_conn()

    def _follow(self, path: str, headers: Mapping[str, str], subject: str) -> BaseHTTPResponse:
        """The answer to a GET, wherever the registry sends it."""
        url, response = self._first(path, headers, subject)
        for _ in range(MAX_REDIRECTS):
            if response.status not in (301, 302, 303, 307, 308):
                return response
            target = urllib.parse.urljoin(url, str(response.headers.get("Location") or ""))
            self._give_back(response)
            before, after = urllib.parse.urlsplit(url), urllib.parse.urlsplit(target)
            if after.scheme not in ("http", "https") or not after.hostname:
                raise RegistryError(
                    f"{self.endpoint.name} sends {subject} on to {target!r}, which is no address of the web"
                )
            if after.scheme == "http" and before.scheme == "https" and not self.endpoint.insecure:
                raise RegistryError(f"{self.endpoint.name} sends {subject} on to {after.netloc} without TLS")
            if (after.scheme, after.netloc) != (before.scheme, before.netloc):
                headers = {key: value for key, value in headers.items() if key != "Authorization"}
            url = target
            response = self._request(url, headers, subject)
        self._give_back(response)
        raise RegistryError(f"{self.endpoint.name} sends {subject} on and on")

    def _first(self, path: str, headers: Mapping[str, str], subject: str) -> tuple[str, BaseHTTPResponse]:
        if self._base is not None:
            return self._base + path, self._request(self._base + path, headers, subject)
        failure: RegistryError | None = None
        for base in self.endpoint.urls:
            try:
                # Nothing secret is said before it is known which of them answers.
                response = self._request(base + path, headers, subject)
            except BrokenError as error:
                failure = failure or error
                continue
            self._base = base
            return base + path, response
        assert failure is not None
        raise failure

    def _request(
        self, url: str, headers: Mapping[str, str], subject: str, body: Mapping[str, str] | None = None
    ) -> BaseHTTPResponse:
        parts = urllib.parse.urlsplit(url)
        sent = {"User-Agent": f"nsrun/{__version__}", "Accept-Encoding": "identity", **headers}
        data = None
        if body is not None:
            data = urllib.parse.urlencode(body).encode()
            sent["Content-Type"] = "application/x-www-form-urlencoded"
        try:
            return self._pool(parts.scheme, parts.hostname or "").request(
                "GET" if data is None else "POST",
                url,
                body=data,
                headers=sent,
                preload_content=False,
                redirect=False,
                retries=False,
            )
        except SSLError as error:
            raise BrokenError(
                f"{parts.netloc}: TLS: {_innermost(error)}",
                details="Its certificate is of no authority that this machine knows, or it does not speak TLS.",
                resolution=f'etc/config.toml: [images.registries."{self.endpoint.domain}"] ca = "FILE", or insecure = true',
            ) from error
        except (HTTPError, OSError, ValueError) as error:
            raise BrokenError(
                f"{parts.netloc}: {subject}: {_innermost(error)}",
                resolution="Without a registry: nsrun image load FILE, or nsrun image import NAME PATH",
            ) from error

    def _pool(self, scheme: str, host: str) -> urllib3.PoolManager:
        proxy = _proxy(scheme, host)
        key = proxy or ""
        with self._lock:
            pool = self._pools.get(key)
            if pool is None:
                pool = self._pools[key] = self._new_pool(proxy)
            return pool

    def _new_pool(self, proxy: str | None) -> urllib3.PoolManager:
        if self.endpoint.insecure:
            # Somebody said so in the configuration, or it is this machine itself: no word of it at each request.
            urllib3.disable_warnings(InsecureRequestWarning)
            # Without the authorities of the machine, which take longer to read than a small image to come.
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
            context.check_hostname = False
            context.verify_mode = ssl.CERT_NONE
        else:
            context = ssl.create_default_context()
        if self.endpoint.ca:
            try:
                context.load_verify_locations(self.endpoint.ca)
            except (OSError, ssl.SSLError) as error:
                raise RegistryError(f"{self.endpoint.name}: its authority {self.endpoint.ca}: {error}") from error
        options: dict[str, Any] = {
            "ssl_context": context,
            "timeout": urllib3.Timeout(connect=CONNECT_S, read=READ_S),
            "maxsize": 8,
        }
        if proxy:
            parts = urllib.parse.urlsplit(proxy if "://" in proxy else f"http://{proxy}")
            headers = None
            if parts.username:
                words = f"{urllib.parse.unquote(parts.username)}:{urllib.parse.unquote(parts.password or '')}"
                headers = urllib3.make_headers(proxy_basic_auth=words)
            address = f"{parts.scheme}://{parts.hostname}" + (f":{parts.port}" if parts.port else "")
            return urllib3.ProxyManager(address, proxy_headers=headers, **options)
        return urllib3.PoolManager(**options)

    def _limited(self, response: BaseHTTPResponse, limit: int, subject: str) -> bytes:
        """All of a small answer."""
        data = b""
        try:
            while piece := response.read1(1 << 16, decode_content=False):
                data += piece
                if len(data) > limit:
                    raise RegistryError(f"{self.endpoint.name}: {subject} has more than {limit} bytes")
        except (HTTPError, OSError) as error:
            raise BrokenError(f"{self.endpoint.name}: {subject}: {_innermost(error)}") from error
        return data

    def _refused(self, response: BaseHTTPResponse, subject: str) -> RegistryError:
        """What the registry has against it, in its own words."""
        said = ""
        with contextlib.suppress(ValueError, KeyError, TypeError, IndexError, RegistryError, AttributeError):
            errors = json.loads(self._limited(response, MAX_TOKEN, subject))["errors"]
            said = "; ".join(f"{one.get('message') or ''} ({one.get('code')})".strip() for one in errors)[:1000]
        status = f"{response.status} {response.reason or ''}".strip()
        resolution = None
        if response.status in (401, 403):
            resolution = f"nsrun login {self.endpoint.domain}, if the repository exists."
        elif response.status == 404:
            resolution = "Check the name and the tag: the registry knows no such image."
        elif response.status == 429:
            resolution = (
                f"It answers too many questions already; nsrun login {self.endpoint.domain} may raise the limit."
            )
        return RegistryError(
            f"{self.endpoint.name}: {subject}: {status}{f': {said}' if said else ''}",
            status=response.status,
            resolution=resolution,
        )

    # --- who one is --------------------------------------------------------------------------------------------------------

    def _authorize(self, challenge: str, before: str | None, subject: str) -> None:
        """Gets what the next request has to say, once for all threads."""
        with self._authorizing:
            if self._authorization != before:
                return
            scheme, _, rest = challenge.partition(" ")
            words = {
                match[1].lower(): match[2].replace('\\"', '"') if match[2] is not None else match[3]
                for match in _CHALLENGE.finditer(rest)
            }
            credentials = self._credentials(self.endpoint.domain)
            if scheme.lower() == "basic":
                self._authorization = self._basic(credentials, subject)
            elif scheme.lower() == "bearer":
                self._authorization = f"Bearer {self._token(words, credentials)}"
            else:
                raise RegistryError(f"{self.endpoint.name} wants to be asked in a way that nobody knows: {challenge!r}")

    def _basic(self, credentials: Credentials | None, subject: str) -> str:
        if credentials is None or not credentials.user:
            raise RegistryError(
                f"{self.endpoint.name}: {subject}: 401 Unauthorized: it wants a user and a password",
                status=401,
                resolution=f"nsrun login {self.endpoint.domain}",
            )
        return credentials.basic

    def _token(self, words: Mapping[str, str], credentials: Credentials | None) -> str:
        realm = words.get("realm", "")
        parts = urllib.parse.urlsplit(realm)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise RegistryError(f"{self.endpoint.name} sends for a token to {realm!r}, which is no address of the web")
        if credentials is not None and parts.scheme == "http" and not self.endpoint.insecure:
            raise RegistryError(f"{self.endpoint.name} sends for a token to {parts.netloc} without TLS")
        scope = words.get("scope") or (f"repository:{self.repository}:pull" if self.repository else "")
        query = {"service": words.get("service", ""), "scope": scope}
        if credentials is not None and credentials.identity_token:
            body = {
                "grant_type": "refresh_token",
                "refresh_token": credentials.identity_token,
                "client_id": "nsrun",
                **{key: value for key, value in query.items() if value},
            }
            response = self._request(realm, {}, "a token", body)
        else:
            headers = {} if credentials is None else {"Authorization": credentials.basic}
            joint = "&" if parts.query else "?"
            given = urllib.parse.urlencode({key: value for key, value in query.items() if value})
            response = self._request(f"{realm}{joint}{given}", headers, "a token")
        try:
            if response.status != 200:
                raise self._refused(response, f"a token from {parts.netloc}")
            try:
                answer = json.loads(self._limited(response, MAX_TOKEN, "a token"))
                token = answer.get("token") or answer.get("access_token")
            except (ValueError, AttributeError):
                token = None
            if not isinstance(token, str) or not token or not token.isprintable():
                raise RegistryError(f"{parts.netloc} gives no token")
            return token
        finally:
            response.close()
            response.release_conn()


class Download:
    """A blob as a stream that goes on where a connection broke.

    Args:
        open_at: opens the blob from a byte on.
        blob: what is to come.
        name: of whoever sends it.
        offset: so many bytes are here already.
        progress: told how many bytes are there.
    """

    def __init__(
        self,
        open_at: Callable[[int], contextlib.AbstractContextManager[BaseHTTPResponse]],
        blob: Descriptor,
        *,
        name: str,
        offset: int = 0,
        progress: Callable[[int], None] | None = None,
    ) -> None:
        self._open_at = open_at
        self._blob = blob
        self._name = name
        self._progress = progress
        self._stack = contextlib.ExitStack()
        self._response: BaseHTTPResponse | None = None
        self._failures = 0
        self._since = 0.0
        self._came = 0
        self.offset = offset

    def read(self, size: int, /) -> bytes:
        """At most `size` bytes; none at the end.

        Raises:
            RegistryError: it does not come, although it was tried again and again.
        """
        while self.offset < self._blob.size:
            try:
                if self._response is None:
                    self._response = self._stack.enter_context(self._open_at(self.offset))
                    self._since, self._came = time.monotonic(), 0
                data = self._response.read1(size, decode_content=False)
                if not data:
                    raise BrokenError(
                        f"{self._name}: blob {self._blob.digest} ends after {self.offset} of {self._blob.size} bytes"
                    )
                self._check_pace(len(data))
            except (BrokenError, HTTPError, OSError) as error:
                self._broken(error)
                continue
            self.offset += len(data)
            self._failures = 0
            if self._progress is not None:
                self._progress(self.offset)
            return data
        # More than was promised is for whoever checks to see.
        return b"" if self._response is None else self._rest(size)

    def _rest(self, size: int) -> bytes:
        assert self._response is not None
        try:
            return self._response.read1(size, decode_content=False) or b""
        except (HTTPError, OSError):
            return b""

    def _check_pace(self, came: int) -> None:
        self._came += came
        now = time.monotonic()
        if now - self._since >= PACE_S:
            if self._came < PACE_BYTES:
                raise BrokenError(f"{self._name}: blob {self._blob.digest}: {self._came} bytes in {PACE_S:g} s")
            self._since, self._came = now, 0

    def _broken(self, error: Exception) -> None:
        self.close()
        self._failures += 1
        if self._failures >= ATTEMPTS:
            if isinstance(error, RegistryError):
                raise error
            raise BrokenError(
                f"{self._name}: blob {self._blob.digest}: {_innermost(error)} at {self.offset} of {self._blob.size} bytes",
                resolution="Try again: what has come is kept and gone on with.",
            ) from error
        time.sleep(_pause(self._failures, ""))

    def close(self) -> None:
        """Gives the connection back."""
        self._response = None
        with contextlib.suppress(HTTPError, OSError):
            self._stack.close()


def _pause(attempt: int, wanted: str) -> float:
    """Seconds before another try; a registry's own wish counts up to a minute."""
    if wanted.isdigit():
        return float(min(int(wanted), 60))
    return float(min(0.1 * 4 ** (attempt - 1), 5.0))


def _innermost(error: BaseException) -> str:
    """What the bottom of a pile of HTTP errors says."""
    if isinstance(error, MaxRetryError) and error.reason is not None:
        return _innermost(error.reason)
    if isinstance(error, ReadTimeoutError):
        return f"no answer within {READ_S:g} s"
    cause = error.__cause__ or (error.args[-1] if error.args and isinstance(error.args[-1], BaseException) else None)
    if isinstance(cause, BaseException) and cause is not error:
        return _innermost(cause)
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return str(error).rpartition(">: ")[2] or type(error).__name__
