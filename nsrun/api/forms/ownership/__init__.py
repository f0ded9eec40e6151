"""Who set which field: server-side apply, and what plain writes leave for it (metadata.managedFields).

Source: sigs.k8s.io/structured-merge-diff (typed, merge, fieldpath) and apimachinery pkg/util/managedfields, v1.36.
"""

from __future__ import annotations

from nsrun.api.forms.ownership.apply import applied
from nsrun.api.forms.ownership.managers import written

__all__ = ["applied", "written"]
