"""What happens around every HTTP request: its id, size limit, headers, metrics, access log and the answer to a bug."""

import os
import re
import time
from asyncio import timeout
from collections.abc import Mapping
from contextlib import suppress
from urllib.parse import quote, unquote

import structlog
from starlette.requests import Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from libs.chassis.metrics import REQUEST_SECONDS
from libs.chassis.problems import Problem, problem_response

MAX_BODY_BYTES = 1024 * 1024
DRAIN_BYTES = 4 * 1024 * 1024
DRAIN_SECONDS = 1.0
_REQUEST_ID = re.compile(r"[A-Za-z0-9._:-]{1,128}")
_JSON = re.compile(rb"application/(json|[a-z0-9.-]+\+json)\s*(;.*)?", re.IGNORECASE)

_CONTENT_SECURITY_POLICY = (
    b"content-security-policy",
    b"default-src 'self'; frame-ancestors 'none'; base-uri 'none'; form-action 'self'",
)
_SECURITY_HEADERS = (
    (b"x-content-type-options", b"nosniff"),
    (b"x-frame-options", b"DENY"),
    (b"referrer-policy", b"no-referrer"),
    (b"cross-origin-opener-policy", b"same-origin"),
)

log = structlog.get_logger(__name__)


class RequestMiddleware:
    """The outermost layer of an application, as plain ASGI because it runs on every request."""

    def __init__(self, app: ASGIApp, root_path: str = "") -> None:
        self.app = app
        self._root_path = root_path

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        scope["path"] = _encoded_path(scope)
        if self._root_path and scope["path"].startswith(f"{self._root_path}/"):
            # Routing takes it off the path, and FastAPI names it in the API document.
            scope["root_path"] = self._root_path
        exchange = _Exchange(scope, receive, send)
        # uvicorn gives each request a task, and with it a context, of its own.
        structlog.contextvars.bind_contextvars(request_id=exchange.request_id)
        try:
            await self._answer(exchange)
        finally:
            exchange.record()

    async def _answer(self, exchange: "_Exchange") -> None:
        scope = exchange.scope
        try:
            await exchange.refuse_announced_size()
            await self.app(scope, exchange.receive, exchange.send)
        except Problem as problem:
            await problem_response(Request(scope), problem)(scope, exchange.receive, exchange.send)
        except Exception:
            log.exception("request_failed", method=scope["method"], path=scope["path"])
            if exchange.status is not None:
                raise
            bug = Problem(500, "internal-error", "Something went wrong on our side; it has been logged.")
            await problem_response(Request(scope), bug)(scope, exchange.receive, exchange.send)


class _Exchange:
    """One request and its answer."""

    def __init__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self.scope = scope
        self.status: int | None = None
        self._receive = receive
        self._send = send
        self._received_bytes = 0
        self._started_at = time.perf_counter()
        headers = dict(scope["headers"])
        self._announced_bytes = int(headers.get(b"content-length", b"0"))
        self._waits_to_send = headers.get(b"expect", b"").lower() == b"100-continue"
        # An application may take longer bodies on some paths: those that it streams to a file.
        path = scope["path"].removeprefix(scope.get("root_path", ""))
        self._most_bytes = getattr(scope["app"].state, "body_limits", {}).get(path, MAX_BODY_BYTES)
        self.request_id = _valid_or_new(headers.get(b"x-request-id", b"").decode("latin-1"))
        scope["request_id"] = self.request_id
        _leave_json_to_the_models(scope, headers)

    async def refuse_announced_size(self) -> None:
        if self._announced_bytes > self._most_bytes:
            await self._drain()
            raise _too_large(self._most_bytes)

    async def receive(self) -> Message:
        message = await self._receive()
        if message["type"] == "http.request":
            self._received_bytes += len(message.get("body", b""))
            if self._received_bytes > self._most_bytes:
                await self._drain()
                raise _too_large(self._most_bytes)
        return message

    async def _drain(self) -> None:
        """Take in more of a body that is refused, within bounds: a caller who is cut off while sending sees no answer.

        One who waits for `100 Continue` sends nothing before the answer.
        """
        if self._waits_to_send:
            return
        drained_bytes, more_body = 0, True
        with suppress(TimeoutError):
            async with timeout(DRAIN_SECONDS):
                while more_body and drained_bytes < DRAIN_BYTES:
                    message = await self._receive()
                    drained_bytes += len(message.get("body", b""))
                    more_body = message.get("more_body", False)

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.status = message["status"]
            headers = [*message["headers"], (b"x-request-id", self.request_id.encode()), *_SECURITY_HEADERS]
            if all(name != _CONTENT_SECURITY_POLICY[0] for name, _ in message["headers"]):
                headers.append(_CONTENT_SECURITY_POLICY)
            message = {**message, "headers": headers}
        await self._send(message)

    def record(self) -> None:
        seconds = time.perf_counter() - self._started_at
        route = getattr(self.scope.get("route"), "path", "unmatched")
        method, status = self.scope["method"], self.status or 499
        REQUEST_SECONDS.labels(method, route, status).observe(seconds)
        log.info(
            "http_request", method=method, path=self.scope["path"], status=status, milliseconds=round(seconds * 1000, 2)
        )


def _encoded_path(scope: Scope) -> str:
    """The path with its percent-encoding, in one spelling: `%2F` is a slash inside a segment and separates nothing.

    Routes match this path; `Parameters.check` decodes the parameters that they find in it.
    """
    raw_path: str = scope["raw_path"].decode("ascii")
    if "%" not in raw_path:
        return raw_path
    return "/".join(quote(unquote(segment), safe="") for segment in raw_path.split("/"))


def _valid_or_new(request_id: str) -> str:
    return request_id if _REQUEST_ID.fullmatch(request_id) else os.urandom(16).hex()


def _leave_json_to_the_models(scope: Scope, headers: Mapping[bytes, bytes]) -> None:
    """Hide a JSON media type from FastAPI, which then hands the body to its `ApiModel` as bytes, unparsed.

    pydantic's own parser is faster, and in strict mode only JSON input may hold UUIDs and instants as strings.
    """
    scope["is_json"] = _JSON.fullmatch(headers.get(b"content-type", b"")) is not None
    if scope["is_json"]:
        scope["headers"] = [header for header in scope["headers"] if header[0] != b"content-type"]


def _too_large(most_bytes: int) -> Problem:
    return Problem(413, "content-too-large", f"A body may hold at most {most_bytes} bytes.")
