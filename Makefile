# make run: install, fetch the embedded model, serve.   make test: the whole suite.   make check: everything else.
# Nothing is needed but python3 (3.11 or newer), pip and make; everything is installed into .venv.

PYTHON ?= python3
BIN    := .venv/bin
# What is imported gets compiled then; compiling all that is installed takes longer than the rest of the start.
PIP    := $(BIN)/python -m pip install --disable-pip-version-check --quiet --no-compile
# What the contract's freshness check regenerates into.
SCRATCH := .venv/generated

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help run test check bench soak clean baseline generate \
        proto-format proto-lint proto-breaking proto-generated fmt lint types imports

help:
	@echo "make run        install, fetch the embedded model and serve (ARGS='--port 8000' adds options)"
	@echo "make test       run the whole suite (ARGS='tests/cli -k pull' selects)"
	@echo "make check      contracts, generated code, format, lint, types, imports"
	@echo "make bench      measure the gateway (ARGS='--quick'; docs/performance.md has more)"
	@echo "make soak       does memory stay flat under mixed load? (ARGS='--minutes 3'; an hour without)"
	@echo "make generate   regenerate proto/gen from the contracts"
	@echo "make baseline   take the contracts as released: what 'buf breaking' compares with"
	@echo "make clean      remove .venv and caches; data/ is kept"

run: .venv/run.stamp
	@exec $(BIN)/maniac-gateway serve --pull $(ARGS)

# In two processes, since most of the time goes into starting gateways; ARGS='-n 0' is one, for a debugger.
test: .venv/dev.stamp
	@$(BIN)/python -m pytest -n 2 --dist worksteal $(ARGS)

bench: .venv/dev.stamp
	@$(BIN)/python -m bench.run $(ARGS)

soak: .venv/dev.stamp
	@$(BIN)/python -m bench.soak $(ARGS)

check: proto-format proto-lint proto-breaking proto-generated fmt lint types imports

proto-format: .venv/dev.stamp
	@$(BIN)/buf format --diff --exit-code

proto-lint: .venv/dev.stamp
	@$(BIN)/buf lint

proto-breaking: .venv/dev.stamp
	@$(BIN)/buf breaking --against proto/baseline.binpb

proto-generated: .venv/dev.stamp
	@rm -rf $(SCRATCH) && mkdir -p $(SCRATCH)
	@$(BIN)/python proto/generate.py --out $(SCRATCH)
	@diff -r -x __pycache__ $(SCRATCH)/maniac_gateway proto/gen/maniac_gateway \
		|| { echo "proto/gen is not what the contracts generate: run 'make generate'" >&2; exit 1; }

fmt: .venv/dev.stamp
	@$(BIN)/ruff format --check

lint: .venv/dev.stamp
	@$(BIN)/ruff check

types: .venv/dev.stamp
	@$(BIN)/mypy

imports: .venv/dev.stamp
	@$(BIN)/lint-imports

generate: .venv/dev.stamp
	@$(BIN)/python proto/generate.py

baseline: .venv/dev.stamp
	@$(BIN)/buf build --exclude-source-info -o proto/baseline.binpb

clean:
	@rm -rf .venv .mypy_cache .pytest_cache .ruff_cache .hypothesis .import_linter_cache dist
	@find core edge proto tests -name __pycache__ -type d -prune -exec rm -rf {} +

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "Python 3.11 or newer is needed; name it: make PYTHON=python3.12 run" >&2; exit 1; }
	@echo "Making .venv ..."
	@# Debian splits ensurepip off python3; there, the machine's own pip can put one into .venv.
	@if $(PYTHON) -c 'import ensurepip' 2>/dev/null; then $(PYTHON) -m venv .venv; else \
		$(PYTHON) -m venv --without-pip .venv && \
		$(PYTHON) -m pip --python .venv/bin/python install --quiet pip; fi || \
		{ rm -rf .venv; \
		echo "This Python cannot make virtual environments. On Debian: apt install python3-venv" >&2; exit 1; }

# The extras are installed one on top of the other, and again only when pyproject.toml changed.
.venv/run.stamp: pyproject.toml | $(BIN)/python
	@echo "Installing the gateway ..."
	@$(PIP) --only-binary xllamacpp --editable '.[local]' || { \
		echo "There is no llama.cpp wheel for this machine: remote providers only."; \
		$(PIP) --editable .; }
	@touch $@

.venv/dev.stamp: pyproject.toml | $(BIN)/python
	@echo "Installing the gateway and its tools ..."
	@$(PIP) --editable '.[local,dev]'
	@touch $@ .venv/run.stamp
