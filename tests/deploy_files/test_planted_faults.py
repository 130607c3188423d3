"""Each check finds the fault that it is there for: one is planted into a sound cluster at a time."""

import copy
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.deploy_files import network_rules, rules, schemas
from tests.deploy_files.cluster import Cluster, Manifest, name_of, pod
from tests.deploy_files.programs import program
from tests.deploy_files.rules import Rule

Rendered = Callable[[str], Cluster]
Plant = Callable[[Cluster], object]
API = "inventory-api"
STREAM = "pipeline-stream"


@dataclass(frozen=True, slots=True)
class Fault:
    """A mistake somebody could make, the rule that must notice, and a part of what it must say."""

    name: str
    plant: Plant
    rule: Rule
    said: str


def _find(cluster: Cluster, kind: str, name: str) -> Manifest:
    found = cluster.named(kind, name)
    assert found is not None, f"there is no {kind} {name} to plant a fault in"
    return found


def _deployment(cluster: Cluster, name: str = API) -> dict[str, Any]:
    return _find(cluster, "Deployment", name)


def _pod(cluster: Cluster, name: str = API) -> dict[str, Any]:
    return pod(_deployment(cluster, name))


def _process(cluster: Cluster, name: str = API) -> dict[str, Any]:
    container: dict[str, Any] = _pod(cluster, name)["containers"][0]
    return container


def _spec(cluster: Cluster, kind: str, name: str) -> dict[str, Any]:
    specification: dict[str, Any] = _find(cluster, kind, name)["spec"]
    return specification


def _settings(cluster: Cluster, name: str) -> dict[str, str]:
    [data] = [item["data"] for item in cluster.of("ConfigMap") if name_of(item).startswith(f"{name}-settings-")]
    assert isinstance(data, dict)
    return data


def _remove(cluster: Cluster, kind: str, name: str) -> None:
    assert isinstance(cluster.manifests, list)
    cluster.manifests.remove(_find(cluster, kind, name))


def _job(cluster: Cluster, name: str) -> Manifest:
    [job] = [job for job in cluster.of("Job") if name_of(job).startswith(name)]
    return job


def _tmp(cluster: Cluster, name: str) -> dict[str, Any]:
    [volume] = [volume["emptyDir"] for volume in _pod(cluster, name)["volumes"] if volume["name"] == "tmp"]
    assert isinstance(volume, dict)
    return volume


def _unmount(cluster: Cluster, name: str, volume: str) -> None:
    mounts = _process(cluster, name)["volumeMounts"]
    mounts.remove(next(mount for mount in mounts if mount["name"] == volume))


def _kafka(cluster: Cluster) -> dict[str, str]:
    """Of the processes, not of the jobs."""
    [data] = [item["data"] for item in cluster.of("ConfigMap") if re.match("kafka-settings-(?!of-)", name_of(item))]
    assert isinstance(data, dict)
    return data


def _trigger(cluster: Cluster) -> dict[str, Any]:
    trigger: dict[str, Any] = _spec(cluster, "ScaledObject", STREAM)["triggers"][0]
    return trigger


_IMAGES = rules.everything_runs_from_its_image
_FILES = rules.processes_have_their_files
_SECRETS = rules.secrets_stay_in_secrets
_JOBS = rules.jobs_outlast_their_release
_LAG = rules.consumers_are_scaled_by_their_own_lag
_REACH = network_rules.addresses_can_be_reached
_CALLERS = network_rules.only_the_known_may_call

SINGLE_FAULTS = (
    Fault(
        "a selector that misses its pods",
        lambda c: _deployment(c)["spec"]["selector"]["matchLabels"].update({"app.kubernetes.io/name": "inventory"}),
        rules.selectors_match,
        "selects the pods of []",
    ),
    Fault(
        "a selector that takes the pods of others",
        lambda c: _deployment(c)["spec"].update(selector={"matchLabels": {"app.kubernetes.io/component": "api"}}),
        rules.selectors_match,
        "reorder-api",
    ),
    Fault(
        "a Service to nowhere",
        lambda c: _spec(c, "Service", "inventory").update(selector={"app": "inventory"}),
        rules.services_reach_pods,
        "selects 0 workloads",
    ),
    Fault(
        "a wrong port name in a Service",
        lambda c: _spec(c, "Service", "inventory")["ports"][0].update(targetPort="web"),
        rules.services_reach_pods,
        "no port web",
    ),
    Fault(
        "a wrong port name in a probe",
        lambda c: _process(c)["livenessProbe"]["httpGet"].update(port="ops"),
        rules.port_names_exist,
        "port ops",
    ),
    Fault(
        "a wrong port in a policy",
        lambda c: _spec(c, "NetworkPolicy", "from-gateway")["ingress"][0]["ports"][0].update(port=8080),
        rules.port_names_exist,
        "no port 8080",
    ),
    Fault(
        "a route to a port that no Service has",
        lambda c: _spec(c, "HTTPRoute", "stockflow")["rules"][0]["backendRefs"][0].update(port=8001),
        rules.routes_reach_services,
        "no port 8001",
    ),
    Fault(
        "a prefix that leads to another service",
        lambda c: _spec(c, "Ingress", "stockflow")["rules"][0]["http"]["paths"][0].update(path="/reorder/api"),
        rules.routes_reach_services,
        "which serves /inventory",
    ),
    Fault(
        "a ConfigMap that does not exist",
        lambda c: _process(c)["envFrom"][0]["configMapRef"].update(name="inventory-settings"),
        rules.references_exist,
        "no ConfigMap inventory-settings",
    ),
    Fault(
        "a Secret without the key",
        lambda c: _process(c)["env"][0]["valueFrom"]["secretKeyRef"].update(key="POSTGRES_URL"),
        rules.references_exist,
        "with key POSTGRES_URL",
    ),
    Fault(
        "an account that does not exist",
        lambda c: _pod(c).update(serviceAccountName="stockflow"),
        rules.references_exist,
        "no ServiceAccount stockflow",
    ),
    Fault(
        "a volume that does not exist",
        lambda c: _pod(c).update(volumes=[]),
        rules.references_exist,
        "no volume tmp",
    ),
    Fault(
        "a setting that nobody reads",
        lambda c: _settings(c, "inventory").update(DATABASE_POOLSIZE="10"),
        rules.settings_are_known_and_complete,
        "does not read DATABASE_POOLSIZE",
    ),
    Fault(
        "a missing key",
        lambda c: _settings(c, "pipeline").pop("LAKE_URL"),
        rules.settings_are_known_and_complete,
        "needs LAKE_URL",
    ),
    Fault(
        "a relay that does not know its brokers",
        lambda c: _process(c, "inventory-relay").update(envFrom=_process(c)["envFrom"]),
        rules.settings_are_known_and_complete,
        "needs KAFKA_BOOTSTRAP_SERVERS",
    ),
    Fault(
        "a port that nobody listens on",
        lambda c: _process(c)["ports"][0].update(containerPort=8001),
        rules.ports_are_listened_on,
        "declares [8001]",
    ),
    Fault(
        "CPU in millimillis",
        lambda c: _process(c)["resources"]["requests"].update(cpu="100mm"),
        rules.quantities_parse,
        "100mm is no quantity of cpu",
    ),
    Fault(
        "memory in thousandths of a byte",
        lambda c: _process(c)["resources"]["limits"].update(memory="512m"),
        rules.quantities_parse,
        "512m is no quantity of memory",
    ),
    Fault(
        "no limit of memory",
        lambda c: _process(c)["resources"].pop("limits"),
        rules.quantities_parse,
        "is limited in []",
    ),
    Fault(
        "a disruption budget with both bounds",
        lambda c: _spec(c, "PodDisruptionBudget", API).update(minAvailable=1),
        rules.every_deployment_has_a_disruption_budget,
        "needs one of",
    ),
    Fault(
        "no disruption budget",
        lambda c: _remove(c, "PodDisruptionBudget", API),
        rules.every_deployment_has_a_disruption_budget,
        "has 0 disruption budgets",
    ),
    Fault(
        "root",
        lambda c: _pod(c)["securityContext"].update(runAsUser=0),
        rules.pods_are_restricted,
        "may run as root",
    ),
    Fault(
        "root in one container",
        lambda c: _process(c)["securityContext"].update(runAsUser=0),
        rules.pods_are_restricted,
        "process may run as root",
    ),
    Fault(
        "a root file system that can be written",
        lambda c: _process(c)["securityContext"].update(readOnlyRootFilesystem=False),
        rules.pods_are_restricted,
        "may write its root",
    ),
    Fault(
        "a capability",
        lambda c: _process(c)["securityContext"]["capabilities"].update(add=["NET_RAW"]),
        rules.pods_are_restricted,
        "keeps capabilities",
    ),
    Fault(
        "variables of Services among the settings",
        lambda c: _pod(c).pop("enableServiceLinks"),
        rules.pods_are_restricted,
        "enableServiceLinks",
    ),
    Fault(
        "a missing probe",
        lambda c: _process(c).pop("livenessProbe"),
        rules.processes_are_probed,
        "is probed by",
    ),
    Fault(
        "life that depends on the database",
        lambda c: _process(c)["livenessProbe"]["httpGet"].update(path="/readyz"),
        rules.processes_are_probed,
        "'livenessProbe': '/readyz'",
    ),
    Fault(
        "a process that does not wait",
        lambda c: _pod(c).pop("initContainers"),
        rules.processes_wait_for_migrations,
        "does not wait",
    ),
    Fault(
        "no default",
        lambda c: _remove(c, "NetworkPolicy", "default-deny"),
        network_rules.network_is_closed,
        "no policy denies by default",
    ),
    Fault(
        "a missing policy",
        lambda c: _remove(c, "NetworkPolicy", "to-kafka"),
        network_rules.network_is_closed,
        f"Deployment {STREAM} is given",
    ),
    Fault(
        "a store that nobody may call",
        lambda c: _remove(c, "NetworkPolicy", "postgres"),
        network_rules.only_the_known_may_call,
        "StatefulSet postgres may be called by []",
    ),
    Fault(
        "two scalers for one Deployment",
        lambda c: _spec(c, "HorizontalPodAutoscaler", API)["scaleTargetRef"].update(name=STREAM),
        rules.scaling_is_possible,
        f"Deployment {STREAM} is scaled by 2",
    ),
    Fault(
        "a scaler and a fixed number",
        lambda c: _deployment(c, STREAM)["spec"].update(replicas=3),
        rules.scaling_is_possible,
        "says how many replicas",
    ),
    Fault(
        "more consumers than partitions",
        lambda c: _spec(c, "ScaledObject", STREAM).update(maxReplicaCount=13),
        rules.consumers_are_scaled_by_their_own_lag,
        "more replicas than 12 partitions",
    ),
    Fault(
        "the lag of a group that does not exist",
        lambda c: _spec(c, "ScaledObject", STREAM)["triggers"][0]["metadata"].update(consumerGroup="stream"),
        rules.consumers_are_scaled_by_their_own_lag,
        "does not read as",
    ),
    Fault(
        "the latest of a store",
        lambda c: pod(_find(c, "StatefulSet", "postgres"))["containers"][0].update(image="postgres:latest"),
        rules.releases_are_told_apart,
        "postgres:latest",
    ),
    Fault(
        "two releases at once",
        lambda c: _process(c).update(image="stockflow-inventory:0.0.9"),
        rules.releases_are_told_apart,
        "several releases",
    ),
    Fault(
        "a job that a second release cannot run",
        lambda c: next(job for job in c.of("Job"))["metadata"].update(name="migrate"),
        rules.releases_are_told_apart,
        "Job migrate does not carry",
    ),
    Fault(
        "a rollout with a gap",
        lambda c: _deployment(c)["spec"]["strategy"]["rollingUpdate"].update(maxUnavailable=1),
        rules.rollouts_are_gentle,
        "may be unavailable",
    ),
    Fault(
        "no time to stop",
        lambda c: _pod(c).update(terminationGracePeriodSeconds=10),
        rules.rollouts_are_gentle,
        "is killed while it stops",
    ),
)

# Name, how it is planted, rule, what is said.
MORE_FAULTS: tuple[tuple[str, Plant, Rule, str], ...] = (
    ("no mails", lambda c: _remove(c, "Deployment", "pipeline-mail"), _IMAGES, "Deployment pipeline-mail is missing"),
    ("no migrations", lambda c: _remove(c, "Job", name_of(_job(c, "migrate"))), _IMAGES, "Job migrate is missing"),
    ("no topics", lambda c: _remove(c, "Job", name_of(_job(c, "topics"))), _IMAGES, "Job topics is missing"),
    (
        "another service's image",
        lambda c: _process(c).update(image="stockflow-reorder:0.1.0"),
        _IMAGES,
        "runs [('stock",
    ),
    ("another job", lambda c: _process(c).update(args=["services.inventory", "relay"]), _IMAGES, "runs [('stockflow"),
    ("the default account", lambda c: _pod(c).pop("serviceAccountName"), _IMAGES, "runs as the account None"),
    (
        "a misspelt image that waits",
        lambda c: _pod(c)["initContainers"][0].update(image="stockflow-migration:0.1.0"),
        rules.processes_wait_for_migrations,
        "stockflow-migration'",
    ),
    (
        "no volume of the lake",
        lambda c: _unmount(c, "pipeline-batch", "lake"),
        _FILES,
        "pipeline-batch has no volume for",
    ),
    ("no lake to archive to", lambda c: _unmount(c, "pipeline-archive", "lake"), _FILES, "archive has no volume for"),
    ("no /tmp", lambda c: _unmount(c, API, "tmp"), _FILES, "inventory-api has 0 bytes in /tmp"),
    (
        "too little room for imports",
        lambda c: _tmp(c, API).update(sizeLimit="256Mi"),
        _FILES,
        "inventory-api has 268435456",
    ),
    (
        "too little room to spill",
        lambda c: _tmp(c, "pipeline-batch").update(sizeLimit="8Gi"),
        _FILES,
        "pipeline-batch has",
    ),
    (
        "keys somewhere else",
        lambda c: _settings(c, "inventory").update(API_KEYS_FILE="/run/secrets/api-keys.json"),
        _FILES,
        "inventory-api does not find /run/secrets/api-keys.json",
    ),
    ("a password among settings", lambda c: _kafka(c).update(KAFKA_SASL_PASSWORD="x"), _SECRETS, "KAFKA_SASL_PASSWORD"),
    ("a login in an address", lambda c: _settings(c, "pipeline").update(X="redis://:pw@redis"), _SECRETS, "shows X"),
    (
        "a plain address of the database",
        lambda c: _process(c)["env"].append({"name": "DATABASE_URL", "value": "postgresql://postgres/"}),
        _SECRETS,
        "Deployment inventory-api shows DATABASE_URL",
    ),
    (
        "an unknown level",
        lambda c: _settings(c, "reorder").update(LOG_LEVEL="verbose"),
        rules.settings_are_valid,
        "log_level",
    ),
    ("no login", lambda c: _settings(c, "pipeline").update(AUTH_MODE="off"), rules.settings_are_valid, "AUTH_MODE=off"),
    (
        "brokers that nobody logs in to",
        lambda c: (
            _kafka(c).update(KAFKA_SECURITY_PROTOCOL="SASL_SSL", KAFKA_SASL_MECHANISM="PLAIN"),
            _process(c, "pipeline-mail")["envFrom"].pop(),
        ),
        rules.settings_are_valid,
        "Deployment pipeline-mail",
    ),
    ("an impatient job", lambda c: _job(c, "topics")["spec"].update(backoffLimit=6), _JOBS, "gives up before"),
    (
        "a job that changes with a setting",
        lambda c: pod(_job(c, "topics"))["containers"][0]["envFrom"][0]["configMapRef"].update(
            name="kafka-settings-4k2h9c7b5g"
        ),
        _JOBS,
        "depends on the content of",
    ),
    ("other brokers for the jobs", lambda c: _kafka(c).update(KAFKA_PARTITIONS="24"), _JOBS, "other settings of Kafka"),
    ("no name servers", lambda c: _remove(c, "NetworkPolicy", "to-dns"), _REACH, "cannot ask for names"),
    (
        "a default for one direction",
        lambda c: _spec(c, "NetworkPolicy", "default-deny").update(policyTypes=["Ingress"]),
        network_rules.network_is_closed,
        "no policy denies by default",
    ),
    (
        "no monitoring",
        lambda c: _remove(c, "NetworkPolicy", "from-monitoring"),
        _CALLERS,
        "pipeline-stream may be called by []",
    ),
    (
        "no gateway",
        lambda c: _remove(c, "NetworkPolicy", "from-gateway"),
        _CALLERS,
        "instead of [('namespace stockflow/gate",
    ),
    (
        "a gateway that nobody labels so",
        lambda c: _spec(c, "NetworkPolicy", "from-gateway")["ingress"][0].update(
            {"from": [{"namespaceSelector": {"matchLabels": {"gateway": "true"}}}]}
        ),
        _CALLERS,
        "('namespace gateway', 'http')",
    ),
    (
        "an API for everybody",
        lambda c: _spec(c, "NetworkPolicy", "from-gateway")["ingress"][0].pop("from"),
        _CALLERS,
        "('anybody', 'http')",
    ),
    (
        "another port of a store",
        lambda c: _spec(c, "NetworkPolicy", "to-postgres")["egress"][0]["ports"][0].update(port=5433),
        _REACH,
        "cannot reach port 5432 of DATABASE_URL",
    ),
    (
        "a way to everywhere",
        lambda c: _spec(c, "NetworkPolicy", "to-redis").update(egress=[{}]),
        _REACH,
        "to-redis opens every port",
    ),
    (
        "brokers behind a closed port",
        lambda c: _kafka(c).update(KAFKA_BOOTSTRAP_SERVERS="kafka:9095"),
        _REACH,
        "cannot reach port 9095 of KAFKA_BOOTSTRAP_SERVERS",
    ),
    (
        "a lineage server behind a closed port",
        lambda c: _settings(c, "pipeline").update(OPENLINEAGE_URL="http://marquez:8080"),
        _REACH,
        "cannot reach port 8080 of OPENLINEAGE_URL",
    ),
    (
        "no way to the tokens",
        lambda c: _remove(c, "NetworkPolicy", "to-oauth"),
        network_rules.network_is_closed,
        "'oauth'",
    ),
    (
        "a budget of nothing",
        lambda c: _spec(c, "PodDisruptionBudget", API).update(maxUnavailable=0),
        rules.every_deployment_has_a_disruption_budget,
        "lets nobody drain",
    ),
    (
        "a budget that keeps the only one",
        lambda c: _find(c, "PodDisruptionBudget", API)["spec"].update(minAvailable=1),
        rules.every_deployment_has_a_disruption_budget,
        "lets nobody drain",
    ),
    (
        "a scaler of something else",
        lambda c: _spec(c, "HorizontalPodAutoscaler", API)["scaleTargetRef"].update(kind="StatefulSet"),
        rules.scaling_is_possible,
        "scales no Deployment",
    ),
    (
        "more at least than at most",
        lambda c: _spec(c, "HorizontalPodAutoscaler", API).update(minReplicas=9),
        rules.scaling_is_possible,
        "9 to 6 replicas",
    ),
    (
        "another consumer's group",
        lambda c: _trigger(c)["metadata"].update(consumerGroup="reorder-position"),
        _LAG,
        "does not read",
    ),
    (
        "brokers from nowhere",
        lambda c: _trigger(c)["metadata"].update(bootstrapServersFromEnv="BROKERS"),
        _LAG,
        "not know the brok",
    ),
    (
        "another container's brokers",
        lambda c: _spec(c, "ScaledObject", STREAM)["scaleTargetRef"].update(envSourceContainerName="main"),
        _LAG,
        "does not know the brokers",
    ),
    (
        "a scaler that cannot log in",
        lambda c: _kafka(c).update(KAFKA_SECURITY_PROTOCOL="SASL_SSL"),
        _LAG,
        "cannot log in",
    ),
    (
        "a service that is not shown",
        lambda c: _spec(c, "Ingress", "stockflow")["rules"][0]["http"].update(
            paths=[
                path
                for path in _spec(c, "Ingress", "stockflow")["rules"][0]["http"]["paths"]
                if "analytics" not in path["path"]
            ]
        ),
        rules.routes_reach_services,
        "/analytics/api",
    ),
)
FAULTS = (*SINGLE_FAULTS, *(Fault(*fault) for fault in MORE_FAULTS))

SCHEMA_FAULTS: dict[str, tuple[str, str, Plant, str]] = {
    "an unknown field": (
        "Deployment",
        API,
        lambda c: _process(c).update(livenesProbe={}),
        "livenesProbe",
    ),
    "a removed API version": (
        "HorizontalPodAutoscaler",
        API,
        lambda c: _find(c, "HorizontalPodAutoscaler", API).update(apiVersion="autoscaling/v2beta2"),
        "autoscaling/v2beta2",
    ),
    "a kind that does not exist": (
        "PodDisruptionBudget",
        API,
        lambda c: _find(c, "PodDisruptionBudget", API).update(kind="DisruptionBudget"),
        "DisruptionBudget",
    ),
    "a number where a string is asked": (
        "ScaledObject",
        STREAM,
        lambda c: _spec(c, "ScaledObject", STREAM)["triggers"][0]["metadata"].update(lagThreshold=20000),
        "lagThreshold",
    ),
}


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.name)
def test_a_rule_finds_the_fault(rendered: Rendered, fault: Fault) -> None:
    cluster = copy.deepcopy(rendered("tests/all-components"))
    fault.plant(cluster)
    assert any(fault.said in violation for violation in fault.rule(cluster))


def test_every_rule_has_a_fault() -> None:
    assert {fault.rule for fault in FAULTS} == set(rules.RULES)


@pytest.mark.parametrize("name", SCHEMA_FAULTS)
def test_a_schema_finds_the_fault(rendered: Rendered, name: str, tmp_path: Path) -> None:
    kind, manifest, plant, said = SCHEMA_FAULTS[name]
    cluster = copy.deepcopy(Cluster([_find(rendered("tests/all-components"), kind, manifest)]))
    plant(cluster)
    found = schemas.violations(cluster, program("kubernetes-validate"), tmp_path)
    assert any(said in violation for violation in found)
