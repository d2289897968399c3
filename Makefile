# Two commands: make demo, make test. Options go into ARGS: make demo ARGS="--for 20s --json"
VENV := .venv
BIN := $(VENV)/bin
ARGS ?=

.PHONY: help demo test test-stack bench lint format servers clean

help:  ## what there is
	@sed -n 's/^\([a-z-]*\):.*##/  make \1\t/p' Makefile

demo: $(VENV)/demo  ## run everything on embedded defaults: broker, gateway, store, web page, devices
	@$(BIN)/gateway demo $(ARGS)

test: $(VENV)/test servers  ## run all tests, against real servers where they are
	$(BIN)/python -m pytest --cov --cov-report=term:skip-covered $(ARGS)

test-stack: $(VENV)/test  ## run the stack tests against servers named by STACK_… (docs/provisioning.md)
	$(BIN)/python -m pytest tests/stack -ra $(ARGS)

bench: $(VENV)/test servers  ## measure, against real servers: a short form, or make bench ARGS="ingest --json"
	@$(BIN)/python -m bench $(ARGS)

lint: $(VENV)/test  ## style, types, floors
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

format: $(VENV)/test  ## put the code in order
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

servers:  ## install the servers that the tests talk to (Debian; elsewhere say what is missing)
	@scripts/install-servers

clean:  ## forget the environment and all state
	rm -rf $(VENV) var .coverage* .mypy_cache .pytest_cache .ruff_cache .hypothesis

$(VENV)/demo: pyproject.toml scripts/make-venv
	@scripts/make-venv $(VENV)
	@echo "installing the gateway into $(VENV)"
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check -e '.[console,demo,devices]'
	@touch $@

$(VENV)/test: pyproject.toml scripts/make-venv
	@scripts/make-venv $(VENV)
	@echo "installing the gateway and its tools into $(VENV)"
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check -e '.[console,demo,devices,provision,test]'
	@touch $@ $(VENV)/demo
