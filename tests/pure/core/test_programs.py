"""The wire form of programs: what goes in comes out, and nothing else is taken for a program."""

from __future__ import annotations

import errno
import re
import struct
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nsrun import native
from nsrun.native import RawOp
from nsrun.native.program import CODES

L, ffi = native.lib, native.ffi

HEADER = (Path(__file__).parents[3] / "csrc/wire.h").read_text(encoding="utf-8")

# Strings each op takes, least and most, as wire.h describes them; slots it must or may have.
STRINGS = {
    "HOSTNAME": (1, 1),
    "SYSCTL": (2, 2),
    "OVERLAY": (4, 40),
    "ROOT": (1, 1),
    "MOUNT": (2, 40),
    "BIND": (2, 2),
    "BIND_BELOW": (3, 3),
    "ATTR": (1, 1),
    "MKDIR": (1, 1),
    "FILE": (1, 1),
    "SYMLINK": (2, 2),
    "MKNOD": (1, 1),
    "MASK": (1, 1),
    "READONLY": (1, 1),
    "ID_MAP": (1, 1),
    "APPARMOR": (1, 1),
    "CHDIR": (1, 1),
    "USER": (0, 1),
    "ENV": (0, 40),
    "EXEC": (2, 40),
}
SLOTS = {"SETNS": (0,), "SECCOMP": (0,), "BIND": (0,), "BIND_BELOW": (0,), "STDIO": (0, 1, 2), "JOIN_CGROUP": (0,)}
MAY_BE_ABSENT = {"BIND", "BIND_BELOW", "STDIO"}
NAMES = sorted(set(CODES) - {"INVALID"})

number = st.integers(-(2**63), 2**63 - 1)


@st.composite
def ops(draw: st.DrawFn) -> RawOp:
    name = draw(st.sampled_from(NAMES))
    least, most = STRINGS.get(name, (0, 0))
    byte = (
        st.binary(max_size=40) if name == "USER" else st.binary(max_size=40).map(lambda text: text.replace(b"\0", b"x"))
    )
    strings = draw(st.lists(byte, min_size=least, max_size=most))
    args = draw(st.lists(number, min_size=6, max_size=6))
    for i in SLOTS.get(name, ()):
        args[i] = draw(st.integers(-1 if name in MAY_BE_ABSENT else 0, L.NSR_FD_MAX - 1))
    return RawOp(name, tuple(args), tuple(strings))


@given(st.lists(ops(), max_size=20))
def test_round_trip(program: list[RawOp]) -> None:
    encoded = native.encode(program)
    assert native.decode(encoded) == program
    assert native.encode(native.decode(encoded)) == encoded
    assert len(encoded) % 8 == 0


@given(st.lists(ops(), min_size=1, max_size=5), st.data())
def test_a_changed_byte_is_never_misread(program: list[RawOp], data: st.DataObject) -> None:
    """It is refused, or is a program that encodes to the very same bytes."""
    encoded = bytearray(native.encode(program))
    at = data.draw(st.integers(0, len(encoded) - 1))
    encoded[at] ^= data.draw(st.integers(1, 255))
    same_or_refused(bytes(encoded))


@given(st.lists(ops(), min_size=1, max_size=5), st.data())
def test_a_cut_program_is_refused(program: list[RawOp], data: st.DataObject) -> None:
    encoded = native.encode(program)
    with pytest.raises(ValueError, match="not a program"):
        native.decode(encoded[: data.draw(st.integers(0, len(encoded) - 1))])
    with pytest.raises(ValueError, match="not a program"):
        native.decode(encoded + b"\0" * data.draw(st.integers(1, 64)))


@given(st.binary(max_size=400))
@settings(max_examples=200)
def test_noise(noise: bytes) -> None:
    same_or_refused(noise)
    same_or_refused(struct.pack("=IHHII", L.NSR_MAGIC, 1, 1, len(noise) + 16, 0) + noise)


def same_or_refused(encoded: bytes) -> None:
    try:
        program = native.decode(encoded)
    except ValueError:
        return
    assert native.encode(program) == encoded


@pytest.mark.parametrize("name", NAMES)
def test_every_op_of_the_header_has_a_handler(name: str) -> None:
    """The table of program.c is not shorter than the enum."""
    least, _ = STRINGS.get(name, (0, 0))
    assert [op.code for op in native.decode(native.encode([RawOp(name, (), (b"x",) * least)]))] == [name]


@pytest.mark.parametrize("name", NAMES)
def test_string_counts_are_kept(name: str) -> None:
    least, most = STRINGS.get(name, (0, 0))
    for count in (least - 1, most + 1 if most < 40 else -1):
        if count >= 0:
            with pytest.raises(ValueError, match="op 0 is malformed"):
                native.decode(native.encode([RawOp(name, (), (b"x",) * count)]))


@pytest.mark.parametrize(("name", "places"), SLOTS.items())
def test_slots_are_within_bounds(name: str, places: tuple[int, ...]) -> None:
    strings = (b"x",) * STRINGS.get(name, (0, 0))[0]
    for place in places:
        for slot in (L.NSR_FD_MAX, -2, 2**62, *([] if name in MAY_BE_ABSENT else [-1])):
            args = [0] * 6
            args[place] = slot
            with pytest.raises(ValueError, match="op 1 is malformed"):
                native.decode(native.encode([RawOp("SETSID", (), ()), RawOp(name, tuple(args), strings)]))


def test_codes_are_those_of_the_header() -> None:
    written = {name: int(value) for name, value in re.findall(r"\bNSR_OP_(\w+) = (\d+)", HEADER)}
    del written["ARGS"]
    assert written == CODES


@pytest.mark.parametrize(
    ("name", "size"), [("nsr_program", 16), ("nsr_op", 56), ("nsr_report", 216), ("nsr_exec_status", 232)]
)
def test_structures_have_no_padding(name: str, size: int) -> None:
    struct_type = ffi.typeof(f"struct {name}")
    assert ffi.sizeof(struct_type) == size
    assert sum(ffi.sizeof(field.type) for _, field in struct_type.fields) == size


@pytest.mark.parametrize(
    "name", [name for name in re.findall(r"^struct (nsr_\w+) \{", HEADER, re.MULTILINE) if name != "nsr_message"]
)
def test_no_structure_of_the_wire_has_holes(name: str) -> None:
    """Bytes of nobody would go from one program's memory into another's."""
    struct_type = ffi.typeof(f"struct {name}")
    end = 0
    for field_name, field in struct_type.fields:
        assert field.offset == end, field_name
        end += ffi.sizeof(field.type)
    assert ffi.sizeof(struct_type) == end


def test_numbers_over_63_bits_keep_their_bits() -> None:
    (op,) = native.decode(native.encode([RawOp("BOUNDING", (2**64 - 1,), ())]))
    assert op.args() == (-1, 0, 0, 0, 0, 0)


@pytest.mark.parametrize(
    ("op", "match"),
    [
        (RawOp("NOTHING", (), ()), "NOTHING"),
        (RawOp("CHDIR", (), (b"a\0b",)), "NUL"),
        (RawOp("UMASK", (2**64,), ()), "64 bits"),
        (RawOp("UMASK", (-(2**63) - 1,), ()), "64 bits"),
        (RawOp("UMASK", (0,) * 7, ()), "at most 6"),
    ],
)
def test_what_cannot_be_encoded(op: RawOp, match: str) -> None:
    with pytest.raises(ValueError, match=match):
        native.encode([op])


def test_too_long_is_the_kernels_word_for_it() -> None:
    for program in (
        [RawOp("ENV", (), (b"x",) * 65536)],
        [RawOp("ENV", (), (b"x" * L.NSR_PROGRAM_MAX,))],
        [RawOp("SETSID", (), ())] * 65536,
    ):
        with pytest.raises(OSError, match="too long") as caught:
            native.encode(program)
        assert caught.value.errno == errno.E2BIG
