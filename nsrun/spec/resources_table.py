"""The resources that clients of the Kubernetes API find here: names, verbs and subresources, as discovery tells them.

Source: the discovery documents of a v1.36 API server. A server keeps objects of the kinds that are `kept`; of the others there never are
any, but clients look for them (`kubectl get all`).
"""

from __future__ import annotations

from dataclasses import dataclass

READ = ("get", "list", "watch")
ALL = ("create", "delete", "deletecollection", "get", "list", "patch", "update", "watch")
_WRITE = ("get", "patch", "update")


@dataclass(frozen=True, slots=True)
class Subresource:
    """A part of an object, or something to be done with it, under a path of its own.

    Attributes:
        name: as in the path.
        kind: of what goes in and comes out.
        verbs: what can be done.
        group, version: of that kind, where they are not those of the resource; "" else.
    """

    name: str
    kind: str
    verbs: tuple[str, ...]
    group: str = ""
    version: str = ""


@dataclass(frozen=True, slots=True)
class Resource:
    """A kind of objects.

    Attributes:
        group: of the API; "" is core.
        version: of the group.
        kind: as objects say it.
        plural: as paths say it.
        singular: as people say it.
        namespaced: whether each object is in a namespace.
        short_names: what kubectl takes for it, too.
        verbs: what can be done.
        categories: what kubectl calls several kinds by.
        subresources: under the path of an object.
        kept: there can be objects of it.
    """

    group: str
    version: str
    kind: str
    plural: str
    singular: str
    namespaced: bool = True
    short_names: tuple[str, ...] = ()
    verbs: tuple[str, ...] = ALL
    categories: tuple[str, ...] = ()
    subresources: tuple[Subresource, ...] = ()
    kept: bool = True

    @property
    def api_version(self) -> str:
        """`v1`, `apps/v1`."""
        return f"{self.group}/{self.version}" if self.group else self.version

    @property
    def qualified(self) -> str:
        """`pods`, `runtimeclasses.node.k8s.io`: what the API server calls the resource in its messages."""
        return f"{self.plural}.{self.group}" if self.group else self.plural


def _status(kind: str) -> Subresource:
    return Subresource("status", kind, _WRITE)


def _none(
    group: str,
    version: str,
    kind: str,
    plural: str,
    *short: str,
    namespaced: bool = True,
    categories: tuple[str, ...] = (),
) -> Resource:
    """A kind of which there never is an object, but which clients look for."""
    return Resource(group, version, kind, plural, kind.lower(), namespaced, short, READ, categories, kept=False)


def _asked(group: str, kind: str) -> Resource:
    """A question that is put by creating an object; nothing is kept of it."""
    return Resource(
        group, "v1", kind, f"{kind.lower()}s", kind.lower(), namespaced=False, verbs=("create",), kept=False
    )


_EVICTION = Subresource("eviction", "Eviction", ("create",), "policy", "v1")

RESOURCES: tuple[Resource, ...] = (
    Resource("", "v1", "ConfigMap", "configmaps", "configmap", short_names=("cm",)),
    Resource("", "v1", "Endpoints", "endpoints", "endpoints", short_names=("ep",)),
    Resource("", "v1", "Event", "events", "event", short_names=("ev",)),
    Resource("", "v1", "LimitRange", "limitranges", "limitrange", short_names=("limits",)),
    Resource(
        "", "v1", "Namespace", "namespaces", "namespace", namespaced=False, short_names=("ns",),
        verbs=("create", "delete", "get", "list", "patch", "update", "watch"),
        subresources=(Subresource("finalize", "Namespace", ("update",)), _status("Namespace")),
    ),
    Resource(
        "", "v1", "Node", "nodes", "node", namespaced=False, short_names=("no",),
        verbs=("get", "list", "patch", "update", "watch"), subresources=(_status("Node"),),
    ),
    Resource(
        "", "v1", "PersistentVolumeClaim", "persistentvolumeclaims", "persistentvolumeclaim", short_names=("pvc",),
        subresources=(_status("PersistentVolumeClaim"),),
    ),
    Resource(
        "", "v1", "PersistentVolume", "persistentvolumes", "persistentvolume", namespaced=False, short_names=("pv",),
        subresources=(_status("PersistentVolume"),),
    ),
    Resource(
        "", "v1", "Pod", "pods", "pod", short_names=("po",), categories=("all",),
        subresources=(
            Subresource("attach", "PodAttachOptions", ("create", "get")),
            Subresource("ephemeralcontainers", "Pod", _WRITE),
            _EVICTION,
            Subresource("exec", "PodExecOptions", ("create", "get")),
            Subresource("log", "Pod", ("get",)),
            Subresource("portforward", "PodPortForwardOptions", ("create", "get")),
            Subresource("resize", "Pod", _WRITE),
            _status("Pod"),
        ),
    ),
    Resource(
        "", "v1", "ReplicationController", "replicationcontrollers", "replicationcontroller", short_names=("rc",),
        verbs=READ, categories=("all",), kept=False,
    ),
    Resource(
        "", "v1", "ResourceQuota", "resourcequotas", "resourcequota", short_names=("quota",),
        subresources=(_status("ResourceQuota"),),
    ),
    Resource("", "v1", "Secret", "secrets", "secret"),
    Resource(
        "", "v1", "ServiceAccount", "serviceaccounts", "serviceaccount", short_names=("sa",),
        subresources=(Subresource("token", "TokenRequest", ("create",), "authentication.k8s.io", "v1"),),
    ),
    Resource(
        "", "v1", "Service", "services", "service", short_names=("svc",), categories=("all",),
        subresources=(_status("Service"),),
    ),
    _none("apps", "v1", "DaemonSet", "daemonsets", "ds", categories=("all",)),
    _none("apps", "v1", "Deployment", "deployments", "deploy", categories=("all",)),
    _none("apps", "v1", "ReplicaSet", "replicasets", "rs", categories=("all",)),
    _none("apps", "v1", "StatefulSet", "statefulsets", "sts", categories=("all",)),
    _none(
        "apiextensions.k8s.io", "v1", "CustomResourceDefinition", "customresourcedefinitions", "crd", "crds",
        namespaced=False, categories=("api-extensions",),
    ),
    _asked("authentication.k8s.io", "SelfSubjectReview"),
    _asked("authorization.k8s.io", "SelfSubjectAccessReview"),
    _asked("authorization.k8s.io", "SelfSubjectRulesReview"),
    _none("autoscaling", "v2", "HorizontalPodAutoscaler", "horizontalpodautoscalers", "hpa", categories=("all",)),
    _none("autoscaling", "v1", "HorizontalPodAutoscaler", "horizontalpodautoscalers", "hpa", categories=("all",)),
    _none("batch", "v1", "CronJob", "cronjobs", "cj", categories=("all",)),
    _none("batch", "v1", "Job", "jobs", categories=("all",)),
    Resource("coordination.k8s.io", "v1", "Lease", "leases", "lease"),
    Resource("discovery.k8s.io", "v1", "EndpointSlice", "endpointslices", "endpointslice"),
    Resource("events.k8s.io", "v1", "Event", "events", "event", short_names=("ev",)),
    Resource("metrics.k8s.io", "v1beta1", "NodeMetrics", "nodes", "", namespaced=False, verbs=("get", "list"), kept=False),
    Resource("metrics.k8s.io", "v1beta1", "PodMetrics", "pods", "", verbs=("get", "list"), kept=False),
    _none("networking.k8s.io", "v1", "IngressClass", "ingressclasses", namespaced=False),
    _none("networking.k8s.io", "v1", "Ingress", "ingresses", "ing"),
    _none("networking.k8s.io", "v1", "NetworkPolicy", "networkpolicies", "netpol"),
    Resource("node.k8s.io", "v1", "RuntimeClass", "runtimeclasses", "runtimeclass", namespaced=False),
    Resource(
        "policy", "v1", "PodDisruptionBudget", "poddisruptionbudgets", "poddisruptionbudget", short_names=("pdb",),
        verbs=READ, kept=False,
    ),
    _none("rbac.authorization.k8s.io", "v1", "ClusterRoleBinding", "clusterrolebindings", namespaced=False),
    _none("rbac.authorization.k8s.io", "v1", "ClusterRole", "clusterroles", namespaced=False),
    _none("rbac.authorization.k8s.io", "v1", "RoleBinding", "rolebindings"),
    _none("rbac.authorization.k8s.io", "v1", "Role", "roles"),
    _none("resource.k8s.io", "v1", "ResourceClaim", "resourceclaims"),
    _none("resource.k8s.io", "v1", "ResourceSlice", "resourceslices", namespaced=False),
    Resource("scheduling.k8s.io", "v1", "PriorityClass", "priorityclasses", "priorityclass", namespaced=False, short_names=("pc",)),
    _none("storage.k8s.io", "v1", "CSIDriver", "csidrivers", namespaced=False),
    _none("storage.k8s.io", "v1", "CSINode", "csinodes", namespaced=False),
    _none("storage.k8s.io", "v1", "StorageClass", "storageclasses", "sc", namespaced=False),
    _none("storage.k8s.io", "v1", "VolumeAttachment", "volumeattachments", namespaced=False),
)  # fmt: skip
"""All of them, by group and name."""

_BY_KIND = {(one.api_version, one.kind): one for one in RESOURCES}
_BY_PLURAL = {(one.group, one.version, one.plural): one for one in RESOURCES}


def resource_of(api_version: str, kind: str) -> Resource | None:
    """The resource of an object that says this of itself; None for one that there is not here."""
    return _BY_KIND.get((api_version, kind))


def resource_at(group: str, version: str, plural: str) -> Resource | None:
    """The resource that a path names; None when there is none."""
    return _BY_PLURAL.get((group, version, plural))


def kept_kind(kind: str) -> Resource:
    """The resource of a kind of which there are objects. The events of both groups are one store, that of core.

    Raises:
        KeyError: there is no such kind.
    """
    return _KEPT[kind]


_KEPT = {one.kind: one for one in reversed(RESOURCES) if one.kept}
