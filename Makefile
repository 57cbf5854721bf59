# The whole interface: demo, test, check, bench, fmt. Each sets up what it needs.
# A fresh machine needs only python3 (3.11 or later), git and make.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.ready

.PHONY: demo test check bench fmt peers
.DEFAULT_GOAL := test

demo: $(STAMP)            ## stream a real tar into the embedded registry and read it back
	$(BIN)/python scripts/demo.py

test: $(STAMP) peers      ## every test, with branch coverage and its floors
	$(BIN)/coverage erase
	$(BIN)/coverage run -m pytest
	$(BIN)/coverage combine --quiet
	$(BIN)/coverage report --fail-under=95
	$(BIN)/coverage report --fail-under=100 --include='src/brolga/wire/*,src/brolga/layer.py,src/brolga/pipeline.py,src/brolga/digest.py,src/brolga/reference.py,src/brolga/descriptor.py,src/brolga/members.py,src/brolga/mediatypes.py'

check: $(STAMP)           ## lint, format, types, floors
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

bench: $(STAMP)           ## speed and memory, peers on PATH beside brolga, one table
	$(BIN)/python benchmarks/stream.py

fmt: $(STAMP)             ## rewrite the code in the project's format
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

# Foreign registry and readers for tests/real. Without root they are skipped there, by name.
peers:
	@scripts/install-peers.sh

$(STAMP): pyproject.toml requirements/dev.txt scripts/make-venv.sh
	@PYTHON="$(PYTHON)" scripts/make-venv.sh $(VENV)
	@touch $@
