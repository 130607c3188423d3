"""What comes before validation: decoded path parameters, and refusals of what no operation documents or can store."""

from collections.abc import Callable
from typing import Any
from urllib.parse import unquote
from weakref import WeakKeyDictionary

from fastapi import params
from fastapi.dependencies.utils import get_flat_params
from fastapi.routing import APIRoute
from starlette.requests import Request

from libs.chassis.problems import Problem, has_body

_known_parameters: WeakKeyDictionary[Callable[..., Any], frozenset[str]] = WeakKeyDictionary()


async def check_request(request: Request) -> None:
    """Raise a `Problem` unless the operation documents this media type and these query parameters.

    Leaves the path parameters decoded: routes match the path as it was sent.
    """
    route: APIRoute = request.scope["route"]
    request.scope["path_params"] = {name: unquote(value) for name, value in request.path_params.items()}
    _check_media_type(request, route)
    _check_query(request, route)
    for name, value in (*request.path_params.items(), *request.query_params.multi_items()):
        if "\x00" in value:
            error = {"parameter": name, "detail": "Text must not contain NUL characters"}
            raise Problem(422, "validation-failed", f"{name}: text must not contain NUL characters", [error])


def _check_media_type(request: Request, route: APIRoute) -> None:
    if not _takes_json(route) or request.scope["is_json"]:
        return
    if has_body(request):
        sent = request.headers.get("content-type", "no media type")
        raise Problem(415, "unsupported-media-type", f"Send the body as application/json, not {sent}.")


def _takes_json(route: APIRoute) -> bool:
    return route.body_field is not None and not isinstance(route.body_field.field_info, params.Form)


def _check_query(request: Request, route: APIRoute) -> None:
    if unknown := sorted(set(request.query_params) - _query_parameters(route)):
        errors = [{"parameter": name, "detail": "There is no such query parameter"} for name in unknown]
        raise Problem(400, "unknown-parameter", f"There is no query parameter {', '.join(unknown)}.", errors)


def _query_parameters(route: APIRoute) -> frozenset[str]:
    # Looking through all dependencies is too slow for each request.
    known = _known_parameters.get(route.endpoint)
    if known is None:
        fields = get_flat_params(route.dependant)
        elsewhere = (params.Path, params.Header, params.Cookie)
        known = frozenset(field.alias for field in fields if not isinstance(field.field_info, elsewhere))
        _known_parameters[route.endpoint] = known
    return known
