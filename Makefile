# `make` alone lists what there is.
.DEFAULT_GOAL := help
.PHONY: help setup demo up down status test test-slow bench chaos check format lock migrate clean
.PHONY: setup-airflow test-airflow init-env image test-deploy test-image cluster-secrets cluster-settings

PYTHON ?= $(shell command -v python3.11 || command -v python3)
RUN := .venv/bin/python
SETUP := .venv/stamp
PORTS ?= default
SERVICES := inventory reorder pipeline analytics migrations
BENCHES := aiokafka faststream quix bytewax faust profiler

help:  ## This list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-16s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

setup: $(SETUP)  ## Create .venv from the hash-pinned locks (nothing to do while they are unchanged)

$(SETUP): requirements/bootstrap.txt requirements/dev.txt
	test -x .venv/bin/uv || $(PYTHON) -m venv .venv
	test -x .venv/bin/uv || $(RUN) -m pip install --quiet --require-hashes -r requirements/bootstrap.txt
	.venv/bin/uv pip sync --quiet --compile-bytecode --python $(RUN) --require-hashes $^
	touch $@

demo: setup  ## Run everything once on sample data, or DATA=file, and print what was found
	$(RUN) -m tools.demo $(if $(DATA),--data $(DATA))

up: setup  ## Serve until Ctrl-C; PORTS=auto picks free ports
	$(RUN) -m deploy.local up --ports $(PORTS)

down: setup  ## Stop what `make up` started in another terminal
	$(RUN) -m deploy.local down

status: setup  ## List the processes of `make up`
	$(RUN) -m deploy.local status

S3_SERVER := .local/s3-server

$(S3_SERVER)/stamp: requirements/s3-server.txt | $(SETUP)
	test -x $(S3_SERVER)/bin/python || $(RUN) -m venv --without-pip $(S3_SERVER)
	.venv/bin/uv pip sync --quiet --compile-bytecode --python $(S3_SERVER)/bin/python --require-hashes $<
	touch $@

test: setup setup-airflow $(S3_SERVER)/stamp  ## Run the tests, on real servers, without the slow ones
	$(RUN) -m pytest -m "not slow" $(TESTS)

test-slow: setup $(S3_SERVER)/stamp  ## Run the slow tests: chaos, Apache Kafka, a lost broker, long files, the local stack's crashes
	$(RUN) -m pytest -m slow $(TESTS)

AIRFLOW := .local/airflow

setup-airflow: $(AIRFLOW)/stamp  ## Create Airflow's own environment, for the tests of the DAGs

$(AIRFLOW)/stamp: requirements/airflow.txt | $(SETUP)
	test -x $(AIRFLOW)/bin/python || $(RUN) -m venv $(AIRFLOW)
	.venv/bin/uv pip sync --quiet --python $(AIRFLOW)/bin/python --require-hashes $<
	AIRFLOW_HOME=$(CURDIR)/$(AIRFLOW)/home $(AIRFLOW)/bin/airflow db migrate
	touch $@

test-airflow: setup setup-airflow  ## Run every DAG in Airflow: alone, and with a real scheduler
	$(RUN) -m pytest tests/airflow

bench: setup $(BENCHES:%=.local/bench/%/stamp)  ## Measure every promise of docs/performance.md beside its peers; SHORT=1
	$(RUN) -m benchmarks $(if $(SHORT),--short)

.local/bench/%/stamp: benchmarks/peers/%.txt | $(SETUP)
	test -x .local/bench/$*/bin/python || $(RUN) -m venv --without-pip .local/bench/$*
	.venv/bin/uv pip sync --quiet --compile-bytecode --python .local/bench/$*/bin/python --require-hashes $<
	touch $@

chaos: setup  ## Prove exactness under kills, zombies and restarts; SHORT=1, KAFKA=apache
	$(RUN) -m tools.chaos $(if $(SHORT),--short) $(if $(KAFKA),--broker $(KAFKA))

check: setup  ## Format, lint, types, import rules, and the tests that need no server
	.venv/bin/ruff format --check .
	.venv/bin/ruff check .
	.venv/bin/mypy
	.venv/bin/lint-imports --no-cache
	$(RUN) -m pytest --quiet -m "not servers and not slow"

format: setup  ## Rewrite the code in the house's format
	.venv/bin/ruff check --fix-only --quiet .
	.venv/bin/ruff format .

LOCK := .venv/bin/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-header --no-emit-index-url

lock: setup  ## Renew requirements/*.txt from pyproject.toml (UPGRADE=1: to the newest versions)
	$(LOCK) $(if $(UPGRADE),--upgrade) --group bootstrap -o requirements/bootstrap.txt
	$(LOCK) $(if $(UPGRADE),--upgrade) --group deploy-checks -o requirements/deploy-checks.txt
	$(LOCK) $(if $(UPGRADE),--upgrade) --group s3-server -o requirements/s3-server.txt
	$(LOCK) $(if $(UPGRADE),--upgrade) --group airflow -o requirements/airflow.txt
	$(LOCK) $(if $(UPGRADE),--upgrade) --group dev pyproject.toml -o requirements/dev.txt
	for name in $(SERVICES); do $(LOCK) -c requirements/dev.txt --no-annotate --group $$name pyproject.toml -o requirements/$$name.txt || exit; done
	for name in $(BENCHES); do $(LOCK) $(if $(UPGRADE),--upgrade) --no-annotate --group bench-$$name -o benchmarks/peers/$$name.txt || exit; done

migrate: setup  ## Bring the database of MIGRATIONS_DATABASE_URL to the present version
	$(RUN) -m migrations

VERSION := $(shell sed -n 's/^version = "\(.*\)"/\1/p' pyproject.toml)
BUILDER ?= docker
BUILD := $(if $(filter buildah,$(BUILDER)),buildah bud --format docker --isolation chroot --layers,docker build)
BUILD += -f deploy/docker/Dockerfile --build-arg VERSION=$(VERSION)
BUILD += $(if $(PYTHON_IMAGE),--build-arg PYTHON_IMAGE=$(PYTHON_IMAGE))

init-env:  ## Write the random secrets and API keys for Docker Compose that are missing
	$(PYTHON) -m deploy.docker.init_env

image:  ## Build the images, with BUILDER=docker or buildah, on PYTHON_IMAGE
	for name in $(SERVICES); do $(BUILD) --build-arg SERVICE=$$name -t stockflow-$$name:$(VERSION) . || exit; done

CHECKS := .local/deploy-checks

$(CHECKS)/stamp: requirements/deploy-checks.txt | $(SETUP)
	test -x $(CHECKS)/bin/python || $(RUN) -m venv $(CHECKS)
	.venv/bin/uv pip sync --quiet --python $(CHECKS)/bin/python --require-hashes $<
	touch $@

test-deploy: setup $(CHECKS)/stamp  ## Check the Docker and Kubernetes files with the tools that read them
	$(RUN) -m pytest tests/deploy_files --ignore tests/deploy_files/test_images.py

test-image: setup  ## Run the demo through the images of `make image BUILDER=buildah`, as root
	$(RUN) -m pytest tests/deploy_files/test_images.py

cluster-secrets:  ## Print the Secrets of the dev overlay, for `kubectl apply -f -`
	@$(PYTHON) -m deploy.k8s.secrets

cluster-settings: setup  ## Write the ConfigMaps' settings.env from the settings classes
	$(RUN) -m deploy.k8s.settings

clean:  ## Remove the environment, caches and local data
	rm -rf .venv .local .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
