"""Rotation of logs, who reads them meanwhile, and what is kept, on real files and a real shim."""

from __future__ import annotations

import contextlib
import errno
import gzip
import os
import random
import signal
import subprocess
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from nsrun.client.logs import Follower, Query, read
from nsrun.client.roots import find
from nsrun.client.session import Session
from nsrun.errors import NsrunError
from nsrun.reconcile.rotation import attempts_in, files_of, leftovers
from nsrun.server.rotation import compress
from tests.chance import SEED
from tests.host.server.harness import Server, box, pod, texts, until

SIZE = 64 * 1024
IMPATIENT = Path(__file__).parent / "impatient"


def configure(server: Server, text: str) -> None:
    """Have all servers from here on look at the logs twenty times a second."""
    server.kill()
    server.host.environment["PYTHONPATH"] = server.environment["PYTHONPATH"] = str(IMPATIENT)
    directory = server.root / "etc"
    directory.mkdir(exist_ok=True)
    (directory / "config.toml").write_text(f'containerLogMonitorInterval = "50ms"\n{text}\n')
    server.start()


@pytest.fixture
def rotating(server: Server, monkeypatch: pytest.MonkeyPatch) -> Server:
    """A server that rotates at 64 KiB."""
    # The client in this process may start servers as well.
    monkeypatch.setenv("PYTHONPATH", str(IMPATIENT))
    configure(server, 'containerLogMaxSize = "64Ki"')
    return server


def directory(server: Server, name: str, container: str = "a") -> Path:
    return Path(server.runtime(name)["log_directory"]) / container


def content(path: Path) -> bytes:
    return gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()


def numbers(data: bytes) -> list[int]:
    return [int(line.split()[0]) for line in texts(data)]


def kept(where: Path, attempt: int = 0) -> list[Path]:
    return [where / str(name) for name in files_of(os.listdir(where), attempt)]


def written(where: Path, last: int, packed: int = 3) -> None:
    """Wait until line `last` is in the log, five files are there and nothing is left to be compressed."""

    def there() -> bool:
        try:
            files = kept(where)
            lines = [numbers(content(path)) for path in files[-2:]]
            calm = len(content(files[-1])) < SIZE
        except FileNotFoundError:
            return False  # it is renamed at this moment
        done = sum(path.suffix == ".gz" for path in files) >= packed
        return len(files) == 5 and done and calm and [last] in [one[-1:] for one in lines]

    until(there, 90)
    until(lambda: not leftovers(os.listdir(where), 0))


def test_S_LOG_five_files_the_older_ones_compressed_and_every_line_in_its_place(rotating: Server) -> None:
    rotating.up(pod("busy", box("a", "then", "lines", "60000", "100", "20", ";", "pause"), restartPolicy="Never"))
    where = directory(rotating, "busy")
    written(where, 60000)
    files = kept(where)
    assert [path.suffix for path in files[:3]] == [".gz"] * 3
    assert files[-1].name == "0.log"
    assert len(os.listdir(where)) == 5
    assert all(len(content(path)) >= SIZE for path in files[:-1])
    found = [number for path in files for number in numbers(content(path))]
    assert found == list(range(found[0], 60001))
    # What gzip itself makes of it.
    unpacked = subprocess.run(["gzip", "-dc", files[0]], capture_output=True, check=True).stdout
    assert unpacked == content(files[0])
    assert files[0].stat().st_mode & 0o777 == files[-1].stat().st_mode & 0o777
    rotating.down("busy")
    assert not where.exists()


def test_S_LOG_the_link_that_collectors_follow_leads_to_the_file_being_written(rotating: Server) -> None:
    rotating.up(pod("linked", box("a", "pause"), box("a-b", "pause")))
    links = rotating.root / "log" / "containers"
    ids = {one["name"]: one["id"] for one in rotating.runtime("linked")["instances"]}
    expected = {
        f"linked_default_{name}-{ids[name]}.log": str(directory(rotating, "linked", name) / "0.log")
        for name in ("a", "a-b")
    }
    assert {path.name: os.readlink(path) for path in links.iterdir()} == expected
    # One that was killed before it made the link: the next one does.
    (links / next(iter(expected))).unlink()
    rotating.kill()
    assert rotating.names() == ["linked"]
    until(lambda: {path.name for path in links.iterdir()} == set(expected))
    rotating.down("linked")
    assert list(links.iterdir()) == []


@pytest.mark.parametrize("made", [False, True])
def test_S_LOG_a_server_killed_between_renaming_and_reopening_loses_nothing(rotating: Server, made: bool) -> None:
    rotating.up(pod("half", box("a", "lines", "-1", "100", "1000")))
    where = directory(rotating, "half")
    until(lambda: (where / "0.log").stat().st_size > 500)
    rotating.kill()
    # As it is when the server dies there: the shim writes to a file that has another name by now.
    os.rename(where / "0.log", where / "0.log.20200101-000000")
    if made:
        (where / "0.log").touch()
    before = (where / "0.log.20200101-000000").stat().st_size
    until(lambda: (where / "0.log.20200101-000000").stat().st_size > before)
    (where / "0.log.20200102-000000.tmp").write_bytes(b"half of it")
    session = Session(find(rotating.root))
    seen: list[int] = []
    with contextlib.closing(Follower(session, [Query("half", None, "a")])) as follower:
        for batch in follower.lines():
            seen += [int(line.text.split()[0]) for line in batch]
            if seen[-1] > 3000:
                break
    session.close()
    first = seen[0]
    assert seen == list(range(first, first + len(seen)))
    assert not (where / "0.log.20200102-000000.tmp").exists()
    until(lambda: (where / "0.log").stat().st_size > 0)
    rotating.down("half")


def test_S_LOG_a_log_that_somebody_removed_is_made_again(rotating: Server) -> None:
    rotating.up(pod("robbed", box("a", "lines", "-1", "100", "1000")))
    where = directory(rotating, "robbed")
    (where / "0.log").unlink()
    until(lambda: (where / "0.log").exists() and (where / "0.log").stat().st_size > 0)
    rotating.down("robbed")


def test_S_LOG_reading_rotated_files(rotating: Server) -> None:
    rotating.up(pod("read", box("a", "then", "lines", "30000", "100", "20", ";", "pause"), restartPolicy="Never"))
    where = directory(rotating, "read")
    written(where, 30000)
    everything = [number for path in kept(where) for number in numbers(content(path))]
    session = Session(find(rotating.root))

    def lines(**query: Any) -> list[int]:
        asked = Query("read", None, "a", **query)
        return [int(line.text.split()[0]) for batch in read(session, [asked]) for line in batch]

    assert lines() == everything
    for count in (0, 1, 100, 1000, len(everything) - 1, len(everything), len(everything) + 5):
        assert lines(tail=count) == everything[max(len(everything) - count, 0) :], count
    oldest = content(kept(where)[0]).split(b"\n")
    for position in (1, len(oldest) // 2):
        moment = oldest[position].split(b" ")[0].decode().removesuffix("Z")
        expected = [number for path in kept(where) for number in numbers(since(content(path), moment))]
        assert lines(since=moment) == expected
    session.close()
    rotating.down("read")


def since(data: bytes, moment: str) -> bytes:
    return b"".join(
        line + b"\n" for line in data.split(b"\n")[:-1] if line.split(b" ")[0].decode().removesuffix("Z") >= moment
    )


@pytest.mark.timeout(300)
def test_S_LOG_every_line_once_and_in_order_over_rotations_and_dead_servers(rotating: Server) -> None:
    dice = random.Random(SEED)
    count = 400_000 if os.environ.get("NSRUN_SOAK") else 200_000
    # An instance that writes all of it, a pause so that followers see a quiet time as well, and the end.
    wish = pod("follow", box("a", "then", "lines", str(count), "80", "8", ";", "exit", "3"), restartPolicy="Never")
    rotating.up(wish, wait="none")
    where = directory(rotating, "follow")
    until(lambda: (where / "0.log").exists())
    session = Session(find(rotating.root))
    found: list[int] = []
    problems: list[BaseException] = []

    def follow() -> None:
        try:
            for batch in Follower(session, [Query("follow", None, "a")]).lines():
                found.extend(int(line.text.split()[0]) for line in batch)
        except BaseException as error:
            problems.append(error)

    reader = threading.Thread(target=follow, daemon=True)
    reader.start()
    killed, rotations = 0, set()
    deadline = time.monotonic() + 200
    while reader.is_alive() and time.monotonic() < deadline:
        time.sleep(dice.uniform(0, 0.7))
        rotations |= {str(name.stamp) for name in files_of(os.listdir(where), 0) if name.rotated}
        killed += rotating.kill()
        rotating.names()
    reader.join(10)
    session.close()
    assert not problems, problems
    assert not reader.is_alive()
    assert killed >= 4, f"NSRUN_SEED={SEED}"
    assert len(rotations) >= 5, f"NSRUN_SEED={SEED}"
    wrong = next((index for index, number in enumerate(found) if number != index + 1), None)
    assert wrong is None, f"NSRUN_SEED={SEED}: line {found[wrong]} after {found[wrong - 1 : wrong]}"
    assert len(found) == count, f"NSRUN_SEED={SEED}"
    rotating.down("follow")


def follow_into(follower: Follower, seen: list[int]) -> None:
    for batch in follower.lines():
        seen.extend(int(line.text.split()[0]) for line in batch)


@pytest.mark.timeout(120)
def test_S_LOG_on_a_full_disk_the_container_waits_and_no_line_is_lost(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTHONPATH", str(IMPATIENT))
    logs = server.root / "log"
    server.kill()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=640k,mode=0700", "tmpfs", logs], check=True)
    try:
        configure(server, 'containerLogMaxSize = "96Ki"\ncontainerLogMaxFiles = 20')
        ballast = logs / "ballast"
        ballast.write_bytes(b"x" * (640 - 232) * 1024)
        server.up(pod("full", box("a", "then", "lines", "4000", "100", "500", ";", "pause"), restartPolicy="Never"))
        where = directory(server, "full")
        session = Session(find(server.root))
        follower = Follower(session, [Query("full", None, "a")])
        seen: list[int] = []
        reader = threading.Thread(target=follow_into, args=(follower, seen), daemon=True)
        reader.start()
        # Mostly there is no room for the packed form of a file beside it, and then none for more lines; but packing may keep pace.
        until(lambda: any(name.rotated for name in files_of(os.listdir(where), 0)), 30)

        def blocked() -> bool:
            with contextlib.suppress(OSError), open(logs / "more", "ab", buffering=0) as more:
                while True:
                    more.write(b"x" * 1024)
            return bool(server.runtime("full")["instances"][0]["log_error"] == errno.ENOSPC)

        until(blocked, 30)
        server.kill()
        assert server.runtime("full")["instances"][0]["log_error"] == errno.ENOSPC
        ballast.unlink()
        (logs / "more").unlink()

        everything = list(range(1, 4001))

        def whole() -> bool:
            with contextlib.suppress(FileNotFoundError):
                return [number for path in kept(where) for number in numbers(content(path))] == everything
            return False

        until(whole, 30)
        until(lambda: any(path.suffix == ".gz" for path in kept(where)) and not leftovers(os.listdir(where), 0), 30)
        assert whole()
        until(lambda: len(seen) >= 4000, 20, f"the follower has {len(seen)} lines")
        assert seen == everything
        server.down("full")
        reader.join(10)
        assert not reader.is_alive()
        session.close()
    finally:
        server.kill()
        # Lazily: what a failure has left alive there must not hide it.
        subprocess.run(["umount", "--lazy", logs], check=True)


def test_S_LOG_what_there_is_no_room_to_pack_stays(tmp_path: Path) -> None:
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", tmp_path], check=True)
    try:
        file = tmp_path / "0.log.20260101-000000"
        file.write_bytes(os.urandom(40 * 1024))
        before = file.read_bytes()
        with pytest.raises(OSError, match="No space left on device"):
            compress(file, threading.Event())
        assert os.listdir(tmp_path) == [file.name]
        assert file.read_bytes() == before
    finally:
        subprocess.run(["umount", tmp_path], check=True)


def test_S_KEEP_exactly_one_dead_instance_is_kept(rotating: Server) -> None:
    script = ("then", "echo", "here", ";", "failing", "/dev/shm/n", "1", "2")
    rotating.up(pod("again", box("a", *script), restartPolicy="OnFailure"), wait="none")
    until(lambda: rotating.container("again", "a")["restartCount"] == 1, 30)
    where, links = directory(rotating, "again"), rotating.root / "log" / "containers"
    (where / "0.log.20260101-000000.gz").write_bytes(gzip.compress(b""))
    # One instance runs, one that ended is kept.
    assert attempts_in(os.listdir(where)) == [0, 1]
    assert len(list(links.iterdir())) == 2
    assert rotating.lines("again", "a", previous=True) == ["here", "run 1"]
    # Now that one is the newest dead one, and the other goes with all its files and its link.
    until(lambda: rotating.get("again")["status"]["phase"] == "Succeeded", 30)
    until(lambda: attempts_in(os.listdir(where)) == [1], 10)
    assert [os.readlink(path) for path in links.iterdir()] == [str(where / "1.log")]
    assert rotating.lines("again", "a") == ["here", "run 2"]
    with pytest.raises(NsrunError, match="previous terminated container"):
        rotating.lines("again", "a", previous=True)
    rotating.down("again")
    assert list(links.iterdir()) == []


def test_S_KEEP_previous_is_the_instance_of_the_last_state(server: Server) -> None:
    """While a container waits for its next instance the last state is the instance that ended last, as under a kubelet."""
    server.up(pod("loop", box("a", "then", "self", ";", "exit", "1")), wait="none")
    until(lambda: server.container("loop", "a")["restartCount"] == 1, 30)
    until(lambda: "waiting" in server.container("loop", "a")["state"], 30)
    last = server.container("loop", "a")["lastState"]["terminated"]["containerID"].split("/")[-1]
    (link,) = (server.root / "log" / "containers").glob(f"*-{last}.log")
    assert os.readlink(link).endswith("/1.log")
    assert server.log("loop", "a") == server.log("loop", "a", previous=True) == link.read_bytes() != b""
    server.down("loop")


def test_S_KEEP_the_restart_count_survives_a_lost_ledger(server: Server) -> None:
    server.up(pod("count", box("a", "failing", "/dev/shm/n", "1"), box("b", "pause")), wait="none")
    until(lambda: server.container("count", "a")["restartCount"] == 1, 30)
    runtime = server.runtime("count")
    server.kill()
    os.kill(runtime["shim_pid"], signal.SIGKILL)
    run = Path(runtime["directory"])
    (run / "ledger.json").unlink()
    for record in (run / "containers").iterdir():
        record.unlink()
    until(lambda: server.container("count", "a").get("restartCount", 0) >= 2, 30)
    until(lambda: server.container("count", "b").get("restartCount") == 1, 30)
    server.down("count")
