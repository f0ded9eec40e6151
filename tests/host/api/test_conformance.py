"""What the 141 tests that are NodeConformance and Conformance ask of a node, against the API over HTTP.

All of them begin at the same time, so that the slowest one takes as long as all; each is reported by itself.
"""

from __future__ import annotations

import traceback
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor

import pytest

from tests.host.api.conformance import environment, lifecycle, pods, registry, stand_ins, volumes
from tests.host.api.conformance.cluster import Api, Namespace
from tests.host.api.conftest import ApiProcess
from tests.host.testhost import Host

MODULES = (environment, lifecycle, pods, volumes)
AT_ONCE = 24
"""Cases that run at a time."""
LONGEST_S = 150

pytestmark = [pytest.mark.host, pytest.mark.requires("busybox")]


def attempt(api: Api, number: int, case: registry.Case) -> str | None:
    """What went wrong with a case, in a namespace of its own."""
    space = Namespace(api, f"conformance-{number}")
    try:
        case(space)
    except Exception:
        return traceback.format_exc()
    finally:
        space.close()
    return None


@pytest.fixture(scope="module")
def outcomes(
    box: Host, api: ApiProcess, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[dict[str, Future[str | None]]]:
    """What comes of each case."""
    root = tmp_path_factory.mktemp("image") / "root"
    stand_ins.build(root)
    box.nsrun("image", "import", stand_ins.BUSYBOX, root, "--env=PATH=/bin", "--cmd=/bin/sh")
    box.nsrun("image", "import", stand_ins.AGENT, root, "--env=PATH=/bin", "--entrypoint=/agent", "--cmd=pause")
    client = Api(f"http://127.0.0.1:{api.port}")
    # Those that wait for back-offs first.
    order = sorted(registry.CASES, key=lambda title: not title.startswith(("[sig-node] Prob", "[sig-node] Init")))
    with ThreadPoolExecutor(AT_ONCE) as pool:
        yield {title: pool.submit(attempt, client, number, registry.CASES[title]) for number, title in enumerate(order)}
    client.close()


@pytest.mark.parametrize("title", sorted(registry.CASES))
def test_conformance(outcomes: dict[str, Future[str | None]], title: str) -> None:
    problem = outcomes[title].result(LONGEST_S)
    assert problem is None, problem
