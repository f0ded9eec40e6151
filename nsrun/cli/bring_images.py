"""Images brought from registries, with what is told meanwhile: what `nsrun image pull` does, without click."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Mapping, Sequence
from typing import Any

from nsrun.cli.output import data, size
from nsrun.cli.settings import Settings, note, say

RATE_S = 5.0
"""Rates are of the last so many seconds."""
_BAR = 20


class Progress:
    """What is told of layers while they come: bars on a terminal, elsewhere a line for each layer that is there."""

    def __init__(self, *, terminal: bool) -> None:
        self._terminal = terminal
        self._layers: dict[str, dict[str, Any]] = {}
        self._came: dict[str, list[tuple[float, int]]] = {}
        self._drawn = 0

    def event(self, event: dict[str, Any]) -> None:
        """Take note of a layer."""
        before = self._layers.get(event["layer"])
        self._layers[event["layer"]] = event
        if self._terminal:
            self._draw()
        elif event["state"] in ("done", "here") and (before is None or before["state"] != event["state"]):
            words = "here already" if event["state"] == "here" else "pulled"
            note(f"{_short(event)}: {words} ({size(event['total'])})")

    def end(self) -> None:
        """Nothing more comes: what was drawn is taken away."""
        if self._drawn:
            sys.stderr.write(f"\x1b[{self._drawn}F\x1b[J")
            sys.stderr.flush()
            self._drawn = 0

    def _draw(self) -> None:
        width = os.get_terminal_size(sys.stderr.fileno()).columns
        now = time.monotonic()
        lines = [self.line(layer, now)[: width - 1] for layer in self._layers.values()]
        lines.append(self.total(now)[: width - 1])
        up = f"\x1b[{self._drawn}F" if self._drawn else ""
        sys.stderr.write(up + "".join(f"{line}\x1b[K\n" for line in lines))
        sys.stderr.flush()
        self._drawn = len(lines)

    def line(self, layer: dict[str, Any], now: float) -> str:
        """One layer; `now` in seconds of any clock."""
        state = layer["state"]
        if state == "pulling":
            full = _BAR * layer["done"] // max(layer["total"], 1)
            bar = f"[{'#' * full}{'.' * (_BAR - full)}] {size(layer['done'])}/{size(layer['total'])}"
            return f"{_short(layer)}  {bar}{self._pace(layer['layer'], now, layer['done'], layer['total'])}"
        words = {"waiting": "waits", "here": "here already", "done": "pulled"}[state]
        return f"{_short(layer)}  {words} ({size(layer['total'])})"

    def total(self, now: float) -> str:
        """All layers: how much is here, how fast the rest comes, and when it will be there. `now` as for `line`."""
        done = sum(layer["done"] for layer in self._layers.values() if layer["state"] != "here")
        total = sum(layer["total"] for layer in self._layers.values() if layer["state"] != "here")
        return f"{size(done)} of {size(total)}{self._pace('', now, done, total)}"

    def _pace(self, subject: str, now: float, done: int, total: int) -> str:
        """The rate of late, and the time left at that; nothing as long as nothing came."""
        came = self._came.setdefault(subject, [])
        came.append((now, done))
        while len(came) > 2 and now - came[0][0] > RATE_S:
            came.pop(0)
        since, before = came[0]
        rate = (done - before) / (now - since) if now > since else 0.0
        return f", {size(int(rate))}/s, {max(total - done, 0) / rate:.0f} s left" if rate > 0 else ""


def _short(layer: dict[str, Any]) -> str:
    return str(layer["layer"]).removeprefix("sha256:")[:12]


def pull_images(settings: Settings, /, names: Sequence[str], *, quiet: bool = False, output: str = "text") -> int:
    """Brings images, one after the other; the exit status."""
    images = []
    for name in names:
        progress = Progress(terminal=sys.stderr.isatty() and os.environ.get("TERM") != "dumb")

        def told(event: dict[str, Any], _fds: list[int], progress: Progress = progress) -> None:
            if not quiet:
                progress.event(event)

        try:
            image = settings.session().request("image.pull", {"name": name}, on_event=told).result["image"]
        finally:
            progress.end()
        images.append(image)
        if output == "text" and not quiet:
            say(one_line(image, "pulled"))
        elif output in ("text", "name"):
            say(f"image/{image['name']}")
    if output in ("json", "yaml"):
        data({"images": images}, output)
    return 0


def one_line(image: Mapping[str, Any], done: str) -> str:
    """What became of an image."""
    return f"image/{image['name'] or image['id']} {done} ({size(image.get('size'))}, {str(image.get('id', ''))[:19]})"
