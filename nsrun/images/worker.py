"""`python -m nsrun.images.worker`: brings, or saves, images for a server, in a process of its own.

Unpacking keeps an interpreter busy and reads what strangers made: neither is for the process that answers within milliseconds, and what
it takes of memory goes with it. It runs as the server does, in its namespaces; everything it holds are locks and files that
`nsrun.images.content` gives back to the next one, so it may be killed at any moment.

    standard input   one line of JSON, the request; its end means that whoever asked is gone, and this ends
    standard output  lines of JSON: {"event": …} any number of times, then {"result": …} or {"error": …}
"""

from __future__ import annotations

import json
import os
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nsrun.errors import InternalError, NsrunError

if TYPE_CHECKING:
    from nsrun.images.crew import Member
    from nsrun.images.store import ImageStore

# What takes long to read in is read in by functions: others of a pull begin before that, and do so too.

Event = Callable[[dict[str, Any]], None]
_early: list[Member] = []


def _import(store: ImageStore, request: dict[str, Any], _event: Event) -> list[str]:
    from nsrun.plan.image import ImageConfig

    given = request["config"]
    config = ImageConfig(
        entrypoint=tuple(given["entrypoint"]),
        cmd=tuple(given["cmd"]),
        env=tuple(given["env"]),
        user=given["user"],
        workdir=given["workdir"],
        stop_signal=given["stop_signal"],
    )
    return [store.import_(request["name"], request["path"], config).digest]


def _load(store: ImageStore, request: dict[str, Any], _event: Event) -> list[str]:
    images = store.load(request["path"], fd=request.get("fd"), name=request.get("name"))
    return [image.name or image.digest for image in images]


def _save(store: ImageStore, request: dict[str, Any], _event: Event) -> list[str]:
    return [image.digest for image in store.save(request["names"], request["fd"])]


def _pull(store: ImageStore, request: dict[str, Any], event: Event) -> list[str]:
    from nsrun.images.credentials import Credentials, files
    from nsrun.images.pulling import pull_with
    from nsrun.images.settings import ImageSettings
    from nsrun.images.store import parse_name

    given = [(Credentials(one["user"], one["password"]), one["grant"]) for one in request["credentials"]]
    settings, auth_files = ImageSettings.from_data(request["settings"]), files(request["auth"])
    cores = len(os.sched_getaffinity(0))
    image = pull_with(given, parse_name(request["name"]), store, settings, auth_files, event, cores, _early)
    return [image.digest]


def _login(_store: ImageStore, request: dict[str, Any], _event: Event) -> list[str]:
    from nsrun.images.login import login
    from nsrun.images.settings import ImageSettings

    settings = ImageSettings.from_data(request["settings"])
    login(request["registry"], request["user"], request["password"], settings, Path(request["auth"]))
    return []


WORK: dict[str, Callable[[ImageStore, dict[str, Any], Event], list[str]]] = {
    "import": _import,
    "load": _load,
    "save": _save,
    "pull": _pull,
    "login": _login,
}


_saying = threading.Lock()


def _say(message: dict[str, Any]) -> None:
    with _saying:
        sys.stdout.write(json.dumps(message) + "\n")
        sys.stdout.flush()


def _end_with_input() -> None:
    sys.stdin.read()
    os._exit(1)


def main() -> int:
    """Does what one line of standard input says."""
    request = json.loads(sys.stdin.readline())
    threading.Thread(target=_end_with_input, daemon=True).start()
    if request.get("new") and len(os.sched_getaffinity(0)) > 1:
        from nsrun.images.crew import member

        _early.append(member())
    from nsrun.images.store import ImageStore

    store = ImageStore(Path(request["lib"]))
    try:
        result = WORK[request["work"]](store, request, lambda event: _say({"event": event}))
    except NsrunError as error:
        _say({"error": error.as_data() | {"reason": getattr(error, "reason", None)}})
    except Exception as error:  # a bug: the server tells of it in its log
        import traceback

        traceback.print_exc()
        bug = InternalError(f"{request['work']} an image: {type(error).__name__}: {error}")
        _say({"error": bug.as_data() | {"reason": None}})
    else:
        _say({"result": result})
    # Not sys.exit: the thread at standard input is not waited for.
    sys.stdout.flush()
    os._exit(0)


if __name__ == "__main__":
    main()
