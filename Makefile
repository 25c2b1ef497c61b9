# Needs python3 (3.11 or later) and make; everything else is installed into .venv.
#
#   make demo     fit InstEval, print the summary and the time it took, draw demo.png
#   make test     the tests
#   make check    style, types, import rules, examples in docstrings
#   make docs     the documentation site, every page executed: docs/_build/html
#   make slow     statistical checks that take minutes
#   make study    the simulation study of intervals and tests (seven minutes), and its page
#   make bench    time interlace beside the other packages that are installed
#   make bench-large   the largest fits and their memory, 15 minutes; SCALE=0.01 runs a small one
#   make clean    remove .venv and everything made

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check install --quiet

# One thread a process: the timings are comparable, and small problems are quicker.
export OPENBLAS_NUM_THREADS ?= 1
export MPLBACKEND ?= Agg

.PHONY: help demo test check docs slow study bench bench-large clean

help:
	@sed -n 's/^#   //p' $(firstword $(MAKEFILE_LIST))

demo: $(VENV)/.package
	$(BIN)/python examples/demo.py

test: $(VENV)/.test
	$(BIN)/python -m pytest

slow: $(VENV)/.test
	$(BIN)/python -m pytest -m slow

check: $(VENV)/.check
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/python -m pytest --doctest-modules src

docs: $(VENV)/.docs
	rm -rf docs/_build
	$(BIN)/python -m sphinx -E -n -W --keep-going -q -b html docs docs/_build/html
	$(BIN)/python docs/check_links.py docs/_build/html

study: $(VENV)/.test
	$(BIN)/python -m studies.coverage

bench: $(VENV)/.bench
	$(BIN)/python -m benchmarks

SCALE ?= 1

# Threads are left to the package here: the records are for all cores.
bench-large: export OPENBLAS_NUM_THREADS =
bench-large: $(VENV)/.bench
	$(BIN)/python -m benchmarks.large --scale $(SCALE)

clean:
	rm -rf $(VENV) .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis demo.png docs/_build

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

$(VENV)/.check: $(VENV)/.test
	$(PIP) --editable '.[check]'
	@touch $@

$(VENV)/.docs: $(VENV)/.package
	$(PIP) --editable '.[docs]'
	@touch $@

$(VENV)/.bench: benchmarks/requirements.txt $(VENV)/.package
	$(PIP) --requirement benchmarks/requirements.txt --editable '.[sources]'
	@touch $@
