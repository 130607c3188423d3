"""The HTTP application of a service."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import asyncpg
import structlog
from fastapi import APIRouter, FastAPI
from fastapi.routing import APIRoute
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.types import Lifespan

from libs.chassis import auth, docs, problems
from libs.chassis.openapi import PROBLEM_SCHEMA, document_problems
from libs.chassis.operation import add_routes
from libs.chassis.problems import ConstraintMap, RefusalMap
from libs.chassis.request import RequestMiddleware
from libs.chassis.settings import ServiceSettings

log = structlog.get_logger(__name__)

READINESS_TIMEOUT_SECONDS = 0.5

Readiness = Callable[[FastAPI], Awaitable[dict[str, str]]]
"""Name of a dependency -> "ok" or "degraded: ..." (still ready) or any other text (not ready)."""


class _ServiceApp(FastAPI):
    def openapi(self) -> dict[str, Any]:
        """The OpenAPI document with the problem answers of every operation."""
        document = super().openapi()
        if PROBLEM_SCHEMA not in document.get("components", {}).get("schemas", {}):
            document_problems(document)
        return document


def create_app(
    *,
    title: str,
    description: str,
    settings: ServiceSettings,
    lifespan: Lifespan[FastAPI],
    routers: Sequence[APIRouter],
    refusals: RefusalMap,
    readiness: Readiness,
    constraints: ConstraintMap | None = None,
) -> FastAPI:
    """The application with everything that the services share around the given routers.

    Routers carry their whole prefix, such as `/api/v1/products`. The lifespan opens the pool and puts it in
    `app.state.pool`. Request bodies are `ApiModel` classes.
    """
    app = _ServiceApp(
        title=title,
        description=description,
        version=settings.version,
        lifespan=lifespan,
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,
        generate_unique_id_function=_operation_id,
        # Traces only: metrics are ours (libs.chassis.metrics), and each further signal costs time on every request.
        telemetry={"auto_configure": False, "metrics": False, "logs": False},
    )
    app.state.settings = settings
    app.state.authenticate = auth.authenticator(settings)
    app.add_middleware(RequestMiddleware, root_path=settings.root_path)
    problems.install(app, refusals, constraints or {})
    # Routes are tried in order, so those that are called most stand first.
    for router in routers:
        add_routes(app, router)
    docs.install(app)
    _add_operations_routes(app, title, settings.version, readiness)
    return app


def _operation_id(route: APIRoute) -> str:
    return route.name


def _add_operations_routes(app: FastAPI, title: str, version: str, readiness: Readiness) -> None:
    """Routes for supervisors and Prometheus; they are not part of the API document and need no key."""

    async def healthz(_request: Request) -> Response:
        return JSONResponse({"status": "ok"})

    async def readyz(request: Request) -> Response:
        checks = await _readiness_checks(request.app, readiness)
        ready = all(state == "ok" or state.startswith("degraded") for state in checks.values())
        return JSONResponse({"ready": ready, "checks": checks}, 200 if ready else 503)

    async def metrics(_request: Request) -> Response:
        return Response(generate_latest(), media_type=CONTENT_TYPE_LATEST)

    async def version_of(_request: Request) -> Response:
        return JSONResponse({"service": title, "version": version})

    for path, endpoint in {"/healthz": healthz, "/readyz": readyz, "/metrics": metrics, "/version": version_of}.items():
        app.add_route(path, endpoint, include_in_schema=False)


async def _readiness_checks(app: FastAPI, readiness: Readiness) -> dict[str, str]:
    try:
        async with asyncio.timeout(READINESS_TIMEOUT_SECONDS):
            return await readiness(app)
    except TimeoutError:
        return {"service": f"no answer within {READINESS_TIMEOUT_SECONDS} s"}
    except (OSError, asyncpg.PostgresError, asyncpg.InterfaceError, problems.Problem) as error:
        log.warning("not_ready", error=str(error), error_class=type(error).__name__)
        return {"service": f"unavailable: {type(error).__name__}"}
