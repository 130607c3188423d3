"""`/asyncapi.json`: what a service's topics carry, for those who subscribe. As public as `/openapi.json`."""

import json
from functools import cache

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response

from libs.events import asyncapi

router = APIRouter()


@cache
def _document() -> bytes:
    return json.dumps(asyncapi.document(), ensure_ascii=False).encode()


async def _get_asyncapi(_request: Request) -> Response:
    return Response(_document(), media_type="application/json")


router.add_route("/asyncapi.json", _get_asyncapi, include_in_schema=False)
