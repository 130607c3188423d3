"""Sales of one line as most FastAPI services with an ORM post them. Runs in our environment.

By the documentation of SQLAlchemy, "Asynchronous I/O" and "ORM Querying Guide - with_for_update", and of FastAPI,
"Dependencies with yield". The same tables, the same row lock, document, ledger entry and two outbox events.
"""

import hashlib
import os
import sys
import uuid
import zlib
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from typing import Annotated, Any, ClassVar

import uvicorn
from fastapi import Depends, FastAPI, HTTPException, Security
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer
from pydantic import BaseModel, ConfigDict, Field
from pydantic.alias_generators import to_camel
from sqlalchemy import BigInteger, DateTime, Identity
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker, create_async_engine
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from benchmarks.peers.sums import DATABASE_URL

POOL = 20
KEY_SHA256 = os.environ["BENCH_KEY_SHA256"]

engine = create_async_engine(
    DATABASE_URL.replace("postgresql://", "postgresql+asyncpg://"),
    pool_size=POOL,
    max_overflow=0,
    pool_timeout=60,
    connect_args={"server_settings": {"search_path": "inventory"}},
)
sessions = async_sessionmaker(engine, expire_on_commit=False)


class Base(DeclarativeBase):
    """Of the mapped tables."""

    type_annotation_map: ClassVar = {int: BigInteger(), datetime: DateTime(timezone=True)}


class StockLevel(Base):
    """A stock level."""

    __tablename__ = "stock_level"
    sku: Mapped[str] = mapped_column(primary_key=True)
    warehouse_id: Mapped[str] = mapped_column(primary_key=True)
    quantity_on_hand: Mapped[int]
    quantity_reserved: Mapped[int]
    sequence: Mapped[int]
    revision: Mapped[int]
    updated_at: Mapped[datetime]


class StockTransaction(Base):
    """A posted document."""

    __tablename__ = "stock_transaction"
    transaction_id: Mapped[uuid.UUID] = mapped_column(primary_key=True)
    transaction_type: Mapped[str]
    actor: Mapped[str]
    source: Mapped[str]
    request_hash: Mapped[bytes]
    occurred_at: Mapped[datetime]
    recorded_at: Mapped[datetime]
    line_count: Mapped[int]


class LedgerEntry(Base):
    """The effect of a line."""

    __tablename__ = "ledger_entry"
    sku: Mapped[str] = mapped_column(primary_key=True)
    warehouse_id: Mapped[str] = mapped_column(primary_key=True)
    sequence: Mapped[int] = mapped_column(primary_key=True)
    transaction_id: Mapped[uuid.UUID]
    line_no: Mapped[int]
    quantity_change: Mapped[int]
    quantity_before: Mapped[int]
    quantity_after: Mapped[int]
    quantity_reserved_after: Mapped[int]
    revision: Mapped[int]
    occurred_at: Mapped[datetime]
    recorded_at: Mapped[datetime]


class Outbox(Base):
    """An event to publish."""

    __tablename__ = "outbox"
    id: Mapped[int] = mapped_column(BigInteger, Identity(always=True), primary_key=True)
    shard: Mapped[int]
    topic: Mapped[str]
    key: Mapped[str]
    value: Mapped[bytes]
    headers: Mapped[dict[str, Any]] = mapped_column(JSONB)
    event_id: Mapped[uuid.UUID]


class _Body(BaseModel):
    model_config = ConfigDict(alias_generator=to_camel, populate_by_name=True)


class LineIn(_Body):
    """One line."""

    sku: str = Field(min_length=1, max_length=64)
    warehouse_id: str = Field(min_length=1, max_length=64)
    quantity_change: int = Field(lt=0)


class SaleIn(_Body):
    """A sale of one line."""

    transaction_id: uuid.UUID
    transaction_type: str
    lines: list[LineIn] = Field(min_length=1, max_length=1)


class SaleOut(_Body):
    """What was posted."""

    transaction_id: uuid.UUID
    sku: str
    warehouse_id: str
    quantity_change: int
    quantity_after: int
    sequence: int
    recorded_at: datetime


class InventoryUpdate(SaleOut):
    """The event."""

    event_id: uuid.UUID
    event_type: str
    timestamp: datetime
    source: str
    padding: str


async def session() -> AsyncIterator[AsyncSession]:
    """A session for each request."""
    async with sessions() as opened:
        yield opened


def check_key(sent: Annotated[HTTPAuthorizationCredentials, Security(HTTPBearer())]) -> None:
    """Refuse a wrong key."""
    if hashlib.sha256(sent.credentials.encode()).hexdigest() != KEY_SHA256:
        raise HTTPException(401)


app = FastAPI()


@app.post("/transactions", status_code=201, dependencies=[Depends(check_key)])
async def sell(sale: SaleIn, database: Annotated[AsyncSession, Depends(session)]) -> SaleOut:
    """Post a sale."""
    request_hash = hashlib.sha256(sale.model_dump_json().encode()).digest()
    if (known := await database.get(StockTransaction, sale.transaction_id)) is not None:
        raise HTTPException(409 if known.request_hash == request_hash else 422)
    line = sale.lines[0]
    level = await database.get(StockLevel, (line.sku, line.warehouse_id), with_for_update=True)
    if level is None:
        raise HTTPException(422, "There is no such stock item")
    if level.quantity_on_hand - level.quantity_reserved + line.quantity_change < 0:
        raise HTTPException(409, "Insufficient stock")
    now = datetime.now(UTC)
    before = level.quantity_on_hand
    level.quantity_on_hand += line.quantity_change
    level.sequence += 1
    level.revision += 1
    level.updated_at = now
    database.add(
        StockTransaction(
            transaction_id=sale.transaction_id,
            transaction_type="SALE",
            actor="bench",
            source="api",
            request_hash=request_hash,
            occurred_at=now,
            recorded_at=now,
            line_count=1,
        )
    )
    await database.flush()
    database.add(
        LedgerEntry(
            sku=line.sku,
            warehouse_id=line.warehouse_id,
            sequence=level.sequence,
            transaction_id=sale.transaction_id,
            line_no=1,
            quantity_change=line.quantity_change,
            quantity_before=before,
            quantity_after=level.quantity_on_hand,
            quantity_reserved_after=level.quantity_reserved,
            revision=level.revision,
            occurred_at=now,
            recorded_at=now,
        )
    )
    answer = SaleOut(
        transaction_id=sale.transaction_id,
        sku=line.sku,
        warehouse_id=line.warehouse_id,
        quantity_change=line.quantity_change,
        quantity_after=level.quantity_on_hand,
        sequence=level.sequence,
        recorded_at=now,
    )
    key = f"{line.warehouse_id}:{line.sku}"
    for event_type in ("INVENTORY_UPDATE", "TRANSACTION"):
        event = InventoryUpdate(
            **answer.model_dump(),
            event_id=uuid.uuid4(),
            event_type=event_type,
            timestamp=now,
            source="inventory",
            padding="x" * 150,
        )
        database.add(
            Outbox(
                shard=zlib.crc32(key.encode()) % 16,
                topic="inventory-events",
                key=key,
                value=event.model_dump_json(by_alias=True).encode(),
                headers={"eventType": event_type, "eventId": str(event.event_id)},
                event_id=event.event_id,
            )
        )
    await database.commit()
    return answer


if __name__ == "__main__":
    uvicorn.run(app, port=int(sys.argv[1]), log_level="warning", access_log=False)
