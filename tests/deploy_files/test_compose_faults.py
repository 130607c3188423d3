"""docker-compose.yml, Dockerfile and Caddyfile follow our rules, and each rule finds the faults planted for it."""

import copy
import json
from collections.abc import Callable
from typing import Any

import pytest
import yaml

from tests.deploy_files import compose_rules as rules
from tests.deploy_files.compose_rules import Files
from tests.stack import ROOT

Plant = Callable[[Files], object]
Rule = Callable[[Files], Any]


@pytest.fixture(scope="module")
def sound() -> Files:
    compose = yaml.safe_load((ROOT / "docker-compose.yml").read_text())
    texts = [(ROOT / "deploy/docker" / name).read_text() for name in ("Dockerfile", "Caddyfile")]
    # Through JSON, so that no two services share what an anchor gave them.
    return Files(json.loads(json.dumps(compose)), *texts)


def _environment(files: Files, name: str, **values: str) -> None:
    files.services[name]["environment"].update(values)


def _replace(files: Files, file: str, old: str, new: str) -> None:
    text = getattr(files, file)
    assert old in text
    setattr(files, file, text.replace(old, new))


FAULTS: tuple[tuple[str, Plant, Rule, str], ...] = (
    ("no mails", lambda f: f.services.pop("pipeline-mail"), rules.every_process_runs, "pipeline-mail is missing"),
    (
        "another service's image",
        lambda f: f.services["reorder-relay"].update(image="stockflow-inventory:0.1.0"),
        rules.every_process_runs,
        "reorder-relay runs the image",
    ),
    (
        "another process",
        lambda f: f.services["reorder-relay"].update(command=["services.reorder", "consume"]),
        rules.every_process_runs,
        "reorder-relay runs",
    ),
    (
        "a password that may be missing",
        lambda f: _environment(f, "postgres", POSTGRES_PASSWORD="${POSTGRES_PASSWORD}"),
        rules.secrets_are_required,
        "POSTGRES_PASSWORD may be missing",
    ),
    (
        "a literal password",
        lambda f: _environment(f, "postgres", POSTGRES_PASSWORD="postgres"),
        rules.secrets_are_required,
        "postgres.environment.POSTGRES_PASSWORD shows a secret",
    ),
    (
        "a literal password in an address",
        lambda f: _environment(f, "analytics-api", REDIS_URL="redis://:redis@redis:6379/0"),
        rules.secrets_are_required,
        "analytics-api.environment.REDIS_URL shows a secret",
    ),
    (
        "migrations at once",
        lambda f: f.services["migrations"].pop("depends_on"),
        rules.what_is_needed_is_waited_for,
        "migrations does not wait for postgres",
    ),
    (
        "topics before the brokers",
        lambda f: f.services["topics"]["depends_on"].update(kafka={"condition": "service_started"}),
        rules.what_is_needed_is_waited_for,
        "topics does not wait for kafka",
    ),
    (
        "a consumer before its store",
        lambda f: f.services["analytics-consume"]["depends_on"].pop("mongo"),
        rules.what_is_needed_is_waited_for,
        "analytics-consume does not wait for mongo",
    ),
    (
        "a gateway to nothing",
        lambda f: f.services["gateway"].update(depends_on={"kafka": {"condition": "service_healthy"}}),
        rules.what_is_needed_is_waited_for,
        "gateway does not wait for inventory-api",
    ),
    (
        "another service's role",
        lambda f: _environment(
            f,
            "reorder-api",
            DATABASE_URL="postgresql://stockflow_owner:${DATABASE_PASSWORD_OWNER:?}@postgres:5432/stockflow",
        ),
        rules.addresses_lead_to_the_stores,
        "reorder-api: DATABASE_URL is not the address of stockflow_reorder",
    ),
    (
        "another port of the mail server",
        lambda f: _environment(f, "pipeline-mail", SMTP_URL="${SMTP_URL:-smtp://mail:25}"),
        rules.addresses_lead_to_the_stores,
        "nobody listens at mail:25",
    ),
    (
        "no volume of the lake",
        lambda f: f.services["pipeline-batch"].update(volumes=["spill:/tmp"]),
        rules.processes_have_their_files,
        "pipeline-batch has no volume for",
    ),
    (
        "no keys",
        lambda f: f.services["inventory-api"].pop("secrets"),
        rules.processes_have_their_files,
        "inventory-api does not find",
    ),
    (
        "imports in memory",
        lambda f: f.services["inventory-api"].update(tmpfs=["/tmp:size=64m,mode=1777"], volumes=[]),
        rules.processes_have_their_files,
        "inventory-api keeps in memory",
    ),
    (
        "no /tmp",
        lambda f: f.services["reorder-api"].update(tmpfs=[]),
        rules.processes_have_their_files,
        "reorder-api has no /tmp",
    ),
    (
        "stores that are open",
        lambda f: f.compose["networks"].update(stores={}),
        rules.networks_are_apart,
        "the stores can be reached",
    ),
    (
        "mails that cannot leave",
        lambda f: f.services["pipeline-mail"].update(networks=["stores"]),
        rules.networks_are_apart,
        "pipeline-mail is in ['stores']",
    ),
    (
        "a store at the gateway",
        lambda f: f.services["redis"].update(networks=["stores", "gateway"]),
        rules.networks_are_apart,
        "redis is in",
    ),
    (
        "another port of an API",
        lambda f: _replace(f, "caddyfile", "analytics-api:8000", "analytics-api:8003"),
        rules.the_gateway_shows_every_api,
        "analytics-api",
    ),
    (
        "a prefix that is not routed",
        lambda f: _replace(f, "caddyfile", "\thandle /pipeline/*", "\t# handle /pipeline/*"),
        rules.the_gateway_shows_every_api,
        "pipeline-api",
    ),
    (
        "metrics for everybody",
        lambda f: _replace(f, "caddyfile", "/*/metrics ", ""),
        rules.the_gateway_shows_every_api,
        "shows the inside",
    ),
    (
        "no health check",
        lambda f: _replace(f, "dockerfile", "\nHEALTHCHECK", "\n# HEALTHCHECK"),
        rules.images_are_lean_and_watched,
        "nobody asks",
    ),
    (
        "pip in the result",
        lambda f: _replace(
            f, "dockerfile", "COPY --from=build /app", "COPY --from=build /opt/pip /opt/pip\nCOPY --from=build /app"
        ),
        rules.images_are_lean_and_watched,
        "the result gets",
    ),
    (
        "the installer of the base image",
        lambda f: _replace(f, "dockerfile", "rm -rf /usr/local/bin/pip*", "ls"),
        rules.images_are_lean_and_watched,
        "the result can install",
    ),
    (
        "root",
        lambda f: _replace(f, "dockerfile", "\nUSER 10001:10001", ""),
        rules.images_are_lean_and_watched,
        "runs as []",
    ),
    (
        "packages of anybody",
        lambda f: _replace(f, "dockerfile", "--require-hashes", ""),
        rules.images_are_lean_and_watched,
        "packages are not checked",
    ),
)


@pytest.mark.parametrize("rule", rules.RULES, ids=lambda rule: rule.__name__)
def test_the_files_follow_the_rules(sound: Files, rule: Rule) -> None:
    assert list(rule(sound)) == []


@pytest.mark.parametrize(("plant", "rule", "said"), [fault[1:] for fault in FAULTS], ids=[fault[0] for fault in FAULTS])
def test_a_rule_finds_the_fault(sound: Files, plant: Plant, rule: Rule, said: str) -> None:
    files = copy.deepcopy(sound)
    plant(files)
    assert any(said in violation for violation in rule(files))


def test_every_rule_has_a_fault() -> None:
    assert {rule for _, _, rule, _ in FAULTS} == set(rules.RULES)
