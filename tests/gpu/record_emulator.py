"""Writes what the emulator gives for the eight tasks' own kernels: emulator_outputs.npz and predicted.json.

    .venv/bin/python tests/gpu/record_emulator.py       with a CPU build of torch; a few minutes

tests/gpu/test_seeds.py compares a GPU with them. Write them anew when a seed or the model of the predictions changes.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import torch

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE))

from recorded import TASKS, cases_to_compare  # noqa: E402

from kernelevo.build import build  # noqa: E402
from kernelevo.config import read_settings  # noqa: E402
from kernelevo.devices.emulator import EmulatorDevice  # noqa: E402
from kernelevo.measure.predicted import predict_case  # noqa: E402
from kernelevo.records import Candidate, CaseTiming, Outcome, Purpose  # noqa: E402
from kernelevo.tasks import load_task  # noqa: E402
from kernelevo.toolchain import find_toolchain  # noqa: E402


def main() -> None:
    settings = read_settings()
    device = EmulatorDevice()
    outputs: dict[str, np.ndarray] = {}
    predicted: dict[str, float] = {}
    for name in TASKS:
        task = load_task(name)
        assert task.seed_source is not None
        candidate = Candidate(source=task.seed_source, entry=task.entry)
        made = build(candidate, target=device.target, toolchain=find_toolchain(), cache=settings.cache)
        with device.open(made, entry=task.entry, timeout_seconds=300, memory_bytes=8 << 30) as session:
            for case in cases_to_compare(task):
                call = session.call(task.inputs(case, torch.Generator().manual_seed(case.seed)))
                assert call.outcome is Outcome.PASSED, call.reason
                for number, output in enumerate(call.outputs):
                    outputs[f"{name}, {case.name}, {number}"] = output.contiguous().numpy()
            for case in task.cases:
                if case.purpose is Purpose.BENCH:
                    timing = predict_case(task, case, session, 0)
                    assert isinstance(timing, CaseTiming), timing
                    predicted[f"{name}, {case.name}"] = round(timing.median_ns, 1)
        sys.stdout.write(f"{name}: {len(outputs)} outputs, {len(predicted)} predictions so far\n")
    np.savez_compressed(HERE / "emulator_outputs.npz", **outputs)
    content = {"method": device.timing_method, "target": device.timing_target, "ns": predicted}
    (HERE / "predicted.json").write_text(json.dumps(content, indent=1) + "\n")
    device.close()


if __name__ == "__main__":
    main()
