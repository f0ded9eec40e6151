"""A pod and what was looked up for it, made into programs: lists of small operations that can print themselves.

Pure: nothing here looks at the machine. `describe.describe` gives what `nsrun pod plan` prints; the same operations are what runs.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from nsrun.lazy import homes

if TYPE_CHECKING:
    from nsrun.plan.container import container_program, exec_program
    from nsrun.plan.dns import ClusterDns, pod_dns, wants_cluster_dns
    from nsrun.plan.environment import Reference, file_name, file_references, references
    from nsrun.plan.files import pod_files, pod_hostname
    from nsrun.plan.identity import assumed_user, oom_score_adj, user_spec
    from nsrun.plan.image import HOST_IMAGE, HOST_IMAGE_CONFIG, ImageConfig, ImageUser, RootBind, RootFs
    from nsrun.plan.inputs import (
        IDS_PER_POD,
        NO_VALUES,
        ContainerInputs,
        Device,
        NodeFacts,
        ObjectValues,
        PlanError,
        Program,
        SandboxInputs,
        Slot,
        SubPath,
        VolumeSource,
    )
    from nsrun.plan.pause import pause_program
    from nsrun.plan.projections import ObjectData, VolumeFile, is_projected, volume_files, volume_references
    from nsrun.plan.resources import Limits, container_limits, pod_limits
    from nsrun.plan.sandbox import sandbox_program
    from nsrun.plan.services import ServiceAddress, ServicePort, service_variables
    from nsrun.plan.volumes import memory_size, volume_source, volume_sources

__all__ = [
    "HOST_IMAGE",
    "HOST_IMAGE_CONFIG",
    "IDS_PER_POD",
    "NO_VALUES",
    "ClusterDns",
    "ContainerInputs",
    "Device",
    "ImageConfig",
    "ImageUser",
    "Limits",
    "NodeFacts",
    "ObjectData",
    "ObjectValues",
    "PlanError",
    "Program",
    "Reference",
    "RootBind",
    "RootFs",
    "SandboxInputs",
    "ServiceAddress",
    "ServicePort",
    "Slot",
    "SubPath",
    "VolumeFile",
    "VolumeSource",
    "assumed_user",
    "container_limits",
    "container_program",
    "exec_program",
    "file_name",
    "file_references",
    "is_projected",
    "memory_size",
    "oom_score_adj",
    "pause_program",
    "pod_dns",
    "pod_files",
    "pod_hostname",
    "pod_limits",
    "references",
    "sandbox_program",
    "service_variables",
    "user_spec",
    "volume_files",
    "volume_references",
    "volume_source",
    "volume_sources",
    "wants_cluster_dns",
]

__getattr__ = homes(
    __name__,
    {
        "nsrun.plan.container": (
            "container_program",
            "exec_program",
        ),
        "nsrun.plan.dns": (
            "ClusterDns",
            "pod_dns",
            "wants_cluster_dns",
        ),
        "nsrun.plan.environment": (
            "Reference",
            "file_name",
            "file_references",
            "references",
        ),
        "nsrun.plan.files": (
            "pod_files",
            "pod_hostname",
        ),
        "nsrun.plan.identity": (
            "assumed_user",
            "oom_score_adj",
            "user_spec",
        ),
        "nsrun.plan.image": (
            "HOST_IMAGE",
            "HOST_IMAGE_CONFIG",
            "ImageConfig",
            "ImageUser",
            "RootBind",
            "RootFs",
        ),
        "nsrun.plan.inputs": (
            "IDS_PER_POD",
            "NO_VALUES",
            "ContainerInputs",
            "Device",
            "NodeFacts",
            "ObjectValues",
            "PlanError",
            "Program",
            "SandboxInputs",
            "Slot",
            "SubPath",
            "VolumeSource",
        ),
        "nsrun.plan.pause": ("pause_program",),
        "nsrun.plan.projections": (
            "ObjectData",
            "VolumeFile",
            "is_projected",
            "volume_files",
            "volume_references",
        ),
        "nsrun.plan.resources": (
            "Limits",
            "container_limits",
            "pod_limits",
        ),
        "nsrun.plan.sandbox": ("sandbox_program",),
        "nsrun.plan.services": ("ServiceAddress", "ServicePort", "service_variables"),
        "nsrun.plan.volumes": (
            "memory_size",
            "volume_source",
            "volume_sources",
        ),
    },
)
