"""An operation of an API: who calls, and what was sent, is checked before FastAPI looks at the request."""

from collections.abc import Callable, Coroutine
from inspect import iscoroutinefunction, signature
from typing import Any

from fastapi import APIRouter, FastAPI
from fastapi.routing import APIRoute
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from libs.chassis.arguments import Arguments
from libs.chassis.auth import authorize, needed_scopes
from libs.chassis.parameters import Parameters

Answer = Callable[[Request], Coroutine[Any, Any, Response]]


class Operation(APIRoute):
    """A route that refuses strangers first, and then what it does not document.

    Not as dependencies of FastAPI, each of which costs a request several times what it does.
    """

    def get_route_handler(self) -> Answer:
        """What answers a request of this operation."""
        answer = self._direct_answer() or super().get_route_handler()
        needed = needed_scopes(self.dependant)
        parameters = Parameters.of(self)

        async def checked(request: Request) -> Response:
            authorize(request, needed)
            parameters.check(request)
            return await answer(request)

        return checked

    def _direct_answer(self) -> Answer | None:
        """The function's own answer, if it makes a whole one and takes parameters only: nothing is left for FastAPI."""
        arguments = Arguments.of(self.dependant)
        answers_itself = iscoroutinefunction(self.endpoint) and signature(self.endpoint).return_annotation is Response
        if arguments is None or not answers_itself:
            return None

        async def answer(request: Request) -> Response:
            response: Response = await self.endpoint(**arguments.read(request))
            return response

        return answer


_OPTIONS = signature(FastAPI.add_api_route).parameters.keys() - {
    "self",
    "path",
    "endpoint",
    "generate_unique_id_function",
}


def add_routes(app: FastAPI, router: APIRouter) -> None:
    """Let the application answer the router's routes itself: an included router is asked twice for every request."""
    app.router.route_class = Operation
    for route in router.routes:
        if isinstance(route, APIRoute):
            app.add_api_route(route.path, route.endpoint, **{option: getattr(route, option) for option in _OPTIONS})
        elif type(route) is Route:
            app.router.routes.append(route)
        else:
            raise TypeError(f"{route} would be answered unchecked: give the application each router by itself")
