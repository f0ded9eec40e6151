"""What this kernel, cgroup layout and user can and cannot do, with a hint for each no.

    examine(lib_dir) -> list[Check]

Nothing is changed: where a thing can only be known by doing it, a child process does it in namespaces of its own.
"""

from nsrun.doctor.checks import Check, examine

__all__ = ["Check", "examine"]
