"""What all peers share: what is added up, and how a batch of it is written."""

import os
from datetime import date
from decimal import Decimal
from typing import Any

KAFKA = os.environ.get("BENCH_KAFKA", "")
TOPIC = os.environ.get("BENCH_TOPIC", "")
DATABASE_URL = os.environ.get("BENCH_DATABASE_URL", "")
GROUP = os.environ.get("BENCH_GROUP", "")
BATCH = 10_000
"""Records in one write, as many as Stockflow's stream takes."""

TABLES = """
    CREATE TABLE stock_position (
        sku text, warehouse_id text, last_sequence bigint, quantity_on_hand bigint, PRIMARY KEY (sku, warehouse_id));
    CREATE TABLE daily_movement (
        sku text, warehouse_id text, date date, transaction_type text, entries bigint, units_in numeric,
        units_out numeric, value numeric, PRIMARY KEY (sku, warehouse_id, date, transaction_type));
"""
WRITE_POSITIONS = """
    INSERT INTO stock_position AS stored
    SELECT * FROM unnest($1::text[], $2::text[], $3::bigint[], $4::bigint[])
    ON CONFLICT (sku, warehouse_id)
    DO UPDATE SET last_sequence = excluded.last_sequence, quantity_on_hand = excluded.quantity_on_hand
     WHERE excluded.last_sequence > stored.last_sequence
"""
ADD_DAILY = """
    INSERT INTO daily_movement AS fact
    SELECT * FROM unnest($1::text[], $2::text[], $3::date[], $4::text[], $5::bigint[], $6::numeric[], $7::numeric[],
                         $8::numeric[])
    ON CONFLICT (sku, warehouse_id, date, transaction_type)
    DO UPDATE SET entries = fact.entries + excluded.entries, units_in = fact.units_in + excluded.units_in,
                  units_out = fact.units_out + excluded.units_out, value = fact.value + excluded.value
"""


class Sums:
    """Positions and daily sums of some events."""

    def __init__(self) -> None:
        self._positions: dict[tuple[str, str], tuple[int, int]] = {}
        self._daily: dict[tuple[str, str, date, str], list[Any]] = {}

    def add(
        self,
        sku: str,
        warehouse_id: str,
        sequence: int,
        quantity_on_hand: int,
        day: date,
        transaction_type: str,
        units: int,
        unit_price: Decimal,
    ) -> None:
        """Count one event."""
        item = sku, warehouse_id
        known = self._positions.get(item)
        if known is None or sequence > known[0]:
            self._positions[item] = sequence, quantity_on_hand
        bucket = sku, warehouse_id, day, transaction_type
        total = self._daily.get(bucket)
        if total is None:
            total = self._daily[bucket] = [0, 0, 0, Decimal()]
        total[0] += 1
        total[1 if units > 0 else 2] += abs(units)
        total[3] += units * unit_price

    def add_json(self, event: dict[str, Any]) -> None:
        """Count one event that was parsed, but not validated."""
        self.add(
            event["sku"],
            event["warehouseId"],
            event["sequence"],
            event["quantityOnHand"],
            date.fromisoformat(event["timestamp"][:10]),
            event["transactionType"],
            event["quantityChange"],
            Decimal(event["unitPrice"]),
        )

    def positions(self) -> list[list[Any]]:
        """Parameters of WRITE_POSITIONS, in key order."""
        return _columns([(*item, *position) for item, position in sorted(self._positions.items())])

    def daily(self) -> list[list[Any]]:
        """Parameters of ADD_DAILY, in key order."""
        return _columns([(*bucket, *total) for bucket, total in sorted(self._daily.items())])


def _columns(rows: list[tuple[Any, ...]]) -> list[list[Any]]:
    return [list(column) for column in zip(*rows, strict=True)]
