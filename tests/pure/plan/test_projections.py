"""The files of configMap, secret, downwardAPI and projected volumes."""

from __future__ import annotations

from collections.abc import Callable

import msgspec
import pytest

from nsrun.plan import PlanError, Reference, volume_files, volume_references, volume_sources
from nsrun.plan.projections import map_lines
from nsrun.spec.model import (
    ConfigMapProjection,
    ConfigMapVolumeSource,
    DownwardAPIProjection,
    DownwardAPIVolumeFile,
    DownwardAPIVolumeSource,
    KeyToPath,
    ObjectFieldSelector,
    ProjectedVolumeSource,
    ResourceFieldSelector,
    SecretProjection,
    SecretVolumeSource,
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
    found = volume_files(one, volume, NODE, {})
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
    (file,) = volume_files(pod(), volume, NODE, {}).values()
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


OBJECTS = {
    Reference("ConfigMap", "m"): {"a": b"1", "b": b"\xff"},
    Reference("Secret", "s"): {"a": b"hunter2"},
}


def files(volume: Volume) -> dict[str, tuple[bytes, int]]:
    return {path: (one.data, one.mode) for path, one in volume_files(pod(), volume, NODE, OBJECTS).items()}


def config_map(name: str = "m", *items: KeyToPath, optional: bool | None = None) -> Volume:
    source = ConfigMapVolumeSource(name=name, items=list(items), defaultMode=0o640, optional=optional)
    return Volume(name="v", configMap=source)


def secret(name: str = "s", *items: KeyToPath, optional: bool | None = None) -> Volume:
    return Volume(
        name="v", secret=SecretVolumeSource(secretName=name, items=list(items), defaultMode=0o400, optional=optional)
    )


def projected(*sources: VolumeProjection) -> Volume:
    return Volume(name="v", projected=ProjectedVolumeSource(sources=list(sources), defaultMode=0o444))


def test_S_VOL_every_key_of_an_object_is_a_file() -> None:
    assert files(config_map()) == {"a": (b"1", 0o640), "b": (b"\xff", 0o640)}
    assert files(secret()) == {"a": (b"hunter2", 0o400)}


def test_S_VOL_items_choose_keys_paths_and_modes() -> None:
    items = KeyToPath(key="a", path="x/./y", mode=0o111), KeyToPath(key="b", path="b"), KeyToPath(key="a", path="b")
    assert files(config_map("m", *items)) == {"x/y": (b"1", 0o111), "b": (b"1", 0o640)}


@pytest.mark.parametrize("make", [config_map, secret])
def test_S_VOL_what_is_optional_may_be_missing(make: Callable[..., Volume]) -> None:
    assert files(make("gone", optional=True)) == {}
    assert files(make("gone", KeyToPath(key="a", path="a"), optional=True)) == {}
    volume = make(
        "m" if make is config_map else "s", KeyToPath(key="z", path="z"), KeyToPath(key="a", path="q"), optional=True
    )
    assert list(files(volume)) == ["q"]


@pytest.mark.parametrize(
    ("volume", "words"),
    [
        (config_map("gone"), 'configmap "gone" not found'),
        (secret("gone", optional=False), 'secret "gone" not found'),
        (config_map("m", KeyToPath(key="z", path="z")), "configmap references non-existent config key: z"),
        (secret("s", KeyToPath(key="z", path="z")), "references non-existent secret key: z"),
        (
            projected(
                VolumeProjection(configMap=ConfigMapProjection(name="gone")),
                VolumeProjection(secret=SecretProjection(name="s", items=[KeyToPath(key="z", path="z")])),
                VolumeProjection(configMap=ConfigMapProjection(name="gone")),
            ),
            '[configmap "gone" not found, references non-existent secret key: z]',
        ),
    ],
)
def test_S_VOL_what_is_missing_in_the_kubelets_words(volume: Volume, words: str) -> None:
    with pytest.raises(PlanError) as caught:
        files(volume)
    assert (caught.value.reason, caught.value.brief) == ("FailedMount", words)


def test_S_VOL_sources_of_a_projected_volume_are_one_directory_and_the_later_counts() -> None:
    volume = projected(
        VolumeProjection(secret=SecretProjection(name="s")),
        VolumeProjection(configMap=ConfigMapProjection(name="m")),
        VolumeProjection(downwardAPI=DownwardAPIProjection(items=[field("b", "metadata.name")])),
        VolumeProjection(configMap=ConfigMapProjection(name="gone", optional=True)),
    )
    assert files(volume) == {"a": (b"1", 0o444), "b": (b"web", 0o444)}
    assert volume_references(volume) == [
        Reference("Secret", "s"),
        Reference("ConfigMap", "m"),
        Reference("ConfigMap", "gone"),
    ]


def test_S_VOL_what_may_be_secret_is_in_memory_and_never_shown() -> None:
    assert "hunter2" not in repr(volume_files(pod(), secret(), NODE, OBJECTS))
    one = pod()
    one.spec.volumes = [
        msgspec.structs.replace(volume, name=f"v{number}")
        for number, volume in enumerate(
            [config_map(), secret(), projected(VolumeProjection(configMap=ConfigMapProjection(name="m")))]
        )
    ]
    sources = volume_sources(one, "/disk", "/memory")
    assert [source.path for source in sources.values()] == ["/memory/.configmaps/v0", "/memory/v1", "/memory/v2"]
    assert all(source.read_only for source in sources.values())
