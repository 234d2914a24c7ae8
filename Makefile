PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/installed
COMPILED := $(VENV)/compiled

BENCHES := cluster_codes cluster_activations cluster_millions search nearest ann ingest publish boundaries serve

.PHONY: demo test slow campaign check bench docs site licences clean

demo: $(STAMP)  ## build demo.atlas and take a tour of it
	$(BIN)/polytope demo demo.atlas

# Many processes import the same libraries: bytecode is kept even where the environment says otherwise. Each has one
# thread: Numba shares OpenMP with torch, which would run on all cores once a map was made, and their threads wait busily.
# One process more than two cores, for some wait for servers, browsers and workers. Each takes 3 GB.
PYTEST := PYTHONDONTWRITEBYTECODE= OMP_NUM_THREADS=1 NUMBA_NUM_THREADS=1 $(BIN)/python -m pytest
TESTERS ?= 3
MARKED ?= not slow
test: $(COMPILED)  ## run the tests; those in a browser are skipped where there is no Chromium. MARKED= runs all
	$(PYTEST) --numprocesses $(TESTERS) --dist loadgroup --no-loadscope-reorder -m "$(MARKED)"

slow:  ## run the tests that take long: Ray's nodes, dying stores, the whole report, every page and form
	$(MAKE) test MARKED=slow

# Once for all processes of tests: each would else compile the same thousands of modules for itself. What can't be imported the tests tell.
$(COMPILED): $(STAMP)
	-$(PYTEST) --collect-only -qq >/dev/null 2>&1
	touch $(COMPILED)

BUDGET ?= 50
SEED ?= 1
campaign: $(STAMP)  ## attack an atlas BUDGET times in each way: kills, flipped bits, hostile SQL and files
	POLYTOPE_CAMPAIGN_BUDGET=$(BUDGET) POLYTOPE_CAMPAIGN_SEED=$(SEED) OMP_NUM_THREADS=1 $(BIN)/python -m pytest -q tests/campaign

check: $(STAMP)  ## lint and types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

docs: $(STAMP)  ## write docs/API.md from the docstrings, and docs/glossary.md
	PYTHONPATH=. $(BIN)/python tools/api_docs.py

site: $(STAMP)  ## build the documentation's site, build/site/site/index.html; a warning is an error
	PYTHONPATH=. $(BIN)/python -m tools.site

licences: $(STAMP)  ## list what is installed, with its licence and who asked for it
	$(BIN)/python -m tools.licences hub mcp ray s3 serve timm

bench: $(STAMP)  ## measure against named peers, small; `python -m bench.NAME` measures at full size
	$(BIN)/uv pip install --quiet --python $(BIN)/python --constraint constraints.txt --editable '.[bench]'
	for question in $(BENCHES); do $(BIN)/python -m bench.$$question --size small || exit 1; done

clean:
	rm -rf $(VENV) demo.atlas

# uv installs the 7 GB of torch with its CUDA libraries in under a minute; pip would take several.
$(STAMP): pyproject.toml constraints.txt
	$(PYTHON) -c 'import sys; sys.exit("Python 3.11 or newer is needed, this is " + sys.version) if sys.version_info < (3, 11) else None'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check uv
	$(BIN)/uv pip install --quiet --python $(BIN)/python --constraint constraints.txt --editable '.[cloud,dev,docs,hub,mcp,ray,s3,serve,timm]'
	touch $(STAMP)
