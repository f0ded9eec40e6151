"""The Kubernetes API's streams: a command there and back, and bytes through a forwarded port in kubectl's framing."""

from __future__ import annotations

import re
import subprocess
import sys
import time
import urllib.parse
from collections.abc import Iterator
from contextlib import contextmanager

import websocket

from nsrun.api.streams import spdy
from tests.bench.forward import BYTES, SOURCE, manifest
from tests.bench.measure import Figure, Sample, in_turn
from tests.bench.nsrun_side import Nsrun

PATH = "/api/v1/namespaces/default/pods/peer"


@contextmanager
def served(side: Nsrun) -> Iterator[str]:
    """The address of an API of this root."""
    words = [
        sys.executable,
        "-m",
        "nsrun.api",
        "--root",
        str(side.root),
        "serve",
        "--listen=127.0.0.1:0",
        "--insecure-http",
    ]
    process = subprocess.Popen(words, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    try:
        found = re.search(r":(\d+)$", process.stdout.readline().strip())
        assert found is not None
        yield f"ws://127.0.0.1:{found[1]}"
    finally:
        process.terminate()
        process.wait()
        process.stdout.close()


def execute(address: str) -> float:
    """Milliseconds of `true`, from the connection to the end."""
    query = urllib.parse.urlencode({"container": "peer", "command": "true", "stdout": "true"})
    begun = time.perf_counter()
    ws = websocket.create_connection(f"{address}{PATH}/exec?{query}", subprotocols=["v5.channel.k8s.io"])
    last = b""
    while True:
        opcode, data = ws.recv_data()
        if opcode == websocket.ABNF.OPCODE_CLOSE:
            break
        last = data
    spent = time.perf_counter() - begun
    ws.shutdown()  # type: ignore[no-untyped-call] # the library's
    assert b"Success" in last, last
    return spent * 1000


def rate(address: str) -> float:
    """MB/s that come through a port: SPDY in the messages of a WebSocket."""
    ws = websocket.create_connection(f"{address}{PATH}/portforward", subprotocols=["SPDY/3.1+portforward.k8s.io"])
    encoder, decoder = spdy.Encoder(), spdy.Decoder()
    about = {"port": str(SOURCE), "requestid": "0"}
    ws.send_binary(encoder.syn_stream(1, {"streamtype": "error", **about}, fin=True))
    ws.send_binary(encoder.syn_stream(3, {"streamtype": "data", **about}))
    wish = b"%d\n" % BYTES
    begun, left = time.monotonic(), BYTES
    ws.send_binary(spdy.data_head(3, len(wish)) + wish)
    while left:
        for frame in decoder.feed(ws.recv_data()[1]):
            if isinstance(frame, spdy.Data) and frame.stream == 3:
                left -= len(frame.data)
                assert left == 0 or not frame.fin
    spent = time.monotonic() - begun
    ws.shutdown()  # type: ignore[no-untyped-call] # the library's
    return BYTES / spent / 1e6


def api_streams(side: Nsrun, runs: int) -> list[Figure]:
    """The figures."""
    with side.connect() as client, client.up(manifest()) as pod, served(side) as address:
        pod.wait_ready(30)
        commands = in_turn(runs, nsrun=lambda: execute(address))["nsrun"]
        rates = in_turn(max(3, runs // 3), nsrun=lambda: rate(address))["nsrun"]
    return [
        figure("exec through the Kubernetes API", "ms", commands, "at most 15", commands.median <= 15),
        figure("port-forward in kubectl's framing", "MB/s", rates, "at least 300", rates.median >= 300),
    ]


def figure(name: str, unit: str, sample: Sample, wanted: str, holds: bool) -> Figure:
    """A row that has nobody beside it."""
    return Figure(name, unit, sample.median, wanted, holds)
