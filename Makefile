# demo · test · lint · bench · conformance · up · down: everything runs in .venv, which the first target makes.
# Which broker: the embedded one; `make demo BROKER=docker` takes RabbitMQ in a container, and
# `make demo BROKER=amqp://guest:guest@127.0.0.1:5672//` one that is there.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
export BROKER


.PHONY: demo test lint bench conformance up down clean

demo: $(VENV)/installed
	@$(BIN)/python -m publishers

test: $(VENV)/installed
	@$(BIN)/python -m pytest

# Messages of the large comparison with RabbitMQ; SEED repeats a run.
CASES ?= 100000

conformance: $(VENV)/installed
	@$(BIN)/python -m tests.conformance --cases $(CASES)

lint: $(VENV)/installed
	@$(BIN)/ruff format --check .
	@$(BIN)/ruff check .
	@$(BIN)/mypy

bench: $(VENV)/installed
	@$(BIN)/python -m benchmarks.routing
	@$(BIN)/python -m benchmarks.receipts

up:
	docker compose up -d --build --wait

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
