# make demo    install, search on the shipped speech data, print the front, write the report (a few minutes)
# make test    every test that is not marked slow
# make lint    style, types, import contracts
# make bench   rewrite results/reference (some hours)
PYTHON ?= python3
VENV   ?= .venv
BIN    := $(VENV)/bin

.PHONY: demo test slow lint bench
.DELETE_ON_ERROR:

$(BIN)/python:
	$(PYTHON) -m venv $(VENV)

$(VENV)/installed: pyproject.toml | $(BIN)/python
	$(BIN)/python -m pip install --quiet --editable .
	touch $@

$(VENV)/installed-test: pyproject.toml | $(BIN)/python
	$(BIN)/python -m pip install --quiet --editable '.[test,lint]'
	touch $@ $(VENV)/installed

demo: $(VENV)/installed
	$(BIN)/codesign search search_spaces/ru_phones.toml
	$(BIN)/codesign front results/ru_phones --plot results/ru_phones/front.png
	$(BIN)/codesign report results/ru_phones

test: $(VENV)/installed-test
	$(BIN)/python -m pytest -n auto

slow: $(VENV)/installed-test
	$(BIN)/python -m pytest -n auto --dist loadfile -m slow --durations=10

lint: $(VENV)/installed-test
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

bench: $(VENV)/installed-test
	$(BIN)/python -m benchmarks.demo
	$(BIN)/python -m benchmarks.block_size
	$(BIN)/python -m benchmarks.compiled_step
	$(BIN)/python -m benchmarks.tasks
