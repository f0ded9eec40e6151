"""A task of Airflow's, run without its scheduler: a program for test_airflow.py, for a Python that has Airflow.

usage: python airflow_task.py KUBECONFIG OPTIONS

OPTIONS are KubernetesPodOperator's, in JSON. Says, as the last line and in JSON, what came of it.
"""

import json
import logging
import sys
from datetime import UTC, datetime
from unittest import mock

from airflow.providers.cncf.kubernetes.operators.pod import KubernetesPodOperator  # type: ignore[import-not-found]


def main() -> None:
    """Run one."""
    logging.basicConfig(level=logging.INFO, stream=sys.stdout)
    kubeconfig, options = sys.argv[1:]
    operator = KubernetesPodOperator(
        task_id="task",
        kubernetes_conn_id=None,
        config_file=kubeconfig,
        in_cluster=False,
        namespace="default",
        startup_check_interval_seconds=1,
        poll_interval=0.5,
        base_container_status_polling_interval=0.5,
        termination_grace_period=1,
        **json.loads(options),
    )
    pushed: dict[str, object] = {}
    instance = mock.MagicMock(task_id="task", dag_id="dag", run_id="run", try_number=1, map_index=-1)
    instance.xcom_pull.return_value = None
    instance.xcom_push.side_effect = lambda key, value, **_: pushed.__setitem__(key, value)
    run = mock.MagicMock(run_id="run", logical_date=datetime(2026, 1, 1, tzinfo=UTC))
    context: dict[str, object] = {
        "ti": instance,
        "task_instance": instance,
        "dag": mock.MagicMock(dag_id="dag"),
        "dag_run": run,
    }
    context |= {"run_id": "run", "task": operator, "ds": "2026-01-01", "logical_date": run.logical_date}
    said: dict[str, object] = {"result": None, "raised": None}
    try:
        said["result"] = operator.execute(context)
    except Exception as error:
        said["raised"] = f"{type(error).__name__}: {error}"
    print(json.dumps(said | {"pushed": pushed}))


if __name__ == "__main__":
    main()
