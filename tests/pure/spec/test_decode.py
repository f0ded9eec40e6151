"""Decoding: the API server's words for what does not fit."""

from __future__ import annotations

import json
from typing import Any

import pytest

from nsrun import spec
from nsrun.errors import SpecError
from nsrun.spec import incoming, model, model_kinds


def pod(**spec_fields: Any) -> dict[str, Any]:
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "p"},
        "spec": {"containers": [{"name": "c", "image": "i"}], **spec_fields},
    }


def container(**fields: Any) -> dict[str, Any]:
    return pod(containers=[{"name": "c", "image": "i", **fields}])


def verdict(value: Any) -> spec.Verdict:
    """The verdict on `value`, read as YAML."""
    text = "---\n" + json.dumps(value, indent=1)
    (found,) = spec.load(("# yaml\n" + text.replace("---\n{", "--- {", 1)).encode(), "p.yaml")
    return found


STRUCT = "json: cannot unmarshal {} into Go struct field {} of type {}"


@pytest.mark.parametrize(
    ("value", "what", "field", "go_type"),
    [
        (container(args="x"), "string", "Container.spec.containers.args", "[]string"),
        (container(args=[1]), "number", "Container.spec.containers.args", "string"),
        (container(args=[True]), "bool", "Container.spec.containers.args", "string"),
        (container(args={}), "object", "Container.spec.containers.args", "[]string"),
        (container(ports=[{"hostPort": "80"}]), "string", "ContainerPort.spec.containers.ports.hostPort", "int32"),
        (container(ports=[{"hostPort": 1 << 31}]), "number 2147483648", "ContainerPort.spec.containers.ports.hostPort",
         "int32"),
        (container(ports=[{"hostPort": 1.5}]), "number 1.5", "ContainerPort.spec.containers.ports.hostPort", "int32"),
        (container(env=[{"name": "A", "value": 1}]), "number", "EnvVar.spec.containers.env.value", "string"),
        (container(imagePullPolicy=1), "number", "Container.spec.containers.imagePullPolicy", "v1.PullPolicy"),
        (container(tty="y"), "string", "Container.spec.containers.tty", "bool"),
        (container(securityContext=[]), "array", "Container.spec.containers.securityContext", "v1.SecurityContext"),
        (pod(hostNetwork=1), "number", "PodSpec.spec.hostNetwork", "bool"),
        (pod(nodeSelector={"a": 1}), "number", "PodSpec.spec.nodeSelector", "string"),
        (pod(nodeSelector=[]), "array", "PodSpec.spec.nodeSelector", "map[string]string"),
        (pod(containers={}), "object", "PodSpec.spec.containers", "[]v1.Container"),
        (pod(containers=["x"]), "string", "PodSpec.spec.containers", "v1.Container"),
        (pod(terminationGracePeriodSeconds="1"), "string", "PodSpec.spec.terminationGracePeriodSeconds", "int64"),
        (container(livenessProbe={"httpGet": {"port": True}}), "bool",
         "HTTPGetAction.spec.containers.livenessProbe.httpGet.port", "int32"),
        ({**pod(), "metadata": "x"}, "string", "Pod.metadata", "v1.ObjectMeta"),
        ({**pod(), "metadata": {"labels": {"a": True}}}, "bool", "ObjectMeta.metadata.labels", "string"),
    ],
)  # fmt: skip
def test_wrong_type(value: Any, what: str, field: str, go_type: str) -> None:
    found = verdict(value)
    assert found.verdict == "decode-error"
    assert found.messages == [STRUCT.format(what, field, go_type)]


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (container(resources={"limits": {"cpu": "x"}}), "quantities must match the regular expression"),
        (container(resources={"limits": {"cpu": "1q"}}), "quantities must match the regular expression"),
        (container(resources={"limits": {"cpu": True}}), "quantities must match the regular expression"),
        ({**pod(), "metadata": {"creationTimestamp": "today"}}, 'parsing time "today"'),
        ({**pod(), "metadata": {"creationTimestamp": 1}}, "cannot unmarshal number into Go value of type string"),
        ({**pod(), "kind": None}, "Object 'Kind' is missing"),
        ({"apiVersion": "v1", "spec": {}}, "Object 'Kind' is missing"),
        ({"kind": "Pod"}, "Object 'apiVersion' is missing"),
        ({**pod(), "kind": "Podd"}, 'no kind "Podd" is registered for version "v1"'),
        ({**pod(), "apiVersion": "v2"}, 'no kind "Pod" is registered for version "v2"'),
        ({**pod(), "apiVersion": "apps/v1"}, 'no kind "Pod" is registered for version "apps/v1"'),
        ({**pod(), "kind": 3}, "couldn't get version/kind"),
        ([1], "couldn't get version/kind"),
        ("text", "couldn't get version/kind"),
        ({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "s"}, "data": {"a": "*"}}, "illegal base64 data"),
    ],
)
def test_not_an_object_of_its_kind(value: Any, message: str) -> None:
    found = verdict(value) if not isinstance(value, str) else spec.load(b"text\n", "p.yaml")[0]
    assert found.verdict == "decode-error"
    assert found.messages[0].startswith(message) or message in found.messages[0]
    assert found.object is None


def test_the_first_mismatch_is_told_and_unknown_fields_are_not() -> None:
    found = verdict(container(command=1, args=2, unknown=3))
    assert found.messages == [STRUCT.format("number", "Container.spec.containers.args", "[]string")]


def test_unknown_fields() -> None:
    value = container(zoo=1, ports=[{"containerPort": 1}, {"prot": "TCP", "containerPort": 2}])
    value["extra"] = {"deep": 1}
    value["spec"]["Volumes"] = []
    found = verdict(value)
    assert found.verdict == "unknown-field"
    assert found.messages == [
        'unknown field "extra"',
        'unknown field "spec.Volumes"',
        'unknown field "spec.containers[0].ports[1].prot"',
        'unknown field "spec.containers[0].zoo"',
    ]
    assert found.paths[2] == "spec.containers[0].ports[1].prot"
    assert isinstance(found.object, spec.Pod)
    assert found.object.spec.containers[0].ports[1].containerPort == 2


def test_not_strict() -> None:
    (document,) = spec.read_documents(json.dumps(container(zoo=1)).encode(), name="p")
    obj = spec.decode(document, strict=False)
    assert isinstance(obj, spec.Pod)
    with pytest.raises(spec.StrictError):
        spec.decode(document)


def test_many_unknown_fields_end() -> None:
    assert len(verdict(container(**{f"x{n}": 1 for n in range(500)})).messages) == 100


def test_duplicate_fields_in_json_and_yaml() -> None:
    text = '{"apiVersion":"v1","kind":"Pod","metadata":{"name":"p","name":"q","labels":{"a":"1","a":"2"}},"spec":{"x":1,"x":2}}'
    (found,) = spec.load(text.encode(), "p.json")
    assert found.verdict == "unknown-field"
    assert found.messages == [
        'duplicate field "metadata.name"',
        'duplicate field "metadata.labels.a"',
        'unknown field "spec.x"',
    ]
    (found,) = spec.load(b"apiVersion: v1\nkind: Pod\nmetadata:\n  name: p\n  name: q\nzoo: 1\n", "p.yaml")
    assert found.messages == [
        'yaml: unmarshal errors:\n  line 5: key "name" already set in map',
        'unknown field "zoo"',
    ]
    assert found.located_messages()[1] == 'p.yaml:6: unknown field "zoo"'


def test_json_keeps_its_order_and_yaml_sorts() -> None:
    text = b'{"kind":"Pod","apiVersion":"v1","zz":1,"aa":1}'
    assert spec.load(text, "p")[0].messages == ['unknown field "zz"', 'unknown field "aa"']
    assert spec.load(b"#\n--- " + text, "p")[0].messages == ['unknown field "aa"', 'unknown field "zz"']


def test_zero_values_of_optional_fields_are_absent() -> None:
    value = container(workingDir="", tty=False, args=[], ports=[{"containerPort": 0, "hostPort": 0}])
    value["spec"]["hostNetwork"] = False
    value["spec"]["terminationGracePeriodSeconds"] = 0
    (document,) = spec.read_documents(json.dumps(value).encode(), name="p")
    obj = spec.decode(document)
    assert isinstance(obj, spec.Pod)
    assert obj.spec.hostNetwork is None
    assert obj.spec.containers[0].workingDir is None
    assert obj.spec.terminationGracePeriodSeconds == 0  # a pointer in Go: 0 is not "absent"
    assert json.loads(spec.encode(obj))["spec"] == {
        "containers": [{"name": "c", "image": "i", "ports": [{"containerPort": 0}], "resources": {}}],
        "terminationGracePeriodSeconds": 0,
    }


def test_null_is_absent() -> None:
    value = container(args=None, resources=None, securityContext=None)
    value["metadata"]["labels"] = None
    value["spec"]["volumes"] = None
    (document,) = spec.read_documents(json.dumps(value).encode(), name="p")
    obj = spec.decode(document)
    assert isinstance(obj, spec.Pod)
    assert obj.spec.containers[0].args == []
    assert obj.spec.containers[0].resources == model.ResourceRequirements()


def test_leaves() -> None:
    value = container(
        resources={"limits": {"cpu": 0.5, "memory": "1024Mi", "x.y/z": 3}},
        livenessProbe={"tcpSocket": {"port": "http"}},
        readinessProbe={"tcpSocket": {"port": 80}},
    )
    value["metadata"]["creationTimestamp"] = "2026-01-02T03:04:05+01:00"
    value["metadata"]["managedFields"] = [{"fieldsV1": {"f:metadata": {"f:x": {}, "n": 1.5}}}]
    (document,) = spec.read_documents(json.dumps(value).encode(), name="p")
    obj = spec.decode(document)
    assert isinstance(obj, spec.Pod)
    assert obj.spec.containers[0].resources.limits == {"cpu": "500m", "memory": "1Gi", "x.y/z": "3"}
    assert obj.spec.containers[0].livenessProbe is not None
    assert obj.spec.containers[0].livenessProbe.tcpSocket is not None
    assert obj.spec.containers[0].livenessProbe.tcpSocket.port == "http"
    assert obj.metadata.creationTimestamp == "2026-01-02T02:04:05Z"
    assert obj.metadata.managedFields[0].fieldsV1 == {"f:metadata": {"f:x": {}, "n": 1.5}}


@pytest.mark.parametrize(
    ("written", "kept"),
    [
        ("0001-01-01T00:00:02.000000Z", "0001-01-01T00:00:02.000000Z"),
        ("0999-12-31T23:59:59.5Z", "0999-12-31T23:59:59.500000Z"),
        ("2026-11-22T11:19:10.1234567+02:00", "2026-11-22T09:19:10.123456Z"),
    ],
)
def test_a_year_has_four_digits(written: str, kept: str) -> None:
    lease = {"apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "spec": {"acquireTime": written}}
    lease["metadata"] = {"name": "l", "creationTimestamp": written}
    found = incoming.read(lease).object
    assert isinstance(found, model_kinds.Lease)
    assert found.spec.acquireTime == kept
    assert found.metadata.creationTimestamp == kept[:19] + "Z"


def test_number_texts_in_json() -> None:
    text = b'{"apiVersion":"v1","kind":"Pod","spec":{"containers":[{"ports":[{"hostPort":1.0}]}]}}'
    message = STRUCT.format("number 1.0", "ContainerPort.spec.containers.ports.hostPort", "int32")
    assert spec.load(text, "p")[0].messages == [message]
    yaml = b"apiVersion: v1\nkind: Pod\nspec:\n  containers: [{ports: [{hostPort: 1.0}]}]\n"
    assert spec.load(yaml, "p")[0].verdict == "invalid"  # YAML's 1.0 is 1 by the time it is JSON


@pytest.mark.parametrize(("word", "hint"), [("y", "booleans"), ("8080", "number")])
def test_what_yaml_makes_of_a_word_is_explained(word: str, hint: str) -> None:
    text = f"apiVersion: v1\nkind: Pod\nmetadata: {{name: p}}\nspec:\n  containers:\n  - args: [{word}]\n"
    (found,) = spec.load(text.encode(), "p.yaml")
    with pytest.raises(SpecError) as caught:
        found.require_valid()
    assert caught.value.details is not None
    assert caught.value.details.startswith("p.yaml:6: json: cannot unmarshal")
    assert hint in (caught.value.resolution or "")


def test_what_may_be_meant() -> None:
    value = container(imagepullpolicy="Always", commnd=["x"], zoo=1)
    text = json.dumps(value)
    (found,) = spec.load(text.encode(), "p")
    assert found.located_messages() == [
        'p:1: unknown field "spec.containers[0].imagepullpolicy" (did you mean imagePullPolicy?)',
        'p:1: unknown field "spec.containers[0].commnd" (did you mean command?)',
        'p:1: unknown field "spec.containers[0].zoo"',
    ]


# Other kinds


def test_lists_are_judged_item_by_item() -> None:
    value = {
        "apiVersion": "v1",
        "kind": "List",
        "items": [pod(), {**pod(), "zoo": 1}, {"apiVersion": "v1", "kind": "Service"}],
    }
    text = json.dumps(value, indent=1)
    found = spec.load(text.encode(), "list.json")
    assert [(each.kind, each.verdict) for each in found] == [
        ("Pod", "valid"),
        ("Pod", "unknown-field"),
        ("Service", "other"),
    ]
    line = text[: text.index('"zoo"')].count("\n") + 1
    assert found[1].located_messages() == [f'list.json:{line}: unknown field "zoo"']


def test_typed_lists() -> None:
    bare = {key: value for key, value in pod().items() if key not in ("kind", "apiVersion")}
    value = {"apiVersion": "v1", "kind": "PodList", "metadata": {}, "items": [bare, {**bare, "zoo": 1}]}
    assert [each.verdict for each in spec.load(json.dumps(value).encode(), "l")] == ["valid", "unknown-field"]
    for empty in ({"apiVersion": "v1", "kind": "List"}, {"apiVersion": "v1", "kind": "PodList", "items": []}):
        assert spec.load(json.dumps(empty).encode(), "l") == []
    (found,) = spec.load(b"apiVersion: v1\nkind: List\nitems: 3\n", "l")
    assert found.verdict == "decode-error"


@pytest.mark.parametrize(
    ("version", "kind"),
    [("apps/v1", "Deployment"), ("v1", "Service"), ("example.com/v1", "Pod"), ("batch/v1", "Job"), ("v1", "Namespace")],
)
def test_other_kinds_are_carried_on(version: str, kind: str) -> None:
    found = verdict({"apiVersion": version, "kind": kind, "metadata": {"name": "x"}, "anything": 1})
    assert (found.verdict, found.messages, found.object) == ("other", [], None)
    assert found.raw["anything"] == 1
    assert found.name == "x"
    with pytest.raises(SpecError, match="not something nsrun runs"):
        found.require_valid()


def test_companions() -> None:
    text = b"""\
apiVersion: v1
kind: ConfigMap
metadata: {name: c}
data: {a: "1"}
binaryData: {b: aGk=}
---
apiVersion: v1
kind: Secret
metadata: {name: s}
stringData: {k: v}
data: {b: aGk=}
---
apiVersion: v1
kind: PersistentVolumeClaim
metadata: {name: p}
spec: {accessModes: [ReadWriteOnce], resources: {requests: {storage: 1Gi}}}
---
apiVersion: v1
kind: PersistentVolume
metadata: {name: v}
spec: {accessModes: [ReadWriteOnce], capacity: {storage: 1Gi}, hostPath: {path: /x}}
"""
    found = spec.load(text, "c.yaml")
    assert [each.verdict for each in found] == ["valid"] * 4, [each.messages for each in found]
    config, secret, claim, volume = (each.object for each in found)
    assert isinstance(config, spec.ConfigMap)
    assert config.binaryData == {"b": b"hi"}
    assert isinstance(secret, spec.Secret)
    assert secret.data == {"b": b"hi", "k": b"v"}
    assert secret.type == "Opaque"
    assert json.loads(spec.encode(secret))["data"] == {"b": "aGk=", "k": "dg=="}
    assert isinstance(claim, spec.PersistentVolumeClaim)
    assert claim.spec.volumeMode == "Filesystem"
    assert isinstance(volume, spec.PersistentVolume)
    assert volume.metadata.namespace is None
    assert spec.pods(found) == []


def test_pods_names_the_first_that_is_not_valid() -> None:
    text = b"apiVersion: v1\nkind: Pod\nmetadata:\n  name: P\nspec:\n  containers: [{name: a, image: i}]\n"
    with pytest.raises(SpecError) as caught:
        spec.pods(spec.load(text, "p.yaml"))
    assert caught.value.brief == "p.yaml:1: Pod 'P' is not valid"
    assert caught.value.details is not None
    assert caught.value.details.startswith(
        'p.yaml:4: metadata.name: Invalid value: "P": a lowercase RFC 1123 subdomain'
    )
