"""Random interleavings of every operation keep every promise."""

import asyncio
from uuid import UUID, uuid4

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from libs.chassis.database import Connection, Pool, acquired
from libs.events.inventory import TransactionType
from services.inventory import audits, ledger, reservations, reversals
from services.inventory.outcome import ErrorPolicy, Posted
from services.inventory.refusal import Refused
from services.inventory.reservation import Reservation, Share
from services.inventory.transaction import Document, Line, OnShortfall
from tests.inventory.client import Inventory

ITEMS = [(sku, warehouse) for sku in ("RANDOM-1", "RANDOM-2") for warehouse in ("BERLIN-1", "PARIS-1")]

quantities = st.integers(1, 6)
items = st.sampled_from(ITEMS)
choices = st.integers(0, 1_000)
lines = st.lists(st.tuples(items, st.integers(-6, 6).filter(bool)), min_size=1, max_size=4)
operations = st.one_of(
    st.tuples(st.just("adjust"), lines),
    st.tuples(st.just("receive"), items, quantities),
    st.tuples(st.just("sell"), items, quantities),
    st.tuples(st.just("transfer"), quantities),
    st.tuples(st.just("count"), items, st.integers(0, 9), st.sampled_from(OnShortfall)),
    st.tuples(st.just("reserve"), items, quantities, st.booleans()),
    st.tuples(st.just("fulfil"), choices, quantities),
    st.tuples(st.just("release"), choices),
    st.tuples(st.just("expire"), choices),
    st.tuples(st.just("reverse"), choices),
    st.tuples(st.just("sweep")),
)


class Model:
    """Carries operations out and remembers what can be referred to."""

    def __init__(self, pool: Pool, owner: Connection) -> None:
        self.pool = pool
        self.owner = owner
        self.owner_turn = asyncio.Lock()
        self.posted: list[UUID] = []
        self.reserved: list[tuple[UUID, tuple[str, str]]] = []

    async def post(self, kind: TransactionType, *changes: Line, **facts: object) -> None:
        document = Document(uuid4(), kind, changes, b"", "model", reason="random", **facts)  # type: ignore[arg-type]
        [outcome] = await ledger.post(self.pool, [document], ErrorPolicy.REJECT_ALL)
        if isinstance(outcome, Posted):
            self.posted.append(document.transaction_id)

    async def carry_out(self, operation: tuple[object, ...]) -> None:
        match operation:
            case ("adjust", list() as changes):
                await self.post(
                    TransactionType.ADJUSTMENT, *(Line(item[0], item[1], change) for item, change in changes)
                )
            case ("receive", (str() as sku, str() as warehouse), int() as quantity):
                await self.post(TransactionType.RECEIPT, Line(sku, warehouse, quantity))
            case ("sell", (str() as sku, str() as warehouse), int() as quantity):
                await self.post(TransactionType.SALE, Line(sku, warehouse, -quantity))
            case ("transfer", int() as quantity):
                here, there = ITEMS[:2]
                await self.post(TransactionType.TRANSFER, Line(*here, -quantity), Line(*there, quantity))
            case ("count", (str() as sku, str() as warehouse), int() as counted, shortfall):
                line = Line(sku, warehouse, counted_quantity=counted)
                await self.post(TransactionType.COUNT, line, on_shortfall=shortfall)
            case ("reserve", (str() as sku, str() as warehouse), int() as quantity, bool() as partial):
                asked = Reservation(uuid4(), [Share(sku, warehouse, quantity)], 600, partial, b"", "model")
                await reservations.reserve(self.pool, asked)
                self.reserved.append((asked.reservation_id, (sku, warehouse)))
            case ("sweep",):
                await reservations.sweep(self.pool, most_holds=2)
            case ("reverse", int() as choice) if self.posted:
                chosen = self.posted[choice % len(self.posted)]
                document = Document(uuid4(), TransactionType.ADJUSTMENT, (), b"", "model", reverses_id=chosen)
                await reversals.reverse(self.pool, document)
            case (verb, int() as choice, *rest) if self.reserved:
                await self.continue_reservation(str(verb), *self.reserved[choice % len(self.reserved)], rest)

    async def continue_reservation(
        self, verb: str, reservation_id: UUID, item: tuple[str, str], rest: list[object]
    ) -> None:
        if verb == "fulfil":
            sale = [Line(*item, -quantity) for quantity in rest if isinstance(quantity, int)]
            document = Document(uuid4(), TransactionType.SALE, sale, b"", "model", reservation_id=reservation_id)
            await reservations.fulfil(self.pool, document)
        elif verb == "release":
            async with acquired(self.pool) as connection, connection.transaction():
                await reservations.release(connection, reservation_id, [])
        else:
            expire = "UPDATE allocation SET expires_at = now() - interval '10 ms' WHERE reservation_id = $1"
            async with self.owner_turn:
                await self.owner.execute(expire, reservation_id)


@pytest.fixture
async def model(inventory: Inventory, pool: Pool, owner: Connection) -> Model:
    """Two products in two warehouses, with some stock."""
    model = Model(pool, owner)
    for sku in {sku for sku, _ in ITEMS}:
        await inventory.create_product(sku)
    return model


@settings(
    max_examples=40,
    deadline=None,
    database=None,
    derandomize=True,
    phases=[Phase.explicit, Phase.generate],
    suppress_health_check=list(HealthCheck),
)
@given(rounds=st.lists(st.lists(operations, min_size=1, max_size=4), min_size=1, max_size=12))
async def test_every_interleaving_keeps_every_promise(
    model: Model, pool: Pool, rounds: list[list[tuple[object, ...]]]
) -> None:
    for together in rounds:
        results = await asyncio.gather(*map(model.carry_out, together), return_exceptions=True)
        assert not [each for each in results if isinstance(each, BaseException) and not isinstance(each, Refused)]

    found = await audits.run(pool)

    assert not any(found.values()), found
