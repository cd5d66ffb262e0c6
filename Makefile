PYTHON ?= python3
BIN := .venv/bin
# What runs the pipeline, and what tests it too: `make demo` needs no test tools.
RUNTIME := .venv/.ready
DEVELOPMENT := .venv/.ready-dev
INSTALL := $(BIN)/python -m pip install --quiet --no-compile --constraint constraints.txt --editable
# What pip would do one file after another, and for packages' own tests too. Some have templates that are no Python.
COMPILE := $(BIN)/python -m compileall -qq -j 0 -x '/tests?/' .venv/lib || true
# A worker a core, four at most; a worker takes whole files, since their tests share servers.
PYTEST := $(BIN)/python -m pytest -n logical --maxprocesses 4 --dist loadfile --no-loadscope-reorder
# Each test starts processes, which would compile all modules of this project anew.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: demo test test-all check serve clean
# Two installations into one environment must not run side by side.
.NOTPARALLEL:

demo: $(RUNTIME)  ## set up, run all seven stages and the retraining loop offline
	$(BIN)/heptune demo

test: $(DEVELOPMENT)  ## every test that is not marked slow
	$(PYTEST) -m "not slow"

test-all: $(DEVELOPMENT)  ## every test, and which lines they reach
	$(PYTEST) --cov --cov-report=term

check: $(DEVELOPMENT)  ## style, types, import direction
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

serve: $(RUNTIME)  ## serve the champion
	$(BIN)/heptune serve

clean:  ## remove everything the pipeline made; sources, params and the base model stay
	rm -rf .heptune data/prepared data/production/*.parquet models/initial models/plan models/tuned \
		models/release models/checkpoints reports/*/ reports/index.html reports/runs.js data/raw/feedback data/raw.dvc dvc_plots dvc.lock .dvc/cache .dvc/tmp .pytest_cache .mypy_cache .ruff_cache
	echo '{"release": null, "version": null}' > models/champion.json
	echo '{}' > models/source.json

$(BIN)/python:
	$(PYTHON) -m venv .venv

$(RUNTIME): pyproject.toml constraints.txt | $(BIN)/python
	@echo "installing what the pipeline needs into .venv; a few minutes the first time"
	$(INSTALL) .
	$(COMPILE)
	touch $@

$(DEVELOPMENT): pyproject.toml constraints.txt | $(BIN)/python
	@echo "installing what the pipeline and its tests need into .venv; a few minutes the first time"
	$(INSTALL) '.[dev]'
	$(COMPILE)
	touch $(RUNTIME) $@
