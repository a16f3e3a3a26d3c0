# `make demo` and `make test` need nothing but Python >= 3.11 and set everything up themselves.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
WORKDIR ?= runs/demo
PARITY ?= .venv-parity

.PHONY: help demo test lint types unit soak bench parity clean
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

demo: $(VENV)/.run  ## train on the embedded dataset and show the result
	$(BIN)/python -m flaxseg.main --config=configs/shapes.py --workdir=$(WORKDIR)

test: lint types unit  ## lint, types and the ordinary tests

lint: $(VENV)/.test  ## ruff
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(VENV)/.test  ## mypy
	$(BIN)/mypy

unit: $(VENV)/.test  ## the ordinary tests, on every core
	$(BIN)/python -m pytest -n auto --dist loadfile --durations 10

soak: $(VENV)/.test  ## the long tests too
	$(BIN)/python -m pytest -n auto --dist loadfile --durations 10 -m 'long or not long'

bench: $(VENV)/.run  ## time a training step and an inference call
	$(BIN)/python benchmarks/step.py

# PyTorch's networks in an environment of their own. Only torchvision's definitions of networks are used: its compiled
# operators need the very torch they were built for, and what registers them is left out.
$(PARITY)/.made: tests/parity/requirements.txt
	$(PYTHON) -m venv $(PARITY)
	$(PARITY)/bin/python -m pip install --quiet --disable-pip-version-check --requirement tests/parity/requirements.txt
	$(PARITY)/bin/python -m pip install --quiet --disable-pip-version-check --no-deps \
	  torchvision==0.28.0 timm==1.0.31 segmentation-models-pytorch==0.6.0
	: > $$($(PARITY)/bin/python -c 'import site; print(site.getsitepackages()[0])')/torchvision/_meta_registrations.py
	touch $@

parity: $(VENV)/.test $(PARITY)/.made  ## compare losses, metrics and every network with their references (an hour)
	mkdir -p build
	$(PARITY)/bin/python tests/parity/losses_reference.py --out build/losses.npz
	JAX_PLATFORMS=cpu $(BIN)/python tests/parity/compare_losses.py build/losses.npz --golden tests/losses/golden.npz
	$(PARITY)/bin/python tests/parity/metrics_reference.py --out build/metrics.npz
	JAX_PLATFORMS=cpu $(BIN)/python tests/parity/compare_metrics.py build/metrics.npz --golden tests/metrics/golden.npz
	$(PARITY)/bin/python tests/parity/torch_reference.py --out build/parity
	JAX_PLATFORMS=cpu XLA_FLAGS=--xla_backend_optimization_level=0 \
	  $(BIN)/python tests/parity/compare.py build/parity --golden tests/models/golden

clean:  ## remove the environment and the caches, but no run
	rm -rf $(VENV) $(PARITY) build *.egg-info .pytest_cache .mypy_cache .ruff_cache
