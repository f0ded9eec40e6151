"""docs/kubernetes-conformance.md names the tests that tests/host/api/conformance has cases of."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.host.api.conformance import environment, lifecycle, pods, registry, volumes

pytestmark = pytest.mark.pure

PAGE = Path(__file__).parents[3] / "docs" / "kubernetes-conformance.md"


def test_every_test_on_the_page_has_a_case_and_the_other_way_round() -> None:
    assert {environment, lifecycle, pods, volumes}
    titles = re.findall(r"^\| (\[sig-.*?) \| `test/e2e/", PAGE.read_text(encoding="utf-8"), re.MULTILINE)
    assert len(titles) == len(set(titles)) == 141
    assert set(titles) == registry.CASES.keys()


def test_a_title_is_known_without_its_tags() -> None:
    title = "[sig-node] Sysctls [LinuxOnly] [NodeConformance] should support sysctls [Environment:NotInUserNS] [Conformance]"
    assert registry.plain(title) == "[sig-node] Sysctls should support sysctls"
