"""What the services' command lines share.

`dead-letters list|show|retry|edit|discard`, `events rebuild --group GROUP`, `projections rebuild NAME`.
"""

import argparse
import getpass
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from libs.events.dead_letter_retry import NotPending, Status, UnknownDeadLetter

if TYPE_CHECKING:
    from libs.operations.dead_letters import DeadLetter, DeadLetterStore


def add_dead_letters(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the command `dead-letters` to a service's command line."""
    actions = commands.add_parser("dead-letters", help="records that could not be applied").add_subparsers(
        dest="action", required=True
    )
    listing = actions.add_parser("list", help="the latest first")
    listing.add_argument("--status", type=Status, choices=list(Status))
    listing.add_argument("--limit", type=int, default=50)
    for name, explanation in {
        "show": "print one with its record",
        "retry": "let its group apply it again",
        "edit": "let its group apply the content of a file in its place",
        "discard": "give it up",
    }.items():
        actions.add_parser(name, help=explanation).add_argument("id")
    actions.choices["edit"].add_argument("file", type=Path)
    actions.choices["discard"].add_argument("--note", required=True)


def add_events(commands: "argparse._SubParsersAction[argparse.ArgumentParser]", group: str) -> None:
    """Add `events rebuild --group GROUP` to the command line of the service whose consumer group that is."""
    actions = commands.add_parser("events", help="what follows from the topics").add_subparsers(
        dest="action", required=True
    )
    rebuild = actions.add_parser("rebuild", help="build a group's tables anew, beside its running workers")
    rebuild.add_argument("--group", required=True, choices=[group])


def add_projections(commands: "argparse._SubParsersAction[argparse.ArgumentParser]", **projections: str) -> None:
    """Add `projections rebuild NAME` to a service's command line; each projection is explained by its text."""
    actions = commands.add_parser("projections", help="stores that follow from others").add_subparsers(
        dest="action", required=True
    )
    names = actions.add_parser("rebuild", help="write one anew").add_subparsers(dest="projection", required=True)
    for name, explanation in projections.items():
        names.add_parser(name, help=explanation)


async def dead_letters(store: "DeadLetterStore", arguments: argparse.Namespace) -> int:
    """Do what the command line says; the exit code: 0, or 1 when a retry failed, 2 when there is no such letter."""
    by = getpass.getuser()
    try:
        match arguments.action:
            case "list":
                _print(_row(letter) for letter in await store.page(arguments.status, None, arguments.limit))
            case "show":
                _print(_record(await store.find(arguments.id)))
            case "discard":
                await store.discard(arguments.id, by=by, note=arguments.note)
            case action:
                value = arguments.file.read_bytes() if action == "edit" else None
                outcome = await store.retry(arguments.id, by=by, value=value)
                _print([f"{outcome.status} {outcome.error or ''}".rstrip()])
                return 0 if outcome.status is Status.RESOLVED else 1
    except (UnknownDeadLetter, NotPending) as error:
        sys.stderr.write(f"{error}\n")
        return 2
    return 0


def progress(done: int, total: int) -> None:
    """Show how far a long command has come, on standard error."""
    sys.stderr.write(f"\r{done:,} of {total:,} records")
    sys.stderr.write("\n" if done == total else "")
    sys.stderr.flush()


def _print(lines: Iterable[str]) -> None:
    for line in lines:
        sys.stdout.write(f"{line}\n")


def _row(letter: "DeadLetter") -> str:
    place = f"{letter.topic}[{letter.partition}]@{letter.offset}"
    return (
        f"{letter.id}\t{letter.status}\t{letter.group}\t{place}\t{letter.error_class}: {letter.error.splitlines()[0]}"
    )


def _record(letter: "DeadLetter") -> list[str]:
    headers = [f"header {name}: {value.decode(errors='replace')}" for name, value in letter.headers]
    return [_row(letter), letter.error, *headers, (letter.value or b"").decode(errors="replace")]
