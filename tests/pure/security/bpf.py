"""What a seccomp filter answers: classic BPF, interpreted (Documentation/userspace-api/seccomp_filter.rst)."""

from __future__ import annotations

import struct

X86_64, I386, AARCH64 = 0xC000003E, 0x40000003, 0xC00000B7
ALLOW, KILL = 0x7FFF0000, 0x00000000


def ERRNO(number: int) -> int:
    """SECCOMP_RET_ERRNO with a number."""
    return 0x00050000 | number


def answer(program: bytes, number: int, args: tuple[int, ...] = (), arch: int = X86_64) -> int:
    """The filter's answer to a system call; `program` may have flags behind it."""
    data = struct.pack("=iIQ6Q", number, arch, 0, *args, *[0] * (6 - len(args)))
    instructions = list(struct.iter_unpack("=HBBI", program[: len(program) // 8 * 8]))
    at = accumulator = 0
    jumps = {0x15: int.__eq__, 0x25: int.__gt__, 0x35: int.__ge__, 0x45: int.__and__}
    while True:
        code, yes, no, k = instructions[at]
        at += 1
        if code == 0x20:  # BPF_LD | BPF_W | BPF_ABS
            (accumulator,) = struct.unpack_from("=I", data, k)
        elif code == 0x06:  # BPF_RET | BPF_K
            return int(k)
        elif code == 0x05:  # BPF_JMP | BPF_JA
            at += k
        elif code == 0x54:  # BPF_ALU | BPF_AND | BPF_K
            accumulator &= k
        elif code in jumps:
            at += yes if jumps[code](accumulator, k) else no
        else:
            raise AssertionError(f"instruction {code:#x}")
