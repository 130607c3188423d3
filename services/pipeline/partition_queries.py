"""The monthly partitions of the fact tables. Each change locks one fact table for a moment: one per transaction."""

from datetime import date
from enum import StrEnum

from libs.chassis.database import Connection


class Fact(StrEnum):
    """The tables that are partitioned by month."""

    HOURLY = "hourly_movement"
    DAILY = "daily_movement"


_DATE = {Fact.HOURLY: "(bucket_start AT TIME ZONE 'UTC')::date", Fact.DAILY: "date"}


async def months_without_partition(connection: Connection, fact: Fact, rows: int) -> list[date]:
    """First days of the months of which the default partition holds at least so many rows, in order."""
    month = f"date_trunc('month', {_DATE[fact]}::timestamp)::date"
    found = await connection.fetch(
        f"SELECT {month} AS month FROM {fact}_default GROUP BY 1 HAVING count(*) >= $1 ORDER BY 1", rows
    )
    return [row["month"] for row in found]


async def months_from(connection: Connection, day: date, months_ahead: int) -> list[date]:
    """First days of the day's month and of those that follow."""
    rows = await connection.fetch(
        """
        SELECT (date_trunc('month', $1::date::timestamp) + month * interval '1 month')::date AS month
          FROM generate_series(0, $2::int) AS month
        """,
        day,
        months_ahead,
    )
    return [row["month"] for row in rows]


async def create_partition(connection: Connection, fact: Fact, month: date) -> int | None:
    """Give a month its own partition and move its rows there; how many, None where it had one already."""
    moved: int | None = await connection.fetchval("SELECT create_fact_partition($1, $2)", fact, month)
    return moved


async def drop_before(connection: Connection, fact: Fact, day: date, months: int) -> list[str]:
    """Drop the facts of the months that ended more than so many months before the day's; the dropped partitions."""
    dropped: list[str] = await connection.fetchval(
        "SELECT drop_facts_before($1, ($2::date - make_interval(months => $3))::date)", fact, day, months
    )
    return dropped


async def kept_from(connection: Connection, fact: Fact) -> date | None:
    """The first date of which facts are kept, None where none were ever dropped."""
    day: date | None = await connection.fetchval("SELECT kept_from FROM fact_retention WHERE fact = $1", fact)
    return day
