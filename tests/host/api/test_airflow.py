"""Airflow's KubernetesPodOperator: a pod with the sidecar that hands its result over, its log, its failures, its end.

Airflow is 440 MB, so it is not installed for this: NSRUN_AIRFLOW names a Python that has it.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests.capabilities import PATIENCE
from tests.host.api.conftest import ApiProcess

pytestmark = [pytest.mark.host, pytest.mark.requires("airflow", "busybox"), pytest.mark.timeout(180)]

IMAGE = {"image": "nsrun.local/host", "image_pull_policy": "IfNotPresent"}
PROGRAM = Path(__file__).with_name("airflow_task.py")
SIDECAR = """
from airflow.providers.cncf.kubernetes.utils.xcom_sidecar import PodDefaults
print(PodDefaults.SIDECAR_CONTAINER.image)
"""


def airflow(api: ApiProcess, *words: str | Path) -> str:
    environment = {**os.environ, "AIRFLOW_HOME": str(api.host.scratch / "airflow")}
    done = subprocess.run(
        [os.environ["NSRUN_AIRFLOW"], *words],
        env=environment,
        capture_output=True,
        text=True,
        timeout=60 * PATIENCE,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def task(api: ApiProcess, **options: Any) -> tuple[Any, str]:
    """What came of a task, and its log."""
    said = airflow(api, PROGRAM, api.kubeconfig, json.dumps(IMAGE | options)).rstrip()
    log, _, last = said.rpartition("\n")
    return json.loads(last), log


def test_a_result_is_handed_over(api: ApiProcess, tmp_path: Path) -> None:
    sidecar = airflow(api, "-c", SIDECAR).strip().splitlines()[-1]
    programs = tmp_path / "bin"
    programs.mkdir()
    shutil.copy(shutil.which("busybox") or "", programs / "busybox")
    for name in ("sh", "sleep", "cat", "kill"):
        (programs / name).symlink_to("busybox")
    api.host.nsrun("image", "import", sidecar, tmp_path)
    script = "echo from-the-pod; echo '{\"a\": [1, 2]}' > /airflow/xcom/return.json"
    said, log = task(api, name="hands-over", cmds=["sh", "-c"], arguments=[script], do_xcom_push=True)
    assert said["raised"] is None
    assert said["result"] == {"a": [1, 2]}
    assert said["pushed"]["pod_name"].startswith("hands-over-")
    assert "from-the-pod" in log
    # on_finish_action is delete_pod.
    assert api.get("/api/v1/namespaces/default/pods").object["items"] == []


def test_a_failure_is_told_of(api: ApiProcess) -> None:
    said, log = task(
        api, name="fails", cmds=["sh", "-c"], arguments=["echo dying; exit 3"], on_finish_action="keep_pod"
    )
    assert "returned a failure" in said["raised"]
    assert "dying" in log
    (pod,) = api.get("/api/v1/namespaces/default/pods").object["items"]
    assert pod["status"]["containerStatuses"][0]["state"]["terminated"]["exitCode"] == 3
    assert api.delete(f"/api/v1/namespaces/default/pods/{pod['metadata']['name']}").code == 200


def test_an_image_that_is_not_there(api: ApiProcess) -> None:
    options = {"image": "nowhere.invalid/x:1", "startup_timeout_seconds": 5, "cmds": ["true"]}
    said, _ = task(api, name="imageless", **options)
    assert "nowhere.invalid/x:1" in said["raised"] or "took too long to start" in said["raised"], said
    assert api.get("/api/v1/namespaces/default/pods").object["items"] == []
