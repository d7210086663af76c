# Everything on a fresh machine with Python ≥ 3.11 and make: `make demo`, `make test`.
PYTHON ?= python3
BIN = .venv/bin

.PHONY: demo test lint format bench clean

demo: .venv/installed
	$(BIN)/textenv demo

test: lint
	$(BIN)/python -m pytest

lint: .venv/installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: .venv/installed
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

bench: .venv/installed
	$(BIN)/python -m benchmarks speed
	$(BIN)/python -m benchmarks bias

clean:
	rm -rf .venv dist runs

.venv/installed: pyproject.toml constraints.txt
	$(PYTHON) -c 'import sys; sys.exit("textenv needs Python >= 3.11" if sys.version_info < (3, 11) else 0)'
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt torch -e '.[dev]'
	touch $@
