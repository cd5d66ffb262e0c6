PYTHON ?= python3
BIN := .venv/bin
READY := .venv/.ready
# A worker a core, four at most; a worker takes whole files, since their tests share servers.
PYTEST := $(BIN)/python -m pytest -n logical --maxprocesses 4 --dist loadfile --no-loadscope-reorder --cov --cov-report=term

.PHONY: demo test test-all check serve clean

demo: $(READY)  ## set up, run all seven stages and the retraining loop offline
	$(BIN)/heptune demo

test: $(READY)  ## every test that is not marked slow
	$(PYTEST) -m "not slow"

test-all: $(READY)  ## every test
	$(PYTEST)

check: $(READY)  ## style, types, import direction
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

serve: $(READY)  ## serve the champion
	$(BIN)/heptune serve

clean:  ## remove everything the pipeline made; sources, params and the base model stay
	rm -rf .heptune data/prepared data/production/*.parquet models/initial models/plan models/tuned \
		models/release models/checkpoints reports data/raw/feedback dvc.lock .dvc/cache .dvc/tmp .pytest_cache .mypy_cache .ruff_cache
	echo '{"release": null, "version": null}' > models/champion.json

$(READY): pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[dev]'
	touch $(READY)
