"""`docs/redis.md` names every key and every field that is written."""

import json
import re
from collections import defaultdict
from datetime import date
from typing import Any

import pytest

from services.pipeline import cache
from tests.stack import ROOT

DOCUMENT = (ROOT / "docs" / "redis.md").read_text()


class AnyRow(defaultdict[str, Any]):
    """A row that has every column."""

    def __init__(self) -> None:
        super().__init__(int, as_of=date(2026, 3, 2), direction="UP")


def documented(paragraph: str) -> set[str]:
    [text] = re.findall(rf"^- {paragraph}:(.*?)(?=^-|^##)", DOCUMENT, re.MULTILINE | re.DOTALL)
    return set(re.findall(r"`(\w+)`", text))


@pytest.mark.parametrize("key", [cache.LEVELS, cache.METRICS, cache.LOW_STOCK, cache.TOP_MOVERS, cache.BUILT])
def test_every_key_is_documented(key: str) -> None:
    assert f"| `{key}" in DOCUMENT


def test_the_fields_of_levels_are_documented() -> None:
    assert documented("Levels") == json.loads(cache._level(AnyRow())).keys()  # type: ignore[arg-type]


def test_the_fields_of_metrics_are_documented() -> None:
    metric = json.loads(cache._metric(AnyRow()))  # type: ignore[arg-type]

    assert documented("Metrics") == metric.keys() | metric["windows"][0].keys()
