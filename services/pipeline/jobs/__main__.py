"""`python -m services.pipeline.jobs COMMAND`: run batch jobs in this process, and look after the runs of all."""

import argparse
import asyncio
import getpass
import json
import os
import signal
import sys
from collections.abc import Awaitable, Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from typing import Any, NoReturn
from uuid import UUID

import asyncpg
import structlog
from pydantic import TypeAdapter, ValidationError
from rich.console import Console
from rich.progress import (
    BarColumn,
    Progress,
    SpinnerColumn,
    TaskID,
    TaskProgressColumn,
    TextColumn,
    TimeElapsedColumn,
)

from libs.chassis import logging
from libs.chassis.database import Pool, acquired, open_pool
from libs.events.envelope import WarehouseId
from services.pipeline.jobs import run_queries, runs
from services.pipeline.jobs.backfill import Backfill, Which
from services.pipeline.jobs.execution import Execution, Observer, ignore
from services.pipeline.jobs.job import Interval, NotByWarehouse, UnknownJob, find
from services.pipeline.jobs.lost import end_lost
from services.pipeline.jobs.run import (
    Fenced,
    IntervalNotOver,
    IntervalTooEarly,
    Key,
    KeyReused,
    NotCancellable,
    NotRetryable,
    RunInProgress,
    RunRequest,
    RunStatus,
    Started,
    StepStatus,
    UnknownRun,
)
from services.pipeline.settings import Settings

POLL_SECONDS = 0.5
MOST = 1_000_000


class EmptyRange(Exception):
    """The range ends before it begins."""


REFUSALS = (
    EmptyRange,
    UnknownJob,
    NotByWarehouse,
    IntervalNotOver,
    IntervalTooEarly,
    KeyReused,
    UnknownRun,
    NotRetryable,
    NotCancellable,
    RunInProgress,
)
"""What cannot be done as it was asked for."""
SUCCEEDED, FAILED, REFUSED, INTERRUPTED = 0, 1, 2, 130
INSTANT = "%Y-%m-%dT%H:%M:%SZ"

log = structlog.get_logger(__name__)

Command = Callable[[Pool, Settings, argparse.Namespace], Awaitable[int]]


def main() -> None:
    """Do what the command line names; exit code 0, 1 when a run failed, 2 when the command makes no sense."""
    arguments = _parser().parse_args()
    settings = Settings()
    shows_progress = arguments.command in ("run", "backfill")
    logging.configure(settings.log_format, "error" if shows_progress else settings.log_level, process="pipeline-jobs")
    command: Command = arguments.function
    try:
        sys.exit(asyncio.run(_connected(command, settings, arguments)))
    except REFUSALS as error:
        sys.stderr.write(f"{error}\n")
        sys.exit(REFUSED)
    except Fenced as error:
        sys.stderr.write(f"{error}\n")
        sys.exit(FAILED)
    except KeyboardInterrupt:
        sys.exit(INTERRUPTED)


async def _connected(command: Command, settings: Settings, arguments: argparse.Namespace) -> int:
    url = settings.database_url.get_secret_value()
    async with await open_pool(url, size=settings.database_pool_size, application_name="pipeline-jobs") as pool:
        _cancel_on(signal.SIGTERM)
        try:
            return await command(pool, settings, arguments)
        except asyncio.CancelledError:
            _leave_at_once(INTERRUPTED)


async def _run(pool: Pool, settings: Settings, arguments: argparse.Namespace) -> int:
    steps = tuple(arguments.step) if arguments.step else None
    parameters = {"full": True} if arguments.full else {}
    _check_range(arguments)
    interval = Interval(arguments.start, arguments.end)
    request = RunRequest(
        arguments.job, interval, getpass.getuser(), steps, parameters, warehouse_id=arguments.warehouse
    )
    await end_lost(pool, settings)
    async with acquired(pool) as connection, connection.transaction():
        started = await runs.start(connection, request, key=arguments.key)
    print(f"run {started.run_id}" + ("" if started.is_new else " (already there)"))
    with _step_bars() as observe:
        await _carry_out(pool, settings, started, observe)
    return await _told(pool, started.run_id)


async def _carry_out(pool: Pool, settings: Settings, started: Started, observe: Observer) -> RunStatus:
    """Execute a run here as soon as its job has a free place, unless others execute it; how it ended.

    Ctrl-C and SIGTERM cancel it, unless others have asked for it.
    """
    try:
        return await _execute_or_wait(pool, settings, started.run_id, observe)
    except asyncio.CancelledError:
        if started.is_new:
            with suppress(NotCancellable):
                async with acquired(pool) as connection, connection.transaction():
                    await runs.cancel(connection, started.run_id, getpass.getuser())
        raise


async def _execute_or_wait(pool: Pool, settings: Settings, run_id: UUID, observe: Observer) -> RunStatus:
    while True:
        await end_lost(pool, settings)
        async with acquired(pool) as connection, connection.transaction():
            claim = await runs.claim(connection, run_id, "command line", settings.version)
        if claim is not None:
            return await Execution(claim, pool, settings, observe).run()
        async with acquired(pool) as connection:
            row = await runs.found(connection, run_id)
            steps = await run_queries.steps_of(connection, [run_id])
        for step in steps:
            done, total = step["progress_done"] or 0, step["progress_total"] or 0
            observe(step["step"], StepStatus(step["status"]), done, total)
        if (status := RunStatus(row["status"])).is_final:
            return status
        await asyncio.sleep(POLL_SECONDS)


async def _execute(pool: Pool, settings: Settings, arguments: argparse.Namespace) -> int:
    async with acquired(pool) as connection:
        claim = await run_queries.claimed(connection, arguments.run_id, arguments.attempt)
    if claim is None:
        raise Fenced(f"attempt {arguments.attempt} of run {arguments.run_id} does not count any more")
    _cancel_on(signal.SIGTERM, signal.SIGINT)
    try:
        if await Execution(claim, pool, settings, ignore).run() is RunStatus.SUCCEEDED:
            return SUCCEEDED
    except Fenced as error:
        sys.stderr.write(f"{error}\n")
    except asyncio.CancelledError:
        sys.stderr.write(f"run {claim.run_id} was interrupted\n")
    except Exception:
        # Such as Postgres that is away: who started this process stores the end of the run.
        log.exception("run.end_not_stored", run_id=str(claim.run_id), attempt=claim.attempt)
    return _leave_at_once(FAILED)


def _leave_at_once(code: int) -> NoReturn:
    """Threads of steps that were cancelled or timed out cannot be: they must not go on writing."""
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


def _cancel_on(*signals: signal.Signals) -> None:
    """They cancel the present task, once: a second one must not disturb what stores the end of the run."""
    task = asyncio.current_task()
    assert task is not None

    def cancel() -> None:
        if not task.cancelling():
            task.cancel()

    for each in signals:
        asyncio.get_running_loop().add_signal_handler(each, cancel)


async def _list(pool: Pool, _settings: Settings, arguments: argparse.Namespace) -> int:
    async with acquired(pool) as connection:
        rows = await run_queries.latest_runs(connection, arguments.job, arguments.status, arguments.limit)
    _print(map(_line, rows))
    return SUCCEEDED


async def _show(pool: Pool, _settings: Settings, arguments: argparse.Namespace) -> int:
    async with acquired(pool) as connection:
        row = await runs.found(connection, arguments.run_id)
        steps = await run_queries.steps_of(connection, [arguments.run_id])
    _print([_line(row), *(f"  {_step_line(step)}" for step in steps)])
    return SUCCEEDED


async def _logs(pool: Pool, _settings: Settings, arguments: argparse.Namespace) -> int:
    async with acquired(pool) as connection:
        await runs.found(connection, arguments.run_id)
        rows = await run_queries.logs_of(connection, arguments.run_id, arguments.limit)
    _print(
        f"{row['at']:{INSTANT}} {row['level']:<7} {row['step'] or '-'} {row['event']} {json.dumps(row['fields'])}"
        for row in rows
    )
    return SUCCEEDED


async def _retry(pool: Pool, settings: Settings, arguments: argparse.Namespace) -> int:
    await end_lost(pool, settings)
    async with acquired(pool) as connection, connection.transaction():
        await runs.retry(connection, arguments.run_id)
    with _step_bars() as observe:
        await _carry_out(pool, settings, Started(arguments.run_id, is_new=True), observe)
    return await _told(pool, arguments.run_id)


async def _cancel(pool: Pool, _settings: Settings, arguments: argparse.Namespace) -> int:
    async with acquired(pool) as connection, connection.transaction():
        await runs.cancel(connection, arguments.run_id, getpass.getuser())
    return SUCCEEDED


async def _backfill(pool: Pool, settings: Settings, arguments: argparse.Namespace) -> int:
    _check_range(arguments)
    backfill = Backfill(
        arguments.job, arguments.start, arguments.end, arguments.which, getpass.getuser(), arguments.warehouse
    )
    await end_lost(pool, settings)
    async with acquired(pool) as connection:
        requests = await runs.plan(connection, backfill)
    if arguments.dry_run:
        _print(str(request.interval) for request in requests)
        return SUCCEEDED
    # No more than may run: those that are begun first are the oldest.
    slots = asyncio.Semaphore(min(arguments.parallel, find(arguments.job).max_parallel_runs))

    async def fill(request: RunRequest) -> RunStatus:
        async with slots:
            try:
                async with acquired(pool) as connection, connection.transaction():
                    started = await runs.start(connection, request)
                status = await _carry_out(pool, settings, started, ignore)
            except (RunInProgress, Fenced) as error:
                print(f"{request.interval} {error}")
                return RunStatus.FAILED
            print(f"{request.interval} run {started.run_id} {status}")
            return status

    with _bars() as bars:
        bar = bars.add_task("intervals", total=len(requests), status=f"0 of {len(requests)}")

        def count(_task: asyncio.Task[RunStatus]) -> None:
            done = sum(task.done() and not task.cancelled() for task in filled)
            bars.update(bar, completed=done, status=f"{done} of {len(requests)}")

        async with asyncio.TaskGroup() as tasks:
            filled = [tasks.create_task(fill(request)) for request in requests]
            for task in filled:
                task.add_done_callback(count)
    return SUCCEEDED if all(task.result() is RunStatus.SUCCEEDED for task in filled) else FAILED


def _bars() -> Progress:
    """Bars on standard error, for people; where that is no terminal, only how they end."""
    columns = (
        SpinnerColumn(finished_text=" "),
        TextColumn("{task.description:<28}"),
        BarColumn(),
        TaskProgressColumn(),
        TimeElapsedColumn(),
        TextColumn("{task.fields[status]}"),
    )
    # Lines that are printed meanwhile stand above the bars, but in a file or a pipe they stay standard output.
    return Progress(*columns, console=Console(stderr=True), redirect_stdout=sys.stdout.isatty())


@contextmanager
def _step_bars() -> Iterator[Observer]:
    """A bar per step."""
    bars: dict[str, TaskID] = {}
    with _bars() as progress:

        def observe(step: str, status: StepStatus, done: int, total: int) -> None:
            if step not in bars:
                bars[step] = progress.add_task(step, total=None, status="")
            progress.update(bars[step], completed=done, total=total or None, status=status.value)

        yield observe


async def _told(pool: Pool, run_id: UUID) -> int:
    """Print how a run ended, and why if it did not succeed."""
    async with acquired(pool) as connection:
        row = await runs.found(connection, run_id)
    print(row["status"])
    if row["status"] == RunStatus.SUCCEEDED:
        return SUCCEEDED
    sys.stderr.write(f"{row['error'] or row['status']}\n")
    return FAILED


def _print(lines: Iterable[str]) -> None:
    for line in lines:
        print(line)


def _line(run: asyncpg.Record) -> str:
    interval = Interval(run["interval_start"], run["interval_end"])
    warehouse = f"\twarehouse {run['warehouse_id']}" if run["warehouse_id"] else ""
    error = f"\t{run['error'].splitlines()[0]}" if run["error"] else ""
    return f"{run['run_id']}\t{run['job']}\t{interval}{warehouse}\t{run['status']}\tattempt {run['attempt']}{error}"


def _step_line(step: asyncpg.Record) -> str:
    seconds = (step["finished_at"] - step["started_at"]).total_seconds() if step["finished_at"] else None
    figures = {
        "rows in": step["rows_in"],
        "rows out": step["rows_out"],
        "s": seconds,
        "CPU s": step["cpu_seconds"],
        "peak bytes": step["peak_memory_bytes"],
        "partitions": len(step["partitions"]),
        "error": step["error"],
    }
    known = ", ".join(f"{name} {value}" for name, value in figures.items() if value is not None)
    return f"{step['step']}\t{step['status']}\t{known}"


def _instant(text: str) -> datetime:
    try:
        instant = datetime.fromisoformat(text)
        return instant.replace(tzinfo=UTC) if instant.tzinfo is None else instant.astimezone(UTC)
    except (ValueError, OverflowError) as error:
        raise argparse.ArgumentTypeError(f"{text} is no UTC date or instant") from error


def _count(text: str) -> int:
    if not text.isascii() or not text.isdigit() or not 0 < int(text) <= MOST:
        raise argparse.ArgumentTypeError(f"{text} is no number from 1 to {MOST}")
    return int(text)


def _text(kind: Any) -> Callable[[str], str]:
    """Takes the texts that REST takes for this type, and refuses the others."""
    adapter = TypeAdapter[str](kind)

    def checked(text: str) -> str:
        try:
            return adapter.validate_python(text)
        except ValidationError as error:
            raise argparse.ArgumentTypeError(f"{text!r}: {error.errors()[0]['msg']}") from error

    return checked


def _check_range(arguments: argparse.Namespace) -> None:
    if arguments.start >= arguments.end:
        raise EmptyRange(f"--from {arguments.start.isoformat()} must lie before --to {arguments.end.isoformat()}")
    if arguments.start < runs.EARLIEST:
        raise IntervalTooEarly(f"--from {arguments.start.isoformat()} lies before {runs.EARLIEST.isoformat()}")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m services.pipeline.jobs", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)

    run = commands.add_parser("run", help="run a job, or some of its steps, over an interval, here and now")
    _add_job_and_range(run)
    run.add_argument("--step", action="append", help="only this step; repeat for several")
    run.add_argument("--full", action="store_true", help="replace the later dates, too, that follow from these")
    run.add_argument("--key", type=_text(Key), help="idempotency key: the same key is answered with the same run")
    run.set_defaults(function=_run)

    fill = commands.add_parser("backfill", help="run a job for each scheduled interval of a range, oldest first")
    _add_job_and_range(fill)
    fill.add_argument("--which", type=Which, choices=list(Which), default=Which.MISSING)
    fill.add_argument("--parallel", type=_count, default=1, help="most runs at a time, within the job's own limit")
    fill.add_argument("--dry-run", action="store_true", help="only print the intervals")
    fill.set_defaults(function=_backfill)

    listing = commands.add_parser("list", help="the latest runs first")
    listing.add_argument("--job")
    listing.add_argument("--status", type=RunStatus, choices=list(RunStatus))
    listing.add_argument("--limit", type=_count, default=50)
    listing.set_defaults(function=_list)

    for name, function, explanation in (
        ("show", _show, "a run and its steps"),
        ("logs", _logs, "what a run has logged"),
        ("retry", _retry, "go on with the steps of a failed or cancelled run that have not succeeded"),
        ("cancel", _cancel, "end a run"),
        ("execute", _execute, "execute an attempt that the batch process has claimed"),
    ):
        command = commands.add_parser(name, help=explanation)
        command.add_argument("run_id", type=UUID)
        command.set_defaults(function=function)
    commands.choices["logs"].add_argument("--limit", type=_count, default=1000)
    commands.choices["execute"].add_argument("--attempt", type=int, required=True)
    return parser


def _add_job_and_range(command: argparse.ArgumentParser) -> None:
    command.add_argument("job")
    command.add_argument("--from", "--start", dest="start", type=_instant, required=True, help="UTC date or instant")
    command.add_argument("--to", "--end", dest="end", type=_instant, required=True, help="UTC; not part of the range")
    command.add_argument(
        "--warehouse", type=_text(WarehouseId), help="only the partitions of this warehouse; of all by default"
    )


if __name__ == "__main__":
    main()
