"""The arguments of operations that take parameters and the caller only, without FastAPI's search for them.

FastAPI walks through the dependencies and fields of an operation on every request; the checks are the same.
"""

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self

from fastapi.dependencies.models import Dependant
from fastapi.dependencies.utils import request_params_to_args
from fastapi.exceptions import RequestValidationError
from starlette.requests import Request

from libs.chassis.auth import CALLER


@dataclass(frozen=True, slots=True)
class Arguments:
    """What the function of an operation is called with."""

    of_path: Sequence[Any]
    of_query: Sequence[Any]
    defaults: Mapping[str, Any]
    request: str | None
    principals: Sequence[str]

    @classmethod
    def of(cls, dependant: Dependant) -> Self | None:
        """None for a function that takes anything else, for which FastAPI has to look."""
        others = (dependant.header_params, dependant.cookie_params, dependant.body_params)
        named = (
            dependant.response_param_name,
            dependant.background_tasks_param_name,
            dependant.http_connection_param_name,
            dependant.security_scopes_param_name,
        )
        dependencies = dependant.dependencies
        if any(others) or any(named) or any(dependency.call is not CALLER for dependency in dependencies):
            return None
        defaults = {field.name: field.default for field in dependant.query_params if not field.field_info.is_required()}
        if not all(isinstance(default, Hashable) for default in defaults.values()):
            return None  # Shared by all requests, it must not be something that a request can change.
        return cls(
            of_path=dependant.path_params,
            of_query=dependant.query_params,
            defaults=defaults,
            request=dependant.request_param_name,
            principals=[dependency.name for dependency in dependencies if dependency.name],
        )

    def read(self, request: Request) -> dict[str, Any]:
        """The arguments by name. Raises a `RequestValidationError` with every fault of the parameters."""
        query = request.query_params
        to_check = self.of_query if query else [field for field in self.of_query if field.name not in self.defaults]
        path_values, path_errors = request_params_to_args(self.of_path, request.path_params)
        query_values, query_errors = request_params_to_args(to_check, query)
        if errors := [*path_errors, *query_errors]:
            raise RequestValidationError(errors)
        values = {**self.defaults, **path_values, **query_values}
        if self.request is not None:
            values[self.request] = request
        for name in self.principals:
            values[name] = request.state.principal
        return values
