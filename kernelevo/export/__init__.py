"""From a proven candidate to a pip-installable PyTorch extension, or to a callable in this process.

    export(archive, "rmsnorm", Path("out"))       # a folder with pyproject.toml, kernels, operator, tests, evidence
    load("rmsnorm")                               # load.py: the same package, from the cache, imported
    patch(model, {torch.nn.RMSNorm: "rmsnorm"})   # patch.py: modules and functions of a model, and back

choose.py finds the candidate, domain.py says what was verified, reference.py what PyTorch does outside of it,
evidence.py what VERIFICATION.md says, write.py writes the files.

Not covered: tasks of other formats, whose reference needs kernelevo; candidates in Python; operations that write in
place, or whose outputs are judged by a function of their own.
"""

from __future__ import annotations

import keyword
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from kernelevo.build.python import is_python
from kernelevo.errors import TaskError, UsageError
from kernelevo.export.choose import Chosen, Standard, choose
from kernelevo.export.domain import inputs_of
from kernelevo.export.reference import is_gradient_of
from kernelevo.export.write import write
from kernelevo.records import Purpose
from kernelevo.tasks import list_tasks

if TYPE_CHECKING:
    from kernelevo.archive import Archive

__all__ = ["LICENCES", "Exported", "Standard", "export"]

RESERVED = ("functools", "gradients", "kernel", "reference", "reference_backward", "torch", "use_emulator", "warnings")
LICENCES = ("MIT", "BSD-3-Clause", "Apache-2.0")


@dataclass(frozen=True, slots=True, kw_only=True)
class Exported:
    """What was written."""

    folder: Path
    package: str  # name to import
    operation: str  # function in it
    chosen: Chosen
    backward: Chosen | None
    gradients: str  # where they come from, in words


def export(
    archive: Archive,
    wanted: str,
    folder: Path,
    *,
    standard: Standard = Standard.PROMOTED,
    name: str | None = None,
    backward: str | None = None,
    licence: str | None = None,
    author: str = "the authors",
    root: Path | None = None,
    task: str | None = None,
) -> Exported:
    """Writes a package for the candidate that `wanted` names (see choose.py).

    folder: must be absent or empty.
    name: of the package to import; by default the task's with "_kernel".
    backward: id of the candidate that computes the gradients, or "none"; by default the best promoted one of the task
        with the same name and "_backward", where there is one that gives this task's gradients.
    licence: one of LICENCES, or None for no licence; `author` is named in it.
    task: name or path of the task, where it is not below `root`.

    Raises UsageError for what cannot be exported, with the reason; TaskError for a task that cannot be used.
    """
    folder = folder.absolute()
    chosen = choose(archive, wanted, standard=standard, root=root, task=task)
    package = name or f"{chosen.task.name}_kernel"
    for word in (package, chosen.task.name):
        if not word.isidentifier() or keyword.iskeyword(word) or word.startswith("_"):
            raise UsageError(f"{word!r} is no name for a Python package", next_step="choose one with --name")
    if chosen.task.name in RESERVED or chosen.task.name == chosen.task.name.upper():
        raise UsageError(
            f"{chosen.task.name!r} means something else in a package", next_step="rename the task's folder"
        )
    if package == chosen.task.name:
        raise UsageError(f"the package cannot have its function's name, {package}", next_step="choose another --name")
    if licence not in (None, *LICENCES):
        raise UsageError(f"unknown licence {licence!r}", next_step=f"one of {', '.join(LICENCES)}")
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise UsageError(f"{folder} is there already", next_step="name an empty or a new folder")
    if is_python(chosen.candidate.source):
        raise UsageError(
            f"{chosen.candidate.id} is a Python candidate, not one CUDA source", next_step="export a .cu candidate"
        )
    if chosen.task.compare is not None:
        raise UsageError(
            f"{chosen.task.name}: outputs are judged by the task's own compare()",
            next_step="export takes tasks whose outputs are compared value by value",
        )
    found, why_none = find_backward(archive, chosen, backward, root=root)
    with appearing(folder) as work:
        gradients = write(work, archive, chosen, found, why_none, package=package, licence=licence, author=author)
    return Exported(
        folder=folder,
        package=package,
        operation=chosen.task.name,
        chosen=chosen,
        backward=found,
        gradients=gradients,
    )


def find_backward(
    archive: Archive, chosen: Chosen, wanted: str | None, *, root: Path | None
) -> tuple[Chosen | None, str]:
    """The verified kernel of the gradients, or None and why. Raises UsageError when one was named and will not do."""
    task = chosen.task
    if task.entry != "forward":
        return None, "this is a backward kernel itself"
    if wanted == "none":
        return None, "none was wanted"
    name = f"{task.name}_backward"
    if wanted is None and name not in {summary.name for summary in list_tasks(root)}:
        return None, f"there is no task {name}"
    try:
        found = choose(archive, wanted or name, standard=Standard.PROMOTED, root=root)
    except (UsageError, TaskError) as error:
        if wanted is not None:
            raise
        return None, str(error.args[0])
    tests = [case for case in task.cases if case.purpose is Purpose.TEST]
    ordinary = [case for case in tests if case.distribution == "normal"] or tests  # others may cancel all digits
    judged = (is_gradient_of(found.task.reference, task.reference, inputs_of(task, case)) for case in ordinary)
    wrong = next((reason for reason in judged if reason is not None), None)
    if wrong is None:
        return found, ""
    if wanted is not None:
        raise UsageError(
            f"{found.task.name} does not give the gradients of {task.name}: {wrong}",
            next_step="its reference takes the outputs' gradients, then the inputs, and gives the inputs' gradients",
        )
    return None, f"{found.task.name} does not give them: {wrong}"


@contextmanager
def appearing(folder: Path) -> Iterator[Path]:
    """A folder to write in that becomes `folder` when all of it is written."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    work = Path(tempfile.mkdtemp(prefix=f".{folder.name}-", dir=folder.parent))
    try:
        yield work
        work.chmod(0o755)
        if folder.exists():
            folder.rmdir()
        work.rename(folder)
    finally:
        shutil.rmtree(work, ignore_errors=True)
