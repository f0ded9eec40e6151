"""Validation: one table of broken rules, with the API server's words; each row changes a pod that is valid."""

from __future__ import annotations

import json
from typing import Any

import pytest

from nsrun import spec
from nsrun.spec.field_errors import quote
from nsrun.spec.names import ip_address


def messages(value: dict[str, Any]) -> list[str]:
    (verdict,) = spec.load(json.dumps(value).encode(), "p")
    assert verdict.verdict in ("valid", "invalid"), verdict.messages
    assert [str(error) for error in verdict.errors] == verdict.messages
    return verdict.messages


def pod(meta: dict[str, Any] | None = None, **fields: Any) -> dict[str, Any]:
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "p", **(meta or {})},
        "spec": {"containers": [{"name": "c", "image": "i"}], **fields},
    }


def container(**fields: Any) -> dict[str, Any]:
    return pod(containers=[{"name": "c", "image": "i", **fields}])


def init(**fields: Any) -> dict[str, Any]:
    return pod(initContainers=[{"name": "n", "image": "i", **fields}])


def volume(**source: Any) -> dict[str, Any]:
    return pod(volumes=[{"name": "v", **source}])


def context(**fields: Any) -> dict[str, Any]:
    return container(securityContext=fields)


LABEL = (
    "a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and must start and end with an"
    " alphanumeric character (e.g. 'my-name',  or '123-abc', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?')"
)
HANDLER = {"exec": {"command": ["x"]}}
C = "spec.containers[0]"
I = "spec.initContainers[0]"  # noqa: E741
V = "spec.volumes[0]"
S = f"{C}.securityContext"

VALID: list[dict[str, Any]] = [
    pod(),
    pod(hostname="h-1", subdomain="s", terminationGracePeriodSeconds=0, activeDeadlineSeconds=1),
    pod({"namespace": "n", "labels": {"a.b/c": "D_e.f", "x": ""}, "annotations": {"A.b/C": "any thing"}}),
    pod({"generateName": "p-", "finalizers": ["x.y/z", "orphan"]}),
    container(ports=[{"containerPort": 1, "name": "a-1"}, {"containerPort": 65535, "protocol": "SCTP", "hostPort": 2}]),
    container(env=[{"name": "a b-c.D", "value": "$(x)"}, {"name": "9"}]),
    container(envFrom=[{"configMapRef": {"name": "x-"}, "prefix": "1."}]),
    container(env=[{"name": "A", "valueFrom": {"fieldRef": {"fieldPath": "metadata.labels['a.b/c']"}}}]),
    container(env=[{"name": "A", "valueFrom": {"resourceFieldRef": {"resource": "limits.hugepages-2Mi"}}}]),
    container(resources={"limits": {"cpu": 1, "x.y/gpu": 2, "hugepages-2Mi": "4Mi"}, "requests": {"cpu": "500m"}}),
    container(livenessProbe=HANDLER, readinessProbe={"httpGet": {"port": "web"}}, startupProbe={"grpc": {"port": 1}}),
    container(lifecycle={"preStop": {"sleep": {"seconds": 30}}, "postStart": HANDLER}),
    container(restartPolicy="Never", restartPolicyRules=[
        {"action": "Restart", "exitCodes": {"operator": "In", "values": [1]}}
    ]),
    init(restartPolicy="Always", livenessProbe=HANDLER),
    init(restartPolicy="OnFailure"),
    context(runAsUser=0, runAsGroup=2147483647, capabilities={"add": ["ALL"], "drop": ["x"]}, procMount="Default"),
    pod(hostUsers=False, containers=[{"name": "c", "image": "i", "securityContext": {"procMount": "Unmasked"}}]),
    pod(hostNetwork=True, containers=[{"name": "c", "image": "i", "ports": [{"containerPort": 80}]}]),
    pod(os={"name": "linux"}, containers=[{"name": "c", "image": "i", "lifecycle": {"stopSignal": "SIGRTMIN+3"}}]),
    pod(dnsPolicy="None", dnsConfig={"nameservers": ["1.1.1.1", "::1"], "searches": [".", "_a.b."]}),
    pod(hostAliases=[{"ip": "10.0.0.1", "hostnames": ["a.b", "c"]}]),
    pod(tolerations=[{"operator": "Exists"}, {"key": "a/b", "value": "c", "effect": "NoExecute", "tolerationSeconds": 1}]),
    pod(volumes=[{"name": "v"}, {"name": "w", "hostPath": {"path": "/x", "type": "Socket"}}]),
]  # fmt: skip


@pytest.mark.parametrize("value", VALID, ids=range(len(VALID)))
def test_valid(value: dict[str, Any]) -> None:
    assert messages(value) == []


INVALID: list[tuple[dict[str, Any], list[str]]] = [
    # metadata
    (pod({"name": "-"}), [
        'metadata.name: Invalid value: "-": a lowercase RFC 1123 subdomain must consist of lower case alphanumeric'
        " characters, '-' or '.', and must start and end with an alphanumeric character (e.g. 'example.com', regex used for"
        " validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?(\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')"
    ]),
    (pod({"name": "a" * 254}), [f'metadata.name: Invalid value: "{"a" * 254}": must be no more than 253 characters']),
    (pod({"namespace": "a.b"}), ['metadata.namespace: Invalid value: "a.b": must not contain dots']),
    (pod({"generation": -1}), ["metadata.generation: Invalid value: -1: must be greater than or equal to 0"]),
    (pod({"labels": {"a": "x" * 64}}), [
        f'metadata.labels: Invalid value: "{"x" * 64}": must be no more than 63 characters'
    ]),
    (pod({"labels": {"/a": "1"}}), ['metadata.labels: Invalid value: "/a": prefix part must be non-empty']),
    (pod({"annotations": {"a": "x" * 300_000}}), ["metadata.annotations: Too long: may not be more than 262144 bytes"]),
    (pod({"finalizers": ["mine"]}), [
        'metadata.finalizers[0]: Invalid value: "mine": name is neither a standard finalizer name nor is it fully qualified'
    ]),
    (pod({"finalizers": ["orphan", "foregroundDeletion"]}), [
        'metadata.finalizers: Invalid value: ["orphan","foregroundDeletion"]: finalizer orphan and foregroundDeletion'
        " cannot be both set"
    ]),
    (pod({"annotations": {"kubernetes.io/config.mirror": "x"}}), [
        'metadata.annotations[kubernetes.io/config.mirror]: Invalid value: "x": must set spec.nodeName if mirror pod'
        " annotation is set"
    ]),
    (pod({"annotations": {"controller.kubernetes.io/pod-deletion-cost": "+1"}}), [
        'metadata.annotations[controller.kubernetes.io/pod-deletion-cost]: Invalid value: "+1": must be a 32bit integer'
    ]),
    (pod({"annotations": {"scheduler.alpha.kubernetes.io/tolerations": '[{"key": "a", "operator": "X"}]'}}), [
        'metadata.annotations.scheduler.alpha.kubernetes.io/tolerations[0].operator: Unsupported value: "X": supported'
        ' values: "Equal", "Exists"'
    ]),
    # the pod
    (pod(containers=[]), ["spec.containers: Required value"]),
    (pod(restartPolicy="Sometimes"), [
        'spec.restartPolicy: Unsupported value: "Sometimes": supported values: "Always", "OnFailure", "Never"'
    ]),
    (pod(dnsPolicy="X"), [
        'spec.dnsPolicy: Unsupported value: "X": supported values: "ClusterFirstWithHostNet", "ClusterFirst", "Default",'
        ' "None"'
    ]),
    (pod(dnsPolicy="None"), ["spec.dnsConfig: Required value: must provide `dnsConfig` when `dnsPolicy` is None"]),
    (pod(dnsConfig={"nameservers": ["1.2.3.4"] * 4}), [
        'spec.dnsConfig.nameservers: Invalid value: ["1.2.3.4","1.2.3.4","1.2.3.4","1.2.3.4"]: must not have more than 3'
        " nameservers"
    ]),
    (pod(dnsConfig={"options": [{"value": "1"}]}), ["spec.dnsConfig.options[0]: Required value: must not be empty"]),
    (pod(activeDeadlineSeconds=0), [
        "spec.activeDeadlineSeconds: Invalid value: 0: must be between 1 and 2147483647, inclusive"
    ]),
    (pod(hostname="a.b"), ['spec.hostname: Invalid value: "a.b": must not contain dots']),
    (pod(hostname="A"), [f'spec.hostname: Invalid value: "A": {LABEL}']),
    (pod(hostAliases=[{"ip": "1.2.3"}]), [
        'spec.hostAliases[0].ip: Invalid value: "1.2.3": must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)'
    ]),
    (pod(hostnameOverride="a", setHostnameAsFQDN=True, hostNetwork=True), [
        "spec.hostnameOverride: Forbidden: may not be specified when setHostnameAsFQDN is true",
        "spec.hostnameOverride: Forbidden: may not be specified when hostNetwork is true",
    ]),
    (pod(shareProcessNamespace=True, hostPID=True), [
        "spec.securityContext.shareProcessNamespace: Invalid value: true: ShareProcessNamespace and HostPID cannot both be"
        " enabled"
    ]),
    (pod(hostUsers=False, hostNetwork=True, hostPID=True, hostIPC=True), [
        "spec.hostNetwork: Forbidden: when `hostUsers` is false",
        "spec.HostPID: Forbidden: when `hostUsers` is false",
        "spec.HostIPC: Forbidden: when `hostUsers` is false",
    ]),
    (pod(nodeName="n", schedulingGates=[{"name": "g"}]), [
        "spec.nodeName: Forbidden: cannot be set until all schedulingGates have been cleared"
    ]),
    (pod(os={"name": "plan9"}), ['spec.os: Unsupported value: "plan9": supported values: "linux", "windows"']),
    (pod(os={"name": "windows"}, hostPID=True, securityContext={"runAsUser": 1}), [
        "spec.hostPID: Forbidden: cannot be set for a windows pod",
        "spec.securityContext.runAsUser: Forbidden: cannot be set for a windows pod",
    ]),
    (pod(overhead={"disk": "1"}), [
        'spec.overhead.limits[disk]: Invalid value: "disk": must be a standard resource type or fully qualified',
        'spec.overhead.limits[disk]: Invalid value: "disk": must be a standard resource for containers',
    ]),
    (pod(ephemeralContainers=[{"name": "e", "image": "i", "targetContainerName": "x", "ports": [{"containerPort": 1}]}]), [
        'spec.ephemeralContainers[0].targetContainerName: Not found: "x"',
        "spec.ephemeralContainers[0].ports: Forbidden: cannot be set for an Ephemeral Container",
        "spec.ephemeralContainers: Forbidden: cannot be set on create",
    ]),
    # containers
    (pod(containers=[{"name": "c", "image": "i"}] * 2, initContainers=[{"name": "c", "image": "i"}]), [
        'spec.containers[1].name: Duplicate value: "c"',
        'spec.initContainers[0].name: Duplicate value: "c"',
    ]),
    (container(name="C_1", image=""), [
        f'{C}.name: Invalid value: "C_1": {LABEL}', f"{C}.image: Required value",
    ]),
    (container(image=" i"), [f'{C}.image: Invalid value: " i": must not have leading or trailing whitespace']),
    (container(imagePullPolicy="missing"), [
        f'{C}.imagePullPolicy: Unsupported value: "missing": supported values: "Always", "IfNotPresent", "Never"'
    ]),
    (container(terminationMessagePolicy="X"), [
        f'{C}.terminationMessagePolicy: Unsupported value: "X": supported values: "File", "FallbackToLogsOnError"'
    ]),
    (container(ports=[{"containerPort": 0}, {"containerPort": 70000, "name": "A", "protocol": "ICMP", "hostPort": -1}]), [
        f"{C}.ports[0].containerPort: Required value",
        f'{C}.ports[1].name: Invalid value: "A": must contain only alpha-numeric characters (a-z, 0-9), and hyphens (-)',
        f'{C}.ports[1].name: Invalid value: "A": must contain at least one letter (a-z)',
        f"{C}.ports[1].containerPort: Invalid value: 70000: must be between 1 and 65535, inclusive",
        f"{C}.ports[1].hostPort: Invalid value: -1: must be between 1 and 65535, inclusive",
        f'{C}.ports[1].protocol: Unsupported value: "ICMP": supported values: "SCTP", "TCP", "UDP"',
    ]),
    (container(ports=[{"containerPort": 1, "name": "a"}, {"containerPort": 2, "name": "a"}]), [
        f'{C}.ports[1].name: Duplicate value: "a"'
    ]),
    (container(ports=[{"containerPort": 1, "hostPort": 5}, {"containerPort": 2, "hostPort": 5}]), [
        f'{C}.ports[1].hostPort: Duplicate value: "TCP//5"'
    ]),
    (pod(hostNetwork=True, containers=[{"name": "c", "image": "i", "ports": [{"containerPort": 80, "hostPort": 81}]}]), [
        f"{C}.ports[0].hostPort: Invalid value: 81: must match `containerPort` when `hostNetwork` is true"
    ]),
    (container(env=[{"name": "", "value": "1"}, {"name": "a=b"}]), [
        f"{C}.env[0].name: Required value",
        f'{C}.env[1].name: Invalid value: "a=b": a valid environment variable name must consist only of printable ASCII'
        " characters other than '='",
    ]),
    (container(env=[{"name": "A", "valueFrom": {}}, {"name": "B", "value": "1", "valueFrom": {
        "fieldRef": {"fieldPath": "spec.x"}}}]), [
        f'{C}.env[0].valueFrom: Invalid value: "": must specify one of: `fieldRef`, `resourceFieldRef`, `configMapKeyRef`,'
        " `secretKeyRef` or `fileKeyRef`",
        f'{C}.env[1].valueFrom.fieldRef.fieldPath: Invalid value: "spec.x": error converting fieldPath: field label not'
        " supported: spec.x",
        f'{C}.env[1].valueFrom: Invalid value: "": may not be specified when `value` is not empty',
    ]),
    (container(env=[{"name": "A", "valueFrom": {"fieldRef": {"fieldPath": "metadata.labels"}}}]), [
        f'{C}.env[0].valueFrom.fieldRef.fieldPath: Unsupported value: "metadata.labels": supported values: "metadata.name",'
        ' "metadata.namespace", "metadata.uid", "spec.nodeName", "spec.serviceAccountName", "status.hostIP",'
        ' "status.hostIPs", "status.podIP", "status.podIPs"'
    ]),
    (container(env=[{"name": "A", "valueFrom": {"resourceFieldRef": {"resource": "limits.cpu", "divisor": "1k"}}}]), [
        f'{C}.env[0].valueFrom.resourceFieldRef.divisor: Invalid value: "limits.cpu": only divisor\'s values 1m and 1 are'
        " supported with the cpu resource"
    ]),
    (container(env=[{"name": "A", "valueFrom": {"secretKeyRef": {"name": "s", "key": ".."}}}]), [
        f"{C}.env[0].valueFrom.secretKeyRef.key: Invalid value: \"..\": must not be '..'"
    ]),
    (container(envFrom=[{}, {"configMapRef": {}, "secretRef": {"name": "s"}}]), [
        f'{C}.envFrom: Invalid value: "": must specify one of: `configMapRef` or `secretRef`',
        f"{C}.envFrom[1].configMapRef.name: Required value",
        f'{C}.envFrom: Invalid value: "": may not have more than one field specified at a time',
    ]),
    (container(volumeMounts=[{"name": "v", "mountPath": "/a", "subPath": "../x"}]), [
        f'{C}.volumeMounts[0].name: Not found: "v"',
        f'{C}.volumeMounts.subPath: Invalid value: "../x": must not contain \'..\'',
    ]),
    (pod(volumes=[{"name": "v"}], containers=[{"name": "c", "image": "i", "volumeMounts": [
        {"name": "v", "mountPath": "/a", "mountPropagation": "Bidirectional"},
        {"name": "v", "mountPath": "/a", "recursiveReadOnly": "Enabled"}]}]), [
        f"{C}.volumeMounts.mountPropagation: Forbidden: Bidirectional mount propagation is available only to privileged"
        " containers",
        f'{C}.volumeMounts[1].mountPath: Invalid value: "/a": must be unique',
        f"{C}.volumeMounts.recursiveReadOnly: Forbidden: may only be specified when readOnly is true",
    ]),
    (container(resources={"limits": {"cpu": "1"}, "requests": {"cpu": "2", "memory": "-1"}}), [
        f'{C}.resources.requests: Invalid value: "2": must be less than or equal to cpu limit of 1',
        f'{C}.resources.requests[memory]: Invalid value: "-1": must be greater than or equal to 0',
    ]),
    (container(resources={"limits": {"x.y/gpu": "1500m", "hugepages-2Mi": "3Mi"}}), [
        f'{C}.resources.limits[hugepages-2Mi]: Invalid value: "3Mi": 3Mi is not positive integer multiple of hugepages-2Mi',
        f'{C}.resources.limits[x.y/gpu]: Invalid value: "1500m": must be an integer',
        f'{C}.resources.requests[hugepages-2Mi]: Invalid value: "3Mi": 3Mi is not positive integer multiple of'
        " hugepages-2Mi",
        f'{C}.resources.requests[x.y/gpu]: Invalid value: "1500m": must be an integer',
        f"{C}.resources: Forbidden: HugePages require cpu or memory",
    ]),
    (container(resources={"requests": {"x.y/gpu": 1}}), [
        f"{C}.resources.limits: Required value: Limit must be set for non overcommitable resources"
    ]),
    (container(resources={"claims": [{"name": "x"}]}), [
        f'{C}.resources.claims[0]: Not found: "x": must be one of the names in pod.spec.resourceClaims which is empty'
    ]),
    (container(livenessProbe={**HANDLER, "successThreshold": 2, "periodSeconds": -1, "tcpSocket": {"port": 0}}), [
        f"{C}.livenessProbe.tcpSocket: Forbidden: may not specify more than 1 handler type",
        f"{C}.livenessProbe.periodSeconds: Invalid value: -1: must be greater than or equal to 0",
        f"{C}.livenessProbe.successThreshold: Invalid value: 2: must be 1",
    ]),
    (container(readinessProbe={"terminationGracePeriodSeconds": 1}), [
        f"{C}.readinessProbe: Required value: must specify a handler type",
        f"{C}.readinessProbe.terminationGracePeriodSeconds: Invalid value: 1: must not be set for readinessProbes",
    ]),
    (container(startupProbe={"httpGet": {"port": "", "scheme": "FTP", "httpHeaders": [{"name": "a b"}]}}), [
        f'{C}.startupProbe.httpGet.port: Invalid value: "": must contain only alpha-numeric characters (a-z, 0-9), and'
        " hyphens (-)",
        f'{C}.startupProbe.httpGet.port: Invalid value: "": must contain at least one letter (a-z)',
        f'{C}.startupProbe.httpGet.scheme: Unsupported value: "FTP": supported values: "HTTP", "HTTPS"',
        f'{C}.startupProbe.httpGet.httpHeaders: Invalid value: "a b": a valid HTTP header must consist of alphanumeric'
        " characters or '-' (e.g. 'X-Header-Name', regex used for validation is '[-A-Za-z0-9]+')",
    ]),
    (container(lifecycle={"preStop": {"sleep": {"seconds": 31}}, "stopSignal": "SIGTERM"}), [
        f"{C}.lifecycle.preStop.sleep: Invalid value: 31: must be non-negative and less than terminationGracePeriodSeconds"
        " (30)",
        f"{C}.lifecycle.stopSignal: Forbidden: may not be set for containers with empty `spec.os.name`",
    ]),
    (container(restartPolicyRules=[{"action": "Restart"}]), [
        f"{C}.restartPolicy: Required value: must specify restartPolicy when restart rules are used",
        f"{C}.restartPolicyRules[0].exitCodes: Required value: must be specified",
    ]),
    (container(restartPolicy="X"), [
        f'{C}.restartPolicy: Unsupported value: "X": supported values: "Always", "Never", "OnFailure"'
    ]),
    (container(restartPolicy="Never", restartPolicyRules=[
        {"action": "Restart", "exitCodes": {"operator": "In", "values": [1] * 256}}] * 21), [
        f"{C}.restartPolicyRules: Too many: 21: must have at most 20 items",
        *(f"{C}.restartPolicyRules[{n}].exitCodes.values: Too many: 256: must have at most 255 items" for n in range(21)),
    ]),
    (init(livenessProbe=HANDLER, lifecycle={}), [
        f"{I}.lifecycle: Forbidden: may not be set for init containers without restartPolicy=Always",
        f"{I}.livenessProbe: Forbidden: may not be set for init containers without restartPolicy=Always",
    ]),
    (init(resizePolicy=[{"resourceName": "cpu", "restartPolicy": "RestartContainer"}]), [
        f'{I}.resizePolicy[0].restartPolicy: Invalid value: "RestartContainer": must not be set to \'RestartContainer\' for'
        " non-sidecar initContainers"
    ]),
    # security
    (context(runAsUser=-1, runAsGroup=1 << 31), [
        f"{S}.runAsUser: Invalid value: -1: must be between 0 and 2147483647, inclusive",
        f"{S}.runAsGroup: Invalid value: 2147483648: must be between 0 and 2147483647, inclusive",
    ]),
    (context(seccompProfile={"type": "Localhost"}, appArmorProfile={"type": "X"}), [
        f"{S}.seccompProfile.localhostProfile: Required value: must be set when seccomp type is Localhost",
        f'{S}.appArmorProfile.type: Unsupported value: "X": supported values: "Localhost", "RuntimeDefault", "Unconfined"',
    ]),
    (context(seccompProfile={"type": ""}), [
        f"{S}.seccompProfile.type: Required value: type is required when seccompProfile is set"
    ]),
    (context(allowPrivilegeEscalation=False, privileged=True), [
        f'{S}: Invalid value: {{"privileged":true,"allowPrivilegeEscalation":false}}: cannot set `allowPrivilegeEscalation`'
        " to false and `privileged` to true"
    ]),
    (context(procMount="Unmasked"), [
        f'{S}.procMount: Invalid value: "Unmasked": `hostUsers` must be false to use `Unmasked`'
    ]),
    (pod(securityContext={"supplementalGroups": [-1], "sysctls": [{"name": "a..b", "value": "1"}],
                          "supplementalGroupsPolicy": "X"}), [
        "spec.securityContext.supplementalGroups[0]: Invalid value: -1: must be between 0 and 2147483647, inclusive",
        'spec.securityContext.sysctls[0].name: Invalid value: "a..b": must have at most 253 characters and match regex'
        " ^([a-z0-9]([-_a-z0-9]*[a-z0-9])?[\\./])*[a-z0-9]([-_a-z0-9]*[a-z0-9])?$",
        'spec.securityContext.supplementalGroupsPolicy: Unsupported value: "X": supported values: "Merge", "Strict"',
    ]),
    (pod(hostNetwork=True, securityContext={"sysctls": [{"name": "net/core/somaxconn", "value": "1"}]}), [
        'spec.securityContext.sysctls[0].name: Invalid value: "net/core/somaxconn": may not be specified when'
        " 'hostNetwork' is true"
    ]),
    (pod({"annotations": {"container.apparmor.security.beta.kubernetes.io/x": "y"}}), [
        'metadata.annotations[container.apparmor.security.beta.kubernetes.io/x]: Invalid value: "x": container not found',
        'metadata.annotations[container.apparmor.security.beta.kubernetes.io/x]: Invalid value: "y": invalid AppArmor'
        ' profile name: "y"',
    ]),
    (pod({"annotations": {"seccomp.security.alpha.kubernetes.io/pod": "unconfined"}},
         securityContext={"seccompProfile": {"type": "RuntimeDefault"}}), [
        "spec.securityContext.seccompProfile.type: Forbidden: seccomp type in annotation and field must match"
    ]),
    # volumes
    (volume(emptyDir={}, hostPath={"path": "/"}), [f"{V}.hostPath: Forbidden: may not specify more than 1 volume type"]),
    (volume(hostPath={"path": "/a/../b", "type": "X"}), [
        f"{V}.hostPath.path: Invalid value: \"/a/../b\": must not contain '..'",
        f'{V}.hostPath.type: Unsupported value: "X": supported values: "", "BlockDevice", "CharDevice", "Directory",'
        ' "DirectoryOrCreate", "File", "FileOrCreate", "Socket"',
    ]),
    (volume(configMap={"name": "c", "defaultMode": 512, "items": [{"key": "", "path": "/x"}]}), [
        f"{V}.configMap.defaultMode: Invalid value: 512: must be a number between 0 and 0777 (octal), both inclusive",
        f"{V}.configMap.items[0].key: Required value",
        f'{V}.configMap.items[0].path: Invalid value: "/x": must be a relative path',
    ]),
    (volume(secret={}), [f"{V}.secret.secretName: Required value"]),
    (volume(nfs={"server": "s", "path": "x"}), [f'{V}.nfs.path: Invalid value: "x": must be an absolute path']),
    (volume(downwardAPI={"items": [{"path": "x"}]}), [
        f"{V}.downwardAPI: Required value: one of fieldRef and resourceFieldRef is required"
    ]),
    (volume(projected={"sources": [{"secret": {"name": "s", "items": [{"key": "a", "path": "p"}]},
                                    "configMap": {"name": "c", "items": [{"key": "a", "path": "p"}]}}]}), [
        f'{V}.projected: Invalid value: "c": conflicting duplicate paths',
        f"{V}.projected.sources[0]: Forbidden: may not specify more than 1 volume type per source",
    ]),
    (volume(projected={"sources": [{"serviceAccountToken": {"path": "", "expirationSeconds": 1}}]}), [
        f"{V}.projected.sources[0].serviceAccountToken.expirationSeconds: Invalid value: 1: may not specify a duration less"
        " than 10 minutes",
        f"{V}.projected.path: Required value",
        f"{V}.projected.sources[0].serviceAccountToken: Forbidden: must not be specified when serviceAccountName is not set",
    ]),
    (volume(image={"pullPolicy": "X"}), [
        f"{V}.image.reference: Required value",
        f'{V}.image.pullPolicy: Unsupported value: "X": supported values: "Always", "IfNotPresent", "Never"',
    ]),
    (volume(ephemeral={"volumeClaimTemplate": {"metadata": {"name": "x"}, "spec": {}}}), [
        f"{V}.ephemeral.volumeClaimTemplate.metadata.name: Forbidden: cannot be set",
        f"{V}.ephemeral.volumeClaimTemplate.spec.accessModes: Required value: at least 1 access mode is required",
        f"{V}.ephemeral.volumeClaimTemplate.spec.resources[storage]: Required value",
    ]),
    (pod(volumes=[{"name": "v"}, {"name": "v"}]), ['spec.volumes[1].name: Duplicate value: "v"']),
    # placing
    (pod(nodeSelector={"a b": "c"}), [
        "spec.nodeSelector: Invalid value: \"a b\": name part must consist of alphanumeric characters, '-', '_' or '.', and"
        " must start and end with an alphanumeric character (e.g. 'MyName',  or 'my.name',  or '123-abc', regex used for"
        " validation is '([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]')"
    ]),
    (pod(tolerations=[{"key": "a", "operator": "Exists", "value": "v"}, {"operator": "Equal"}, {"key": "a",
         "operator": "X", "effect": "Y", "tolerationSeconds": 1}]), [
        "spec.tolerations[0].operator: Invalid value: \"v\": value must be empty when `operator` is 'Exists'",
        'spec.tolerations[1].operator: Invalid value: "Equal": operator must be Exists when `key` is empty, which means'
        ' "match all values and all keys"',
        "spec.tolerations[2].effect: Invalid value: \"Y\": effect must be 'NoExecute' when `tolerationSeconds` is set",
        'spec.tolerations[2].operator: Unsupported value: "X": supported values: "Equal", "Exists"',
        'spec.tolerations[2].effect: Unsupported value: "Y": supported values: "NoSchedule", "PreferNoSchedule",'
        ' "NoExecute"',
    ]),
    (pod(affinity={"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": []}}}), [
        "spec.affinity.nodeAffinity.requiredDuringSchedulingIgnoredDuringExecution.nodeSelectorTerms: Required value: must"
        " have at least one node selector term"
    ]),
    (pod(affinity={"podAffinity": {"preferredDuringSchedulingIgnoredDuringExecution": [
        {"weight": 101, "podAffinityTerm": {"topologyKey": "z"}}]}}), [
        "spec.affinity.podAffinity.preferredDuringSchedulingIgnoredDuringExecution[0].weight: Invalid value: 101: must be in"
        " the range 1-100"
    ]),
    (pod(topologySpreadConstraints=[{"maxSkew": 0, "topologyKey": "z", "whenUnsatisfiable": "X", "minDomains": 0}]), [
        "spec.topologySpreadConstraints[0].maxSkew: Invalid value: 0: must be greater than zero",
        'spec.topologySpreadConstraints[0].whenUnsatisfiable: Unsupported value: "X": supported values: "DoNotSchedule",'
        ' "ScheduleAnyway"',
        "spec.topologySpreadConstraints[0].minDomains: Invalid value: 0: must be greater than zero",
        "spec.topologySpreadConstraints[0].minDomains: Invalid value: 0: can only use minDomains if"
        " whenUnsatisfiable=DoNotSchedule, not X",
    ]),
    (pod(topologySpreadConstraints=[{"maxSkew": 1, "topologyKey": "z", "whenUnsatisfiable": "DoNotSchedule"}] * 2), [
        'spec.topologySpreadConstraints[0].{topologyKey, whenUnsatisfiable}: Duplicate value: "{z, DoNotSchedule}"'
    ]),
    # resources of the whole pod
    (pod(resources={"limits": {"x.y/z": "1"}, "requests": {"cpu": "1"}}, containers=[
        {"name": "c", "image": "i", "resources": {"requests": {"cpu": "2"}}}]), [
        'spec.resources.limits[x.y/z]: Unsupported value: "x.y/z": supported values: "cpu", "hugepages-", "memory"',
        'spec.resources.requests[cpu]: Invalid value: "1": must be greater than or equal to aggregate container requests of'
        " 2",
    ]),
    (pod(resources={"limits": {"cpu": "1"}}, containers=[
        {"name": "c", "image": "i", "resources": {"limits": {"cpu": "2"}}}]), [
        'spec.resources.requests: Invalid value: "2": must be less than or equal to cpu limit of 1',
        'spec.resources.containers[0][cpu].limits: Invalid value: "2": must be less than or equal to pod limits of 1',
    ]),
]  # fmt: skip


@pytest.mark.parametrize(("value", "expected"), INVALID, ids=[expected[0][:70] for _, expected in INVALID])
def test_invalid(value: dict[str, Any], expected: list[str]) -> None:
    assert messages(value) == expected


@pytest.mark.parametrize("text", ["x", "[", "{}", "[1]", '[{"key": 5}]', "[" * 5000, '[{"tolerationSeconds": "x"}]'])
def test_tolerations_in_an_annotation_that_is_none(text: str) -> None:
    (message,) = messages(pod({"annotations": {"scheduler.alpha.kubernetes.io/tolerations": text}}))
    start = 'metadata.annotations: Invalid value: "scheduler.alpha.kubernetes.io/tolerations": '
    assert message.startswith(start)
    assert len(message) > len(start)


def test_companions() -> None:
    def of(kind: str, **fields: Any) -> list[str]:
        return messages({"apiVersion": "v1", "kind": kind, "metadata": {"name": "x"}, **fields})

    assert of("ConfigMap", data={"a b": "1"}, binaryData={"a": "aGk="})[0].startswith('data[a b]: Invalid value: "a b"')
    assert of("ConfigMap", data={"a": "1"}, binaryData={"a": "aGk="}) == [
        'data[a]: Invalid value: "a": duplicate of key present in binaryData'
    ]
    assert of("ConfigMap", data={"a": "x" * (1 << 20) + "y"}) == [": Too long: may not be more than 1048576 bytes"]
    assert of("Secret", type="kubernetes.io/tls", data={}) == [
        "data[tls.crt]: Required value",
        "data[tls.key]: Required value",
    ]
    assert of("Secret", type="kubernetes.io/dockerconfigjson", stringData={".dockerconfigjson": "{}"}) == []
    assert of("PersistentVolumeClaim", spec={"accessModes": ["X"]}) == [
        'spec.accessModes: Unsupported value: "X": supported values: "ReadOnlyMany", "ReadWriteMany", "ReadWriteOnce",'
        ' "ReadWriteOncePod"',
        "spec.resources[storage]: Required value",
    ]
    assert of("PersistentVolume", spec={"capacity": {"storage": "0"}, "hostPath": {"path": "/x"}}) == [
        "spec.accessModes: Required value",
        'spec.capacity[storage]: Invalid value: "0": must be greater than zero',
    ]


@pytest.mark.parametrize(
    ("text", "good"),
    [
        ("1.2.3.4", True), ("::1", True), ("2001:db8::FFFF", True), ("0.0.0.0", True), ("01.2.3.4", False),
        ("1.2.3.04", False), ("::ffff:1.2.3.4", False), ("fe80::1%eth0", False), ("1.2.3.4/8", False), ("", False),
        ("1.2.3.4.5", False), ("x", False), ("256.1.1.1", False), ("0001::1", True),
    ],
)  # fmt: skip
def test_ip_address(text: str, good: bool) -> None:
    assert (ip_address(text) == []) is good


def test_values_are_quoted_as_go_quotes_them() -> None:
    assert quote('a"b\\c\n\x01é\u200b\x7f') == '"a\\"b\\\\c\\n\\x01é\\u200b\\x7f"'
    assert [quote(value) for value in (True, None, -1, ["a"])] == ["true", "null", "-1", '["a"]']
