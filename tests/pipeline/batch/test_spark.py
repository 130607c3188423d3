"""DuckDB and Spark give the same rows. Needs the dependency group `spark` and a Java runtime."""

import shutil
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from random import Random
from typing import Any

import pyarrow as pa
import pytest

from services.pipeline.jobs import contract, transformation
from services.pipeline.jobs.engine import Engine, open_engine
from tests.pipeline.batch.test_transformation import FIRST, METRICS, TYPES, Entries, days_of, ledger, versions

needs_spark = [
    pytest.mark.slow,
    pytest.mark.timeout(600),
    # Spark leaves sockets to the garbage collector.
    pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning"),
    pytest.mark.skipif(
        find_spec("pyspark") is None, reason="pyspark is not installed: group `spark` of pyproject.toml"
    ),
    pytest.mark.skipif(shutil.which("java") is None, reason="there is no Java runtime for Spark"),
]
pytestmark = needs_spark


def configure(folder: Path, environment: pytest.MonkeyPatch) -> None:
    """Have Spark use as few partitions as few rows need."""
    (folder / "spark-defaults.conf").write_text("spark.sql.shuffle.partitions 2\nspark.ui.enabled false\n")
    environment.setenv("SPARK_CONF_DIR", str(folder))


@pytest.fixture(scope="module")
def engines(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Engine, Engine]]:
    """DuckDB and Spark."""
    with pytest.MonkeyPatch.context() as environment:
        configure(tmp_path_factory.mktemp("spark"), environment)
        with (
            open_engine("duckdb", memory_limit="512MiB", spill_folder=None) as duckdb,
            open_engine("spark", memory_limit="1GiB", spill_folder=None) as spark,
        ):
            yield duckdb, spark


def moves() -> Entries:
    """Some thousand movements, the same each time."""
    random = Random(7)
    items = [(f"SKU-{number}", random.choice("XYZ")) for number in range(40)]
    kinds = sorted(TYPES)
    return [
        (random.choice(items), random.randrange(130), random.choice(kinds), random.randrange(1, 10**6))
        for _ in range(3_000)
    ]


def rows(engine: Engine, expression: Any, schema: pa.Schema) -> list[tuple[Any, ...]]:
    return sorted((tuple(row.values()) for row in engine.rows(expression, schema).read_all().to_pylist()), key=str)


def test_snapshots_and_metrics_are_the_same(engines: tuple[Engine, Engine]) -> None:
    def calculated(engine: Engine) -> list[tuple[Any, ...]]:
        days = transformation.item_days(engine.table(ledger(moves())))
        stock = transformation.snapshots(days, days_of(engine, *range(FIRST + 60, FIRST + 131, 10)))
        return rows(engine, transformation.metrics(days, stock), METRICS)

    on_duckdb, on_spark = map(calculated, engines)

    assert len(on_duckdb) > 200
    assert on_spark == on_duckdb


def test_enriched_snapshots_are_the_same(engines: tuple[Engine, Engine]) -> None:
    changed_at = (FIRST + 80) * 24 * 3_600_000_000 + 1
    ever, for_ever = -(2**63), 2**63 - 1
    products = pa.table(
        {
            "sku": ["SKU-1", "SKU-1", "SKU-2"],
            "product_name": ["One", "Eins", "Two"],
            "category_id": ["toys", "games", None],
            "unit_cost_micros": pa.array([1, 2, None], pa.int64()),
            "valid_from": [ever, changed_at, ever],
            "valid_to": [changed_at, for_ever, for_ever],
        }
    )
    categories = versions({"category_id": ["toys", "games"], "category_name": ["Toys", "Games"]})
    warehouses = versions({"warehouse_id": ["X"], "warehouse_name": ["Ex"]})

    def calculated(engine: Engine) -> list[tuple[Any, ...]]:
        days = transformation.item_days(engine.table(ledger(moves())))
        stock = transformation.snapshots(days, days_of(engine, FIRST + 79, FIRST + 80))
        tables = (engine.table(dimension) for dimension in (products, categories, warehouses))
        return rows(engine, transformation.enriched(stock, *tables), contract.DAILY_SNAPSHOT.schema)

    on_duckdb, on_spark = map(calculated, engines)

    assert {row[7] for row in on_duckdb} == {"toys", "games", None}
    assert on_spark == on_duckdb


@pytest.mark.parametrize("grain", ["hour", "day", "week"])
def test_aggregates_are_the_same(engines: tuple[Engine, Engine], grain: str) -> None:
    schema = pa.schema([field for field in contract.MOVEMENT_AGGREGATE.schema if field.name != "day"])
    changed_at = (FIRST + 60) * 24 * 3_600_000_000
    products = pa.table(
        {
            "sku": ["SKU-1", "SKU-1", "SKU-2"],
            "category_id": ["toys", "games", None],
            "valid_from": [-(2**63), changed_at, -(2**63)],
            "valid_to": [changed_at, 2**63 - 1, 2**63 - 1],
        }
    )

    def calculated(engine: Engine) -> list[tuple[Any, ...]]:
        entries, known = engine.table(ledger(moves())), engine.table(products)
        return rows(engine, transformation.aggregates(entries, known, grain), schema)

    on_duckdb, on_spark = map(calculated, engines)

    assert len(on_duckdb) > 100
    assert on_spark == on_duckdb
