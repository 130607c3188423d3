"""The API document, the docs page and the routes for supervisors."""

import re
from pathlib import Path
from typing import Any

import httpx
import pytest

from libs.chassis import docs


@pytest.fixture
async def document(client: httpx.AsyncClient) -> dict[str, Any]:
    """The OpenAPI document."""
    body: dict[str, Any] = (await client.get("/openapi.json")).json()
    return body


def operations(document: dict[str, Any]) -> list[dict[str, Any]]:
    """Every operation of the document."""
    return [operation for path in document["paths"].values() for operation in path.values()]


def test_operation_ids_are_the_names_of_the_functions(document: dict[str, Any]) -> None:
    assert document["paths"]["/api/v1/documents"]["post"]["operationId"] == "post_document"


def test_every_operation_documents_its_problems(document: dict[str, Any]) -> None:
    for operation in operations(document):
        for status in ("400", "422", "500", "503"):
            assert list(operation["responses"][status]["content"]) == ["application/problem+json"], operation
    post = document["paths"]["/api/v1/documents"]["post"]["responses"]
    assert {"201", "400", "401", "403", "413", "415", "422", "500", "503"} == set(post)


def test_the_problem_schema_has_the_fields_of_a_problem(document: dict[str, Any]) -> None:
    schemas = document["components"]["schemas"]
    assert set(schemas["Problem"]["properties"]) == {"type", "title", "status", "detail", "code", "traceId", "errors"}
    assert "HTTPValidationError" not in schemas


def test_every_reference_leads_somewhere(document: dict[str, Any]) -> None:
    references = set(re.findall(r"'#/components/schemas/([^']+)'", str(document)))
    assert references <= set(document["components"]["schemas"])


def test_scopes_are_documented(document: dict[str, Any]) -> None:
    post = document["paths"]["/api/v1/documents"]["post"]
    assert post["security"] == [{"bearer": ["example:write"]}]
    assert "Needs the scope `example:write`." in post["description"]
    assert document["components"]["securitySchemes"]["bearer"]["scheme"] == "bearer"


def test_strict_bodies_are_documented_in_camel_case(document: dict[str, Any]) -> None:
    schema = document["components"]["schemas"]["DocumentIn"]
    assert schema["additionalProperties"] is False
    assert "documentId" in schema["properties"]


async def test_the_docs_page_loads_only_our_own_files(client: httpx.AsyncClient) -> None:
    page = await client.get("/docs")
    assert "Example &lt;service&gt;" in page.text
    files = re.findall(r'(?:src|href)="([^"]+)"', page.text)
    assert len(files) == 4
    for file in files:
        assert (await client.get(f"/{file}")).status_code == 200
    assert "<script>" not in page.text
    assert "script-src" not in page.headers["content-security-policy"]
    assert "unsafe-inline" not in page.headers["content-security-policy"].split("style-src")[0]


def test_vendored_files_are_unchanged() -> None:
    import hashlib

    static = Path(docs.__file__).parent / "static"
    for line in (static / "SHA256SUMS").read_text().splitlines():
        digest, name = line.split()
        assert hashlib.sha256((static / name).read_bytes()).hexdigest() == digest, name


async def test_supervisors_get_health_readiness_version_and_metrics(client: httpx.AsyncClient) -> None:
    assert (await client.get("/healthz")).json() == {"status": "ok"}
    ready = await client.get("/readyz")
    assert (ready.status_code, ready.json()["checks"]["cache"]) == (200, "degraded: cold")
    assert (await client.get("/version")).json() == {"service": "Example <service>", "version": "0.1.0"}
    await client.post("/api/v1/refusals")
    await client.get("/api/v1/things/a/b")
    await client.get("/nothing")
    metrics = (await client.get("/metrics")).text
    for labels in (
        'method="POST",route="/api/v1/refusals",status="409"',
        'method="GET",route="/api/v1/things/{thing:path}",status="200"',
        'method="GET",route="unmatched",status="404"',
    ):
        assert f"http_server_request_duration_seconds_count{{{labels}}}" in metrics
