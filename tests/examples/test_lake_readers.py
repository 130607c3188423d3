"""The examples that read the lake run as they stand, and say the same."""

import os
import re
import subprocess
import sys
from datetime import timedelta
from importlib.util import find_spec
from pathlib import Path

import pytest

from libs.events.topics import INVENTORY_EVENTS
from services.pipeline.event_table import Row
from services.pipeline.lake import LakeTable
from tests.factories import NOON, an_inventory_update
from tests.stack import ROOT


@pytest.fixture
def lake_url(tmp_path: Path) -> str:
    """A lake with five units sold on one day, in its first version, and seven on the next; one sale is there twice."""
    table = LakeTable(str(tmp_path), INVENTORY_EVENTS)
    first = an_inventory_update(sequence=1, quantity_change=-5)
    second = an_inventory_update(sequence=2, quantity_change=-7, timestamp=NOON + timedelta(days=1))
    for offset, event in enumerate([first, second, second]):
        table.append(table.event_table.rows([Row(INVENTORY_EVENTS.name, 0, offset, event)]), {})
    return str(tmp_path)


def run(example: str, lake_url: str, *arguments: str) -> str:
    program = [sys.executable, str(ROOT / "examples" / example), *arguments]
    environment = {**os.environ, "LAKE_URL": lake_url}
    return subprocess.run(program, env=environment, capture_output=True, text=True, timeout=100, check=True).stdout


@pytest.mark.parametrize("is_tidy", [False, True])
@pytest.mark.parametrize("example", ["read_lake_duckdb.py", "read_lake_polars.py", "read_lake_pyarrow.py"])
def test_every_reader_finds_what_was_sold(example: str, is_tidy: bool, lake_url: str) -> None:
    if is_tidy:
        assert LakeTable(lake_url, INVENTORY_EVENTS).tidy((NOON + timedelta(days=1)).date())

    found = re.findall(r"(2026-03-\d\d)\W+(\d+)\b", run(example, lake_url))

    assert found == [("2026-03-02", "5"), ("2026-03-03", "7")]


def test_an_old_version_can_be_read(lake_url: str) -> None:
    assert "2026-03-03" not in run("read_lake_polars.py", lake_url, "1")


@pytest.mark.skipif(find_spec("pyspark") is None or find_spec("delta") is None, reason="pyspark is not installed")
def test_spark_finds_what_was_sold(lake_url: str) -> None:
    output = run("read_lake_spark.py", lake_url)

    assert "|2026-03-02|        5|" in output
    assert "|2026-03-03|        7|" in output
