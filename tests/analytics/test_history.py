"""What history keeps of each event."""

from decimal import Decimal

from libs.events.inventory import ExternalInventoryUpdate
from libs.events.topics import TOPICS
from services.analytics import history
from tests.analytics.factories import a_line, a_transaction, a_velocity


def test_every_event_is_kept_or_named_as_not_kept() -> None:
    published = {event for topic in TOPICS for event in topic.events} | {ExternalInventoryUpdate}

    assert published == {*history.KEPT, *history.NOT_KEPT}
    assert not {*history.KEPT} & {*history.NOT_KEPT}


def test_a_transaction_keeps_its_lines_and_exact_money() -> None:
    event = a_transaction("one", a_line(1, unit_price=Decimal("0.100000")), a_line(2, warehouse_id="EIRE"))

    document = history.transaction_document(event)

    assert document["_id"] == str(event.event_id)
    assert [line["warehouseId"] for line in document["lines"]] == ["United Kingdom", "EIRE"]
    assert str(document["lines"][0]["unitPrice"]) == "0.100000"


def test_of_several_revisions_only_the_largest_is_written() -> None:
    kept = history.documents([a_velocity(2.0, revision=7), a_velocity(1.0, revision=3), a_velocity(3.0, revision=5)])

    (metric,) = kept.metrics
    assert (metric["revision"], metric["windows"][0]["velocityPerDay"]) == (7, 2.0)


def test_ids_of_metrics_stay_apart_whatever_the_sku_holds() -> None:
    plain, barred = (
        history.metric_document(a_velocity(1, revision=1, sku="A|B")),
        history.metric_document(a_velocity(1, revision=1, sku="A%7CB")),
    )

    assert plain["_id"] == "velocity|A%7CB|BERLIN|2026-03-01"
    assert barred["_id"] == "velocity|A%257CB|BERLIN|2026-03-01"
