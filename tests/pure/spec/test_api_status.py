"""The words of refusals, as a v1.36 API server was recorded to say them."""

from __future__ import annotations

import json

import pytest

from nsrun.errors import NsrunError, StatusError
from nsrun.spec import api_status, judge, read_documents
from nsrun.spec.resources_table import RESOURCES, kept_kind, resource_at, resource_of

pytestmark = pytest.mark.pure

POD = kept_kind("Pod")


def test_each_refusal_has_the_recorded_words() -> None:
    assert api_status.not_found(POD, "p1").status == {
        "code": 404, "reason": "NotFound", "message": 'pods "p1" not found', "details": {"name": "p1", "kind": "pods"},
    }  # fmt: skip
    assert api_status.already_exists(kept_kind("Namespace"), "smp").status == {
        "code": 409, "reason": "AlreadyExists", "message": 'namespaces "smp" already exists',
        "details": {"name": "smp", "kind": "namespaces"},
    }  # fmt: skip
    assert api_status.conflict(POD, "p1").status["message"] == (
        'Operation cannot be fulfilled on pods "p1": the object has been modified; please apply your changes to the latest version'
        " and try again"
    )
    assert api_status.precondition("Pod", "p1", "UID", "x", "0c").status["message"] == (
        'Operation cannot be fulfilled on Pod "p1": the UID in the precondition (x) does not match the UID in record (0c). The object'
        " might have been deleted and then recreated"
    )
    assert api_status.forbidden(POD, "p9", 'pod rejected: RuntimeClass "nope" not found').status["message"] == (
        'pods "p9" is forbidden: pod rejected: RuntimeClass "nope" not found'
    )
    assert api_status.not_found(kept_kind("RuntimeClass"), "x").status["details"] == {
        "name": "x", "group": "node.k8s.io", "kind": "runtimeclasses",
    }  # fmt: skip


def test_invalid_has_a_cause_for_each_field() -> None:
    text = json.dumps({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "BAD_"}, "spec": {"containers": []}})
    (document,) = read_documents(text.encode(), name="-")
    status = api_status.invalid("Pod", "BAD_", judge(document).errors).status
    assert status["code"] == 422
    assert status["message"].startswith(
        'Pod "BAD_" is invalid: [metadata.name: Invalid value: "BAD_": a lowercase RFC 1123'
    )
    assert status["message"].endswith(", spec.containers: Required value]")
    assert status["details"]["causes"][1] == {
        "reason": "FieldValueRequired", "message": "Required value", "field": "spec.containers",
    }  # fmt: skip
    assert status["details"]["causes"][0]["message"].startswith('Invalid value: "BAD_": a lowercase')


def test_a_status_survives_the_control_socket() -> None:
    error = api_status.conflict(POD, "p1")
    back = NsrunError.from_data(json.loads(json.dumps(error.as_data())))
    assert isinstance(back, StatusError)
    assert back.status == error.status
    assert (back.code, back.brief) == ("conflict", error.brief)


def test_no_two_resources_have_one_name() -> None:
    assert len({(one.group, one.version, one.plural) for one in RESOURCES}) == len(RESOURCES)
    assert len({(one.group, one.version, one.kind) for one in RESOURCES}) == len(RESOURCES)
    assert resource_of("v1", "Pod") is resource_at("", "v1", "pods") is POD
    assert resource_of("apps/v1", "Pod") is None
    assert kept_kind("Event").group == ""
