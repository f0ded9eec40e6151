"""What a probe does once: HTTP, TCP, gRPC and commands, from this machine to a pod's address (S-PROBE).

All of it runs in the caller's asyncio loop, without threads (but for names, which the C library looks up), and costs a bounded amount
of memory whatever the other side sends. What is said of a failure is what a kubelet says, which are Go's words.
"""

from nsrun.probes.outcome import Outcome, ProbeError, Result
from nsrun.probes.wires import Wires

__all__ = ["Outcome", "ProbeError", "Result", "Wires"]
