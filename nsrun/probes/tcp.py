"""A TCP connection is success (Kubernetes pkg/probe/tcp/tcp.go)."""

from __future__ import annotations

from nsrun.probes.outcome import LocalError, Outcome, ProbeError, Result
from nsrun.probes.wires import Wires, within
from nsrun.probes.wording import joined


async def probe(wires: Wires, host: str, port: int, timeout_s: float) -> Outcome:
    """Connect, and close with a FIN: whoever accepts sees the end of file, not a reset."""
    try:
        wire = await within(timeout_s, wires.dial(host, port))
    except TimeoutError:
        return Outcome(Result.FAILURE, f"dial tcp {joined(host, port)}: i/o timeout")
    except LocalError as error:
        return Outcome(Result.UNKNOWN, str(error), errored=True)
    except ProbeError as error:
        return Outcome(Result.FAILURE, str(error))
    wire.close()
    return Outcome(Result.SUCCESS)
