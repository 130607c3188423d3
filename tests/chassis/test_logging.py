"""Log lines that people read."""

import json
import logging as standard
from collections.abc import Iterator

import pytest
import structlog

from libs.chassis import logging


@pytest.fixture(autouse=True)
def restored_logs() -> Iterator[None]:
    """Put back the logs that the other tests expect."""
    yield
    logging.configure("console", "warning", process="test")


def test_a_line_for_people_stays_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    logging.configure("console", "info", process="demo")
    structlog.get_logger().info("posted", sku="A\r\nB", nested={"sku": "C\nD"})
    standard.getLogger("library").warning("from %s", "a\nlibrary")
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 2
    assert "posted" in lines[0]
    assert "from a\\nlibrary" in lines[1]


def test_a_json_line_is_one_object_with_its_process(capsys: pytest.CaptureFixture[str]) -> None:
    logging.configure("json", "info", process="demo")
    structlog.get_logger().info("posted", sku="A\r\nB")
    (line,) = capsys.readouterr().out.splitlines()
    entry = json.loads(line)
    assert (entry["event"], entry["sku"], entry["process"], entry["level"]) == ("posted", "A\r\nB", "demo", "info")


def test_local_variables_are_not_logged(capsys: pytest.CaptureFixture[str]) -> None:
    for form in ("console", "json"):
        logging.configure(form, "info", process="demo")
        password = "hunter2"[::-1]
        try:
            raise ValueError("failed")
        except ValueError:
            structlog.get_logger().exception("failed")
        assert password not in capsys.readouterr().out


def test_lower_levels_are_not_written(capsys: pytest.CaptureFixture[str]) -> None:
    logging.configure("console", "error", process="demo")
    structlog.get_logger().warning("unimportant")
    standard.getLogger("library").warning("unimportant")
    assert capsys.readouterr().out == ""
