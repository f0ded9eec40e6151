"""The life of a pod with the client libraries that people have: made, waited for, read, entered, changed and taken down."""

from __future__ import annotations

import asyncio
import io
from typing import Any

import kr8s.asyncio
import kr8s.asyncio.objects
import lightkube
import pytest
from kubernetes import client as kubernetes_client
from kubernetes import watch as kubernetes_watch
from kubernetes.stream import stream
from lightkube.core.exceptions import ApiError
from lightkube.models.core_v1 import Container, PodSpec
from lightkube.models.meta_v1 import ObjectMeta
from lightkube.resources.core_v1 import ConfigMap, Namespace, Node, Pod
from lightkube.types import PatchType

from tests.host.api.conformance.cluster import hang_up
from tests.host.api.conftest import ApiProcess, pod_of

pytestmark = [pytest.mark.host, pytest.mark.filterwarnings("ignore:Kubernetes version .* is not supported")]

IMAGE = "nsrun.local/host"
COMMAND = ["sh", "-c", "echo hello; trap 'exit 0' TERM; sleep 100000 & wait"]


def test_kubernetes_typed(api: ApiProcess) -> None:
    with kubernetes_client.ApiClient(kubernetes_client.Configuration(host=api.url)) as http:
        core = kubernetes_client.CoreV1Api(http)
        container = kubernetes_client.V1Container(
            name="c", image=IMAGE, image_pull_policy="IfNotPresent", command=COMMAND
        )
        wanted = kubernetes_client.V1Pod(
            metadata=kubernetes_client.V1ObjectMeta(generate_name="typed-", labels={"by": "kubernetes"}),
            spec=kubernetes_client.V1PodSpec(containers=[container], termination_grace_period_seconds=1),
        )
        made: Any = core.create_namespaced_pod("default", wanted)
        name = made.metadata.name
        assert name.startswith("typed-")
        seen = []
        watched: Any = kubernetes_watch
        for event in watched.Watch().stream(
            core.list_namespaced_pod, "default", label_selector="by=kubernetes", timeout_seconds=30
        ):
            seen.append(event["type"])
            if event["object"].status.phase == "Running":
                break
        assert seen[0] == "ADDED"
        assert core.read_namespaced_pod_log(name, "default") == "hello\n"
        changed: Any = core.patch_namespaced_pod(name, "default", {"metadata": {"labels": {"more": "yes"}}})
        assert changed.metadata.labels == {"by": "kubernetes", "more": "yes"}
        with pytest.raises(kubernetes_client.ApiException) as refused:
            core.create_namespaced_pod("default", pod_of(name))  # type: ignore[arg-type]
        assert refused.value.status == 409
        (node,) = core.list_node().items
        read: Any = core.read_namespaced_pod(name, "default")
        assert node.metadata is not None
        assert node.metadata.name == read.spec.node_name
    with kubernetes_client.ApiClient(kubernetes_client.Configuration(host=api.url)) as http:
        core = kubernetes_client.CoreV1Api(http)
        shell = stream(
            core.connect_get_namespaced_pod_exec, name, "default", command=["sh", "-c", "cat; exit 3"],
            stdin=True, stdout=True, stderr=True, tty=False, _preload_content=False,
        )  # fmt: skip
        shell.write_stdin("through")
        shell.sock.send_binary(b"")
        while shell.is_open() and not shell.peek_stdout(timeout=1):
            pass
        assert shell.read_stdout() == "through"
        hang_up(shell.sock)
    with kubernetes_client.ApiClient(kubernetes_client.Configuration(host=api.url)) as http:
        core = kubernetes_client.CoreV1Api(http)
        core.delete_namespaced_pod(name, "default", grace_period_seconds=0)
        with pytest.raises(kubernetes_client.ApiException) as gone:
            core.read_namespaced_pod(name, "default")
        assert gone.value.status == 404


def test_kr8s(api: ApiProcess) -> None:
    async def life() -> None:
        client = await kr8s.asyncio.api(kubeconfig=str(api.kubeconfig))
        wanted: dict[str, Any] = {"apiVersion": "v1", "kind": "Pod"} | pod_of("eights", command=COMMAND)
        pod = await kr8s.asyncio.objects.Pod(wanted, api=client)
        await pod.create()
        await pod.wait("condition=Ready", timeout=30)
        assert [line async for line in pod.logs()] == ["hello"]
        done = await pod.exec(["sh", "-c", "echo out; echo err >&2"], capture_output=True)
        assert (done.stdout, done.stderr, done.returncode) == (b"out\n", b"err\n", 0)
        assert (await pod.exec(["sh", "-c", "exit 3"], check=False)).returncode == 3
        await pod.label({"kept": "yes"})
        await pod.annotate({"note": "it"})
        found: list[Any] = [one async for one in client.get("pods", namespace="default", label_selector="kept=yes")]
        assert [(one.name, one.annotations.note) for one in found] == [("eights", "it")]
        assert (await client.version())["gitVersion"].startswith("v1.")
        assert len([one async for one in client.get("nodes")]) == 1
        await pod.delete(grace_period=0)
        await pod.wait("delete", timeout=30)
        assert not await pod.exists()

    asyncio.run(life())


def test_lightkube(api: ApiProcess) -> None:
    config = lightkube.KubeConfig.from_file(api.kubeconfig)
    with lightkube.Client(config=config, trust_env=False, field_manager="light") as client:
        client.create(Namespace(metadata=ObjectMeta(name="light")))
        container = Container(name="c", image=IMAGE, imagePullPolicy="IfNotPresent", command=COMMAND)
        spec = PodSpec(containers=[container], terminationGracePeriodSeconds=1)
        client.create(Pod(metadata=ObjectMeta(name="feather", namespace="light"), spec=spec))
        client.wait(Pod, "feather", namespace="light", for_conditions=["Ready"])
        assert list(client.log("feather", namespace="light")) == ["hello\n"]
        output = io.BytesIO()
        done = client.exec(
            "feather", namespace="light", command=["sh", "-c", "cat; exit 3"], stdin="through", stdout=output
        )
        assert (output.getvalue(), done.exit_code) == (b"through", 3)
        client.patch(Pod, "feather", {"metadata": {"labels": {"kept": "yes"}}}, namespace="light")
        assert [one.metadata.name for one in client.list(Pod, namespace="light", labels={"kept": "yes"})] == ["feather"]  # type: ignore[union-attr]
        settings = ConfigMap(metadata=ObjectMeta(name="settings", namespace="light"), data={"a": "b"})
        assert client.apply(settings).data == {"a": "b"}
        settings.data = {"c": "d"}
        assert client.apply(settings).data == {"c": "d"}
        changed = client.patch(
            ConfigMap, "settings", [{"op": "add", "path": "/data/e", "value": "f"}], namespace="light",
            patch_type=PatchType.JSON,
        )  # fmt: skip
        assert changed.data == {"c": "d", "e": "f"}
        assert len(list(client.list(Node))) == 1
        client.delete(Namespace, "light")
        api.until("/api/v1/namespaces/light", lambda found: found.get("code") == 404)
        with pytest.raises(ApiError) as gone:
            client.get(Pod, "feather", namespace="light")
        assert gone.value.status.code == 404
