# The loop from a bare machine: Python 3.11 to 3.13 and make are enough. `make` alone lists the targets.
# Every target installs what it misses first, and is quick when nothing is missing.

PYTHON ?= python3
ARGS ?=
BIN := .venv/bin

# No library calls home, and numeric libraries leave the cores to the processes that share them.
export DO_NOT_TRACK := true
export MLFLOW_DISABLE_TELEMETRY := true
export PREFECT_SERVER_ANALYTICS_ENABLED := false
export OMP_NUM_THREADS ?= 1

.DEFAULT_GOAL := help
.PHONY: help install env data demo up down doctor test test-services test-compose lint lint-stack fmt bench bench-parts parity chaos-short chaos chaos-events-short chaos-events lock chaos-compose budget clean clean-caches clean-env

help: ## List the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-18s %s\n", $$1, $$2 }' Makefile
	@echo "  More: ARGS='...' is handed to the command of demo, test, bench, bench-parts, parity and chaos; PYTHON=/path/to/python3.12 chooses the Python."

install: env data ## Install everything: locked packages by hash into .venv, then the flight data

env: ## Make .venv complete (the locked packages and this repository), nothing else
	@command -v $(PYTHON) > /dev/null || { echo "There is no $(PYTHON). Next: install Python 3.11, 3.12 or 3.13, or make PYTHON=/path/to/python3.12 ..." >&2; exit 1; }
	@$(PYTHON) requirements/install.py

data: env ## Bring the flight data to data/ (once; the last step that needs a network)
	@$(BIN)/python -m mlops_lab.flights.fetch

demo: install ## Run the whole loop on real flights and report what happened
	$(BIN)/lab demo $(ARGS)

# One of core, streaming, observability, all; several with commas between.
PROFILE ?= core

up: ## Build and start the whole platform on Docker, wait until it is healthy, say where to look (PROFILE=all for everything)
	@bash platform/deploy/compose/up.sh "$(PROFILE)"

down: ## Stop the platform on Docker; its data stays
	docker compose --profile '*' down

doctor: env ## Look for what usually goes wrong on a machine
	$(BIN)/lab doctor

test: install ## Run the tests (ARGS='tests/spec -k audit' for some)
	$(BIN)/python -m pytest $(ARGS)

# LAB_TEST_LONG=1 adds a Prefect server that is away for so long that it forgets a run: six minutes.
test-services: install ## Run the tests on real servers: Kafka, Redis, S3, a collector (LAB_TEST_ variables name them) and PostgreSQL (its programs suffice)
	$(BIN)/python -m pytest tests/services $(ARGS)

# A test that is the first to need a stack builds it, too, and on a bare machine that takes long. What waits in there has limits of its own.
test-compose: env ## Run the tests of the whole stack on this machine's Docker, as root: its own project, ports and volumes
	$(BIN)/python -m pytest tests/stack --timeout 1800 $(ARGS)

lint: env ## Check style, format, types, the direction of imports, and the Dockerfile
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/hadolint platform/deploy/docker/Dockerfile

lint-stack: env ## Check rules with their tests, queries of dashboards, Prometheus' and Alertmanager's configuration (wants promtool, amtool)
	PYTHON=$(CURDIR)/$(BIN)/python bash platform/deploy/observability/lint.sh

fmt: env ## Repair style and format where a tool can
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

bench: install ## Measure the service beside MLflow and FastAPI; results in tests/benchmarks/results (ARGS=--quick tries it)
	@PYTHONPATH=$(CURDIR)/tests$${PYTHONPATH:+:$$PYTHONPATH} $(BIN)/python -m benchmarks.serving $(ARGS)

bench-parts: install ## Measure single parts: each tests/benchmarks/bench_*.py prints its figures
	@for bench in tests/benchmarks/bench_*.py; do echo "== $$bench"; $(BIN)/python "$$bench" $(ARGS) || exit 1; done

parity: install ## Compare 20,000 flights served through Kafka and Redis with training (ARGS='--kafka host:port --redis URL')
	$(BIN)/python tests/parity_proof.py $(ARGS)

chaos-short: install ## Try to break the service in a few minutes, as CI does (ARGS='F6 F16' for some)
	$(BIN)/lab chaos --short $(ARGS)

chaos: install ## Try to break the service at full size (half an hour), and write platform/docs/faults.md
	$(BIN)/lab chaos --long --write $(ARGS)

# These kill a Kafka broker of this machine. BROKER starts it on the data it had and returns when it answers, BROKER_PID is the file with
# its pid, LAB_EVENTS__KAFKA its address.
BROKER ?=
BROKER_PID ?=
FAULTS ?= E1 E2 E3 E4

chaos-events-short: install ## Kill broker, stream processor and Redis a few times, as CI does (BROKER='...' BROKER_PID=FILE FAULTS='E1 E2')
	$(BIN)/lab chaos --short --broker "$(BROKER)" --broker-pid "$(BROKER_PID)" $(FAULTS) $(ARGS)

chaos-events: install ## The same at full size (half an hour), and write platform/docs/faults.md
	$(BIN)/lab chaos --long --write --broker "$(BROKER)" --broker-pid "$(BROKER_PID)" $(FAULTS) $(ARGS)

# UPGRADE=--upgrade takes newer versions; without it the versions stay and only what pyproject.toml changed moves.
UPGRADE ?=
COMPILE := UV_CUSTOM_COMPILE_COMMAND="make lock" $(BIN)/uv pip compile --quiet --universal --python-version 3.11 \
	--generate-hashes --no-emit-index-url --no-annotate $(UPGRADE)

# What the image that answers requests holds: no MLflow, no scikit-learn, no pandas, and nothing that only a terminal needs.
SERVING_EXTRAS := serving online postgres s3 telemetry
TERMINAL := markdown-it-py mdurl pygments rich

lock: env ## Resolve the versions again (UPGRADE=--upgrade for newer ones), then install them
	$(COMPILE) --all-extras --group dev pyproject.toml -o requirements/lock.txt
	$(COMPILE) -c requirements/lock.txt requirements/bootstrap.in -o requirements/bootstrap.txt
	$(COMPILE) --extra all -c requirements/lock.txt pyproject.toml -o requirements/platform.txt
	$(COMPILE) $(SERVING_EXTRAS:%=--extra %) $(TERMINAL:%=--no-emit-package %) -c requirements/lock.txt pyproject.toml -o requirements/serving.txt
	@$(PYTHON) requirements/install.py

chaos-compose: env ## The faults of the whole stack at full size, as root: its database restarted twenty times under traffic, among others
	STACK_RESTARTS=20 $(BIN)/python -m pytest tests/stack/test_when_broken.py --timeout 1800 $(ARGS)

budget: ## Measure what each profile of the platform on Docker takes, and write platform/docs/budget.md (LEAVE_OUT='grafana' PROFILES='core')
	@python3 platform/deploy/compose/budget.py $(PROFILES)

clean: ## Delete the data of the platform on Docker, after asking
	@bash platform/deploy/compose/clean.sh

clean-caches: ## Remove caches of tools; state, data and .venv stay
	rm -rf .pytest_cache .ruff_cache .mypy_cache .hypothesis .import_linter_cache
	find platform tests -type d -name __pycache__ -prune -exec rm -rf {} +

clean-env: ## Remove .venv; the next target makes it again
	rm -rf .venv
