# Two commands do everything: `make demo` and `make test`; `make check` keeps the habits, `make docs` builds the site.
PYTHON ?= python3
BIN := .venv/bin
CODE := dss examples tests experiments benchmarks models docs

.PHONY: demo test test-oldest test-newest check docs format clean

demo: .venv/installed
	$(BIN)/dss demo

test: .venv/tested
	$(BIN)/python -m pytest -q

# Once per release (docs/versions.md): the oldest Python and torch that setup.cfg allows, and the newest Python. Environments of
# their own; EXTRA adds an index, such as torch's of builds for the CPU.
OLDEST ?= python3.10
NEWEST ?= python3.13
EXTRA ?=
# They read checkpoints of libraries whose pinned versions ask for a newer torch than the oldest.
WITH_LIBRARIES := tests/test_adapters.py tests/test_examples.py tests/test_models_transformers.py tests/test_symmetry_transformers.py

test-oldest: .venv-oldest/tested
	.venv-oldest/bin/python -m pytest -q $(addprefix --ignore=,$(WITH_LIBRARIES))

test-newest: .venv-newest/tested
	.venv-newest/bin/python -m pytest -q

.venv-oldest/tested: setup.cfg
	$(OLDEST) -m venv .venv-oldest
	.venv-oldest/bin/python -m pip install --quiet $(EXTRA) 'torch==2.6.*' -e '.[test]'
	touch $@

.venv-newest/tested: setup.cfg constraints.txt
	$(NEWEST) -m venv .venv-newest
	.venv-newest/bin/python -m pip install --quiet $(EXTRA) -c constraints.txt -e '.[test,libraries]'
	touch $@

check: .venv/tested
	$(BIN)/ruff format --check $(CODE)
	$(BIN)/ruff check $(CODE)
	$(BIN)/pyright --pythonpath $(BIN)/python

# Notebooks are executed; their figures carry plotly with them, so that the site works without a network.
docs: .venv/documented
	rm -rf .cache
	NO_MKDOCS_2_WARNING=1 PLOTLY_RENDERER=notebook OMP_NUM_THREADS=1 $(BIN)/mkdocs build --strict --quiet

format: .venv/tested
	$(BIN)/ruff check --fix $(CODE)
	$(BIN)/ruff format $(CODE)

.venv/installed: setup.cfg setup.py pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet -c constraints.txt -e .
	touch $@

.venv/tested: .venv/installed
	$(BIN)/python -m pip install --quiet -c constraints.txt -e '.[test,libraries,check]'
	touch $@

.venv/documented: .venv/installed
	$(BIN)/python -m pip install --quiet -c constraints.txt -e '.[docs]'
	touch $@

clean:
	rm -rf .venv .venv-oldest .venv-newest site build *.egg-info
