# The whole interface: demo, test, check, bench, fmt. Each sets up what it needs.
# A fresh machine needs only python3 (3.11 or later), git and make.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.ready

.PHONY: demo test check bench bench-start bench-stream bench-aio bench-images bench-archives bench-pull bench-registry bench-recovery fmt peers soak
.DEFAULT_GOAL := test
# What is measured must have the machine to itself, whatever -j says.
.NOTPARALLEL:

demo: $(STAMP)            ## stream a real tar into the embedded registry and read it back
	$(BIN)/python scripts/demo.py

test: $(STAMP) peers      ## every test, with branch coverage and its floors
	$(BIN)/coverage erase
	$(BIN)/coverage run -m pytest -n auto --dist loadfile
	$(BIN)/coverage combine --quiet
	$(BIN)/coverage report --fail-under=95
	$(BIN)/coverage report --fail-under=100 --include='src/brolga/protocol/*,src/brolga/spec/*,src/brolga/stream/layer.py,src/brolga/stream/pipeline.py'

soak: $(STAMP)            ## uploads that fail at random: 3,000 of a kind; make test draws 25 to 200
	$(BIN)/python -m pytest --hypothesis-profile=soak -o faulthandler_timeout=3600 \
		tests/property/test_upload_properties.py \
		tests/property/test_socket_upload_properties.py tests/property/test_socket_copy_properties.py

check: $(STAMP)           ## lint, format, types, floors, prose
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/python scripts/check_prose.py src scripts

bench: bench-start bench-stream bench-aio bench-images bench-archives bench-pull bench-registry bench-recovery  ## all of these, one after the other

bench-start: $(STAMP)     ## from start to exit of small commands, peers on PATH beside brolga
	$(BIN)/python benchmarks/start.py

bench-stream: $(STAMP)    ## uploads: speed and memory, peers on PATH beside brolga
	$(BIN)/python benchmarks/stream.py

bench-aio: $(STAMP)       ## the asynchronous client beside the synchronous one
	$(BIN)/python benchmarks/aio.py

bench-images: $(STAMP)    ## whole images beside crane and skopeo: time and requests
	$(BIN)/python benchmarks/images.py

bench-archives: $(STAMP)  ## archives of images beside crane and skopeo, in one pass over a pipe
	$(BIN)/python benchmarks/archives.py

bench-pull: $(STAMP)      ## blobs and images read beside crane, skopeo, oras and curl, over slow links
	$(BIN)/python benchmarks/pull.py

bench-registry: $(STAMP)  ## the embedded registry beside docker-registry; its lists
	$(BIN)/python benchmarks/registry.py
	$(BIN)/python benchmarks/registry_lists.py

bench-recovery: $(STAMP)  ## what a cut in the middle of an upload costs
	$(BIN)/python benchmarks/recovery.py

fmt: $(STAMP)             ## rewrite the code in the project's format
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

# Foreign registry and readers for tests/real. Without root they are skipped there, by name.
peers:
	@scripts/install-peers.sh

$(STAMP): pyproject.toml requirements/dev.txt scripts/make-venv.sh
	@PYTHON="$(PYTHON)" scripts/make-venv.sh $(VENV)
	@touch $@
