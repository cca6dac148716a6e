# Two commands do everything: `make demo` and `make test`; `make check` keeps the habits, `make docs` builds the site.
PYTHON ?= python3
BIN := .venv/bin
CODE := dss examples tests experiments benchmarks models docs

.PHONY: demo test check docs format clean

demo: .venv/installed
	$(BIN)/dss demo

test: .venv/tested
	$(BIN)/python -m pytest -q

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
	rm -rf .venv site build *.egg-info
