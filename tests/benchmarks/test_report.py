"""Results files: promises are judged by the figures as reported, and `latest.json` lists them all."""

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from unittest.mock import ANY

import pytest

from benchmarks import report, summary
from benchmarks.report import Promise

KEYS = {"id", "what", "measured", "promised", "holds", "unit", "peer"}


@pytest.fixture
def results(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(report, "RESULTS", tmp_path)
    monkeypatch.setattr("sys.argv", ["relay.py", "--rows", "10"])
    return tmp_path


def a_promise(**changed: Any) -> Promise:
    fields: dict[str, Any] = {
        "id": "P6",
        "what": "relay",
        "measured": 2.2,
        "promised": 2.0,
        "unit": "times",
        "peer": "it",
    }
    return Promise(**fields | changed)


@pytest.mark.parametrize(
    ("measured", "promised", "at_most", "holds"),
    [
        (2.0, 2.0, False, True),
        (1.99, 2.0, False, False),
        (1.5, 1.5, True, True),
        (1.51, 1.5, True, False),
        (9.9, None, False, None),
    ],
)
def test_a_promise_holds_up_to_its_bound(
    measured: float, promised: float | None, at_most: bool, holds: bool | None
) -> None:
    assert a_promise(measured=measured, promised=promised, at_most=at_most).holds is holds


def test_the_bound_is_told_in_the_unit() -> None:
    assert a_promise(at_most=True).row()["unit"] == "times, at most"


def test_a_result_tells_how_it_was_measured(results: Path) -> None:
    report.write("relay", "2 cores", [{"eventsPerSecond": 7}], [a_promise()])

    found = json.loads((results / "relay.json").read_text())

    assert datetime.fromisoformat(found.pop("measuredAt")) <= datetime.now(UTC)
    assert found == {
        "command": "python -m benchmarks.relay --rows 10",
        "machine": "2 cores",
        "commit": ANY,
        "figures": [{"eventsPerSecond": 7}],
        "promises": [a_promise().row()],
    }


def test_the_promises_of_all_results_are_listed_by_id(results: Path) -> None:
    report.write("stock_reads", "2 cores", [], [a_promise(id="P9")])
    report.write("relay", "2 cores", [], [a_promise(), a_promise(id="P5")])
    report.write("event_latency", "2 cores", [])
    (results / "latest.json").write_text("an earlier list")

    found = summary.promises(results)

    assert [row["id"] for row in found] == ["P5", "P6", "P9"]
    assert all(row.keys() >= KEYS for row in found)
