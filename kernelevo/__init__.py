"""kernelevo evolves CUDA kernels for PyTorch operations: proposed, built, proven, timed and archived.

    from kernelevo import evaluate, evolve, load_task, open_archive

    task = load_task("rmsnorm")
    print(evaluate(task, Path("kernel.cu")).status)
    with open_archive("evolution.sqlite") as archive:
        print(evolve(task, archive, generations=4, population=4, seed=0).best)

Reading order: evolve.py (the loop), records.py (the vocabulary), then the folder of the stage you came for.
"""

from typing import TYPE_CHECKING, Any

from kernelevo.budget import Budget
from kernelevo.evaluate import evaluate
from kernelevo.evolve import Evolution, evolve

if TYPE_CHECKING:
    from kernelevo.archive import open_archive
    from kernelevo.tasks import load_task

__all__ = ["Budget", "Evolution", "evaluate", "evolve", "load_task", "open_archive"]


def __getattr__(name: str) -> Any:
    """What takes long to import, on first use. (`evaluate` and `evolve` share their names with their modules.)"""
    if name == "load_task":
        from kernelevo.tasks import load_task

        return load_task
    if name == "open_archive":
        from kernelevo.archive import open_archive

        return open_archive
    raise AttributeError(f"module 'kernelevo' has no attribute {name!r}")
