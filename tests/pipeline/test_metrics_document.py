"""`docs/metrics.md` defines every metric that is stored."""

import pytest

from services.pipeline.jobs.contract import DAILY_METRIC
from tests.stack import ROOT

DOCUMENT = (ROOT / "docs" / "metrics.md").read_text()
NO_METRICS = {"sku", "warehouse_id", "day"}


@pytest.mark.parametrize("metric", sorted({*DAILY_METRIC.schema.names} - NO_METRICS))
def test_every_metric_is_defined(metric: str) -> None:
    assert f"`{metric}`" in DOCUMENT
