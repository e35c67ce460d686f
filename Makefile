# Two commands are all: make book, make test.

VENV := .venv
PYTHON := $(VENV)/bin/python
INSTALLED := $(VENV)/.installed

# Any Python from 3.11 on; `make BASE_PYTHON=...` picks another one.
BASE_PYTHON ?= $(shell for python in python3 python3.13 python3.12 python3.11; \
	do $$python -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
	2>/dev/null && echo $$python && break; done)

.PHONY: environment book test seeds lint experiments bench serve colab lock clean

environment: $(INSTALLED)

$(INSTALLED): requirements.lock pyproject.toml
	@test -n "$(BASE_PYTHON)" || { echo "no Python 3.11 or newer found;" \
		"install one or say make BASE_PYTHON=/path/to/python"; exit 1; }
	@echo "Installing requirements.lock into $(VENV): 6.5 GB, some minutes."
	$(BASE_PYTHON) -m venv $(VENV)
	$(PYTHON) -m pip install --quiet --require-hashes -r requirements.lock
	$(PYTHON) -m pip install --quiet --no-deps --no-build-isolation -e .
	touch $@

book: environment
	@$(PYTHON) book/_tools/build.py

# The book is built once, alone, so that its timings are its own.
test: lint
	$(PYTHON) -m pytest -n 2 -m "not book"
	$(PYTHON) -m pytest -m book

# Every chapter once more, with another seed; nothing is kept.
SEED ?= 1
seeds: environment
	$(PYTHON) book/_tools/execute.py --parameters '{"seed": $(SEED)}'

# The studies behind the records: two hours; go on after a kill.
# `make experiments STUDIES="closing breadth"` runs those alone.
experiments: environment
	OMP_NUM_THREADS=1 $(PYTHON) -m hagvig_lib.measure.experiments $(STUDIES)

# What gated linear attention and ViG cost, on the CPU and on a GPU if any.
bench: environment
	OMP_NUM_THREADS=1 $(PYTHON) -m hagvig_lib.measure.experiments gla vig_efficiency

lint: environment
	$(PYTHON) -m ruff check .
	$(PYTHON) -m ruff format --check .
	$(VENV)/bin/codespell
	$(VENV)/bin/nbstripout --verify --keep-id book/*/*.ipynb
	$(PYTHON) -m pyright

colab: environment
	$(PYTHON) book/_tools/colab_simulation.py

lock:
	$(VENV)/bin/uv pip compile --universal --python-version 3.11 \
		--generate-hashes --no-emit-index-url --no-annotate --no-header \
		--all-extras --quiet pyproject.toml -o requirements.lock

serve:
	@test -d _build/html || { echo "nothing to serve yet: run make book"; exit 1; }
	@$(PYTHON) -u -m http.server 8000 --bind 127.0.0.1 --directory _build/html

clean:
	rm -rf _build
