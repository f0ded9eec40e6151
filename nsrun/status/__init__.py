"""What is observed of a pod, as Kubernetes says it: PodStatus, kubectl's columns, events. Pure functions."""

from nsrun.status.columns import Columns, summary
from nsrun.status.pod import pod_status
from nsrun.status.qos import qos_class

__all__ = ["Columns", "pod_status", "qos_class", "summary"]
