"""Files that tell kubectl and client libraries where the API is, whom to trust and who they are.

Source: client-go tools/clientcmd/api/v1/types.go, tools/clientcmd/config.go for how entries of several files meet.
"""

from __future__ import annotations

import base64
import contextlib
import os
from typing import Any

import yaml

from nsrun.api.credentials import make_private
from nsrun.errors import SpecError, StepError


def document(
    name: str, server: str, *, authority: str | None, token: str | None, namespace: str = "default"
) -> dict[str, Any]:
    """A kubeconfig of one cluster.

    Args:
        name: of cluster, user and context.
        server: a URL.
        authority: certificate in PEM; None for a server in the clear.
        token: None where nobody is asked for one.
        namespace: of commands that name none.
    """
    cluster: dict[str, Any] = {"server": server}
    if authority is not None:
        cluster["certificate-authority-data"] = base64.b64encode(authority.encode()).decode()
    user = {} if token is None else {"token": token}
    context = {"cluster": name, "user": name, "namespace": namespace}
    return {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": name, "cluster": cluster}],
        "users": [{"name": name, "user": user}],
        "contexts": [{"name": name, "context": context}],
        "current-context": name,
    }


def text(config: dict[str, Any]) -> str:
    """As a file has it."""
    return yaml.dump(config, Dumper=yaml.CSafeDumper, sort_keys=False, allow_unicode=True)


def merged(existing: bytes, fresh: dict[str, Any], path: str) -> dict[str, Any]:
    """What a file says, with the entries of `fresh` put in the place of those of their names.

    Raises:
        SpecError: the file is no kubeconfig; it is not touched.
    """
    try:
        found = yaml.load(existing, Loader=yaml.CSafeLoader) if existing.strip() else {}
    except yaml.YAMLError as error:
        raise SpecError(f"{path} is no YAML: {error}") from error
    members = ("clusters", "users", "contexts")
    if (
        not isinstance(found, dict)
        or found.get("kind", "Config") != "Config"
        or any(not isinstance(found.get(member) or [], list) for member in members)
    ):
        raise SpecError(f"{path} is no kubeconfig", resolution="Print one instead: nsrun api kubeconfig > FILE")
    made = {**fresh, **found}
    for member in members:
        names = {one["name"] for one in fresh[member]}
        others = [one for one in found.get(member) or [] if not (isinstance(one, dict) and one.get("name") in names)]
        made[member] = [*others, *fresh[member]]
    made["current-context"] = fresh["current-context"]
    return made


def default_path() -> str:
    """The file that kubectl changes: the first that KUBECONFIG names, else ~/.kube/config."""
    named = [path for path in os.environ.get("KUBECONFIG", "").split(":") if path]
    return named[0] if named else os.path.expanduser("~/.kube/config")


def write(path: str, fresh: dict[str, Any]) -> None:
    """Have the entries in a file, and the context be the current one.

    Raises:
        SpecError: the file is no kubeconfig.
        StepError: it cannot be read or written; then it is as it was.
    """
    real = os.path.realpath(path)
    try:
        make_private(os.path.dirname(real))
        owner: tuple[int, int] | None = None
        existing = b""
        with contextlib.suppress(FileNotFoundError), open(real, "rb") as file:
            found = os.fstat(file.fileno())
            owner = (found.st_uid, found.st_gid)
            existing = file.read()
        data = text(merged(existing, fresh, path)).encode()
        new = f"{real}.nsrun-new"
        # One that is there was left by a process that died, or laid there by whoever else may write to this directory, to get the token.
        with contextlib.suppress(FileNotFoundError):
            os.unlink(new)
        fd = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        try:
            with open(fd, "wb") as out:
                if owner is not None and os.geteuid() == 0:
                    # `sudo -E` must not take a user's file away.
                    os.fchown(out.fileno(), *owner)
                out.write(data)
                out.flush()
                os.fsync(out.fileno())
            os.replace(new, real)
        except OSError:
            with contextlib.suppress(OSError):
                os.unlink(new)
            raise
    except OSError as error:
        raise StepError("write", real, error.errno or 0, what="the kubeconfig could not be written") from error
