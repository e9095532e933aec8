# rolloutobs: `make help` lists the targets. Needs Python >= 3.11, Node >= 20 and make; all else is installed here.
SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help

PYTHON ?= $(shell for p in python3 python3.13 python3.12 python3.11; do \
	"$$p" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && { echo "$$p"; break; }; done)
VENV   ?= .venv
BIN    := $(VENV)/bin
BUNDLE := rum_collector/browser/dist/rolloutobs.js
CANARY ?= errors
# One more than the cores of a small machine: half of the time tests wait for servers and scrapes.
WORKERS ?= 3

.PHONY: help install demo test soak check bench bench-rollouts bench-load bench-synthetic bench-rum bench-cluster bench-peers docs k8s clean format

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-14s %s\n", $$1, $$2}' $(MAKEFILE_LIST)
	@echo "  stories of the demo: make demo CANARY=errors|good|slow|broken-frontend|chunk|trickle|dependency"

install: $(VENV)/.installed $(BUNDLE) $(VENV)/.browser ## create .venv with everything, and build the browser script

$(VENV)/.installed: pyproject.toml constraints.txt
	@if [ -z "$(PYTHON)" ]; then echo "Python 3.11 or newer is needed; found $$(python3 --version 2>&1)" >&2; exit 2; fi
	@echo "installing into $(VENV) (about a minute, once)"
	@$(PYTHON) -m venv $(VENV)
	@$(BIN)/python -m pip install -qq --disable-pip-version-check --upgrade -c constraints.txt pip
	@$(BIN)/python -m pip install -qq --disable-pip-version-check -c constraints.txt --group dev -e '.[all]'
	@# Their last release pins its siblings to the release before ours; they work with it all the same.
	@$(BIN)/python -m pip install -qq --disable-pip-version-check -c constraints.txt --no-deps \
	  opentelemetry-instrumentation-aiohttp-client opentelemetry-instrumentation-urllib3
	@touch $@

$(BUNDLE): $(wildcard rum_collector/browser/src/*.ts rum_collector/browser/src/lean/*.ts) rum_collector/browser/package-lock.json rum_collector/browser/build.mjs
	@command -v npm >/dev/null || { echo "Node.js 20 or newer (with npm) is needed to build the browser script" >&2; exit 2; }
	cd rum_collector/browser && npm ci --silent && npm run --silent build

# A Chromium that is there is used; else Playwright's own is tried; without any, the demo leaves the browser out.
$(VENV)/.browser: $(VENV)/.installed
	@$(BIN)/python -c 'import sys; from synthetic import browser; sys.exit(not browser.available())' \
	  || timeout 300 $(BIN)/python -m playwright install chromium >/dev/null 2>&1 \
	  || echo "no Chromium was found and none could be installed: browser parts will be left out"
	@touch $@

demo: install ## a live canary rollout on this machine, ending in a verdict (CANARY=errors|good|slow|...)
	@$(BIN)/python -m examples.demo $(CANARY)

# Whole rollouts, after all else, for what competes with them for the cores would be a story of its own: those
# with browsers one by one, and beside them those without.
STORIES := $(addprefix tests/e2e/test_,demo_stories.py demo_without_browsers.py gate_live.py)

test: install ## all tests (ARGS="tests/unit -x" runs some of them)
ifdef ARGS
	@$(BIN)/python -m pytest -n $(WORKERS) $(ARGS)
else
	@$(BIN)/python -m pytest -n $(WORKERS) $(STORIES:%=--ignore %)
	@$(BIN)/python -m pytest -n 2 --dist loadfile -v $(STORIES)
endif

soak: install ## the soaks at full length: a million hostile requests, killed workers, flapping tracks (an hour)
	@ROLLOUTOBS_SOAK=1 $(BIN)/python -m pytest -v tests/soak $(ARGS)

check: install ## lint, types, layers, generated docs
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	cd rum_collector/browser && npm run --silent check
	$(BIN)/cog --check -P README.md docs/*.md

bench: install ## overhead of instrument(app), as ratios (ARGS for options), a look, a beacon, a few simulated rollouts
	@$(BIN)/python -m bench.overhead $(ARGS)
	@$(BIN)/python -m bench.analysis_cost
	@$(BIN)/python -m bench.beacon
	@$(BIN)/python -m bench.rollouts good worse --runs 2 --rps 100

bench-rollouts: install ## simulated rollouts: ours, other tools, an oracle (ARGS=--save: those of docs/verdict.md)
	@$(BIN)/python -m bench.rollouts $(ARGS)

bench-cluster: install ## the watcher with 5,000 pods at 50 changes a second: memory and CPU, against its budget
	@$(BIN)/python -m bench.cluster $(ARGS)

bench-load: install ## durations under a server that stalls: Locust's own, ours, and the truth
	@$(BIN)/python -m bench.load $(ARGS)

bench-synthetic: install ## a check beside plain Playwright, and pairs without a browser (ARGS=--docs: the table of docs/synthetic.md)
	@$(BIN)/python -m bench.checks $(ARGS)

bench-rum: install ## the browser script beside web-vitals, OpenTelemetry, Faro and Sentry (ARGS=--docs: the table of docs/rum.md)
	@$(BIN)/python -m bench.rum $(ARGS)

PEERS := .venv-peers

$(PEERS)/.installed: bench/peers-constraints.txt pyproject.toml
	@if [ -z "$(PYTHON)" ]; then echo "Python 3.11 or newer is needed; found $$(python3 --version 2>&1)" >&2; exit 2; fi
	@echo "installing the other tools into $(PEERS) (about a minute, once)"
	@$(PYTHON) -m venv $(PEERS)
	@$(PEERS)/bin/python -m pip install -qq --disable-pip-version-check -c bench/peers-constraints.txt --upgrade pip
	@$(PEERS)/bin/python -m pip install -qq --disable-pip-version-check -c bench/peers-constraints.txt --group peers -e .
	@touch $@

bench-peers: $(PEERS)/.installed ## the same beside eleven other tools, each in a process of its own
	@$(PEERS)/bin/python -m bench.overhead peers peers-fastapi loopback --rounds 50 $(ARGS)

docs: install ## write the generated tables into the docs
	$(BIN)/cog -r -P README.md docs/*.md

k8s: install ## write the generated rules and dashboards into k8s/
	$(BIN)/python -m k8s.source

format: install ## format the code
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

clean: ## remove what was built
	rm -rf build dist $(VENV) .venv-* .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
	rm -rf rum_collector/browser/dist rum_collector/browser/node_modules bench/rum/dist bench/rum/node_modules
	find . -name __pycache__ -prune -exec rm -rf {} +
