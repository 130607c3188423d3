"""Every error answer of every service: RFC 9457 `application/problem+json`."""

import json
from collections.abc import Iterator, Mapping, Sequence
from http import HTTPStatus
from typing import Any

import asyncpg
import structlog
from fastapi import FastAPI
from fastapi.exceptions import RequestValidationError
from fastapi.routing import iter_route_contexts
from pydantic import BaseModel, Field
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

RefusalMap = Mapping[type[Exception], tuple[int, str]]
"""Rule error -> (status, code). The detail is the error's own text."""

ConstraintMap = Mapping[str, tuple[int, str, str]]
"""Database constraint name -> (status, code, detail)."""

MEDIA_TYPE = "application/problem+json"

log = structlog.get_logger(__name__)


class Problem(HTTPException):
    """An error whose answer is known where it is raised: status, stable code, text for people.

    An HTTPException, because FastAPI answers 400 for any other one that ends the reading of a body.
    """

    def __init__(
        self,
        status: int,
        code: str,
        detail: str,
        errors: Sequence[Mapping[str, Any]] = (),
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(status, detail, headers)
        self.code = code
        self.errors = errors


class ProblemError(BaseModel):
    """One thing that is wrong with the request."""

    detail: str
    pointer: str | None = Field(default=None, description="JSON Pointer into the request body.")
    parameter: str | None = Field(default=None, description="Name of the path or query parameter or header.")


class ProblemBody(BaseModel):
    """What every error answers, as in RFC 9457."""

    type: str = Field(description="URN of the kind of problem.")
    title: str = Field(description="The reason phrase of the status.")
    status: int
    detail: str = Field(description="What happened, with the numbers.")
    code: str = Field(description="Stable name for programs, such as validation-failed.")
    trace_id: str = Field(
        serialization_alias="traceId", description="The request's id, as in X-Request-ID and the logs."
    )
    errors: list[ProblemError] = Field(description="Every fault that was found, when there are several.")


def problem_response(request: Request, problem: Problem) -> Response:
    """The problem as `application/problem+json`; traceId is the id of the request."""
    body = {
        "type": f"urn:stockflow:problem:{problem.code}",
        "title": HTTPStatus(problem.status_code).phrase,
        "status": problem.status_code,
        "detail": problem.detail,
        "code": problem.code,
        "traceId": request.scope.get("request_id", ""),
        "errors": list(problem.errors),
    }
    content = json.dumps(body, default=str)
    return Response(content, problem.status_code, dict(problem.headers or {}), MEDIA_TYPE)


def install(app: FastAPI, refusals: RefusalMap, constraints: ConstraintMap) -> None:
    """Answer each foreseen exception with its problem. The request middleware answers the others with 500."""

    async def on_refusal(request: Request, error: Exception) -> Response:
        status, code = next(refusals[kind] for kind in type(error).__mro__ if kind in refusals)
        return problem_response(request, _refusal_problem(error, status, code))

    async def on_constraint(request: Request, error: Exception) -> Response:
        assert isinstance(error, asyncpg.IntegrityConstraintViolationError)
        answer = constraints.get(error.constraint_name or "")
        if answer is None:
            raise error
        return problem_response(request, Problem(*answer))

    for refusal in refusals:
        app.add_exception_handler(refusal, on_refusal)
    app.add_exception_handler(asyncpg.IntegrityConstraintViolationError, on_constraint)
    app.add_exception_handler(Problem, _on_problem)
    app.add_exception_handler(RequestValidationError, _on_validation_error)
    app.add_exception_handler(HTTPException, _on_http_exception)
    app.add_exception_handler(asyncpg.DataError, _on_data_error)
    for lost in (
        asyncpg.PostgresConnectionError,
        asyncpg.OperatorInterventionError,
        asyncpg.InsufficientResourcesError,
    ):
        app.add_exception_handler(lost, _on_database_lost)
    for busy in (asyncpg.LockNotAvailableError, asyncpg.QueryCanceledError):
        app.add_exception_handler(busy, _on_lock_timeout)
    for conflict in (asyncpg.SerializationError, asyncpg.DeadlockDetectedError):
        app.add_exception_handler(conflict, _on_conflict)


def unavailable(code: str, detail: str) -> Problem:
    """A 503 that invites a repeat: nothing was changed."""
    return Problem(503, code, detail, headers={"Retry-After": "1"})


def database_unavailable() -> Problem:
    """The answer while Postgres is down or restarting."""
    return unavailable("database-unavailable", "The database does not answer now. Try again.")


def _refusal_problem(error: Exception, status: int, code: str) -> Problem:
    retry_after = getattr(error, "retry_after_seconds", None)
    headers = None if retry_after is None else {"Retry-After": str(retry_after)}
    return Problem(status, code, str(error), getattr(error, "errors", ()), headers)


async def _on_problem(request: Request, error: Exception) -> Response:
    assert isinstance(error, Problem)
    return problem_response(request, error)


async def _on_lock_timeout(request: Request, _error: Exception) -> Response:
    return problem_response(
        request, unavailable("lock-timeout", "Others hold the rows; nothing was changed. Try again.")
    )


async def _on_conflict(request: Request, _error: Exception) -> Response:
    return problem_response(
        request, unavailable("transaction-conflict", "A concurrent change won; nothing was changed. Try again.")
    )


async def _on_database_lost(request: Request, error: Exception) -> Response:
    log.warning("database_lost", error=str(error), error_class=type(error).__name__)
    return problem_response(request, database_unavailable())


async def _on_data_error(request: Request, error: Exception) -> Response:
    """Values of the right type that the database cannot hold, such as a quantity beyond the range of its column.

    Where the caller sent no values, they are ours and a bug.
    """
    if not (has_body(request) or request.url.query):
        raise error
    log.warning("database_refused_value", error=str(error))
    return problem_response(request, Problem(422, "value-out-of-range", "A value is outside what can be stored."))


def has_body(request: Request) -> bool:
    """Whether the caller sent a body, as far as the headers tell."""
    return request.headers.get("content-length", "0") != "0" or "transfer-encoding" in request.headers


async def _on_http_exception(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    headers = dict(error.headers or {})
    if error.status_code == 405:
        headers["Allow"] = ", ".join(sorted(_allowed_methods(request)))
    code = HTTPStatus(error.status_code).phrase.lower().replace(" ", "-")
    detail = _HTTP_DETAILS.get(error.status_code, str(error.detail))
    problem = Problem(error.status_code, code, detail.format(method=request.method, path=request.url.path), (), headers)
    return problem_response(request, problem)


_HTTP_DETAILS = {404: "There is nothing at {path}.", 405: "{path} does not answer {method}."}


def _allowed_methods(request: Request) -> set[str]:
    """The methods of every route of this path: the router only names those of the first."""
    path = request.scope["path"].removeprefix(request.scope.get("root_path", ""))
    return {
        method
        for route in iter_route_contexts(request.app.routes)
        if route.methods and route.path_regex.match(path)
        for method in route.methods
    }


async def _on_validation_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)
    faults = error.errors()
    for fault in faults:
        if fault["type"] == "json_invalid":
            reason = fault["ctx"]["error"]
            return problem_response(request, Problem(400, "malformed-json", f"The body is not valid JSON: {reason}."))
    document = json.loads(error.body) if isinstance(error.body, bytes) else error.body
    errors = [_error_entry(fault, document) for fault in faults]
    first = errors[0]
    where = first.get("pointer") or first.get("parameter") or "the body"
    detail = f"{where}: {first['detail']}" + (f" (and {len(errors) - 1} more)" if len(errors) > 1 else "")
    return problem_response(request, Problem(422, "validation-failed", detail, errors))


def _error_entry(fault: Mapping[str, Any], document: Any) -> dict[str, str]:
    source, *loc = fault["loc"]
    # pydantic puts "Value error, " before the text of a validator of ours.
    detail = str(fault["ctx"]["error"]) if fault["type"] == "value_error" else fault["msg"]
    if source == "body":
        return {"pointer": _pointer(loc, document), "detail": detail}
    return {"parameter": ".".join(map(str, loc)), "detail": detail}


def _pointer(loc: Sequence[str | int], document: Any) -> str:
    """The RFC 6901 pointer to a fault, without the names of union members that pydantic puts into its path."""
    return "".join("/" + str(step).replace("~", "~0").replace("/", "~1") for step in _steps(loc, document))


def _steps(loc: Sequence[str | int], document: Any) -> Iterator[str | int]:
    for position, step in enumerate(loc):
        try:
            document = document[step]
        except (KeyError, IndexError, TypeError):
            is_missing_field = position == len(loc) - 1 and isinstance(document, dict)
            if not is_missing_field:
                continue
        yield step
