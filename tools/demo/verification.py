"""Does what the services answer agree with what must come out?"""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import date
from typing import Any

from tools.demo.answers import Answers
from tools.replay.run import Outcome
from tools.simulate import Oracle

Bucket = tuple[date, str, str]


@dataclass(frozen=True, slots=True)
class Disagreement:
    """One figure that is not what it must be."""

    what: str
    expected: object
    found: object


def against_oracle(oracle: Oracle, outcome: Outcome, answers: Answers) -> list[Disagreement]:
    """Every figure of the services that differs from the oracle's; none when all is right."""
    codes = {str(item.document.transaction_id): item.refusal.code for item in outcome.refused}
    levels = {(level["sku"], level["warehouseId"]): level["quantityOnHand"] for level in answers.stock_levels}
    setup = {str(item): refusal.code for item, refusal in outcome.refused_setup}
    return [
        *_differences("movements and demand of", _sums(oracle, _date), _answered(answers.days, "date")),
        *_differences(
            "movements and demand of", _sums(oracle, _warehouse), _answered(answers.warehouses, "warehouseId")
        ),
        *_differences("movements and demand of", _sums(oracle, _sku), _answered(answers.skus, "sku")),
        *_differences("units on hand of", oracle.quantity_on_hand, levels),
        *_differences("refusal of", oracle.refusals, codes),
        *_differences("refusal of", {}, setup),
        *_differences("documents sent again", {"in all": oracle.repeats}, {"in all": outcome.replayed}),
    ]


def refusals(outcome: Outcome) -> list[tuple[str, int]]:
    """Code and number of refused documents, the most frequent first."""
    return Counter(item.refusal.code for item in outcome.refused).most_common()


def _date(bucket: Bucket) -> str:
    return bucket[0].isoformat()


def _sku(bucket: Bucket) -> str:
    return bucket[1]


def _warehouse(bucket: Bucket) -> str:
    return bucket[2]


def _sums(oracle: Oracle, key: Callable[[Bucket], str]) -> dict[str, tuple[int, int]]:
    """Movements and demand by date, sku or warehouse."""
    movements: Counter[str] = Counter()
    demand: Counter[str] = Counter()
    for bucket, count in oracle.movements.items():
        movements[key(bucket)] += count
        demand[key(bucket)] += oracle.demand[bucket]
    return {name: (movements[name], demand[name]) for name in movements}


def _answered(items: Iterable[Mapping[str, Any]], key: str) -> dict[str, tuple[int, int]]:
    return {item[key]: (item["movements"], item["demand"]) for item in items}


def _differences(what: str, expected: Mapping[Any, object], found: Mapping[Any, object]) -> Iterator[Disagreement]:
    for key in sorted(expected.keys() | found.keys()):
        if expected.get(key) != found.get(key):
            yield Disagreement(f"{what} {key}", expected.get(key), found.get(key))
