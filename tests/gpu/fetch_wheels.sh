#!/bin/sh
# Fetches the few packages that kernelevo's GPU tests need beside torch into .gpu-wheels, for run_all.sh.
#
#     sh tests/gpu/fetch_wheels.sh [PYTHON_VERSION]       of the GPU machine, for example 3.12
set -eu
cd "$(dirname "$0")/../.."
VERSION=${1:-3.12}
mkdir -p .gpu-wheels
.venv/bin/python -m pip download --quiet --only-binary=:all: --python-version "$VERSION" --constraint constraints.txt \
  --dest .gpu-wheels pydantic tree-sitter tree-sitter-cuda sqlalchemy alembic jinja2
ls .gpu-wheels
