from datetime import datetime

import pytest
from pydantic import ValidationError

from libs.events.envelope import document_event_id, stock_item_event_id, stock_item_key
from libs.events.inventory import InventoryUpdate
from tests.factories import an_inventory_update


def test_a_key_tells_a_warehouse_from_a_sku_whatever_they_contain() -> None:
    assert stock_item_key("a:b", "c") != stock_item_key("a", "b:c")
    assert stock_item_key("a%3Ab", "c") != stock_item_key("a:b", "c")
    assert stock_item_key("United Kingdom", "85099B") == "United Kingdom:85099B"


def test_the_same_fact_has_the_same_event_id() -> None:
    assert stock_item_event_id("INVENTORY_UPDATE", "W", "S", 1) == stock_item_event_id("INVENTORY_UPDATE", "W", "S", 1)
    assert stock_item_event_id("INVENTORY_UPDATE", "W", "S", 1) != stock_item_event_id(
        "STOCK_LEVEL_CHANGE", "W", "S", 1
    )
    assert document_event_id("TRANSACTION", "d", 1) != document_event_id("TRANSACTION", "d", 2)


@pytest.mark.parametrize("sku", ["", " A", "A ", "A\0", "A\nB", "A\u202eB", "x" * 65, "\u00a0A"])
def test_an_unprintable_or_blank_edged_sku_is_refused(sku: str) -> None:
    with pytest.raises(ValidationError) as caught:
        an_inventory_update(sku=sku)
    assert [(fault["loc"], fault["msg"]) for fault in caught.value.errors()] == [
        (("sku",), "Must be 1-64 printable characters, no blanks at the ends")
    ]


@pytest.mark.parametrize("sku", ["A", "gift 0001", "Ä/ö:%", "x" * 64, "品番-1"])
def test_a_printable_sku_is_kept_exactly(sku: str) -> None:
    event = an_inventory_update(sku=sku)

    assert InventoryUpdate.model_validate_json(event.model_dump_json()).sku == sku


@pytest.mark.parametrize("field", ['"quantityChange":false', '"quantityChange":"5"', '"quantityChange":1.5'])
def test_a_quantity_is_a_whole_number_and_nothing_else(field: str) -> None:
    text = an_inventory_update().model_dump_json().replace('"quantityChange":-1', field)

    with pytest.raises(ValidationError, match="quantityChange"):
        InventoryUpdate.model_validate_json(text)


def test_a_time_without_zone_is_refused() -> None:
    with pytest.raises(ValidationError, match="timestamp"):
        an_inventory_update(timestamp=datetime(2026, 1, 1))  # noqa: DTZ001


def test_fields_of_later_versions_are_ignored() -> None:
    text = an_inventory_update().model_dump_json().replace("{", '{"colour":"red",', 1)

    assert InventoryUpdate.model_validate_json(text) == an_inventory_update()
