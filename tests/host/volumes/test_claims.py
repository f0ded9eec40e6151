"""persistentVolumeClaim and ephemeral volumes: bound, waited for, kept, removed; and whoever is killed in between."""

from __future__ import annotations

import json
import os
import shutil
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from nsrun.errors import ConflictError, InternalError, NotFoundError, NsrunError, SpecError, StepError, UnsupportedError
from tests.host.environment.test_objects import apply
from tests.host.server.harness import Server, pod, until
from tests.host.server.test_full_disk import filled, small_disk
from tests.host.volumes.looking import events, mount, mounts, nothing_left, pausing, said, up, volume

pytestmark = [pytest.mark.requires("overlay"), pytest.mark.timeout(120)]

NODES = "0/1 nodes are available:"
HERE = {"required": {"nodeSelectorTerms": [{"matchExpressions": [{"key": "x", "operator": "DoesNotExist"}]}]}}


def claim(name: str, size: str = "1Gi", mode: str = "ReadWriteOnce", **spec: Any) -> dict[str, Any]:
    fields = {"accessModes": [mode], "resources": {"requests": {"storage": size}}, **spec}
    return {"apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": {"name": name}, "spec": fields}


def persistent(name: str, **spec: Any) -> dict[str, Any]:
    fields = {"accessModes": ["ReadWriteOnce"], "capacity": {"storage": "5Gi"}, "storageClassName": "manual", **spec}
    return {"apiVersion": "v1", "kind": "PersistentVolume", "metadata": {"name": name}, "spec": fields}


def using(name: str, claim_name: str, **fields: Any) -> dict[str, Any]:
    source = {"claimName": claim_name, **fields}
    return pod(name, pausing("a", mount("v", "/v")), volumes=[volume("v", persistentVolumeClaim=source)])


def kept(server: Server, kind: str, name: str) -> dict[str, Any]:
    found: dict[str, Any] = server.call("object.get", kinds=[kind], names=[name]).result["objects"][0]
    return found


def volumes(server: Server, **params: Any) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = server.call("volume.list", **params).result["volumes"]
    return found


def remove(server: Server, *names: str) -> list[dict[str, Any]]:
    gone: list[dict[str, Any]] = server.call("volume.remove", names=list(names)).result["volumes"]
    return gone


def scheduled(server: Server, name: str) -> str:
    """What the condition PodScheduled says, "" when it is true."""
    conditions = server.get(name)["status"]["conditions"]
    return str(next(one.get("message", "") for one in conditions if one["type"] == "PodScheduled"))


def told(server: Server, name: str, words: str) -> bool:
    return words in events(server, "FailedMount", name)


def write(server: Server, name: str, text: str) -> None:
    said(server, "write", "/v/file", text, name=name)


def test_S_VOL_claim_outlives_its_pods_and_the_server(server: Server) -> None:
    """Made with the pod's file, written to, kept when the pod goes, found again by the next, removed by name."""
    manifest = using("web", "data")
    answer = server.up(manifest, claim("data"))
    assert [one["verdict"] for one in answer["objects"]] == ["created"]
    found = kept(server, "pvc", "data")
    assert (found["status"]["phase"], found["spec"]["storageClassName"]) == ("Bound", "nsrun")
    (listed,) = volumes(server, sizes=True)
    assert listed["claim"] == {"namespace": "default", "name": "data"}
    assert listed["used_by"] == ["default/web"]
    assert (Path(listed["path"]).stat().st_mode & 0o7777, listed["complete"]) == (0o777, True)
    write(server, "web", "kept")
    with pytest.raises(ConflictError, match=r"remove data: volume is in use - \[default/web\]"):
        remove(server, "data")
    with pytest.raises(ConflictError, match='persistentvolumeclaim "data" is in use by pod default/web'):
        server.call("object.rm", kinds=["pvc"], names=["data"])
    assert apply(server, claim("data")) == ["unchanged"]
    assert apply(server, claim("data", "3Gi")) == ["configured"]
    until(lambda: kept(server, "pvc", "data")["status"]["capacity"] == {"storage": "3Gi"})
    with pytest.raises(SpecError, match="is invalid"):
        apply(server, claim("data", "1Gi"))
    server.down("web")
    server.kill()
    server.up(using("again", "data", readOnly=True))
    assert said(server, "cat", "/v/file", name="again") == "kept"
    assert server.run("again", "/bin/write", "/v/file", "x", container="a")[0] != 0
    server.down("again")
    assert [one["name"] for one in remove(server, "data")] == ["data"]
    assert volumes(server) == []
    assert not (server.root / "lib" / "persistent").exists()
    with pytest.raises(NotFoundError, match="no such volume: data"):
        remove(server, "data")


def test_S_VOL_S_USERNS_claims_of_pods_with_users_of_their_own(server: Server) -> None:
    """What such a pod writes is on disk whose it is in the pod, so that a pod in the machine's ids finds the same."""
    local = server.host.scratch / "local"
    local.mkdir(mode=0o777)
    local.chmod(0o777)
    apply(
        server,
        claim("own"),
        persistent("here", local={"path": str(local)}, nodeAffinity=HERE),
        claim("local", storageClassName="manual"),
    )
    sources = [volume(name, persistentVolumeClaim={"claimName": name}) for name in ("own", "local")]
    sources.append(volume("short", ephemeral={"volumeClaimTemplate": {"spec": claim("x")["spec"]}}))
    places = [mount(one["name"], f"/{one['name']}") for one in sources]
    user = {"securityContext": {"runAsUser": 1000, "runAsGroup": 2000}}
    containers = (pausing("a", *places), pausing("b", *places, **user))
    fields: dict[str, Any] = {"volumes": sources, "securityContext": {"fsGroup": 3000}}
    uid = server.up(pod("web", *containers, hostUsers=False, **fields))["pods"][0]["uid"]
    outside = {one["claim"]["name"]: Path(one["path"]) for one in volumes(server)}
    outside["short"] = outside["web-short"]
    for name in ("own", "local", "short"):
        said(server, "write", f"/{name}/root", "by root")
        said(server, "write", f"/{name}/user", "by user", container="b")
        found = [(outside[name] / one).stat() for one in ("root", "user")]
        assert [(one.st_uid, one.st_gid) for one in found] == [(0, 3000), (1000, 3000)], name
        assert "idmapped" in mounts(server)[f"/{name}"][1]
    server.kill()
    server.down("web")
    nothing_left(server, uid)
    server.up(pod("again", *containers, **fields))
    for name in ("own", "local"):
        assert said(server, "cat", f"/{name}/root", name="again", container="b") == "by root"
        said(server, "write", f"/{name}/user", "once more", name="again", container="b")
    server.down("again")


def test_S_VOL_pod_waits_for_its_claim_in_the_schedulers_words_and_goes_on_at_once(server: Server) -> None:
    server.up(using("web", "late"), wait="none")
    words = f'{NODES} persistentvolumeclaim "late" not found.'
    until(lambda: scheduled(server, "web") == words)
    assert events(server, "FailedScheduling") == [words]
    status = server.get("web")["status"]
    assert (status["phase"], "startTime" in status, "containerStatuses" in status) == ("Pending", False, False)
    server.kill()
    apply(server, claim("late", storageClassName="gp9"))
    until(lambda: scheduled(server, "web") == f"{NODES} pod has unbound immediate PersistentVolumeClaims.")
    until(lambda: events(server, "ProvisioningFailed") == ['storageclass.storage.k8s.io "gp9" not found'])
    where = server.host.scratch / "pv"
    where.mkdir()
    apply(server, persistent("gp9", storageClassName="gp9", hostPath={"path": str(where)}))
    server.wait("web", "condition=Ready")
    write(server, "web", "x")
    assert (where / "file").read_text(encoding="utf-8") == "x"
    assert server.get("web")["status"]["startTime"]
    with pytest.raises(ConflictError, match='persistentvolume "gp9" is bound to the claim default/late'):
        server.call("object.rm", kinds=["pv"], names=["gp9"])
    server.down("web")
    server.call("object.rm", kinds=["pvc"], names=["late"])
    until(lambda: kept(server, "pv", "gp9")["status"]["phase"] == "Released")
    remove(server, "gp9")
    assert (where / "file").exists()


def test_S_VOL_read_write_once_pod_lets_one_pod_in(server: Server) -> None:
    apply(server, claim("one", mode="ReadWriteOncePod"), claim("many"))
    server.up(using("first", "one"))
    server.up(using("second", "one"), wait="none")
    words = "1 node has pod using PersistentVolumeClaim with the same name and ReadWriteOncePod access mode."
    until(lambda: scheduled(server, "second") == f"{NODES} {words}")
    server.up(using("third", "many"))
    server.up(using("fourth", "many"))
    write(server, "third", "shared")
    assert said(server, "cat", "/v/file", name="fourth") == "shared"
    server.down("first")
    server.wait("second", "condition=Ready")
    server.down("second", "third", "fourth")
    remove(server, "one", "many")


def test_S_VOL_ephemeral_volume_comes_and_goes_with_its_pod(server: Server) -> None:
    template = {"metadata": {"labels": {"tier": "tmp"}}, "spec": claim("x")["spec"]}
    source = volume("scratch", ephemeral={"volumeClaimTemplate": template})
    apply(server, claim("clash-scratch"))
    uid = up(server, source, mounts=[mount("scratch", "/v")])
    found = kept(server, "pvc", "web-scratch")
    owner = found["metadata"]["ownerReferences"][0]
    assert (owner["kind"], owner["uid"], owner["controller"]) == ("Pod", uid, True)
    assert found["metadata"]["labels"] == {"tier": "tmp"}
    write(server, "web", "x")
    manifest = pod("clash", pausing("a", mount("scratch", "/v")), volumes=[source])
    server.up(manifest, wait="none")
    words = "PVC default/clash-scratch was not created for pod default/clash (pod is not owner)."
    until(lambda: scheduled(server, "clash") == f"{NODES} {words}")
    server.down("clash", "web")
    assert [one["metadata"]["name"] for one in server.call("object.get", kinds=["pvc"]).result["objects"]] == [
        "clash-scratch"
    ]
    assert len(volumes(server)) == 1
    nothing_left(server, uid)
    remove(server, "clash-scratch")


def test_S_VOL_volume_that_cannot_be_had_is_told_of(server: Server) -> None:
    """Its directory is gone, is a link by now, or was never there."""
    where = server.host.scratch / "nowhere"
    manual = {"storageClassName": "manual"}
    apply(
        server,
        persistent("pv", local={"path": str(where)}, nodeAffinity=HERE),
        claim("static", **manual),
        claim("own"),
    )
    own = Path(next(one["path"] for one in volumes(server) if one["own"]))
    own.rmdir()
    for name, wanted, path in (("web", "static", where), ("own", "own", own)):
        server.up(using(name, wanted), wait="none")
        words = f'MountVolume.SetUp failed for volume "v" : path "{path}" does not exist'
        until(partial(told, server, name, words))
    own.symlink_to("/etc")
    words = f'MountVolume.SetUp failed for volume "v" : path "{own}" is not a directory, and nsrun made one there'
    until(partial(told, server, "own", words))
    own.unlink()
    os.mkdir(own)
    where.mkdir()
    server.wait("web", "condition=Ready")
    server.wait("own", "condition=Ready")
    server.down("web", "own")
    remove(server, "own", "static")
    assert where.is_dir()


def test_S_VOL_fs_group_of_a_claim_is_that_of_local_volumes_and_no_host_path(server: Server) -> None:
    """Also where the path is a link: it is the machine owner's."""
    there, link, host = (server.host.scratch / name for name in ("there", "link", "host"))
    there.mkdir()
    host.mkdir(0o755)
    link.symlink_to(there)
    (there / "file").write_text("x", encoding="utf-8")
    apply(
        server,
        persistent("local", storageClassName="one", local={"path": str(link)}, nodeAffinity=HERE),
        persistent("host", storageClassName="two", hostPath={"path": str(host)}),
        claim("one", storageClassName="one"),
        claim("two", storageClassName="two"),
        claim("own"),
    )
    sources = [volume(name, persistentVolumeClaim={"claimName": name}) for name in ("one", "two", "own")]
    context = {"fsGroup": 1234, "fsGroupChangePolicy": "OnRootMismatch"}
    up(server, *sources, mounts=[mount(name, f"/{name}") for name in ("one", "two", "own")], securityContext=context)
    own = Path(next(one["path"] for one in volumes(server) if one["own"]))
    assert [path.stat().st_gid for path in (there, there / "file", own, host)] == [1234, 1234, 1234, 0]
    assert there.stat().st_mode & 0o2070 == 0o2070
    server.down("web")
    remove(server, "one", "two", "own")
    assert (there / "file").exists()


def test_S_VOL_what_cannot_be_kept_is_refused_by_name(server: Server) -> None:
    for one, path in (
        (claim("c", volumeMode="Block"), "spec.volumeMode"),
        (persistent("v", nfs={"server": "s", "path": "/"}), "spec.nfs"),
    ):
        with pytest.raises(UnsupportedError) as caught:
            apply(server, one)
        assert path in (caught.value.details or "")
    with pytest.raises(SpecError, match="is not valid"):
        apply(server, claim("c", "0"))
    apply(server, claim("huge", "4Ei"))
    until(lambda: len(server.call("volume.list").result["claims"]) == 1)
    (waiting,) = server.call("volume.list").result["claims"]
    assert waiting["message"].startswith('failed to provision volume with StorageClass "nsrun": 4Ei are requested')
    server.call("object.rm", kinds=["pvc"], names=["huge"])


def test_S_VOL_server_killed_between_claim_and_binding(server: Server) -> None:
    """Whatever of a claim, its volume and the directory is there when the next server comes, it is carried on from there."""
    apply(server, claim("data"))
    until(lambda: kept(server, "pvc", "data")["status"]["phase"] == "Bound")
    objects = server.root / "lib" / "objects"
    claim_file = objects / "persistentvolumeclaim" / "default" / "data.json"
    (volume_file,) = (objects / "persistentvolume" / "_").iterdir()
    bound, directory = json.loads(claim_file.read_bytes()), server.root / "lib" / "persistent"
    fresh = json.loads(claim_file.read_bytes())
    fresh["status"] = {"phase": "Pending"}
    del fresh["spec"]["volumeName"], fresh["spec"]["storageClassName"], fresh["metadata"]["annotations"]
    for there in (("volume", "directory"), ("directory",), ()):
        server.kill()
        claim_file.write_text(json.dumps(fresh), encoding="utf-8")
        if "volume" not in there:
            volume_file.unlink()
        if "directory" not in there:
            shutil.rmtree(directory)
        found = kept(server, "pvc", "data")
        assert (found["status"]["phase"], found["spec"]["volumeName"]) == ("Bound", bound["spec"]["volumeName"])
        (one,) = volumes(server)
        assert Path(one["path"]).is_dir()
    # A file that cannot be read keeps nobody from starting, and nothing is released because of it.
    server.kill()
    whole = claim_file.read_bytes()
    claim_file.write_bytes(b"{")
    with pytest.raises(InternalError, match=r"data\.json cannot be read"):
        volumes(server)
    assert json.loads(volume_file.read_bytes())["status"]["phase"] == "Bound"
    claim_file.write_bytes(whole)
    # Killed while it was being removed: what was set aside goes, and a claim of a pod that is gone with it.
    server.kill()
    (directory / ".gone-1" / "deep").mkdir(parents=True)
    owner = {"apiVersion": "v1", "kind": "Pod", "name": "x", "uid": "gone", "controller": True}
    orphan = {**fresh, "metadata": {**fresh["metadata"], "name": "x-v", "uid": "u", "ownerReferences": [owner]}}
    claim_file.with_name("x-v.json").write_text(json.dumps(orphan), encoding="utf-8")
    until(lambda: len(server.call("object.get", kinds=["pvc"]).result["objects"]) == 1)
    until(lambda: not (directory / ".gone-1").exists())
    remove(server, "data")


def test_S_VOL_full_disk_leaves_a_claim_pending_until_there_is_room(server: Server) -> None:
    with small_disk(server, server.root / "lib", "16m"):
        apply(server, claim("data", "1Mi"))
        until(lambda: kept(server, "pvc", "data")["status"]["phase"] == "Bound")
        with filled(server.root / "lib"), pytest.raises((StepError, NsrunError)):
            apply(server, claim("more", "1Mi"))
        assert apply(server, claim("more", "1Mi")) == ["created"]
        until(lambda: kept(server, "pvc", "more")["status"]["phase"] == "Bound")
        remove(server, "data", "more")
