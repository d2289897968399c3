# Two commands: make demo, make test. Options go into ARGS: make demo ARGS="--for 20s --json"
VENV := .venv
LOWEST := .venv-lowest
BIN := $(VENV)/bin
ARGS ?=
# The tests of one file share servers.
AT_ONCE := -n auto --dist loadfile

.PHONY: help demo test test-lowest test-stack test-cluster bench attack crash powercut mutants lint format lock servers clean

help:  ## list the targets
	@sed -n 's/^\([a-z-]*\):.*##/  make \1\t/p' Makefile | expand -t 20

demo: $(VENV)/demo  ## run everything on embedded defaults: broker, gateway, store, web page, devices
	@$(BIN)/gateway demo $(ARGS)

# The lower limit of the coverage (pyproject.toml) is for all tests, with all servers.
test: $(VENV)/test servers  ## run all tests, against real servers where they are, as many at once as there are cores
	$(BIN)/python -m pytest $(or $(ARGS),$(AT_ONCE) --cov --cov-report=term:skip-covered \
		$$(scripts/install-servers --complete || echo --cov-fail-under=0))

test-lowest: $(LOWEST)/test servers  ## run the tests with the lowest versions that pyproject.toml allows
	$(LOWEST)/bin/python -m pytest -p no:anyio -p no:schemathesis $(or $(ARGS),$(AT_ONCE) tests/unit tests/contract tests/property tests/integration)

test-stack: $(VENV)/test  ## run the stack tests against servers named by STACK_… (docs/provisioning.md)
	$(BIN)/python -m pytest tests/stack -ra $(ARGS)

test-cluster: $(VENV)/test servers  ## run two gateway hosts against a cluster of three RMQTT nodes, where rmqttd is installed (or RMQTTD=…)
	$(BIN)/python -m pytest tests/cluster -ra $(ARGS)

bench: $(VENV)/test servers  ## measure, against real servers: a short form, or make bench ARGS="ingest --json"
	@$(BIN)/python -m bench $(ARGS)

attack: $(VENV)/test servers  ## attack as one startup, or without an account, and measure what another one notices
	@$(BIN)/python -m tests.attack $(ARGS)

crash: $(VENV)/test servers  ## break everything under load, and count what is lost, stored twice or counted wrongly
	@$(BIN)/python -m tests.crash $(ARGS)

mutants: $(VENV)/test servers  ## make small wrong changes to a copy of the gateway: a named test notices each
	@$(BIN)/python -m tests.mutants $(ARGS)
powercut: $(VENV)/test servers  ## cut the power of a gateway 1,000 times, and look for what it had acknowledged
	@$(BIN)/python -m tests.powercut $(ARGS)

lint: $(VENV)/test  ## run the checks of .pre-commit-config.yaml on all files
	@$(BIN)/pre-commit run --all-files $(ARGS)

format: $(VENV)/test  ## format the code, repair what can be repaired
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

lock: $(VENV)/test  ## write requirements/ anew from pyproject.toml; ARGS=--upgrade takes the newest versions
	@scripts/lock $(ARGS)

servers:  ## install the servers that the tests talk to (Debian; elsewhere say what is missing)
	@scripts/install-servers

clean:  ## remove the environments and all state
	rm -rf $(VENV) $(LOWEST) var .coverage* .mypy_cache .pytest_cache .ruff_cache .hypothesis .import_linter_cache

$(VENV)/demo: requirements/demo.txt requirements/uv.txt pyproject.toml scripts/make-venv
	@scripts/make-venv $(VENV) $<
	@touch $@

$(VENV)/test: requirements/dev.txt requirements/uv.txt pyproject.toml scripts/make-venv
	@scripts/make-venv $(VENV) $<
	@touch $@ $(VENV)/demo

$(LOWEST)/test: requirements/lowest.txt requirements/uv.txt pyproject.toml scripts/make-venv
	@scripts/make-venv $(LOWEST) $<
	@touch $@
