"""A program as text: what `nsrun pod plan` prints and what the golden files of the tests hold."""

from __future__ import annotations

from nsrun.plan.inputs import Program

_SLOTS = {
    "seccomp": "a filter, for this set of capabilities",
    "cgroup": "tasks of the instance's version 1 cgroup",
    "tree": "mounts that the host sees, too",
}
_WIDTH = 60
"""Where the reasons begin, if the line lets them."""


def _line(text: str, why: str) -> str:
    return f"{text.ljust(_WIDTH)}  # {why}" if why else text


def describe(program: Program) -> list[str]:
    """One line for each thing that is done, in order, in the words of a root shell where it has some; `#` begins the reason for it.

    In the first lines stand the namespaces that are made or entered and the descriptors that the program is given.
    """
    result = []
    if program.clone_flags:
        result.append(_line(f"clone3({program.clone_flags})", "namespaces of its own"))
    if program.join_flags:
        result.append(_line(f"setns(pidfd of the container, {program.join_flags})", "its namespaces"))
    for number, slot in enumerate(program.slots, 3):
        path = f"{slot.profile}/{slot.below}" if slot.below else slot.profile
        result.append(_line(f"slot{number}={slot.kind}:{path}", _SLOTS[slot.kind]))
    result += [_line(op.describe(), op.why) for op in program.ops]
    return result
