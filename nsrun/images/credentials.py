"""Who one is to a registry: what `nsrun login`, docker login and podman login wrote down, and credential helpers.

Source: docker's cli/config/configfile, docker-credential-helpers' protocol, containers-auth.json(5).
"""

from __future__ import annotations

import base64
import json
import os
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nsrun.errors import NsrunError, SpecError, UsageError
from nsrun.images import reference

DOCKER_HUB = "https://index.docker.io/v1/"
"""What docker login calls docker.io."""
HELPER_TIMEOUT_S = 30.0
MAX_FILE = 4 << 20


@dataclass(frozen=True, slots=True)
class Credentials:
    """A user and a password, or a token to get others with (`identity_token`)."""

    user: str = ""
    password: str = ""
    identity_token: str = ""

    @property
    def basic(self) -> str:
        """The value of an Authorization header."""
        return "Basic " + base64.b64encode(f"{self.user}:{self.password}".encode()).decode()

    def __repr__(self) -> str:
        return f"Credentials({self.user!r}, …)"


def domain_of(registry: str) -> str:
    """What a registry is called in image names; an address of the web will do.

    Raises:
        UsageError: it is no registry.
    """
    name = registry.removeprefix("https://").removeprefix("http://").rstrip("/")
    if name in ("", "docker.io", "index.docker.io", "registry-1.docker.io", "index.docker.io/v1"):
        return "docker.io"
    try:
        parsed = reference.parse(f"{name}/x")
    except ValueError:
        parsed = None
    if parsed is None or parsed.path != "x" or parsed.domain != name:
        raise UsageError(
            f"{registry!r} is no registry", resolution="Give its host, and its port if need be: HOST[:PORT]"
        )
    return parsed.domain


def files(own: str) -> list[str]:
    """Where credentials are looked for, in this order: nsrun's own file, then the docker's and podman's of the server's user."""
    home = os.environ.get("HOME") or "/root"
    docker = os.environ.get("DOCKER_CONFIG") or f"{home}/.docker"
    podman = (
        os.environ.get("REGISTRY_AUTH_FILE") or f"{os.environ.get('XDG_RUNTIME_DIR') or '/run'}/containers/auth.json"
    )
    if "REGISTRY_AUTH_FILE" not in os.environ and "XDG_RUNTIME_DIR" not in os.environ:
        podman = f"/run/containers/{os.geteuid()}/auth.json"
    return [own, f"{docker}/config.json", podman]


def find(domain: str, path: str, sources: Sequence[str]) -> Credentials | None:
    """The credentials for a repository; None where nobody has any.

    Raises:
        SpecError: a file or a helper that is asked cannot be read.
    """
    for source in sources:
        config = _read(source)
        if config is not None:
            found = _in(config, domain, path, source)
            if found is not None:
                return found
    return None


def _read(source: str) -> dict[str, Any] | None:
    try:
        with open(source, "rb") as file:
            data = file.read(MAX_FILE)
    except (FileNotFoundError, NotADirectoryError, PermissionError):
        return None
    except OSError as error:
        raise SpecError(f"credentials: read {source}: {error.strerror}") from error
    try:
        config = json.loads(data)
    except ValueError as error:
        raise SpecError(f"credentials: {source} is no JSON: {error}") from None
    return config if isinstance(config, dict) else None


def _keys(domain: str, path: str) -> list[str]:
    """What entries may be called, the most exact first."""
    steps = path.split("/")
    names = [f"{domain}/{'/'.join(steps[:depth])}" for depth in range(len(steps), 0, -1)] + [domain]
    names += [f"https://{domain}", f"http://{domain}", f"https://{domain}/v1/", f"https://{domain}/v2/"]
    if domain == "docker.io":
        names += [DOCKER_HUB, "https://index.docker.io", "index.docker.io", "registry-1.docker.io"]
    return names


def _in(config: dict[str, Any], domain: str, path: str, source: str) -> Credentials | None:
    helpers, auths = config.get("credHelpers"), config.get("auths")
    for key in _keys(domain, path):
        if isinstance(helpers, dict) and isinstance(helpers.get(key), str):
            return _ask(helpers[key], key)
        if isinstance(auths, dict) and isinstance(auths.get(key), dict):
            found = _entry(auths[key], key, source)
            if found is not None:
                return found
    store = config.get("credsStore")
    if isinstance(store, str) and store:
        return _ask(store, DOCKER_HUB if domain == "docker.io" else domain)
    return None


def _entry(entry: dict[str, Any], key: str, source: str) -> Credentials | None:
    token = entry.get("identitytoken")
    if isinstance(token, str) and token:
        return Credentials(identity_token=token)
    user, password = entry.get("username"), entry.get("password")
    if isinstance(user, str) and user and isinstance(password, str):
        return Credentials(user, password)
    text = entry.get("auth")
    if not isinstance(text, str) or not text:
        return None
    try:
        user, _, password = base64.b64decode(text, validate=True).decode().partition(":")
    except ValueError:
        raise SpecError(f"credentials: {source} has something wrong for {key}") from None
    return Credentials(user, password.rstrip("\0"))


def _ask(helper: str, key: str) -> Credentials | None:
    """What a program docker-credential-NAME knows."""
    program = f"docker-credential-{helper}"
    if "/" in helper:
        raise SpecError(f"credentials: {helper!r} is no name of a helper")
    try:
        done = subprocess.run(
            [program, "get"], input=key.encode(), capture_output=True, timeout=HELPER_TIMEOUT_S, check=False
        )
    except FileNotFoundError:
        raise SpecError(f"credentials for {key}: there is no program {program}") from None
    except (OSError, subprocess.TimeoutExpired) as error:
        raise SpecError(f"credentials for {key}: {program}: {error}") from error
    if done.returncode:
        said = (done.stdout + done.stderr).decode("utf-8", "replace").strip()
        if "credentials not found" in said:
            return None
        raise SpecError(f"credentials for {key}: {program} says: {said[:500]}")
    try:
        answer = json.loads(done.stdout)
        user, secret = answer["Username"], answer["Secret"]
    except (ValueError, KeyError, TypeError):
        raise SpecError(f"credentials for {key}: {program} does not answer as such a program does") from None
    return Credentials(identity_token=secret) if user == "<token>" else Credentials(user, secret)


def store(file: Path, key: str, credentials: Credentials | None) -> bool:
    """Writes an entry into nsrun's own file, or takes it out; whether there was one.

    Raises:
        NsrunError: it cannot be written.
    """
    try:
        config = _read(str(file)) or {}
        auths = config.setdefault("auths", {})
        had = auths.pop(key, None) is not None
        if credentials is not None:
            text = base64.b64encode(f"{credentials.user}:{credentials.password}".encode()).decode()
            auths[key] = {"auth": text}
        elif not had:
            return False
        file.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
        temporary = file.with_name(f".{file.name}.new")
        fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        with open(fd, "w", encoding="utf-8") as out:
            json.dump(config, out, indent=1)
            out.flush()
            os.fsync(fd)
        os.rename(temporary, file)
    except (OSError, AttributeError) as error:
        raise NsrunError(f"write {file}: {error}", code="step") from error
    return had
