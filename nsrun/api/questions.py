"""What clients ask by creating an object that nobody keeps: who am I, and what may I?

Source: kubernetes pkg/registry/authentication/selfsubjectreview, pkg/registry/authorization/selfsubject* (v1.36).
"""

from __future__ import annotations

from typing import Any

from aiohttp import web

from nsrun.api import bodies
from nsrun.api.answers import answer
from nsrun.api.forms.negotiation import Wanted
from nsrun.api.paths import Target
from nsrun.api.roles import FULL, READ_ONLY, Caller, allowed
from nsrun.errors import StatusError
from nsrun.spec import api_status
from nsrun.spec.resources_table import RESOURCES, Resource

_EVERYTHING = [{"verbs": ["*"], "apiGroups": ["*"], "resources": ["*"]}]
_EVERY_PATH = [{"verbs": ["*"], "nonResourceURLs": ["*"]}]


class Questions:
    """Answers them."""

    async def answer(self, request: web.BaseRequest, target: Target, form: Wanted, caller: Caller) -> web.Response:
        """Answer one.

        Raises:
            StatusError: it is none that can be answered here.
        """
        body = await bodies.read(request)
        kind = target.kind
        if kind not in ("SelfSubjectReview", "SelfSubjectAccessReview", "SelfSubjectRulesReview"):
            raise api_status.not_supported(target.resource, "create")
        asked, _ = bodies.decoded(body, bodies.media_of(request), kind)
        spec = asked.get("spec") or {}
        if not isinstance(spec, dict):
            raise api_status.undecodable(
                kind, target.resource.version, "json: cannot unmarshal into Go struct field .spec"
            )
        found: dict[str, Any] = {
            "kind": kind,
            "apiVersion": target.resource.api_version,
            "metadata": asked.get("metadata") or {},
        }
        if kind == "SelfSubjectReview":
            found["status"] = {"userInfo": {"username": caller.name, "groups": caller.groups}}
        elif kind == "SelfSubjectAccessReview":
            found |= {"spec": spec, "status": self._access(spec, caller)}
        else:
            found |= {"spec": spec, "status": self._rules(caller)}
        return answer(request, found, form, code=201)

    def _access(self, spec: dict[str, Any], caller: Caller) -> dict[str, Any]:
        of_resource, of_path = spec.get("resourceAttributes"), spec.get("nonResourceAttributes")
        if isinstance(of_resource, dict) is isinstance(of_path, dict):
            raise _one_of_two()
        if isinstance(of_path, dict):
            return {"allowed": caller.role == FULL or of_path.get("verb") in ("get", "head")}
        assert isinstance(of_resource, dict)
        verb, resource = str(of_resource.get("verb", "")), _resource(of_resource)
        if resource is None:
            return {
                "allowed": caller.role == FULL
                or (
                    caller.role == READ_ONLY and verb in ("get", "list", "watch") and of_resource.get("resource") != "*"
                )
            }
        part = of_resource.get("subresource") or ""
        found = next((one for one in resource.subresources if one.name == part), None)
        return {"allowed": allowed(caller.role, verb, Target(resource, "", "", found))}

    def _rules(self, caller: Caller) -> dict[str, Any]:
        if caller.role == FULL:
            return {"resourceRules": _EVERYTHING, "nonResourceRules": _EVERY_PATH, "incomplete": False}
        rules = [
            {"verbs": ["get", "list", "watch"], "apiGroups": [resource.group], "resources": [resource.plural]}
            for resource in RESOURCES
            if allowed(caller.role, "get", Target(resource))
        ]
        paths = [{"verbs": ["get"], "nonResourceURLs": ["*"]}]
        if not rules:
            return {"resourceRules": [], "nonResourceRules": paths, "incomplete": False}
        logs = {"verbs": ["get"], "apiGroups": [""], "resources": ["pods/log"]}
        return {"resourceRules": [*rules, logs], "nonResourceRules": paths, "incomplete": False}


def _resource(attributes: dict[str, Any]) -> Resource | None:
    group, plural = attributes.get("group") or "", attributes.get("resource") or ""
    return next((one for one in RESOURCES if one.group == group and one.plural == plural), None)


def _one_of_two() -> StatusError:
    why = "exactly one of nonResourceAttributes or resourceAttributes must be specified"
    return api_status.refusal(
        422,
        "Invalid",
        f'SelfSubjectAccessReview.authorization.k8s.io "" is invalid: spec: Invalid value: {why}',
        details={},
    )
