# Everything runs in a virtual environment of its own; a machine needs python3 (3.11 or newer) with its headers,
# pip, make and a C compiler.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
SCALE ?= 0.02
ROUNDS ?= 20
SEED ?= 1
SECONDS ?= 60

.PHONY: demo test long campaign mutants fuzz matrix pooler lint check unit bench bench-peers format lock audit clean
.DEFAULT_GOAL := demo

$(VENV)/installed: pyproject.toml constraints.txt hatch_build.py hal9mig/categories/native.pyx
	@sh config/needs.sh $(PYTHON)
	@echo "== installing into $(VENV)"
	@# What was begun and not finished is made anew: one without pip would stay so.
	@$(BIN)/python -m pip --version > /dev/null 2>&1 || { rm -rf $(VENV); $(PYTHON) -m venv $(VENV); }
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]'
	@touch $@

## demo: real servers, live traffic; migrate, switch over, go back, prove that nothing was lost
demo: $(VENV)/installed
	@SCALE=$(SCALE) BIN=$(abspath $(BIN)) bash config/demo.sh

## test: everything CI checks
test: lint check
	@echo "== tests"
	@$(BIN)/python -m pytest --numprocesses=2 --dist=loadfile --no-loadscope-reorder

## long: what the tests say in short, at length: every kill in every mode, more examples of everything
long: $(VENV)/installed
	@$(BIN)/python -m pytest --numprocesses=2 --dist=loadfile --no-loadscope-reorder -m long

## campaign: ROUNDS migrations under live traffic, in a storm of accidents and contrary orders, from SEED on
campaign: $(VENV)/installed
	@$(BIN)/python -m tests.campaign --rounds $(ROUNDS) --seed $(SEED)

## mutants: one rule of docs/correctness.md left out at a time; a test has to notice each
mutants: $(VENV)/installed
	@$(BIN)/python -m tests.mutants

## fuzz: what comes from outside, drawn by a fuzzer that follows the code, for SECONDS each; fetches the fuzzer
fuzz: $(VENV)/installed
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt atheris
	@$(BIN)/python -m tests.fuzz --seconds $(SECONDS)

## matrix: the acceptance tests on other versions of Python, PostgreSQL and Redis, as far as they are at hand
matrix: $(VENV)/installed
	@$(BIN)/python -m tests.matrix

## pooler: a migration by 64 worker processes by way of PgBouncer in transaction mode, where there is one
pooler: $(VENV)/installed
	@PATH="$$PATH:/usr/sbin"; command -v pgbouncer > /dev/null \
	  || { echo "not here: pgbouncer (Debian: apt-get install pgbouncer)"; exit 1; }; \
	  $(BIN)/python -m pytest -m pooler -s tests/pooler

## lint: style and the direction of imports
lint: $(VENV)/installed
	@echo "== lint"
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/lint-imports --no-cache

## check: types
check: $(VENV)/installed
	@echo "== types"
	@$(BIN)/mypy

## bench: speed against peers, as ratios inside one run
bench: $(VENV)/installed
	@$(BIN)/python -m tests.benchmarks

## bench-peers: the same rows moved and compared by us and by other programs, side by side
bench-peers: $(VENV)/installed
	@$(BIN)/python -m tests.benchmarks.peers_table

## format: rewrite the style
format: $(VENV)/installed
	@$(BIN)/ruff check --fix .
	@$(BIN)/ruff format .

## lock: pin what the image installs, each file by its hash; needs the package index
lock: $(VENV)/installed
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check pip-tools
	@echo '# What the image installs, each file by its hash; made by `make lock` out of pyproject.toml and constraints.txt.' \
	  > config/requirements.lock
	@$(BIN)/pip-compile --quiet --generate-hashes --no-emit-index-url --no-emit-find-links --no-emit-trusted-host \
	  --no-header --no-annotate --allow-unsafe --strip-extras -c constraints.txt -o - pyproject.toml \
	  2> /dev/null | sed -n '/==/,$$p' >> config/requirements.lock

## audit: what is known against the locked versions; needs the network
audit: $(VENV)/installed
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check pip-audit
	@$(BIN)/pip-audit --disable-pip --require-hashes -r config/requirements.lock

clean:
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .hypothesis
