"""The files of downwardAPI volumes."""

from __future__ import annotations

import pytest

from nsrun.plan import volume_files
from nsrun.plan.projections import map_lines
from nsrun.spec.model import (
    DownwardAPIProjection,
    DownwardAPIVolumeFile,
    DownwardAPIVolumeSource,
    ObjectFieldSelector,
    ProjectedVolumeSource,
    ResourceFieldSelector,
    Volume,
    VolumeProjection,
)
from tests.pure.plan.pods import NODE, pod


def field(path: str, name: str, mode: int | None = None) -> DownwardAPIVolumeFile:
    return DownwardAPIVolumeFile(path=path, fieldRef=ObjectFieldSelector(fieldPath=name), mode=mode)


def test_S_ATOMIC_downward_fields_and_modes() -> None:
    one = pod()
    one.metadata.labels = {"b": "2", "a": 'say "hi"\n'}
    one.metadata.annotations = {}
    items = [
        field("labels", "metadata.labels"),
        field("notes", "metadata.annotations"),
        field("deep/./name", "metadata.name", 0o400),
        field("uid", "metadata.uid"),
        field("b", "metadata.labels['b']"),
        field("none", "metadata.annotations['none']"),
        DownwardAPIVolumeFile(
            path="cpu", resourceFieldRef=ResourceFieldSelector(containerName="app", resource="limits.cpu")
        ),
    ]
    volume = Volume(name="v", downwardAPI=DownwardAPIVolumeSource(items=items, defaultMode=0o644))
    found = volume_files(one, volume, NODE)
    assert {path: (file.data.decode(), file.mode) for path, file in found.items()} == {
        "labels": ('a="say \\"hi\\"\\n"\nb="2"', 0o644),
        "notes": ("", 0o644),
        "deep/name": ("web", 0o400),
        "uid": ("0b6b7f3e-uid", 0o644),
        "b": ("2", 0o644),
        "none": ("", 0o644),
        "cpu": ("4", 0o644),
    }


def test_S_ATOMIC_projected_downward_files_have_the_volumes_mode() -> None:
    part = VolumeProjection(downwardAPI=DownwardAPIProjection(items=[field("n", "metadata.name")]))
    volume = Volume(name="v", projected=ProjectedVolumeSource(sources=[part, part], defaultMode=0o440))
    (file,) = volume_files(pod(), volume, NODE).values()
    assert (file.data, file.mode) == (b"web", 0o440)


@pytest.mark.parametrize(
    ("text", "quoted"),
    [
        ("plain é 漢 😀", '"plain é 漢 😀"'),
        ("\t\\\x00\x7f", '"\\t\\\\\\x00\\x7f"'),
        ("\u200b\u00a0\U000e0001", '"\\u200b\\u00a0\\U000e0001"'),
    ],
)
def test_S_ATOMIC_values_are_quoted_as_go_does(text: str, quoted: str) -> None:
    assert map_lines({"k": text}) == f"k={quoted}"
