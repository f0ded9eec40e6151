"""What `nsrun pod up` does, without click: bringing a pod up is not to wait for the parsing of words it does not need."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from nsrun.cli.output import clean, data
from nsrun.cli.settings import Settings, coloured, note, paint, say
from nsrun.client import manifests, requests
from nsrun.errors import EXIT_CODES, UsageError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

UP_TIMEOUT_S = 300.0


class Progress:
    """What happens while waiting: one line for each pod, rewritten on a terminal, plain lines elsewhere."""

    def __init__(self) -> None:
        self._live = coloured(sys.stderr) or (sys.stderr.isatty() and not sys.stderr.closed)
        self._lines: dict[str, str] = {}
        self._painted = 0

    def __call__(self, event: dict[str, Any]) -> None:
        """Show one event of the server's."""
        pod = clean(str(event.get("pod", ""))).removeprefix("default/")
        text = clean(str(event.get("text", "")))
        if event.get("kind") == "warning":
            self.clear()
            note(paint("Warning:", "yellow", sys.stderr) + f" pod/{pod}: {text}")
        elif not self._live:
            note(f"pod/{pod}: {text}")
        else:
            self._lines[pod] = text
            self._repaint()

    def _repaint(self) -> None:
        width = 79
        lines = [
            f"{paint('pod/' + pod, 'bold', sys.stderr)}: {text[: width - len(pod) - 6]}"
            for pod, text in self._lines.items()
        ]
        # Only the last lines: what has scrolled out of the window cannot be rewritten.
        lines = lines[-10:]
        back = f"\x1b[{self._painted}A\r\x1b[J" if self._painted else ""
        sys.stderr.write(back + "".join(line + "\n" for line in lines))
        sys.stderr.flush()
        self._painted = len(lines)

    def clear(self) -> None:
        """Take the live lines away."""
        if self._painted:
            sys.stderr.write(f"\x1b[{self._painted}A\r\x1b[J")
            sys.stderr.flush()
            self._painted = 0


def files_of(positional: Sequence[str], named: Sequence[str]) -> list[str]:
    """FILE… and -f together; at least one."""
    files = [*positional, *named]
    if not files:
        raise UsageError(
            "no manifest was given",
            details="A manifest is a file, a directory of .yaml, .yml and .json files, or - for standard input.",
            resolution="nsrun pod up pod.yaml",
        )
    return files


def bring_up(
    settings: Settings,
    files: Sequence[str] = (),
    *,
    filename: Sequence[str] = (),
    recursive: bool = False,
    namespace: str | None = None,
    replace: bool = False,
    wait: requests.Wait = "running",
    no_wait: bool = False,
    timeout: float = UP_TIMEOUT_S,
    attach: bool = False,
    ignore_unsupported: bool = False,
    time_scale: float | None = None,
    output: str = "text",
) -> int:
    """`nsrun pod up`."""
    documents = manifests.read(files_of(files, filename), recursive=recursive)
    waited: requests.Wait = "none" if no_wait else wait
    progress = Progress()
    try:
        result = requests.up(
            settings.session(),
            documents,
            namespace=namespace,
            replace=replace,
            ignore_unsupported=ignore_unsupported,
            time_scale=time_scale,
            wait=waited,
            timeout=timeout,
            on_progress=progress if output == "text" else None,
        )
    finally:
        progress.clear()
    pods = result["pods"]
    kept = result.get("objects") or []
    for pod in pods:
        for warning in pod.get("warnings") or []:
            note(paint("Warning:", "yellow", sys.stderr) + f" pod/{pod['name']}: {clean(warning)}")
    if output in ("json", "yaml"):
        data(result, output)
    else:
        for one in kept:
            say(object_line(one, output))
        for pod in pods:
            say(f"pod/{pod['name']}" if output == "name" else sentence(pod, waited))
    return follow(settings, pods) if attach else 0


def object_line(one: dict[str, Any], output: str) -> str:
    """`configmap/web created`."""
    return f"{one['kind'].lower()}/{one['name']}" + ("" if output == "name" else f" {one['verdict']}")


def sentence(pod: dict[str, Any], waited: requests.Wait) -> str:
    """`pod/web created and running`."""
    verdict = str(pod.get("verdict", "created"))
    text = f"pod/{pod['name']} {verdict}"
    changes = pod.get("changes") or []
    if verdict in ("configured", "replaced") and changes:
        text += f" ({', '.join(map(clean, changes))})"
    if waited == "none":
        return text
    phase = str(pod.get("phase") or "")
    state = "ready" if waited == "ready" and phase == "Running" else phase.lower()
    return f"{text} and {state}" if state else text


def follow(settings: Settings, pods: Sequence[dict[str, Any]]) -> int:
    """Follow the logs of pods until they end; Ctrl-C takes the pods down."""
    from nsrun.cli import read_logs

    session = settings.session()
    try:
        found = [
            session.request("pod.get", {"name": pod["name"], "namespace": pod["namespace"]}).result["pod"]
            for pod in pods
        ]
        queries = [query for pod in found for query in read_logs.queries_of_pod(pod)]
        read_logs.write(settings, queries, follow=True, timestamps=False, prefix=len(queries) > 1)
        for pod in found:
            metadata = pod["metadata"]
            last = session.request("pod.get", {"name": metadata["name"], "namespace": metadata["namespace"]}).result[
                "pod"
            ]
            if (last.get("status") or {}).get("phase") == "Failed":
                note(f"pod/{metadata['name']} failed")
                return EXIT_CODES["pod-failed"]
        return 0
    except KeyboardInterrupt:
        note(
            "Taking down "
            + ", ".join(f"pod/{pod['name']}" for pod in pods)
            + " (Ctrl-C once more leaves that to the server)"
        )
        for pod in pods:
            which = {"names": [pod["name"]], "namespace": pod["namespace"]}
            requests.down(session, which, missing_ok=True)
        return 130
