"""The reconciliation of all stores."""

import datetime as dt
from typing import Annotated

from fastapi import APIRouter, Request
from pydantic import Field

from libs.chassis.database import acquired
from libs.chassis.model import ApiModel
from services.pipeline import metric_queries, reconciliation, stores
from services.pipeline.reconciliation import Holding, Tally, Unreadable
from services.pipeline.routes.access import Operator

router = APIRouter(prefix="/api/v1/reconciliation", tags=["reconciliation"])


class StoreOut(ApiModel):
    """What one store holds; null for what it does not keep."""

    readable: bool
    reason: Annotated[str | None, Field(description="Why the store could not be read, or not wholly.")] = None
    entries: Annotated[int | None, Field(description="Ledger entries, opening balances included.")] = None
    units: Annotated[int | None, Field(description="Sum of their quantity changes.")] = None
    stock_items: int | None = None
    units_on_hand: int | None = None
    external: Annotated[int | None, Field(description="Updates of third parties, apart from the ledger.")] = None


class TallyOut(ApiModel):
    """Sums over the ledger entries of a warehouse and day."""

    entries: int
    units: int
    fingerprint: Annotated[str | None, Field(description="An integer as text; null where only sums are kept.")]


class DifferenceOut(ApiModel):
    """A warehouse and day, or a stock item, of which a store tells another story than the ledger."""

    store: str
    warehouse_id: str
    date: dt.date | None
    sku: str | None
    expected: TallyOut | int | None
    found: TallyOut | int | None


class ExternalOut(ApiModel):
    """Updates of third parties, per store that keeps them."""

    exact: bool
    counts: dict[str, int]


class ReconciliationOut(ApiModel):
    """Whether all stores tell the same story."""

    as_of: Annotated[dt.date | None, Field(description="The clock: the latest date among ledger events.")]
    checked_at: dt.datetime
    exact: Annotated[bool, Field(description="True only if every store was read and none differs.")]
    stores: dict[str, StoreOut]
    differences: Annotated[list[DifferenceOut], Field(description="The first 100.")]
    total_differences: int
    external: ExternalOut


@router.get("")
async def get_reconciliation(request: Request, principal: Operator) -> ReconciliationOut:
    """Read every store whole and compare it with the ledger, per warehouse and day and per stock item.

    What is still on its way counts as a difference, so wait until the consumers have no lag.
    """
    state = request.app.state
    async with state.reconciling:
        checked_at = dt.datetime.now(dt.UTC)
        readings = await stores.read_all(state.pool, state.cache, state.settings)
    async with acquired(state.pool) as connection:
        as_of = await metric_queries.as_of(connection, None)
    result = reconciliation.reconcile(
        readings["ledger"], {name: reading for name, reading in readings.items() if name != "ledger"}
    )
    external = {
        name: reading.external
        for name, reading in readings.items()
        if isinstance(reading, Holding) and reading.external is not None
    }
    return ReconciliationOut(
        as_of=as_of,
        checked_at=checked_at,
        exact=result.exact,
        stores={name: _store(reading) for name, reading in readings.items()},
        differences=[_difference(difference) for difference in result.differences],
        total_differences=result.total_differences,
        external=ExternalOut(exact=result.external_exact, counts=external),
    )


def _store(reading: Holding | Unreadable) -> StoreOut:
    if isinstance(reading, Unreadable):
        return StoreOut(readable=False, reason=reading.reason)
    tallies, on_hand = reading.tallies, reading.on_hand
    return StoreOut(
        readable=True,
        entries=None if tallies is None else sum(tally.entries for tally in tallies.values()),
        units=None if tallies is None else sum(tally.units for tally in tallies.values()),
        stock_items=None if on_hand is None else len(on_hand),
        units_on_hand=None if on_hand is None else sum(on_hand.values()),
        external=reading.external,
    )


def _difference(difference: reconciliation.Difference) -> DifferenceOut:
    return DifferenceOut(
        store=difference.store,
        warehouse_id=difference.warehouse_id,
        date=difference.date,
        sku=difference.sku,
        expected=_side(difference.expected),
        found=_side(difference.found),
    )


def _side(side: Tally | int | None) -> TallyOut | int | None:
    if isinstance(side, Tally):
        fingerprint = None if side.fingerprint is None else str(side.fingerprint)
        return TallyOut(entries=side.entries, units=side.units, fingerprint=fingerprint)
    return side
