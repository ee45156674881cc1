# Two commands do all the set-up: `make run` (the demo station) and `make test` (every test).
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check --quiet
FILES := pyproject.toml constraints.txt
ARGS ?=
SERVERS ?= embedded
NPM := $(or $(XDG_CACHE_HOME),$(HOME)/.cache)/andon/peers
# in the order of tests/conftest.py: xdist's own begins with many short tests and ends with a few long ones
SIDE_BY_SIDE := --numprocesses auto --maxprocesses 4 --dist loadfile --no-loadscope-reorder

.PHONY: run teach test test-long debian-servers embedded venv lint screenshots bench soak demo-bundles clean

run: $(VENV)/.runtime  ## the demo station in the foreground; ARGS="--parts 300 --json"
	@$(BIN)/andon up $(ARGS)

teach: $(VENV)/.teach  ## what Teach and `andon train` need besides (torch); a station may run meanwhile

test test-long: export ANDON_TEST_SERVERS := $(SERVERS)

test: $(VENV)/.dev $(VENV)/.peers $(SERVERS:debian=debian-servers)  ## every test; SERVERS=debian: on Debian's servers
	$(BIN)/python -m pytest $(SIDE_BY_SIDE) $(ARGS)

test-long: $(VENV)/.dev $(VENV)/.peers $(SERVERS:debian=debian-servers)  ## the runs that take minutes, too
	$(BIN)/python -m pytest -m "slow or not slow" $(SIDE_BY_SIDE) $(ARGS)

venv: $(VENV)/.dev  ## the development environment alone

screenshots: $(VENV)/.dev $(VENV)/.peers  ## pictures of the console's pages, for the manual
	ANDON_SCREENSHOTS=docs/images $(BIN)/python -m pytest -q tests/browser/screenshots.py

lint: $(VENV)/.dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

bench: $(VENV)/.dev  ## measured figures; ARGS="pipeline --json"
	$(BIN)/andon bench $(ARGS)

soak: $(VENV)/.dev  ## two minutes of a running line in which nothing may grow; ARGS="--minutes 30"
	$(BIN)/andon bench soak $(ARGS)

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

$(VENV)/.teach: $(VENV)/.runtime
	@echo "installing what teaching needs (torch: a few minutes, once) …"
	@$(PIP) install --constraint constraints.txt --editable ".[cpu,embedded,train]"
	@touch $@

$(VENV)/.dev: $(VENV)/bin/python $(FILES)
	@echo "installing the development environment (torch: a few minutes, once) …"
	@$(PIP) install --constraint constraints.txt --editable ".[cpu,openvino,embedded,s3,parquet,sparkplug,opcua,oidc,s7,ethernetip,train,dev]"
	@touch $@ $(VENV)/.runtime $(VENV)/.teach

# Independent peers of the tests. From Debian: Chromium looks at the console, mbpoll (libmodbus) reads what the PLC driver wrote,
# mosquitto carries what is reported.
# From npm: node-opcua (MIT) is the PLC of the OPC UA driver, nodes7 (MIT) reads what the S7 driver wrote, axe-core (MPL-2.0, in
# tests only) tells whether everybody can use the console's pages, oidc-provider (MIT) vouches for who signs in.
# From the registry of Python: snap7 in C++ (LGPL-3) is the PLC of the S7 driver; only its library is loaded, beside python-snap7 3.
# Where they cannot be had, their tests skip and say so.
$(VENV)/.peers: $(VENV)/bin/python Makefile
	@missing=""; \
	for peer in chromium mbpoll mosquitto npm; do command -v $$peer >/dev/null || missing="$$missing $$peer"; done; \
	if [ -n "$$missing" ] && command -v apt-get >/dev/null && [ "$$(id -u)" = 0 ]; then \
	  echo "installing$$missing for the tests …"; \
	  { apt-get -qq update && DEBIAN_FRONTEND=noninteractive apt-get -qq install -y --no-install-recommends $$missing; } \
	    >/dev/null 2>&1 || echo "not to be had:$$missing: their tests will be skipped"; fi
	@command -v npm >/dev/null || echo "npm is not to be had: the tests against node-opcua, nodes7, axe-core and oidc-provider will be skipped"; \
	! command -v npm >/dev/null || for peer in node-opcua@2.182.2 nodes7@0.3.18 axe-core@4.10.3 oidc-provider@9.13.3; do \
	  test -d $(NPM)/node_modules/$${peer%@*} || { \
	  echo "installing $$peer for the tests (once for each user) …"; mkdir -p $(NPM); \
	  npm install --prefix $(NPM) --no-audit --no-fund --loglevel=error $$peer >/dev/null 2>&1 \
	    || echo "not to be had: $$peer: its tests will be skipped"; }; done
	@test -e $(VENV)/peers/snap7/lib/libsnap7.so || $(PIP) install --no-deps --target $(VENV)/peers python-snap7==2.1.0 \
	  || echo "not to be had: snap7 in C++: its tests will be skipped"
	@touch $@

# The second pair of servers, for SERVERS=debian. The tests start them in folders of their own: the installation itself starts
# nothing, makes no cluster and leaves nothing that a boot would start.
debian-servers:
	@missing=""; \
	test -x /usr/lib/postgresql/15/bin/postgres || missing="$$missing postgresql-15"; \
	command -v redis-server >/dev/null || missing="$$missing redis-server"; \
	test -z "$$missing" && exit 0; \
	test "$$(id -u)" = 0 || { echo "missing:$$missing: install them, or run this as root"; exit 1; }; \
	echo "installing$$missing for the tests …"; \
	policy=/usr/sbin/policy-rc.d; \
	test -e $$policy || { ours=$$policy; trap 'rm -f $$ours' EXIT; printf '#!/bin/sh\nexit 101\n' >$$policy; chmod 755 $$policy; }; \
	clusters=/etc/postgresql-common/createcluster.conf; \
	test -e $$clusters || { mkdir -p $${clusters%/*}; echo "create_main_cluster = false" >$$clusters; }; \
	apt-get -qq update && DEBIAN_FRONTEND=noninteractive apt-get -qq install -y --no-install-recommends \
	  -o Dpkg::Options::=--force-confold $$missing >/dev/null || exit 1; \
	for package in $$missing; do \
	  ! command -v systemctl >/dev/null || systemctl --quiet disable $${package%-15} || exit 1; \
	  ! test -e /etc/init.d/$${package%-15} || update-rc.d $${package%-15} disable; \
	done

# any other pair needs nothing
embedded:
