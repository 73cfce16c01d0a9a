# On a fresh machine: Python 3.11 or later, pip and make.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PEERS := .venv-peers
export PIP_DISABLE_PIP_VERSION_CHECK := 1

.PHONY: install demo test peers lint types bench clean

# The demo needs less than the checks do: it installs only what it runs.
$(VENV)/.demo: pyproject.toml
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --editable ".[langgraph,llamaindex,simulator,cli]"
	touch $@

$(VENV)/.dev: pyproject.toml
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --editable ".[dev]"
	touch $@ $(VENV)/.demo

install: $(VENV)/.dev

demo: $(VENV)/.demo
	$(BIN)/refrase-kimi demo

lint: $(VENV)/.dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

test: lint
	$(BIN)/python -m pytest -n 2

# Models of other makers that need another line of the openai SDK than the rest: in an environment of their own.
$(PEERS)/.made: pyproject.toml tests/peers/requirements.txt
	test -x $(PEERS)/bin/python || $(PYTHON) -m venv $(PEERS)
	$(PEERS)/bin/python -m pip install --quiet --editable ".[llamaindex,simulator]" -r tests/peers/requirements.txt
	touch $@

peers: $(PEERS)/.made
	$(PEERS)/bin/python -m pytest -o addopts="-q --strict-markers --import-mode=importlib" tests/peers

# Every benchmark; those that miss a peer make the environment of benchmarks/peers.txt and go on in it.
bench: $(VENV)/.dev
	$(BIN)/python -m benchmarks

clean:
	rm -rf $(VENV) .venv-* build dist .pytest_cache .mypy_cache .ruff_cache .hypothesis
