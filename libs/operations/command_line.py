"""What the services' command lines share.

`dead-letters list|show|retry|edit|discard`, `events rebuild --group GROUP`, `projections rebuild NAME`.
"""

import argparse
import getpass
import os
import sys
from collections.abc import Awaitable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from libs.events.dead_letter_retry import NotPending, Status, Undecodable, UnknownDeadLetter

if TYPE_CHECKING:
    from libs.events.settings import KafkaSettings
    from libs.operations.dead_letters import DeadLetter, DeadLetterStore
    from libs.operations.rebuild import Rebuild

MOST_LISTED = 100_000


def add_dead_letters(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the command `dead-letters` to a service's command line."""
    actions = commands.add_parser("dead-letters", help="records that could not be applied").add_subparsers(
        dest="action", required=True
    )
    listing = actions.add_parser("list", help="the latest first")
    listing.add_argument("--status", type=Status, choices=list(Status))
    listing.add_argument("--limit", type=_limit, default=50)
    for name, explanation in {
        "show": "print one with its record",
        "retry": "let its group apply it again",
        "edit": "let its group apply the content of a file in its place",
        "discard": "give it up",
    }.items():
        actions.add_parser(name, help=explanation).add_argument("id")
    actions.choices["edit"].add_argument("file", type=_content, help="the whole event, as JSON text")
    actions.choices["discard"].add_argument("--note", type=_text, required=True, help="why")


def add_events(commands: "argparse._SubParsersAction[argparse.ArgumentParser]", group: str) -> None:
    """Add `events rebuild --group GROUP` to the command line of the service whose consumer group that is."""
    actions = commands.add_parser("events", help="what follows from the topics").add_subparsers(
        dest="action", required=True
    )
    rebuild = actions.add_parser("rebuild", help="build a group's tables anew, beside its running workers")
    rebuild.add_argument("--group", required=True, choices=[group])
    add_acceptance(rebuild)


def add_acceptance(rebuild: argparse.ArgumentParser) -> None:
    """Add `--accept-dead-letters` to a command that builds results anew from the topics."""
    rebuild.add_argument(
        "--accept-dead-letters",
        action="store_true",
        help="records that counted and can be applied no more become dead letters",
    )


def add_projections(
    commands: "argparse._SubParsersAction[argparse.ArgumentParser]", **projections: str
) -> "argparse._SubParsersAction[argparse.ArgumentParser]":
    """Add `projections rebuild NAME` to a service's command line; each projection is explained by its text."""
    actions = commands.add_parser("projections", help="stores that follow from others").add_subparsers(
        dest="action", required=True
    )
    names = actions.add_parser("rebuild", help="write one anew").add_subparsers(dest="projection", required=True)
    for name, explanation in projections.items():
        names.add_parser(name, help=explanation)
    return names


async def dead_letters(store: "DeadLetterStore", arguments: argparse.Namespace) -> int:
    """Do what the command line says; the exit code: 0, 1 when a retry failed, 2 when there is nothing to do it with."""
    by = user()
    try:
        match arguments.action:
            case "list":
                _print(_row(letter) for letter in await store.page(arguments.status, None, arguments.limit))
            case "show":
                _print(_record(await store.find(arguments.id)))
            case "discard":
                await store.discard(arguments.id, by=by, note=arguments.note)
            case action:
                value = arguments.file if action == "edit" else None
                outcome = await store.retry(arguments.id, by=by, value=value)
                _print([f"{outcome.status} {outcome.error or ''}".rstrip()])
                return 0 if outcome.status is Status.RESOLVED else 1
    except (UnknownDeadLetter, NotPending, Undecodable) as error:
        sys.stderr.write(f"{error}\n")
        return 2
    return 0


async def rebuild(work: Awaitable[None]) -> int:
    """Await a rebuild; the exit code: 0, or 1 when it was refused and everything stays as it is."""
    from libs.operations.generation import RebuildRefused

    try:
        await work
    except RebuildRefused as error:
        sys.stderr.write(f"\n{error}\n")
        return 1
    return 0


async def rebuild_group(
    job: "Rebuild", database_url: str, kafka: "KafkaSettings", arguments: argparse.Namespace
) -> int:
    """Build the results of a group in Postgres anew; the exit code as of `rebuild`."""
    from libs.operations import rebuild as groups

    work = groups.rebuild(
        job,
        database_url=database_url,
        kafka=kafka,
        progress=progress,
        accept_dead_letters=arguments.accept_dead_letters,
    )
    return await rebuild(work)


def progress(done: int, total: int) -> None:
    """Show how far a long command has come, on standard error."""
    sys.stderr.write(f"\r{done:,} of {total:,} records")
    sys.stderr.write("\n" if done == total else "")
    sys.stderr.flush()


def _limit(text: str) -> int:
    number = int(text)
    if not 1 <= number <= MOST_LISTED:
        raise argparse.ArgumentTypeError(f"{number} is not between 1 and {MOST_LISTED:,}")
    return number


def _content(path: str) -> bytes:
    try:
        return Path(path).read_bytes()
    except OSError as error:
        raise argparse.ArgumentTypeError(str(error)) from error


def _text(text: str) -> str:
    if not text.strip():
        raise argparse.ArgumentTypeError("it is blank")
    return text


def user() -> str:
    """Who runs the command; in a container there may be no name for the number."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return f"uid {os.getuid()}"


def _print(lines: Iterable[str]) -> None:
    for line in lines:
        sys.stdout.write(f"{line}\n")


def _row(letter: "DeadLetter") -> str:
    place = f"{letter.topic}[{letter.partition}]@{letter.offset}"
    first_line, *_ = letter.error.splitlines() or [""]
    return f"{letter.id}\t{letter.status}\t{letter.group}\t{place}\t{letter.error_class}: {first_line}"


def _record(letter: "DeadLetter") -> list[str]:
    headers = [f"header {name}: {value.decode(errors='replace')}" for name, value in letter.headers]
    edited = [] if letter.edited_value is None else ["edited:", letter.edited_value.decode(errors="replace")]
    return [_row(letter), letter.error, *headers, (letter.value or b"").decode(errors="replace"), *edited]
