"""A volume in `nsrun pod describe`. Source: kubectl pkg/describe/describe.go describeVolumes and what it calls."""

from __future__ import annotations

from typing import Any

from nsrun.cli.output import clean

Object = dict[str, Any]

_WORDS = {
    "hostPath": "HostPath (bare host directory volume)",
    "emptyDir": "EmptyDir (a temporary directory that shares a pod's lifetime)",
    "secret": "Secret (a volume populated by a Secret)",
    "configMap": "ConfigMap (a volume populated by a ConfigMap)",
    "projected": "Projected (a volume that contains injected data from multiple sources)",
    "downwardAPI": "DownwardAPI (a volume populated by information about the pod)",
    "persistentVolumeClaim": "PersistentVolumeClaim (a reference to a PersistentVolumeClaim in the same namespace)",
    "ephemeral": "EphemeralVolume (an inline specification for a volume that gets created and deleted with the pod)",
    "image": "Image (a container image or OCI artifact)",
    "csi": "CSI (a Container Storage Interface (CSI) volume source)",
    "nfs": "NFS (an NFS mount that lasts the lifetime of a pod)",
}


def volume_lines(volume: Object) -> list[str]:
    """One volume, with tabs after cells."""
    kind = next((key for key in volume if key != "name"), "emptyDir")
    source = volume.get(kind) or {}
    cells = [("Type", _WORDS.get(kind, kind)), *_facts(kind, source)]
    lines = [f"  {clean(str(volume.get('name', '')))}:"]
    lines += [f"    {name}:\t{clean(str(value))}" for name, value in cells]
    if kind == "downwardAPI":
        lines.append("    Items:")
        for item in source.get("items") or []:
            lines.append(f"      {item_source(item)} -> {clean(str(item.get('path', '')))}")
    return lines


def item_source(item: Object) -> str:
    """What a file of the downward API tells."""
    of = item.get("fieldRef") or {}
    return str(of.get("fieldPath") or (item.get("resourceFieldRef") or {}).get("resource", ""))


def _facts(kind: str, source: Object) -> list[tuple[str, object]]:
    match kind:
        case "hostPath":
            return [("Path", source.get("path", "")), ("HostPathType", source.get("type", "<none>"))]
        case "emptyDir":
            return [("Medium", source.get("medium", "")), ("SizeLimit", source.get("sizeLimit") or "<unset>")]
        case "secret":
            return [("SecretName", source.get("secretName", "")), ("Optional", _truth(source.get("optional")))]
        case "configMap":
            return [("Name", source.get("name", "")), ("Optional", _truth(source.get("optional")))]
        case "projected":
            return [fact for one in source.get("sources") or [] for fact in _projected(one)]
        case "persistentVolumeClaim":
            return [("ClaimName", source.get("claimName", "")), ("ReadOnly", _truth(source.get("readOnly")))]
        case "image":
            return [("Reference", source.get("reference", "")), ("PullPolicy", source.get("pullPolicy", ""))]
        case "nfs":
            return [
                ("Server", source.get("server", "")),
                ("Path", source.get("path", "")),
                ("ReadOnly", _truth(source.get("readOnly"))),
            ]
        case "csi":
            return [
                ("Driver", source.get("driver", "")),
                ("FSType", source.get("fsType", "")),
                ("ReadOnly", _truth(source.get("readOnly"))),
            ]
    return []


def _projected(one: Object) -> list[tuple[str, object]]:
    if "secret" in one:
        return [("SecretName", one["secret"].get("name", "")), ("Optional", _truth(one["secret"].get("optional")))]
    if "configMap" in one:
        return [
            ("ConfigMapName", one["configMap"].get("name", "")),
            ("Optional", _truth(one["configMap"].get("optional"))),
        ]
    if "downwardAPI" in one:
        return [("DownwardAPI", "true")]
    if "serviceAccountToken" in one:
        return [("TokenExpirationSeconds", one["serviceAccountToken"].get("expirationSeconds", 3600))]
    return []


def _truth(value: object) -> str:
    return str(bool(value)).lower()
