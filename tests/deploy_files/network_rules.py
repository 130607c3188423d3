"""Who may call whom, in every rendered cluster. A rule yields a sentence for each violation."""

from collections.abc import Iterator, Mapping
from typing import Any, Final
from urllib.parse import urlsplit

from deploy.docker.init_env import PASSWORDS
from deploy.k8s import secrets
from tests.deploy_files.cluster import (
    Cluster,
    Manifest,
    containers,
    name_of,
    our_containers,
    pod_labels,
    title,
)

STORE_ADDRESSES: Final = {
    "postgres": {"DATABASE_URL", "MIGRATIONS_DATABASE_URL"},
    "kafka": {"KAFKA_BOOTSTRAP_SERVERS"},
    "mongo": {"MONGO_URL"},
    "redis": {"REDIS_URL"},
    "lake": {"LAKE_URL"},
    "smtp": {"SMTP_URL"},
    "oauth": {"KAFKA_OAUTH_TOKEN_URL"},
    "lineage": {"OPENLINEAGE_URL"},
}
"""What a pod may connect to -> the settings that hold its address."""

PORTS: Final = {
    "dns": {53},
    "postgres": {5432},
    "kafka": {9092, 9093, 9094},
    "mongo": {27017},
    "redis": {6379},
    "lake": {443},
    "smtp": {25, 465, 587},
    "oauth": {443},
    "lineage": {443, 5000},
}
"""What a pod may connect to -> where it listens."""

_SCHEME_PORTS: Final = {"http": 80, "https": 443, "s3": 443, "postgresql": 5432, "mongodb": 27017, "redis": 6379}
_SECRETS: Final = secrets.contents(dict.fromkeys(PASSWORDS, "secret"), "")
_TELLS_LINEAGE: Final = "pipeline-batch"


def network_is_closed(cluster: Cluster) -> Iterator[str]:
    """Nothing is open by default; a pod reaches the stores whose addresses it is given, and no others."""
    if not any(
        policy["spec"] == {"podSelector": {}, "policyTypes": ["Ingress", "Egress"]}
        for policy in cluster.of("NetworkPolicy")
    ):
        yield "no policy denies by default"
    for workload in _ours(cluster):
        given = {name for container in containers(workload) for name in cluster.variables(container)}
        wanted = {store for store, addresses in STORE_ADDRESSES.items() if addresses & given}
        if name_of(workload) != _TELLS_LINEAGE:
            wanted -= {"lineage"}
        allowed = {name_of(policy).removeprefix("to-") for policy in _policies(cluster, workload, "egress")} - {"dns"}
        if wanted != allowed:
            yield f"{title(workload)} is given {sorted(wanted)} and may reach {sorted(allowed)}"


def addresses_can_be_reached(cluster: Cluster) -> Iterator[str]:
    """The ports of the addresses that a pod is given are open to it, those of name servers too, and no others."""
    for policy in cluster.of("NetworkPolicy"):
        for rule in policy["spec"].get("egress", []):
            opened = {port["port"] for port in rule.get("ports", [])}
            if not opened or not opened <= PORTS.get(name_of(policy).removeprefix("to-"), set()):
                yield f"{title(policy)} opens {sorted(opened) or 'every port'}"
    for workload in _ours(cluster):
        opened = {
            (port.get("protocol", "TCP"), port["port"])
            for policy in _policies(cluster, workload, "egress")
            for rule in policy["spec"]["egress"]
            for port in rule.get("ports", [])
        }
        if not {("UDP", 53), ("TCP", 53)} <= opened:
            yield f"{title(workload)} cannot ask for names"
        for container in containers(workload):
            for name, port in _addressed_ports(cluster, workload, container):
                if ("TCP", port) not in opened:
                    yield f"{title(workload)} cannot reach port {port} of {name}"


def only_the_known_may_call(cluster: Cluster) -> Iterator[str]:
    """APIs are called by the gateway, every process by Prometheus, stores by those who need them; on their port."""
    for workload in cluster.of("Deployment", "StatefulSet"):
        found = {
            (caller, port["port"])
            for policy in _policies(cluster, workload, "ingress")
            for rule in policy["spec"]["ingress"]
            for caller in (_labels(peer) for peer in rule.get("from", [{}]))
            for port in rule["ports"]
        }
        if found != (wanted := _known_callers(workload)):
            yield f"{title(workload)} may be called by {sorted(found)} instead of {sorted(wanted)}"


def _known_callers(workload: Manifest) -> set[tuple[str, str | int]]:
    name = name_of(workload)
    if workload["kind"] == "StatefulSet":
        [port] = [port["containerPort"] for port in workload["spec"]["template"]["spec"]["containers"][0]["ports"]]
        callers = {f"stockflow/needs-{name}"} | ({"namespace stockflow/scaler"} if name == "kafka" else set())
        return {(caller, port) for caller in callers}
    is_api = pod_labels(workload).get("app.kubernetes.io/component") == "api"
    return {("namespace stockflow/monitoring", "http")} | (
        {("namespace stockflow/gateway", "http")} if is_api else set()
    )


def _labels(peer: Mapping[str, Any]) -> str:
    """Who a peer is, "anybody" where it is not said by one label that is true."""
    for kind, prefix in (("podSelector", ""), ("namespaceSelector", "namespace ")):
        if peer.keys() == {kind} and [*peer[kind].get("matchLabels", {}).values()] == ["true"]:
            return prefix + str(min(peer[kind]["matchLabels"]))
    return "anybody"


def _ours(cluster: Cluster) -> list[Manifest]:
    return [*{name_of(workload): workload for workload, _ in our_containers(cluster)}.values()]


def _policies(cluster: Cluster, workload: Manifest, direction: str) -> list[Manifest]:
    """The policies that allow a workload something."""
    labels = pod_labels(workload).items()
    return [
        policy
        for policy in cluster.of("NetworkPolicy")
        if policy["spec"].get(direction)
        and direction.capitalize() in policy["spec"]["policyTypes"]
        and policy["spec"]["podSelector"].get("matchLabels", {}).items() <= labels
    ]


def _addressed_ports(cluster: Cluster, workload: Manifest, container: Mapping[str, Any]) -> Iterator[tuple[str, int]]:
    """Setting and port, of each address that can be told; secret ones are those of the dev overlay."""
    values = cluster.variables(container)
    for variable in container.get("env", []):
        if reference := variable.get("valueFrom", {}).get("secretKeyRef"):
            values[variable["name"]] = _SECRETS.get(reference["name"], {}).get(reference["key"])
    for name in set[str]().union(*STORE_ADDRESSES.values()) & values.keys():
        value = values[name] or ""
        if name == "KAFKA_BOOTSTRAP_SERVERS":
            yield from ((name, int(server.rpartition(":")[2])) for server in value.split(","))
        elif "://" in value and (name != "OPENLINEAGE_URL" or name_of(workload) == _TELLS_LINEAGE):
            address = urlsplit(value)
            yield name, address.port or _SCHEME_PORTS[address.scheme]


NETWORK_RULES: Final = (network_is_closed, addresses_can_be_reached, only_the_known_may_call)
