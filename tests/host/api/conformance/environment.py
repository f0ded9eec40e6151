"""What containers find: variables, arguments, /etc/hosts, identity, sysctls (test/e2e/common/node)."""

from __future__ import annotations

import base64
from typing import Any

from tests.host.api.conformance.cluster import Namespace, Object, RefusedError, agent, box, phase, pod, status_of
from tests.host.api.conformance.registry import case
from tests.host.api.conformance.volumes import kibibytes

DATA = {"data-1": "value-1", "data-2": "value-2", "data-3": "value-3"}


def variables(space: Namespace, **fields: Any) -> dict[str, str]:
    """The variables of a container."""
    said = space.output(pod("shows", box("c", "env", **fields)))
    return dict(line.split("=", 1) for line in said.splitlines() if "=" in line)


def field(name: str, path: str) -> Object:
    """A variable from a field of the pod."""
    return {"name": name, "valueFrom": {"fieldRef": {"apiVersion": "v1", "fieldPath": path}}}


def amount(name: str, resource: str) -> Object:
    """A variable from an amount of the container's."""
    return {"name": name, "valueFrom": {"resourceFieldRef": {"resource": resource}}}


@case("[sig-node] ConfigMap should be consumable via environment variable")
def map_key(space: Namespace) -> None:
    space.create("ConfigMap", "m", data=DATA)
    env = [{"name": "FROM_MAP", "valueFrom": {"configMapKeyRef": {"name": "m", "key": "data-1"}}}]
    assert variables(space, env=env)["FROM_MAP"] == "value-1"


@case("[sig-node] ConfigMap should be consumable via the environment")
def whole_map(space: Namespace) -> None:
    space.create("ConfigMap", "m", data={"data_1": "value-1", "data_2": "value-2", "data_3": "value-3"})
    found = variables(space, envFrom=[{"configMapRef": {"name": "m"}}, {"prefix": "p_", "configMapRef": {"name": "m"}}])
    for number in "123":
        assert found[f"data_{number}"] == found[f"p_data_{number}"] == f"value-{number}"


@case("[sig-node] ConfigMap should update ConfigMap successfully")
def map_changes(space: Namespace) -> None:
    made = space.create("ConfigMap", "m", data={"data": "value"})
    changed = space.change("configmaps", "m", lambda found: found.update(data={"data": "value-2"}))
    assert changed["metadata"]["resourceVersion"] != made["metadata"]["resourceVersion"]
    assert space.get("configmaps", "m")["data"] == {"data": "value-2"}


@case("[sig-node] Secrets should be consumable from pods in env vars")
def secret_key(space: Namespace) -> None:
    space.create("Secret", "s", data={key: base64.b64encode(text.encode()).decode() for key, text in DATA.items()})
    env = [{"name": "FROM_SECRET", "valueFrom": {"secretKeyRef": {"name": "s", "key": "data-1"}}}]
    assert variables(space, env=env)["FROM_SECRET"] == "value-1"


@case("[sig-node] Secrets should be consumable via the environment")
def whole_secret(space: Namespace) -> None:
    data = {f"data_{number}": base64.b64encode(f"value-{number}".encode()).decode() for number in "123"}
    space.create("Secret", "s", data=data)
    found = variables(space, envFrom=[{"secretRef": {"name": "s"}}, {"prefix": "p_", "secretRef": {"name": "s"}}])
    for number in "123":
        assert found[f"data_{number}"] == found[f"p_data_{number}"] == f"value-{number}"


@case("[sig-node] Downward API should provide pod name, namespace and IP address as env vars")
def names(space: Namespace) -> None:
    fields = [field("N", "metadata.name"), field("S", "metadata.namespace"), field("IP", "status.podIP")]
    found = variables(space, env=fields)
    assert (found["N"], found["S"]) == ("shows", space.name)
    assert found["IP"] == space.pod("shows")["status"].get("podIP", found["IP"])
    assert found["IP"].count(".") == 3 or ":" in found["IP"]


@case("[sig-node] Downward API should provide host IP as an env var")
def host_ip(space: Namespace) -> None:
    assert variables(space, env=[field("IP", "status.hostIP")])["IP"] == space.pod("shows")["status"]["hostIP"]


@case("[sig-node] Downward API should provide hostIPs as an env var")
def host_ips(space: Namespace) -> None:
    found = variables(space, env=[field("IPS", "status.hostIPs")])["IPS"]
    listed = ",".join(one["ip"] for one in space.pod("shows")["status"]["hostIPs"])
    assert found == listed


@case("[sig-node] Downward API should provide pod UID as env vars")
def uid(space: Namespace) -> None:
    assert variables(space, env=[field("U", "metadata.uid")])["U"] == space.pod("shows")["metadata"]["uid"]


@case("[sig-node] Downward API should provide container's limits.cpu/memory and requests.cpu/memory as env vars")
def amounts(space: Namespace) -> None:
    resources = {"requests": {"cpu": "250m", "memory": "32Mi"}, "limits": {"cpu": "1250m", "memory": "64Mi"}}
    env = [
        amount(name.upper().replace(".", "_"), name)
        for name in ("limits.cpu", "limits.memory", "requests.cpu", "requests.memory")
    ]
    found = variables(space, env=env, resources=resources)
    assert found["LIMITS_CPU"] == "2"
    assert found["LIMITS_MEMORY"] == "67108864"
    assert found["REQUESTS_CPU"] == "1"
    assert found["REQUESTS_MEMORY"] == "33554432"


@case("[sig-node] Downward API should provide default limits.cpu/memory from node allocatable")
def default_amounts(space: Namespace) -> None:
    found = variables(space, env=[amount("CPU", "limits.cpu"), amount("MEMORY", "limits.memory")])
    assert int(found["CPU"]) >= 1
    allocatable = kibibytes(space.api.node["status"]["allocatable"]["memory"])
    assert abs(int(found["MEMORY"]) / 1024 - allocatable) <= 1


@case("[sig-node] Variable Expansion should allow composing env vars into new env vars")
def composed(space: Namespace) -> None:
    env = [
        {"name": "FOO", "value": "foo-value"},
        {"name": "BAR", "value": "bar-value"},
        {"name": "ALL", "value": "$(FOO);;$(BAR)"},
    ]
    assert variables(space, env=env)["ALL"] == "foo-value;;bar-value"


@case("[sig-node] Variable Expansion should allow substituting values in a container's command")
def in_command(space: Namespace) -> None:
    container = box("c", env=[{"name": "V", "value": "test-value"}], command=["sh", "-c", 'V=wrong; echo "$(V)"'])
    assert space.output(pod("p", container)) == "test-value\n"


@case("[sig-node] Variable Expansion should allow substituting values in a container's args")
def in_args(space: Namespace) -> None:
    container = box(
        "c", env=[{"name": "V", "value": "test-value"}], command=["sh", "-c"], args=['V=wrong; echo "$(V)"']
    )
    assert space.output(pod("p", container)) == "test-value\n"


# The image's words


@case("[sig-node] Containers should use the image defaults if command and args are blank")
def image_words(space: Namespace) -> None:
    space.running(pod("p", {key: value for key, value in agent("c").items() if key != "args"}))
    words = space.run("p", "c", "cat", "/proc/1/cmdline").out.split("\0")
    assert words[-3:-1] == ["/agent", "pause"]


@case("[sig-node] Containers should be able to override the image's default arguments (container cmd)")
def own_args(space: Namespace) -> None:
    said = space.output(pod("p", agent("c", "entrypoint-tester", "override", "arguments")))
    assert said == "[/agent entrypoint-tester override arguments]\n"


@case("[sig-node] Containers should be able to override the image's default command (container entrypoint)")
def own_command(space: Namespace) -> None:
    container = agent("c", command=["/bin/echo", "entrypoint"])
    del container["args"]
    assert space.output(pod("p", container)) == "entrypoint\n"


@case("[sig-node] Containers should be able to override the image's default command and arguments")
def own_words(space: Namespace) -> None:
    assert space.output(pod("p", agent("c", "override", "arguments", command=["/bin/echo"]))) == "override arguments\n"


# Files and identity


@case("[sig-node] Kubelet when scheduling an agnhost Pod with hostAliases should write entries to /etc/hosts")
def aliases(space: Namespace) -> None:
    wanted = [{"ip": "123.45.67.89", "hostnames": ["foo", "bar"]}]
    said = space.output(pod("p", box("c", "cat /etc/hosts"), hostAliases=wanted))
    assert "# Entries added by HostAliases.\n123.45.67.89\tfoo\tbar" in said


@case("[sig-node] KubeletManagedEtcHosts should test kubelet managed /etc/hosts file")
def hosts_files(space: Namespace) -> None:
    own = {"name": "hosts", "hostPath": {"path": "/etc/hosts", "type": "FileOrCreate"}}
    mount = {"name": "hosts", "mountPath": "/etc/hosts"}
    sleep = "sleep 1000"
    space.running(pod("p", box("a", sleep), box("b", sleep), box("c", sleep, volumeMounts=[mount]), volumes=[own]))
    space.running(pod("h", box("a", sleep), box("b", sleep), hostNetwork=True))
    managed = "# Kubernetes-managed hosts file"
    for name in "ab":
        assert space.shell("p", name, "cat /etc/hosts").startswith(managed + ".")
        assert space.shell("h", name, "cat /etc/hosts").startswith(managed + " (host network).")
    assert managed not in space.shell("p", "c", "cat /etc/hosts")


@case("[sig-node] Kubelet when scheduling a read only busybox container should not write to root filesystem")
def read_only(space: Namespace) -> None:
    container = box("c", "echo test > /file; sleep 240", securityContext={"readOnlyRootFilesystem": True})
    space.running(pod("p", container))
    space.until_log("p", "c", "Read-only file system")


@case(
    "[sig-node] Security Context When creating a pod with readOnlyRootFilesystem should run the container with writable "
    "rootfs when readOnlyRootFilesystem=false",
)
def writable(space: Namespace) -> None:
    space.output(pod("p", box("c", "touch checkfile", securityContext={"readOnlyRootFilesystem": False})))


@case("[sig-node] Security Context When creating a container with runAsUser should run the container with uid 65534")
def nobody(space: Namespace) -> None:
    assert space.output(pod("p", box("c", "id -u", securityContext={"runAsUser": 65534}))) == "65534\n"


@case(
    "[sig-node] Security Context When creating a pod with privileged should run the container as unprivileged when false"
)
def unprivileged(space: Namespace) -> None:
    container = box("c", "ip link add dummy0 type dummy || true", securityContext={"privileged": False})
    assert "Operation not permitted" in space.output(pod("p", container))


@case(
    "[sig-node] Security Context when creating containers with AllowPrivilegeEscalation should not allow privilege escalation when false"
)
def no_new_privileges(space: Namespace) -> None:
    context = {"allowPrivilegeEscalation": False, "runAsUser": 1000}
    said = space.output(pod("p", box("c", "grep NoNewPrivs /proc/self/status; id -u", securityContext=context))).split()
    assert said == ["NoNewPrivs:", "1", "1000"]


@case("[sig-node] Sysctls should support sysctls")
def sysctls(space: Namespace) -> None:
    wanted = {"sysctls": [{"name": "kernel.shm_rmid_forced", "value": "1"}]}
    said = space.output(pod("p", box("c", "sysctl kernel.shm_rmid_forced"), securityContext=wanted))
    assert said == "kernel.shm_rmid_forced = 1\n"


@case("[sig-node] Sysctls should reject invalid sysctls")
def bad_sysctls(space: Namespace) -> None:
    names_of = ("foo-", "kernel.shmmax", "safe-and-unsafe", "bar..")
    wanted = {"sysctls": [{"name": name, "value": "1"} for name in names_of]}
    try:
        space.start(pod("p", box("c", "true"), securityContext=wanted))
    except RefusedError as refusal:
        assert refusal.code == 422
        message = refusal.status["message"]
        for bad in ("foo-", "bar.."):
            assert f'Invalid value: "{bad}"' in message
        for fine in ("kernel.shmmax", "safe-and-unsafe"):
            assert fine not in message
    else:
        raise AssertionError("it was taken")


# Output


@case("[sig-node] Kubelet when scheduling a busybox command in a pod should print the output to logs")
def printed(space: Namespace) -> None:
    made = space.finished(pod("p", box("c", "echo 'Hello World'")))
    assert phase(made) == "Succeeded"
    assert space.log("p", "c", sinceTime=made["status"]["startTime"]) == "Hello World\n"


@case(
    "[sig-node] Kubelet when scheduling a busybox command that always fails in a pod should have an terminated reason"
)
def failing(space: Namespace) -> None:
    space.start(pod("p", box("c", "/bin/false"), restartPolicy="Always"))

    def ended(found: Object) -> bool:
        status = status_of(found, "c")
        every = [status.get("state", {}).get("terminated"), status.get("lastState", {}).get("terminated")]
        return any(one and one["exitCode"] != 0 and one["reason"] == "Error" for one in every)

    space.until("p", ended, "terminated")


@case("[sig-node] Kubelet when scheduling a busybox command that always fails in a pod should be possible to delete")
def deleted(space: Namespace) -> None:
    space.start(pod("p", box("c", "/bin/false"), restartPolicy="Always"))
    space.delete("p")
    space.gone("p")
