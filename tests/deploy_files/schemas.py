"""Whether manifests are what their schemas say, in the oldest and the newest Kubernetes that we support."""

import json
import subprocess
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Final

import jsonschema
import yaml

from tests.deploy_files.cluster import Cluster, Manifest, title

KUBERNETES_VERSIONS: Final = ("1.32", "1.37")
_CUSTOM: Final = Path(__file__).parent / "custom_resources"
"""JSON schemas of the custom resources that we use, of the fields that we use: <kind>.json."""


def violations(cluster: Cluster, validator: Path, folder: Path) -> list[str]:
    """What is wrong in each version. Unknown kinds and removed API versions count, although the program only warns."""
    builtin = [manifest for manifest in cluster.manifests if not _schema_file(manifest).exists()]
    file = folder / "manifests.yaml"
    file.write_text(yaml.safe_dump_all(builtin))
    found = [message for version in KUBERNETES_VERSIONS for message in _messages(validator, version, file)]
    return [*found, *_custom_violations(cluster.manifests)]


def _messages(validator: Path, version: str, file: Path) -> Iterator[str]:
    argv = [str(validator), "--strict", "--kubernetes-version", version, str(file)]
    done = subprocess.run(argv, check=False, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    bad = [line for line in done.stdout.splitlines() if not line.startswith("INFO")]
    if done.returncode != 0 and not bad:
        bad = [f"{validator.name} ended with {done.returncode}"]
    yield from (f"{version}: {line}" for line in bad)


def _custom_violations(manifests: Sequence[Manifest]) -> Iterator[str]:
    for manifest in manifests:
        file = _schema_file(manifest)
        if file.exists():
            schema: dict[str, Any] = json.loads(file.read_text())
            for error in jsonschema.Draft202012Validator(schema).iter_errors(manifest):
                yield f"{title(manifest)}: {error.json_path}: {error.message}"


def _schema_file(manifest: Manifest) -> Path:
    return _CUSTOM / f"{manifest['kind']}.json"
