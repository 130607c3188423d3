"""Every kustomization, rendered once."""

from collections.abc import Callable
from functools import cache

import pytest

from tests.deploy_files.cluster import Cluster, render
from tests.deploy_files.programs import program


@pytest.fixture(scope="session")
def rendered() -> Callable[[str], Cluster]:
    """The cluster of a kustomization, by its folder below deploy/k8s."""
    kubectl = program("kubectl")
    return cache(lambda kustomization: render(kustomization, kubectl))
