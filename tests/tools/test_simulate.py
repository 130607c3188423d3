"""The simulated week and its oracle."""

from collections import Counter
from dataclasses import replace
from datetime import timedelta

import pytest

from libs.events.inventory import TransactionType
from tools.simulate import Scale, Simulation, simulate

SMALL = Scale(skus=40, warehouses=3, days=7, sale_lines_per_day=150, faults_of_each_kind=2)


@pytest.fixture(scope="module")
def simulation() -> Simulation:
    return simulate(11, SMALL)


def test_the_same_seed_gives_the_same_week() -> None:
    assert simulate(3, SMALL) == simulate(3, SMALL)
    assert simulate(3, SMALL) != simulate(4, SMALL)


def test_no_stock_item_runs_short_in_whatever_order_the_good_documents_arrive(simulation: Simulation) -> None:
    good = {document.transaction_id: document for document in simulation.workload.documents}
    on_hand: Counter[tuple[str, str]] = Counter()
    for document in (*simulation.workload.opening_balances, *good.values()):
        if str(document.transaction_id) in simulation.oracle.refusals:
            continue
        for line in document.lines:
            is_opening = document.transaction_type is TransactionType.OPENING_BALANCE
            on_hand[line.sku, line.warehouse_id] += line.quantity_change if is_opening else min(0, line.quantity_change)

    assert min(on_hand.values()) == 0


def test_every_kind_of_movement_happens(simulation: Simulation) -> None:
    kinds = {document.transaction_type for document in simulation.workload.documents}

    assert kinds == {
        TransactionType.SALE,
        TransactionType.RETURN,
        TransactionType.RECEIPT,
        TransactionType.TRANSFER,
        TransactionType.WRITE_OFF,
    }


def test_the_lines_of_a_transfer_sum_to_zero_per_sku(simulation: Simulation) -> None:
    for document in simulation.workload.documents:
        if document.transaction_type is TransactionType.TRANSFER:
            sums: Counter[str] = Counter()
            for line in document.lines:
                sums[line.sku] += line.quantity_change
            assert set(sums.values()) == {0}


def test_faults_are_expected_to_be_refused_and_repeats_to_be_recognised(simulation: Simulation) -> None:
    sent = Counter(str(document.transaction_id) for document in simulation.workload.documents)
    codes = Counter(simulation.oracle.refusals.values())

    assert set(simulation.oracle.refusals) <= set(sent)
    assert codes == {
        "insufficient-stock": 2,
        "unknown-product": 2,
        "unknown-warehouse": 2,
        "wrong-sign": 4,
        "validation-failed": 2,
    }
    assert sum(1 for times in sent.values() if times == 2) == simulation.oracle.repeats == 2


def test_demand_is_skewed_and_follows_the_weekday() -> None:
    oracle = simulate(5, replace(SMALL, skus=100, sale_lines_per_day=2_000)).oracle
    by_sku: Counter[str] = Counter()
    by_weekday: Counter[int] = Counter()
    for (day, sku, _), units in oracle.demand.items():
        by_sku[sku] += units
        by_weekday[day.weekday()] += units

    assert sum(units for _, units in by_sku.most_common(20)) > 0.45 * by_sku.total()
    assert by_weekday[4] > by_weekday[5]


def test_everything_happens_within_the_simulated_days(simulation: Simulation) -> None:
    days = {document.occurred_at.date() for document in simulation.workload.documents}

    assert days == {SMALL.first_date + timedelta(days=number) for number in range(SMALL.days)}
