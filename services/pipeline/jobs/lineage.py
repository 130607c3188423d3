"""OpenLineage: what each step of a run read and wrote, told to whoever keeps a catalogue.

Source: https://openlineage.io/spec/2-0-2/OpenLineage.json. Telling is not part of the work: when nobody listens, the
run goes on and the log says so.
"""

import asyncio
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final
from uuid import UUID, uuid5

import httpx
import structlog
from pydantic_core import to_json

from services.pipeline.jobs.contract import IN_LAKE, Contract
from services.pipeline.jobs.run import Aborted, Claim
from services.pipeline.jobs.step import StepResult

NAMESPACE: Final = "stockflow"
PRODUCER: Final = "urn:stockflow:pipeline"
_SPEC: Final = "https://openlineage.io/spec"
_CONTRACTS: Final = {f"lake:{contract.dataset}": contract for contract in IN_LAKE}
TIMEOUT_SECONDS = 5.0

log = structlog.get_logger(__name__)


def event(
    kind: str, claim: Claim, step: str, at: datetime, *, result: StepResult | None = None, error: str | None = None
) -> dict[str, Any]:
    """The run event of a step: kind is START, COMPLETE, FAIL or ABORT. Each attempt of a step is a run of its own."""
    told = result or StepResult()
    return {
        "eventType": kind,
        "eventTime": at.isoformat(),
        "producer": PRODUCER,
        "schemaURL": f"{_SPEC}/2-0-2/OpenLineage.json#/$defs/RunEvent",
        "run": {"runId": str(step_run_id(claim, step)), "facets": _run_facets(claim, error)},
        "job": {"namespace": NAMESPACE, "name": f"{claim.job}.{step}"},
        "inputs": [_dataset(name) for name in told.reads],
        "outputs": [_dataset(name) | _statistics(rows) for name, rows in told.writes.items()],
    }


async def tell_aborted(url: str, aborted: Sequence[Aborted]) -> None:
    """Tell which steps were running when their runs were ended from outside."""
    now = datetime.now(UTC)
    await tell(url, [event("ABORT", it.claim, step, now, error=it.error) for it in aborted for step in it.steps])


def step_run_id(claim: Claim, step: str) -> UUID:
    """The OpenLineage run of a step in one attempt."""
    return uuid5(claim.run_id, f"{step}/{claim.attempt}")


async def tell(url: str, events: Sequence[dict[str, Any]]) -> None:
    """Send events to an HTTP endpoint, or append them to a file."""
    try:
        if url.startswith(("http://", "https://")):
            async with httpx.AsyncClient(timeout=TIMEOUT_SECONDS) as client:
                for each in events:
                    (await client.post(url, json=each)).raise_for_status()
        else:
            await asyncio.to_thread(_append, Path(url), events)
    except (httpx.HTTPError, OSError) as error:
        log.warning("lineage.not_told", url=url, error=repr(error))


def _append(path: Path, events: Sequence[dict[str, Any]]) -> None:
    with path.open("ab") as file:
        file.writelines(to_json(each) + b"\n" for each in events)


def _run_facets(claim: Claim, error: str | None) -> dict[str, Any]:
    facets: dict[str, Any] = {
        "nominalTime": _facet(
            "NominalTimeRunFacet",
            nominalStartTime=claim.interval.start.isoformat(),
            nominalEndTime=claim.interval.end.isoformat(),
        ),
        "parent": _facet(
            "ParentRunFacet",
            run={"runId": str(claim.run_id)},
            job={"namespace": NAMESPACE, "name": claim.job},
        ),
    }
    if error is not None:
        facets["errorMessage"] = _facet("ErrorMessageRunFacet", message=error, programmingLanguage="Python")
    return facets


def _dataset(name: str) -> dict[str, Any]:
    store, _, dataset = name.partition(":")
    described = {"namespace": f"{NAMESPACE}.{store}", "name": dataset}
    return described | {"facets": {"schema": _schema(_CONTRACTS[name])}} if name in _CONTRACTS else described


def _schema(contract: Contract) -> dict[str, Any]:
    return _facet(
        "SchemaDatasetFacet",
        fields=[{"name": column.name, "type": str(column.type)} for column in contract.schema],
    )


def _statistics(rows: int | None) -> dict[str, Any]:
    if rows is None:
        return {}
    return {"outputFacets": {"outputStatistics": _facet("OutputStatisticsOutputDatasetFacet", rowCount=rows)}}


def _facet(name: str, **content: Any) -> dict[str, Any]:
    return {"_producer": PRODUCER, "_schemaURL": f"{_SPEC}/facets/1-0-0/{name}.json#/$defs/{name}", **content}
