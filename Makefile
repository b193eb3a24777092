# Two commands: `make demo` evolves a kernel, `make test` checks everything.
PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
STAMP  := $(VENV)/.installed

.PHONY: demo test install clean

demo: $(STAMP)
	$(BIN)/kernelevo evolve rmsnorm --model mutate --device emulator --generations 4 --population 4 --seed 0

test: $(STAMP)
	$(BIN)/ruff check kernelevo tests tasks setup.py
	$(BIN)/mypy
	$(BIN)/python -m pytest -n 2 --dist loadfile

install: $(STAMP)

# torch first: csrc/ is compiled against it, so the package itself is built without isolation.
# nvcc comes from NVIDIA's wheels when the machine has none that is new enough.
$(STAMP): pyproject.toml constraints.txt setup.py $(shell find csrc -type f)
	@command -v g++ >/dev/null || { echo "g++ is missing; next: apt install g++"; exit 1; }
	@$(PYTHON) -c 'import ensurepip' 2>/dev/null || { echo "venv is missing; next: apt install python3-venv"; exit 1; }
	@$(PYTHON) -c 'import os, sysconfig; open(os.path.join(sysconfig.get_path("include"), "Python.h"))' 2>/dev/null \
		|| { echo "Python.h is missing; next: apt install python3-dev"; exit 1; }
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --constraint constraints.txt setuptools wheel pybind11 numpy ninja torch==2.13.0
	@$(BIN)/python kernelevo/toolchain.py --which-torch
	extras=test; $(BIN)/python kernelevo/toolchain.py --has-nvcc || extras=test,nvcc; \
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --no-build-isolation --editable ".[$$extras]"
	touch $@

clean:
	rm -rf $(VENV) build *.egg-info
