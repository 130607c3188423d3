"""Many clients want the same few units."""

import asyncio
from collections import Counter

import httpx

from tests.end_to_end.stock import a_document, a_line, create_stock_item

CLIENTS = 64
SALES_OF_A_CLIENT = 5
ON_HAND = 200


async def test_64_clients_sell_exactly_what_is_there(inventory: httpx.AsyncClient) -> None:
    await create_stock_item(inventory, "HOT-1", "RUSH-1", ON_HAND)

    async def a_client() -> list[int]:
        return [await _sell_one(inventory) for _ in range(SALES_OF_A_CLIENT)]

    answers = Counter(
        status for statuses in await asyncio.gather(*(a_client() for _ in range(CLIENTS))) for status in statuses
    )

    level = (await inventory.get("stock-levels/RUSH-1/HOT-1")).json()
    assert answers == {201: ON_HAND, 409: CLIENTS * SALES_OF_A_CLIENT - ON_HAND}
    assert level["quantityOnHand"] == 0


async def _sell_one(inventory: httpx.AsyncClient) -> int:
    """The final status of selling one unit; a request that the service asks to repeat is repeated with the same id."""
    document = a_document("SALE", a_line("HOT-1", "RUSH-1", -1))
    while True:
        response = await inventory.post("transactions", json=document)
        if response.status_code != 503:
            return response.status_code
        assert response.headers["Retry-After"]
        await asyncio.sleep(0.1)
