# demo · tour              the lessons about exchanges; all lessons
# check · test · coverage   lint, types and unit tests in a minute; all tests; all tests with their coverage
# lint · matrix · bench     and the large runs: nightly, which is conformance, differential, fuzz and cuts
# up · down · clean         the showcase with docker compose; the environment
#
# All of it runs in .venv, which the first of them makes: for `demo` and `tour` with what they need, for the others with
# everything. Which broker: the embedded one; `make demo BROKER=docker` takes RabbitMQ in a container, and
# `make demo BROKER=amqp://guest:guest@127.0.0.1:5672//` a running broker.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
export BROKER

# Where it is set, each of some two hundred processes compiles the same modules again: a tenth of the tests' time.
unexport PYTHONDONTWRITEBYTECODE

# What the showcase runs in: where everything is installed, that will do. A container is started by testcontainers.
SHOWCASE = $(VENV)/$(if $(wildcard $(VENV)/installed),installed,demo$(if $(filter docker,$(BROKER)),-docker))

# How much the large runs compare; SEED repeats one.
CASES ?= 100000
SCRIPTS ?= 2000
FRAMES ?= 1000000
CUTS ?= 10000
SEEDED = $(if $(SEED),--seed $(SEED))

.PHONY: demo tour live check test coverage lint matrix bench nightly conformance differential fuzz cuts up down clean

# The twelve lessons about exchanges, and all lessons.
demo tour: $(SHOWCASE)
	@$(BIN)/python -m publishers $@

# The map, with the showcase's fleet, until Ctrl-C: publish from the page, or with a lesson from another terminal.
live: $(VENV)/installed
	@$(BIN)/waybill -A worker live --fleet docker-compose.yml

check: lint
	@$(BIN)/python -m pytest --quiet -n 2 -m unit tests/unit

# In four processes, since tests with workers and brokers wait more than they compute.
test: $(VENV)/installed
	@$(BIN)/python -m pytest -n 4

# Which branches the tests run, module by module, in this and in the workers' processes; the floor is in pyproject.toml.
coverage: $(VENV)/installed
	@rm -rf build/coverage
	@$(BIN)/python -m coverage run -m pytest --quiet -n 4
	@$(BIN)/python -m coverage combine --quiet
	@$(BIN)/python -m coverage report

lint: $(VENV)/installed
	@$(BIN)/ruff format --check .
	@$(BIN)/ruff check .
	@$(BIN)/mypy

# Each Python that is installed here with each line of Celery and Kombu, and the lowest versions; README has the table.
matrix: $(VENV)/installed
	@$(BIN)/python -m nox

bench: $(VENV)/installed
	@$(BIN)/python -m tools.benchmarks.routing
	@$(BIN)/python -m tools.benchmarks.broker
	@$(BIN)/python -m tools.benchmarks.receipts
	@$(BIN)/python -m tools.benchmarks.publishing
	@$(BIN)/python -m tools.benchmarks.workers
	@$(BIN)/python -m tools.benchmarks.imports
	@$(BIN)/python -m tools.benchmarks.check
	@$(BIN)/python -m tools.benchmarks.diff

# What is generated, in large numbers: each prints its seed, and SEED repeats one.
nightly: conformance differential fuzz cuts
	@seed=$(or $(SEED),$$($(PYTHON) -c 'import random; print(random.randrange(10**6))')); echo "unit tests, seed $$seed"; \
		$(BIN)/python -m pytest --quiet -m unit tests/unit --hypothesis-profile nightly --hypothesis-seed $$seed

# The router beside RabbitMQ, the embedded broker beside RabbitMQ, the embedded broker and broken frames, tasks that are
# published over lines that break.
conformance: $(VENV)/installed
	@$(BIN)/python -m tools.conformance --cases $(CASES) $(SEEDED)

differential: $(VENV)/installed
	@$(BIN)/python -m tools.differential --scripts $(SCRIPTS) $(SEEDED)

fuzz: $(VENV)/installed
	@$(BIN)/python -m tools.fuzz --frames $(FRAMES) $(SEEDED)

cuts: $(VENV)/installed
	@$(BIN)/python -m tools.cut_publishing --runs $(CUTS) $(SEEDED)

up:
	docker compose up --detach --build --wait

down:
	docker compose down --volumes

clean:
	rm -rf $(VENV)

# Stamp -> the extras of pyproject.toml that it stands for.
$(VENV)/installed: EXTRAS = --extra dev
$(VENV)/demo: EXTRAS = --extra showcase
$(VENV)/demo-docker: EXTRAS = --extra showcase --extra docker

$(VENV)/installed $(VENV)/demo $(VENV)/demo-docker: pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "waybill needs Python 3.11 or later; this is %s: make PYTHON=python3.13 ..." % sys.version.split()[0])'
	@$(PYTHON) -m tools.install $(VENV) $(EXTRAS)
	@touch $@
