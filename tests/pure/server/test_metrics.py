"""Metrics: their text as Prometheus reads it, where they are to be had, and who asks for them badly."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Coroutine
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from prometheus_client.parser import text_string_to_metric_families

from nsrun.cgroups.usage import Usage
from nsrun.errors import SpecError
from nsrun.network.traffic import Traffic
from nsrun.plan.resources import Limits
from nsrun.server import metrics, scrape
from nsrun.server.metrics_settings import Address, address_of, addresses
from nsrun.server.stats import ContainerTarget, PodSample, PodTarget

FULL = Usage(
    cpu_ns=1_500_000_000, cpu_user_ns=1, cpu_system_ns=2, periods=3, throttled_periods=4, throttled_ns=5,
    memory=6, working_set=7, rss=8, cache=9, mapped_file=10, swap=11, memory_peak=12, memory_failures=13,
    page_faults=14, major_page_faults=15, oom_kills=16, processes=17, threads=18,
    read_bytes=19, written_bytes=20, reads=21, writes=22,
)  # fmt: skip


def sample(name: str, image: str, usage: Usage = FULL) -> PodSample:
    """A pod with a container."""
    container = ContainerTarget("app", f"id-{name}", image, 100.25, Limits(("cpu", "memory"), 256, 50_000, 100_000, 64))
    target = PodTarget("default", name, f"uid-{name}", 99.5, "nsrx", Limits(), (container,))
    return PodSample(target, 1000.5, 1, usage, Traffic(*range(1, 9)), ((container, usage),))


def parsed(page: bytes) -> dict[str, list[Any]]:
    """The samples by name; each series stands there once, and all of a metric together."""
    text = page.decode()
    families = list(text_string_to_metric_families(text))
    assert len({family.name for family in families}) == len(families), "a metric is in two places"
    found: dict[str, list[Any]] = {}
    seen = set()
    for family in families:
        assert family.type in ("counter", "gauge")
        assert family.documentation
        for one in family.samples:
            key = (one.name, tuple(sorted(one.labels.items())))
            assert key not in seen
            seen.add(key)
            found.setdefault(one.name, []).append(one)
    return found


def cgroup(uid: str, container: str | None) -> str:
    """A path."""
    return f"/nsrun/pod-{uid}" + (f"/{container}" if container else "")


def test_metrics_names_labels_and_values_of_cadvisor() -> None:
    found = parsed(metrics.containers([sample("web", "app:1"), sample("db", "db:2")], cgroup))
    cpu = found["container_cpu_usage_seconds_total"]
    assert [one.value for one in cpu] == [1.5] * 4
    assert cpu[1].labels == {
        "container": "app", "cpu": "total", "id": "/nsrun/pod-uid-web/id-web", "image": "app:1", "name": "id-web",
        "namespace": "default", "pod": "web",
    }  # fmt: skip
    assert cpu[0].labels == {
        "container": "", "cpu": "total", "id": "/nsrun/pod-uid-web", "image": "", "name": "", "namespace": "default",
        "pod": "web",
    }  # fmt: skip
    of_app = {
        name: one.value
        for name, several in found.items()
        for one in several
        if one.labels["name"] == "id-web" and one.labels.get("failure_type") != "pgmajfault"
    }
    assert of_app == {
        "container_cpu_usage_seconds_total": 1.5, "container_cpu_user_seconds_total": 1e-9,
        "container_cpu_system_seconds_total": 2e-9, "container_cpu_cfs_periods_total": 3,
        "container_cpu_cfs_throttled_periods_total": 4, "container_cpu_cfs_throttled_seconds_total": 5e-9,
        "container_memory_usage_bytes": 6, "container_memory_working_set_bytes": 7, "container_memory_rss": 8,
        "container_memory_cache": 9, "container_memory_mapped_file": 10, "container_memory_swap": 11,
        "container_memory_max_usage_bytes": 12, "container_memory_failcnt_total": 13,
        "container_memory_failures_total": 14, "container_oom_events_total": 16, "container_processes": 17,
        "container_threads": 18, "container_fs_reads_bytes_total": 19, "container_fs_writes_bytes_total": 20,
        "container_fs_reads_total": 21, "container_fs_writes_total": 22, "container_spec_cpu_period": 100_000,
        "container_spec_cpu_quota": 50_000, "container_spec_cpu_shares": 256, "container_spec_memory_limit_bytes": 64,
        "container_last_seen": 1000, "container_start_time_seconds": 100.25,
    }  # fmt: skip
    received = found["container_network_receive_bytes_total"]
    assert [(one.labels["pod"], one.labels["interface"], one.labels["container"], one.value) for one in received] == [
        ("web", "eth0", "", 1),
        ("db", "eth0", "", 1),
    ]
    assert found["container_network_transmit_packets_dropped_total"][0].value == 8
    assert found["container_network_receive_errors_total"][0].value == 3
    assert {one.labels["container"] for one in found["container_spec_cpu_quota"]} == {"app"}, "the pod has none"


def test_metrics_what_nobody_counts_is_not_there() -> None:
    found = parsed(metrics.containers([sample("web", "app:1", Usage(processes=1))], cgroup))
    assert not {name for name in found if name.startswith(("container_memory", "container_cpu", "container_fs"))}
    assert [one.value for one in found["container_processes"]] == [1, 1]
    assert metrics.containers([], cgroup) == b""


@settings(deadline=None)  # the first call builds tables
@given(
    st.text(alphabet=st.characters(codec="utf-8")),
    st.text(alphabet=st.characters(codec="utf-8")),
)
def test_metrics_whatever_a_label_holds(name: str, image: str) -> None:
    # The parser in Python splits lines where str.splitlines does; Prometheus at newlines alone.
    for other in "\r\x0b\x0c\x1c\x1d\x1e\x85\u2028\u2029":
        name, image = name.replace(other, ""), image.replace(other, "")
    one = parsed(metrics.containers([sample(name, image)], cgroup))["container_processes"][1]
    assert (one.labels["pod"], one.labels["image"], one.value) == (name, image, 17)


def test_metrics_of_the_server_and_the_machine() -> None:
    process = {"cpu_seconds_total": 1.25, "open_fds": 3}
    facts = metrics.ServerFacts("1.2", "node-1", 2, 1024, 5, {"running": 3, "exited": 1, "created": 0}, process)
    found = parsed(metrics.server(facts))
    values = {name: several[0].value for name, several in found.items() if len(several) == 1}
    assert values == {
        "machine_cpu_cores": 2, "machine_memory_bytes": 1024, "kubelet_node_name": 1, "kubelet_running_pods": 5,
        "nsrun_build_info": 1, "process_cpu_seconds_total": 1.25, "process_open_fds": 3,
    }  # fmt: skip
    states = {one.labels["container_state"]: one.value for one in found["kubelet_running_containers"]}
    assert states == {"running": 3, "exited": 1, "created": 0}


@pytest.mark.parametrize(
    ("text", "address", "exposed"),
    [
        ("9460", Address(host="127.0.0.1", port=9460), False),
        (":9460", Address(host="127.0.0.1", port=9460), False),
        ("127.0.0.1:1", Address(host="127.0.0.1", port=1), False),
        ("[::1]:65535", Address(host="::1", port=65535), False),
        ("0.0.0.0:80", Address(host="0.0.0.0", port=80), True),
        ("[::]:80", Address(host="::", port=80), True),
        ("unix:/run/x.sock", Address(path="/run/x.sock"), False),
    ],
)
def test_metrics_addresses(text: str, address: Address, exposed: bool) -> None:
    assert address_of(text) == address
    assert address.exposed == exposed
    assert address_of(str(address)) == address


@pytest.mark.parametrize(
    "text",
    ["", ":", "web:80", "127.0.0.1", "127.0.0.1:0", "127.0.0.1:65536", "1.2.3.4.5:80", "unix:", "unix:x", "unix:/" + "x" * 108,
     "127.0.0.1:８０", "[fe80::1%eth0]:80", "unix:/a\0b"],
)  # fmt: skip
def test_metrics_what_is_no_address(text: str) -> None:
    with pytest.raises(SpecError, match="metrics cannot be had at"):
        address_of(text)


def test_metrics_the_configuration() -> None:
    one, other = Address(host="127.0.0.1", port=1), Address(path="/x")
    assert addresses(None) == ()
    assert addresses({"listen": "127.0.0.1:1"}) == (one,)
    assert addresses({"listen": [":1", "127.0.0.1:1", "unix:/x"]}) == (one, other)
    assert addresses({"listen": [":1"]}, ["unix:/x"]) == (other,)
    for wrong in ({"port": 1}, {"listen": 5}, {"listen": [5]}):
        with pytest.raises(SpecError, match=r"table \[metrics\]"):
            addresses(wrong)


# the endpoint, on a socket of its own, with pods that take a moment to look at


class Looks:
    """Stands where nsrun.server.stats.Stats stands; counts how often it was asked."""

    def __init__(self) -> None:
        self.count = 0
        self.go_on = asyncio.Event()

    async def take(self, _pods: object, *, containers: bool) -> list[PodSample]:
        """After a while."""
        assert containers
        self.count += 1
        await self.go_on.wait()
        return [sample(f"pod-{number}", "x" * 200) for number in range(300)]


def endpoint(path: Path, work: Callable[[Path, Looks, scrape.Endpoint], Coroutine[Any, Any, None]]) -> None:
    """Run `work` with an endpoint that listens at a path."""

    async def main() -> None:
        looks = Looks()
        node = SimpleNamespace(name="n", cpus=1, memory=1)
        world = cast("Any", SimpleNamespace(node=node, began_at=1.0, cgroups=SimpleNamespace(name=cgroup)))
        one = scrape.Endpoint(world, cast("Any", []), cast("Any", looks), (Address(path=str(path)),))
        one.begin()
        await until(lambda: bool(one._servers or one.status()[0]["error"]))
        try:
            await work(path, looks, one)
        finally:
            looks.go_on.set()
            await one.close()

    asyncio.run(main())


async def until(condition: Callable[[], bool]) -> None:
    """Return once it holds."""
    while not condition():  # noqa: ASYNC110 - nobody tells of it
        await asyncio.sleep(0.005)


async def ask(path: Path, request: bytes, *, read: bool = True) -> tuple[bytes, bytes]:
    """Head and body of an answer."""
    reader, writer = await asyncio.open_unix_connection(path)
    try:
        writer.write(request)
        data = await reader.read() if read else b""
    except ConnectionResetError:
        data = b""
    writer.close()
    head, _, body = data.partition(b"\r\n\r\n")
    return head, body


GET = b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n"


def test_metrics_over_http(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scrape, "FRESH_S", 60.0)

    async def work(path: Path, looks: Looks, one: scrape.Endpoint) -> None:
        looks.go_on.set()
        head, body = await ask(path, GET)
        assert head.startswith(b"HTTP/1.1 200 OK\r\n")
        assert b"Content-Type: text/plain; version=0.0.4; charset=utf-8" in head
        assert f"Content-Length: {len(body)}".encode() in head
        assert {"kubelet_running_pods", "container_processes"} <= parsed(body).keys()
        head, body = await ask(path, GET.replace(b"/metrics", b"/metrics/cadvisor?x=1"))
        assert "kubelet_running_pods" not in parsed(body)
        assert looks.count == 1, "told again what is fresh"
        head, body = await ask(path, GET.replace(b"GET", b"HEAD"))
        assert (head[:15], body) == (b"HTTP/1.1 200 OK", b"")
        for request, status in (
            (b"GET / HTTP/1.1\r\n\r\n", b"404"),
            (b"POST /metrics HTTP/1.1\r\n\r\n", b"405"),
            (b"\x16\x03\x01\r\n\r\n", b"400"),
            (b"GET /metrics\r\n\r\n", b"400"),
            (b"GET /metrics HTTP/1.1\r\nX: " + b"x" * 9000 + b"\r\n\r\n", b"431"),
        ):
            head, body = await ask(path, request)
            assert head.split()[1] == status, request
            assert body
        assert one.status() == [{"address": f"unix:{path}", "error": ""}]
        assert [check.ok for check in one.checks()] == [True]

    endpoint(tmp_path / "m", work)
    assert not (tmp_path / "m").exists()


def test_metrics_all_who_ask_meanwhile_share_one_look(tmp_path: Path) -> None:
    async def work(path: Path, looks: Looks, _one: scrape.Endpoint) -> None:
        asked = [asyncio.create_task(ask(path, GET)) for _ in range(8)]
        gone = asyncio.create_task(ask(path, GET, read=False))
        await gone
        await until(lambda: looks.count > 0)
        looks.go_on.set()
        assert len({body for _, body in await asyncio.gather(*asked)}) == 1
        assert looks.count == 1

    endpoint(tmp_path / "m", work)


def test_metrics_slow_and_many_clients_are_hung_up_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scrape, "REQUEST_S", 0.3)
    monkeypatch.setattr(scrape, "ANSWER_S", 0.3)

    async def work(path: Path, looks: Looks, _one: scrape.Endpoint) -> None:
        looks.go_on.set()
        idle = [await asyncio.open_unix_connection(path) for _ in range(scrape.CONNECTIONS)]
        idle[0][1].write(b"GET /met")
        await asyncio.sleep(0.05)
        assert await ask(path, GET) == (b"", b""), "one too many"
        for reader, writer in idle:
            with contextlib.suppress(ConnectionResetError):
                assert await asyncio.wait_for(reader.read(), 5) == b""
            writer.close()
        # Asks, and reads nothing of a page that is longer than what the kernel holds.
        reader, writer = await asyncio.open_unix_connection(path, limit=1024)
        writer.write(GET)
        await asyncio.sleep(1.0)
        with contextlib.suppress(ConnectionResetError):
            data = await asyncio.wait_for(reader.read(), 5)
            whole = (await ask(path, GET))[1]
            assert len(data) < len(whole)
        writer.close()
        assert (await ask(path, GET))[0].startswith(b"HTTP/1.1 200")

    endpoint(tmp_path / "m", work)


def test_metrics_what_lies_where_they_are_to_be_had(tmp_path: Path) -> None:
    import socket

    left = tmp_path / "left"
    with socket.socket(socket.AF_UNIX) as old:
        old.bind(str(left))

    async def replaced(path: Path, looks: Looks, _one: scrape.Endpoint) -> None:
        looks.go_on.set()
        assert (await ask(path, GET))[0].startswith(b"HTTP/1.1 200")

    endpoint(left, replaced)
    kept = tmp_path / "kept"
    kept.write_text("mine")

    async def refused(_path: Path, _looks: Looks, one: scrape.Endpoint) -> None:
        assert "EEXIST" in one.status()[0]["error"]
        assert [check.ok for check in one.checks()] == [False]

    endpoint(kept, refused)
    assert kept.read_text() == "mine"
