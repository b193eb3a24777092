#!/bin/sh
# Runs everything that needs a GPU, in less than ten minutes, and writes RESULTS (JSON).
#
#     sh tests/gpu/run_all.sh [RESULTS]
#
# For a machine with an NVIDIA GPU, a CUDA build of torch, triton, nvcc and g++, and no network. PYTHON names the
# interpreter that has torch (python3). What else kernelevo needs and the machine lacks is installed from WHEELS, a
# folder of wheels (.gpu-wheels) that fetch_wheels.sh fills on a machine with a network. The checkout's extensions are
# built in place, for this machine's torch. Exit status: pytest's, or 2 when it could not be started.
set -u
cd "$(dirname "$0")/../.." || exit 2
PYTHON=${PYTHON:-python3}
WHEELS=${WHEELS:-.gpu-wheels}
RESULTS=$(realpath -m "${1:-gpu-results.json}")
WORK=$(mktemp -d /tmp/kernelevo-gpu.XXXXXX)
trap 'rm -rf "$WORK"' EXIT

mkdir -p "$WORK/site-packages"
if ls "$WHEELS"/*.whl >/dev/null 2>&1; then
  "$PYTHON" -m pip install --quiet --no-index --no-deps --target "$WORK/site-packages" "$WHEELS"/*.whl || exit 2
fi
export PYTHONPATH="$PWD:$PWD/tests/gpu:$WORK/site-packages${PYTHONPATH:+:$PYTHONPATH}"
"$PYTHON" -c 'import torch; assert torch.version.cuda, f"torch {torch.__version__} is not a CUDA build"' || exit 2
"$PYTHON" -c 'import pydantic, tree_sitter, tree_sitter_cuda, pybind11, pytest, sqlalchemy, alembic, jinja2' || {
  echo "packages are missing; next: run tests/gpu/fetch_wheels.sh where there is a network, and bring $WHEELS" >&2
  exit 2
}
MAX_JOBS=$(nproc) "$PYTHON" setup.py --quiet build_ext --inplace >"$WORK/build.log" 2>&1 || {
  tail -40 "$WORK/build.log" >&2
  exit 2
}

export KERNELEVO_CACHE="$WORK/cache" KERNELEVO_ARCHIVE="$WORK/archive.sqlite" KERNELEVO_GPU_RESULTS="$RESULTS"
timeout --kill-after=5 540 "$PYTHON" -m pytest -p results -p no:cacheprovider -m gpu -q --tb=short --timeout=300 \
  tests/gpu tests/contract tests/cheats
status=$?
"$PYTHON" - "$RESULTS" <<'SUMMARY'
import json, sys
found = json.load(open(sys.argv[1]))
print(f"{found['machine'].get('card')}: {found['passed']} passed, {found['failed']} failed, "
      f"{found['skipped']} skipped in {found['seconds']} s; {sys.argv[1]}")
SUMMARY
exit $status
