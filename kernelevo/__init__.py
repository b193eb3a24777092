"""kernelevo evolves CUDA kernels for PyTorch operations: proposed, built, proven, timed and archived.

    from kernelevo import evaluate, evolve, load_task, open_archive

    task = load_task("rmsnorm")
    print(evaluate(task, Path("kernel.cu")).status)
    with open_archive("evolution.sqlite") as archive:
        print(evolve(task, archive, generations=4, population=4, seed=0).best)

What was found is used by one line:

    kernelevo.load("rmsnorm")(x, weight, 1e-5)            # the best promoted kernel of the archive
    kernelevo.patch(model, {torch.nn.RMSNorm: "rmsnorm"}) # in the place of a model's modules, and back

Reading order: evolve.py (the loop), records.py (the vocabulary), then the folder of the stage you came for.
"""

import importlib
from typing import TYPE_CHECKING, Any

from kernelevo.budget import Budget
from kernelevo.evaluate import evaluate
from kernelevo.evolve import Evolution, evolve

if TYPE_CHECKING:
    from kernelevo.archive import open_archive
    from kernelevo.export.load import load
    from kernelevo.export.patch import patch
    from kernelevo.tasks import load_task

__all__ = ["Budget", "Evolution", "evaluate", "evolve", "load", "load_task", "open_archive", "patch"]

LATE = {
    "load": "kernelevo.export.load",
    "load_task": "kernelevo.tasks",
    "open_archive": "kernelevo.archive",
    "patch": "kernelevo.export.patch",
}


def __getattr__(name: str) -> Any:
    """What takes long to import, on first use. (`evaluate` and `evolve` share their names with their modules.)"""
    if name in LATE:
        return getattr(importlib.import_module(LATE[name]), name)
    raise AttributeError(f"module 'kernelevo' has no attribute {name!r}")
