# Everything runs in virtual environments that these targets make themselves, next to this file.

PYTHON ?= $(shell command -v python3.11 || command -v python3)
AIRFLOW3 := .venv
AIRFLOW2 := .venv-airflow2
BENCH := .venv-bench
CONSTRAINTS := tests/constraints
PYTEST_ARGS ?=
# Most of the tests that start an Airflow wait; two processes share the files. -n 0 for one, as --pdb wants.
PARALLEL := -n 2 --dist loadfile --no-loadscope-reorder
export PIP_DISABLE_PIP_VERSION_CHECK := 1

.PHONY: help demo test test-airflow2 test-browser screenshots check docs bench constraints clean

help: ## Show this list
	@sed -n 's/^\([a-z0-9-]*\):.*## /\1\t/p' $(MAKEFILE_LIST) | expand -t 16

demo: $(AIRFLOW3)/ready ## Run an example DAG in a real Airflow on this machine; KEEP=1 leaves it running
	@KEEP=$(KEEP) $(AIRFLOW3)/bin/python -m tests.system.demo

test: $(AIRFLOW3)/ready ## Run all tests on Airflow 3.3
	$(AIRFLOW3)/bin/python -m pytest $(PARALLEL) $(PYTEST_ARGS)

test-airflow2: $(AIRFLOW2)/ready ## Run all tests on Airflow 2.11
	$(AIRFLOW2)/bin/python -m pytest $(PARALLEL) $(PYTEST_ARGS)

test-browser: $(AIRFLOW3)/ready $(AIRFLOW2)/ready ## Click through the UI of both Airflows in Chromium
	$(AIRFLOW3)/bin/python -m pytest tests/browser $(PYTEST_ARGS)
	$(AIRFLOW2)/bin/python -m pytest tests/browser $(PYTEST_ARGS)

screenshots: $(AIRFLOW3)/ready ## Take the pictures in docs/images anew
	$(AIRFLOW3)/bin/python -m tests.browser.screenshots

check: $(AIRFLOW3)/ready ## Lint, check types, build the wheel
	$(AIRFLOW3)/bin/ruff check
	$(AIRFLOW3)/bin/ruff format --check
	$(AIRFLOW3)/bin/mypy
	$(AIRFLOW3)/bin/python -m build --wheel --outdir dist .

docs: $(AIRFLOW3)/ready ## Build the documentation into build/docs; a warning is an error
	$(AIRFLOW3)/bin/python -m sphinx --fail-on-warning --fresh-env --quiet --builder html docs build/docs
	@echo "Open build/docs/index.html"

bench: $(BENCH)/ready ## Measure against a peer and write docs/benchmarks.md
	$(BENCH)/bin/python -m tests.benchmarks

constraints: ## Refresh the pinned versions
	$(call refresh,3.3,--group docs)
	$(call refresh,2.11)

clean: ## Remove what these targets made
	rm -rf $(AIRFLOW3) $(AIRFLOW2) $(BENCH) dist build .mypy_cache .pytest_cache .ruff_cache .hypothesis .coverage

$(AIRFLOW3)/ready: pyproject.toml $(CONSTRAINTS)/airflow-3.3.txt $(CONSTRAINTS)/no-deps.txt
	$(call install,$(AIRFLOW3),3.3,--group docs,--no-deps --requirement $(CONSTRAINTS)/no-deps.txt)

$(AIRFLOW2)/ready: pyproject.toml $(CONSTRAINTS)/airflow-2.11.txt $(CONSTRAINTS)/no-deps.txt
	$(call install,$(AIRFLOW2),2.11,,--no-deps --requirement $(CONSTRAINTS)/no-deps.txt)

$(BENCH)/ready: pyproject.toml $(CONSTRAINTS)/airflow-3.3.txt
	$(call install,$(BENCH),3.3,,--constraint $(CONSTRAINTS)/airflow-3.3.txt apache-airflow-providers-dbt-cloud)

# $(1): the environment, $(2): the Airflow version, $(3): dependency groups beside dev, $(4): what pip installs on top
define install
	@echo "Making $(1) with Airflow $(2); this takes about a minute …"
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "Python 3.11 or later is needed; set PYTHON to it." >&2; exit 1; }
	@$(PYTHON) -m venv --clear $(1)
	@$(1)/bin/python -m pip install --quiet 'pip>=25.1'
	@$(1)/bin/python -m pip install --quiet --constraint $(CONSTRAINTS)/airflow-$(2).txt --group dev $(3) --editable . apache-airflow
	@$(1)/bin/python -m pip install --quiet $(4)
	@touch $(1)/ready
endef

define refresh
	rm -rf .venv-constraints
	$(PYTHON) -m venv .venv-constraints
	.venv-constraints/bin/python -m pip install --quiet 'pip>=25.1'
	.venv-constraints/bin/python -m pip install --quiet --group dev $(2) --editable . 'apache-airflow==$(1).*'
	.venv-constraints/bin/python -m pip freeze --exclude-editable --exclude airflow-provider-segments | grep -E '^[A-Za-z0-9._-]+==' > $(CONSTRAINTS)/airflow-$(1).txt
	rm -rf .venv-constraints
endef
