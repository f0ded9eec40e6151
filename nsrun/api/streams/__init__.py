"""The streaming subresources of pods: log, exec, attach, portforward.

Bytes go through descriptors that the server hands over (docs/architecture.md), never through the server: it may die in the middle.
"""

from nsrun.api.streams.serving import serve as serve
