# One command each, from nothing but make and Python >= 3.11:
#   make demo    label, train, evaluate, simulate and report on ethanol
#   make test    style, types and every test
# Both create .venv on first use. PYTHON=/path/to/python3.12 picks an interpreter.

VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/installed.stamp
EXTRAS := label,qm9,ipi,pme,d3,d4,dask,test,dev
PIP := $(BIN)/python -m pip --disable-pip-version-check --quiet

# two cores are shared by two test workers, so each keeps to one thread
WORKERS ?= 2
THREADS ?= 1

# the first interpreter that is new enough
PYTHON ?= $(shell for p in python3 python3.13 python3.12 python3.11; do \
	$$p -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo $$p && break; done)

.PHONY: help install demo test lint surface clean

help:
	@echo "make demo      label, train, evaluate, simulate, report (ethanol; runs/demo)"
	@echo "make test      lint, then every test"
	@echo "make lint      ruff check, ruff format --check, mypy"
	@echo "make surface   rewrite the frozen list of public names"
	@echo "make install   only create .venv"
	@echo "make clean     remove .venv and caches (runs/ stays)"

install: $(STAMP)

$(STAMP): pyproject.toml constraints.txt
	@test -n "$(PYTHON)" || { echo "dreibein needs Python 3.11 or newer: install it, or name it with make PYTHON=/path/to/python3" >&2; exit 2; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "dreibein needs Python 3.11 or newer, and $(PYTHON) is not: name one with make PYTHON=/path/to/python3" >&2; exit 2; }
	@echo "creating $(VENV) (once; some minutes)"
	@$(PYTHON) -m venv $(VENV) || { rm -rf $(VENV); echo "$(PYTHON) cannot create a virtual environment: install its venv module (Debian and Ubuntu: apt install python3-venv)" >&2; exit 2; }
	$(PIP) install --upgrade pip
	$(PIP) install -c constraints.txt torch
	$(PIP) install -c constraints.txt -e ".[$(EXTRAS)]"
	@$(PIP) install -c constraints.txt -e ".[openmm]" || echo "no OpenMM for this machine: its tests will be skipped"
	@touch $@

demo: $(STAMP)
	$(BIN)/dreibein demo --output runs/demo

lint: $(STAMP)
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy

test: lint
	OMP_NUM_THREADS=$(THREADS) $(BIN)/python -m pytest -q -n $(WORKERS) --durations=15

surface: $(STAMP)
	$(BIN)/python tests/house/surface.py --write

clean:
	rm -rf $(VENV) .pytest_cache .hypothesis .mypy_cache .ruff_cache build
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
