"""Random operations, one after another, do to the ledger in Postgres what they do to a model in plain Python."""

import asyncio
from collections.abc import Coroutine
from dataclasses import replace
from itertools import count
from typing import Any, TypeVar
from uuid import UUID, uuid4

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule, run_state_machine_as_test

from libs.chassis.database import Connection, Pool, acquired
from libs.events.inventory import StockStatus, TransactionType
from services.inventory import audits, ledger, repairs, reservations, reversals, thresholds
from services.inventory.outcome import ErrorPolicy, Posted, Rejected
from services.inventory.queries import readings
from services.inventory.refusal import Refused
from services.inventory.repair import Repair
from services.inventory.reservation import Reservation, Share
from services.inventory.stock import StockItem
from services.inventory.transaction import Document, Line, OnShortfall
from tests.inventory.client import Inventory
from tests.inventory.stock_model import Impossible, StockModel

T = TypeVar("T")

WAREHOUSES = ("BERLIN-1", "PARIS-1")
INBOUND = (TransactionType.RECEIPT, TransactionType.RETURN, TransactionType.OPENING_BALANCE)
OUTBOUND = (TransactionType.SALE, TransactionType.WRITE_OFF)

_numbers = count(1)
places = st.tuples(st.integers(0, 1), st.integers(0, 1))
quantities = st.integers(1, 9)
picks = st.integers(0, 1_000)
moves = st.lists(st.tuples(places, quantities), min_size=1, max_size=3)


class Operations(RuleBasedStateMachine):
    """Every operation of the ledger, carried out on both and compared."""

    pool: Pool
    owner: Connection
    inventory: Inventory
    loop: asyncio.AbstractEventLoop

    def __init__(self) -> None:
        super().__init__()
        number = next(_numbers)
        self.skus = [f"MODEL-{number}-{letter}" for letter in "ab"]
        for sku in self.skus:
            self.wait_for(self.inventory.create_product(sku))
        self.items = [StockItem(sku, warehouse) for sku in self.skus for warehouse in WAREHOUSES]
        self.model = StockModel({item: [] for item in self.items})
        self.reorder_points: dict[StockItem, int] = {}
        start = [Line(*item, 10) for item in self.items]
        self.post_and_compare([self.document(TransactionType.OPENING_BALANCE, *start)])

    def wait_for(self, work: Coroutine[Any, Any, T]) -> T:
        """The result of asynchronous work on the loop of the tests, whose pool it uses."""
        return asyncio.run_coroutine_threadsafe(work, self.loop).result(30)

    def item(self, place: tuple[int, int]) -> StockItem:
        return StockItem(self.skus[place[0]], WAREHOUSES[place[1]])

    def document(self, kind: TransactionType, *lines: Line, **facts: Any) -> Document:
        return Document(uuid4(), kind, lines, b"", "model", reason="random", **facts)

    def post_and_compare(self, documents: list[Document], policy: ErrorPolicy = ErrorPolicy.REJECT_ALL) -> None:
        wanted = self.model.post(documents, all_or_nothing=policy is ErrorPolicy.REJECT_ALL)
        outcomes = self.wait_for(ledger.post(self.pool, documents, policy))
        assert [isinstance(outcome, Posted) for outcome in outcomes] == wanted, outcomes

    @rule(kind=st.sampled_from(INBOUND), lines=moves)
    def bring(self, kind: TransactionType, lines: list[tuple[tuple[int, int], int]]) -> None:
        self.post_and_compare([self.document(kind, *(Line(*self.item(place), units) for place, units in lines))])

    @rule(kind=st.sampled_from(OUTBOUND), lines=moves)
    def take(self, kind: TransactionType, lines: list[tuple[tuple[int, int], int]]) -> None:
        self.post_and_compare([self.document(kind, *(Line(*self.item(place), -units) for place, units in lines))])

    @rule(lines=moves, signs=st.lists(st.sampled_from((-1, 1)), min_size=3, max_size=3))
    def adjust(self, lines: list[tuple[tuple[int, int], int]], signs: list[int]) -> None:
        signed = [Line(*self.item(place), sign * units) for (place, units), sign in zip(lines, signs, strict=False)]
        self.post_and_compare([self.document(TransactionType.ADJUSTMENT, *signed)])

    @rule(sku=st.integers(0, 1), here=st.integers(0, 1), units=quantities)
    def transfer(self, sku: int, here: int, units: int) -> None:
        legs = Line(*self.item((sku, here)), -units), Line(*self.item((sku, 1 - here)), units)
        self.post_and_compare([self.document(TransactionType.TRANSFER, *legs)])

    @rule(place=places, found=st.integers(0, 12), shortfall=st.sampled_from(OnShortfall), wrong=st.booleans())
    def count(self, place: tuple[int, int], found: int, shortfall: OnShortfall, wrong: bool) -> None:
        item = self.item(place)
        expected = self.model.on_hand(item) + wrong
        line = Line(*item, counted_quantity=found, expected_quantity=expected)
        self.post_and_compare([self.document(TransactionType.COUNT, line, on_shortfall=shortfall)])

    @rule(lines=moves, policy=st.sampled_from(ErrorPolicy))
    def post_batch(self, lines: list[tuple[tuple[int, int], int]], policy: ErrorPolicy) -> None:
        documents = [
            self.document(TransactionType.SALE, Line(*self.item(place), -units), Line(*self.item(place), -1))
            for place, units in lines
        ]
        first = self.item(lines[0][0])
        self.post_and_compare([*documents, self.document(TransactionType.RECEIPT, Line(*first, 3))], policy)

    @rule(lines=moves, allow_partial=st.booleans())
    def reserve(self, lines: list[tuple[tuple[int, int], int]], allow_partial: bool) -> None:
        shares = [Share(*self.item(place), units) for place, units in lines]
        asked = Reservation(uuid4(), shares, 600, allow_partial, b"", "model")
        self.both(
            lambda: self.model.reserve(asked.reservation_id, shares, allow_partial=allow_partial),
            reservations.reserve(self.pool, asked),
        )

    @precondition(lambda self: self.model.held)
    @rule(pick=picks, units=st.none() | quantities)
    def fulfil(self, pick: int, units: int | None) -> None:
        chosen = self.reservation(pick)
        lines = [] if units is None else [Line(*self.model.held[chosen].lines[0].item, -units)]
        sale = self.document(TransactionType.SALE, *lines, reservation_id=chosen)
        self.both(lambda: self.model.fulfil(chosen, sale), self.fulfilled(sale))

    @precondition(lambda self: self.model.held)
    @rule(pick=picks, units=st.none() | quantities)
    def release(self, pick: int, units: int | None) -> None:
        chosen = self.reservation(pick)
        shares = [] if units is None else [Share(*self.model.held[chosen].lines[0].item, units)]
        self.both(lambda: self.model.release(chosen, shares), self.in_transaction(chosen, shares))

    @precondition(lambda self: self.model.held)
    @rule(pick=picks, swept=st.booleans())
    def expire(self, pick: int, swept: bool) -> None:
        chosen = self.reservation(pick)
        overdue = "UPDATE allocation SET expires_at = now() - interval '10 ms' WHERE reservation_id = $1"
        self.wait_for(self.owner.execute(overdue, chosen))
        self.model.held[chosen].is_overdue = True
        if swept:
            self.wait_for(reservations.sweep(self.pool, most_holds=100))

    @rule(pick=picks)
    def reverse(self, pick: int) -> None:
        chosen = list(self.model.posted)[pick % len(self.model.posted)]
        request = Document(uuid4(), TransactionType.ADJUSTMENT, (), b"", "model", reverses_id=chosen)

        def expected() -> None:
            reversal = replace(request, lines=self.model.reversal(chosen))
            if self.model.post([reversal]) == [False]:
                raise Impossible
            self.model.reversed |= {chosen, request.transaction_id}

        self.both(expected, self.reversed(request))

    @rule(place=places, drift=quantities)
    def repair(self, place: tuple[int, int], drift: int) -> None:
        item = self.item(place)
        drifting = (
            "UPDATE stock_level SET quantity_on_hand = quantity_on_hand + $3 WHERE (sku, warehouse_id) = ($1, $2)"
        )
        self.wait_for(self.owner.execute(drifting, *item, drift))
        first = Repair(uuid4(), "drift", "model", b"")
        self.wait_for(self.repaired(first, item))
        self.levels_are_those_of_the_model()
        self.wait_for(self.repaired(Repair(uuid4(), "not yet", "model", b"", undoes_id=first.repair_id), item))
        assert self.wait_for(self.reading(item))["quantity_on_hand"] == self.model.on_hand(item) + drift
        self.wait_for(self.repaired(Repair(uuid4(), "drift", "model", b""), item))

    @rule(place=places, reorder_point=st.integers(0, 9))
    def set_reorder_point(self, place: tuple[int, int], reorder_point: int) -> None:
        item = self.item(place)

        async def work() -> None:
            async with acquired(self.pool) as connection, connection.transaction():
                await thresholds.set_thresholds(connection, item, reorder_point, None, "*")

        self.wait_for(work())
        self.reorder_points[item] = reorder_point

    @invariant()
    def levels_are_those_of_the_model(self) -> None:
        for item in self.items:
            level = self.wait_for(self.reading(item))
            found = (level["quantity_on_hand"], level["quantity_reserved"], level["sequence"], level["stock_status"])
            assert found == (
                self.model.on_hand(item),
                self.model.reserved(item),
                len(self.model.changes[item]),
                self.status(item),
            )
            assert 0 <= level["quantity_reserved"] <= level["quantity_on_hand"]

    def teardown(self) -> None:
        """The ledger replayed gives the levels, and no audit finds anything."""
        ledger_of = (
            "SELECT sku, warehouse_id, quantity_change FROM ledger_entry WHERE sku = ANY($1::text[]) ORDER BY sequence"
        )
        rows = self.wait_for(self.pool.fetch(ledger_of, self.skus))
        replayed: dict[StockItem, list[int]] = {item: [] for item in self.items}
        for row in rows:
            replayed[StockItem(row[0], row[1])].append(row[2])
        assert replayed == self.model.changes
        found = self.wait_for(audits.run(self.pool))
        assert not any(found.values()), found

    def status(self, item: StockItem) -> StockStatus:
        available = self.model.available(item)
        if not available:
            return StockStatus.OUT_OF_STOCK
        return StockStatus.LOW_STOCK if available <= self.reorder_points.get(item, -1) else StockStatus.IN_STOCK

    def reservation(self, pick: int) -> UUID:
        return list(self.model.held)[pick % len(self.model.held)]

    def both(self, in_the_model: Any, in_postgres: Coroutine[Any, Any, object]) -> None:
        """Carry out an operation in the model and in Postgres: both do it, or both refuse."""
        try:
            in_the_model()
        except Impossible:
            with pytest.raises(Refused):
                self.wait_for(in_postgres)
        else:
            self.wait_for(in_postgres)

    async def reading(self, item: StockItem) -> Any:
        async with acquired(self.pool) as connection:
            return (await readings.read_levels(connection, [item])).get(item)

    async def fulfilled(self, sale: Document) -> None:
        outcome = await reservations.fulfil(self.pool, sale)
        if isinstance(outcome, Rejected):
            raise outcome.error

    async def reversed(self, request: Document) -> None:
        outcome = await reversals.reverse(self.pool, request)
        if isinstance(outcome, Rejected):
            raise outcome.error

    async def in_transaction(self, reservation_id: UUID, shares: list[Share]) -> None:
        async with acquired(self.pool) as connection, connection.transaction():
            await reservations.release(connection, reservation_id, shares)

    async def repaired(self, repair: Repair, item: StockItem) -> None:
        async with acquired(self.pool) as connection, connection.transaction():
            if repair.undoes_id is None:
                await repairs.apply(connection, repair, [item])
            else:
                await repairs.undo(connection, repair)


async def run(pool: Pool, owner: Connection, inventory: Inventory, *, examples: int, steps: int) -> None:
    """Run the machine in a thread; its work runs on this loop."""
    context = {"pool": pool, "owner": owner, "inventory": inventory, "loop": asyncio.get_running_loop()}
    machine = type("OperationsHere", (Operations,), context)
    choices = settings(
        max_examples=examples,
        stateful_step_count=steps,
        deadline=None,
        database=None,
        derandomize=True,
        phases=[Phase.explicit, Phase.generate, Phase.shrink],
        suppress_health_check=list(HealthCheck),
    )
    await asyncio.to_thread(run_state_machine_as_test, machine, settings=choices)


async def test_the_ledger_does_what_the_model_does(inventory: Inventory, pool: Pool, owner: Connection) -> None:
    await run(pool, owner, inventory, examples=10, steps=25)


@pytest.mark.slow
@pytest.mark.timeout(1800)
async def test_the_ledger_does_what_the_model_does_for_long(
    inventory: Inventory, pool: Pool, owner: Connection
) -> None:
    await run(pool, owner, inventory, examples=300, steps=60)
