"""How a process starts, answers its supervisor and ends."""

import asyncio
import gc
import signal
import socket
import sys
from collections.abc import Awaitable, Callable, Generator
from contextlib import contextmanager
from typing import TYPE_CHECKING, NoReturn

import structlog
import uvicorn
import uvloop
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from libs.chassis import logging, loop_lag
from libs.chassis.settings import ServiceSettings

if TYPE_CHECKING:
    from fastapi import FastAPI

GRACE_SECONDS = 20
CANCEL_SECONDS = 5
# Objects that outlive the start are never garbage; with CPython's 700 a request pays for walking them (p99 45 ms).
GC_GENERATION_0 = 50_000
# A worker holds a whole batch of events, none of them garbage: walking them at 50,000 costs a seventh of its time.
GC_GENERATION_0_WORKER = 500_000

Main = Callable[[asyncio.Event], Awaitable[None]]
"""The work of a process: returns soon after the event is set."""

Health = Callable[[], str | None]
"""None while the process works, else the reason why it does not."""

log = structlog.get_logger(__name__)


def run(main: Main, *, settings: ServiceSettings, name: str, health: Health | None = None) -> NoReturn:
    """Run a worker until it returns or a signal stops it, with /healthz and /metrics on the ops port.

    Exit code 0 after a clean end, 1 if `main` raised or did not end in time. A second signal kills at once.
    """
    logging.configure(settings.log_format, settings.log_level, process=name)
    sys.exit(uvloop.run(_supervise(main, settings, health or _always_healthy)))


def serve(app: "FastAPI", settings: ServiceSettings, name: str) -> NoReturn:
    """Serve an API until a signal stops it; requests in flight get 20 seconds. Exit code 1 if it could not start."""
    logging.configure(settings.log_format, settings.log_level, process=name)
    for stop_signal in (signal.SIGTERM, signal.SIGINT):
        # uvicorn raises the signal again after its clean shutdown; ignored here, that shutdown exits with 0.
        signal.signal(stop_signal, signal.SIG_IGN)
    server = _ApiServer(
        uvicorn.Config(
            app,
            host=settings.host,
            port=settings.port,
            loop="uvloop",
            http="httptools",
            ws="none",
            lifespan="on",
            log_config=None,
            access_log=False,
            server_header=False,
            timeout_graceful_shutdown=GRACE_SECONDS,
        )
    )
    try:
        server.run()
    except SystemExit as stop:
        log.error("start_failed", uvicorn_exit_code=stop.code)
        sys.exit(1)
    sys.exit(0)


class _ApiServer(uvicorn.Server):
    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        _freeze_garbage_collector(GC_GENERATION_0)

    async def main_loop(self) -> None:
        async with loop_lag.measured():
            await super().main_loop()


class _OpsServer(uvicorn.Server):
    """Runs beside the main work, which owns the signals."""

    @contextmanager
    def capture_signals(self) -> Generator[None]:
        yield


async def _supervise(main: Main, settings: ServiceSettings, health: Health) -> int:
    stop = asyncio.Event()
    _stop_on_signal(stop)
    try:
        listener = socket.create_server((settings.host, settings.ops_port))
        ops_server = _OpsServer(uvicorn.Config(_ops_app(health), log_config=None, access_log=False, ws="none"))
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(ops_server.serve([listener]))
            log.info("started", ops_port=listener.getsockname()[1])
            _freeze_garbage_collector(GC_GENERATION_0_WORKER)
            try:
                async with loop_lag.measured():
                    await _run_until_stopped(main, stop)
            finally:
                ops_server.should_exit = True
    except Exception:
        log.exception("crashed")
        return 1
    log.info("stopped")
    return 0


async def _run_until_stopped(main: Main, stop: asyncio.Event) -> None:
    """Run `main`; once asked to stop, it gets a bounded time before it is cancelled."""
    work = asyncio.ensure_future(main(stop))
    asked = asyncio.create_task(stop.wait())
    try:
        await asyncio.wait({work, asked}, return_when=asyncio.FIRST_COMPLETED)
        await asyncio.wait({work}, timeout=GRACE_SECONDS if asked.done() else None)
    finally:
        asked.cancel()
    if not work.done():
        work.cancel()
        await asyncio.wait({work}, timeout=CANCEL_SECONDS)
        raise TimeoutError(f"the work did not end within {GRACE_SECONDS} s of the stop signal")
    work.result()


def _stop_on_signal(stop: asyncio.Event) -> None:
    loop = asyncio.get_running_loop()

    def on_signal() -> None:
        for stop_signal in (signal.SIGTERM, signal.SIGINT):
            loop.remove_signal_handler(stop_signal)
            signal.signal(stop_signal, signal.SIG_DFL)
        log.info("stopping")
        stop.set()

    for stop_signal in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(stop_signal, on_signal)


def _ops_app(health: Health) -> Starlette:
    async def healthz(_request: Request) -> Response:
        reason = health()
        if reason is None:
            return JSONResponse({"status": "ok"})
        return JSONResponse({"status": "unhealthy", "reason": reason}, 503)

    async def metrics(_request: Request) -> Response:
        return Response(generate_latest(), media_type=CONTENT_TYPE_LATEST)

    return Starlette(routes=[Route("/healthz", healthz), Route("/metrics", metrics)])


def _always_healthy() -> str | None:
    return None


def _freeze_garbage_collector(generation_0: int) -> None:
    gc.collect()
    gc.freeze()
    gc.set_threshold(generation_0, 20, 20)
