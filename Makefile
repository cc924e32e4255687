# Everything a person or CI runs here. `make` alone lists the commands.
#   VENV=dir      another virtual environment      PYTHON=python3.12   the interpreter that makes it
#   ARGS="..."    handed to run.py or pytest       WORKERS=2           test processes

VENV ?= .venv
PYTHON ?=
ARGS ?=
WORKERS ?= 2

PY := $(VENV)/bin/python
ROOMS := api quote strategies hedger database web cli bench deploy
TYPED = $(foreach room,$(ROOMS),$(if $(wildcard $(room)/*.py),$(room))) $(wildcard run.py config.py)

export PYTHON

.PHONY: help setup run test check lint types format bench vendor lock clean

help:
	@echo "make run      start the desk and its page (ARGS=\"--port 5001\" and so on)"
	@echo "make test     every test (ARGS=\"tests/quote -k tape\")"
	@echo "make check    formatting, lint, types and tests"
	@echo "make bench    the benchmarks"
	@echo "make setup    only install; make format, make vendor, make lock, make clean"

setup: $(VENV)/.ready-dev vendor

run: $(VENV)/.ready
	$(PY) run.py $(ARGS)

test: setup
	$(PY) -m pytest -n $(WORKERS) --dist loadfile -m "not long" $(ARGS)

check: lint types test

lint: $(VENV)/.ready-dev
	$(PY) -m ruff format --check .
	$(PY) -m ruff check .

types: $(VENV)/.ready-dev
	$(PY) -m mypy $(TYPED)

format: $(VENV)/.ready-dev
	$(PY) -m ruff format .
	$(PY) -m ruff check --fix .

bench: setup
	$(PY) -m bench $(ARGS)

# Quick when they are there already. `run.py --web` does the same by itself.
vendor: | $(VENV)/.ready-dev
	@$(PY) deploy/vendor.py

# The environment of a person who only runs it; then the same with the tools for tests on top.
$(VENV)/.ready: requirements.txt deploy/setup.sh
	@sh deploy/setup.sh "$(VENV)" requirements.txt
	@touch $@

$(VENV)/.ready-dev: requirements-dev.txt deploy/setup.sh
	@sh deploy/setup.sh "$(VENV)" requirements-dev.txt
	@touch $(VENV)/.ready $@

# For whoever changes a dependency: needs uv and npm.
LOCK := uv pip compile --quiet --universal --generate-hashes --no-header --python-version 3.11
lock:
	$(LOCK) pyproject.toml -o requirements.txt
	$(LOCK) pyproject.toml --extra dev -c requirements.txt -o requirements-dev.txt
	$(LOCK) --group node --no-annotate -o requirements-node.txt
	npm install --package-lock-only

clean:
	rm -rf $(VENV) node_modules web/static/vendor .mypy_cache .ruff_cache .pytest_cache .hypothesis
