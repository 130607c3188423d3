"""Each check finds the fault that it is there for: one is planted into a sound cluster at a time."""

import copy
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.deploy_files import rules, schemas
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


FAULTS = (
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
        rules.network_is_closed,
        "no policy denies by default",
    ),
    Fault(
        "a missing policy",
        lambda c: _remove(c, "NetworkPolicy", "to-kafka"),
        rules.network_is_closed,
        f"Deployment {STREAM} is given",
    ),
    Fault(
        "a store that nobody may call",
        lambda c: _remove(c, "NetworkPolicy", "postgres"),
        rules.network_is_closed,
        "nobody may call Service postgres",
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
        rules.scaling_is_possible,
        "more replicas than 12 partitions",
    ),
    Fault(
        "the lag of a group that does not exist",
        lambda c: _spec(c, "ScaledObject", STREAM)["triggers"][0]["metadata"].update(consumerGroup="stream"),
        rules.scaling_is_possible,
        "nobody reads",
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
