"""Outside check: the verdict, the messages and the defaulted object of a Kubernetes v1.36 API server for real manifests."""

from __future__ import annotations

import json

import pytest

from nsrun import spec
from tests.pure.spec.corpus import ROOT, Case, cases

CASES = cases()


@pytest.fixture(autouse=True)
def _corpus() -> None:
    if not ROOT:
        pytest.skip("NSRUN_CORPUS not set")


def test_corpus_is_whole() -> None:
    """A folder without manifests must not look like a success."""
    assert len(CASES) > 250
    assert {case.verdict for case in CASES} == {"valid", "invalid", "unknown-field", "decode-error"}
    assert sum(case.defaulted is not None for case in CASES) > 250


@pytest.mark.parametrize("case", CASES, ids=[case.id for case in CASES])
def test_document(case: Case) -> None:
    found = [verdict for verdict in spec.load(case.data(), case.file) if verdict.document.index == case.index]
    assert len(found) == 1
    verdict = found[0]
    assert verdict.verdict == case.verdict
    assert " | ".join(verdict.messages) == case.messages
    if case.defaulted is not None:
        assert verdict.object is not None
        assert json.loads(spec.encode(verdict.object)) == case.defaulted


@pytest.mark.parametrize("case", CASES, ids=[case.id for case in CASES])
def test_everything_else_holds(case: Case) -> None:
    """What must hold for any manifest: a way back, idempotent defaults, messages with a line, support without surprises."""
    data = case.data()
    lines = data.count(b"\n") + 1
    for verdict in spec.load(data, case.file):
        for path, message in zip(verdict.paths, verdict.located_messages(), strict=True):
            line = int(message.split(":")[1])
            assert 1 <= line <= lines, path
        if verdict.object is None:
            continue
        again = spec.load(spec.encode(verdict.object), "again.json")[0]
        assert again.object == verdict.object
        if isinstance(verdict.object, spec.Pod):
            assert isinstance(again.object, spec.Pod)
            assert spec.changes(verdict.object, again.object) == []
            spec.unsupported(verdict.object)
