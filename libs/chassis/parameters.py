"""What comes before validation: decoded path parameters, and refusals of what no operation documents or can store."""

from dataclasses import dataclass
from typing import Self
from urllib.parse import unquote

from fastapi import params
from fastapi.dependencies.utils import get_flat_params
from fastapi.routing import APIRoute
from starlette.requests import Request

from libs.chassis.problems import Problem, has_body


@dataclass(frozen=True, slots=True)
class Parameters:
    """What an operation documents that it takes."""

    takes_json: bool
    query: frozenset[str]

    @classmethod
    def of(cls, route: APIRoute) -> Self:
        """As FastAPI has found it in the signature."""
        elsewhere = (params.Path, params.Header, params.Cookie)
        fields = get_flat_params(route.dependant)
        return cls(
            takes_json=route.body_field is not None and not isinstance(route.body_field.field_info, params.Form),
            query=frozenset(field.alias for field in fields if not isinstance(field.field_info, elsewhere)),
        )

    def check(self, request: Request) -> None:
        """Raise a `Problem` unless the operation documents this media type and these query parameters.

        Leaves the path parameters decoded: routes match the path as it was sent.
        """
        request.scope["path_params"] = {name: unquote(value) for name, value in request.path_params.items()}
        self._check_media_type(request)
        self._check_query(request)
        for name, value in (*request.path_params.items(), *request.query_params.multi_items()):
            if "\x00" in value:
                error = {"parameter": name, "detail": "Text must not contain NUL characters"}
                raise Problem(422, "validation-failed", f"{name}: text must not contain NUL characters", [error])

    def _check_media_type(self, request: Request) -> None:
        if self.takes_json and not request.scope["is_json"] and has_body(request):
            sent = request.headers.get("content-type", "no media type")
            raise Problem(415, "unsupported-media-type", f"Send the body as application/json, not {sent}.")

    def _check_query(self, request: Request) -> None:
        if unknown := sorted(set(request.query_params) - self.query):
            errors = [{"parameter": name, "detail": "There is no such query parameter"} for name in unknown]
            raise Problem(400, "unknown-parameter", f"There is no query parameter {', '.join(unknown)}.", errors)
