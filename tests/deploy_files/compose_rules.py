"""What must hold in docker-compose.yml, Dockerfile and Caddyfile. A rule yields a sentence for each violation."""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import urlsplit

from deploy.docker import init_env
from deploy.k8s.settings import PORT
from deploy.local.services import API, MAIL, PROCESSES, Process
from tests.deploy_files.rules import DISK, USE_THE_LAKE

ALL_PROCESSES: Final = (*PROCESSES, MAIL)
WRITTEN: Final = {*init_env.PASSWORDS, *init_env.AIRFLOW_SECRETS, init_env.AIRFLOW_API_KEY}
TMPFS_BYTES: Final = 64 * 2**20
_STORE_PORTS: Final = {"postgres": 5432, "mongo": 27017, "redis": 6379, "mail": 1025}
_DONE: Final = {"condition": "service_completed_successfully"}
_HEALTHY: Final = {"condition": "service_healthy"}
_CREDENTIALS: Final = re.compile(r"://(?P<user>[^:/@]*):(?P<password>[^@]*)@")


@dataclass
class Files:
    """The Compose file, read, and the texts of the other two."""

    compose: dict[str, Any]
    dockerfile: str
    caddyfile: str

    @property
    def services(self) -> dict[str, dict[str, Any]]:
        """Name -> service."""
        services: dict[str, dict[str, Any]] = self.compose["services"]
        return services

    @property
    def processes(self) -> list[tuple[Process, dict[str, Any]]]:
        """Our processes that have a service."""
        return [(process, self.services[process.name]) for process in ALL_PROCESSES if process.name in self.services]


def every_process_runs(files: Files) -> Iterator[str]:
    """There is a service for every process, from the image of its own service."""
    for process in ALL_PROCESSES:
        if process.name not in files.services:
            yield f"{process.name} is missing"
    for process, service in files.processes:
        if service["command"] != [f"services.{process.service}", process.job]:
            yield f"{process.name} runs {service['command']}"
        if (
            not service["image"].startswith(f"stockflow-{process.service}:")
            or service["build"]["args"]["SERVICE"] != process.service
        ):
            yield f"{process.name} runs the image {service['image']}"


def secrets_are_required(files: Files) -> Iterator[str]:
    """Every secret is one that `make init-env` writes, and Compose refuses to start without."""
    required = set()
    for path, text in _texts(files.services):
        for name, modifier in re.findall(r"(?<!\$)\$\{(\w+)(:\?)?", text):
            if modifier:
                required.add(name)
            elif name in WRITTEN:
                yield f"{path}: {name} may be missing"
        login = _CREDENTIALS.search(text)
        is_secret = re.search(r"PASSWORD|SECRET", path)
        if (login and not login["password"].startswith("${")) or (is_secret and not text.startswith("${")):
            yield f"{path} shows a secret"
    if required != WRITTEN:
        yield f"required and written are not the same: {sorted(required ^ WRITTEN)}"


def what_is_needed_is_waited_for(files: Files) -> Iterator[str]:
    """Processes start after the jobs, jobs after their stores, the gateway after all APIs."""
    wanted: dict[str, dict[str, Any]] = {
        "migrations": {"postgres": _HEALTHY},
        "topics": {"kafka": _HEALTHY},
        "gateway": {process.name: _HEALTHY for process in ALL_PROCESSES if process.job == API},
    }
    for process in ALL_PROCESSES:
        mongo = {"mongo": _HEALTHY} if process.service == "analytics" else {}
        wanted[process.name] = {"migrations": _DONE, "topics": _DONE, **mongo}
    for name, needed in wanted.items():
        found = files.services.get(name, {}).get("depends_on", {})
        for other in (other for other, condition in needed.items() if found.get(other) != condition):
            yield f"{name} does not wait for {other}"


def addresses_lead_to_the_stores(files: Files) -> Iterator[str]:
    """Each process connects to the stores of this file, as its own role."""
    for process, service in files.processes:
        users = {
            "DATABASE_URL": f"stockflow_{process.service}",
            "BATCH_DATABASE_URL": "stockflow_batch",
            "MONGO_URL": process.service,
            "REDIS_URL": "",
        }
        for name, value in service["environment"].items():
            address = re.sub(r"^\$\{\w+:-(.*)\}$", r"\1", value)
            if not name.endswith("_URL") or "://" not in address:
                continue
            login = _CREDENTIALS.search(address)
            if name in users and (login is None or login["user"] != users[name]):
                yield f"{process.name}: {name} is not the address of {users[name] or 'the password alone'}"
            parts = urlsplit(_CREDENTIALS.sub("://", address))
            if parts.hostname not in files.services or parts.port != _STORE_PORTS.get(parts.hostname):
                yield f"{process.name}: nobody listens at {parts.hostname}:{parts.port} of {name}"


def processes_have_their_files(files: Files) -> Iterator[str]:
    """The keys where they are looked for, the lake where it is a folder, a disk for what exceeds the tmpfs."""
    for process, service in files.processes:
        mounts = {volume.split(":")[1] for volume in service.get("volumes", [])}
        given = service["environment"]
        keys = {f"/run/secrets/{secret['target']}" for secret in service.get("secrets", [])}
        if process.job == API and given["API_KEYS_FILE"] not in keys:
            yield f"{process.name} does not find {given['API_KEYS_FILE']}"
        if process.name in USE_THE_LAKE and not any(given["LAKE_URL"].startswith(f"{mount}/") for mount in mounts):
            yield f"{process.name} has no volume for {given['LAKE_URL']}"
        if service["tmpfs"] != ([] if "/tmp" in mounts else ["/tmp:size=64m,mode=1777"]):
            yield f"{process.name} has no /tmp"
        if DISK.get(process.name, 0) > TMPFS_BYTES and "/tmp" not in mounts:
            yield f"{process.name} keeps in memory what belongs on disk"


def networks_are_apart(files: Files) -> Iterator[str]:
    """Stores and workers are reached from nowhere and reach nothing else; only mails leave."""
    networks = files.compose["networks"]
    if networks["stores"] != {"internal": True}:
        yield "the stores can be reached"
    for process, service in files.processes:
        wanted = (
            {"stores"} | ({"gateway"} if process.job == API else set()) | ({"outside"} if process == MAIL else set())
        )
        if set(service["networks"]) != wanted:
            yield f"{process.name} is in {sorted(service['networks'])} instead of {sorted(wanted)}"
    for store in ("postgres", "mongo", "redis", "kafka"):
        if files.services[store]["networks"] != ["stores"]:
            yield f"{store} is in {files.services[store]['networks']}"


def the_gateway_shows_every_api(files: Files) -> Iterator[str]:
    """Each prefix leads to its API; probes and metrics are hidden, and nothing below /api is."""
    routes = set(re.findall(r"^\thandle (/\S+)/\* \{\s+import service (\S+):(\d+)", files.caddyfile, re.MULTILINE))
    wanted = {
        (service["environment"]["ROOT_PATH"], process.name, str(PORT))
        for process, service in files.processes
        if process.job == API
    }
    if routes != wanted:
        yield f"the gateway routes {sorted(routes ^ wanted)} or does not"
    if not re.search(
        r"^\t@inside path /\*/metrics /\*/healthz /\*/readyz\n\trespond @inside 404$", files.caddyfile, re.M
    ):
        yield "the gateway shows the inside, or hides more"


def images_are_lean_and_watched(files: Files) -> Iterator[str]:
    """The result holds the environment and the code, no installer, runs as nobody, and says how it is."""
    *_, result = _stages(files.dockerfile)
    copies = [instruction for instruction in result if instruction.startswith(("COPY", "ADD"))]
    if copies != ["COPY --from=build /opt/venv /opt/venv", "COPY --from=build /app /app"]:
        yield f"the result gets {copies}"
    runs = " ".join(instruction for instruction in result if instruction.startswith("RUN"))
    if (
        "rm -rf /usr/local/bin/pip* /usr/local/lib/python3.*/site-packages/*" not in runs
        or "apt-get" in runs
        or "pip install" in runs
    ):
        yield "the result can install"
    users = [instruction for instruction in result if instruction.startswith("USER")]
    if users != ["USER 10001:10001"] or result.index(users[0]) < max(map(result.index, copies)):
        yield f"the result runs as {users}"
    if not any(re.match(rf"HEALTHCHECK .*http://127\.0\.0\.1:{PORT}/healthz", instruction) for instruction in result):
        yield "nobody asks how the result is"
    [install] = [
        instruction for stage in _stages(files.dockerfile) for instruction in stage if "--requirement" in instruction
    ]
    if "--require-hashes" not in install or "--only-binary :all:" not in install:
        yield "packages are not checked"


RULES: Final = (
    every_process_runs,
    secrets_are_required,
    what_is_needed_is_waited_for,
    addresses_lead_to_the_stores,
    processes_have_their_files,
    networks_are_apart,
    the_gateway_shows_every_api,
    images_are_lean_and_watched,
)


def _texts(value: Any, path: str = "") -> Iterator[tuple[str, str]]:
    """Every text below a value, with the names that lead to it."""
    if isinstance(value, Mapping):
        for name, each in value.items():
            yield from _texts(each, f"{path}.{name}".removeprefix("."))
    elif isinstance(value, list):
        for each in value:
            yield from _texts(each, path)
    elif isinstance(value, str):
        yield path, value


def _stages(dockerfile: str) -> list[list[str]]:
    """The instructions of each stage, one a line, without comments."""
    lines = "\n".join(line for line in dockerfile.splitlines() if not line.lstrip().startswith("#"))
    instructions = [
        re.sub(r"\s+", " ", line).strip() for line in lines.replace("\\\n", " ").splitlines() if line.strip()
    ]
    stages: list[list[str]] = []
    for instruction in instructions:
        if instruction.startswith("FROM"):
            stages.append([])
        elif stages:
            stages[-1].append(instruction)
    return stages
