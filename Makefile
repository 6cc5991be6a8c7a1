# One door to everything: `make` sets up and shows a sheet being read, `make test` passes the tests.
# Needs Python >= 3.11 and make; every other thing comes out of requirements.lock, checked by hash.

PYTHON ?= python3
VENV   ?= .venv
SHEET  ?= samples/ruled.png
OUT    ?= out

BIN    := $(VENV)/bin
READY  := $(VENV)/.ready
CLUSTERED := $(VENV)/.ray
TOOLS  := .cache/lock-tools

DIGITIZE_SHARED ?= ../shared
export DIGITIZE_SHARED

.DEFAULT_GOAL := demo
.PHONY: demo test lint check samples score bench hostile soak cluster circle lock clean help

demo: $(READY)  ## create the environment and read a sample sheet
	@mkdir -p $(OUT)
	$(BIN)/digitize scan $(SHEET) -o $(OUT)/demo.csv --overlay $(OUT)/overlay
	@head -n 13 $(OUT)/demo.csv
	@echo "... $$(($$(wc -l < $(OUT)/demo.csv) - 1)) digits, all in $(OUT)/demo.csv; the page with what was read drawn on it: $(OUT)/overlay/"

test: $(READY)  ## pass the tests
	$(BIN)/python -m pytest

lint: $(READY)  ## style, format and types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

check: lint test  ## everything that CI checks in the working tree

samples: $(READY)  ## make samples/ again (needs the MNIST test files)
	$(BIN)/python samples/make_samples.py --mnist $(DIGITIZE_SHARED)/data/mnist

score: $(READY)  ## scan every labelled set and print one table
	$(BIN)/python tests/score.py

bench: $(READY)  ## start-up, speed and memory, as ratios taken in one run (ten minutes)
	$(BIN)/python tests/bench.py

hostile: $(READY)  ## scan every broken, odd and hostile file, one by one
	$(BIN)/python tests/hostile.py

circle: $(READY)  ## scan a hand that is misread, correct, fine-tune, scan again
	$(BIN)/python tests/circle.py --mnist $(DIGITIZE_SHARED)/data/mnist

soak: $(READY)  ## kill a watch again and again while sheets arrive; memory, speed and latency of batches
	$(BIN)/python tests/soak.py --json $(OUT)/soak.json

cluster: $(CLUSTERED)  ## read on a simulated Ray cluster: tests, a machine killed, overhead, costs (installs Ray)
	$(BIN)/python -m pytest tests/test_parts.py tests/test_cluster.py
	$(BIN)/python tests/cluster.py --mnist $(DIGITIZE_SHARED)/data/mnist

lock:  ## resolve the dependencies anew, for every platform and Python >= 3.11
	$(PYTHON) -m venv $(TOOLS)
	$(TOOLS)/bin/python -m pip install --quiet uv
	$(TOOLS)/bin/uv pip compile --universal --python-version 3.11 --extra dev --upgrade --generate-hashes \
		--no-emit-index-url --no-emit-find-links --no-header --quiet pyproject.toml -o requirements.lock
	$(TOOLS)/bin/uv pip compile --universal --python-version 3.11 --extra ray --upgrade --generate-hashes \
		--constraint requirements.lock \
		--no-emit-index-url --no-emit-find-links --no-header --quiet pyproject.toml -o requirements-ray.lock
	@! grep -n '://' requirements.lock requirements-ray.lock

clean:  ## remove the environment and everything that was made
	rm -rf $(VENV) $(OUT) .cache build dist .pytest_cache .hypothesis .mypy_cache .ruff_cache

help:  ## list these
	@grep -hE '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:[^#]*## /	/' | sort

PIP := $(BIN)/python -m pip --quiet --disable-pip-version-check

# The stamp says that the environment holds what the lock names; a new lock is installed over it.
$(READY): requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "digitize needs Python 3.11 or newer; this is " + sys.version)'
	@echo "setting up $(VENV): about 600 MB to fetch, a minute or more"
	@$(PYTHON) -m venv $(VENV)
	@$(PIP) install --require-hashes --no-deps -r requirements.lock
	@$(PIP) install --no-deps --no-build-isolation --editable .
	@touch $@

# Ray and what it needs, beside the rest: about 150 MB to fetch that only clusters use.
$(CLUSTERED): requirements-ray.lock $(READY)
	@$(PIP) install --require-hashes --no-deps -r requirements-ray.lock
	@touch $@
