"""Edits when a stock item counts as low."""

from dataclasses import replace

from libs.chassis import etag
from libs.chassis.database import Connection
from libs.events.inventory import LevelChangeCause
from services.inventory import book
from services.inventory.queries import levels
from services.inventory.refusal import Archived, UnknownStockItem
from services.inventory.stock import StockItem


async def set_thresholds(
    connection: Connection, item: StockItem, reorder_point: int | None, reorder_quantity: int | None, if_match: str
) -> None:
    """Write the thresholds and publish the change; a `Problem` 412 unless `if_match` names the level's revision."""
    locked = await book.lock(connection, [item], arriving=[item])
    if (catalogued := locked.unusable.get(item)) is not None:
        if catalogued.product_status is None or catalogued.warehouse_status is None:
            raise UnknownStockItem(f"There is no {item}")
        raise Archived(f"{item} is archived")
    etag.check(if_match, locked.levels[item].revision)
    level = locked.levels[item]
    level = replace(level, reorder_point=reorder_point, reorder_quantity=reorder_quantity, revision=level.revision + 1)
    locked.put([level])
    locked.publish_level(item, LevelChangeCause.THRESHOLDS)
    await levels.write_thresholds(connection, level)
    await book.save(connection, locked)
