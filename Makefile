# On a fresh machine: Python 3.11 or later, pip and make.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PEERS := langchain llamaindex
export PIP_DISABLE_PIP_VERSION_CHECK := 1

.PHONY: install demo test plain peers $(PEERS:%=peers-%) lowest audit lint types bench clean

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

# Once more where requests are sent and streams are read, by the SDK itself (`plain_stream`).
plain: $(VENV)/.dev
	REFRASE_PLAIN_STREAM=1 $(BIN)/python -m pytest -n 2 tests/client tests/langchain tests/llamaindex tests/surfaces

# Models of other makers, one environment for each framework: they need other lines of the openai SDK and of pydantic.
$(PEERS:%=.venv-peers-%/.made): .venv-peers-%/.made: pyproject.toml tests/peers/%/requirements.txt
	test -x $(@D)/bin/python || $(PYTHON) -m venv $(@D)
	$(@D)/bin/python -m pip install --quiet --requirement tests/peers/$*/requirements.txt
	touch $@

$(PEERS:%=peers-%): peers-%: .venv-peers-%/.made
	REFRASE_PEERS=1 $(<D)/bin/python -m pytest -n 2 -o addopts="-q --strict-markers --import-mode=importlib --disable-warnings" tests/peers/$*

peers: $(PEERS:%=peers-%)

# What touches frameworks, SDK and libraries, on the lowest releases that pyproject.toml allows, all of them at once;
# `make test` has the newest. LOWEST= runs everything.
LOWEST := tests/client tests/failures tests/langchain tests/llamaindex tests/surfaces tests/kimi/test_arguments.py \
	tests/kimi/test_settings.py tests/test_bounds.py tests/test_secrets.py
.venv-lowest/.made: pyproject.toml tests/lowest.txt
	test -x $(@D)/bin/python || $(PYTHON) -m venv $(@D)
	$(@D)/bin/python -m pip install --quiet uv
	$(@D)/bin/uv pip compile --quiet --python $(@D)/bin/python --resolution lowest-direct --extra all \
		--output-file $(@D)/lowest.txt pyproject.toml
	$(@D)/bin/uv pip install --quiet --python $(@D)/bin/python --constraint $(@D)/lowest.txt --editable ".[all]" \
		--requirement tests/lowest.txt
	touch $@

lowest: .venv-lowest/.made
	REFRASE_LOWEST=1 .venv-lowest/bin/python -m pytest -n 2 -m "not slow" $(LOWEST)

# Known vulnerabilities of what is installed for development, by the package index's advisory database. Needs a network
# that reaches it; what could not be looked up fails.
audit: $(VENV)/.dev
	test -x .venv-audit/bin/pip-audit || { $(PYTHON) -m venv .venv-audit && .venv-audit/bin/python -m pip install --quiet pip-audit; }
	$(BIN)/python -m pip list --exclude-editable --format=freeze > .venv-audit/installed.txt
	.venv-audit/bin/pip-audit --strict --disable-pip --no-deps --requirement .venv-audit/installed.txt

# Every benchmark; those that miss a peer make the environment of benchmarks/peers.txt and go on in it.
bench: $(VENV)/.dev
	$(BIN)/python -m benchmarks

clean:
	rm -rf $(VENV) .venv-* build dist .pytest_cache .mypy_cache .ruff_cache .hypothesis
