"""volumeMounts as operations: order, places, parts, propagation (S-VOL)."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nsrun.plan import PlanError, Program, VolumeSource, container_program, memory_size, ops, volume_sources
from nsrun.plan.mounts import sub_path, target_of
from nsrun.plan.volumes import huge_page_size, volume_source
from nsrun.spec.model import (
    Container,
    EmptyDirVolumeSource,
    HostPathVolumeSource,
    ResourceRequirements,
    SecurityContext,
    Volume,
    VolumeMount,
)
from tests.pure.plan.pods import inputs, pod

SOURCES = {
    "disk": VolumeSource("/lib/volumes/u/disk", "emptyDir"),
    "fixed": VolumeSource("/run/fixed", "configMap", read_only=True),
    "host": VolumeSource("/srv", "hostPath"),
    "image": VolumeSource("/run/image", "image", read_only=True),
}


def planned(*mounts: VolumeMount, privileged: bool = False, **values: Any) -> Program:
    context = SecurityContext(privileged=True) if privileged else None
    container = Container(
        name="app", image="box", command=["true"], volumeMounts=list(mounts), securityContext=context, **values
    )
    return container_program(pod(container), container, inputs(volumes=SOURCES))


def binds(program: Program) -> list[ops.Bind]:
    sources = {one.path for one in SOURCES.values()} | {""}
    return [op for op in program.ops if isinstance(op, ops.Bind) and op.source in sources]


def targets(program: Program) -> list[str]:
    return [op.target for op in program.ops if isinstance(op, ops.Bind | ops.Mount)]


def test_S_VOL_what_lies_above_is_mounted_first() -> None:
    program = planned(
        VolumeMount(name="disk", mountPath="/a/b/c"),
        VolumeMount(name="disk", mountPath="/etc"),
        VolumeMount(name="host", mountPath="a//b/"),
        VolumeMount(name="disk", mountPath="/z"),
    )
    order = targets(program)
    assert [op.target for op in binds(program)] == ["/etc", "/z", "/a/b", "/a/b/c"]
    assert order.index("/etc") < order.index("/etc/hosts")
    assert order.index("/proc") < order.index("/etc")


@pytest.mark.parametrize("place", ["/dev/shm", "/dev/pts", "/dev/mqueue", "/sys/fs/cgroup", "/sys", "/dev"])
def test_S_VOL_a_volume_takes_the_place_of_what_the_runtime_mounts(place: str) -> None:
    program = planned(VolumeMount(name="disk", mountPath=place))
    assert targets(program).count(place) == 1
    assert [op.target for op in binds(program)] == [place]


def test_S_VOL_a_volume_at_a_file_of_the_pod_replaces_it() -> None:
    program = planned(VolumeMount(name="host", mountPath="/etc/hosts", subPath="hosts"))
    (bind,) = (op for op in program.ops if isinstance(op, ops.Bind) and op.target == "/etc/hosts")
    assert bind.source == "/srv"


@pytest.mark.parametrize(
    ("fields", "flags", "attributes", "propagation"),
    [
        ({}, "", "MOUNT_ATTR_NODEV", "MS_PRIVATE|MS_REC"),
        ({"readOnly": True}, "NSR_BIND_READONLY", "MOUNT_ATTR_RDONLY|MOUNT_ATTR_NODEV", "MS_PRIVATE|MS_REC"),
        (
            {"readOnly": True, "recursiveReadOnly": "IfPossible"},
            "NSR_BIND_RREADONLY",
            "MOUNT_ATTR_RDONLY|MOUNT_ATTR_NODEV",
            "MS_PRIVATE|MS_REC",
        ),
        (
            {"readOnly": True, "recursiveReadOnly": "Disabled"},
            "NSR_BIND_READONLY",
            "MOUNT_ATTR_RDONLY|MOUNT_ATTR_NODEV",
            "MS_PRIVATE|MS_REC",
        ),
        ({"mountPropagation": "None"}, "", "MOUNT_ATTR_NODEV", "MS_PRIVATE|MS_REC"),
        ({"mountPropagation": "HostToContainer"}, "", "MOUNT_ATTR_NODEV", "MS_SLAVE|MS_REC"),
    ],
)
def test_S_VOL_flags(fields: dict[str, Any], flags: str, attributes: str, propagation: str) -> None:
    (bind,) = binds(planned(VolumeMount(name="disk", mountPath="/d", **fields)))
    wanted = {"NSR_BIND_RECURSIVE", "NSR_BIND_MAKE_TARGET"} | ({flags} if flags else set())
    assert set(bind.flags.split("|")) == wanted
    assert (bind.attributes, bind.propagation) == (attributes, propagation)


def test_S_VOL_a_read_only_volume_is_read_only_whatever_its_mount_says() -> None:
    (bind,) = binds(planned(VolumeMount(name="fixed", mountPath="/d")))
    assert "NSR_BIND_READONLY" in bind.flags


def test_S_VOL_both_ways_comes_by_a_descriptor() -> None:
    program = planned(
        VolumeMount(name="host", mountPath="/d", mountPropagation="Bidirectional", subPath="x/y"), privileged=True
    )
    (bind,) = binds(program)
    assert (bind.source, bind.propagation, bind.attributes) == ("", "MS_SHARED|MS_REC", "")
    slot = program.slots[bind.slot - 3]
    assert (slot.kind, slot.profile, slot.below) == ("tree", "/srv", "x/y")


def test_S_VOL_image_comes_by_a_descriptor_and_read_only() -> None:
    program = planned(VolumeMount(name="image", mountPath="/d", subPath="x"), VolumeMount(name="image", mountPath="/e"))
    first, second = binds(program)
    assert (first.source, first.attributes) == ("", "MOUNT_ATTR_RDONLY|MOUNT_ATTR_NODEV")
    assert [(slot.kind, slot.profile, slot.below) for slot in program.slots if slot.kind == "tree"] == [
        ("tree", "/run/image", "x"),
        ("tree", "/run/image", ""),
    ]
    assert second.slot == first.slot + 1
    with pytest.raises(PlanError, match="at most 6 mounts can be of images or have mountPropagation Bidirectional"):
        planned(*(VolumeMount(name="image", mountPath=f"/{at}") for at in range(7)))


def test_S_VOL_sub_paths_are_to_be_made_and_bound_beneath_their_volume() -> None:
    program = planned(VolumeMount(name="disk", mountPath="/d", subPath="a/./b/"))
    (part,) = program.sub_paths
    assert (part.mount, part.source, part.below) == ("disk", "/lib/volumes/u/disk", "a/b")
    (bind,) = binds(program)
    assert isinstance(bind, ops.BindBelow)
    assert bind.below == "a/b"


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"subPathExpr": "$(B)/$(A)"}, "missing value for A, B"),
        ({"subPathExpr": "$(UP)"}, "unable to provision SubPath `..`: must not contain '..'"),
        ({"subPathExpr": "$(ROOT)"}, "error SubPath `/` must not be an absolute path"),
    ],
)
def test_S_EXPAND_sub_path_expr(fields: dict[str, Any], words: str) -> None:
    with pytest.raises(PlanError) as caught:
        sub_path(VolumeMount(name="v", mountPath="/d", **fields), {"A": "", "UP": "..", "ROOT": "/", "X": "x"})
    assert (caught.value.reason, caught.value.brief) == ("CreateContainerConfigError", words)
    assert sub_path(VolumeMount(name="v", subPathExpr="$(X)/$$(X)"), {"X": "x"}) == "x/$(X)"


@given(st.text(max_size=30), st.dictionaries(st.text("AB", max_size=1), st.text(max_size=5), max_size=2))
def test_S_VOL_no_sub_path_leads_up(text: str, variables: dict[str, str]) -> None:
    try:
        path = sub_path(VolumeMount(name="v", subPathExpr=text or None), variables)
    except PlanError:
        return
    assert not path.startswith("/")
    assert ".." not in path.split("/")
    assert not path.endswith("/")


@given(st.text("./ab", max_size=20))
def test_S_VOL_targets_are_clean(text: str) -> None:
    path = target_of(VolumeMount(name="v", mountPath=text))
    assert path.startswith("/")
    assert not {"", ".", ".."} & set(path.split("/")[1:]) or path == "/"


@pytest.mark.parametrize("place", ["/", "/proc", "/proc/self/attr", "/x/../proc/sys"])
def test_S_VOL_places_that_cannot_be_covered(place: str) -> None:
    with pytest.raises(PlanError) as caught:
        planned(VolumeMount(name="disk", mountPath=place))
    assert caught.value.reason == "CreateContainerError"
    planned(VolumeMount(name="disk", mountPath="/proc/uptime"))


def test_S_VOL_where_volumes_lie_and_how_large_they_are() -> None:
    memory = EmptyDirVolumeSource(medium="Memory", sizeLimit="1Mi")
    one = pod(
        volumes=[
            Volume(name="d", emptyDir=EmptyDirVolumeSource()),
            Volume(name="m", emptyDir=memory),
            Volume(name="h", hostPath=HostPathVolumeSource(path="/srv")),
        ]
    )
    found = volume_sources(one, "/disk", "/memory")
    assert {name: source.path for name, source in found.items()} == {"d": "/disk/d", "m": "/memory/m", "h": "/srv"}
    assert memory_size(one, memory, 8 << 30) == 1 << 20
    assert memory_size(one, EmptyDirVolumeSource(medium="Memory"), 8 << 30) == 8 << 30
    one.spec.containers[0].resources = ResourceRequirements(limits={"memory": "64Mi"})
    assert memory_size(one, EmptyDirVolumeSource(medium="Memory"), 8 << 30) == 64 << 20


def asking(*names: str) -> Container:
    return Container(name="app", image="box", resources=ResourceRequirements(requests=dict.fromkeys(names, "0")))


@pytest.mark.parametrize(
    ("medium", "names", "size"),
    [
        ("HugePages", ["hugepages-2Mi"], 2 << 20),
        ("HugePages-1Gi", ["hugepages-2Mi", "hugepages-1Gi"], 1 << 30),
        ("HugePages", ["cpu"], "medium HugePages: hugePages storage requested, but there is no resource request for huge pages"),
        ("HugePages-1Gi", ["hugepages-2Mi"], "but there is no resource request for huge pages"),
        ("HugePages", ["hugepages-2Mi", "hugepages-1Gi"], "medium: HugePages can't be used if container requests multiple huge page sizes"),
        ("HugePages-many", ["hugepages-2Mi"], 'unknown storage medium "HugePages-many"'),
    ],
)  # fmt: skip
def test_S_VOL_pages_of_an_empty_dir_of_huge_pages(medium: str, names: list[str], size: int | str) -> None:
    found = pod(asking(*names))
    if isinstance(size, int):
        assert huge_page_size(found, medium) == size
    else:
        with pytest.raises(PlanError, match=size):
            huge_page_size(found, medium)


@pytest.mark.parametrize(("path", "expected"), [("/a/b", "/a/b"), ("a/b", "/a/b"), ("C:\\etc\\foo", "/C:\\etc\\foo")])
def test_S_VOL_host_path_never_begins_where_the_server_was_started(path: str, expected: str) -> None:
    source = volume_source(Volume(name="v", hostPath=HostPathVolumeSource(path=path)), "/disk", "/memory")
    assert source == VolumeSource(expected, "hostPath")
