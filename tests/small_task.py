"""A task that is judged in a second: gelu at few small sizes. For tests of what is around an evaluation."""

from __future__ import annotations

import shutil
from pathlib import Path

TASK = """
title = "GELU at small sizes"
description = "y = 0.5 * x * (1 + erf(x / sqrt(2))), element by element, for a float32 matrix x of shape [rows, cols]."
entry = "forward"
signature = "forward(x: Tensor[rows, cols]) -> Tensor[rows, cols]"
dtypes = ["float32"]

[hidden]
rows = [1, 20]
cols = [1, 60]

[[test]]
rows = 13
cols = 129

[[bench]]
rows = 64
cols = 1024
"""


def write_small_task(folder: Path) -> Path:
    """Writes it below `folder`; gives its own folder."""
    gelu = Path(__file__).resolve().parents[1] / "tasks" / "gelu"
    own = folder / "small_gelu"
    own.mkdir(parents=True, exist_ok=True)
    for name in ("reference.py", "seed.cu"):
        shutil.copy(gelu / name, own / name)
    (own / "task.toml").write_text(TASK)
    return own
