# make run: install, fetch the embedded model, serve.   make test: the whole suite.   make check: everything else.
# Nothing is needed but python3 (3.11 or newer), pip and make; everything is installed into .venv.

PYTHON ?= python3
BIN    := .venv/bin
# What is imported gets compiled then; compiling all that is installed takes longer than the rest of the start.
PIP    := $(BIN)/python -m pip install --disable-pip-version-check --quiet --no-compile
# What the contract's freshness check regenerates into.
SCRATCH := .venv/generated
# What the image is built from, by name, version and hash.
LOCKS  := docs/deployment/locks
# Tools that only a release needs, in an environment of their own.
TOOLS  := .venv/tools
UV     := $(TOOLS)/bin/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --upgrade \
          --no-emit-index-url --no-emit-find-links --custom-compile-command 'make lock'

# Whether the package index has llama.cpp, but not for this machine: for a common one it offers the same version.
LLAMA   = $(shell sed -n 's/^local = .*"\(xllamacpp[^"]*\)".*/\1/p' pyproject.toml)
OFFERED = $(PIP) --dry-run --ignore-installed --no-deps --only-binary :all: --target .venv/none '$(LLAMA)'
IS_NOT_FOR_US = $(OFFERED) --platform manylinux2014_x86_64 >/dev/null 2>&1 && ! $(OFFERED) >/dev/null 2>&1

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help run test check bench instructions soak clean baseline generate dist lock sbom audit \
        proto-format proto-lint proto-breaking proto-generated fmt lint types imports

help:
	@echo "make run        install, fetch the embedded model and serve (ARGS='--port 8000' adds options)"
	@echo "make test       run the whole suite (ARGS='tests/cli -k pull' selects)"
	@echo "make check      contracts, generated code, format, lint, types, imports"
	@echo "make bench      measure the gateway (ARGS='--quick'; docs/performance.md has more)"
	@echo "make instructions   compare what a request costs with the committed figures (needs valgrind)"
	@echo "make soak       does memory stay flat under mixed load? (ARGS='--minutes 3'; an hour without)"
	@echo "make generate   regenerate proto/gen from the contracts"
	@echo "make baseline   take the contracts as released: what 'buf breaking' compares with"
	@echo "make dist       build the wheel and the source distribution into dist/"
	@echo "make lock       pin what the image is built from, with hashes, into $(LOCKS)"
	@echo "make sbom       write what the image is built from as CycloneDX into dist/"
	@echo "make audit      look for known vulnerabilities in what the image is built from"
	@echo "make clean      remove .venv and caches; data/ is kept"

run: .venv/run.stamp
	@exec $(BIN)/maniac-gateway serve --pull $(ARGS)

# In two processes, since most of the time goes into starting gateways; ARGS='-n 0' is one, for a debugger.
test: .venv/dev.stamp
	@$(BIN)/python -m pytest -n 2 --dist worksteal $(ARGS)

bench: .venv/dev.stamp
	@$(BIN)/python -m bench.run $(ARGS)

instructions: .venv/dev.stamp
	@$(BIN)/python -m bench.instructions $(ARGS)

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

dist: .venv/dev.stamp
	@rm -rf dist/*.whl dist/*.tar.gz
	@$(BIN)/python -m hatchling build -d dist

lock: .venv/tools.stamp
	@mkdir -p $(LOCKS)
	@$(UV) pyproject.toml --extra postgres --extra redis --extra otel --extra yaml -o $(LOCKS)/runtime.txt
	@$(BIN)/python -c 'import tomllib; p = tomllib.load(open("pyproject.toml", "rb")); \
		print(*p["project"]["optional-dependencies"]["local"], sep="\n")' | $(UV) - -o $(LOCKS)/local.txt
	@$(BIN)/python -c 'import tomllib; p = tomllib.load(open("pyproject.toml", "rb")); \
		print(*p["build-system"]["requires"], sep="\n")' | $(UV) - -o $(LOCKS)/build.txt

sbom: .venv/tools.stamp
	@mkdir -p dist
	@cat $(LOCKS)/runtime.txt $(LOCKS)/local.txt | $(TOOLS)/bin/cyclonedx-py requirements \
		--pyproject pyproject.toml --mc-type application --output-file dist/sbom.cdx.json -
	@echo "dist/sbom.cdx.json"

audit: .venv/tools.stamp
	@for lock in runtime local build; do \
		$(TOOLS)/bin/pip-audit --strict --disable-pip --require-hashes --requirement $(LOCKS)/$$lock.txt || { \
			echo "Not clean. Where a package 'could not be audited', this index serves no advisories: nothing" \
				"is known of it; ask one that does, such as PyPI." >&2; exit 1; }; \
	done

clean:
	@rm -rf .venv .mypy_cache .pytest_cache .ruff_cache .hypothesis .import_linter_cache dist
	@find common core edge proto tests -name __pycache__ -type d -prune -exec rm -rf {} +

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

# Install the extras $(1) and llama.cpp. Without llama.cpp only where there is none for this machine; that leaves no
# stamp, so the next make tries again. Any other failure is the network's or the index's, and ends make.
define install
	@if $(PIP) --only-binary xllamacpp,cmeel-libomp --editable '.[$(1)local]'; then touch $@; \
	elif $(IS_NOT_FOR_US); then \
		echo "There is no llama.cpp wheel for this machine: no embedded model."; \
		$(PIP) --editable '.[$(1)]'; \
	else echo "The gateway could not be installed, see above; when that is mended, run make again." >&2; exit 1; fi
endef

# Again only when pyproject.toml changed.
.venv/run.stamp: pyproject.toml | $(BIN)/python
	@echo "Installing the gateway ..."
	$(call install,)

.venv/dev.stamp: pyproject.toml | $(BIN)/python
	@echo "Installing the gateway and its tools ..."
	$(call install,dev$(comma))
	@if [ -e $@ ]; then touch .venv/run.stamp; fi

.venv/tools.stamp: pyproject.toml | $(BIN)/python
	@echo "Installing the tools of a release ..."
	@$(BIN)/python -m venv --without-pip $(TOOLS)
	@$(BIN)/python -m pip --python $(TOOLS)/bin/python install --disable-pip-version-check --quiet --no-compile \
		$$($(BIN)/python -c 'import tomllib; p = tomllib.load(open("pyproject.toml", "rb")); \
			print(*p["project"]["optional-dependencies"]["release"])')
	@touch $@

comma := ,
