# Two commands do all the set-up on a fresh machine:  make demo   make test
PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
PIP    := $(BIN)/python -m pip install --disable-pip-version-check -c constraints.txt
PORT   ?= 8787
QUIET  := $(shell test -t 2 || echo --quiet)  # progress on a terminal, none in a pipe

.PHONY: demo test chaos check format bench screenshots clean chromium

demo: $(VENV)/demo.ok  ## server and example: it breaks, is seen, and recovers; the address is printed
	$(BIN)/trainvitals demo --port $(PORT) $(ARGS)

test: $(VENV)/dev.ok chromium  ## all tests, with the coverage gate; those of the browser by themselves, since they watch a clock
	$(BIN)/python -m coverage erase
	$(BIN)/python -m pytest -n auto --maxprocesses 4 --dist loadfile --ignore tests/browser --cov --cov-report= $(ARGS) \
	  || [ $$? = 5 ]  # 5: none there that ARGS select
	$(BIN)/python -m pytest -n auto --maxprocesses 2 --dist loadfile tests/browser --cov --cov-append --cov-report= $(ARGS) || [ $$? = 5 ]
	$(BIN)/python -m coverage report --skip-covered --fail-under=85

chaos: $(VENV)/dev.ok  ## every fault, the long ones too (about three quarters of an hour); the table at the end goes into docs/delivery.md
	$(BIN)/python -m pytest tests --ignore tests/faults --ignore tests/browser -m chaos $(ARGS) || [ $$? = 5 ]
	$(BIN)/python -m pytest tests/faults -m 'chaos or not chaos' --write docs/delivery.md $(ARGS)

check: $(VENV)/dev.ok web/node_modules/.ok  ## linters and type checks
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	web/node_modules/.bin/tsc --project web

format: $(VENV)/dev.ok
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

bench: $(VENV)/bench.ok  ## what watching costs and how much a server takes in, beside the peers: into docs/; and the others
	$(BIN)/python benchmarks/hook.py --cuda --write docs/cost.md
	$(BIN)/python benchmarks/ingest.py --write docs/ingest.md
	$(BIN)/python examples/wavessm/three_ways.py
	$(BIN)/python benchmarks/diagnose.py
	$(BIN)/python benchmarks/repair.py
	$(BIN)/python benchmarks/early_warning.py
	$(BIN)/python benchmarks/origin.py
	$(BIN)/python benchmarks/ranks.py
	$(BIN)/python benchmarks/store.py --sizes 64 16 4 --write docs/store.md

screenshots: $(VENV)/dev.ok chromium  ## docs/screenshots, made again
	$(BIN)/python docs/screenshots.py

clean:
	rm -rf $(VENV) web/node_modules dist build .mypy_cache .ruff_cache .pytest_cache .hypothesis .coverage .coverage.*

$(VENV)/python.ok:
	@$(PYTHON) -c 'import sys; v = sys.version.split()[0]; sys.exit(sys.version_info < (3, 11) and f"expected Python 3.11 or newer, got {v}; name another with make PYTHON=...")'
	@$(PYTHON) -m venv $(VENV) || { echo 'expected a Python with venv and pip (Debian: apt-get install python3-venv)' >&2; exit 1; }
	@touch $@

$(VENV)/demo.ok: $(VENV)/python.ok pyproject.toml constraints.txt
	@echo 'installing trainvitals with what the example needs (torch is about 200 MB) ...'
	$(PIP) $(QUIET) -e '.[demo]'
	@touch $@

$(VENV)/dev.ok: $(VENV)/python.ok pyproject.toml constraints.txt
	@echo 'installing trainvitals with what development needs (torch is about 200 MB) ...'
	$(PIP) $(QUIET) -e '.[dev]'
	@touch $@ $(VENV)/demo.ok

$(VENV)/bench.ok: $(VENV)/python.ok pyproject.toml constraints.txt
	@echo 'installing trainvitals with the peers it is measured beside ...'
	$(PIP) $(QUIET) -e '.[bench]'
	@touch $@ $(VENV)/dev.ok $(VENV)/demo.ok

web/node_modules/.ok: web/package.json
	npm install --prefix web --no-package-lock --no-audit --no-fund --loglevel=error
	@touch $@

# The browser tests use a Chromium that is there, or install Debian's where they may.
chromium:
	@command -v chromium chromium-browser google-chrome >/dev/null || { \
	  [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null \
	  && echo 'installing Chromium for the browser tests ...' \
	  && apt-get update -qq && apt-get install -y -qq --no-install-recommends chromium >/dev/null; \
	} || echo '*** no Chromium here and it cannot be installed: THE BROWSER TESTS WILL BE SKIPPED ***' >&2
