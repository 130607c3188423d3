"""The OpenAPI document: what FastAPI derives, plus the problem answers that every operation shares."""

from collections.abc import Iterator
from typing import Any

from libs.chassis.problems import MEDIA_TYPE, ProblemBody

PROBLEM_SCHEMA = "Problem"
_ALWAYS = {
    400: "Malformed request, or a query parameter that does not exist",
    422: "Understood, but refused: see errors",
    500: "A bug on our side; it has been logged under traceId",
    503: "Busy; nothing was changed. Repeat after Retry-After seconds",
}
_WITH_SECURITY = {401: "No valid API key", 403: "The API key lacks the scope"}
_WITH_PATH_PARAMETERS = {404: "It does not exist"}
_WITH_BODY = {413: "The body is larger than 1 MiB", 415: "The body is not application/json"}


def document_problems(document: dict[str, Any]) -> None:
    """Add to each operation the problems it can answer and the scope it needs."""
    schemas = document.setdefault("components", {}).setdefault("schemas", {})
    for unused in ("HTTPValidationError", "ValidationError"):
        schemas.pop(unused, None)
    schema = ProblemBody.model_json_schema(mode="serialization", ref_template="#/components/schemas/{model}")
    schemas.update(schema.pop("$defs"))
    schemas[PROBLEM_SCHEMA] = schema | {"title": PROBLEM_SCHEMA}
    for operation in _operations(document):
        _document_problems_of(operation)
        _document_scopes_of(operation)


def _operations(document: dict[str, Any]) -> Iterator[dict[str, Any]]:
    for path_item in document.get("paths", {}).values():
        yield from path_item.values()


def _document_problems_of(operation: dict[str, Any]) -> None:
    possible = dict(_ALWAYS)
    if "security" in operation:
        possible |= _WITH_SECURITY
    if any(parameter["in"] == "path" for parameter in operation.get("parameters", ())):
        possible |= _WITH_PATH_PARAMETERS
    if "requestBody" in operation:
        possible |= _WITH_BODY
    responses = operation["responses"]
    for status, description in sorted(possible.items()):
        stated = responses.get(str(status), {}).get("description", "Validation Error")
        responses[str(status)] = {
            "description": description if stated == "Validation Error" else stated,
            "content": {MEDIA_TYPE: {"schema": {"$ref": f"#/components/schemas/{PROBLEM_SCHEMA}"}}},
        }


def _document_scopes_of(operation: dict[str, Any]) -> None:
    scopes = sorted(
        {scope for option in operation.get("security", ()) for needed in option.values() for scope in needed}
    )
    if scopes:
        text = "Needs the scope " + " and ".join(f"`{scope}`" for scope in scopes) + "."
        operation["description"] = "\n\n".join(filter(None, [operation.get("description"), text]))
