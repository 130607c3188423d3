"""The rendered manifests follow their schemas and our rules."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.deploy_files import schemas
from tests.deploy_files.cluster import KUSTOMIZATIONS, RENDERED, Cluster, name_of
from tests.deploy_files.programs import program
from tests.deploy_files.rules import RULES, Rule

Rendered = Callable[[str], Cluster]


@pytest.mark.parametrize("kustomization", RENDERED)
@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.__name__)
def test_a_rendered_cluster_follows_the_rules(rendered: Rendered, kustomization: str, rule: Rule) -> None:
    assert list(rule(rendered(kustomization))) == []


def test_rendered_clusters_follow_the_schemas(rendered: Rendered, tmp_path: Path) -> None:
    manifests = {json.dumps(manifest): manifest for each in RENDERED for manifest in rendered(each).manifests}
    distinct = Cluster([*manifests.values()])
    assert schemas.violations(distinct, program("kubernetes-validate"), tmp_path) == []


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
