"""Records as they stand in files and messages."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nsrun import native

L, ffi = native.lib, native.ffi


def record(**members: object) -> bytes:
    values = {"magic": L.NSR_MAGIC, "version": L.NSR_WIRE_VERSION, "id": b"a" * 64, "name": b"web", **members}
    return bytes(ffi.buffer(ffi.new("struct nsr_record *", values)))


def test_running() -> None:
    found = native.unpack_record(record(state=L.NSR_STATE_RUNNING, pid=7, attempt=2, started_ns=5, log_bytes=2**40))
    assert (found.id, found.name, found.state_name, found.pid) == ("a" * 64, "web", "RUNNING", 7)
    assert (found.attempt, found.started_ns, found.log_bytes) == (2, 5, 2**40)
    assert (found.exit_code, found.signal, found.report) == (None, None, None)


@pytest.mark.parametrize(("status", "code", "signal"), [(0, 0, None), (3 << 8, 3, None), (9, 137, 9), (0x8B, 139, 11)])
def test_exited(status: int, code: int, signal: int | None) -> None:
    found = native.unpack_record(record(state=L.NSR_STATE_EXITED, wait_status=status))
    assert (found.exit_code, found.signal) == (code, signal)


def test_start_failed() -> None:
    report = {"kind": L.NSR_REPORT_FAILED, "step": 4, "code": L.NSR_OP_BIND, "error": 2, "subject": b"/a\xff"}
    found = native.unpack_record(record(state=L.NSR_STATE_START_FAILED, report=report))
    assert found.report is not None
    assert (found.report.step, found.report.code_name, found.report.errno) == (4, "BIND", 2)
    assert found.report.subject == "/a\udcff"
    assert found == native.unpack_record(record(state=L.NSR_STATE_START_FAILED, report=report))
    assert "BIND" in repr(found)


def test_arrays_without_an_end_are_read_to_their_own() -> None:
    report = {"kind": L.NSR_REPORT_FAILED, "subject": b"s" * 200}
    found = native.unpack_record(record(id=b"a" * 65, name=b"n" * 64, report=report))
    assert (found.id, found.name) == ("a" * 65, "n" * 64)
    assert found.report is not None
    assert found.report.subject == "s" * 200


@given(st.binary(max_size=ffi.sizeof("struct nsr_record") + 8))
def test_noise_is_refused(noise: bytes) -> None:
    with pytest.raises(ValueError, match="record"):
        native.unpack_record(noise)


@pytest.mark.parametrize("members", [{"magic": 1}, {"version": 99}, {"state": 77}])
def test_other_versions_are_refused(members: dict[str, int]) -> None:
    with pytest.raises(ValueError, match="not a record"):
        native.unpack_record(record(**members))
