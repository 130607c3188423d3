"""One DAG per job of `schedules.yaml`, one task per step: the pipeline's API runs the step, the task waits for it.

Needs the connection `stockflow_pipeline` (type HTTP: the API's address, and an API key with `pipeline:run` and
`pipeline:read` as password) and `STOCKFLOW_SCHEDULES`, the path of `schedules.yaml`. Set SCHEDULER=external for the
pipeline. A run that somebody triggers says its data interval: {"interval_start": "...Z", "interval_end": "...Z"}, and
may be about one warehouse where the job can do that: {"warehouse_id": "..."}.
"""

import logging
import os
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import yaml
from airflow.sdk import DAG, Connection, CronDataIntervalTimetable, Param, get_current_context, task
from airflow.sdk.exceptions import AirflowFailException

SCHEDULES = Path(os.environ["STOCKFLOW_SCHEDULES"])
# Airflow "succeeds" without running anything for intervals before the start date.
LONG_AGO = datetime(1970, 1, 1, tzinfo=UTC)
POLL_SECONDS = 20
QUEUE_SECONDS = 3600
"""How long a run may wait for a free place before its own timeout begins."""
PAUSES_SECONDS = (1, 2, 5, 10, 30, 60)
"""While the API restarts, the task waits and asks again: that costs no try."""
INTERVAL_END = Param(None, type=["null", "string"], format="date-time", description="Not part of the interval.")
INTERVAL_START = Param(None, type=["null", "string"], format="date-time", description="Of a run started by hand.")
WAREHOUSE = Param(None, type=["null", "string"], description="Only the partitions of this warehouse.")
FULL = Param(False, type="boolean", description="Replace the later dates, too, that follow from the interval's.")

log = logging.getLogger(__name__)


def run_step(job: str, step: str) -> dict[str, Any]:
    """Have the step run over the interval of this DAG run, follow it to its end, and fail as it fails."""
    context = get_current_context()
    start, end = interval_of(context)
    this = context["task_instance"]
    # The same try is the same run; a retry or a clear computes again, or attaches to what still goes on.
    # The id differs when a deleted DAG run is made anew, whose tries begin at 1 again.
    key = f"{this.dag_id}/{this.run_id}/{this.task_id}/{this.try_number}/{this.id}"
    body = {
        "job": job,
        "steps": [step],
        "intervalStart": start,
        "intervalEnd": end,
        "full": context["params"]["full"],
        "warehouseId": context["params"]["warehouse_id"],
    }
    with api() as client:
        run = ask(client, "POST", "/api/v1/runs", json=body, headers={"Idempotency-Key": key})
        url = f"/api/v1/runs/{run['runId']}"
        log.info("%s over [%s, %s) is run %s", step, start, end, run["runId"])
        # What is attached to may do more than this step. Its success is final; what has failed may be tried again.
        while (mine := step_of(run, step))["status"] != "succeeded" and run["status"] in ("queued", "running"):
            run = ask(client, "GET", url, params={"waitSeconds": POLL_SECONDS})
        for line in ask(client, "GET", f"{url}/logs", params={"limit": 500})["items"]:
            log.info("%s %s %s %s", line["at"], line["level"], line["event"], line["fields"])
    if mine["status"] == "succeeded":
        return {"runId": run["runId"], "rowsIn": mine["rowsIn"], "rowsOut": mine["rowsOut"]}
    if run["status"] == "cancelled":
        raise AirflowFailException(f"run {run['runId']} was cancelled by {run['cancelRequestedBy']}")
    raise RuntimeError(f"{step} {mine['status']} in run {run['runId']}: {run['error']}")


def step_of(run: dict[str, Any], name: str) -> dict[str, Any]:
    """What a run tells of one of its steps."""
    return next(step for step in run["steps"] if step["name"] == name)


def interval_of(context: Any) -> tuple[str, str]:
    """What the run is asked to cover, else the scheduled interval; never one guessed from the logical date."""
    asked = [context["params"][name] for name in ("interval_start", "interval_end")]
    run = context["dag_run"]
    if all(asked):
        return asked[0], asked[1]
    if any(asked) or run.run_type == "manual" or run.data_interval_start is None:
        raise AirflowFailException("This run has no data interval: give interval_start and interval_end in its conf.")
    return run.data_interval_start.isoformat(), run.data_interval_end.isoformat()


def api() -> httpx.Client:
    """A client of the pipeline's REST API."""
    connection = Connection.get("stockflow_pipeline")
    port = f":{connection.port}" if connection.port else ""
    return httpx.Client(
        base_url=f"{connection.schema or 'http'}://{connection.host}{port}",
        headers={"Authorization": f"Bearer {connection.password}"},
        timeout=POLL_SECONDS + 10,
    )


def ask(client: httpx.Client, method: str, path: str, **content: Any) -> Any:
    """The body of the answer. What will never be answered otherwise fails the task for good."""
    for pause in (*PAUSES_SECONDS, None):
        try:
            answer = client.request(method, path, **content)
            if answer.status_code not in (429, 500, 502, 503, 504) or pause is None:
                break
        except httpx.TransportError:
            if pause is None:
                raise
        time.sleep(pause)
    # When Postgres' clock is behind, an interval that has just ended is not over there: worth another try.
    is_early = answer.status_code == 422 and "interval-not-over" in answer.text
    if answer.status_code in (400, 401, 403, 404, 422) and not is_early:
        raise AirflowFailException(f"{method} {path}: {answer.status_code} {answer.text}")
    if answer.is_error:
        raise RuntimeError(f"{method} {path}: {answer.status_code} {answer.text}")
    return answer.json()


def dag_of(job: dict[str, Any]) -> DAG:
    """The DAG of a job: the same schedule, steps, order, limits and retries."""
    dag = DAG(
        job["id"],
        description=job["description"],
        # A plain cron string would give intervals without length.
        schedule=CronDataIntervalTimetable(job["cron"], timezone="UTC"),
        start_date=LONG_AGO,
        catchup=False,
        max_active_runs=job.get("max_parallel_runs", 1),
        params={
            "interval_start": INTERVAL_START,
            "interval_end": INTERVAL_END,
            "full": FULL,
            "warehouse_id": WAREHOUSE,
        },
        default_args={
            "retries": job.get("retries", 0),
            "retry_delay": timedelta(seconds=job.get("retry_delay_seconds", 60)),
            "execution_timeout": timedelta(seconds=job.get("timeout_seconds", 3600) + QUEUE_SECONDS),
        },
        tags=["stockflow"],
    )
    with dag:
        steps = {step["name"]: task(task_id=step["name"])(run_step)(job["id"], step["name"]) for step in job["steps"]}
    for step in job["steps"]:
        for name in step.get("after", ()):
            steps[name].set_downstream(steps[step["name"]])
    return dag


for definition in yaml.safe_load(SCHEDULES.read_text(encoding="utf-8"))["jobs"]:
    globals()[definition["id"]] = dag_of(definition)
