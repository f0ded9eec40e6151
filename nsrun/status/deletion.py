"""What a pod says of its own deletion."""

from __future__ import annotations

import msgspec

from nsrun.reconcile.model import Deletion
from nsrun.spec.model import Pod
from nsrun.status.times import rfc3339

_LONGEST_S = 2**63 - 1
"""What an int64 of the API holds; a grace period is a float here, which may be a little more."""


def marked_deleted(pod: Pod, deletion: Deletion) -> Pod:
    """The pod with the metadata of one that is being taken down."""
    metadata = msgspec.structs.replace(
        pod.metadata,
        deletionTimestamp=rfc3339(deletion.requested_at + deletion.grace_s),
        deletionGracePeriodSeconds=int(min(deletion.grace_s, _LONGEST_S)),
    )
    return msgspec.structs.replace(pod, metadata=metadata)
