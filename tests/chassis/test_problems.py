"""Every way to ask badly gets a problem that tells what is wrong."""

from typing import Any
from uuid import uuid4

import httpx
import pytest

DOCUMENT = {"documentId": "7f1f1a2e-9d0e-4a7e-8f6e-2b9f3a4c5d6e", "lines": [{"quantityChange": 1}]}


def problem(response: httpx.Response, status: int, code: str) -> dict[str, Any]:
    """The problem in a response, after checks that hold for every one."""
    assert response.headers["content-type"] == "application/problem+json"
    body: dict[str, Any] = response.json()
    assert (response.status_code, body["status"], body["code"]) == (status, status, code), body
    assert body["type"] == f"urn:stockflow:problem:{code}"
    assert body["traceId"] == response.headers["x-request-id"]
    assert body["title"]
    assert body["detail"]
    assert isinstance(body["errors"], list)
    return body


async def test_a_valid_document_is_accepted_with_types_that_json_spells_as_strings(client: httpx.AsyncClient) -> None:
    body = DOCUMENT | {"occurredAt": "2026-07-01T12:00:00Z", "unitCost": "12.50"}
    response = await client.post("/api/v1/documents", json=body)
    assert response.status_code == 201, response.text
    assert response.json() == {"documentId": DOCUMENT["documentId"], "lineCount": 1}


@pytest.mark.parametrize(
    "body",
    [
        b"{",
        b"{'documentId': 1}",
        b'{"documentId": "\xff"}',
        b'{"documentId": "\x00"}',
        b'{"documentId": "\\ud800"}',
        b"[" * 100_000,
        b'{"a":' * 100_000,
        b"\xef\xbb\xbf{}",
        b"not json",
        b'{"documentId": 1} x',
    ],
)
async def test_malformed_json_is_400(client: httpx.AsyncClient, body: bytes) -> None:
    response = await client.post("/api/v1/documents", content=body, headers={"Content-Type": "application/json"})
    problem(response, 400, "malformed-json")


@pytest.mark.parametrize(
    ("change", "pointer"),
    [
        ({"documentId": "x"}, "/documentId"),
        ({"documentId": None}, "/documentId"),
        ({"lines": [{"quantityChange": 1}, {"quantityChange": False}]}, "/lines/1/quantityChange"),
        ({"lines": [{"quantityChange": "5"}]}, "/lines/0/quantityChange"),
        ({"lines": [{"quantityChange": 5.0}]}, "/lines/0/quantityChange"),
        ({"lines": [{}]}, "/lines/0/quantityChange"),
        ({"lines": [{"quantity_change": 5}]}, "/lines/0/quantity_change"),
        ({"lines": [{"quantityChange": 2**63}]}, "/lines/0/quantityChange"),
        ({"lines": [{"quantityChange": 10**400}]}, "/lines/0/quantityChange"),
        ({"lines": [{"quantityChange": 1, "notes": "a\x00b"}]}, "/lines/0/notes"),
        ({"lines": {"0": 1}}, "/lines"),
        ({"un/known~": 1}, "/un~1known~0"),
        ({"packages": [{"kind": "box", "quantityChange": "x"}]}, "/packages/0/quantityChange"),
        ({"packages": [{"kind": "crate"}]}, "/packages/0/crateNumber"),
        ({"packages": [{"kind": "bag"}]}, "/packages/0"),
        ({"occurredAt": "yesterday"}, "/occurredAt"),
    ],
)
async def test_wrong_values_are_422_with_a_pointer(
    client: httpx.AsyncClient, change: dict[str, Any], pointer: str
) -> None:
    response = await client.post("/api/v1/documents", json=DOCUMENT | change)
    body = problem(response, 422, "validation-failed")
    assert pointer in [error["pointer"] for error in body["errors"]], body


async def test_every_fault_is_reported_at_once(client: httpx.AsyncClient) -> None:
    lines = [{"quantityChange": "x"}] * 3
    response = await client.post("/api/v1/documents", json=DOCUMENT | {"lines": lines})
    body = problem(response, 422, "validation-failed")
    assert [error["pointer"] for error in body["errors"]] == [f"/lines/{n}/quantityChange" for n in range(3)]
    assert body["detail"].endswith("(and 2 more)")


@pytest.mark.parametrize("content", [b"", b"null", b"[]", b'"x"', b"1"])
async def test_a_body_that_is_no_object_is_422(client: httpx.AsyncClient, content: bytes) -> None:
    response = await client.post("/api/v1/documents", content=content, headers={"Content-Type": "application/json"})
    problem(response, 422, "validation-failed")


@pytest.mark.parametrize("media_type", ["text/plain", "application/x-www-form-urlencoded", "application/jsonx", None])
async def test_another_media_type_is_415(client: httpx.AsyncClient, media_type: str | None) -> None:
    headers = {} if media_type is None else {"Content-Type": media_type}
    response = await client.post("/api/v1/documents", content=b'{"documentId": 1}', headers=headers)
    problem(response, 415, "unsupported-media-type")


@pytest.mark.parametrize("media_type", ["application/json; charset=utf-8", "Application/JSON", "application/a.b+json"])
async def test_json_media_types_are_taken(client: httpx.AsyncClient, media_type: str) -> None:
    content = b'{"documentId": "7f1f1a2e-9d0e-4a7e-8f6e-2b9f3a4c5d6e"}'
    response = await client.post("/api/v1/documents", content=content, headers={"Content-Type": media_type})
    assert response.status_code == 201, response.text


async def test_a_route_that_reads_the_raw_body_takes_any_media_type(client: httpx.AsyncClient) -> None:
    response = await client.post("/api/v1/uploads", content=b"a,b", headers={"Content-Type": "text/csv"})
    assert response.json() == {"bytes": 3}


async def test_an_unknown_query_parameter_is_400(client: httpx.AsyncClient) -> None:
    response = await client.get(f"/api/v1/documents/{uuid4()}", params={"depth": 1, "dept": 2})
    assert problem(response, 400, "unknown-parameter")["errors"] == [
        {"parameter": "dept", "detail": "There is no such query parameter"}
    ]


@pytest.mark.parametrize("depth", ["x", "-1", "1.5", ""])
async def test_a_bad_query_parameter_is_422(client: httpx.AsyncClient, depth: str) -> None:
    response = await client.get(f"/api/v1/documents/{uuid4()}", params={"depth": depth})
    assert problem(response, 422, "validation-failed")["errors"][0]["parameter"] == "depth"


async def test_a_bad_path_parameter_is_422(client: httpx.AsyncClient) -> None:
    response = await client.get("/api/v1/documents/12")
    assert problem(response, 422, "validation-failed")["errors"][0]["parameter"] == "document_id"


async def test_a_nul_character_in_a_path_or_query_is_422(client: httpx.AsyncClient) -> None:
    problem(await client.get("/api/v1/things/a%00b"), 422, "validation-failed")


async def test_an_unknown_path_is_404(client: httpx.AsyncClient) -> None:
    assert "/nothing" in problem(await client.get("/nothing"), 404, "not-found")["detail"]


async def test_another_method_is_405_with_every_allowed_method(client: httpx.AsyncClient) -> None:
    response = await client.delete("/api/v1/things/a")
    problem(response, 405, "method-not-allowed")
    assert response.headers["allow"] == "GET, PUT"


async def test_a_rule_error_becomes_the_status_of_its_class(client: httpx.AsyncClient) -> None:
    response = await client.post("/api/v1/refusals")
    body = problem(response, 409, "insufficient-stock")
    assert body["detail"] == "LAPTOP-001 in BERLIN-1: 1 available, 2 asked"
    assert body["errors"] == [{"pointer": "/lines/0", "detail": "1 available, 2 asked"}]
    assert response.headers["retry-after"] == "7"


async def test_a_bug_is_500_and_tells_nothing(client: httpx.AsyncClient) -> None:
    response = await client.post("/api/v1/bugs")
    problem(response, 500, "internal-error")
    assert "secret" not in response.text


async def test_a_body_over_one_mebibyte_is_413(client: httpx.AsyncClient) -> None:
    headers = {"Content-Type": "application/json"}
    problem(
        await client.post("/api/v1/documents", content=b"x" * (2**20 + 1), headers=headers), 413, "content-too-large"
    )
    problem(await client.post("/api/v1/documents", content=b"x" * 2**20, headers=headers), 400, "malformed-json")


async def test_a_valid_request_id_is_kept(client: httpx.AsyncClient) -> None:
    response = await client.get("/nothing", headers={"X-Request-ID": "abc-123"})
    assert problem(response, 404, "not-found")["traceId"] == "abc-123"


@pytest.mark.parametrize("request_id", ["a b", "x" * 129, "a\tb", "é", ""])
async def test_an_invalid_request_id_is_replaced(client: httpx.AsyncClient, request_id: str) -> None:
    response = await client.get("/healthz", headers={b"X-Request-ID": request_id.encode()})
    assert len(response.headers["x-request-id"]) == 32


async def test_security_headers_are_on_every_answer(client: httpx.AsyncClient) -> None:
    for response in [await client.get("/healthz"), await client.get("/nothing"), await client.post("/api/v1/bugs")]:
        assert response.headers["x-content-type-options"] == "nosniff"
        assert response.headers["content-security-policy"].startswith("default-src 'self'")


@pytest.mark.parametrize(
    ("if_match", "status", "code"),
    [(None, 428, "precondition-required"), ('"2"', 412, "precondition-failed"), ('W/"3"', 412, "precondition-failed")],
)
async def test_an_edit_needs_the_current_version(
    client: httpx.AsyncClient, if_match: str | None, status: int, code: str
) -> None:
    headers = {} if if_match is None else {"If-Match": if_match}
    problem(await client.put("/api/v1/things/a", headers=headers), status, code)


@pytest.mark.parametrize("if_match", ['"3"', "*", '"1", "3"'])
async def test_an_edit_of_the_current_version_passes(client: httpx.AsyncClient, if_match: str) -> None:
    assert (await client.put("/api/v1/things/a", headers={"If-Match": if_match})).status_code == 200


async def test_an_operation_that_answers_itself_gets_checked_parameters_and_defaults(client: httpx.AsyncClient) -> None:
    assert (await client.get("/api/v1/labels/7?size=2")).text == "7 2 1 anonymous"
    assert (await client.get("/api/v1/labels/7?size=2&copies=3")).text == "7 2 3 anonymous"
    faults = problem(await client.get("/api/v1/labels/x?copies=0"), 422, "validation-failed")["errors"]
    assert [fault["parameter"] for fault in faults] == ["number", "size", "copies"]
    problem(await client.get("/api/v1/labels/7"), 422, "validation-failed")
    problem(await client.get("/api/v1/labels/7?size=2&colour=red"), 400, "unknown-parameter")
