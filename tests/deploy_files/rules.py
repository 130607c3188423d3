"""What must hold in every rendered cluster and no schema says. A rule yields a sentence for each violation."""

import os
import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final
from unittest.mock import patch

from pydantic import ValidationError
from pydantic_settings import BaseSettings

from deploy.docker.init_env import PASSWORDS
from deploy.k8s import secrets
from deploy.k8s.settings import PORT, SERVICES, is_secret, names
from deploy.local.services import API, MAIL, PROCESSES
from libs.chassis.process import CANCEL_SECONDS, GRACE_SECONDS
from libs.events.settings import KafkaSettings
from libs.events.topics import TOPICS
from migrations.settings import MigrationSettings, RolePasswords
from services.analytics.consumer import GROUP as ANALYTICS_GROUP
from services.inventory.routes.bulk import MOST_AT_ONCE
from services.inventory.routes.imports import MOST_BYTES
from services.pipeline.archive import GROUP as ARCHIVE_GROUP
from services.pipeline.settings import Settings as PipelineSettings
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
    settings_of,
    title,
)
from tests.deploy_files.network_rules import NETWORK_RULES

Rule = Callable[[Cluster], Iterator[str]]

USER: Final = 10001
GROUPS: Final = {
    "analytics-consume": ANALYTICS_GROUP,
    "pipeline-archive": ARCHIVE_GROUP,
    "pipeline-stream": STREAM_GROUP,
    "reorder-consume": REORDER_GROUP,
}
"""Process -> the group as which it reads."""
JOBS: Final = {"migrate": ["migrations"], "topics": ["libs.events.ensure_topics"]}
PAGES: Final = ("api", "docs", "openapi.json", "asyncapi.json")
"""What a service shows to the outside, below its prefix."""
_BATCH: Final = PipelineSettings.model_fields
DISK: Final = {
    "inventory-api": MOST_AT_ONCE * MOST_BYTES,
    "pipeline-batch": _BATCH["batch_slots"].default
    * int(_BATCH["batch_spill_limit"].default.removesuffix("GiB"))
    * 2**30,
}
"""Process -> bytes that it may put into /tmp; of others less than a mebibyte."""
USE_THE_LAKE: Final = {"pipeline-api", "pipeline-archive", "pipeline-batch"}
_CPU: Final = re.compile(r"\d+(\.\d+)?|\d+m")
_BYTES: Final = re.compile(r"\d+(\.\d+)?(k|M|G|T|Ki|Mi|Gi|Ti)?")
_FIXED_TAG: Final = re.compile(r"v?\d+\.\d+.*")
_LOGIN: Final = re.compile(r"://[^/\s]*:[^/\s]+@")
_HASH: Final = re.compile(r"-[a-z0-9]{10}$")
_KAFKA_LOGIN: Final = {name for name, field in names(KafkaSettings).items() if is_secret(field)} | {
    "KAFKA_SASL_USERNAME",
    "KAFKA_OAUTH_CLIENT_ID",
}
_SETTINGS: Final[tuple[type[BaseSettings], ...]] = (
    *SERVICES.values(),
    KafkaSettings,
    MigrationSettings,
    RolePasswords,
)
_SECRET_NAMES: Final = {
    name for settings in _SETTINGS for name, field in names(settings).items() if is_secret(field)
} | {*PASSWORDS, "AWS_SECRET_ACCESS_KEY"}
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
    shown = {f"/{service}/{page}" for service in SERVICES for page in PAGES} - {"/analytics/asyncapi.json"}
    for origin in cluster.of("HTTPRoute", "Ingress"):
        paths = {path for route, path, _, _ in _routes(cluster) if route is origin}
        if paths != shown:
            yield f"{title(origin)} shows {sorted(paths ^ shown)} or does not"


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
        if budget["spec"].get("maxUnavailable") == 0:
            yield f"{title(budget)} lets nobody drain a node"
        for workload in cluster.selected_by(budget["spec"]["selector"]):
            if budget["spec"].get("minAvailable", 0) >= workload["spec"].get("replicas", 1):
                yield f"{title(budget)} lets nobody drain a node"
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
        runs = [(_image_name(container), container["args"]) for container in pod(workload).get("initContainers", [])]
        if runs != [("stockflow-migrations", ["migrations.wait"])]:
            yield f"{title(workload)} does not wait for the migrations: {runs}"


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
    for scaler in cluster.of(*_SCALERS):
        specification = scaler["spec"]
        if specification["scaleTargetRef"].get("kind", "Deployment") != "Deployment":
            yield f"{title(scaler)} scales no Deployment"
        bounds = [specification.get(name, 1) for name in ("minReplicas", "minReplicaCount")]
        most = specification.get("maxReplicas") or specification.get("maxReplicaCount")
        if not 1 <= max(bounds) <= most:
            yield f"{title(scaler)}: {max(bounds)} to {most} replicas"


def consumers_are_scaled_by_their_own_lag(cluster: Cluster) -> Iterator[str]:
    """KEDA asks the brokers of the consumer for the lag of its group, logged in as they want it."""
    settings = next(data for item in cluster.of("ConfigMap") if "KAFKA_PARTITIONS" in (data := item["data"]))
    partitions = int(settings["KAFKA_PARTITIONS"])
    for scaled in cluster.of("ScaledObject"):
        target = scaled["spec"]["scaleTargetRef"]
        deployment = cluster.named("Deployment", target["name"])
        if deployment is None:
            continue
        named = [item for item in pod(deployment)["containers"] if item["name"] == target.get("envSourceContainerName")]
        known = {name for container in named for name in cluster.variables(container)}
        if scaled["spec"]["maxReplicaCount"] > partitions:
            yield f"{title(scaled)}: more replicas than {partitions} partitions"
        for trigger in scaled["spec"]["triggers"]:
            asked = trigger["metadata"]
            if asked["topic"] not in {topic.name for topic in TOPICS}:
                yield f"{title(scaled)}: there is no topic {asked['topic']}"
            if asked["consumerGroup"] != GROUPS.get(target["name"]):
                yield f"{title(scaled)}: {target['name']} does not read as {asked['consumerGroup']}"
            if asked.get("bootstrapServersFromEnv") not in known & {"KAFKA_BOOTSTRAP_SERVERS"}:
                yield f"{title(scaled)} does not know the brokers"
            if settings["KAFKA_SECURITY_PROTOCOL"].startswith("SASL") and "authenticationRef" not in trigger:
                yield f"{title(scaled)} cannot log in to the brokers"


def everything_runs_from_its_image(cluster: Cluster) -> Iterator[str]:
    """There is a Deployment for every process and a Job for every step of a release, each from its own image."""
    wanted = {
        ("Deployment", process.name): (process.service, [f"services.{process.service}", process.job])
        for process in (*PROCESSES, MAIL)
    } | {("Job", name): ("migrations", arguments) for name, arguments in JOBS.items()}
    found = {
        (workload["kind"], workload["metadata"]["labels"]["app.kubernetes.io/name"]): workload
        for workload in cluster.of("Deployment", "Job")
    }
    for kind, name in wanted.keys() ^ found.keys():
        yield f"{kind} {name} is missing, or nobody knows it"
    for (kind, name), (service, arguments) in wanted.items():
        if workload := found.get((kind, name)):
            specification = pod(workload)
            runs = [(_image_name(item), item.get("args")) for item in specification["containers"]]
            if runs != [(f"stockflow-{service}", arguments)]:
                yield f"{title(workload)} runs {runs}"
            if specification.get("serviceAccountName") != service.replace("migrations", "migrate"):
                yield f"{title(workload)} runs as the account {specification.get('serviceAccountName')}"


def processes_have_their_files(cluster: Cluster) -> Iterator[str]:
    """A /tmp as large as the code needs, the keys where they are looked for, the lake where it is a folder."""
    for workload, container in our_containers(cluster):
        if container["name"] != "process":
            continue
        volumes = {volume["name"]: volume for volume in pod(workload)["volumes"]}
        mounted = {mount["mountPath"]: volumes.get(mount["name"], {}) for mount in container.get("volumeMounts", [])}
        given = cluster.variables(container)
        room = _bytes(mounted.get("/tmp", {}).get("emptyDir", {}).get("sizeLimit", "0"))
        if room < (needed := DISK.get(name_of(workload), 2**20)):
            yield f"{title(workload)} has {room} bytes in /tmp and needs {needed}"
        keys, lake = given.get("API_KEYS_FILE"), given.get("LAKE_URL")
        if keys and container["args"][-1] == API:
            folder, _, _ = keys.rpartition("/")
            if mounted.get(folder, {}).get("secret", {}).get("secretName") != "api-keys":
                yield f"{title(workload)} does not find {keys}"
        if lake and "://" not in lake and name_of(workload) in USE_THE_LAKE:
            claims = {path for path, volume in mounted.items() if "persistentVolumeClaim" in volume}
            if not any(lake.startswith(f"{path}/") for path in claims):
                yield f"{title(workload)} has no volume for {lake}"


def secrets_stay_in_secrets(cluster: Cluster) -> Iterator[str]:
    """No ConfigMap and no manifest holds a password, nor an address with one."""
    plain = [(title(item), name, value) for item in cluster.of("ConfigMap") for name, value in item["data"].items()]
    for workload in cluster.workloads:
        for container in containers(workload):
            variables = [item for item in container.get("env", []) if "value" in item]
            plain += [(title(workload), variable["name"], variable["value"]) for variable in variables]
    for owner, name, value in plain:
        if name in _SECRET_NAMES or _LOGIN.search(value):
            yield f"{owner} shows {name}"


def settings_are_valid(cluster: Cluster) -> Iterator[str]:
    """The settings classes accept what processes are given, every Secret present."""
    for workload, container in our_containers(cluster):
        service = container["args"][0].removeprefix("services.")
        if service in SERVICES:
            given = {name: value or "secret" for name, value in cluster.variables(container).items() if value != ""}
            if any(source.get("secretRef", {}).get("name") == f"{service}-kafka" for source in container["envFrom"]):
                given |= dict.fromkeys(_KAFKA_LOGIN, "secret")
            # The processes that do without Kafka have no settings of it.
            environment = {"KAFKA_BOOTSTRAP_SERVERS": "none:9092"} | given
            with patch.dict(os.environ, environment, clear=True):
                try:
                    SERVICES[service]()
                except ValidationError as error:
                    yield f"{title(workload)}: {error}"


def jobs_outlast_their_release(cluster: Cluster) -> Iterator[str]:
    """A Job is patient, and nothing in its template changes with a setting: it could not be applied again."""
    for job in cluster.of("Job"):
        if job["spec"].get("backoffLimit", 6) < 30 or "activeDeadlineSeconds" in job["spec"]:
            yield f"{title(job)} gives up before its stores are there"
        for kind, name, _ in _references(job):
            if kind == "ConfigMap" and _HASH.search(name):
                yield f"{title(job)} depends on the content of {name}"
    kafka = [item["data"] for item in cluster.of("ConfigMap") if "KAFKA_PARTITIONS" in item["data"]]
    if len(kafka) != 2 or kafka[0] != kafka[1]:
        yield "the jobs get other settings of Kafka than the processes"


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
    *NETWORK_RULES,
    scaling_is_possible,
    consumers_are_scaled_by_their_own_lag,
    everything_runs_from_its_image,
    processes_have_their_files,
    secrets_stay_in_secrets,
    settings_are_valid,
    jobs_outlast_their_release,
    releases_are_told_apart,
    rollouts_are_gentle,
)

_SCALERS: Final = ("HorizontalPodAutoscaler", "ScaledObject")


def _image_name(container: Mapping[str, Any]) -> str:
    return str(container["image"]).rpartition("/")[2].partition(":")[0]


def _bytes(quantity: str) -> int:
    """Of a quantity with a binary unit, such as 20Gi."""
    number = quantity.rstrip("KMGTi")
    exponent: int = ("", "Ki", "Mi", "Gi", "Ti").index(quantity.removeprefix(number))
    return int(number) << 10 * exponent


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
