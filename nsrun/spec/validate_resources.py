"""Validation of requests, limits and resource claims.

Source of the rules: kubernetes pkg/apis/core/validation/validation.go (v1.36), validateResourceRequirements.
"""

from __future__ import annotations

from collections.abc import Callable

from nsrun.spec import names, resources
from nsrun.spec.field_errors import Errors
from nsrun.spec.model import ContainerResizePolicy, ResourceClaim, ResourceRequirements
from nsrun.spec.quantity import Quantity, QuantityError, parse

_ZERO = Quantity(0)


def container_resources(needs: ResourceRequirements, claims: frozenset[str], errors: Errors, path: str) -> None:
    """Requests and limits of a container."""
    _requirements(needs, _container_resource_name, claims, errors, path)


def pod_resources(needs: ResourceRequirements, errors: Errors, path: str) -> None:
    """Requests and limits of a whole pod."""
    _requirements(needs, _pod_resource_name, frozenset(), errors, path)


def _container_resource_name(name: str, errors: Errors, path: str) -> None:
    _resource_name(name, errors, path)  # the checks below follow all the same
    if "/" not in name:
        if not resources.is_standard(name):
            errors.invalid(path, name, "must be a standard resource for containers")
    elif not resources.is_native(name) and not resources.is_extended(name):
        errors.invalid(path, name, "doesn't follow extended resource name standard")


_STANDARD_NAMES = frozenset({
    "cpu", "memory", "ephemeral-storage", "requests.cpu", "requests.memory", "requests.ephemeral-storage",
    "limits.cpu", "limits.memory", "limits.ephemeral-storage", "pods", "resourcequotas", "services",
    "replicationcontrollers", "secrets", "persistentvolumeclaims", "configmaps", "storage", "requests.storage",
    "services.nodeports", "services.loadbalancers",
})  # fmt: skip


def _resource_name(name: str, errors: Errors, path: str) -> bool:
    objections = names.qualified_name(name)
    errors.each(path, name, objections)
    if objections:
        return False
    huge = name.startswith((resources.HUGE_PAGES_PREFIX, "requests." + resources.HUGE_PAGES_PREFIX))
    if "/" not in name and name not in _STANDARD_NAMES and not huge:
        errors.invalid(path, name, "must be a standard resource type or fully qualified")
        return False
    return True


def _pod_resource_name(name: str, errors: Errors, path: str) -> None:
    if _resource_name(name, errors, path) and not resources.is_pod_level(name):
        errors.unsupported(path, name, ("cpu", "hugepages-", "memory"))


def _quantity_value(name: str, text: str, errors: Errors, path: str) -> None:
    amount = parse(text)
    if amount < _ZERO:
        errors.invalid(path, text, "must be greater than or equal to 0")
    if resources.is_integer(name) and amount.milli() % 1000:
        errors.invalid(path, text, "must be an integer")


def _huge_page_value(name: str, text: str, errors: Errors, path: str) -> bool:
    """Whether `name` is huge pages; objects to an amount that is not a whole number of them."""
    if not resources.is_huge_page(name):
        return False
    try:
        page = parse(name.removeprefix(resources.HUGE_PAGES_PREFIX))
        whole = page > _ZERO and page.milli() % 1000 == 0 and parse(text).whole() % page.whole() == 0
    except QuantityError:
        whole = False
    if not whole:
        errors.invalid(path, text, f"{text} is not positive integer multiple of {name}")
    return True


def _requirements(
    needs: ResourceRequirements,
    check_name: Callable[[str, Errors, str], None],
    claims: frozenset[str],
    errors: Errors,
    path: str,
) -> None:
    huge_pages = False
    compute = False
    for name, limit in sorted(needs.limits.items()):
        here = f"{path}.limits[{name}]"
        check_name(name, errors, here)
        _quantity_value(name, limit, errors, here)
        huge_pages |= _huge_page_value(name, limit, errors, here)
        compute |= name in ("cpu", "memory")
    for name, request in sorted(needs.requests.items()):
        here = f"{path}.requests[{name}]"
        check_name(name, errors, here)
        _quantity_value(name, request, errors, here)
        top = needs.limits.get(name)
        if top is not None:
            if parse(request) != parse(top) and not resources.may_overcommit(name):
                errors.invalid(f"{path}.requests", request, f"must be equal to {name} limit of {top}")
            elif parse(request) > parse(top):
                errors.invalid(f"{path}.requests", request, f"must be less than or equal to {name} limit of {top}")
        elif not resources.may_overcommit(name):
            errors.required(f"{path}.limits", "Limit must be set for non overcommitable resources")
        huge_pages |= _huge_page_value(name, request, errors, here)
        compute |= name in ("cpu", "memory")
    if huge_pages and not compute:
        errors.forbidden(path, "HugePages require cpu or memory")
    _claims(needs.claims, claims, errors, f"{path}.claims")


def _claims(items: list[ResourceClaim], known: frozenset[str], errors: Errors, path: str) -> None:
    seen: set[str] = set()
    for index, claim in enumerate(items):
        here = f"{path}[{index}]"
        name = claim.name
        if not name:
            errors.required(here)
            continue
        if name in seen:
            errors.duplicate(here, name)
        else:
            key = name
            if claim.request:
                errors.each(f"{here}.request", claim.request, names.label(claim.request))
                key = f"{name}/{claim.request}"
            if key in seen:
                errors.duplicate(here, key)
            elif not claim.request:
                for other in sorted(seen):
                    if other.partition("/")[0] == name and "/" in other:
                        errors.duplicate(here, name)
            seen.add(key)
        if name not in known:
            detail = "must be one of the names in pod.spec.resourceClaims"
            errors.not_found(here, name, detail + (": " + ", ".join(sorted(known)) if known else " which is empty"))


def resize_policy(policies: list[ContainerResizePolicy], restart_policy: str, errors: Errors, path: str) -> None:
    """What resizing does to a container; `restart_policy` is the pod's."""
    seen: set[str] = set()
    for index, policy in enumerate(policies):
        if policy.resourceName in seen:
            errors.duplicate(f"{path}[{index}]", policy.resourceName)
        seen.add(policy.resourceName)
        if not policy.resourceName:
            errors.required(path)
        elif policy.resourceName not in ("cpu", "memory"):
            errors.unsupported(path, policy.resourceName, ("cpu", "memory"))
        if not policy.restartPolicy:
            errors.required(path)
        elif policy.restartPolicy not in ("NotRequired", "RestartContainer"):
            errors.unsupported(path, policy.restartPolicy, ("NotRequired", "RestartContainer"))
        if restart_policy == "Never" and policy.restartPolicy != "NotRequired":
            detail = "must be 'NotRequired' when pod `restartPolicy` is 'Never'"
            errors.invalid(path, policy.restartPolicy, detail)
