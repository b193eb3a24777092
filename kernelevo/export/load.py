"""The best kernel of a task as a function in this process: exported to the cache, built on first use, imported.

    rmsnorm = kernelevo.load("rmsnorm")
    y = rmsnorm(x, weight, 1e-5)

It is the exported package, with its domain, its fallback to PyTorch and its gradients. The kernel runs in this process
with all its rights, unlike in a verdict.
"""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

from kernelevo.config import read_settings
from kernelevo.errors import UsageError
from kernelevo.export import emulated, export, find_backward
from kernelevo.export.choose import Chosen, Standard, choose
from kernelevo.export.package.dispatch import Operation
from kernelevo.records import digest

HERE = Path(__file__).parent
DEVICES = (None, "cuda", "emulator")


@dataclass(frozen=True, kw_only=True)
class Kernel:
    """A loaded kernel; call it like the task's reference."""

    name: str  # the task's
    candidate: str  # candidate id
    function: Callable[..., Any]  # the package's operator
    operation: Operation  # its domain, `extend`, and the reference; the package's own class of that name
    folder: Path  # of the package, with VERIFICATION.md

    def __call__(self, *values: Any, **named: Any) -> Any:
        return self.function(*values, **named)

    def why_not(self, *values: Any) -> str | None:
        """Why PyTorch would answer this call, in words; None: the kernel does."""
        return self.operation.domain.why_not(values)

    def extend(self, *values: Any) -> dict[str, float]:
        """Verifies the kernel on inputs of one's own and adds their sizes: see dispatch.Operation.extend."""
        return self.operation.extend(*values)


def load(
    wanted: str, *, archive: str | Path | None = None, device: str | None = None, task: str | None = None
) -> Kernel:
    """The best promoted kernel of a task, or of a run (r-...), or one candidate (c-...), ready to be called.

    archive: file or URL; by default the configured one (db/kernelevo.sqlite).
    device: "emulator" makes device="cuda" an emulated GPU in this process, which must come before its first backward().
        Otherwise kernels run on a GPU, and PyTorch answers where there is none.
    task: name or path, where the task is not among the configured ones.

    Raises UsageError when there is no such kernel.
    """
    from kernelevo.archive import open_archive

    if device not in DEVICES:
        raise UsageError(f"unknown device {device!r}", next_step='"cuda", "emulator" or None')
    if device == "emulator":
        emulated.start()  # before anything here runs a backward
    settings = read_settings(archive=None if archive is None else str(archive))
    with open_archive(settings.archive, read_only=True) as opened:
        chosen = choose(opened, wanted, standard=Standard.PROMOTED, root=settings.tasks, task=task)
        backward, _ = find_backward(opened, chosen, None, root=settings.tasks)
        name = package_name(chosen, backward)
        folder = settings.cache.expanduser() / "exports" / name
        if not folder.exists():
            try:
                export(
                    opened,
                    chosen.candidate.id,
                    folder,
                    name=name,
                    backward=backward.candidate.id if backward else "none",
                    root=settings.tasks,
                    task=task or str(chosen.task.folder),
                )
            except (OSError, UsageError):  # another process may have written it meanwhile
                if not (folder / "VERIFICATION.md").exists():
                    raise
    module = imported(name, folder / "src" / name)
    if device == "emulator":
        module.use_emulator()
    operation = chosen.task.name
    return Kernel(
        name=operation,
        candidate=chosen.candidate.id,
        function=getattr(module, operation),
        operation=getattr(module, operation.upper()),
        folder=folder,
    )


def package_name(chosen: Chosen, backward: Chosen | None) -> str:
    """Of all that the package is made of, this program included: another one is another operator."""
    ours = [
        path.read_text(encoding="utf-8") for path in sorted(HERE.rglob("*")) if path.suffix in (".py", ".j2", ".txt")
    ]
    parts = [
        chosen.candidate.id,
        chosen.task.digest,
        repr(chosen.evaluation),
        backward.candidate.id if backward else "",
    ]
    return digest(*parts, *ours, tag=chosen.task.name).replace("-", "_")


def imported(name: str, folder: Path) -> ModuleType:
    """The package, once in each process."""
    if name in sys.modules:
        return sys.modules[name]
    spec = importlib.util.spec_from_file_location(
        name, folder / "__init__.py", submodule_search_locations=[str(folder)]
    )
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[name]
        raise
    return module
