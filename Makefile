# Two commands do everything: `make demo` and `make test`; `make check` keeps the habits.
PYTHON ?= python3
BIN := .venv/bin
CODE := dss examples tests experiments benchmarks models docs

.PHONY: demo test check format clean

demo: .venv/installed
	$(BIN)/dss demo

test: .venv/installed
	$(BIN)/python -m pytest -q

check: .venv/installed
	$(BIN)/ruff format --check $(CODE)
	$(BIN)/ruff check $(CODE)
	$(BIN)/pyright --pythonpath $(BIN)/python

format: .venv/installed
	$(BIN)/ruff check --fix $(CODE)
	$(BIN)/ruff format $(CODE)

.venv/installed: setup.cfg setup.py pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet -c constraints.txt -e '.[test,libraries,check]'
	touch $@

clean:
	rm -rf .venv build *.egg-info
