"""`jobs backfill`: which intervals of a range are run again, of all warehouses or of one."""

import pytest

from libs.chassis.database import Connection, Pool
from services.pipeline.jobs import __main__ as command_line
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
    assert [line.split(" run ")[0] for line in await backfill("--parallel", "2")] == both
    assert await backfill("--dry-run") == await backfill("--which", "failed", "--dry-run") == []
    assert await backfill("--warehouse", "X", "--dry-run") == both
    filled = [await rows(connection, table) for table in OUTPUTS]
    await connection.execute("DELETE FROM daily_snapshot WHERE warehouse_id = 'X'")

    again = await backfill("--warehouse", "X")

    assert all(line.endswith("succeeded") for line in again)
    assert len(again) == 2
    assert [await rows(connection, table) for table in OUTPUTS] == filled
    assert await backfill("--warehouse", "X", "--dry-run") == []
