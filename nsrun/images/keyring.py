"""Credentials out of Secrets: which of them a pod has for an image, and whether they let it use one that is here already.

Pure. A key of a docker config is a registry, or a registry and the beginning of a path; parts of its host name may be `*`. Of several
that fit the most exact comes first, and all are tried in turn.

Source: kubelet pkg/credentialprovider/keyring.go (BasicDockerKeyring), config.go (DockerConfigEntry), secrets/secrets.go;
pkg/kubelet/images/pullmanager/image_pull_manager.go (MustAttemptImagePull) with the policy NeverVerifyPreloadedImages, its default.
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
import urllib.parse
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from nsrun.errors import SpecError

if TYPE_CHECKING:
    from nsrun.spec.model import Secret

EVERYBODY = "*"
"""An image was pulled for a pod with no credentials, or with the machine's: all pods may use it."""
KEPT = 100
"""So many different credentials are remembered of an image."""
_TYPES = {"kubernetes.io/dockerconfigjson": ".dockerconfigjson", "kubernetes.io/dockercfg": ".dockercfg"}
_DOCKER_HUB = "index.docker.io"


@dataclass(frozen=True, slots=True)
class PullCredential:
    """A user and a password out of a Secret.

    Attributes:
        key: the registry, and path, that they are for.
        secret: `uid/namespace/name` of the Secret.
    """

    key: str
    user: str
    password: str = field(repr=False)
    secret: str

    @property
    def grant(self) -> str:
        """What is remembered of an image that was pulled with it: which Secret, and a digest of what was in it."""
        text = json.dumps([self.user, self.password]).encode()
        return f"{hashlib.sha256(text).hexdigest()}/{self.secret}"


def keyring(secrets: Iterable[Secret]) -> list[PullCredential]:
    """The credentials of Secrets, in the order of the Secrets. Those of other types are passed over.

    Raises:
        SpecError: one of them holds no docker config.
    """
    result: list[PullCredential] = []
    for secret in secrets:
        name = _TYPES.get(secret.type or "")
        data = secret.data.get(name) if name else None
        if not data:
            continue
        subject = f'secret "{secret.metadata.namespace}/{secret.metadata.name}"'
        try:
            config = json.loads(data)
            if name == ".dockerconfigjson":
                config = config.get("auths") or {}
            entries = {key: _entry(value) for key, value in config.items()}
        except (ValueError, TypeError, AttributeError, RecursionError) as error:
            raise SpecError(f"{subject} holds no docker config: {error}") from None
        where = f"{secret.metadata.uid}/{secret.metadata.namespace}/{secret.metadata.name}"
        for key, (user, password) in entries.items():
            place = _place(key)
            if place is not None:
                result.append(PullCredential(place, user, password, where))
    return result


def _entry(value: Mapping[str, Any]) -> tuple[str, str]:
    """User and password of an entry; `auth` wins over the two in plain text."""
    user, password, auth = (value.get(name) or "" for name in ("username", "password", "auth"))
    if not all(isinstance(one, str) for one in (user, password, auth)):
        raise TypeError("user, password and auth have to be text")
    if not auth:
        return user, password
    text = base64.b64decode(auth + "=" * (-len(auth) % 4), validate=True).decode()
    user, colon, password = text.partition(":")
    if not colon:
        raise ValueError("unable to parse auth field, must be formatted as base64(username:password)")
    return user, password


def _place(key: str) -> str | None:
    """A key without its scheme and the version of an interface; None where it is no address."""
    try:
        parts = urllib.parse.urlsplit(key if key.startswith(("https://", "http://")) else f"https://{key}")
    except ValueError:
        return None
    path = parts.path[3:] if parts.path.startswith(("/v1/", "/v2/")) else parts.path
    return parts.netloc + (path if path != "/" else "")


def lookup(credentials: Sequence[PullCredential], domain: str, path: str) -> list[PullCredential]:
    """Those that are for a repository, the most exact first."""
    found = [one for one in credentials if _fits(one.key, domain, path)]
    if not found and domain == "docker.io":
        found = [one for one in credentials if one.key == _DOCKER_HUB]
    return sorted(found, key=lambda one: one.key, reverse=True)


def _fits(key: str, domain: str, path: str) -> bool:
    host, slash, wanted = key.partition("/")
    if not f"/{path}".startswith(f"{slash}{wanted}"):
        return False
    (name, port), (own, own_port) = _split(host), _split(domain)
    patterns, labels = name.split("."), own.split(".")
    return (
        port == own_port
        and len(patterns) == len(labels)
        and all(_match(pattern, label) for pattern, label in zip(patterns, labels, strict=True))
    )


def _split(host: str) -> tuple[str, str]:
    name, _, port = host.rpartition(":")
    return (name, port) if name and port.isdigit() else (host, "")


def _match(pattern: str, label: str) -> bool:
    return re.fullmatch(".*".join(map(re.escape, pattern.split("*"))), label) is not None


def joined(before: Iterable[str], after: Iterable[str]) -> tuple[str, ...]:
    """What is remembered of an image that was pulled again."""
    every = tuple(dict.fromkeys((*before, *after)))
    return (EVERYBODY,) if EVERYBODY in every else every[-KEPT:]


def may_use(access: Sequence[str], credentials: Iterable[PullCredential]) -> bool:
    """Whether a pod with these credentials for an image may use it as it is here, without its registry being asked.

    Args:
        access: what is remembered of it; empty for one that no pod had pulled (it was loaded, imported, or pulled by a command).
    """
    if not access or EVERYBODY in access:
        return True
    digests, secrets = ({one.split("/", 1)[at] for one in access} for at in (0, 1))
    return any(one.grant.split("/", 1)[0] in digests or one.secret in secrets for one in credentials)
