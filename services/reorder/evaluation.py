"""Brings recommendations up to date with positions and policies, and announces the changes."""

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from datetime import UTC, datetime
from uuid import uuid4

from libs.chassis.database import Connection, Pool, acquired
from libs.events import outbox
from services.reorder.announcement import announce, announce_again
from services.reorder.inventory_position import InventoryPosition
from services.reorder.queries import catalogue, policies, positions, recommendations
from services.reorder.recommendation import Change, Outcome, Recommendation, StockItem, follow
from services.reorder.replenishment import MinMax, recommend, thresholds_as_policy

CHUNK = 2_000
BEFORE_ALL = StockItem("", "")


async def evaluate(connection: Connection, held: Sequence[InventoryPosition]) -> Counter[Outcome]:
    """Open, change or close the recommendations of positions that the caller has locked; how many of each.

    The changes and their events are written in the caller's transaction.
    """
    judged = await _without_arriving(connection, held)
    items = [position.item for position in judged]
    explicit = await policies.min_max_policies(connection, items)
    live = await recommendations.live_recommendations(connection, items)
    changes = _changes(judged, explicit, live, datetime.now(UTC))
    await recommendations.save_recommendations(connection, [change.recommendation for change in changes])
    await outbox.enqueue(connection, [event for change in changes for event in announce(change)])
    return Counter(change.outcome for change in changes)


async def evaluate_all(pool: Pool) -> tuple[int, Counter[Outcome]]:
    """Evaluate every stock item, in transactions of CHUNK items; how many there are, and what became of them."""
    evaluated, outcomes, last = 0, Counter[Outcome](), BEFORE_ALL
    while True:
        async with acquired(pool) as connection, connection.transaction():
            items = await positions.items_after(connection, last, CHUNK)
            if not items:
                return evaluated, outcomes
            outcomes += await evaluate(connection, await positions.lock_positions(connection, items))
        evaluated, last = evaluated + len(items), items[-1]


async def republish(pool: Pool) -> int:
    """Queue the latest event of every open recommendation again; how many. Consumers drop what they have applied."""
    queued, last = 0, BEFORE_ALL
    while True:
        async with acquired(pool) as connection, connection.transaction():
            told = await recommendations.open_recommendations_after(connection, last, CHUNK)
            if not told:
                return queued
            await outbox.enqueue(connection, map(announce_again, told))
        queued, last = queued + len(told), told[-1].item


async def _without_arriving(connection: Connection, held: Sequence[InventoryPosition]) -> list[InventoryPosition]:
    """The positions that can be judged: a level whose first event is still on its way is not an empty shelf."""
    unreported = [position.item for position in held if position.revision == 0]
    arriving: Collection[StockItem] = await catalogue.stocked_items(connection, unreported) if unreported else ()
    return [position for position in held if position.item not in arriving]


def _changes(
    judged: Sequence[InventoryPosition],
    explicit: Mapping[StockItem, MinMax],
    live: Mapping[StockItem, Recommendation],
    now: datetime,
) -> list[Change]:
    """What fresh advice changes. A policy wins over the thresholds of the stock level."""
    changes = []
    for position in judged:
        item = position.item
        policy = explicit.get(item) or thresholds_as_policy(position.reorder_point, position.reorder_quantity)
        advice = recommend(position.stock, policy, position.demand)
        changes.append(follow(item, live.get(item), advice, now=now, new_id=uuid4()))
    return [change for change in changes if change]
