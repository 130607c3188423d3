"""Runs Stockflow on this machine: `python -m deploy.local up|down|status`."""

import argparse
import asyncio
import contextlib
import logging
import os
import signal
import sys
from pathlib import Path

import psutil

from deploy.local import record
from deploy.local.services import MAIL, SERVICE_PORTS, processes_for
from deploy.local.stack import AlreadyRunning, Stack
from deploy.local.supervisor import StartFailed

_STOP_SECONDS = 90.0


async def serve(stack: Stack) -> None:
    """Start the stack, say where it is, and keep it running until this task is cancelled."""
    print("Starting servers and services ...", flush=True)
    if MAIL not in processes_for(os.environ):
        print(
            "No mails are sent: SMTP_URL is not set. Mails are kept; alerts wait until MAIL_RECIPIENTS is set, too.",
            flush=True,
        )
    async with stack:
        print(_welcome(stack), flush=True)
        await asyncio.Event().wait()


async def up(stack: Stack) -> None:
    """Serve until Ctrl-C or SIGTERM; then stop everything."""
    serving = asyncio.create_task(serve(stack))
    for stop_signal in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(stop_signal, serving.cancel)
    with contextlib.suppress(asyncio.CancelledError):
        await serving
    print("Stopped; the data is kept.", flush=True)


def down(stack: Stack) -> None:
    """Stop the stack that runs in this directory, if one does."""
    supervisor = record.running_supervisor(stack.record_file)
    if supervisor is None:
        print("Nothing runs.")
        return
    supervisor.send_signal(signal.SIGTERM)
    try:
        supervisor.wait(_STOP_SECONDS)
    except psutil.TimeoutExpired:
        sys.exit(
            f"Process {supervisor.pid} has not stopped after {_STOP_SECONDS:.0f} s; its logs: {stack.directory}/logs"
        )
    print("Stopped; the data is kept.")


def status(stack: Stack) -> None:
    """List the processes of the stack. Exits with 1 unless all of them run."""
    entries = record.read(stack.record_file)
    for entry in entries:
        state = "running" if entry.find() is not None else "down"
        print(f"{entry.name:<20} {entry.pid:>8}  {state:<8} {entry.restarts} restarts")
    if not entries:
        print("Nothing runs.")
    sys.exit(not entries or any(entry.find() is None for entry in entries))


def _welcome(stack: Stack) -> str:
    services = "\n".join(f"  {service:<10} {stack.env[f'{service.upper()}_URL']}/docs" for service in SERVICE_PORTS)
    return f"""
Stockflow is up. Ctrl-C stops it; the data stays in {stack.directory}.

{services}

  curl -H "Authorization: Bearer {stack.env["API_KEY"]}" {stack.env["INVENTORY_URL"]}/api/v1/stock-levels

Addresses and key as shell variables: {stack.env_file}
"""


def main() -> None:
    """Read the command line and obey it."""
    parser = argparse.ArgumentParser(prog="python -m deploy.local", description=__doc__)
    parser.add_argument("command", choices=["up", "down", "status"])
    parser.add_argument("--data", type=Path, default=Path(".local/up"), help="where data and logs are kept")
    parser.add_argument("--ports", choices=["default", "auto"], default="default", help="auto: any free ports")
    arguments = parser.parse_args()
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s %(message)s")
    stack = Stack(
        arguments.data,
        ports=arguments.ports,
        env_file=arguments.data.parent / "stack.env",
        processes=processes_for(os.environ),
    )
    if arguments.command == "up":
        try:
            asyncio.run(up(stack))
        except* (StartFailed, AlreadyRunning) as errors:
            sys.exit("\n".join(str(error) for error in _leaves(errors)))
    else:
        {"down": down, "status": status}[arguments.command](stack)


def _leaves(error: BaseException) -> list[BaseException]:
    """The single errors of a group of groups."""
    if isinstance(error, BaseExceptionGroup):
        return [leaf for one in error.exceptions for leaf in _leaves(one)]
    return [error]


if __name__ == "__main__":
    main()
