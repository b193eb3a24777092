"""No checker finds anything in kernels that are known to be right: the tasks' seeds and the honest ones of tests/twins.

Each is run on one TEST case of every size, in ascending order of warps and blocks and in another.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from kernelevo.build import build
from kernelevo.cli.emulator import chosen, inputs
from kernelevo.devices.emulator import EmulatorDevice
from kernelevo.records import Candidate, Outcome
from kernelevo.tasks import list_tasks, load_task
from kernelevo.toolchain import find_toolchain

pytestmark = [pytest.mark.nvcc, pytest.mark.slow]

HONEST = Path(__file__).parents[2] / "twins" / "honest"
TASK_OF = {
    "atomics": "rmsnorm_backward",
    "joined_streams": "gelu",
    "vectors_with_tail": "rmsnorm",
    "warp_per_row": "softmax",
}
KERNELS = [(task.name, task.folder / "seed.cu") for task in list_tasks() if task.has_seed]
KERNELS += [(TASK_OF[path.stem], path) for path in sorted(HONEST.glob("*.cu")) if path.stem in TASK_OF]


@pytest.mark.parametrize("name, path", KERNELS, ids=[f"{name}-{path.stem}" for name, path in KERNELS])
def test_nothing_is_found_in_a_kernel_that_is_right(
    emulator: EmulatorDevice, cache_folder: Path, name: str, path: Path
) -> None:
    task = load_task(name)
    built = build(
        Candidate(source=path.read_text(), entry=task.entry),
        target=emulator.target,
        toolchain=find_toolchain(),
        cache=cache_folder,
    )
    assert built.succeeded, built.diagnostics
    with emulator.open(built, entry=task.entry, timeout_seconds=60.0, memory_bytes=2 << 30) as session:
        for case in chosen(task, None, []):
            for schedule in (0, 1):
                call = session.call(inputs(task, case), schedule=schedule, checked=True)
                assert (call.outcome, call.reason, call.findings) == (Outcome.PASSED, None, ()), case.name


def test_every_honest_twin_is_among_them() -> None:
    assert {path.stem for path in HONEST.glob("*.cu")} == set(TASK_OF)
