"""`nsrun login`: a user and a password for a registry, asked there first, then written down."""

from __future__ import annotations

from pathlib import Path

from nsrun.errors import PermissionDeniedError
from nsrun.images.credentials import Credentials, domain_of, store
from nsrun.images.registry import Client, RegistryError, endpoints
from nsrun.images.settings import ImageSettings


def login(registry: str, user: str, password: str, settings: ImageSettings, file: Path) -> None:
    """Asks the registry whether it knows the user, and writes it down.

    Raises:
        PermissionDeniedError: it does not.
        RegistryError: it does not answer.
    """
    domain = domain_of(registry)
    credentials = Credentials(user, password)
    client = Client(endpoints(domain, settings)[-1], "", lambda _domain: credentials)
    try:
        client.check()
    except RegistryError as error:
        if error.status in (401, 403):
            raise PermissionDeniedError(f"login: {error.brief}") from error
        raise
    finally:
        client.close()
    store(file, domain, credentials)
