"""Variables from ConfigMaps and Secrets: kept, looked up, waited for, and never told to anybody else."""

from __future__ import annotations

import base64
import json
import os
import subprocess
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from nsrun.errors import ConflictError, NotFoundError, NsrunError, SpecError, StepError, UsageError
from tests.host.server.harness import Server, box, pod, until
from tests.host.server.test_full_disk import filled, small_disk

pytestmark = [pytest.mark.requires("overlay", "bridge", "nftables"), pytest.mark.timeout(120)]

PASSWORD = "correct-horse-battery"


def config_map(name: str, **data: str) -> dict[str, Any]:
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}, "data": data}


def secret(name: str, **data: str) -> dict[str, Any]:
    return {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": name}, "stringData": data}


def of_map(name: str, key: str, *, optional: bool | None = None, variable: str = "X") -> dict[str, Any]:
    return {"name": variable, "valueFrom": {"configMapKeyRef": {"name": name, "key": key, "optional": optional}}}


def of_secret(name: str, key: str, *, variable: str = "X") -> dict[str, Any]:
    return {"name": variable, "valueFrom": {"secretKeyRef": {"name": name, "key": key}}}


def apply(server: Server, *objects: dict[str, Any]) -> list[str]:
    """object.apply; the verdicts."""
    text = "\n---\n".join(json.dumps(one) for one in objects)
    result = server.call("object.apply", documents=[{"name": "objects.yaml", "text": text}]).result
    return [one["verdict"] for one in result["objects"]]


def remove(server: Server, kind: str, *names: str) -> None:
    server.call("object.rm", kinds=[kind], names=list(names), missing_ok=True)


def env(server: Server, name: str, container: str | None = None) -> dict[str, str]:
    """What a command in a container has for variables."""
    out = server.run(name, "/bin/env", container=container)[1].decode("utf-8", "surrogateescape")
    return dict(line.split("=", 1) for line in out.splitlines() if "=" in line)


def waiting(server: Server, name: str, container: str = "a") -> tuple[str, str]:
    found = server.container(name, container)["state"].get("waiting", {})
    return found.get("reason", ""), found.get("message", "")


def mounted(server: Server) -> bool:
    return f" {server.root}/run/objects " in Path("/proc/self/mountinfo").read_text(encoding="utf-8")


def test_S_ENV_objects_in_the_file_of_the_pod(server: Server) -> None:
    container = box(
        "a",
        "pause",
        envFrom=[
            {"configMapRef": {"name": "one"}},
            {"configMapRef": {"name": "two"}},
            {"secretRef": {"name": "s"}, "prefix": "DB_"},
            {"secretRef": {"name": "gone", "optional": True}},
        ],
        env=[
            {"name": "C", "value": "own"},
            {"name": "URL", "value": "db://$(DB_user)@$(A)/$(gone)"},
            of_map("one", "log.level", variable="LEVEL"),
            of_map("one", "gone", optional=True, variable="NONE"),
        ],
    )
    one = config_map("one", A="1", C="x") | {"binaryData": {"blob": "/w=="}}
    one["data"]["log.level"] = "debug"
    manifest = pod("web", container)
    result = server.up(manifest, secret("s", user="me", password=PASSWORD), one, config_map("two", A="2"))
    assert [(one["kind"], one["name"], one["verdict"]) for one in result["objects"]] == [
        ("Secret", "s", "created"),
        ("ConfigMap", "one", "created"),
        ("ConfigMap", "two", "created"),
    ]
    found = env(server, "web")
    expected = {"A": "2", "C": "own", "log.level": "debug", "DB_user": "me", "DB_password": PASSWORD, "LEVEL": "debug"}
    assert {name: found.get(name) for name in expected} == expected
    assert found["URL"] == "db://me@2/$(gone)"
    assert "NONE" not in found
    assert "blob" not in found
    again = server.up(manifest, secret("s", user="me", password=PASSWORD), one)
    assert [one["verdict"] for one in (*again["objects"], *again["pods"])] == ["unchanged"] * 3
    # They stay when the pod goes.
    server.call("pod.down", documents=[{"name": "x", "text": json.dumps(manifest) + "\n---\n" + json.dumps(one)}])
    assert len(server.call("object.get").result["objects"]) == 3


def test_S_ENV_nothing_is_begun_when_an_object_of_the_file_is_not_valid(server: Server) -> None:
    bad = config_map("bad", **{"a/b": "1"})
    with pytest.raises(SpecError, match="ConfigMap 'bad' is not valid"):
        server.up(config_map("good", A="1"), pod("web", box("a", "pause")), bad)
    assert server.names() == []
    assert server.call("object.get").result["objects"] == []


@pytest.mark.parametrize(
    ("variable", "missing", "coming"),
    [
        (of_map("later", "k"), 'configmap "later" not found', config_map("later", k="v")),
        (of_secret("later", "k"), 'secret "later" not found', secret("later", k="v")),
        (of_map("there", "k"), "couldn't find key k in ConfigMap default/there", config_map("there", k="v")),
    ],
    ids=["configmap", "secret", "key"],
)
def test_S_ENV_a_container_waits_for_its_object_and_starts_at_once_when_it_comes(
    server: Server, variable: dict[str, Any], missing: str, coming: dict[str, Any]
) -> None:
    apply(server, config_map("there", other="1"))
    server.up(pod("web", box("a", "pause", env=[variable]), box("b", "pause")), wait="none")
    until(lambda: waiting(server, "web")[0] == "CreateContainerConfigError")
    assert waiting(server, "web") == ("CreateContainerConfigError", missing)
    assert server.get("web")["status"]["phase"] == "Pending"
    until(lambda: "running" in server.container("web", "b")["state"])
    events = server.call("pod.events", name="web").result["events"]
    (event,) = [one for one in events if one["reason"] == "Failed"]
    assert (event["type"], event["message"]) == ("Warning", f"Error: {missing}")
    # What others are told does not wake it.
    apply(server, config_map("another", k="v"))
    assert waiting(server, "web")[0] == "CreateContainerConfigError"
    begun = time.monotonic()
    apply(server, coming)
    until(lambda: "running" in server.container("web", "a")["state"], 5)
    assert time.monotonic() - begun < 5
    assert env(server, "web", "a")["X"] == "v"
    assert server.container("web", "a")["restartCount"] == 0


def test_S_ENV_an_object_of_another_namespace_does_not_count(server: Server) -> None:
    other = config_map("later", k="v")
    other["metadata"]["namespace"] = "elsewhere"
    apply(server, other)
    server.up(pod("web", box("a", "pause", env=[of_map("later", "k")])), wait="none")
    until(lambda: waiting(server, "web")[0] == "CreateContainerConfigError")
    assert waiting(server, "web")[1] == 'configmap "later" not found'


def test_S_ENV_a_running_container_keeps_what_it_began_with(server: Server) -> None:
    apply(server, config_map("m", k="old"), secret("s", k=PASSWORD))
    server.up(pod("web", box("a", "pause", env=[of_map("m", "k"), of_secret("s", "k", variable="Y")])))
    assert apply(server, config_map("m", k="new")) == ["configured"]
    remove(server, "secret", "s")
    server.kill()
    found = env(server, "web")
    assert (found["X"], found["Y"]) == ("old", PASSWORD)
    apply(server, secret("s", k="another"))
    server.call("pod.restart", name="web", grace_period_s=0, wait=True, timeout_s=30)
    found = env(server, "web")
    assert (found["X"], found["Y"]) == ("new", "another")
    remove(server, "configmap", "m")
    server.call("pod.kill", name="web", signal="KILL")
    until(lambda: waiting(server, "web")[0] in ("CreateContainerConfigError", "CrashLoopBackOff"))
    until(lambda: waiting(server, "web")[0] == "CreateContainerConfigError", 30)


@pytest.mark.parametrize("delay_s", [0.0, 0.001, 0.003, 0.01])
def test_S_ENV_a_server_that_dies_between_an_objects_coming_and_the_start(server: Server, delay_s: float) -> None:
    server.up(pod("web", box("a", "pause", env=[of_secret("s", "k")])), wait="none")
    until(lambda: waiting(server, "web")[0] == "CreateContainerConfigError")
    apply(server, secret("s", k=PASSWORD))
    time.sleep(delay_s)
    server.kill()
    begun = time.monotonic()
    until(lambda: "running" in server.container("web", "a")["state"], 8)
    assert time.monotonic() - begun < 8
    assert env(server, "web")["X"] == PASSWORD
    assert server.container("web", "a")["restartCount"] == 0


def test_S_ENV_secrets_are_in_memory_alone_and_told_to_nobody(server: Server) -> None:
    container = box("a", "pause", env=[of_secret("s", "k")])
    server.up(
        secret("s", k=PASSWORD),
        pod("web", container),
        pod("bad", box("a", "pause", env=[of_secret("s", "z")])),
        wait="none",
    )
    until(lambda: waiting(server, "bad")[0] == "CreateContainerConfigError")
    server.wait("web", "condition=Ready")
    assert env(server, "web")["X"] == PASSWORD
    stored = server.root / "run" / "objects" / "secret" / "default" / "s.json"
    assert stored.stat().st_mode & 0o777 == 0o600
    fs = subprocess.run(["stat", "-f", "-c", "%T", str(stored)], check=True, capture_output=True, text=True).stdout
    assert fs.strip() == "tmpfs"
    words = [PASSWORD.encode(), base64.b64encode(PASSWORD.encode())]
    for top, _, files in os.walk(server.root):
        if Path(top).is_relative_to(server.root / "run" / "objects"):
            assert os.stat(top).st_mode & 0o777 == 0o700
            continue
        for name in files:
            path = Path(top) / name
            if path.is_file() and not path.is_symlink():
                assert not any(word in path.read_bytes() for word in words), path
    told = json.dumps([server.call("pod.get", name=one).result for one in ("web", "bad")])
    told += json.dumps(server.call("pod.events").result) + server.said()
    assert not any(word.decode() in told for word in words)
    kept = server.call("object.get", kinds=["secrets"]).result["objects"]
    assert base64.b64decode(kept[0]["data"]["k"]).decode() == PASSWORD


def test_S_ENV_what_is_in_memory_goes_with_the_last_that_needs_it(server: Server) -> None:
    values = server.root / "run" / "objects" / "instances"
    server.up(secret("s", k="v"), config_map("m", k="v"), pod("web", box("a", "pause", env=[of_secret("s", "k")])))
    uid = server.get("web")["metadata"]["uid"]
    (first,) = os.listdir(values / uid)
    server.call("pod.restart", name="web", grace_period_s=0, wait=True, timeout_s=30)
    until(lambda: os.listdir(values / uid) != [first] and len(os.listdir(values / uid)) == 1)
    remove(server, "secret", "s")
    assert mounted(server)
    server.down("web")
    assert not values.exists()
    assert not mounted(server)
    assert (server.root / "lib" / "objects" / "configmap" / "default" / "m.json").exists()


def test_S_ENV_what_earlier_servers_noted_of_pods_that_are_gone_is_collected(server: Server) -> None:
    apply(server, secret("s", k="v"))
    lost = server.root / "run" / "objects" / "instances" / "some-uid"
    lost.mkdir(parents=True)
    (lost / "x.json").write_text("{}")
    server.kill()
    server.call("server.ping")
    until(lambda: not lost.exists())


def test_S_ENV_objects_outlive_the_server_and_configmaps_the_reboot(server: Server) -> None:
    apply(server, config_map("m", k="v"), secret("s", k="v"))
    before = server.call("object.get").result["objects"]
    server.kill()
    assert server.call("object.get").result["objects"] == before
    server.stop() if server.process is not None and server.process.poll() is None else server.kill()
    # After a reboot nothing is mounted, and run/ is empty.
    subprocess.run(["umount", str(server.root / "run" / "objects")], check=True)
    assert [one["kind"] for one in server.call("object.get").result["objects"]] == ["ConfigMap"]


def test_an_object_keeps_its_uid_and_says_how_it_changed(server: Server) -> None:
    assert apply(server, config_map("m", k="v")) == ["created"]
    (first,) = server.call("object.get", kinds=["cm"], names=["m"]).result["objects"]
    assert apply(server, config_map("m", k="v")) == ["unchanged"]
    assert apply(server, config_map("m", k="w")) == ["configured"]
    (second,) = server.call("object.get", kinds=["configmap"], names=["m"]).result["objects"]
    for name in ("uid", "creationTimestamp"):
        assert first["metadata"][name] == second["metadata"][name]
    assert int(second["metadata"]["resourceVersion"]) > int(first["metadata"]["resourceVersion"])


def test_what_is_immutable_stays_in_the_api_servers_words(server: Server) -> None:
    apply(server, config_map("m", k="v") | {"immutable": True}, secret("s", k="v") | {"immutable": True})
    with pytest.raises(SpecError, match='The ConfigMap "m" is invalid') as caught:
        apply(server, config_map("another", k="v"), config_map("m", k="w") | {"immutable": True})
    assert caught.value.details == "data: Forbidden: field is immutable when `immutable` is set"
    with pytest.raises(SpecError, match='The Secret "s" is invalid') as caught:
        apply(server, secret("s", k=PASSWORD) | {"type": "example.com/x"})
    assert (caught.value.details or "").splitlines() == [
        'type: Invalid value: "example.com/x": field is immutable',
        "immutable: Forbidden: field is immutable when `immutable` is set",
        "data: Forbidden: field is immutable when `immutable` is set",
    ]
    assert PASSWORD not in str(caught.value.as_data())
    names = [one["metadata"]["name"] for one in server.call("object.get").result["objects"]]
    assert names == ["m", "s"]


@pytest.mark.parametrize("key", ["..", "../x", "/etc/passwd", "a b", "", "..a", "x" * 254])
def test_keys_that_are_paths_are_refused(server: Server, key: str) -> None:
    for obj in (config_map("m", **{key: "v"}), secret("m", **{key: PASSWORD})):
        with pytest.raises(SpecError, match="is not valid") as caught:
            apply(server, obj)
        assert PASSWORD not in str(caught.value.as_data())
    assert server.call("object.get").result["objects"] == []


def test_bad_objects_and_names(server: Server) -> None:
    for bad in (
        config_map("m") | {"data": {"a": 5}},
        config_map("m") | {"data": [PASSWORD]},
        config_map("m") | {"binaryData": {"a": "not base64!"}},
        secret("m") | {"data": {"a": PASSWORD + "!"}},
        secret("m") | {"dats": {"a": PASSWORD}},
        config_map("../m"),
        config_map(".."),
        config_map("m") | {"metadata": {"generateName": "m-"}},
        config_map("m") | {"metadata": {"name": "m", "finalizers": ["a/b"]}},
        {"apiVersion": "v1", "kind": "Service", "metadata": {"name": "m"}},
        pod("web", box("a", "pause")),
    ):
        with pytest.raises(NsrunError) as caught:
            apply(server, config_map("good", a="1"), bad) if bad["kind"] != "Pod" else apply(server, bad)
        assert caught.value.code in ("spec", "unsupported")
        assert PASSWORD not in str(caught.value.as_data())
    assert server.call("object.get").result["objects"] == []
    for name in ("../../../etc/passwd", "..", "", ".", "a\0b", "x" * 5000, "m.json"):
        with pytest.raises(NotFoundError):
            server.call("object.get", kinds=["cm"], names=[name])
        with pytest.raises(NotFoundError):
            server.call("object.rm", kinds=["cm"], names=[name])
        with pytest.raises(NotFoundError):
            server.call("object.get", kinds=["cm"], names=["m"], namespace=name or "..")
    with pytest.raises(UsageError):
        server.call("object.get", kinds=["pods"])
    with pytest.raises(UsageError):
        server.call("object.rm")


def test_names_may_be_as_long_as_the_api_allows(server: Server) -> None:
    long, longer = "n" * 253, "n" * 252 + "m"
    assert apply(server, config_map(long, k="1"), config_map(longer, k="2"), secret(long, k="3")) == ["created"] * 3
    found = server.call("object.get", kinds=["cm"]).result["objects"]
    assert [one["metadata"]["name"] for one in found] == [longer, long]
    remove(server, "cm", long)
    assert len(server.call("object.get", kinds=["cm"]).result["objects"]) == 1


def test_S_ENV_a_value_that_is_too_long_for_a_program(server: Server) -> None:
    apply(server, config_map("m", k="x" * (1 << 20)), secret("s", k="x" * 100_000))
    with pytest.raises(SpecError, match="is not valid") as caught:
        apply(server, config_map("m", k="x" * (1 << 20), l="y"))
    assert "Too long: may not be more than 1048576 bytes" in (caught.value.details or "")
    server.up(
        pod(
            "web",
            box("a", "pause", env=[of_map("m", "k")]),
            box("b", "pause", env=[of_secret("s", "k")]),
            restartPolicy="Never",
        ),
        wait="none",
    )
    until(lambda: "terminated" in server.container("web", "a")["state"])
    end = server.container("web", "a")["state"]["terminated"]
    assert (end["reason"], end["exitCode"]) == ("StartError", 128)
    assert "argument list too long" in end["message"]
    until(lambda: "running" in server.container("web", "b")["state"])
    assert len(env(server, "web", "b")["X"]) == 100_000


def test_S_ENV_bytes_that_are_no_text_and_a_nul(server: Server) -> None:
    raw = secret("s") | {"data": {"k": base64.b64encode(b"\xff\xfe").decode(), "n": base64.b64encode(b"a\0b").decode()}}
    apply(server, raw)
    server.up(pod("web", box("a", "pause", env=[of_secret("s", "k")])))
    assert b"X=\xff\xfe\n" in server.run("web", "/bin/env")[1]
    server.up(pod("nul", box("a", "pause", env=[of_secret("s", "n")])), wait="none")
    until(lambda: waiting(server, "nul")[0] == "CreateContainerError")
    assert waiting(server, "nul")[1] == "environment variable 'X' has a NUL character in it"


def test_a_full_disk_keeps_the_object_that_was_there(server: Server) -> None:
    with small_disk(server, server.root / "lib", "1m"):
        apply(server, config_map("m", k="old"))
        with filled(server.root / "lib"):
            with pytest.raises(StepError, match='configmap "m" could not be kept') as caught:
                apply(server, config_map("m", k="x" * 5000))
            assert "No space left" in caught.value.brief
            (kept,) = server.call("object.get").result["objects"]
            assert kept["data"] == {"k": "old"}
            # Secrets are elsewhere.
            assert apply(server, secret("s", k="v")) == ["created"]
        assert apply(server, config_map("m", k="x" * 5000)) == ["configured"]
        remove(server, "secret", "s")


def test_many_objects_at_once_keep_nobody_waiting(server: Server) -> None:
    many = [config_map(f"many-{number}", a="x" * 200) for number in range(800)]
    verdicts: list[str] = []
    applying = threading.Thread(target=lambda: verdicts.extend(apply(server, *many)))
    applying.start()
    kept = server.root / "lib/objects/configmap/default"
    until(lambda: (kept / "many-0.json").exists())
    server.call("server.status")
    assert not (kept / "many-799.json").exists()
    assert not verdicts
    applying.join()
    assert verdicts == ["created"] * 800
    server.call("object.rm", kinds=["configmap"], all=True)


def test_what_was_changed_while_many_objects_were_kept_is_looked_at_again(server: Server) -> None:
    frozen = config_map("many-799", a="other") | {"immutable": True}
    many = [config_map(f"many-{number}", a="x" * 200) for number in range(800)]
    said: list[NsrunError] = []

    def work() -> None:
        try:
            apply(server, *many)
        except NsrunError as error:
            said.append(error)

    applying = threading.Thread(target=work)
    applying.start()
    until((server.root / "lib/objects/configmap/default/many-0.json").exists)
    assert apply(server, frozen) == ["created"]
    applying.join()
    assert [type(error) for error in said] == [SpecError]
    assert "field is immutable" in (said[0].details or "")
    server.call("object.rm", kinds=["configmap"], all=True)


def test_an_object_that_somebody_broke_costs_nothing_but_itself(server: Server) -> None:
    apply(server, secret("s", k=PASSWORD), secret("t", k="v"))
    stored = server.root / "run" / "objects" / "secret" / "default" / "s.json"
    stored.write_text(f'{{"data": "{PASSWORD}"')
    server.up(
        pod("web", box("a", "pause", env=[of_secret("s", "k")]), box("b", "pause", env=[of_secret("t", "k")])),
        wait="none",
    )
    until(lambda: waiting(server, "web")[0] == "CreateContainerError")
    assert waiting(server, "web")[1] == f"{stored} cannot be read"
    until(lambda: "running" in server.container("web", "b")["state"])
    assert PASSWORD not in server.said()
    remove(server, "secret", "s")
    apply(server, secret("s", k="v"))
    until(lambda: "running" in server.container("web", "a")["state"], 40)


def test_names_of_manifests_mean_pods_alone(server: Server) -> None:
    server.up(pod("web", box("a", "pause")))
    text = json.dumps(config_map("m", k="v")) + "\n---\n" + json.dumps(pod("web", box("a", "pause")))
    gone = server.call("pod.down", documents=[{"name": "x", "text": text}], grace_period_s=0).result["pods"]
    assert [one["name"] for one in gone] == ["web"]
    with pytest.raises((SpecError, NotFoundError, ConflictError, UsageError)):
        server.call("object.rm", documents=[{"name": "x", "text": text}])
