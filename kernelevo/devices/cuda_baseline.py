"""The worker of a baseline: a task's own reference on the GPU, eager or compiled. No candidate comes near it."""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Callable
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import TYPE_CHECKING, Any, cast

from kernelevo.devices.confinement import Needs
from kernelevo.devices.cuda import CudaBackend

if TYPE_CHECKING:
    from kernelevo.devices.wire import Load

# Name of a baseline -> mode of torch.compile; None: eager.
COMPILE: dict[str, str | None] = {
    "eager": None,
    "compiled": "default",
    "compiled, max-autotune-no-cudagraphs": "max-autotune-no-cudagraphs",
}


class BaselineBackend(CudaBackend):
    """Loads the reference function of a reference.py instead of an extension."""

    def __init__(self, *, gpu: str, tf32: bool, baseline: str) -> None:
        super().__init__(gpu=gpu, tf32=tf32, guarded=False)
        os.environ["TORCHINDUCTOR_COMPILE_THREADS"] = "1"  # no pool of processes
        self._baseline = baseline

    @property
    def needs(self) -> Needs:
        """torch.compile runs compilers, which a candidate's worker may not."""
        return Needs(trusted=True)

    def load(self, load: Load) -> ModuleType:
        import torch

        spec = importlib.util.spec_from_file_location("kernelevo_reference", load.artifact)
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        function: Callable[..., Any] = getattr(module, load.entry)
        mode = COMPILE[self._baseline]
        if mode is not None:
            os.environ.setdefault("TORCHINDUCTOR_CACHE_DIR", str(Path.cwd() / "inductor"))
            function = torch.compile(function, mode=mode, fullgraph=False, dynamic=False)
        return cast("ModuleType", SimpleNamespace(**{load.entry: torch.no_grad()(function)}))
