"""Runs in Airflow's environment: `python in_airflow.py ANSWER_FILE QUESTION [ARGUMENT...]`."""

import json
import sys
from collections.abc import Callable, Iterator
from datetime import datetime
from itertools import islice
from pathlib import Path
from typing import Any

from airflow.configuration import conf
from airflow.dag_processing.dagbag import BundleDagBag
from airflow.sdk import timezone
from airflow.serialization.encoders import coerce_to_core_timetable
from airflow.timetables.base import TimeRestriction


def bag() -> BundleDagBag:
    """The DAGs of the folder that Airflow is configured with."""
    folder = Path(conf.get("core", "dags_folder"))
    return BundleDagBag(dag_folder=folder, bundle_path=folder, bundle_name="dags-folder")


def describe(since: str, count: str) -> dict[str, Any]:
    """Errors of the import, and each DAG with its first intervals since then."""
    found = bag()
    dags = {name: described(dag, timezone.parse(since), int(count)) for name, dag in found.dags.items()}
    return {"errors": found.import_errors, "dags": dags}


def described(dag: Any, since: datetime, count: int) -> dict[str, Any]:
    """What Airflow has understood of a DAG: schedule, intervals, steps and limits."""
    timetable = coerce_to_core_timetable(dag.timetable)
    return {
        "timetable": type(dag.timetable).__name__,
        "schedule": timetable.summary,
        "intervals": list(islice(intervals(timetable, since), count)),
        "steps": {task.task_id: sorted(task.upstream_task_ids) for task in dag.tasks},
        "retries": sorted({task.retries for task in dag.tasks}),
        "max_active_runs": dag.max_active_runs,
        "catchup": dag.catchup,
    }


def intervals(timetable: Any, since: datetime) -> Iterator[list[str]]:
    """The data intervals of scheduled runs, of which the first begins then or later; without end."""
    restriction = TimeRestriction(earliest=since, latest=None, catchup=True)
    last = None
    while True:
        last = timetable.next_dagrun_info(last_automated_data_interval=last, restriction=restriction).data_interval
        yield [last.start.isoformat(), last.end.isoformat()]


def test(*wanted: str) -> list[dict[str, Any]]:
    """Run DAGs in this process, each given as JSON [DAG id, conf]; what became of each run and its tasks."""
    results = []
    for dag_id, run_conf in map(json.loads, wanted):
        # A DAG keeps the parameters of its last test.
        run = bag().dags[dag_id].test(run_conf=run_conf)
        tasks = {task.task_id: task.state for task in run.get_task_instances()}
        results.append({"dag": dag_id, "state": run.state, "tasks": tasks})
    return results


def pod_arguments(example: str, params: str) -> list[str]:
    """What the only task of an example DAG would give its pod as arguments."""
    examples = BundleDagBag(dag_folder=Path(example), bundle_path=Path(example).parent, bundle_name="examples")
    assert not examples.import_errors, examples.import_errors
    [dag] = examples.dags.values()
    [task] = dag.tasks
    rendered: list[str] = task.render_template(task.arguments, {"params": json.loads(params)})
    return rendered


QUESTIONS: dict[str, Callable[..., Any]] = {"describe": describe, "test": test, "pod_arguments": pod_arguments}

if __name__ == "__main__":
    answer, question, *arguments = sys.argv[1:]
    Path(answer).write_text(json.dumps(QUESTIONS[question](*arguments), default=str))
