"""What the commands for operators refuse: one line, and exit code 2."""

import os
from pathlib import Path

import pytest

from libs.chassis.database import open_pool
from libs.events.settings import KafkaSettings
from libs.operations import command_line
from tests.stack import Database, run_command


async def dead_letters(database: Database, kafka: KafkaSettings, *arguments: str) -> tuple[int, str]:
    environment = {"DATABASE_URL": database.url("reorder")}
    return await run_command("reorder", "dead-letters", *arguments, kafka=kafka, environment=environment)


async def bury(database: Database) -> str:
    """A dead letter whose error has no text; its id."""
    async with await open_pool(database.url("reorder"), size=1, application_name="test") as pool:
        number = await pool.fetchval(
            """
            INSERT INTO dead_letter (group_name, topic, partition, record_offset, value, error_class, error,
                                     record_timestamp)
            SELECT 'reorder-position', 'inventory-events', 0, count(*), 'garbage', 'MemoryError', '', now()
              FROM dead_letter RETURNING id
            """
        )
    return str(number)


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (["list", "--limit", "-1"], "-1 is not between 1 and 100,000"),
        (["edit", "35", "/nonexistent"], "No such file or directory"),
        (["discard", "35", "--note", " "], "argument --note: it is blank"),
        (["show", "35"], "there is no dead letter 35"),
    ],
)
async def test_what_cannot_be_done_is_said_in_a_line(
    database: Database, kafka: KafkaSettings, arguments: list[str], reason: str
) -> None:
    code, output = await dead_letters(database, kafka, *arguments)

    assert code == 2
    assert reason in output.splitlines()[-1]
    assert "Traceback" not in output


async def test_an_edit_of_an_unknown_type_is_refused_and_the_letter_waits(
    database: Database, kafka: KafkaSettings, tmp_path: Path
) -> None:
    letter, edited = await bury(database), tmp_path / "edited.json"
    edited.write_text('{"eventType": "NONE_SUCH"}')

    code, output = await dead_letters(database, kafka, "edit", letter, str(edited))
    listed = await dead_letters(database, kafka, "list", "--limit", "1")

    assert (code, output.strip()) == (2, "inventory-events has no events of this type")
    assert listed == (0, f"{letter}\tpending\treorder-position\tinventory-events[0]@0\tMemoryError: \n")


def test_a_user_without_a_name_is_known_by_the_number(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("LOGNAME", "USER", "LNAME", "USERNAME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(os, "getuid", lambda: 54321)

    assert command_line.user() == "uid 54321"
