# The commands the README promises.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
LOWEST := .venv-lowest

.PHONY: demo test test-lowest check fuzz bench docs clean

demo: $(VENV)/.installed tests/js/node_modules
	$(BIN)/python -m examples

test: $(VENV)/.installed-test
	$(BIN)/python tests/real_parts.py
	$(BIN)/python -m pytest

# Without the build of the documentation: it needs the extra `docs`, whose versions users do not depend on.
test-lowest: $(LOWEST)/.installed
	$(LOWEST)/bin/python tests/real_parts.py
	$(LOWEST)/bin/python -m pytest --deselect tests/test_docs.py::test_the_docs_build_without_a_warning

fuzz: $(VENV)/.installed-test
	$(BIN)/python -m pytest tests/test_fuzz.py --hypothesis-profile=nightly

bench: $(VENV)/.installed-bench benchmarks/node_modules
	$(BIN)/python -m pytest benchmarks
	$(BIN)/python -m benchmarks.bench

docs: $(VENV)/.installed-test
	$(BIN)/python -m sphinx -W --keep-going -q -b html docs docs/_build/html
	@echo "docs/_build/html/index.html"

check: $(VENV)/.installed-test
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

$(VENV)/bin/python:
	$(PYTHON) -m venv $(VENV)

$(VENV)/.installed: setup.cfg pyproject.toml | $(VENV)/bin/python
	$(BIN)/python -m pip install --quiet --editable .
	touch $@

$(VENV)/.installed-test: setup.cfg pyproject.toml | $(VENV)/bin/python
	$(BIN)/python -m pip install --quiet --editable '.[redis,test,docs,check]'
	touch $@ $(VENV)/.installed

$(VENV)/.installed-bench: setup.cfg pyproject.toml | $(VENV)/bin/python
	$(BIN)/python -m pip install --quiet --editable '.[redis,bench]'
	touch $@ $(VENV)/.installed

# From scratch: pip keeps versions that are already installed and allowed.
$(LOWEST)/.installed: setup.cfg pyproject.toml tests/lowest.txt
	$(PYTHON) -m venv --clear $(LOWEST)
	$(LOWEST)/bin/python -m pip install --quiet --constraint tests/lowest.txt --editable '.[redis,test]'
	touch $@

# The browser's Ably SDK, where there is npm; without it the demo's page takes Ably's CDN.
tests/js/node_modules: tests/js/package.json
	-command -v npm && cd tests/js && npm install --no-package-lock --no-audit --no-fund --loglevel=error

# A server to compare with, where there is npm; without it the benchmark leaves that out.
benchmarks/node_modules: benchmarks/package.json
	-command -v npm && cd benchmarks && npm install --no-package-lock --no-audit --no-fund --loglevel=error

clean:
	rm -rf $(VENV) $(LOWEST) build dist *.egg-info tests/js/node_modules benchmarks/node_modules docs/_build
