# Stockwire. `make help` lists what there is.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help

##@ First steps
.PHONY: setup demo test

setup: $(STAMP) ## Install everything into .venv and .jars; nothing outside this directory
	@$(BIN)/stockwire setup

demo: $(STAMP) ## Start the stack, sell for 30 s, watch it arrive, compare every row
	@$(BIN)/stockwire demo

test: setup ## Unit, integration, end-to-end tests, then the short half of chaos; on stacks of their own
	@$(BIN)/pytest

##@ The stack
.PHONY: up down reset status logs env

up: $(STAMP) ## Start Postgres, Kafka, Connect, Redis and the workers; return when all answer
	@$(BIN)/stockwire up

down: $(STAMP) ## Stop everything, keep the data
	@$(BIN)/stockwire down

reset: $(STAMP) ## Stop everything and throw the data away
	@$(BIN)/stockwire reset

status: $(STAMP) ## What runs, since when, on which port, in how much memory
	@$(BIN)/stockwire status

logs: $(STAMP) ## The last lines of each part's log; PART=connect for one part
	@$(BIN)/stockwire logs $(PART)

env: $(STAMP) ## Print `export STOCKWIRE_…` lines for the running stack
	@$(BIN)/stockwire env

##@ Channels
.PHONY: channels channel-new channel-remove explain

channels: $(STAMP) ## The channels, their policies, and how far each has been told
	@$(BIN)/stockwire channels

channel-new: $(STAMP) ## Add a channel: NAME=marketplace KIND=availability [WAREHOUSES=A,B] [TOPIC=…]
	@$(BIN)/stockwire channel-new "$(NAME)" --kind "$(KIND)" \
	  $(if $(WAREHOUSES),--warehouses "$(WAREHOUSES)") $(if $(TOPIC),--topic "$(TOPIC)")

channel-remove: $(STAMP) ## Remove a channel: NAME=marketplace [DELETE_TOPIC=yes]
	@$(BIN)/stockwire channel-remove "$(NAME)" $(if $(DELETE_TOPIC),--delete-topic)

explain: $(STAMP) ## Why a number is what it is: SKU=SKU-00001 [CHANNEL=web]
	@$(BIN)/stockwire explain "$(SKU)" $(if $(CHANNEL),--channel "$(CHANNEL)")

##@ Operations
.PHONY: audit doctor rebuild recover-slot recover-database recover-topics

audit: $(STAMP) ## Compare every row with Redis and the channels; HEAL=yes also mends
	@$(BIN)/stockwire audit --once $(if $(HEAL),--heal)

doctor: $(STAMP) ## What is wrong, why it matters, and the command that mends it
	@$(BIN)/stockwire doctor

rebuild: $(STAMP) ## Build the Redis projection anew: [FROM=kafka|postgres] [SHADOW=yes]
	@$(BIN)/stockwire projection rebuild $(if $(FROM),--from "$(FROM)") $(if $(SHADOW),--shadow)

recover-slot: $(STAMP) ## After the replication slot was lost: a new one, a snapshot, an audit
	@$(BIN)/stockwire recover slot

recover-database: $(STAMP) ## After the database was restored from a backup: take it as the truth
	@$(BIN)/stockwire recover database

recover-topics: $(STAMP) ## Give topics the settings back that somebody has changed
	@$(BIN)/stockwire recover topics

##@ For developers
.PHONY: test-unit bench chaos lint contracts contracts-check format lock clean help

test-unit: $(STAMP) ## Only the tests that need no server (seconds)
	@$(BIN)/pytest tests/unit

bench: $(STAMP) ## Measure latency, drain rate and memory; print and store the figures
	@$(BIN)/stockwire bench

chaos: setup ## All of chaos: break a stack of its own in every way; writes the table of docs/reliability.md
	@code=0; $(BIN)/pytest tests/chaos || code=$$?; $(BIN)/python -m tests.chaos.report; exit $$code

lint: $(STAMP) ## ruff, mypy (strict), import-linter
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy
	@$(BIN)/lint-imports

contracts: $(STAMP) ## Write contracts/ again from the client's messages
	@$(BIN)/python -m contracts.generate

contracts-check: $(STAMP) ## contracts/ is current, compatible, and valid AsyncAPI 3
	@$(BIN)/python -m contracts.generate --check
	@$(BIN)/python -m contracts.validate

format: $(STAMP) ## Format the code
	@$(BIN)/ruff check --fix .
	@$(BIN)/ruff format .

lock: $(STAMP) ## Pin requirements/*.in again, with hashes
	@$(PYTHON) -m venv $(VENV)/lock && $(VENV)/lock/bin/pip install --quiet uv
	@cd requirements && for f in runtime embedded dev; do \
	  UV_CUSTOM_COMPILE_COMMAND="make lock" ../$(VENV)/lock/bin/uv pip compile --quiet --universal \
	    --python-version 3.11 --generate-hashes $$f.in --output-file $$f.txt; done

clean: ## Remove caches; .venv, .jars and the stack's data stay
	@rm -rf .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache build *.egg-info
	@find . -name __pycache__ -not -path './.venv/*' -prune -exec rm -rf {} +

help: ## This list
	@awk 'BEGIN {FS = ":.*## "} /^##@/ {printf "\n%s\n", substr($$0, 5)} \
	  /^[a-z-]+:.*## / {printf "  \033[36m%-17s\033[0m %s\n", $$1, $$2}' $(MAKEFILE_LIST)

$(STAMP): requirements/runtime.txt requirements/embedded.txt requirements/dev.txt pyproject.toml \
  client/pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(None if sys.version_info >= (3, 11) else \
	  "Stockwire needs Python 3.11 or newer, this is " + sys.version.split()[0] + ". Try: make PYTHON=python3.12")'
	@echo "Installing Python packages into $(VENV) …"
	@$(BIN)/python -m pip --version >/dev/null 2>&1 || $(PYTHON) -m venv --clear $(VENV)
	@$(BIN)/python -m pip install $$([ -t 2 ] || echo --quiet) --disable-pip-version-check --require-hashes \
	  -r requirements/runtime.txt -r requirements/embedded.txt -r requirements/dev.txt
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-build-isolation --no-deps \
	  --editable client --editable .
	@touch $@
