"""Bodies of products, categories and warehouses."""

from datetime import datetime
from typing import Annotated, Any, Literal, Self
from zoneinfo import available_timezones

from pydantic import AfterValidator, Field, model_validator

from libs.chassis.model import ApiModel, RowModel
from libs.events.envelope import Identifier, Sku, WarehouseId
from services.inventory.schemas.fields import Money, Name, Notes

Status = Literal["active", "archived"]
CategoryId = Annotated[Identifier, Field(description="Category: 1-64 printable characters.")]
JsonObject = dict[Annotated[str, Field(max_length=64)], Any]

# The others stand in the folder of the database and mean something else on every machine.
_TIME_ZONES = frozenset(available_timezones()) - {"Factory", "localtime", "posixrules"}


def _known_time_zone(name: str) -> str:
    if name not in _TIME_ZONES:
        raise ValueError("not a time zone of the IANA database")
    return name


TimeZone = Annotated[str, AfterValidator(_known_time_zone), Field(max_length=64, examples=["Europe/Berlin"])]


class _Patch(ApiModel):
    """Fields that are left out stay as they are."""

    @model_validator(mode="after")
    def _required_fields_stay(self) -> Self:
        for name in self.model_fields_set & self._never_null():
            if getattr(self, name) is None:
                raise ValueError(f"{name} must not be null")
        return self

    @classmethod
    def _never_null(cls) -> set[str]:
        return {"name"}


class ProductIn(ApiModel):
    """A product to create."""

    sku: Sku
    name: Name
    description: Notes | None = None
    category_id: CategoryId | None = None
    unit_of_measure: Annotated[str, Field(min_length=1, max_length=32, pattern=r"\S")] = "each"
    unit_cost: Money | None = None
    unit_price: Money | None = None
    shelf_life_days: Annotated[int, Field(gt=0, le=36_500)] | None = None
    attributes: JsonObject = Field(default_factory=dict, max_length=100)


class ProductPatch(_Patch):
    """Fields of a product to change."""

    name: Name | None = None
    description: Notes | None = None
    category_id: CategoryId | None = None
    unit_of_measure: Annotated[str, Field(min_length=1, max_length=32, pattern=r"\S")] | None = None
    unit_cost: Money | None = None
    unit_price: Money | None = None
    shelf_life_days: Annotated[int, Field(gt=0, le=36_500)] | None = None
    attributes: Annotated[JsonObject, Field(max_length=100)] | None = None

    @classmethod
    def _never_null(cls) -> set[str]:
        return {"name", "unit_of_measure", "attributes"}


class ProductOut(RowModel):
    """A product."""

    sku: str
    name: str
    description: str | None
    category_id: str | None
    unit_of_measure: str
    unit_cost: Money | None
    unit_price: Money | None
    shelf_life_days: int | None
    attributes: JsonObject
    status: Status
    version: int
    created_at: datetime
    updated_at: datetime


class CategoryIn(ApiModel):
    """A category to create."""

    category_id: CategoryId
    name: Name
    parent_id: CategoryId | None = None


class CategoryPatch(_Patch):
    """Fields of a category to change; another parent moves it with everything below."""

    name: Name | None = None
    parent_id: CategoryId | None = None


class CategoryOut(RowModel):
    """A category."""

    category_id: str
    name: str
    parent_id: str | None
    status: Status
    version: int
    created_at: datetime
    updated_at: datetime


class WarehouseIn(ApiModel):
    """A warehouse to create."""

    warehouse_id: WarehouseId
    name: Name
    timezone: TimeZone = "UTC"
    address: JsonObject | None = None


class WarehousePatch(_Patch):
    """Fields of a warehouse to change."""

    name: Name | None = None
    timezone: TimeZone | None = None
    address: JsonObject | None = None

    @classmethod
    def _never_null(cls) -> set[str]:
        return {"name", "timezone"}


class WarehouseOut(RowModel):
    """A warehouse."""

    warehouse_id: str
    name: str
    timezone: str
    address: JsonObject | None
    status: Status
    version: int
    created_at: datetime
    updated_at: datetime


class CategoryPathOut(CategoryOut):
    """A category and where it lies."""

    path: Annotated[list[str], Field(description="Category ids from the root to this one, both included.")]
