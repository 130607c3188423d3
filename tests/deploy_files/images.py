"""Runs the processes of built images without a container engine: in their root file system, as their user, locked down.

What a container would add - other namespaces, limits - is left out, so that the servers of the embedded stack are
reachable. Needs root, `buildah` and the images of `make image BUILDER=buildah`.
"""

import json
import os
import shutil
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from deploy.local.ports import LOOPBACK
from deploy.local.services import API, Process, answers
from deploy.local.supervisor import Program

USER: Final = "10001"
SECRETS: Final = "/run/secrets"
STATE: Final = "/var/lib/stockflow"

# The mounts of a container with a read-only root, then the program as a user without any capability.
_START: Final = f"""
set -eu
root=$1 secrets=$2 state=$3 directory=$4
shift 4
mount --bind "$root" "$root"
mount -o remount,bind,ro "$root"
mount -t tmpfs -o size=64m,mode=1777 tmpfs "$root/tmp"
mount -t tmpfs tmpfs "$root/run"
mkdir "$root{SECRETS}"
mount --bind "$secrets" "$root{SECRETS}"
mount --bind "$state" "$root{STATE}"
mount --bind /proc "$root/proc"
mount --bind /dev "$root/dev"
exec chroot "$root" setpriv --reuid {USER} --regid {USER} --clear-groups --no-new-privs --bounding-set=-all \\
    --pdeathsig TERM env --ignore-environment --chdir "$directory" "$@"
"""


@dataclass(frozen=True, slots=True)
class Image:
    """A built image, its root file system mounted."""

    service: str
    root: Path
    configuration: Mapping[str, Any]

    def argv(self, arguments: tuple[str, ...], environment: Mapping[str, str], folder: Path) -> tuple[str, ...]:
        """The command that runs the image with these arguments; `folder` holds its secrets and its state."""
        variables = [*self.configuration["Env"], *(f"{name}={value}" for name, value in environment.items())]
        mounts = (str(self.root), str(folder / "secrets"), str(folder / "state"), self.configuration["WorkingDir"])
        command = (*variables, *self.configuration["Entrypoint"], *arguments)
        return ("unshare", "--mount", "sh", "-c", _START, "sh", *mounts, *command)


@dataclass(frozen=True, slots=True)
class Images:
    """The images of all services, and a folder for the secrets and the state of their processes."""

    images: Mapping[str, Image]
    folder: Path

    def program(self, process: Process, port: int, environment: Mapping[str, str], logs: Path) -> Program:
        """A process of the local stack, run from its image."""
        is_api = process.job == API
        own = {
            "HOST": LOOPBACK,
            "PORT" if is_api else "OPS_PORT": str(port),
            "API_KEYS_FILE": f"{SECRETS}/api-keys.json",
            "LAKE_URL": f"{STATE}/lake",
        }
        shutil.copyfile(environment["API_KEYS_FILE"], self.folder / "secrets" / "api-keys.json")
        arguments = (f"services.{process.service}", process.job)
        return Program(
            name=process.name,
            argv=self.images[process.service].argv(arguments, {**environment, **own}, self.folder),
            log=logs / f"{process.name}.log",
            ready=answers(port, "/readyz" if is_api else "/healthz"),
        )

    def run(self, service: str, *arguments: str, **environment: str) -> str:
        """What a one-shot command of an image prints. Raises CalledProcessError when it fails."""
        argv = self.images[service].argv(arguments, environment, self.folder)
        return subprocess.run(argv, check=True, capture_output=True, text=True).stdout


@contextmanager
def mounted(names: Mapping[str, str], folder: Path) -> Iterator[Images]:
    """The images by service (service -> image name), mounted while the block runs."""
    for name in ("secrets", "state"):
        (folder / name).mkdir(parents=True)
        os.chown(folder / name, int(USER), int(USER))
    with ExitStack() as mounts:
        images = {service: mounts.enter_context(_mounted(service, name)) for service, name in names.items()}
        yield Images(images, folder)


@contextmanager
def _mounted(service: str, name: str) -> Iterator[Image]:
    configuration = json.loads(_buildah("inspect", "--type", "image", name))["Docker"]["config"]
    container = _buildah("from", "--pull-never", name)
    try:
        yield Image(service, Path(_buildah("mount", container)), configuration)
    finally:
        _buildah("rm", container)


def exist(names: Mapping[str, str]) -> bool:
    """Whether all images have been built."""
    return shutil.which("buildah") is not None and all(_exists(name) for name in names.values())


def _exists(name: str) -> bool:
    return (
        subprocess.run(["buildah", "inspect", "--type", "image", name], check=False, capture_output=True).returncode
        == 0
    )


def _buildah(*arguments: str) -> str:
    return subprocess.run(["buildah", *arguments], check=True, capture_output=True, text=True).stdout.strip()
