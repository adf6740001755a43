# Two commands for a fresh machine: `make demo` and `make test`. Everything happens in .venv.

# The first Python that runs and is of a version that nasnet supports.
FITS := import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))
PYTHON ?= $(shell for p in python3 python3.12 python3.13 python3.11; do \
	$$p -c '$(FITS)' 2>/dev/null && echo $$p && break; done)
VENV := .venv
BIN := $(VENV)/bin
# Set up again when what is to be installed has changed, and not otherwise.
INSTALLED := $(VENV)/.installed
TOOLS := $(VENV)/.tools

.PHONY: demo test test-all test-random test-portable coverage chaos signals rounds train-kills soak fuzz bench lint docs man site lock format types clean

demo: $(INSTALLED)
	$(BIN)/nasnet classify examples/photos --format table --top 3

# A file's tests run in one process, since they share what is dear to set up. When such a process
# crashes, the run ends: pytest-xdist would wait for ever for the tests that it still had to run.
PYTEST := $(BIN)/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder --max-worker-restart 0

test: $(TOOLS)
	$(PYTEST) -m "not slow"

# All tests, with those that take long.
test-all: $(TOOLS)
	$(PYTEST)

# The tests in another order each time; make test-random SEED=N repeats one.
test-random: SEED = $(shell date +%s)
test-random: $(TOOLS)
	$(PYTEST) -m "not slow" --random-order --random-order-seed $(SEED)

# Tests with what Windows lacks hidden from nasnet, as far as Linux can show. NASNET_TESTS_AS=macos
# hides what macOS lacks.
test-portable: export NASNET_TESTS_AS ?= windows
test-portable: export PYTHONPATH := $(CURDIR)/tests/hidden
test-portable: $(TOOLS)
	$(PYTEST) -m "not slow and not linux"

# The share of lines that tests run, processes that they start included.
coverage: $(TOOLS)
	$(PYTEST) -m "not slow" --cov --cov-report=term:skip-covered

# Twenty minutes and more: runs over 20,000 images that are killed again and again.
chaos: $(TOOLS)
	$(BIN)/python tests/chaos.py
	$(BIN)/python tests/faults/ray_chaos.py

# Half an hour: 200 signals at random moments, each resumed.
signals: $(TOOLS)
	$(BIN)/python tests/faults/signals.py

# An hour and more: 20 rounds of the tests that use threads, processes, signals or clocks.
# make rounds N=3 LOAD=2 runs three, beside two busy loops.
rounds: N = 20
rounds: LOAD = 0
rounds: $(TOOLS)
	$(BIN)/python tests/faults/rounds.py --rounds $(N) --load $(LOAD) $(PYTEST) -m "not slow"

# Two runs of nasnet train --full, some 20 minutes each; one of them is killed five times.
train-kills: $(TOOLS)
	$(BIN)/python tests/faults/training.py

# An hour in one process: memory and open files stay flat, and the rate holds.
soak: $(TOOLS)
	$(BIN)/python tests/faults/soak.py

# An hour: 100,000 damaged images; models of every form, damaged at random; other makers' models against their runtimes.
fuzz: $(TOOLS)
	$(BIN)/python tests/faults/fuzz_images.py
	$(BIN)/python tests/faults/fuzz_makers.py
	$(BIN)/python tests/faults/fuzz_modules.py

# A quarter of an hour: nasnet and its peers on the same photos, in turn.
bench: $(TOOLS)
	$(BIN)/python benchmarks/compare.py

lint: $(TOOLS)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

# The page of commands and the manual page, from --help.
docs: $(INSTALLED)
	$(BIN)/python docs/make_commands.py

man: docs
	man -l docs/nasnet.1

# The documentation as pages, in build/site, which need no network. Search works when they are
# served: python -m http.server -d build/site
site: $(TOOLS)
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --strict

# The newest versions of everything that is needed to develop, in requirements-dev.lock.
lock: $(TOOLS)
	mkdir -p build
	sed -n '/^#/p' requirements-dev.lock >build/lock
	$(BIN)/uv pip compile --quiet pyproject.toml --all-extras --group dev --universal --upgrade \
		--python-version 3.11 --no-header --no-annotate --no-emit-index-url >>build/lock
	mv build/lock requirements-dev.lock

format: $(TOOLS)
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

types: $(TOOLS)
	$(BIN)/mypy

clean:
	rm -rf $(VENV) build dist

$(VENV)/bin/python:
	@test -n '$(PYTHON)' || { echo 'nasnet needs Python 3.11, 3.12 or 3.13. Install one, or name it: make PYTHON=/path/to/python3.12' >&2; exit 1; }
	$(PYTHON) -m venv $(VENV)

$(INSTALLED): $(VENV)/bin/python pyproject.toml
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable .
	@# pip compiles what it copies; what stays here would be compiled at each start where the
	@# environment forbids Python to write.
	$(BIN)/python -m compileall -q src
	touch $@

$(TOOLS): $(INSTALLED) pyproject.toml
	$(BIN)/python -m pip install --quiet --disable-pip-version-check 'pip>=25.1'
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --group dev
	touch $@
