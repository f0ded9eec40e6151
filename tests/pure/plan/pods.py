"""Pods and inputs for the tests of plans."""

from __future__ import annotations

from typing import Any

from nsrun.plan import ContainerInputs, ImageConfig, ImageUser, NodeFacts, RootBind, RootFs
from nsrun.spec import load, pods
from nsrun.spec.model import Container, EnvVar, ObjectMeta, Pod, PodSpec

NODE = NodeFacts(
    name="node-1",
    cpus=4,
    memory=8 << 30,
    ephemeral_storage=100 << 30,
    cgroup2=True,
    nofile=524288,
    thermal_throttle=("/sys/devices/system/cpu/cpu0/thermal_throttle",),
)


def pod(container: Container | None = None, **spec: Any) -> Pod:
    """A pod `web` with one container `app`."""
    return Pod(
        metadata=ObjectMeta(name="web", namespace="default", uid="0b6b7f3e-uid"),
        spec=PodSpec(containers=[container or Container(name="app", image="box", command=["true"])], **spec),
    )


def env(**values: str) -> list[EnvVar]:
    """Plain variables."""
    return [EnvVar(name=name, value=value) for name, value in values.items()]


def inputs(**values: Any) -> ContainerInputs:
    """Inputs with made-up but fixed paths."""
    given: dict[str, Any] = {
        "rootfs": RootFs(("/lib/images/abc/rootfs",)),
        "image_config": ImageConfig(),
        "user": ImageUser(0, 0, (), "/root"),
        "hostname": "web",
        "files_dir": "/run/pods/u/files",
        "shm_dir": "/run/pods/u/shm",
        "instance_dir": "/run/pods/u/root/i",
        "node": NODE,
        "pod_ips": ("10.200.0.5",),
        "host_ips": ("10.200.0.1",),
        "termination_log": "/run/pods/u/root/i/termination-log",
    }
    return ContainerInputs(**(given | values))


HOST_ROOT = RootFs(("/lib/images/host/rootfs",), (RootBind("/usr", "/usr"),))
"""What the built-in image looks like to a plan."""


def from_manifest(text: str) -> Pod:
    """The one pod of a manifest, defaulted, with a uid."""
    (result,) = pods(load(text.encode(), "test.yaml"))
    result.metadata.uid = "0b6b7f3e-uid"
    return result
