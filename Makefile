# Each target can be the first on a fresh machine with Python 3.11 or newer; what is up to date is not done again.
PYTHON ?= python3
BIN := .venv/bin
.DEFAULT_GOAL := help

.PHONY: help setup demo app lab test test-all coverage lint clean

help:  ## Say what there is to make
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 10

setup: .venv/.installed  ## Make .venv and install the workbench into it

demo: .venv/.installed  ## Open the dashboard on the reference runs and train two losses beside it
	$(BIN)/workbench demo

.PHONY: reference
reference: .venv/.installed  ## Train the reference runs anew (hours on a CPU) and write them into the package
	$(BIN)/workbench reference train
	$(BIN)/workbench reference package

app: .venv/.installed  ## Open the dashboard on runs/
	$(BIN)/workbench app

lab: .venv/.installed  ## Open the notebooks in JupyterLab
	$(BIN)/jupyter lab notebooks

pytest = $(BIN)/python -m pytest -n auto --maxprocesses=4 --dist=worksteal --durations=10

test: .venv/.dev  ## Run the tests in about 12 minutes: without slow tests, with fewer random examples
	$(pytest) -m "not slow" --hypothesis-profile=quick

test-all: .venv/.dev  ## Run all tests, with all random examples
	$(pytest)

coverage: .venv/.dev  ## Run all tests and list the lines that no test reaches
	$(pytest) --cov --cov-report=term:skip-covered

lint: .venv/.dev  ## Check style and types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

.PHONY: docs
docs: .venv/.docs  ## Build the documentation into build/docs; a warning is an error
	$(BIN)/python -m sphinx -W --keep-going -q docs build/docs
	@echo "open build/docs/index.html"

clean:  ## Remove .venv, the built documentation and caches; runs/ stays
	rm -rf .venv .pytest_cache .mypy_cache .ruff_cache .coverage *.egg-info build/docs docs/tutorials/notebooks

.venv/.uv:
	@$(PYTHON) -c 'import sys; v = sys.version_info; sys.exit(v < (3, 11) and "Python 3.11 or newer is needed, $(PYTHON) is %d.%d; make PYTHON=python3.12 ..." % v[:2])'
	@if command -v uv >/dev/null; then uv venv --quiet --allow-existing --python $(PYTHON) .venv; else \
	  $(PYTHON) -m venv .venv && $(BIN)/python -m pip install --quiet --disable-pip-version-check uv; fi
	@touch $@

# uv of this machine where there is one, else that of the environment. Compiling all packages once makes
# every later start of Python several seconds faster.
install = PATH="$$PATH:$(CURDIR)/$(BIN)" uv pip install --compile-bytecode --python $(BIN)/python -e '.$(1)'

.venv/.installed: .venv/.uv pyproject.toml
	@echo "installing into .venv (a few minutes the first time: PyTorch alone is 2 GB to fetch) ..."
	@$(call install,)
	@touch $@

.venv/.dev: .venv/.uv pyproject.toml
	@echo "installing into .venv, development tools included (a few minutes the first time) ..."
	@$(call install,[dev])
	@touch $@ .venv/.installed

.venv/.docs: .venv/.uv pyproject.toml
	@echo "installing into .venv, with what the documentation needs (a few minutes the first time) ..."
	@$(call install,[docs])
	@touch $@ .venv/.installed
