# `make demo` and `make test` do everything on a fresh machine: they make a virtual environment, install, build and run.
VENV ?= .venv
PYTHON ?= python3
# A bare "torch" takes the newest CUDA build; name another build here, see pytorch.org/get-started for what to pass.
TORCH ?= torch==2.13.0
PIP_TORCH_ARGS ?=
CXX ?= g++
JOBS ?= 2
PYTEST_ARGS ?=
DEMO ?= demo

PY = $(VENV)/bin/python
PIP = $(PY) -m pip --disable-pip-version-check
TOOLS = "setuptools>=77" wheel ninja "cmake>=3.22" "pybind11>=2.12"
SOURCES = $(shell git ls-files -co --exclude-standard csrc CMakeLists.txt setup.py pyproject.toml 2>/dev/null)

.PHONY: demo test test-long test-sanitized lint typecheck bench build check-machine clean

check-machine:
	@command -v $(PYTHON) >/dev/null || { echo "missing: $(PYTHON) (Python 3.10 or newer)"; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10))' || { echo "missing: Python 3.10 or newer ($(PYTHON) is older)"; exit 1; }
	@$(PYTHON) -c 'import venv, ensurepip' 2>/dev/null || { echo "missing: Python's venv module (Debian: apt install python3-venv)"; exit 1; }
	@$(PYTHON) -c 'import os, sysconfig as s, sys; sys.exit(not os.path.exists(s.get_path("include") + "/Python.h"))' || { echo "missing: Python's headers (Debian: apt install python3-dev)"; exit 1; }
	@command -v $(CXX) >/dev/null || { echo "missing: a C++17 compiler, $(CXX) (Debian: apt install g++)"; exit 1; }

# The environment: torch first and pinned as a constraint, so that nothing installed later can replace it.
$(VENV)/.installed: pyproject.toml Makefile | check-machine
	test -x $(PY) || $(PYTHON) -m venv $(VENV)
	$(PIP) install -q --upgrade pip
	$(PIP) install -q $(TORCH) $(PIP_TORCH_ARGS)
	$(PY) -c 'import importlib.metadata as m; print("torch==" + m.version("torch"))' > $(VENV)/constraints.txt
	$(PIP) install -q -c $(VENV)/constraints.txt $(TOOLS)
	touch $@

build: $(VENV)/.built

$(VENV)/.built: $(VENV)/.installed $(SOURCES)
	MAX_JOBS=$(JOBS) $(PIP) install -q -c $(VENV)/constraints.txt --no-build-isolation -e '.[dev]'
	touch $@

# Trains a small CIPS-3D on synthetic heads, renders it and writes $(DEMO)/report.html; about ten minutes on two cores.
demo: build
	$(PY) -m cips3d demo --out $(DEMO)

# Everything CI checks: formatting, types, all tests (warnings are errors).
test: build lint typecheck
	$(PY) -m pytest $(PYTEST_ARGS) -m "not long"

test-long: build
	$(PY) -m pytest $(PYTEST_ARGS) -m long

# The CUDA kernels on the CPU emulator under AddressSanitizer and UBSan.
test-sanitized: build
	PYTHON=$(PY) tests/csrc/run_sanitized.sh

lint: build
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	git ls-files 'csrc/*.h' 'csrc/*.cpp' 'csrc/*.cu' 'csrc/*.cuh' | xargs $(VENV)/bin/clang-format --dry-run --Werror

typecheck: build
	$(VENV)/bin/mypy

# What the machine can do, every benchmark, then the tables and plots in benchmarks/results and the READMEs.
bench: build
	for script in benchmarks/ceilings.py benchmarks/bench_*.py; do $(PY) $$script || exit 1; done
	$(PY) benchmarks/report.py

clean:
	rm -rf build $(VENV) cips3d_ext/*.so *.egg-info
