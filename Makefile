# `make demo` shows the whole path in a scratch folder; `make test` checks one of each kind, `make full` all but what takes
# minutes. Each sets up what it needs.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
DEMO ?= demo

FUZZ_SECONDS ?= 600
LOWEST ?= .venv-lowest
PYTHONS ?= python3.11 python3.12 python3.13 python3.14

.PHONY: demo test full rest lint types layers unit slow fuzz lowest milvus docs site wheel wheels clean

demo: $(VENV)/.installed
	@PATH="$(abspath $(BIN)):$$PATH" sh docs/demo.sh "$(DEMO)"

test: lint types layers unit

# Every test but those that take minutes each or need a GPU.
full: $(VENV)/.installed-dev
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 -m "not slow and not gpu"

# Of these, the ones that `make test` leaves out.
rest: $(VENV)/.installed-dev
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 -m "thorough and not slow and not gpu"

lint: $(VENV)/.installed-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(VENV)/.installed-dev
	$(BIN)/mypy

layers: $(VENV)/.installed-dev
	$(BIN)/lint-imports

unit: $(VENV)/.installed-dev
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2

slow: $(VENV)/.installed-dev $(VENV)/.installed-milvus
	$(BIN)/python -m pytest -m slow

# Every parser of files that strangers may have written, for so many seconds each: make fuzz FUZZ_SECONDS=60
fuzz: $(VENV)/.installed-dev
	$(BIN)/python tests/fuzz/run.py --seconds $(FUZZ_SECONDS)

# The tests with the oldest versions that pyproject.toml allows, in an environment of their own. What programs print
# of help and schemas is pinned for the newest ones.
lowest: $(LOWEST)/.installed
	OMP_NUM_THREADS=1 $(LOWEST)/bin/python -m pytest -n 2 -W default --ignore tests/pins --ignore tests/docs

# Every test of a gallery's store, on a folder, on Milvus Lite, and on a server that is started, killed and ended.
milvus: $(VENV)/.installed-dev $(VENV)/.installed-milvus
	$(BIN)/python -m pytest -m "slow or not slow" tests/gallery/test_stores.py \
		tests/gallery/milvus/test_failures.py tests/gallery/milvus/test_strangers.py tests/cli/test_stores_commands.py

docs: $(VENV)/.installed-dev
	$(BIN)/python docs/generate.py

# These pages as a site in site/, which opens without a server; a warning is an error.
site: $(VENV)/.installed-dev
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build

# The sdist and the wheel in dist/; the same commit gives the same bytes.
wheel: $(VENV)/.installed-dev
	rm -rf dist
	SOURCE_DATE_EPOCH=$${SOURCE_DATE_EPOCH:-$$(git log -1 --format=%ct 2>/dev/null || echo 1577836800)} $(BIN)/python -m build --no-isolation

# The wheel, alone in an empty environment, runs the five commands: on every Python of these that is on this machine.
wheels: wheel
	for python in $(PYTHONS); do tests/try_wheel.sh "$$python" dist/*.whl || exit 1; done

clean:
	rm -rf dist site "$(VENV)" "$(LOWEST)" "$(DEMO)" .mypy_cache .ruff_cache .pytest_cache .hypothesis

$(VENV)/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo 'sil needs Python 3.11 or newer: make PYTHON=/path/to/python3.11 ...' >&2; exit 1; }
	$(PYTHON) -m venv "$(VENV)"

$(VENV)/.installed: pyproject.toml | $(VENV)/bin/python
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e .
	@touch $@

$(VENV)/.installed-dev: pyproject.toml | $(VENV)/bin/python
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e ".[dev]"
	@touch $@ $(VENV)/.installed

$(LOWEST)/.installed: pyproject.toml
	$(PYTHON) -m venv "$(LOWEST)"
	$(LOWEST)/bin/python -m pip install --quiet --disable-pip-version-check uv
	$(LOWEST)/bin/uv pip install --quiet --python "$(LOWEST)/bin/python" --resolution lowest-direct -e ".[dev]"
	@touch $@

$(VENV)/.installed-milvus: | $(VENV)/.installed-dev
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check milvus==2.3.5 && touch $@ || \
		echo 'There is no Milvus server for this machine: tests on one are skipped.' >&2
