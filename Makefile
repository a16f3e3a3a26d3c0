# `make demo` and `make test` only need Python 3.11 to 3.13: they create a virtual environment and install into it.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
WORKDIR ?= runs/demo
PARITY ?= .venv-parity
# Compilation takes most of the time of a comparison. XLA's older code generation compiles faster; newer versions of
# jaxlib no longer have it.
QUICK = JAX_PLATFORMS=cpu XLA_FLAGS="--xla_backend_optimization_level=0 $$($(BIN)/python -c \
  'from importlib.metadata import version; \
  print("--xla_cpu_use_fusion_emitters=false" * version("jaxlib").startswith("0.10."))')"

.PHONY: help demo test lint types unit soak certificate bench docs notebook parity clean
.PHONY: parity-losses parity-metrics parity-encoders parity-networks parity-public parity-torchvision
.DEFAULT_GOAL := help

help:  ## show this list
	@grep -E '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 10

# A stamp file for each set of requirements, so that they are only installed again when they change.
$(VENV)/.run: pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] < (3, 14))' || \
	  { echo "error: $(PYTHON) is not Python 3.11, 3.12 or 3.13, which flaxseg needs; try: make PYTHON=python3.11 $(MAKECMDGOALS)"; exit 1; }
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[tensorflow]'
	touch $@

$(VENV)/.test: $(VENV)/.run
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[test]'
	touch $@

demo: $(VENV)/.run  ## train on the built-in dataset, and print the scores
	$(BIN)/python -m flaxseg.main --config=shapes --workdir=$(WORKDIR)

test: lint types unit  ## run lint, types and unit

lint: $(VENV)/.test  ## check style and formatting with ruff
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(VENV)/.test  ## check types with mypy
	$(BIN)/mypy

unit: $(VENV)/.test  ## run the tests on all cores, without the long ones
	$(BIN)/python -m pytest -n auto --dist loadfile --durations 10

soak: $(VENV)/.test  ## run all tests, including the long ones, and print the certificate of docs/reliability.md
	$(BIN)/python -m pytest -n auto --dist loadfile --durations 10 -m 'long or not long' --certificate

certificate: $(VENV)/.test  ## run the tests of docs/reliability.md, in their long forms, and print its table with results
	$(BIN)/python -m pytest -n auto --dist loadfile -m 'long or not long' --certificate $$($(BIN)/python tests/certificate.py)

bench: $(VENV)/.run  ## time a training step and a forward pass
	$(BIN)/python benchmarks/step.py

# PyTorch and the reference networks are installed in a separate environment. Of torchvision, only the definitions of
# networks are used: its compiled operators need the exact version of torch that they were built for, so the module that
# registers them is emptied.
$(PARITY)/.made: tests/parity/requirements.txt
	$(PYTHON) -m venv $(PARITY)
	$(PARITY)/bin/python -m pip install --quiet --disable-pip-version-check --requirement tests/parity/requirements.txt
	$(PARITY)/bin/python -m pip install --quiet --disable-pip-version-check --no-deps \
	  torchvision==0.28.0 timm==1.0.31 segmentation-models-pytorch==0.6.0
	: > $$($(PARITY)/bin/python -c 'import site; print(site.getsitepackages()[0])')/torchvision/_meta_registrations.py
	touch $@

$(VENV)/.docs: $(VENV)/.run
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[docs]'
	touch $@

docs: $(VENV)/.docs  ## build the documentation into build/site; warnings, such as a link to nowhere, are errors
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict

notebook:  ## write examples/segmentation.ipynb from its source, segmentation.py
	$(PYTHON) docs/make_notebook.py

parity: parity-networks parity-losses parity-metrics parity-encoders parity-public parity-torchvision  ## compare losses, metrics, networks and their gradients with PyTorch's (two hours; half of that with -j2)

# The parts of `parity`, each of which also runs alone. They also write the files that the ordinary tests compare with.
PARITY_ENVIRONMENTS := $(VENV)/.test $(PARITY)/.made

parity-losses: $(PARITY_ENVIRONMENTS)
	mkdir -p build
	$(PARITY)/bin/python tests/parity/losses_reference.py --out build/losses.npz
	JAX_PLATFORMS=cpu $(BIN)/python tests/parity/compare_losses.py build/losses.npz --golden tests/losses/golden.npz

parity-metrics: $(PARITY_ENVIRONMENTS)
	mkdir -p build
	$(PARITY)/bin/python tests/parity/metrics_reference.py --out build/metrics.npz
	JAX_PLATFORMS=cpu $(BIN)/python tests/parity/compare_metrics.py build/metrics.npz --golden tests/metrics/golden.npz

parity-encoders: $(PARITY_ENVIRONMENTS)
	rm -rf build/encoders
	$(PARITY)/bin/python tests/parity/encoders_reference.py --out build/encoders
	$(QUICK) $(BIN)/python tests/parity/compare_encoders.py build/encoders

parity-networks: $(PARITY_ENVIRONMENTS)
	rm -rf build/parity
	$(PARITY)/bin/python tests/parity/torch_reference.py --out build/parity
	$(QUICK) $(BIN)/python tests/parity/compare.py build/parity --golden tests/models/golden

parity-public: $(PARITY_ENVIRONMENTS)
	rm -rf build/public
	$(PARITY)/bin/python tests/parity/public_reference.py --out build/public
	$(QUICK) $(BIN)/python tests/parity/compare_public.py build/public
	$(PARITY)/bin/python tests/parity/public_golden.py --out tests/models/pretrained/transformers_layout/golden

parity-torchvision: $(PARITY_ENVIRONMENTS)
	rm -rf build/torchvision
	$(PARITY)/bin/python tests/parity/torchvision_reference.py --out build/torchvision
	$(QUICK) $(BIN)/python tests/parity/compare_torchvision.py build/torchvision --golden tests/models/golden_torchvision

clean:  ## remove environments and caches, but no runs
	rm -rf $(VENV) $(PARITY) build *.egg-info .pytest_cache .mypy_cache .ruff_cache
