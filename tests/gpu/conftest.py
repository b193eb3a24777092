"""What the tests on a GPU share: `record`, also where run_all.sh has not loaded the plugin, and builds."""

from __future__ import annotations

from pathlib import Path

import pytest
from recorded import TASKS
from results import Built, record

from kernelevo.build import build
from kernelevo.devices.cuda import CudaDevice
from kernelevo.records import Build, Candidate
from kernelevo.tasks import load_task
from kernelevo.toolchain import find_toolchain

__all__ = ["record"]

HERE = Path(__file__).parent


@pytest.fixture(scope="session")
def built(cuda: CudaDevice, cache_folder: Path) -> Built:
    """built("copy"): tests/gpu/kernels/copy.cu; built("rmsnorm"): the seed of that task. For the GPU here."""

    def get(name: str) -> Build:
        if name in TASKS:
            task = load_task(name)
            assert task.seed_source is not None
            candidate = Candidate(source=task.seed_source, entry=task.entry)
        else:
            candidate = Candidate(source=(HERE / "kernels" / f"{name}.cu").read_text(), entry="forward")
        made = build(candidate, target=cuda.target, toolchain=find_toolchain(), cache=cache_folder)
        assert made.succeeded, made.diagnostics
        return made

    return get
