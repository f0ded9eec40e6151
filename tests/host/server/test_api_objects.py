"""`api.*`: objects as clients of the Kubernetes API make, change and delete them, and the stream that tells of all."""

from __future__ import annotations

import contextlib
import itertools
import json
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from tests.host.server.api_client import ApiClient
from tests.host.server.harness import LostError, Server, box, pod

pytestmark = pytest.mark.timeout(90)


@pytest.fixture
def api(server: Server) -> Iterator[ApiClient]:
    """A client with the stream."""
    with ApiClient(server) as client:
        yield client


def config_map(name: str, **data: str) -> dict[str, Any]:
    """A ConfigMap."""
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}, "data": data}


def test_pods_by_the_api_and_by_the_command_are_the_same(server: Server, api: ApiClient) -> None:
    manifest = pod("web", box("a", "pause"))
    made = api.create(manifest)
    assert made["status"] == {"phase": "Pending", "qosClass": "BestEffort"}
    assert made["metadata"]["generation"] == 1
    # The event of a write comes before its answer.
    assert api.objects["Pod", "default", "web"] == made
    api.until(lambda: api.objects["Pod", "default", "web"]["status"]["phase"] == "Running")
    assert api.objects["Event", "default", next(k[2] for k in api.objects if k[0] == "Event")]["metadata"][
        "resourceVersion"
    ]
    again = server.up(manifest)["pods"][0]
    assert (again["verdict"], again["uid"]) == ("unchanged", made["metadata"]["uid"])
    assert api.refusal("api.create", object=manifest) == {
        "code": 409,
        "reason": "AlreadyExists",
        "message": 'pods "web" already exists',
        "details": {"name": "web", "kind": "pods"},
    }

    # Optimistic concurrency, and what may not change.
    live = api.get("Pod", "web")
    changed = api.update({**live, "metadata": {**live["metadata"], "labels": {"a": "b"}}})
    assert changed["metadata"]["labels"] == {"a": "b"}
    assert changed["metadata"]["generation"] == 1
    assert int(changed["metadata"]["resourceVersion"]) > int(live["metadata"]["resourceVersion"])
    status = api.refusal("api.update", object=live)
    assert status["code"] == 409
    assert status["message"].endswith("please apply your changes to the latest version and try again")
    other = {**changed, "spec": {**changed["spec"], "hostname": "x"}}
    status = api.refusal("api.update", object=other)
    assert status["code"] == 422
    assert status["details"]["causes"][0]["reason"] == "FieldValueForbidden"
    assert status["message"].startswith(
        'Pod "web" is invalid: spec: Forbidden: pod updates may not change fields other than `spec.'
    )
    assert '+  "hostname": "x"' in status["message"]

    # The status: conditions of others, nothing else.
    conditions = [*changed["status"]["conditions"], {"type": "example.com/warm", "status": "True"}]
    told = api.update({**changed, "status": {"phase": "Failed", "conditions": conditions}}, subresource="status")
    assert told["status"]["phase"] == "Running"
    assert [one["status"] for one in told["status"]["conditions"] if one["type"] == "example.com/warm"] == ["True"]

    # A dry run tells what would be.
    would = api.delete("Pod", "web", dry_run=True)
    assert would["object"]["metadata"]["deletionGracePeriodSeconds"] == 1
    assert "deletionTimestamp" not in api.get("Pod", "web")["metadata"]
    status = api.refusal("api.delete", kind="Pod", namespace="default", name="web", uid="x")
    assert status["message"].startswith(
        'Operation cannot be fulfilled on Pod "web": the UID in the precondition (x) does not'
    )
    gone = api.delete("Pod", "web", grace_period_s=0)
    assert gone["gone"]
    assert ("Pod", "default", "web") not in api.objects
    assert api.refusal("api.delete", kind="Pod", namespace="default", name="web")["code"] == 404


def test_what_is_refused_is_refused_in_the_words_of_an_api_server(api: ApiClient) -> None:
    bad = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p9"}, "spec": {"containers": [], "foo": 1}}
    status = api.refusal("api.create", object=bad, field_validation="Strict")
    assert status["code"] == 400
    assert status["message"] == (
        'Pod in version "v1" cannot be handled as a Pod: strict decoding error: unknown field "spec.foo"'
    )
    status = api.refusal("api.create", object=bad)
    assert (status["code"], status["message"]) == (422, 'Pod "p9" is invalid: spec.containers: Required value')
    wrong = {**bad, "spec": {"containers": "x"}}
    assert api.refusal("api.create", object=wrong)["message"] == (
        'Pod in version "v1" cannot be handled as a Pod: json: cannot unmarshal string into Go struct field'
        " PodSpec.spec.containers of type []v1.Container"
    )
    warned = api.call("api.create", object={**pod("p9", box("a", "pause")), "foo": 1}, dry_run=True)
    assert warned["warnings"][0] == 'unknown field "foo"'
    assert ("Pod", "default", "p9") not in api.objects
    elsewhere = {**config_map("x"), "metadata": {"name": "x", "namespace": "other"}}
    assert api.refusal("api.create", object=elsewhere, namespace="default")["message"] == (
        "the namespace of the provided object does not match the namespace sent on the request"
    )


def test_objects_are_kept_told_of_and_let_go(server: Server, api: ApiClient) -> None:
    made = api.create(
        {**config_map("conf", a="b"), "metadata": {"generateName": "conf-", "finalizers": ["example.com/x"]}}
    )
    name = made["metadata"]["name"]
    assert name.startswith("conf-")
    assert api.objects["ConfigMap", "default", name] == made
    assert server.call("object.get", kinds=["cm"], names=[name]).result["objects"][0]["data"] == {"a": "b"}
    stale = made
    made = api.update({**made, "data": {"a": "c"}})
    assert api.refusal("api.update", object=stale)["reason"] == "Conflict"
    unconditional = {**stale, "metadata": {**stale["metadata"], "resourceVersion": ""}}
    assert api.update(unconditional)["data"] == {"a": "b"}
    # Finalizers hold it.
    answer = api.delete("ConfigMap", name)
    assert not answer["gone"]
    held = api.get("ConfigMap", name)
    assert held["metadata"]["deletionTimestamp"]
    status = api.refusal("api.update", object={**held, "metadata": {**held["metadata"], "finalizers": ["a.b/c"]}})
    assert status["details"]["causes"][0]["field"] == "metadata.finalizers"
    api.update({**held, "metadata": {**held["metadata"], "finalizers": []}})
    assert ("ConfigMap", "default", name) not in api.objects
    # The next server knows what this one knew, and counts on.
    kept = api.create(config_map("kept", a="1"))
    server.kill()
    server.start()
    with ApiClient(server) as later:
        assert later.objects["ConfigMap", "default", "kept"] == kept
        assert int(later.bookmark) > int(kept["metadata"]["resourceVersion"])
        later.delete("ConfigMap", "kept")


def test_namespaces_hold_and_take_along(server: Server, api: ApiClient) -> None:
    always = [key[2] for key in api.objects if key[0] == "Namespace"]
    assert sorted(always) == ["default", "kube-node-lease", "kube-public", "kube-system"]
    assert api.refusal("api.create", object=config_map("x"), namespace="nonono") == {
        "code": 404, "reason": "NotFound", "message": 'namespaces "nonono" not found',
        "details": {"name": "nonono", "kind": "namespaces"},
    }  # fmt: skip
    assert api.refusal("api.delete", kind="Namespace", name="default", namespace="")["code"] == 403
    made = api.create({"apiVersion": "v1", "kind": "Namespace", "metadata": {"generateName": "smp-"}})
    name = made["metadata"]["name"]
    assert made["metadata"]["labels"] == {"kubernetes.io/metadata.name": name}
    assert (made["spec"], made["status"]) == ({"finalizers": ["kubernetes"]}, {"phase": "Active"})
    # What a command brings up is in one, too.
    server.up(pod("there", box("a", "pause")), namespace="implied")
    api.until(lambda: ("Namespace", "", "implied") in api.objects)
    api.create(pod("web", box("a", "pause"), terminationGracePeriodSeconds=1), namespace=name)
    api.create(config_map("conf"), namespace=name)
    api.create({**config_map("held"), "metadata": {"name": "held", "finalizers": ["example.com/x"]}}, namespace=name)
    going = api.delete("Namespace", name, namespace="")["object"]
    assert going["status"]["phase"] == "Terminating"
    status = api.refusal("api.create", object=config_map("late"), namespace=name)
    assert status["message"] == (
        f'configmaps "late" is forbidden: unable to create new content in namespace {name} because it is being terminated'
    )
    assert status["details"]["causes"] == [
        {
            "reason": "NamespaceTerminating",
            "message": f"namespace {name} is being terminated",
            "field": "metadata.namespace",
        }
    ]
    api.until(lambda: not any(key[1] == name and key[0] in ("Pod", "Event") for key in api.objects))
    # A killed server's successor goes on with it.
    server.kill()
    server.start()
    with ApiClient(server) as later:
        held = later.objects["ConfigMap", name, "held"]
        assert held["metadata"]["deletionTimestamp"]
        later.update({**held, "metadata": {**held["metadata"], "finalizers": []}})
        later.until(lambda: ("Namespace", "", name) not in later.objects)
        later.delete("Namespace", "implied", namespace="")
        later.until(lambda: ("Namespace", "", "implied") not in later.objects)
    assert server.names() == []


def test_the_machine_is_a_node_and_the_kinds_around_pods_are_kept(api: ApiClient) -> None:
    ((_, _, name),) = [key for key in api.objects if key[0] == "Node"]
    node = api.objects["Node", "", name]
    assert node["metadata"]["labels"]["kubernetes.io/hostname"] == name
    assert {one["type"]: one["status"] for one in node["status"]["conditions"]}["Ready"] == "True"
    assert node["status"]["addresses"][0]["type"] == "InternalIP"
    assert int(node["status"]["capacity"]["cpu"]) >= 1
    api.until(lambda: api.objects["Node", "", name]["status"].get("images"))
    node = api.get("Node", name, namespace="")
    taint = {"key": "example.com/x", "effect": "NoSchedule"}
    labels = {**node["metadata"]["labels"], "disk": "fast", "kubernetes.io/os": "plan9"}
    changed = api.update({**node, "metadata": {**node["metadata"], "labels": labels}, "spec": {"taints": [taint]}})
    assert api.objects["Node", "", name] == changed
    assert changed["metadata"]["labels"] == {**node["metadata"]["labels"], "disk": "fast"}
    assert changed["spec"]["taints"] == [taint]
    assert api.refusal("api.delete", kind="Node", namespace="", name=name)["code"] == 403

    service = {"apiVersion": "v1", "kind": "Service", "metadata": {"name": "foo"}}
    made = api.create({**service, "spec": {"ports": [{"port": 80}], "selector": {"a": "b"}}})
    address = made["spec"].pop("clusterIP")
    assert address.startswith("10.")
    assert made["spec"] == {
        "ports": [{"protocol": "TCP", "port": 80, "targetPort": 80}],
        "selector": {"a": "b"},
        "clusterIPs": [address],
        "type": "ClusterIP",
        "sessionAffinity": "None",
        "ipFamilies": ["IPv4"],
        "ipFamilyPolicy": "SingleStack",
        "internalTrafficPolicy": "Cluster",
    }
    assert made["status"] == {"loadBalancer": {}}
    assert api.objects["Service", "default", "kubernetes"]["spec"]["clusterIP"] == "10.96.0.1"
    again = {**service, "metadata": {"name": "again"}, "spec": {"ports": [{"port": 80}], "clusterIP": address}}
    assert api.refusal("api.create", object=again)["reason"] == "Invalid"
    headless = api.create({**again, "spec": {"clusterIP": "None"}})
    assert headless["spec"]["clusterIPs"] == ["None"]

    runtime = {"apiVersion": "node.k8s.io/v1", "kind": "RuntimeClass", "metadata": {"name": "smp"}, "handler": "x"}
    made = api.create(runtime)
    assert made["apiVersion"] == "node.k8s.io/v1"
    status = api.refusal("api.update", object={**made, "handler": "y"})
    assert (
        status["message"]
        == 'RuntimeClass.node.k8s.io "smp" is invalid: handler: Invalid value: "y": field is immutable'
    )
    assert api.delete("RuntimeClass", "smp", namespace="")["gone"]

    event = {
        "apiVersion": "events.k8s.io/v1", "kind": "Event", "metadata": {"name": "e1"}, "note": "it happened",
        "regarding": {"kind": "Pod", "namespace": "default", "name": "x"}, "reason": "Because", "action": "Looked",
        "eventTime": "2026-11-22T11:19:10.729150Z", "type": "Normal",
        "reportingController": "me", "reportingInstance": "me-1",
    }  # fmt: skip
    made = api.create(event, namespace="default")
    assert (made["apiVersion"], made["message"], made["involvedObject"]["name"]) == ("v1", "it happened", "x")
    lease = {"apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": {"name": "l"}}
    made = api.create({**lease, "spec": {"holderIdentity": "me", "renewTime": "2026-11-22T11:19:10.000001Z"}})
    assert made["spec"]["renewTime"] == "2026-11-22T11:19:10.000001Z"
    strange = {"apiVersion": "v1", "kind": "Gizmo", "metadata": {"name": "x"}}
    assert api.refusal("api.create", object=strange)["message"] == (
        'no kind "Gizmo" is registered for version "v1" in scheme'
    )


def test_a_pod_waits_for_its_node_its_gates_and_its_runtime(server: Server, api: ApiClient) -> None:
    def condition(name: str, type_: str = "PodScheduled") -> dict[str, Any]:
        conditions = api.objects["Pod", "default", name]["status"].get("conditions", [])
        return next((one for one in conditions if one["type"] == type_), {})

    box_a = box("a", "pause")
    gated = api.create(pod("gated", box_a, schedulingGates=[{"name": "example.com/wait"}]))
    assert "nodeName" not in gated["spec"]
    selects = api.create(pod("selects", box_a, nodeSelector={"disk": "fast"}))
    assert "nodeName" not in selects["spec"]
    api.create(pod("elsewhere", box_a, nodeName="another"))
    api.until(lambda: condition("gated").get("reason") == "SchedulingGated")
    api.until(lambda: condition("selects").get("reason") == "Unschedulable")
    api.until(lambda: condition("elsewhere").get("status") == "False")
    gated = api.get("Pod", "gated")
    freed = api.update({**gated, "spec": {k: v for k, v in gated["spec"].items() if k != "schedulingGates"}})
    assert freed["metadata"]["generation"] == 2
    ((_, _, name),) = [key for key in api.objects if key[0] == "Node"]
    node = api.get("Node", name, namespace="")
    labels = {**node["metadata"]["labels"], "disk": "fast"}
    api.update({**node, "metadata": {**node["metadata"], "labels": labels}})
    for waited in ("gated", "selects"):
        api.until(lambda waited=waited: api.objects["Pod", "default", waited]["status"]["phase"] == "Running")
        assert api.objects["Pod", "default", waited]["spec"]["nodeName"] == name
    assert api.get("Pod", "elsewhere")["status"]["phase"] == "Pending"
    assert api.delete("Pod", "elsewhere")["gone"]

    # Runtime classes.
    named = pod("classy", box_a, runtimeClassName="smp")
    assert api.refusal("api.create", object=named, dry_run=True) == {
        "code": 403, "reason": "Forbidden", "details": {"name": "classy", "kind": "pods"},
        "message": 'pods "classy" is forbidden: pod rejected: RuntimeClass "smp" not found',
    }  # fmt: skip
    runtime = {"apiVersion": "node.k8s.io/v1", "kind": "RuntimeClass", "metadata": {"name": "smp"}, "handler": "runc"}
    api.create({**runtime, "overhead": {"podFixed": {"cpu": "10m"}}})
    api.create({**runtime, "metadata": {"name": "odd"}, "handler": "test-handler"})
    made = api.create(named)
    assert made["spec"]["overhead"] == {"cpu": "10m"}
    assert (made["spec"]["serviceAccountName"], made["spec"]["priority"]) == ("default", 0)
    api.create(pod("odd", box_a, runtimeClassName="odd"))
    text = 'Failed to create pod sandbox: failed to get sandbox runtime: no runtime for "test-handler" is configured'
    api.until(lambda: any(key[0] == "Event" and one["message"] == text for key, one in api.objects.items()))
    assert condition("odd")["status"] == "True"
    api.until(lambda: api.objects["Pod", "default", "classy"]["status"]["phase"] == "Running")
    assert server.up(named)["pods"][0]["verdict"] == "unchanged"
    status = api.refusal("api.create", object=pod("x", box_a, priorityClassName="foo"))
    assert status["message"] == 'pods "x" is forbidden: no PriorityClass with name foo was found'
    vip = api.create(pod("vip", box_a, priorityClassName="system-node-critical"), dry_run=True)
    assert vip["spec"]["priority"] == 2000001000
    status = api.refusal("api.create", object=pod("x", box_a, serviceAccountName="nope"))
    assert 'error looking up service account default/nope: serviceaccount "nope" not found' in status["message"]


def test_S_ENV_a_pod_is_told_of_the_services_before_it(server: Server, api: ApiClient) -> None:
    service = {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": "my-db"},
        "spec": {"ports": [{"port": 8765}]},
    }
    address = api.create(service)["spec"]["clusterIP"]
    sees = box("a", "pause") | {"env": [{"name": "URL", "value": "db=$(MY_DB_PORT)"}]}
    api.create(pod("sees", sees))
    api.create(pod("blind", box("a", "pause"), enableServiceLinks=False))
    for name in ("sees", "blind"):
        api.until(lambda name=name: api.objects["Pod", "default", name]["status"]["phase"] == "Running")
    api.delete("Service", "my-db")
    code, out, _ = server.run("sees", "/bin/env")
    assert code == 0
    lines = out.decode().split()
    assert f"MY_DB_SERVICE_HOST={address}" in lines
    assert f"URL=db=tcp://{address}:8765" in lines
    assert not any("KUBERNETES" in line for line in lines)
    assert b"MY_DB" not in server.run("blind", "/bin/env")[1]


def test_a_running_pod_is_debugged_resized_and_evicted(api: ApiClient) -> None:
    amounts = {"requests": {"cpu": "10m"}, "limits": {"cpu": "100m"}}
    api.create(pod("web", box("a", "pause") | {"resources": amounts}))
    api.until(lambda: api.objects["Pod", "default", "web"]["status"]["phase"] == "Running")
    live = api.get("Pod", "web")
    debugger = {"name": "dbg", "image": live["spec"]["containers"][0]["image"], "command": ["/bin/pause"]}
    wanted = {**live, "spec": {**live["spec"], "ephemeralContainers": [debugger]}}
    assert api.refusal("api.update", object=wanted)["code"] == 422
    made = api.update(wanted, subresource="ephemeralcontainers")
    assert made["metadata"]["generation"] == 2
    assert made["spec"]["ephemeralContainers"][0]["terminationMessagePolicy"] == "File"
    without = {**made, "spec": {**made["spec"], "ephemeralContainers": []}}
    status = api.refusal("api.update", object=without, subresource="ephemeralcontainers")
    assert 'existing ephemeral containers "dbg" may not be removed' in status["message"]
    api.until(
        lambda: "running" in str(api.objects["Pod", "default", "web"]["status"].get("ephemeralContainerStatuses", ""))
    )

    def with_cpu(amount: str) -> dict[str, Any]:
        live = api.get("Pod", "web")
        (container,) = live["spec"]["containers"]
        resources = {**container["resources"], "requests": {"cpu": amount}}
        return {**live, "spec": {**live["spec"], "containers": [{**container, "resources": resources}]}}

    assert api.refusal("api.update", object=with_cpu("20m"))["code"] == 422
    made = api.update(with_cpu("20m"), subresource="resize")
    assert made["spec"]["containers"][0]["resources"]["requests"] == {"cpu": "20m"}
    # The pod as a whole is resized in the same way, and only so.
    whole = {**made, "spec": {**made["spec"], "resources": {"requests": {"cpu": "50m"}, "limits": {"cpu": "200m"}}}}
    # Its status changes meanwhile.
    whole["metadata"] = {name: one for name, one in made["metadata"].items() if name != "resourceVersion"}
    assert api.refusal("api.update", object=whole)["code"] == 422
    made = api.update(whole, subresource="resize")
    assert made["spec"]["resources"] == {"requests": {"cpu": "50m"}, "limits": {"cpu": "200m"}}
    api.until(
        lambda: (api.objects["Pod", "default", "web"]["status"].get("allocatedResources") or {}).get("cpu") == "50m"
    )
    evicted = api.delete("Pod", "web", eviction=True)["object"]
    assert evicted["metadata"]["generation"] == made["metadata"]["generation"] + 1
    (disrupted,) = [one for one in evicted["status"]["conditions"] if one["type"] == "DisruptionTarget"]
    assert (disrupted["status"], disrupted["reason"]) == ("True", "EvictionByEvictionAPI")
    api.until(lambda: ("Pod", "default", "web") not in api.objects)
    # Its events stay for whoever wants to know what became of it.
    assert any(key[0] == "Event" and one["involvedObject"]["name"] == "web" for key, one in api.objects.items())


def test_what_is_owned_goes_with_its_owner(server: Server, api: ApiClient) -> None:
    def owned(name: str, *owners: dict[str, Any], blocks: bool = False, **more: Any) -> dict[str, Any]:
        references = [
            {
                "apiVersion": owner["apiVersion"],
                "kind": owner["kind"],
                "name": owner["metadata"]["name"],
                "uid": owner["metadata"]["uid"],
                **({"blockOwnerDeletion": True} if blocks else {}),
            }
            for owner in owners
        ]
        return {**config_map(name), "metadata": {"name": name, "ownerReferences": references, **more}}

    def there(*names: str, kind: str = "ConfigMap") -> bool:
        return {key[2] for key in api.objects if key[0] == kind and key[2] in ("a", "b", "c", "d", "o")} == set(names)

    owner = api.create(config_map("o"))
    second = api.create(config_map("second"))
    api.create(owned("a", owner))
    api.create(owned("b", owner, second))
    strange = {"apiVersion": "apps/v1", "kind": "ReplicaSet", "metadata": {"name": "x", "uid": "y"}}
    api.create(owned("c", strange))
    web = api.create({**pod("web", box("a", "pause")), "metadata": owned("web", owner)["metadata"]})
    api.create(owned("d", web))
    api.delete("ConfigMap", "o")
    api.until(lambda: there("b", "c") and ("Pod", "default", "web") not in api.objects)
    # It has another owner, and that alone now.
    api.until(lambda: len(api.objects["ConfigMap", "default", "b"]["metadata"]["ownerReferences"]) == 1)
    # Left behind when that is asked for.
    api.delete("ConfigMap", "second", propagation="Orphan")
    assert "ownerReferences" not in api.get("ConfigMap", "b")["metadata"]
    # First what it owns, where that is asked for; and whoever does it may be killed.
    owner = api.create(config_map("o"))
    api.create(owned("a", owner, blocks=True, finalizers=["example.com/x"]))
    answer = api.delete("ConfigMap", "o", propagation="Foreground")
    assert answer["object"]["metadata"]["finalizers"] == ["foregroundDeletion"]
    api.until(lambda: "deletionTimestamp" in api.objects["ConfigMap", "default", "a"]["metadata"])
    assert there("a", "b", "c", "o")
    server.kill()
    server.start()
    with ApiClient(server) as later:
        held = later.objects["ConfigMap", "default", "a"]
        later.update({**held, "metadata": {**held["metadata"], "finalizers": []}})
        later.until(lambda: ("ConfigMap", "default", "o") not in later.objects)
        assert (
            later.refusal("api.delete", kind="ConfigMap", namespace="default", name="b", propagation="x")["code"] == 422
        )


def test_what_was_answered_is_there_whenever_the_server_is_killed(server: Server) -> None:
    answered: dict[str, str] = {}
    last = 0
    for number in range(8):
        killer = threading.Timer(0.02 + 0.03 * number, server.kill)
        with ApiClient(server) as client:
            assert int(client.bookmark) > last
            for name, value in answered.items():
                # What was begun and not answered may be there as well.
                assert int(client.objects["ConfigMap", "default", name]["data"]["value"]) >= int(value)
            last = max(int(one["metadata"]["resourceVersion"]) for one in client.objects.values())
            killer.start()
            with contextlib.suppress(LostError):
                for turn in itertools.count():
                    name = f"c{turn % 10}"
                    value = str(int(answered.get(name, -1)) + 1)
                    known = client.objects.get(("ConfigMap", "default", name))
                    if known is None:
                        made = client.create(config_map(name, value=value))
                    else:
                        made = client.update({**known, "data": {"value": value}})
                    answered[name] = made["data"]["value"]
                    last = max(last, int(made["metadata"]["resourceVersion"]))
        killer.join()
        server.start()
    assert answered
    # What the last of them had not finished is gone with the next start.
    assert not list((server.root / "lib").rglob("*.tmp"))


def test_what_a_killed_writer_had_begun_is_gone_when_a_server_begins(server: Server, api: ApiClient) -> None:
    """Of secrets above all: what lies in memory would keep their file system there."""
    api.create(config_map("kept"))
    begun = server.root / "lib" / "objects" / "configmap" / "default" / "other.json.tmp"
    hidden = server.root / "run" / "objects" / "secret" / "default" / "other.json.tmp"
    hidden.parent.mkdir(parents=True)
    for path in (begun, hidden):
        path.write_text("{")
    server.kill()
    server.start()
    assert not begun.exists()
    assert not hidden.exists()
    assert begun.with_name("kept.json").exists()


def test_a_namespace_goes_without_the_pod_of_a_file(server: Server, api: ApiClient) -> None:
    """The pod runs on, as a kubelet's does whose mirror goes with the namespace."""
    directory = server.root / "etc" / "manifests"
    directory.mkdir(parents=True, exist_ok=True)
    api.create({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "kept"}})
    one = pod("filed", box("a", "pause"))
    one["metadata"]["namespace"] = "kept"
    path = directory / "filed.yaml"
    path.write_text(json.dumps(one))
    api.until(lambda: api.objects.get(("Pod", "kept", "filed"), {}).get("status", {}).get("phase") == "Running")
    first = api.objects["Pod", "kept", "filed"]["status"]["containerStatuses"][0]["containerID"]
    api.delete("Namespace", "kept", namespace="")
    api.until(lambda: ("Namespace", "", "kept") not in api.objects)
    assert api.objects["Pod", "kept", "filed"]["status"]["containerStatuses"][0]["containerID"] == first
    path.unlink()
    api.until(lambda: ("Pod", "kept", "filed") not in api.objects)
