"""Rendered Kubernetes manifests, and questions about them."""

import subprocess
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import yaml
from pydantic_settings import BaseSettings

from deploy.k8s.settings import SERVICES, names
from libs.events.settings import KafkaSettings
from migrations.settings import MigrationSettings, RolePasswords
from migrations.wait import WaitSettings
from tests.stack import ROOT

KUSTOMIZATIONS: Final = ROOT / "deploy" / "k8s"
RENDERED: Final = ("overlays/dev", "overlays/prod", "tests/minimal", "tests/all-components")

Manifest = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Cluster:
    """What one kustomization would create."""

    manifests: Sequence[Manifest]

    def of(self, *kinds: str) -> list[Manifest]:
        """The manifests of these kinds."""
        return [manifest for manifest in self.manifests if manifest["kind"] in kinds]

    def named(self, kind: str, name: str) -> Manifest | None:
        """The one manifest of that kind and name, None when there is none."""
        return next((manifest for manifest in self.of(kind) if name_of(manifest) == name), None)

    @property
    def workloads(self) -> list[Manifest]:
        """What runs pods."""
        return self.of("Deployment", "StatefulSet", "Job")

    def selected_by(self, selector: Mapping[str, Any]) -> list[Manifest]:
        """The workloads whose pods have all labels of a selector."""
        wanted = selector.get("matchLabels", selector)
        return [workload for workload in self.workloads if wanted.items() <= pod_labels(workload).items()]

    def config_map(self, name: str) -> Mapping[str, str]:
        """The data of a ConfigMap, empty when there is none."""
        found = self.named("ConfigMap", name)
        return found["data"] if found else {}

    def variables(self, container: Mapping[str, Any]) -> dict[str, str | None]:
        """Environment variable -> value, None when a Secret holds it. Optional Secrets are left out."""
        found: dict[str, str | None] = {}
        for source in container.get("envFrom", []):
            if reference := source.get("configMapRef"):
                found |= self.config_map(reference["name"])
        for variable in container.get("env", []):
            found[variable["name"]] = variable.get("value")
        return found


def render(kustomization: str, kubectl: Path) -> Cluster:
    """What `kubectl apply -k` would send. Raises CalledProcessError with the reason on standard error."""
    argv = [str(kubectl), "kustomize", str(KUSTOMIZATIONS / kustomization)]
    output = subprocess.run(argv, check=True, stdout=subprocess.PIPE, text=True).stdout
    return Cluster(list(yaml.load_all(output, yaml.CSafeLoader)))


def name_of(manifest: Manifest) -> str:
    """The name of an object."""
    return str(manifest["metadata"]["name"])


def title(manifest: Manifest) -> str:
    """Kind and name, for messages."""
    return f"{manifest['kind']} {name_of(manifest)}"


def pod(workload: Manifest) -> dict[str, Any]:
    """The pod specification of a workload."""
    specification: dict[str, Any] = workload["spec"]["template"]["spec"]
    return specification


def pod_labels(workload: Manifest) -> dict[str, str]:
    """The labels of a workload's pods."""
    labels: dict[str, str] = workload["spec"]["template"]["metadata"]["labels"]
    return labels


def containers(workload: Manifest) -> list[dict[str, Any]]:
    """All containers of a workload's pods, those that run first included."""
    specification = pod(workload)
    return [*specification.get("initContainers", []), *specification["containers"]]


def is_ours(container: Mapping[str, Any]) -> bool:
    """Whether a container runs an image of Stockflow."""
    image: str = container["image"]
    return image.rpartition("/")[2].startswith("stockflow-")


def our_containers(cluster: Cluster) -> Iterator[tuple[Manifest, dict[str, Any]]]:
    """Every container of ours with its workload."""
    for workload in cluster.workloads:
        for container in containers(workload):
            if is_ours(container):
                yield workload, container


def settings_of(container: Mapping[str, Any]) -> dict[str, bool]:
    """Environment variable that a command of ours reads -> whether it cannot start without."""
    module, *arguments = container["args"]
    service = module.removeprefix("services.")
    classes = (SERVICES[service], KafkaSettings) if service in SERVICES else _JOBS[module]
    known = {name: field.is_required() for settings in classes for name, field in names(settings).items()}
    if service in SERVICES and not _uses_kafka(service, arguments):
        known["KAFKA_BOOTSTRAP_SERVERS"] = False
    return known


_JOBS: Final[Mapping[str, tuple[type[BaseSettings], ...]]] = {
    "migrations": (MigrationSettings, RolePasswords),
    "migrations.wait": (WaitSettings,),
    "libs.events.ensure_topics": (KafkaSettings,),
}


def _uses_kafka(service: str, arguments: Sequence[str]) -> bool:
    """Relays do, and the processes of a service whose settings hold a block for Kafka."""
    return "relay" in arguments or "kafka" in SERVICES[service].model_fields
