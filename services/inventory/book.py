"""The locked stock levels of one database transaction, what is decided about them, and their one write at the end."""

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from uuid import UUID

from libs.chassis.database import Connection
from libs.events import outbox
from libs.events.envelope import Event
from libs.events.inventory import LevelChangeCause
from services.inventory import events, stock
from services.inventory.queries import holds, levels
from services.inventory.reservation import Hold
from services.inventory.stock import StockItem, StockLevel
from services.inventory.transaction import Catalogued


@dataclass(slots=True)
class Book:
    """Levels as they will stand. `now` is the database's clock after the locks were granted."""

    now: datetime
    levels: dict[StockItem, StockLevel]
    unusable: Mapping[StockItem, Catalogued]
    created: Collection[StockItem] = ()
    changed: set[StockItem] = field(default_factory=set)
    holds: dict[tuple[UUID, int], Hold] = field(default_factory=dict)
    settled: dict[tuple[UUID, int], tuple[int, int]] = field(default_factory=dict)
    publications: list[Event] = field(default_factory=list)

    def put(self, changed: Iterable[StockLevel]) -> None:
        """Let these levels be written by `save`."""
        for level in changed:
            self.levels[level.item] = level
            self.changed.add(level.item)

    def settle(self, hold: Hold, *, fulfilled: int = 0, released: int = 0) -> None:
        """Let these units of a hold be written as taken or given back by `save`."""
        before = self.settled.get(hold.key, (0, 0))
        self.settled[hold.key] = before[0] + fulfilled, before[1] + released
        known = self.holds.get(hold.key, hold)
        self.holds[hold.key] = replace(known, outstanding=known.outstanding - fulfilled - released)

    def release(self, released: Iterable[tuple[Hold, int]], *, source: str = "api") -> None:
        """Give units of holds back to their levels, one revision and one event per level."""
        quantities: dict[StockItem, int] = {}
        for hold, quantity in released:
            quantities[hold.item] = quantities.get(hold.item, 0) + quantity
            self.settle(hold, released=quantity)
        for item, quantity in sorted(quantities.items()):
            self.put([stock.release(self.levels[item], quantity)])
            self.publish_level(item, LevelChangeCause.RESERVATION, source=source)

    def publish_level(
        self, item: StockItem, cause: LevelChangeCause, *, source: str = "api", reference_id: str | None = None
    ) -> None:
        """Let the level of an item be published as it stands now."""
        level = self.levels[item]
        change = events.stock_level_change(level, cause, self.now, source=source, reference_id=reference_id)
        self.publications.append(change)

    def add_holds(self, holds: Iterable[Hold]) -> None:
        """Know these holds; what this book has settled already stays settled."""
        for hold in holds:
            self.holds.setdefault(hold.key, hold)

    def holds_of(self, reservation_id: UUID) -> list[Hold]:
        """The holds of a reservation, in line order."""
        return [hold for key, hold in self.holds.items() if key[0] == reservation_id]

    def holds_on(self, item: StockItem) -> list[Hold]:
        """The holds on an item that still hold units, the newest first."""
        return [hold for hold in self.holds.values() if hold.item == item and hold.outstanding]


async def lock(connection: Connection, items: Collection[StockItem], arriving: Collection[StockItem] = ()) -> Book:
    """Lock the levels of these items and release what is overdue on them.

    Items in `arriving` get a level if they have none; the others stand at nothing on hand then. Raises
    StockInconsistent where a level does not hold what is overdue.
    """
    book, overdue = await lock_as_written(connection, items, arriving)
    book.release((hold, hold.outstanding) for hold in overdue)
    return book


async def lock_as_written(
    connection: Connection, items: Collection[StockItem], arriving: Collection[StockItem] = ()
) -> tuple[Book, list[Hold]]:
    """As `lock`, with the levels left as they are, and the holds that are overdue on them."""
    ordered = sorted(items)
    created = await levels.create_missing(connection, sorted(arriving)) if arriving else []
    locked = await levels.lock(connection, ordered)
    unusable = await levels.unusable(connection, ordered)
    now, overdue = await holds.overdue(connection, ordered)
    known = {item: locked.get(item) or stock.empty(item, now) for item in ordered}
    return Book(now, known, unusable, created), overdue


async def save(connection: Connection, book: Book) -> None:
    """Write the changed levels, the settled holds and the events: one statement each."""
    if book.settled:
        await holds.settle(connection, book.settled)
    if book.changed:
        await levels.write(connection, [book.levels[item] for item in sorted(book.changed)], book.now)
    await outbox.enqueue(connection, book.publications)
