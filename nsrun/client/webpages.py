"""The pages that a proxy to pods writes itself: the list of pods, and why something cannot be shown."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from html import escape
from typing import Any

STYLE = (
    "body { font: 16px/1.5 sans-serif; margin: 3em auto; max-width: 50em; padding: 0 1em }"
    " th, td { text-align: left; padding: .1em 1.5em .1em 0; vertical-align: top } .dim { color: #666 }"
)
TLS_PORTS = (443, 6443, 8443)


def path_of(namespace: str, name: str, port: int | str | None = None, *, tls: bool = False) -> str:
    """The path of a pod below the proxy, with a slash at its end."""
    target = ("https:" if tls else "") + name + ("" if port is None else f":{port}")
    if tls and port is None:
        target += ":"
    return f"/api/v1/namespaces/{namespace}/pods/{target}/proxy/"


def pods_page(pods: Sequence[dict[str, Any]]) -> str:
    """The front page: every pod, and a link for every port that its manifest has.

    Args:
        pods: Pod objects.
    """
    rows = "\n".join(_row(pod) for pod in pods)
    table = (
        f"<table><tr><th>Pod<th>Namespace<th>Status<th>Ports</tr>\n{rows}\n</table>" if pods else "<p>There are none."
    )
    any_port = f"Any port: <code>{escape(path_of('NAMESPACE', 'POD', 'PORT'))}</code>, with <code>https:POD:PORT</code> by TLS."
    return page("Pods", f"{table}\n<p class=dim>{any_port}")


def _row(pod: dict[str, Any]) -> str:
    metadata, namespace = pod["metadata"], pod["metadata"].get("namespace", "default")
    links = [
        f'<a href="{escape(path_of(namespace, metadata["name"], port, tls=tls))}">{port}</a>{escape(label)}'
        for port, label, tls in _ports(pod)
    ]
    cells = (
        escape(metadata["name"]),
        escape(namespace),
        escape(str(pod.get("status", {}).get("phase", ""))),
        ", ".join(links) or "<span class=dim>none in its manifest</span>",
    )
    return "<tr>" + "".join(f"<td>{cell}" for cell in cells) + "</tr>"


def _ports(pod: dict[str, Any]) -> Iterator[tuple[int, str, bool]]:
    for container in (*(pod["spec"].get("initContainers") or ()), *pod["spec"]["containers"]):
        for port in container.get("ports") or ():
            if port.get("protocol", "TCP") == "TCP":
                number, name = int(port["containerPort"]), str(port.get("name") or "")
                yield number, f" ({name})" if name else "", number in TLS_PORTS or name.startswith("https")


def page(title: str, body: str) -> str:
    """A whole page.

    Args:
        title: text.
        body: HTML.
    """
    return (
        f'<!doctype html>\n<meta charset="utf-8"><title>{escape(title)} - nsrun</title>\n<style>{STYLE}</style>\n'
        f"<h1>{escape(title)}</h1>\n{body}\n"
    )


def refusal_page(code: int, reason: str, message: str, hint: str) -> str:
    """A page that says what went wrong, for people."""
    more = f"<p class=dim>{escape(hint)}" if hint else ""
    return page(f"{code} {reason}", f"<p>{escape(message)}\n{more}")


def refusal_status(code: int, reason: str, message: str) -> str:
    """The same for programs: a Status as the API server gives it."""
    status = {
        "kind": "Status",
        "apiVersion": "v1",
        "metadata": {},
        "status": "Failure",
        "message": message,
        "reason": reason,
        "code": code,
    }
    return json.dumps(status) + "\n"
