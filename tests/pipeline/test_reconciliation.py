"""Reconciliation: what differs is named, and nothing unread is taken for equal."""

from datetime import date

from services.pipeline.reconciliation import (
    MOST_DIFFERENCES,
    Difference,
    Holding,
    Tallies,
    Tally,
    Unreadable,
    reconcile,
)

DAY = date(2011, 10, 3)
SALE, OTHER_SALE = "0b0c4b7e-2d0a-5f5e-9c39-7c1f1d1f3f6a", "ff0c4b7e-2d0a-5f5e-9c39-7c1f1d1f3f6a"


def holding(*entries: tuple[str, int, int], external: int | None = None) -> Holding:
    tallies = Tallies()
    for transaction_id, line_no, units in entries:
        tallies["BERLIN-1", DAY].count(transaction_id, line_no, units)
    return Holding(tallies=tallies, external=external)


def test_equal_stores_are_exact_in_whatever_order_they_were_read() -> None:
    ledger = holding((SALE, 1, -3), (SALE, 2, 4), (OTHER_SALE, 1, -1))
    kafka = holding((OTHER_SALE, 1, -1), (SALE, 2, 4), (SALE, 1, -3))

    assert reconcile(ledger, {"kafka": kafka}).exact


def test_quantities_swapped_between_two_lines_are_found() -> None:
    ledger, lake = holding((SALE, 1, -3), (SALE, 2, 4)), holding((SALE, 1, 4), (SALE, 2, -3))

    result = reconcile(ledger, {"lake": lake})

    assert not result.exact
    (difference,) = result.differences
    assert (difference.store, difference.warehouse_id, difference.date) == ("lake", "BERLIN-1", DAY)


def test_sums_are_compared_where_a_store_keeps_no_rows() -> None:
    ledger = holding((SALE, 1, -3), (SALE, 2, 4))
    right, wrong = (Holding(tallies=Tallies({("BERLIN-1", DAY): Tally(2, units, None)})) for units in (1, 2))

    assert reconcile(ledger, {"facts": right}).exact
    assert not reconcile(ledger, {"facts": wrong}).exact


def test_a_store_that_could_not_be_read_is_never_equal() -> None:
    result = reconcile(holding((SALE, 1, -3)), {"mongo": Unreadable("away")})

    assert not result.exact
    assert result.total_differences == 0


def test_stock_items_are_compared_one_by_one() -> None:
    ledger = Holding(on_hand={("A", "W"): 5, ("B", "W"): 0})
    redis = Holding(on_hand={("A", "W"): 4, ("NEVER-MOVED", "W"): 0})

    assert reconcile(ledger, {"redis": redis}).differences == [Difference("redis", "W", None, "A", 5, 4)]


def test_differences_are_bounded_but_all_counted() -> None:
    ledger = Holding(on_hand={(f"SKU-{number}", "W"): 1 for number in range(MOST_DIFFERENCES + 50)})

    result = reconcile(ledger, {"redis": Holding(on_hand={}), "positions": Holding(on_hand={})})

    assert (len(result.differences), result.total_differences) == (MOST_DIFFERENCES, 2 * (MOST_DIFFERENCES + 50))


def test_third_parties_are_compared_apart() -> None:
    ledger = holding((SALE, 1, -3))

    result = reconcile(
        ledger, {"kafka": holding((SALE, 1, -3), external=2), "lake": holding((SALE, 1, -3), external=1)}
    )

    assert (result.exact, result.external_exact, result.total_differences) == (False, False, 0)
