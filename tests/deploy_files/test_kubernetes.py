"""The rendered manifests follow their schemas and our rules."""

from collections.abc import Callable
from pathlib import Path

import pytest

from deploy.local.services import PROCESSES
from tests.deploy_files import schemas
from tests.deploy_files.cluster import KUSTOMIZATIONS, RENDERED, Cluster, name_of, our_containers
from tests.deploy_files.programs import program
from tests.deploy_files.rules import RULES, Rule

Rendered = Callable[[str], Cluster]


@pytest.mark.parametrize("kustomization", RENDERED)
@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.__name__)
def test_a_rendered_cluster_follows_the_rules(rendered: Rendered, kustomization: str, rule: Rule) -> None:
    assert list(rule(rendered(kustomization))) == []


@pytest.mark.parametrize("kustomization", RENDERED)
def test_a_rendered_cluster_follows_the_schemas(rendered: Rendered, kustomization: str, tmp_path: Path) -> None:
    assert schemas.violations(rendered(kustomization), program("kubernetes-validate"), tmp_path) == []


def test_every_process_has_a_deployment(rendered: Rendered) -> None:
    deployed = {
        name_of(workload): container["args"]
        for workload, container in our_containers(rendered("tests/minimal"))
        if container["args"][0].startswith("services.")
    }
    for process in PROCESSES:
        assert deployed[process.name] == [f"services.{process.service}", process.job]


def test_every_component_is_rendered() -> None:
    named = (KUSTOMIZATIONS / "tests/all-components/kustomization.yaml").read_text()
    for component in (KUSTOMIZATIONS / "components").iterdir():
        assert f"../../components/{component.name}\n" in named


@pytest.mark.parametrize("overlay", ["overlays/dev", "overlays/prod"])
def test_namespaces_enforce_the_restricted_standard(rendered: Rendered, overlay: str) -> None:
    [namespace] = rendered(overlay).of("Namespace")
    assert namespace["metadata"]["labels"]["pod-security.kubernetes.io/enforce"] == "restricted"
    assert {manifest["metadata"].get("namespace", name_of(namespace)) for manifest in rendered(overlay).manifests} == {
        name_of(namespace)
    }
