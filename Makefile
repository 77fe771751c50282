# One virtual environment, made on first use; every target works on a fresh machine with Python 3.11+, pip and make.
PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
JOBS   ?= 2
STAMP  := $(VENV)/.linepress-installed
export RAY_USAGE_STATS_ENABLED = 0
export RAY_ENABLE_UV_RUN_RUNTIME_ENV = 0
export RAY_AUTH_MODE = disabled
export MLFLOW_DISABLE_TELEMETRY = true

.PHONY: run test lint bench release format clean
.DEFAULT_GOAL := run

$(STAMP): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] < (3, 15))' || \
	  { echo "linepress needs Python 3.11 to 3.14, and $(PYTHON) is $$($(PYTHON) --version 2>&1); say which with: make PYTHON=python3.12 run" >&2; exit 4; }
	$(PYTHON) -m venv $(VENV)
	PIP_CONSTRAINT=constraints.txt $(BIN)/python -m pip install --quiet --disable-pip-version-check -e '.[dev]'
	@echo "compiling kernels, once (a minute or two)"
	@$(BIN)/linepress warm
	@touch $@

run: $(STAMP)  ## the smoke suite on the bundled sample: local Ray, SQLite MLflow, HTML report
	$(BIN)/linepress run smoke

test: $(STAMP)
	$(BIN)/python -m pytest --numprocesses $(JOBS) --dist loadgroup --no-loadscope-reorder

lint: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: $(STAMP)
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

bench: $(STAMP)  ## every benchmark, raw samples to benchmarks/results/
	$(BIN)/python -m benchmarks

release: $(STAMP)  ## dist/: the wheel, the lock with hashes, and the bill of materials of what it was tested with
	$(BIN)/python -m benchmarks.tools.lock --check
	$(BIN)/python -m pip wheel --quiet --no-deps --wheel-dir dist .
	$(BIN)/python -m linepress.submission.certificate.materials > dist/bom.json
	cp requirements.lock dist/

clean:
	rm -rf $(VENV) .pytest_cache .mypy_cache .ruff_cache .hypothesis build dist
	find codecs hardware harness -name '*.nb[ci]' -delete
