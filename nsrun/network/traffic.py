"""What went over network interfaces (proc_pid_net(5): /proc/net/dev)."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Traffic:
    """Counters of one interface, as it sees them itself."""

    rx_bytes: int = 0
    rx_packets: int = 0
    rx_errors: int = 0
    rx_dropped: int = 0
    tx_bytes: int = 0
    tx_packets: int = 0
    tx_errors: int = 0
    tx_dropped: int = 0

    def other_end(self) -> Traffic:
        """As the other end of a veth pair counts: what this one has received that one has sent."""
        return Traffic(
            self.tx_bytes, self.tx_packets, self.tx_errors, self.tx_dropped,
            self.rx_bytes, self.rx_packets, self.rx_errors, self.rx_dropped,
        )  # fmt: skip


def traffic_of(text: str) -> dict[str, Traffic]:
    """By interface, from the text of /proc/net/dev."""
    found = {}
    for line in text.splitlines():
        name, colon, rest = line.rpartition(":")
        numbers = rest.split()
        if colon and len(numbers) >= 12 and all(word.isdecimal() for word in numbers[:12]):
            one = [int(word) for word in numbers[:12]]
            found[name.strip()] = Traffic(*one[:4], *one[8:12])
    return found


def traffic(path: str = "/proc/thread-self/net/dev") -> dict[str, Traffic]:
    """Of the interfaces of this process's network; none where that cannot be read."""
    try:
        with open(path, encoding="ascii", errors="replace") as file:
            return traffic_of(file.read())
    except OSError:
        return {}
