"""Validation of projected volumes.

Source of the rules: kubernetes pkg/apis/core/validation/validation.go and names.go (v1.36), validateProjectionSources.
"""

from __future__ import annotations

from typing import Any

from nsrun.spec import names
from nsrun.spec.field_errors import Errors
from nsrun.spec.model import ClusterTrustBundleProjection, PodCertificateProjection
from nsrun.spec.validate_downward import downward_file
from nsrun.spec.validate_meta import label_selector
from nsrun.spec.validate_paths import file_mode, file_path, key_to_path

_KEY_TYPES = ("RSA3072", "RSA4096", "ECDSAP256", "ECDSAP384", "ECDSAP521", "ED25519")
_MIN_CERTIFICATE_S = 3600
_MAX_CERTIFICATE_S = 91 * 24 * 3600
_MAX_KUBERNETES_CERTIFICATE_S = 24 * 3600


class _Paths:
    """The paths of a projected volume: no two sources may give the same."""

    def __init__(self, errors: Errors, path: str) -> None:
        self.errors = errors
        self.path = path
        self.seen: set[str] = set()

    def add(self, value: str, shown: str | None = None) -> None:
        if value in self.seen:
            self.errors.invalid(self.path, value if shown is None else shown, "conflicting duplicate paths")
        self.seen.add(value)


def projected(source: Any, errors: Errors, path: str) -> None:
    file_mode(source.defaultMode, errors, f"{path}.defaultMode")
    paths = _Paths(errors, path)
    for index, part in enumerate(source.sources):
        here = f"{path}.sources[{index}]"
        count = 0
        for field in ("secret", "configMap"):
            items = getattr(part, field)
            if items is not None:
                count += 1
                if not items.name:
                    errors.required(f"{here}.{field}.name")
                for position, item in enumerate(items.items):
                    key_to_path(item, errors, f"{here}.{field}.items[{position}]")
                    if item.path:
                        paths.add(item.path, items.name or "")
        if part.downwardAPI is not None:
            count += 1
            for item in part.downwardAPI.items:
                downward_file(item, errors, f"{here}.downwardAPI")
                if item.path:
                    paths.add(item.path)
        if part.serviceAccountToken is not None:
            count += 1
            _token(part.serviceAccountToken, errors, f"{here}.serviceAccountToken", path)
        if part.clusterTrustBundle is not None:
            count += 1
            _trust_bundle(part.clusterTrustBundle, errors, f"{here}.clusterTrustBundle")
            paths.add(part.clusterTrustBundle.path)
        if part.podCertificate is not None:
            count += 1
            _certificate(part.podCertificate, errors, f"{here}.podCertificate", paths)
        if count > 1:
            errors.forbidden(here, "may not specify more than 1 volume type per source")


def _token(token: Any, errors: Errors, path: str, volume_path: str) -> None:
    seconds = token.expirationSeconds or 0
    if seconds < 600:
        errors.invalid(f"{path}.expirationSeconds", seconds, "may not specify a duration less than 10 minutes")
    if seconds > 1 << 32:
        errors.invalid(f"{path}.expirationSeconds", seconds, "may not specify a duration larger than 2^32 seconds")
    if not token.path:
        errors.required(f"{volume_path}.path")
    else:
        file_path(token.path, errors, f"{volume_path}.path")


def _trust_bundle(bundle: ClusterTrustBundleProjection, errors: Errors, path: str) -> None:
    if bundle.name is not None and bundle.signerName is not None:
        errors.invalid(path, bundle, "only one of name and signerName may be used")
    elif bundle.name is not None:
        if not bundle.name:
            errors.required(f"{path}.name", "must be a valid object name")
        details = [f"not a valid clustertrustbundlename: {objection}" for objection in _bundle_name(bundle.name)]
        errors.each(f"{path}.name", bundle.name, details)
        if bundle.labelSelector is not None:
            detail = "labelSelector must be unset if name is specified"
            errors.invalid(f"{path}.labelSelector", bundle.labelSelector, detail)
    elif bundle.signerName is not None:
        if not bundle.signerName:
            errors.required(f"{path}.signerName", "must be a valid signer name")
        _signer_name(bundle.signerName, errors, f"{path}.signerName")
        label_selector(bundle.labelSelector, errors, f"{path}.labelSelector")
    else:
        errors.required(path, "either name or signerName must be specified")
    if not bundle.path:
        errors.required(f"{path}.path")
    file_path(bundle.path, errors, f"{path}.path")


def _bundle_name(name: str) -> list[str]:
    signer, colon, rest = name.rpartition(":")
    return names.subdomain(rest if colon and signer else name)


def _signer_name(value: str, errors: Errors, path: str) -> None:
    if not value:
        errors.required(path)
        return
    segments = value.split("/")
    if len(segments) != 2:
        detail = "must be a fully qualified domain and path of the form 'example.com/signer-name'"
        errors.invalid(path, value, detail)
        return
    domain, rest = segments
    if names.size(domain) > names.SUBDOMAIN_MAX:
        errors.too_long(path, names.SUBDOMAIN_MAX)
    for part in domain.split("."):
        objections = names.label(part)
        if objections:
            errors.each(path, domain, [f'validating label "{part}": {objection}' for objection in objections])
            break
    if "." not in domain:
        errors.invalid(path, domain, "should be a domain with at least two segments separated by dots")
    for part in rest.split("."):
        objections = names.subdomain(part)
        if objections:
            errors.each(path, rest, [f'validating label "{part}": {objection}' for objection in objections])
            break
    longest = names.SUBDOMAIN_MAX + names.SUBDOMAIN_MAX + names.LABEL_MAX + 2
    if names.size(value) > longest:
        errors.too_long(path, longest)


def _certificate(source: PodCertificateProjection, errors: Errors, path: str, paths: _Paths) -> None:
    signer = source.signerName or ""
    _signer_name(signer, errors, f"{path}.signerName")
    for key in sorted(source.userAnnotations):
        errors.each(f"{path}.userAnnotations", key, names.qualified_name(key.lower()))
    if source.keyType not in _KEY_TYPES:
        errors.unsupported(f"{path}.keyType", source.keyType or "", _KEY_TYPES, ordered=True)
    seconds = source.maxExpirationSeconds
    if seconds is not None:
        domain = signer.partition("/")[0]
        own = domain == "kubernetes.io" or domain.endswith(".kubernetes.io")
        most = _MAX_KUBERNETES_CERTIFICATE_S if own else _MAX_CERTIFICATE_S
        here = f"{path}.maxExpirationSeconds"
        if seconds < _MIN_CERTIFICATE_S:
            errors.invalid(here, seconds, f"if provided, maxExpirationSeconds must be >= {_MIN_CERTIFICATE_S}")
        if seconds > most:
            errors.invalid(here, seconds, f"if provided, maxExpirationSeconds must be <= {most}")
    count = 0
    for field in ("credentialBundlePath", "keyPath", "certificateChainPath"):
        value = getattr(source, field)
        if value:
            count += 1
            file_path(value, errors, f"{path}.{field}")
            paths.add(value)
    if not count:
        detail = "specify at least one of credentialBundlePath, keyPath, and certificateChainPath"
        errors.required(path, detail)
