"""A real week of sales, replayed while every process of every service is killed once."""

import asyncio
import json
import math
import os
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import Any

from deploy.local.services import PROCESSES
from deploy.local.stack import Stack
from tests.end_to_end.quiet import Quiet
from tools.demo.answers import Answers, read_answers
from tools.demo.catching_up import catch_up
from tools.demo.stockflow import connected
from tools.replay import api, sales, source, workload
from tools.replay.documents import Document
from tools.replay.run import Outcome, Replay
from tools.replay.workload import Workload

DATA = Path(os.environ.get("STOCKFLOW_DATA", Path(__file__).parents[2] / ".." / "shared" / "data")).resolve()
WEEK_FILE = DATA / "online_retail_week.csv"
ANSWERS_FILE = DATA / "reference_answers_week.json"

CONNECTIONS = 4
SECONDS_BEFORE_KILL = 0.1


@dataclass(frozen=True, slots=True)
class Week:
    """What became of the week."""

    outcome: Outcome
    answers: Answers
    top_by_warehouse: Mapping[str, list[dict[str, Any]]]
    killed_while_posting: list[str]


@cache
def reference() -> dict[str, Any]:
    """What a correct system must answer, computed by other programs."""
    answers: dict[str, Any] = json.loads(ANSWERS_FILE.read_text())
    return answers


async def replay_week(stack: Stack) -> Week:
    """Replay the week, kill process after process meanwhile, wait until all have caught up, ask everything."""
    screened = sales.screen(source.read(WEEK_FILE), now=datetime.now(UTC))
    assert screened.rejected.is_empty()
    work = workload.from_sales(screened.sales, policies=100, thresholds=20)
    env = stack.env
    async with api.connected(
        env["INVENTORY_URL"], env["REORDER_URL"], env["API_KEY"], connections=CONNECTIONS
    ) as client:
        replay = Replay(client, Quiet(), connections=CONNECTIONS)
        await replay.post(replace(work, documents=[]))
        killed = await _post_and_kill(stack, replay, list(work.documents))
    async with connected(env) as stockflow:
        await catch_up(stockflow, Quiet())
        answers = await read_answers(stockflow)
        top = {
            warehouse: (await stockflow.get("analytics", "metrics/top-movers", warehouseId=warehouse, limit=10))[
                "items"
            ]
            for warehouse in reference()["top10_skus_per_warehouse"]
        }
    return Week(replay.outcome, answers, top, killed)


async def _post_and_kill(stack: Stack, replay: Replay, documents: list[Document]) -> list[str]:
    """Post one part of the documents per process and kill that process meanwhile; the names of those killed in time."""
    killed = []
    size = math.ceil(len(documents) / len(PROCESSES))
    for number, process in enumerate(PROCESSES):
        part = documents[number * size : (number + 1) * size]
        posting = asyncio.create_task(replay.post(Workload([], [], [], [], [], part, len(part))))
        await asyncio.sleep(SECONDS_BEFORE_KILL)
        await stack.kill(process.name)
        if not posting.done():
            killed.append(process.name)
        await posting
    async with asyncio.timeout(240):
        while min(stack.restarts[process.name] for process in PROCESSES) == 0 or not stack.is_ready:
            await asyncio.sleep(0.05)
    return killed
