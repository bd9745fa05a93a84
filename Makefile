# Two commands on a fresh machine with Python 3.11+ and make: `make demo` and `make test`.
# Everything is set up in .venv; the network is used by pip only.

PYTHON ?= $(firstword $(foreach p,python3 python3.13 python3.12 python3.11,$(shell \
	$(p) -c 'import sys; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1 && echo $(p))))
VENV := .venv
RUN := $(VENV)/bin
ONLY ?= *
QMSUM ?= benchmarks/data/qmsum

.DEFAULT_GOAL := help
.PHONY: help demo test check soak bench docs pictures clean

help:
	@echo 'make demo    a gang reads four volumes and writes one report (build/demo-report.md)'
	@echo 'make test    all tests        make check   lint, types, direction of imports, docs up to date'
	@echo 'make soak    the long tests: faults, random schedules, all counts raised (build/soak.md; about an hour)'
	@echo 'make bench   the measurements (ONLY=name for one)'
	@echo 'make docs    write docs/*.md anew        make pictures   the pictures of README, from a run of the demo'
	@echo 'make clean   remove what make made'

$(VENV)/bin/python:
	@test -n "$(PYTHON)" || { \
	  echo 'MemGang needs Python 3.11 or newer; none was found. Install one, or: make PYTHON=/path/to/python3' >&2; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
	  echo 'MemGang needs Python 3.11 or newer, and $(PYTHON) is' "$$($(PYTHON) -V 2>&1)" >&2; exit 1; }
	@$(PYTHON) -m venv $(VENV) || { rm -rf $(VENV); \
	  echo 'python could not make a virtual environment; on Debian and Ubuntu: apt install python3-venv' >&2; exit 1; }

# Stamps: one per set of packages, renewed when pyproject.toml changes.
$(VENV)/.core: pyproject.toml | $(VENV)/bin/python
	$(RUN)/pip install --quiet --disable-pip-version-check --editable .
	@touch $@

$(VENV)/.dev: pyproject.toml | $(VENV)/bin/python
	$(RUN)/pip install --quiet --disable-pip-version-check --editable '.[dev]'
	@touch $@ $(VENV)/.core

$(VENV)/.bench: pyproject.toml $(VENV)/.dev
	$(RUN)/pip install --quiet --disable-pip-version-check --editable '.[dev,bench]'
	@touch $@

DEMO := examples/nist-800-63-3 --space demo \
	  -q 'What must an agency consider when it selects assurance levels?' \
	  -q 'What does knowledge-based verification require?' \
	  -q 'How long must a memorized secret be?' \
	  -q 'What is a holder-of-key assertion?' \
	  --title 'NIST SP 800-63-3, Digital Identity Guidelines' --out build/demo-report.md

demo: $(VENV)/.core
	@mkdir -p build
	$(RUN)/memgang run $(DEMO)

# The pictures of README: the demo once more in an empty memory, exported. Needs a Chromium.
pictures: $(VENV)/.dev
	@mkdir -p build docs/pictures && rm -rf build/pictures
	@export MEMGANG_STATE_DIR=build/pictures/state MEMGANG_RUNTIME_DIR=$$(mktemp -d); \
	  $(RUN)/memgang run $(DEMO) >/dev/null && \
	  $(RUN)/memgang export last --space demo --jsonl build/pictures/demo.jsonl && \
	  $(RUN)/memgang export build/pictures/demo.jsonl --gif docs/pictures/flock.gif --width 800 --height 480 --seconds 9 && \
	  $(RUN)/memgang export build/pictures/demo.jsonl --png docs/pictures/flock-dark.png --at 0.7 --width 1280 --height 760 && \
	  $(RUN)/memgang export build/pictures/demo.jsonl --png docs/pictures/flock-light.png --at 0.7 --width 1280 --height 760 --theme light

test: $(VENV)/.dev
	$(RUN)/python -m pytest $(ARGS)

check: $(VENV)/.dev
	$(RUN)/ruff check src tests docs benchmarks
	$(RUN)/mypy
	$(RUN)/python docs/generate.py --check
	$(RUN)/python -m pytest -q tests/test_imports.py

# Seeds are printed and stand in the report; SEED=... repeats a run.
soak: $(VENV)/.dev
	@mkdir -p build
	$(RUN)/python -m tests.soak --report build/soak.md $(if $(SEED),--seed $(SEED))

bench: $(VENV)/.bench
	@mkdir -p benchmarks/results
	@for script in benchmarks/$(ONLY).py; do echo "== $$script"; \
	  case $$script in \
	    */summary_quality.py) test -d "$(QMSUM)" || { \
	      echo "left out: make bench QMSUM=folder names the meetings of the QMSum data set"; continue; }; set -- "$(QMSUM)";; \
	    *) set --;; \
	  esac; $(RUN)/python "$$script" "$$@" $(ARGS) || exit 1; done

docs: $(VENV)/.dev
	$(RUN)/python docs/generate.py

clean:
	rm -rf $(VENV) build dist .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find src tests benchmarks docs -name __pycache__ -type d -prune -exec rm -rf {} +
