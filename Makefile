# demo · test · lint · matrix · bench · up · down, and the large runs conformance · differential · fuzz. All of it runs in .venv,
# which the first of them makes. Which broker: the embedded one; `make demo BROKER=docker` takes RabbitMQ in a container,
# and `make demo BROKER=amqp://guest:guest@127.0.0.1:5672//` one that is there.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
export BROKER

# How much the large runs compare; SEED repeats one.
CASES ?= 100000
SCRIPTS ?= 2000
FRAMES ?= 1000000
SEEDED = $(if $(SEED),--seed $(SEED))

.PHONY: demo test lint matrix bench conformance differential fuzz up down clean

demo: $(VENV)/installed
	@$(BIN)/python -m publishers

test: $(VENV)/installed
	@$(BIN)/python -m pytest

lint: $(VENV)/installed
	@$(BIN)/ruff format --check .
	@$(BIN)/ruff check .
	@$(BIN)/mypy

# Each Python that is installed here with each line of Celery and Kombu, and the lowest versions; README has the table.
matrix: $(VENV)/installed
	@$(BIN)/python -m nox

bench: $(VENV)/installed
	@$(BIN)/python -m benchmarks.routing
	@$(BIN)/python -m benchmarks.broker
	@$(BIN)/python -m benchmarks.receipts
	@$(BIN)/python -m benchmarks.check
	@$(BIN)/python -m benchmarks.diff

# The router beside RabbitMQ, the embedded broker beside RabbitMQ, the embedded broker and broken frames.
conformance: $(VENV)/installed
	@$(BIN)/python -m tests.conformance --cases $(CASES) $(SEEDED)

differential: $(VENV)/installed
	@$(BIN)/python -m tests.differential --scripts $(SCRIPTS) $(SEEDED)

fuzz: $(VENV)/installed
	@$(BIN)/python -m tests.fuzz --frames $(FRAMES) $(SEEDED)

up:
	docker compose up --detach --build --wait

down:
	docker compose down --volumes

clean:
	rm -rf $(VENV)

$(VENV)/installed: pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "waybill needs Python 3.11 or later; this is %s: make PYTHON=python3.13 ..." % sys.version.split()[0])'
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@echo "installing into $(VENV) ..."
	@$(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]'
	@touch $@
