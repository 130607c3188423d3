"""The answers as tables that a person understands."""

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from typing import Any

from rich.table import Table

from tools.demo.answers import Answers
from tools.demo.verification import Disagreement

ROWS = 10


def tables(answers: Answers) -> Iterator[Table]:
    """Events, stock, sales, low stock, recommendations and the reconciliation."""
    yield events(answers.consumers)
    yield top_skus(answers)
    yield stock(answers)
    yield low_stock(answers.stock_levels)
    yield recommendations(answers.recommendations)
    yield reconciliation(answers.reconciliation)


def events(consumers: Iterable[dict[str, Any]]) -> Table:
    """Events that each topic holds, and how many of them each consumer group has processed."""
    published: dict[tuple[str, int], int] = {}
    processed: dict[tuple[str, str], int] = defaultdict(int)
    for consumer in consumers:
        published[consumer["topic"], consumer["partition"]] = consumer["endOffset"]
        processed[consumer["topic"], consumer["group"]] += consumer["nextOffset"] or 0
    in_topic: Counter[str] = Counter()
    for (topic, _), end in published.items():
        in_topic[topic] += end
    table = _table("Events", "topic", "in (published)>", "consumer group", "out (processed)>")
    for (topic, group), count in sorted(processed.items()):
        table.add_row(topic, f"{in_topic[topic]:,}", group, f"{count:,}")
    return table


def top_skus(answers: Answers) -> Table:
    """The skus with most demand of the last 7 days."""
    table = _table(
        f"Top skus, as of {answers.clock['asOf']}",
        *("#>", "sku", "net units, 7 days>", "velocity 7>", "velocity 30>", "velocity 90>", "warehouses>"),
    )
    for mover in answers.top_movers[:ROWS]:
        windows = answers.velocities[mover["sku"]]
        velocities = (f"{windows[days]['velocityPerDay']:,.2f}" for days in (7, 30, 90))
        table.add_row(str(mover["rank"]), mover["sku"], f"{mover['netUnits']:,}", *velocities, str(mover["warehouses"]))
    return table


def stock(answers: Answers) -> Table:
    """Stock levels of the top skus."""
    top = {mover["sku"]: mover["rank"] for mover in answers.top_movers}
    levels = sorted(
        (level for level in answers.stock_levels if level["sku"] in top),
        key=lambda level: (top[level["sku"]], level["warehouseId"]),
    )
    table = _table(
        f"Stock levels, {ROWS} of {len(answers.stock_levels):,}",
        *("sku", "warehouse", "on hand>", "available>", "reorder point>", "status", "ledger entries>"),
    )
    for level in levels[:ROWS]:
        table.add_row(*_level(level), f"{level['sequence']:,}")
    return table


def low_stock(levels: list[dict[str, Any]]) -> Table:
    """Stock items at their reorder point or below, the emptiest first."""
    low = [level for level in levels if level["stockStatus"] != "IN_STOCK" and level["reorderPoint"]]
    counts = Counter(level["stockStatus"] for level in levels)
    table = _table(
        f"Low stock: {counts['OUT_OF_STOCK']:,} stock items have nothing left, {counts['LOW_STOCK']:,} little",
        *("sku", "warehouse", "on hand>", "available>", "reorder point>", "status"),
    )
    for level in sorted(low, key=lambda level: level["quantityAvailable"] / level["reorderPoint"])[:ROWS]:
        table.add_row(*_level(level))
    return table


def recommendations(items: list[dict[str, Any]]) -> Table:
    """What to order, the largest quantities first."""
    table = _table(
        f"Recommendations to reorder, {min(ROWS, len(items))} of {len(items):,}",
        *("sku", "warehouse", "inventory position>", "reorder point>", "order>"),
    )
    for item in sorted(items, key=lambda item: -item["recommendedQuantity"])[:ROWS]:
        table.add_row(
            item["sku"],
            item["warehouseId"],
            f"{item['inventoryPosition']:,}",
            f"{item['reorderPoint']:,}",
            f"{item['recommendedQuantity']:,}",
        )
    return table


def reconciliation(answer: dict[str, Any]) -> Table:
    """Every store against the ledger, and the first differences."""
    differing = Counter(difference["store"] for difference in answer["differences"])
    verdict = "exact" if answer["exact"] else "NOT EXACT"
    table = _table(
        f"Reconciliation: {verdict}, {answer['totalDifferences']:,} differences",
        *("store", "ledger entries>", "sum of units>", "stock items>", "units on hand>", "differences>"),
    )
    for name, store in answer["stores"].items():
        figures = (_figure(store[field]) for field in ("entries", "units", "stockItems", "unitsOnHand"))
        table.add_row(name, *figures, f"{differing[name]:,}" if store["readable"] else store["reason"])
    for difference in answer["differences"][:ROWS]:
        place = f"{difference['warehouseId']} {difference['date'] or difference['sku']}"
        table.add_row(difference["store"], place, f"expected {difference['expected']}, found {difference['found']}")
    return table


def disagreements(found: list[Disagreement]) -> Table:
    """Figures that are not what they must be."""
    table = _table(f"{len(found):,} figures are not what they must be", "what", "expected>", "found>")
    for item in found[:ROWS]:
        table.add_row(item.what, str(item.expected), str(item.found))
    return table


def _level(level: dict[str, Any]) -> tuple[str, ...]:
    return (
        level["sku"],
        level["warehouseId"],
        f"{level['quantityOnHand']:,}",
        f"{level['quantityAvailable']:,}",
        _figure(level["reorderPoint"]),
        level["stockStatus"],
    )


def _figure(value: int | None) -> str:
    return "-" if value is None else f"{value:,}"


def _table(title: str, *columns: str) -> Table:
    """A table; a column whose name ends in > holds numbers and is aligned to the right."""
    table = Table(title=title, title_justify="left", title_style="bold")
    for column in columns:
        table.add_column(column.removesuffix(">"), justify="right" if column.endswith(">") else "left")
    return table
