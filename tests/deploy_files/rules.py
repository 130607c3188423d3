"""What must hold in every rendered cluster and no schema says. A rule yields a sentence for each violation."""

import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final

from deploy.docker.init_env import PASSWORDS
from deploy.k8s import secrets
from deploy.k8s.settings import PORT
from deploy.local.services import API
from libs.chassis.process import CANCEL_SECONDS, GRACE_SECONDS
from libs.events.topics import TOPICS
from services.analytics.consumer import GROUP as ANALYTICS_GROUP
from services.pipeline.archive import GROUP as ARCHIVE_GROUP
from services.pipeline.stream import GROUP as STREAM_GROUP
from services.reorder.consumer import GROUP as REORDER_GROUP
from tests.deploy_files.cluster import (
    Cluster,
    Manifest,
    containers,
    is_ours,
    name_of,
    our_containers,
    pod,
    pod_labels,
    settings_of,
    title,
)

Rule = Callable[[Cluster], Iterator[str]]

USER: Final = 10001
GROUPS: Final = {ANALYTICS_GROUP, ARCHIVE_GROUP, STREAM_GROUP, REORDER_GROUP}
STORE_ADDRESSES: Final = {
    "postgres": {"DATABASE_URL", "MIGRATIONS_DATABASE_URL"},
    "kafka": {"KAFKA_BOOTSTRAP_SERVERS"},
    "mongo": {"MONGO_URL"},
    "redis": {"REDIS_URL"},
    "lake": {"LAKE_URL"},
    "smtp": {"SMTP_URL"},
}
"""What a pod may connect to -> the settings that hold its address."""

_CPU: Final = re.compile(r"\d+(\.\d+)?|\d+m")
_BYTES: Final = re.compile(r"\d+(\.\d+)?(k|M|G|T|Ki|Mi|Gi|Ti)?")
_FIXED_TAG: Final = re.compile(r"v?\d+\.\d+.*")
_SECRETS: Final = secrets.contents(dict.fromkeys(PASSWORDS, ""), "")
"""Of the dev overlay, with their keys: the same that production needs."""


def selectors_match(cluster: Cluster) -> Iterator[str]:
    """A workload selects its own pods, and nobody else's."""
    for workload in cluster.of("Deployment", "StatefulSet"):
        selected = cluster.selected_by(workload["spec"]["selector"])
        if [name_of(other) for other in selected] != [name_of(workload)]:
            yield f"{title(workload)} selects the pods of {[name_of(other) for other in selected]}"


def services_reach_pods(cluster: Cluster) -> Iterator[str]:
    """A Service selects one workload, which has its target port."""
    for service in cluster.of("Service"):
        selected = cluster.selected_by(service["spec"]["selector"])
        if len(selected) != 1:
            yield f"{title(service)} selects {len(selected)} workloads"
        for workload in selected:
            for port in service["spec"]["ports"]:
                if port["targetPort"] not in _port_names(workload):
                    yield f"{title(service)}: {title(workload)} has no port {port['targetPort']}"


def port_names_exist(cluster: Cluster) -> Iterator[str]:
    """Probes and policies name ports that the pods have."""
    for workload in cluster.workloads:
        for container in containers(workload):
            for probe in _probes(container).values():
                port = (probe.get("httpGet") or probe.get("tcpSocket") or {}).get("port")
                if port is not None and port not in _port_names(workload):
                    yield f"{title(workload)}: a probe asks port {port}"
    for policy in cluster.of("NetworkPolicy"):
        for rule in policy["spec"].get("ingress", []):
            for port in (port["port"] for port in rule["ports"]):
                for workload in cluster.selected_by(policy["spec"]["podSelector"]):
                    is_known = port in _port_names(workload) or port in _port_names(workload).values()
                    if not is_known and workload["kind"] != "Job":
                        yield f"{title(policy)}: {title(workload)} has no port {port}"


def routes_reach_services(cluster: Cluster) -> Iterator[str]:
    """What comes from outside reaches a Service that serves this very prefix."""
    for origin, path, name, port in _routes(cluster):
        service = cluster.named("Service", name)
        if service is None or port not in {
            key for item in service["spec"]["ports"] for key in (item["name"], item["port"])
        }:
            yield f"{title(origin)}: there is no port {port} of Service {name}"
            continue
        for workload in cluster.selected_by(service["spec"]["selector"]):
            root_path = cluster.variables(pod(workload)["containers"][0])["ROOT_PATH"]
            if not path.startswith(f"{root_path}/"):
                yield f"{title(origin)}: {path} leads to {title(workload)}, which serves {root_path}"


def references_exist(cluster: Cluster) -> Iterator[str]:
    """What pods refer to is there: ConfigMaps, Secrets and their keys, accounts, volumes."""
    for workload in cluster.workloads:
        specification = pod(workload)
        account = specification.get("serviceAccountName")
        if account and not cluster.named("ServiceAccount", account):
            yield f"{title(workload)}: there is no ServiceAccount {account}"
        for kind, name, key in _references(workload):
            if not _exists(cluster, kind, name, key):
                yield f"{title(workload)}: there is no {kind} {name}" + (f" with key {key}" if key else "")
        volumes = {volume["name"] for volume in specification.get("volumes", [])} | {
            name_of(claim) for claim in workload["spec"].get("volumeClaimTemplates", [])
        }
        for mount in (mount for container in containers(workload) for mount in container.get("volumeMounts", [])):
            if mount["name"] not in volumes:
                yield f"{title(workload)}: there is no volume {mount['name']}"


def settings_are_known_and_complete(cluster: Cluster) -> Iterator[str]:
    """Processes get settings that their code reads, and all that it cannot do without."""
    for workload, container in our_containers(cluster):
        given, known = cluster.variables(container), settings_of(container)
        for name in given.keys() - known.keys():
            yield f"{title(workload)}: {' '.join(container['args'])} does not read {name}"
        for name in (name for name, is_required in known.items() if is_required and name not in given):
            yield f"{title(workload)}: {' '.join(container['args'])} needs {name}"


def ports_are_listened_on(cluster: Cluster) -> Iterator[str]:
    """The port of a container is the one that its settings name, and the image's own."""
    for workload, container in our_containers(cluster):
        if not container["args"][0].startswith("services."):
            continue
        variable = "PORT" if container["args"][1] == API else "OPS_PORT"
        listens = int(cluster.variables(container).get(variable) or 0)
        declared = [port["containerPort"] for port in container.get("ports", [])]
        if declared != [listens] or listens != PORT:
            yield f"{title(workload)} declares {declared} and listens on {listens}"


def quantities_parse(cluster: Cluster) -> Iterator[str]:
    """Requests of CPU and memory, a limit of memory and none of CPU; all readable."""
    for workload in cluster.workloads:
        for container in containers(workload):
            resources = container.get("resources", {})
            requests, limits = resources.get("requests", {}), resources.get("limits", {})
            if requests.keys() != {"cpu", "memory"} or limits.keys() != {"memory"}:
                yield f"{title(workload)}: {container['name']} requests {[*requests]} and is limited in {[*limits]}"
            for name, value in [*requests.items(), *limits.items()]:
                if not (_CPU if name == "cpu" else _BYTES).fullmatch(str(value)):
                    yield f"{title(workload)}: {value} is no quantity of {name}"


def every_deployment_has_a_disruption_budget(cluster: Cluster) -> Iterator[str]:
    """One budget with one of the two bounds for each Deployment."""
    budgets: Counter[str] = Counter()
    for budget in cluster.of("PodDisruptionBudget"):
        if len(budget["spec"].keys() & {"minAvailable", "maxUnavailable"}) != 1:
            yield f"{title(budget)} needs one of minAvailable and maxUnavailable"
        budgets.update(name_of(workload) for workload in cluster.selected_by(budget["spec"]["selector"]))
    for deployment in cluster.of("Deployment"):
        if budgets[name_of(deployment)] != 1:
            yield f"{title(deployment)} has {budgets[name_of(deployment)]} disruption budgets"


def pods_are_restricted(cluster: Cluster) -> Iterator[str]:
    """The restricted pod security standard, and more: no token, no service links; ours cannot write their root."""
    for workload in cluster.workloads:
        specification = pod(workload)
        security = specification.get("securityContext", {})
        if security.get("runAsNonRoot") is not True or not security.get("runAsUser"):
            yield f"{title(workload)} may run as root"
        if security.get("seccompProfile") != {"type": "RuntimeDefault"}:
            yield f"{title(workload)} has no seccomp profile"
        for field in ("automountServiceAccountToken", "enableServiceLinks"):
            if specification.get(field) is not False:
                yield f"{title(workload)}: {field} is not false"
        if specification.keys() & {"hostNetwork", "hostPID", "hostIPC"}:
            yield f"{title(workload)} shares namespaces of its node"
        for volume in specification.get("volumes", []):
            if "hostPath" in volume:
                yield f"{title(workload)} mounts a path of its node"
        for container in containers(workload):
            yield from (f"{title(workload)}: {reason}" for reason in _open_doors(container, security))


def processes_are_probed(cluster: Cluster) -> Iterator[str]:
    """Start, life and readiness of every process are asked for, at the paths that it answers."""
    for workload, container in our_containers(cluster):
        if workload["kind"] != "Deployment" or container["args"] == ["migrations.wait"]:
            continue
        ready = "/readyz" if container["args"][1] == API else "/healthz"
        wanted = {"startupProbe": "/healthz", "livenessProbe": "/healthz", "readinessProbe": ready}
        found = {name: probe.get("httpGet", {}).get("path") for name, probe in _probes(container).items()}
        if found != wanted:
            yield f"{title(workload)} is probed by {found}"


def processes_wait_for_migrations(cluster: Cluster) -> Iterator[str]:
    """A process starts when the database is in the version of its release."""
    for workload in cluster.of("Deployment"):
        waits = [container["args"] for container in pod(workload).get("initContainers", [])]
        if ["migrations.wait"] not in waits:
            yield f"{title(workload)} does not wait for the migrations"


def network_is_closed(cluster: Cluster) -> Iterator[str]:
    """Nothing is open by default; a pod reaches the stores whose addresses it is given, and no others."""
    policies = cluster.of("NetworkPolicy")
    if not any(
        policy["spec"]["podSelector"] == {} and policy["spec"].keys() == {"podSelector", "policyTypes"}
        for policy in policies
    ):
        yield "no policy denies by default"
    for workload in {name_of(workload): workload for workload, _ in our_containers(cluster)}.values():
        given = {name for container in containers(workload) for name in cluster.variables(container)}
        wanted = {store for store, addresses in STORE_ADDRESSES.items() if addresses & given}
        allowed = {
            name_of(policy).removeprefix("to-")
            for policy in policies
            if name_of(policy) != "to-dns" and policy["spec"].get("egress") and _selects(policy, workload)
        }
        if wanted != allowed:
            yield f"{title(workload)} is given {sorted(wanted)} and may reach {sorted(allowed)}"
    for service in cluster.of("Service"):
        for workload in cluster.selected_by(service["spec"]["selector"]):
            if not any(policy["spec"].get("ingress") and _selects(policy, workload) for policy in policies):
                yield f"nobody may call {title(service)}"


def scaling_is_possible(cluster: Cluster) -> Iterator[str]:
    """A Deployment is scaled by one scaler, which alone says how many; consumers are never more than partitions."""
    targets = Counter(scaler["spec"]["scaleTargetRef"]["name"] for scaler in cluster.of(*_SCALERS))
    for name, scalers in targets.items():
        deployment = cluster.named("Deployment", name)
        if deployment is None:
            yield f"there is no Deployment {name} to scale"
        elif "replicas" in deployment["spec"]:
            yield f"Deployment {name} is scaled and says how many replicas it has"
        if scalers > 1:
            yield f"Deployment {name} is scaled by {scalers}"
    settings = [config_map for config_map in cluster.of("ConfigMap") if "KAFKA_PARTITIONS" in config_map["data"]]
    partitions = int(settings[0]["data"]["KAFKA_PARTITIONS"])
    for scaled in cluster.of("ScaledObject"):
        if scaled["spec"]["maxReplicaCount"] > partitions:
            yield f"{title(scaled)}: more replicas than {partitions} partitions"
        for trigger in (trigger["metadata"] for trigger in scaled["spec"]["triggers"]):
            if trigger["topic"] not in {topic.name for topic in TOPICS} or trigger["consumerGroup"] not in GROUPS:
                yield f"{title(scaled)}: nobody reads {trigger['topic']} as {trigger['consumerGroup']}"


def releases_are_told_apart(cluster: Cluster) -> Iterator[str]:
    """Images have a fixed tag, ours all the same, and the names of the jobs carry it."""
    tags = {container["image"].rpartition(":")[2] for _, container in our_containers(cluster)}
    if len(tags) != 1:
        yield f"several releases at once: {sorted(tags)}"
    for workload in cluster.workloads:
        for container in containers(workload):
            if not _FIXED_TAG.fullmatch(container["image"].partition(":")[2]):
                yield f"{title(workload)}: {container['image']} is not a fixed version"
        if workload["kind"] == "Job" and not name_of(workload).endswith(f"-{min(tags)}"):
            yield f"{title(workload)} does not carry the release {min(tags)}"


def rollouts_are_gentle(cluster: Cluster) -> Iterator[str]:
    """The new pod is ready before the old one stops, and the old one may finish its work."""
    for deployment in cluster.of("Deployment"):
        strategy = deployment["spec"].get("strategy", {}).get("rollingUpdate", {})
        if strategy.get("maxUnavailable") != 0:
            yield f"{title(deployment)} may be unavailable during a rollout"
        container = pod(deployment)["containers"][0]
        pause = container.get("lifecycle", {}).get("preStop", {}).get("sleep", {}).get("seconds", 0)
        if pod(deployment).get("terminationGracePeriodSeconds", 30) < pause + GRACE_SECONDS + CANCEL_SECONDS:
            yield f"{title(deployment)} is killed while it stops"


RULES: Final[tuple[Rule, ...]] = (
    selectors_match,
    services_reach_pods,
    port_names_exist,
    routes_reach_services,
    references_exist,
    settings_are_known_and_complete,
    ports_are_listened_on,
    quantities_parse,
    every_deployment_has_a_disruption_budget,
    pods_are_restricted,
    processes_are_probed,
    processes_wait_for_migrations,
    network_is_closed,
    scaling_is_possible,
    releases_are_told_apart,
    rollouts_are_gentle,
)

_SCALERS: Final = ("HorizontalPodAutoscaler", "ScaledObject")


def _port_names(workload: Manifest) -> dict[str, int]:
    return {
        port["name"]: port["containerPort"] for container in containers(workload) for port in container.get("ports", [])
    }


def _probes(container: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    return {name: value for name, value in container.items() if name.endswith("Probe")}


def _routes(cluster: Cluster) -> Iterator[tuple[Manifest, str, str, str | int]]:
    """Route, path, Service and its port, for each path that is open to the outside."""
    for route in cluster.of("HTTPRoute"):
        for rule in route["spec"]["rules"]:
            for match in rule["matches"]:
                for backend in rule["backendRefs"]:
                    yield route, match["path"]["value"], backend["name"], backend["port"]
    for ingress in cluster.of("Ingress"):
        for path in (path for rule in ingress["spec"]["rules"] for path in rule["http"]["paths"]):
            service = path["backend"]["service"]
            yield ingress, path["path"], service["name"], service["port"]["name"]


def _references(workload: Manifest) -> Iterator[tuple[str, str, str | None]]:
    """Kind, name and key of what a workload cannot start without."""
    for container in containers(workload):
        for source in container.get("envFrom", []):
            if reference := source.get("configMapRef"):
                yield "ConfigMap", reference["name"], None
            elif not source["secretRef"].get("optional"):
                yield "Secret", source["secretRef"]["name"], None
        for source in (variable.get("valueFrom", {}) for variable in container.get("env", [])):
            if (reference := source.get("secretKeyRef")) and not reference.get("optional"):
                yield "Secret", reference["name"], reference["key"]
            if reference := source.get("configMapKeyRef"):
                yield "ConfigMap", reference["name"], reference["key"]
    for volume in pod(workload).get("volumes", []):
        if reference := volume.get("configMap"):
            yield "ConfigMap", reference["name"], None
        if reference := volume.get("secret"):
            yield "Secret", reference["secretName"], None
        if reference := volume.get("persistentVolumeClaim"):
            yield "PersistentVolumeClaim", reference["claimName"], None


def _exists(cluster: Cluster, kind: str, name: str, key: str | None) -> bool:
    if kind == "Secret":
        return name in _SECRETS and (key is None or key in _SECRETS[name])
    found = cluster.named(kind, name)
    return found is not None and (key is None or key in found["data"])


def _open_doors(container: Mapping[str, Any], pod_security: Mapping[str, Any]) -> Iterator[str]:
    security = container.get("securityContext", {})
    user = security.get("runAsUser", pod_security.get("runAsUser"))
    if security.get("allowPrivilegeEscalation") is not False or security.get("privileged"):
        yield f"{container['name']} may gain privileges"
    if security.get("capabilities") != {"drop": ["ALL"]}:
        yield f"{container['name']} keeps capabilities"
    if security.get("runAsNonRoot") is False or user == 0:
        yield f"{container['name']} may run as root"
    if is_ours(container) and security.get("readOnlyRootFilesystem") is not True:
        yield f"{container['name']} may write its root file system"
    if is_ours(container) and user != USER:
        yield f"{container['name']} runs as {user}, the image is made for {USER}"


def _selects(policy: Manifest, workload: Manifest) -> bool:
    wanted = policy["spec"]["podSelector"].get("matchLabels", {})
    return bool(wanted.items() <= pod_labels(workload).items())
