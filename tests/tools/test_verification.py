"""The demo's comparison with the oracle."""

from collections import defaultdict
from dataclasses import replace
from typing import Any

import pytest

from tools.demo.answers import Answers
from tools.demo.verification import against_oracle
from tools.replay.api import Refusal
from tools.replay.run import Outcome, RefusedDocument
from tools.simulate import Oracle, Scale, Simulation, simulate


@pytest.fixture(scope="module")
def simulation() -> Simulation:
    return simulate(1, Scale(skus=10, warehouses=2, days=3, sale_lines_per_day=40, faults_of_each_kind=1))


def the_right_outcome(simulation: Simulation) -> Outcome:
    codes = simulation.oracle.refusals
    documents = {str(document.transaction_id): document for document in simulation.workload.documents}
    refused = [RefusedDocument(documents[name], Refusal(code, "refused")) for name, code in codes.items()]
    return Outcome(replayed=simulation.oracle.repeats, refused=refused)


def the_right_answers(oracle: Oracle) -> Answers:
    levels = [
        {"sku": sku, "warehouseId": warehouse, "quantityOnHand": units}
        for (sku, warehouse), units in oracle.quantity_on_hand.items()
    ]
    days, skus, warehouses = (summed(oracle, field, at) for at, field in enumerate(("date", "sku", "warehouseId")))
    return Answers({}, {}, [], levels, [], {}, [], days, warehouses, skus, {})


def summed(oracle: Oracle, field: str, at: int) -> list[dict[str, Any]]:
    sums: dict[str, dict[str, Any]] = defaultdict(lambda: {"movements": 0, "demand": 0})
    for bucket, count in oracle.movements.items():
        sums[str(bucket[at])]["movements"] += count
        sums[str(bucket[at])]["demand"] += oracle.demand[bucket]
    return [{field: key, **totals} for key, totals in sums.items()]


def test_right_answers_agree_with_the_oracle(simulation: Simulation) -> None:
    found = against_oracle(simulation.oracle, the_right_outcome(simulation), the_right_answers(simulation.oracle))

    assert found == []


def test_a_wrong_day_a_wrong_level_and_a_fault_that_was_accepted_are_told(simulation: Simulation) -> None:
    answers = the_right_answers(simulation.oracle)
    answers.days[0]["demand"] += 1
    answers.stock_levels[0]["quantityOnHand"] -= 1
    outcome = the_right_outcome(simulation)
    outcome = replace(outcome, refused=outcome.refused[1:])

    found = [item.what for item in against_oracle(simulation.oracle, outcome, answers)]

    assert [what.rsplit(" ", 1)[0].split(" (")[0] for what in found] == [
        "movements and demand of",
        "units on hand of",
        "refusal of",
    ]
