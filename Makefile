# make run   set up, then run the quickstart job
# make test  set up, then run the tests (under 5 minutes)
.DEFAULT_GOAL := help
SHELL := /bin/sh
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.ready
PYTHON ?= python3
UV = $(shell command -v uv || echo $(BIN)/uv)
JOB ?= jobs/quickstart.toml

.PHONY: help setup run test test-slow audit interop airflow torch browser lint types bench bench-peers lock clean
help:
	@sed -n 's/^# make /make /p' Makefile

setup: $(STAMP)
# The stamp stands for "installed as the lock says"; uv is used when it is there, else installed into the venv.
$(STAMP): requirements.lock pyproject.toml
	@command -v $(PYTHON) >/dev/null || { echo "make needs $(PYTHON) (3.11 or newer)"; exit 2; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "batchembed needs Python 3.11 or newer; try: make PYTHON=python3.12 run"; exit 2; }
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@command -v uv >/dev/null || test -x $(BIN)/uv || $(BIN)/python -m pip install --quiet uv
	@$(UV) pip sync --quiet --python $(BIN)/python --require-hashes --compile-bytecode requirements.lock
	@$(UV) pip install --quiet --python $(BIN)/python --no-deps --editable .
	@touch $(STAMP)

run: $(STAMP)
	@$(BIN)/batchembed run $(JOB)

test: $(STAMP)
	@$(BIN)/python -m pytest -n auto

# make test-slow  the suites that take longer
test-slow: $(STAMP)
	@$(BIN)/python -m pytest -m slow -n auto

# make interop  install the readers that test-slow tries our files with, in a venv of their own
interop: $(STAMP)
	@test -x .venv-interop/bin/python || $(BIN)/python -m venv .venv-interop
	@$(UV) pip install --quiet --python .venv-interop/bin/python --group interop

# make airflow  install the Airflow that test-slow runs our DAG with, in a venv of its own
airflow: $(STAMP)
	@test -x .venv-airflow/bin/python || $(BIN)/python -m venv .venv-airflow
	@$(UV) pip install --quiet --python .venv-airflow/bin/python --editable '.[airflow]'

# make torch  install torch, which test-slow tries comparisons with, in a venv of its own
torch: $(STAMP)
	@test -x .venv-torch/bin/python || $(BIN)/python -m venv .venv-torch
	@$(UV) pip install --quiet --python .venv-torch/bin/python --editable . --group torch

# make browser  install what test-slow opens the report with: playwright, and Chromium where apt-get may
browser: $(STAMP)
	@$(UV) pip install --quiet --python $(BIN)/python --group browser
	@command -v chromium >/dev/null || apt-get install -y -qq chromium >/dev/null 2>&1 || echo "no chromium: install it with your system's package manager, or name one in BATCHEMBED_CHROMIUM"

# make vendors  install the vendors' own clients, whose requests test-slow records again
.PHONY: vendors
vendors: $(STAMP)
	@test -x .venv-vendors/bin/python || $(BIN)/python -m venv .venv-vendors
	@$(UV) pip install --quiet --python .venv-vendors/bin/python --group vendors

# make infinity  install Infinity and a small model, which test-slow runs a job through, in a venv of their own
.PHONY: infinity
infinity: $(STAMP)
	@test -x .venv-infinity/bin/python || $(BIN)/python -m venv .venv-infinity
	@.venv-infinity/bin/python -m pip install --quiet torch==2.13.0
	@$(UV) pip install --quiet --python .venv-infinity/bin/python --group infinity

# make docs  build the pages as a site, in site/; what is built needs no network
.PHONY: docs
docs: $(STAMP)
	@test -x .venv-docs/bin/python || $(BIN)/python -m venv .venv-docs
	@test -x .venv-docs/bin/mkdocs || $(UV) pip install --quiet --python .venv-docs/bin/python --group docs
	@NO_MKDOCS_2_WARNING=1 .venv-docs/bin/mkdocs build --strict --quiet
	@echo "built: site/index.html; its search needs a server: python3 -m http.server -d site"

# make lint  ruff and mypy
lint: $(STAMP)
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
types: $(STAMP)
	@$(BIN)/mypy

# make audit  ask an advisory source about every pin of requirements.lock
audit: $(STAMP)
	@$(BIN)/python tools/audit.py

# make mutants  change the source one thing at a time, and see whether a test fails; ARGS="--sample 400 --seed 7"
.PHONY: mutants
mutants: $(STAMP)
	@test -x .venv-mutants/bin/python || $(BIN)/python -m venv .venv-mutants
	@$(UV) pip install --quiet --python .venv-mutants/bin/python --group mutants
	@.venv-mutants/bin/python tools/mutants.py $(ARGS)

# make bench  measure, as ratios in one run; prints the tables of docs/benchmarks.md
bench: $(STAMP)
	@$(BIN)/python -m benchmarks

# make bench-peers  measure comparisons beside faiss and others, in a venv of their own; goes on where it stopped
bench-peers: $(STAMP)
	@test -x .venv-peers/bin/python || $(BIN)/python -m venv .venv-peers
	@$(UV) pip install --quiet --python .venv-peers/bin/python --editable . --group bench-peers
	@.venv-peers/bin/python -m benchmarks.peers --results .peers.jsonl

# make lock  resolve pyproject.toml anew into requirements.lock
lock:
	@$(UV) pip compile --quiet --universal --generate-hashes --no-emit-index-url --no-header --group dev pyproject.toml -o requirements.lock

clean:
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache
