# Every command of this project. `make` alone lists them.
PYTHON ?= python3
VENV := .venv
FORMATS := .venv-formats
BENCH := .venv-bench
BIN := $(VENV)/bin
COVERAGE_FLOOR := 93

.DEFAULT_GOAL := help
.PHONY: help demo demo-container test test-quick crash test-radosgw formats test-formats bench-tools bench test-bench lint format type check clean

help: ## list the targets
	@awk -F ':.*## ' '/^[a-zA-Z_%\/.-]+:.*## / {printf "  %-18s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

$(BIN)/python:
	$(PYTHON) -c 'import sys; sys.exit(0 if sys.version_info >= (3, 11) else "holdfast needs Python 3.11 or newer; try make PYTHON=python3.12")'
	$(PYTHON) -m venv $(VENV)

# Locks hold names, versions and hashes; pip checks every file that it installs against them.
$(VENV)/.demo: requirements/demo.txt pyproject.toml | $(BIN)/python
	$(BIN)/python -m pip install --quiet --require-hashes -r requirements/demo.txt
	$(BIN)/python -m pip install --quiet --no-deps --editable .
	touch $@

$(VENV)/.dev: requirements/dev.txt pyproject.toml | $(BIN)/python
	$(BIN)/python -m pip install --quiet --require-hashes -r requirements/dev.txt
	$(BIN)/python -m pip install --quiet --no-deps --editable .
	touch $@

demo: $(VENV)/.demo ## train, interrupt, resume: on this machine, no Docker and no AWS account
	$(BIN)/python -m examples.demo

test: $(VENV)/.dev ## every test, with branch coverage; Docker tests are skipped where there is no Docker
	$(BIN)/coverage erase
	$(BIN)/coverage run -m pytest $(ARGS)
	$(BIN)/coverage combine --quiet
	$(BIN)/coverage report --fail-under=$(COVERAGE_FLOOR)

test-quick: $(VENV)/.dev ## the tests that take seconds: unit, contract, pages and architecture
	$(BIN)/python -m pytest -q tests/unit tests/contract tests/docs tests/test_architecture.py $(ARGS)

crash: $(VENV)/.dev ## kill N lives at operations chosen by SEED (10,000 unless said): nothing may be torn or lost
	$(BIN)/python -m tests.crash.campaign --kills $(or $(N),10000) --seed $(or $(SEED),1) $(ARGS)
	HOLDFAST_RACES=500 HOLDFAST_SUPERVISED_KILLS=60 $(BIN)/python -m pytest -q tests/crash/test_races.py tests/crash/test_supervised.py

test-radosgw: $(VENV)/.dev ## the contract of the stores against Ceph's radosgw, started on loopback (needs its packages)
	$(BIN)/python -m tests.radosgw $(ARGS)

# TensorFlow, JAX and the rest are 2 GB on disk: in an environment of their own. PyTorch is in no lock (CONTRIBUTING.md).
$(FORMATS)/.formats: requirements/formats.txt pyproject.toml
	test -x $(FORMATS)/bin/python || $(PYTHON) -m venv $(FORMATS)
	$(FORMATS)/bin/python -m pip install --quiet --no-deps --require-hashes -r requirements/formats.txt
	$(FORMATS)/bin/python -m pip install --quiet --no-deps --editable .
	touch $@

formats: $(FORMATS)/.formats ## an environment with every framework that the probes know, beside PyTorch

test-formats: $(FORMATS)/.formats ## real checkpoints before the probes, whole and cut; real frameworks under `holdfast run`
	$(FORMATS)/bin/python -m pytest -q tests/formats tests/scripts tests/unit/probes/test_probes.py $(ARGS)

# What holdfast is compared with, in an environment of its own; holdfast as its users install it. The locks leave PyTorch out,
# which one of them imports, so nothing looks for dependencies beside what is locked (CONTRIBUTING.md).
$(BENCH)/.tools: requirements/bench.txt
	test -x $(BENCH)/bin/python || $(PYTHON) -m venv $(BENCH)
	$(BENCH)/bin/python -m pip install --quiet --no-deps --require-hashes -r requirements/bench.txt
	touch $@

.PHONY: installed-bench
installed-bench: $(BENCH)/.tools
	$(BENCH)/bin/python -m pip install --quiet --no-deps --force-reinstall .

bench-tools: installed-bench ## an environment with holdfast and everything that it is compared with

bench: installed-bench ## compare with tools and libraries (SIZE=small: two minutes; BENCH_FLAGS for more, or --help)
	$(BENCH)/bin/python -m benchmarks --size $(or $(SIZE),full) $(BENCH_FLAGS)

test-bench: $(VENV)/.dev installed-bench ## the benchmark itself, on small files: everybody takes part and everything arrives
	HOLDFAST_REQUIRE_BENCH=1 $(BIN)/python -m pytest -q tests/benchmarks $(ARGS)

lint: $(VENV)/.dev ## ruff, and hadolint for the Dockerfile
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/hadolint images/Dockerfile

format: $(VENV)/.dev ## let ruff put everything in form
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

type: $(VENV)/.dev ## mypy --strict on code, tests, examples and benchmarks
	$(BIN)/mypy

check: lint type test ## what has to be green before a commit

clean: ## remove what was built
	rm -rf $(VENV) $(FORMATS) $(BENCH) .demo dist .coverage* .mypy_cache .ruff_cache .pytest_cache

include images/images.mk
