# Everything runs in virtual environments that these targets make themselves, next to this file; noxfile.py says what is in them.

ifndef PYTHON
# The first that starts: pyenv's commands are there for versions that are not chosen, too.
PYTHON := $(shell for name in python3.11 python3.12 python3.13 python3; do \
	$$name -c '' 2>/dev/null && { echo $$name; break; }; done)
endif
TOOLS := .venv-tools
NOX := $(TOOLS)/bin/python -m nox
AIRFLOW3 := @$(NOX) --session 'work(3.3)' --
AIRFLOW2 := @$(NOX) --session 'work(2.11)' --
# Most of the tests that start an Airflow wait; four processes share the files. -n 0 for one, as --pdb wants.
PARALLEL := -n 4 --dist loadfile --no-loadscope-reorder
PYTEST := python -m pytest $(PARALLEL) $(if $(COVERAGE),--cov --cov-append --cov-report= --cov-fail-under=0)
PYTEST_ARGS ?=
ROW ?=
SCALE ?= 500
ONLY ?=

.PHONY: help demo test test-airflow2 test-faults test-matrix test-lowest test-browser coverage screenshots check docs bench simulate scale constraints clean python

help: ## Show this list
	@sed -n 's/^\([a-z0-9-]*\):.*## /\1\t/p' $(MAKEFILE_LIST) | expand -t 16

demo: $(TOOLS)/ready ## Run an example DAG in a real Airflow on this machine; KEEP=1 leaves it running
	$(AIRFLOW3) env KEEP=$(KEEP) python -m tests.system.demo

test: $(TOOLS)/ready ## Run all tests on Airflow 3.3
	$(AIRFLOW3) $(PYTEST) $(PYTEST_ARGS)

test-airflow2: $(TOOLS)/ready ## Run all tests on Airflow 2.11
	$(AIRFLOW2) $(PYTEST) $(PYTEST_ARGS)

test-faults: $(TOOLS)/ready ## Run the tests that take minutes: outages and storms of refusals, on both Airflows
	$(AIRFLOW3) $(PYTEST) tests/faults $(PYTEST_ARGS)
	$(AIRFLOW2) $(PYTEST) tests/faults $(PYTEST_ARGS)

test-matrix: $(TOOLS)/ready ## Run the unit tests on every other Airflow and Python; ROW=3.1-3.12 for one
	@$(NOX) --session 'matrix$(if $(ROW),($(ROW)))' $(if $(PYTEST_ARGS),-- $(PYTEST_ARGS))

test-lowest: $(TOOLS)/ready ## Run the unit tests on the lowest versions that pyproject.toml allows
	@$(NOX) --session lowest $(if $(PYTEST_ARGS),-- $(PYTEST_ARGS))

test-browser: $(TOOLS)/ready ## Click through the UI of both Airflows in Chromium
	@command -v chromium >/dev/null || { echo "chromium is not installed; on Debian: apt-get install chromium" >&2; exit 1; }
	$(AIRFLOW3) python -m pytest tests/browser $(PYTEST_ARGS)
	$(AIRFLOW2) python -m pytest tests/browser $(PYTEST_ARGS)

coverage: $(TOOLS)/ready ## Show what the tests that ran with COVERAGE=1 have covered; fails below the floor
	$(AIRFLOW3) sh -c 'coverage combine --append --quiet 2>/dev/null; coverage report'

screenshots: $(TOOLS)/ready ## Take the pictures in docs/images anew
	$(AIRFLOW3) python -m tests.browser.screenshots

check: $(TOOLS)/ready ## Lint, check types, build the wheel
	$(AIRFLOW3) ruff check
	$(AIRFLOW3) ruff format --check
	$(AIRFLOW3) mypy
	$(AIRFLOW3) lint-imports --no-cache
	$(AIRFLOW3) python -m build --wheel --outdir dist .

docs: $(TOOLS)/ready ## Check the words of the documentation and build it into build/docs; a warning is an error
	$(AIRFLOW3) python -m tests.prose
	$(AIRFLOW3) python -m sphinx --fail-on-warning --fresh-env --quiet --builder html docs build/docs
	@echo "Open build/docs/index.html"

bench: $(TOOLS)/ready ## Measure against a peer and write docs/benchmarks.md
	@$(NOX) --session bench

simulate: $(TOOLS)/ready ## Simulate services with hidden limits and write docs/rate-limit.md
	$(AIRFLOW3) python -m tests.benchmarks.rate_limit

scale: $(TOOLS)/ready ## Export many segments in an Airflow of many processes, some of which are killed; SCALE=small is short
	@$(NOX) --session scale -- $(SCALE) $(if $(ONLY),--only $(ONLY))

constraints: $(TOOLS)/ready ## Refresh the pinned versions
	@$(NOX) --session constraints

clean: ## Remove what these targets made
	rm -rf .nox $(TOOLS) dist build .mypy_cache .pytest_cache .ruff_cache .hypothesis .coverage .coverage.*

$(TOOLS)/ready: tests/constraints/tools.txt | python
	@echo "Making an environment for nox and uv, which make the others …"
	@$(PYTHON) tests/environments.py
	@touch $@

NEEDED := Python 3.11 or later is needed; install it, or say where it is: make PYTHON=/path/to/python
python:
	@test -n "$(PYTHON)" || { echo "$(NEEDED)" >&2; exit 1; }
	@$(PYTHON) -c '' 2>/dev/null || { echo "$(PYTHON) does not start. $(NEEDED)" >&2; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "$(PYTHON) is $$($(PYTHON) --version 2>&1). $(NEEDED)" >&2; exit 1; }
