"""Validation of a pod's volumes.

Source of the rules: kubernetes pkg/apis/core/validation/validation.go (v1.36), ValidateVolumes and what it calls. Where a
path there looks odd (``persistentDisk``, ``downwarAPI``), it is the API server's.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

from nsrun.spec import names
from nsrun.spec.field_errors import Errors
from nsrun.spec.model import (
    KeyToPath,
    ObjectMeta,
    PersistentVolumeClaimSpec,
    PersistentVolumeClaimTemplate,
    TypedLocalObjectReference,
    TypedObjectReference,
    Volume,
)
from nsrun.spec.quantity import Quantity, parse
from nsrun.spec.validate_downward import downward_file
from nsrun.spec.validate_meta import annotation_map, label_map, label_selector
from nsrun.spec.validate_paths import file_mode, key_to_path, local_path, no_backsteps
from nsrun.spec.validate_projected import projected

_ONE_TYPE = "may not specify more than 1 volume type"
_ZERO = Quantity(0)
ACCESS_MODES = ("ReadOnlyMany", "ReadWriteMany", "ReadWriteOnce", "ReadWriteOncePod")
_HOST_PATH_TYPES = (
    "", "BlockDevice", "CharDevice", "Directory", "DirectoryOrCreate", "File", "FileOrCreate", "Socket",
)  # fmt: skip
_IQN = re.compile(r"iqn\.\d{4}-\d{2}\.([A-Za-z0-9.-]+)(:[^,;*&$|\s]+)$", re.ASCII)
_EUI = re.compile(r"^eui.[A-Za-z0-9]{16}$", re.ASCII)
_NAA = re.compile(r"^naa.[A-Za-z0-9]{32}$", re.ASCII)


def volumes(items: list[Volume], meta: ObjectMeta, errors: Errors, path: str) -> dict[str, Volume]:
    """All volumes of a pod.

    Returns:
        The volumes without an objection, by name: what mounts may refer to.
    """
    claims = {f"{meta.name}-{volume.name}" for volume in items if volume.ephemeral is not None} if meta.name else set()
    good: dict[str, Volume] = {}
    for index, volume in enumerate(items):
        here = f"{path}[{index}]"
        found = Errors()
        _source(volume, meta, found, here)
        if not volume.name:
            found.required(f"{here}.name")
        else:
            found.each(f"{here}.name", volume.name, names.label(volume.name))
        if volume.name in good:
            found.duplicate(f"{here}.name", volume.name)
        if not found:
            good[volume.name] = volume
        errors += found
        claim = volume.persistentVolumeClaim
        if claim is not None and claim.claimName in claims:
            errors.invalid(
                f"{here}.persistentVolumeClaim.claimName",
                claim.claimName,
                "must not reference a PVC that gets created for an ephemeral volume",
            )
    return good


def _source(volume: Volume, meta: ObjectMeta, errors: Errors, path: str) -> None:
    count = 0
    for name, check in _CHECKS:
        source = getattr(volume, name)
        if source is None:
            continue
        if count and name != "emptyDir":
            errors.forbidden(f"{path}.{_SECOND_TYPE_PATH.get(name, name)}", _ONE_TYPE)
        else:
            count += 1
            check(source, errors, f"{path}.{_PATH.get(name, name)}")
            if name == "ephemeral" and meta.name and volume.name:
                claim = f"{meta.name}-{volume.name}"
                details = [f'PVC name "{claim}": {objection}' for objection in names.subdomain(claim)]
                errors.each(f"{path}.name", volume.name, details)
        if name == "iscsi":
            _iscsi_name_length(volume.name, source, errors, path)
    if count == 0:
        errors.required(path, "must specify a volume type")


def _iscsi_name_length(name: str, source: Any, errors: Errors, path: str) -> None:
    if source.initiatorName is not None and names.size(f"{name}:{source.targetPortal}") > 64:
        detail = (
            "Total length of <volume name>:<iscsi.targetPortal> must be under 64 characters"
            " if iscsi.initiatorName is specified."
        )
        errors.invalid(f"{path}.name", name, detail)


def _need(*fields: str) -> Callable[[Any, Errors, str], None]:
    """A check that asks for fields and nothing else."""

    def check(source: Any, errors: Errors, path: str) -> None:
        for field in fields:
            if not getattr(source, field):
                errors.required(f"{path}.{field}")

    return check


def _empty_dir(source: Any, errors: Errors, path: str) -> None:
    if source.sizeLimit is not None and parse(source.sizeLimit) < _ZERO:
        errors.forbidden(f"{path}.sizeLimit", "SizeLimit field must be a valid resource quantity")


def host_path(source: Any, errors: Errors, path: str) -> None:
    """A path of the host."""
    if not source.path:
        errors.required(f"{path}.path")
        return
    no_backsteps(source.path, errors, f"{path}.path")
    if source.type is not None and source.type not in _HOST_PATH_TYPES:
        errors.unsupported(f"{path}.type", source.type, _HOST_PATH_TYPES)


def _git_repo(source: Any, errors: Errors, path: str) -> None:
    _need("repository")(source, errors, path)
    local_path(source.directory or "", errors, f"{path}.directory")


def _partitioned(field: str) -> Callable[[Any, Errors, str], None]:
    def check(source: Any, errors: Errors, path: str) -> None:
        _need(field)(source, errors, path)
        if not 0 <= (source.partition or 0) <= 255:
            errors.invalid(f"{path}.partition", source.partition, names.in_range(1, 255))

    return check


def _iscsi_name(value: str, errors: Errors, path: str) -> None:
    for prefix, form in (("iqn", _IQN), ("eui", _EUI), ("naa", _NAA)):
        if value.startswith(prefix):
            if not form.search(value):
                errors.invalid(path, value, "must be valid format")
            return
    errors.invalid(path, value, "must be valid format starting with iqn, eui, or naa")


def _iscsi(source: Any, errors: Errors, path: str) -> None:
    _need("targetPortal")(source, errors, path)
    if not source.iqn:
        errors.required(f"{path}.iqn")
    else:
        _iscsi_name(source.iqn, errors, f"{path}.iqn")
    if not 0 <= source.lun <= 255:
        errors.invalid(f"{path}.lun", source.lun, names.in_range(0, 255))
    if (source.chapAuthDiscovery or source.chapAuthSession) and source.secretRef is None:
        errors.required(f"{path}.secretRef")
    if source.initiatorName is not None:
        _iscsi_name(source.initiatorName, errors, f"{path}.initiatorname")


def _fc(source: Any, errors: Errors, path: str) -> None:
    if not source.targetWWNs and not source.wwids:
        errors.required(f"{path}.targetWWNs", "must specify either targetWWNs or wwids, but not both")
    if source.targetWWNs and source.wwids:
        detail = "targetWWNs and wwids can not be specified simultaneously"
        errors.invalid(f"{path}.targetWWNs", source.targetWWNs, detail)
    if source.targetWWNs:
        if source.lun is None:
            errors.required(f"{path}.lun", "lun is required if targetWWNs is specified")
        elif not 0 <= source.lun <= 255:
            errors.invalid(f"{path}.lun", source.lun, names.in_range(0, 255))


def _secret(source: Any, errors: Errors, path: str) -> None:
    _need("secretName")(source, errors, path)
    file_mode(source.defaultMode, errors, f"{path}.defaultMode")
    _keys(source.items, errors, path)


def _config_map(source: Any, errors: Errors, path: str) -> None:
    _need("name")(source, errors, path)
    file_mode(source.defaultMode, errors, f"{path}.defaultMode")
    _keys(source.items, errors, path)


def _keys(items: list[KeyToPath], errors: Errors, path: str) -> None:
    for index, item in enumerate(items):
        key_to_path(item, errors, f"{path}.items[{index}]")


def _nfs(source: Any, errors: Errors, path: str) -> None:
    _need("server", "path")(source, errors, path)
    if not source.path.startswith("/"):
        errors.invalid(f"{path}.path", source.path, "must be an absolute path")


def _quobyte(source: Any, errors: Errors, path: str) -> None:
    pairs = "must be a host:port pair or multiple pairs separated by commas"
    if not source.registry:
        errors.required(f"{path}.registry", pairs)
    elif names.size(source.tenant or "") >= 65:
        errors.required(f"{path}.tenant", "must be a UUID and may not exceed a length of 64 characters")
    else:
        for pair in source.registry.split(","):
            if not re.fullmatch(r"(?:[^:\[\]]*|\[[^\[\]]*\]):[^:\[\]]*", pair):
                errors.invalid(f"{path}.registry", source.registry, pairs)
    _need("volume")(source, errors, path)


def _flocker(source: Any, errors: Errors, path: str) -> None:
    name, uuid = source.datasetName or "", source.datasetUUID or ""
    if not name and not uuid:
        errors.required(path, "one of datasetName and datasetUUID is required")
    if name and uuid:
        errors.invalid(path, "resource", "datasetName and datasetUUID can not be specified simultaneously")
    if "/" in name:
        errors.invalid(f"{path}.datasetName", name, "must not contain '/'")


def _cinder(source: Any, errors: Errors, path: str) -> None:
    _need("volumeID")(source, errors, path)
    if source.secretRef is not None and not source.secretRef.name:
        errors.required(f"{path}.secretRef.name")


def _flex(source: Any, errors: Errors, path: str) -> None:
    _need("driver")(source, errors, path)
    for key in sorted(source.options):
        domain = "." + key.partition("/")[0].lower()
        if domain.endswith((".kubernetes.io", ".k8s.io")):
            errors.invalid(f"{path}.options[{key}]", key, "kubernetes.io and k8s.io namespaces are reserved")


def _azure_disk(source: Any, errors: Errors, path: str) -> None:
    _need("diskName", "diskURI")(source, errors, path)
    if source.cachingMode is not None and source.cachingMode not in ("None", "ReadOnly", "ReadWrite"):
        errors.unsupported(f"{path}.cachingMode", source.cachingMode, ("None", "ReadOnly", "ReadWrite"))
    if source.kind is not None and source.kind not in ("Dedicated", "Managed", "Shared"):
        errors.unsupported(f"{path}.kind", source.kind, ("Dedicated", "Managed", "Shared"))
    if source.kind == "Managed" and not source.diskURI.startswith("/subscriptions/"):
        valid = (
            "/subscriptions/{sub-id}/resourcegroups/{group-name}/providers/microsoft.compute/disks/{disk-id}",
        )  # fmt: skip
        errors.unsupported(f"{path}.diskURI", source.diskURI, valid)
    if source.kind not in (None, "Managed") and not source.diskURI.startswith("https://"):
        valid = ("https://{account-name}.blob.core.windows.net/{container-name}/{disk-name}.vhd",)
        errors.unsupported(f"{path}.diskURI", source.diskURI, valid)


def _storage_os(source: Any, errors: Errors, path: str) -> None:
    if not source.volumeName:
        errors.required(f"{path}.volumeName")
    else:
        errors.each(f"{path}.volumeName", source.volumeName, names.label(source.volumeName))
    if source.volumeNamespace:
        errors.each(f"{path}.volumeNamespace", source.volumeNamespace, names.label(source.volumeNamespace))
    if source.secretRef is not None and not source.secretRef.name:
        errors.required(f"{path}.secretRef.name")


def _csi(source: Any, errors: Errors, path: str) -> None:
    if not source.driver:
        errors.required(f"{path}.driver")
    if names.size(source.driver) > 63:
        errors.too_long(f"{path}.driver", 63)
    errors.each(f"{path}.driver", source.driver, names.subdomain(source.driver.lower()))
    secret = source.nodePublishSecretRef
    if secret is not None:
        if not secret.name:
            errors.required(f"{path}.nodePublishSecretRef.name")
        else:
            errors.each(f"{path}.name", secret.name, names.subdomain(secret.name))


def _ephemeral(source: Any, errors: Errors, path: str) -> None:
    template: PersistentVolumeClaimTemplate | None = source.volumeClaimTemplate
    if template is None:
        errors.required(f"{path}.volumeClaimTemplate")
        return
    meta = template.metadata
    here = f"{path}.volumeClaimTemplate.metadata"
    annotation_map(meta.annotations, errors, f"{here}.annotations")
    label_map(meta.labels, errors, f"{here}.labels")
    for field in meta.__struct_fields__:
        if field not in ("annotations", "labels") and getattr(meta, field):
            errors.forbidden(f"{here}.{'uID' if field == 'uid' else field}", "cannot be set")
    claim_spec(template.spec, errors, f"{path}.volumeClaimTemplate.spec")


def claim_spec(spec: PersistentVolumeClaimSpec, errors: Errors, path: str) -> None:
    """The spec of a persistent volume claim."""
    if not spec.accessModes:
        errors.required(f"{path}.accessModes", "at least 1 access mode is required")
    label_selector(spec.selector, errors, f"{path}.selector")
    for mode in spec.accessModes:
        if mode not in ACCESS_MODES:
            errors.unsupported(f"{path}.accessModes", mode, ACCESS_MODES)
    known = {mode for mode in spec.accessModes if mode in ACCESS_MODES}
    if "ReadWriteOncePod" in known and len(known) > 1:
        errors.forbidden(f"{path}.accessModes", "may not use ReadWriteOncePod with other access modes")
    storage = spec.resources.requests.get("storage")
    if storage is None:
        errors.required(f"{path}.resources[storage]")
    elif parse(storage) <= _ZERO:
        errors.invalid(f"{path}.resources[storage]", storage, "must be greater than zero")
    if spec.storageClassName:
        errors.each(f"{path}.storageClassName", spec.storageClassName, names.subdomain(spec.storageClassName))
    if spec.volumeMode is not None and spec.volumeMode not in ("Block", "Filesystem"):
        errors.unsupported(f"{path}.volumeMode", spec.volumeMode, ("Block", "Filesystem"))
    source, reference = spec.dataSource, spec.dataSourceRef
    if source is not None:
        _data_source(source, errors, f"{path}.dataSource")
    if reference is not None:
        _data_source(reference, errors, f"{path}.dataSourceRef")
        if reference.namespace:
            errors.each(f"{path}.dataSourceRef.namespace", reference.namespace, names.label(reference.namespace))
    if source is not None and reference is not None:
        if reference.namespace:
            errors.invalid(path, f"{path}.dataSource", "may not be specified when dataSourceRef.namespace is specified")
        elif (source.apiGroup, source.kind, source.name) != (reference.apiGroup, reference.kind, reference.name):
            errors.invalid(path, f"{path}.dataSource", "must match dataSourceRef")
    if spec.volumeAttributesClassName:
        objections = names.subdomain(spec.volumeAttributesClassName)
        errors.each(f"{path}.volumeAttributesClassName", spec.volumeAttributesClassName, objections)


def _data_source(source: TypedLocalObjectReference | TypedObjectReference, errors: Errors, path: str) -> None:
    _need("name", "kind")(source, errors, path)
    if not source.apiGroup and source.kind != "PersistentVolumeClaim":
        detail = "must be 'PersistentVolumeClaim' when referencing the default apiGroup"
        errors.invalid(path, source.kind, detail)
    if source.apiGroup:
        errors.each(f"{path}.apiGroup", source.apiGroup, names.subdomain(source.apiGroup))


def pull_policy(value: str | None, errors: Errors, path: str) -> None:
    """When an image is pulled."""
    if not value:
        errors.required(path)
    elif value not in ("Always", "IfNotPresent", "Never"):
        errors.unsupported(path, value, ("Always", "IfNotPresent", "Never"))


def _image(source: Any, errors: Errors, path: str) -> None:
    _need("reference")(source, errors, path)
    pull_policy(source.pullPolicy, errors, f"{path}.pullPolicy")


def _downward_api(source: Any, errors: Errors, path: str) -> None:
    file_mode(source.defaultMode, errors, f"{path}.defaultMode")
    for item in source.items:
        downward_file(item, errors, path)


_Check = Callable[[Any, Errors, str], None]
_CHECKS: tuple[tuple[str, _Check], ...] = (
    ("emptyDir", _empty_dir),
    ("hostPath", host_path),
    ("gitRepo", _git_repo),
    ("gcePersistentDisk", _partitioned("pdName")),
    ("awsElasticBlockStore", _partitioned("volumeID")),
    ("secret", _secret),
    ("nfs", _nfs),
    ("iscsi", _iscsi),
    ("glusterfs", _need("endpoints", "path")),
    ("flocker", _flocker),
    ("persistentVolumeClaim", _need("claimName")),
    ("rbd", _need("monitors", "image")),
    ("cinder", _cinder),
    ("cephfs", _need("monitors")),
    ("quobyte", _quobyte),
    ("downwardAPI", _downward_api),
    ("fc", _fc),
    ("flexVolume", _flex),
    ("configMap", _config_map),
    ("azureFile", _need("secretName", "shareName")),
    ("vsphereVolume", _need("volumePath")),
    ("photonPersistentDisk", _need("pdID")),
    ("portworxVolume", _need("volumeID")),
    ("azureDisk", _azure_disk),
    ("storageos", _storage_os),
    ("projected", projected),
    ("scaleIO", _need("gateway", "system", "volumeName")),
    ("csi", _csi),
    ("ephemeral", _ephemeral),
    ("image", _image),
)
"""In the order in which the API server looks: the first that is set is checked, further ones are refused."""
_PATH = {"gcePersistentDisk": "persistentDisk"}
_SECOND_TYPE_PATH = {"cephfs": "cephFS", "downwardAPI": "downwarAPI"}
