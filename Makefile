# `make demo` and `make test` need nothing but Python >= 3.11 and set everything up themselves.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
WORKDIR ?= runs/demo

.PHONY: help demo test lint types unit bench clean
.DEFAULT_GOAL := help

help:  ## this list
	@grep -E '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 10

# A stamp for each set of requirements, so that an installation is made once and renewed when they change.
$(VENV)/.run: pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] < (3, 14))' || \
	  { echo "error: flaxseg needs Python 3.11, 3.12 or 3.13, and $(PYTHON) is another; try: make PYTHON=python3.11 $(MAKECMDGOALS)"; exit 1; }
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable .
	touch $@

$(VENV)/.test: $(VENV)/.run
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[test]'
	touch $@

demo: $(VENV)/.run  ## train on the embedded data set and show the result
	$(BIN)/python -m flaxseg.main --config=configs/shapes.py --workdir=$(WORKDIR)

test: lint types unit  ## lint, types and the ordinary tests

lint: $(VENV)/.test  ## ruff
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(VENV)/.test  ## mypy
	$(BIN)/mypy

unit: $(VENV)/.test  ## the ordinary tests, on every core
	$(BIN)/python -m pytest -n auto --dist loadgroup --durations 10

bench: $(VENV)/.run  ## time a training step and an inference call
	$(BIN)/python benchmarks/step.py

clean:  ## remove the environment and the caches, but no run
	rm -rf $(VENV) build *.egg-info .pytest_cache .mypy_cache .ruff_cache
