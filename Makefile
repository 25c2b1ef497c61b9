# Needs python3 (3.11 or later) and make; everything else is installed into .venv.
#
#   make demo     fit InstEval, print the summary and the time it took, draw demo.png
#   make test     the tests, in WORKERS=2 processes
#   make test-kernels   the tests with the arithmetic of several processors (OpenBLAS on x86)
#   make test-lowest    the tests with the oldest versions that pyproject.toml allows
#   make test-newest    the tests with the newest, also of what marginaleffects holds back
#   make check    style, types (of the scripts of the pages, too), import rules, examples
#   make docs     the documentation site, every page executed: docs/_build/html
#   make slow     statistical checks that take minutes, and 90,000 damaged and made-up files
#   make study    the simulation studies of intervals and tests (a quarter of an hour), and their pages
#   make bench    time interlace beside the other packages that are installed
#   make bench-large   the largest fits and their memory, 15 minutes; SCALE=0.01 runs a small one
#   make clean    remove the environments and everything made

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
INSTALL := -m pip --disable-pip-version-check install --quiet
PIP := $(BIN)/python $(INSTALL)

# The oldest versions live in an environment of their own, and so do the newest.
LOWEST := .venv-lowest
NEWEST := .venv-newest

# Processes that share the tests.
WORKERS ?= 2
PYTEST := -m pytest -n $(WORKERS) --dist worksteal

# What OpenBLAS computes with is chosen by the processor, unless it is told; the last bits differ.
KERNELS ?= Haswell Prescott Sandybridge $(shell grep -qs avx512f /proc/cpuinfo && echo SkylakeX)

# One thread a process: the timings are comparable, and small problems are quicker.
export OPENBLAS_NUM_THREADS ?= 1
export MPLBACKEND ?= Agg
# Modules and tests are compiled once, not in every process, whatever the environment says.
export PYTHONDONTWRITEBYTECODE =

.PHONY: help demo test test-kernels test-lowest test-newest check docs slow study bench bench-large clean

help:
	@sed -n 's/^#   //p' $(firstword $(MAKEFILE_LIST))

demo: $(VENV)/.package
	$(BIN)/python examples/demo.py

test: $(VENV)/.test
	$(BIN)/python $(PYTEST)

test-kernels: $(VENV)/.test
	@for kernel in $(KERNELS); do \
		echo "OPENBLAS_CORETYPE=$$kernel"; \
		OPENBLAS_CORETYPE=$$kernel $(BIN)/python $(PYTEST) || exit 1; \
	done

test-lowest: $(LOWEST)/.test
	$(LOWEST)/bin/python $(PYTEST)

test-newest: $(NEWEST)/.test
	$(NEWEST)/bin/python $(PYTEST)

slow: $(VENV)/.test
	$(BIN)/python $(PYTEST) -m slow

check: $(VENV)/.check
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/python docs/check_types.py
	$(BIN)/lint-imports
	$(BIN)/python -m pytest --doctest-modules src

docs: $(VENV)/.docs
	rm -rf docs/_build
	$(BIN)/python -m sphinx -E -n -W --keep-going -q -b html docs docs/_build/html
	$(BIN)/python docs/check_links.py docs/_build/html

study: $(VENV)/.test
	$(BIN)/python -m studies.coverage
	$(BIN)/python -m studies.general.coverage

bench: $(VENV)/.bench
	$(BIN)/python -m benchmarks

SCALE ?= 1

# Threads are left to the package here: the records are for all cores.
bench-large: export OPENBLAS_NUM_THREADS =
bench-large: $(VENV)/.bench
	$(BIN)/python -m benchmarks.large --scale $(SCALE)

clean:
	rm -rf $(VENV) $(LOWEST) $(NEWEST) .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis demo.png docs/_build

# Stamps: each is made once and again only when what it depends on changes.

$(VENV)/.created:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "interlace needs Python 3.11 or later; try: make PYTHON=python3.12")'
	$(PYTHON) -m venv $(VENV)
	@touch $@

$(VENV)/.package: pyproject.toml $(VENV)/.created
	$(PIP) --editable .
	@touch $@

$(VENV)/.test: $(VENV)/.package
	$(PIP) --editable '.[test]'
	@touch $@

$(LOWEST)/.test: pyproject.toml .ci/lowest.py $(VENV)/.created
	rm -rf $(LOWEST)
	$(PYTHON) -m venv $(LOWEST)
	$(LOWEST)/bin/python .ci/lowest.py > $(LOWEST)/lowest.txt
	$(LOWEST)/bin/python $(INSTALL) --constraint $(LOWEST)/lowest.txt --editable '.[test]'
	@touch $@

$(NEWEST)/.test: pyproject.toml $(VENV)/.created
	rm -rf $(NEWEST)
	$(PYTHON) -m venv $(NEWEST)
	$(NEWEST)/bin/python $(INSTALL) --editable '.[test-sources]'
	@touch $@

$(VENV)/.check: $(VENV)/.test
	$(PIP) --editable '.[check]'
	@touch $@

$(VENV)/.docs: $(VENV)/.package
	$(PIP) --editable '.[docs]'
	@touch $@

$(VENV)/.bench: benchmarks/requirements.txt $(VENV)/.package
	$(PIP) --requirement benchmarks/requirements.txt --editable '.[sources]'
	@touch $@
