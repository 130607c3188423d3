"""`jobs backfill`: which intervals of a range are run again, of all warehouses or of one."""

import sys
from datetime import UTC, datetime

import pytest

from libs.chassis.database import Connection, Pool
from services.pipeline.jobs import __main__ as command_line
from services.pipeline.jobs.backfill import Which, wanted
from services.pipeline.jobs.job import Interval
from services.pipeline.jobs.run import History
from services.pipeline.routes.runs import REFUSALS
from services.pipeline.settings import Settings
from tests.pipeline.batch import ledger
from tests.pipeline.batch.ledger import on
from tests.pipeline.batch.test_inventory_etl import OUTPUTS, empty_outputs, rows
from tests.stack import Database

TWO_DAYS = ("--from", "2026-01-01T02:00", "--to", "2026-01-03T02:00")


async def test_a_backfill_runs_what_is_missing_and_what_is_asked_for(
    pool: Pool,
    settings: Settings,
    connection: Connection,
    database: Database,
    capsys: pytest.CaptureFixture[str],
) -> None:
    await ledger.empty(database)
    await empty_outputs(database)
    await ledger.post(database, [on(1, 10, "RECEIPT"), on(1, 5, "RECEIPT", warehouse_id="Y"), on(2, -3)])

    async def backfill(*options: str) -> list[str]:
        arguments = command_line._parser().parse_args(["backfill", "inventory_etl", *TWO_DAYS, *options])
        assert await arguments.function(pool, settings, arguments) == command_line.SUCCEEDED
        return [line for line in capsys.readouterr().out.splitlines() if line.startswith("[")]

    both = ["[2026-01-01T02:00:00Z, 2026-01-02T02:00:00Z)", "[2026-01-02T02:00:00Z, 2026-01-03T02:00:00Z)"]
    assert await backfill("--dry-run") == both
    assert sorted(line.split(" run ")[0] for line in await backfill("--parallel", "2")) == both
    assert await backfill("--dry-run") == await backfill("--which", "failed", "--dry-run") == []
    assert await backfill("--warehouse", "X", "--dry-run") == both
    filled = [await rows(connection, table) for table in OUTPUTS]
    await connection.execute("DELETE FROM daily_snapshot WHERE warehouse_id = 'X'")

    again = await backfill("--warehouse", "X")

    assert all(line.endswith("succeeded") for line in again)
    assert len(again) == 2
    assert [await rows(connection, table) for table in OUTPUTS] == filled
    assert await backfill("--warehouse", "X", "--dry-run") == []


def test_missing_is_what_is_not_done() -> None:
    done, half, failed, within, never = (
        Interval(datetime(2026, 1, day, tzinfo=UTC), datetime(2026, 1, day + 1, tzinfo=UTC)) for day in range(1, 6)
    )
    known = {
        done: History(is_done=True, has_failed=True),
        half: History(is_done=False, has_failed=False),
        failed: History(is_done=False, has_failed=True),
        Interval(within.start, never.start): History(is_done=True, has_failed=False),
    }
    days = [done, half, failed, within, never]

    assert wanted(days, known, Which.MISSING) == [half, failed, never]
    assert wanted(days, known, Which.FAILED) == [done, failed]
    assert wanted(days, known, Which.ALL) == days


def test_the_command_line_refuses_all_that_rest_refuses() -> None:
    assert set(REFUSALS) <= set(command_line.REFUSALS)


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ("backfill inventory_etl --from 2026-01-01 --to 2026-01-03 --parallel 0", "0 is no number from 1"),
        ("backfill inventory_etl --from 2026-01-01 --to 2026-01-03 --parallel -1", "-1 is no number"),
        ("backfill transaction_aggregation --from 2026-01-01 --to 2026-01-03 --warehouse X", "for one warehouse"),
        ("backfill inventory_etl --from 0001-01-01 --to 2026-01-03", "lies before 1970"),
        ("run inventory_etl --from 2026-01-03 --to 2026-01-01", "must lie before"),
        ("run inventory_etl --from 2026-01-03 --to 2126-01-01", "not over before 2126-01-01"),
        ("run inventory_etl --from 0001-01-01T00:00+02:00 --to 2026-01-01", "is no UTC date"),
        ("backfill inventory_etl --from 1970-01-01 --to 9000-01-01 --dry-run", "the interval is not over before"),
        ("backfill inventory_etl --from 2026-01-01 --to 2026-01-03 --warehouse=", "Must be 1-64 printable"),
        ("run inventory_etl --from 2026-01-01 --to 2026-01-03 --warehouse=", "Must be 1-64 printable"),
        ("run inventory_etl --from 2026-01-01 --to 2026-01-03 --key=", "at least 1 character"),
        (f"run inventory_etl --from 2026-01-01 --to 2026-01-03 --key={'k' * 513}", "at most 512 characters"),
        ("list --limit -1", "-1 is no number"),
    ],
)
def test_what_makes_no_sense_is_refused_in_one_line(
    pool: Pool,
    settings: Settings,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    arguments: str,
    told: str,
) -> None:
    monkeypatch.setattr(sys, "argv", ["jobs", *arguments.split()])
    monkeypatch.setattr(command_line, "Settings", lambda: settings)
    monkeypatch.setattr("libs.chassis.logging.configure", lambda *_arguments, **_more: None)

    with pytest.raises(SystemExit) as ended:
        command_line.main()

    assert ended.value.code == command_line.REFUSED
    assert told in capsys.readouterr().err.splitlines()[-1]
