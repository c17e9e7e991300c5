# The commands the README promises.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin

.PHONY: demo test check fuzz bench docs clean

demo: $(VENV)/.installed tests/js/node_modules
	$(BIN)/python -m examples

test: $(VENV)/.installed-test
	$(BIN)/python tests/real_parts.py
	$(BIN)/python -m pytest

fuzz: $(VENV)/.installed-test
	$(BIN)/python -m pytest tests/test_fuzz.py --hypothesis-profile=nightly

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
	$(BIN)/python -m pip install --quiet --editable '.[redis,test,check]'
	touch $@ $(VENV)/.installed

# The browser's Ably SDK, where there is npm; without it the demo's page takes Ably's CDN.
tests/js/node_modules: tests/js/package.json
	-command -v npm && cd tests/js && npm install --no-package-lock --no-audit --no-fund --loglevel=error

clean:
	rm -rf $(VENV) build dist *.egg-info tests/js/node_modules
