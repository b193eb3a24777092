"""From a folder to a Task. Takes a name or a path, gives a Task whose reference has been run once on the smallest case.

The path may be one of another format, which is read as it is: a KernelBench problem file, a folder of robust-kbench.

A folder holds task.toml (what and at which sizes), reference.py (`reference`, `inputs`, perhaps `compare`) and
perhaps seed.cu. Whatever cannot be used is refused with a TaskError that says file, key, value and what was expected.
reference.py is executed by path in a module of its own: nothing is put on sys.path or into sys.modules, and no
bytecode is written. It is trusted code: it runs in the parent. Listing reads task.toml alone and does not import torch.
"""

from __future__ import annotations

import difflib
import functools
import inspect
import tomllib
import traceback
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from kernelevo.errors import TaskError, UsageError
from kernelevo.records import Case, Purpose, Task, digest
from kernelevo.tasks import kernelbench, robust_kbench
from kernelevo.tasks.cases import declared_cases
from kernelevo.tasks.layouts import strided_inputs, with_strided
from kernelevo.tasks.sampling import DISTRIBUTIONS, INITIALISATIONS, OWN

FORMAT = "see tasks/README.md for the format"


def load_task(name_or_path: str | Path, *, root: Path | None = None) -> Task:
    """The task of this name below `root`, or in this folder.

    Raises UsageError when there is no such task, TaskError when its folder cannot be used.
    """
    folder = _find(name_or_path, root)
    if (other := importer_of(folder)) is not None:
        imported: Task = other.load(folder)
        _try_reference(imported)
        return imported
    file = _read_file(folder)
    source = _reference_source(folder)
    module = _run_reference(folder, source)
    seed = folder / "seed.cu"
    reference, inputs = _function(module, folder, "reference"), _function(module, folder, "inputs")
    cases = declared_cases(
        folder.name,
        test=file.test,
        bench=file.bench,
        dtypes=file.dtypes,
        distributions=file.distributions,
        initialisations=file.initialisations,
    )
    if "strided" in file.layouts:
        cases, inputs = with_strided(cases), strided_inputs(inputs)
    if file.mutates:
        reference = _mutating(folder, reference, file.mutates)
    task = Task(
        name=folder.name,
        title=file.title,
        description=file.description.strip(),
        signature=file.signature,
        entry=file.entry,
        dtypes=tuple(file.dtypes),
        cases=cases,
        hidden_sizes={name: (low, high) for name, (low, high) in file.hidden.items()},
        distributions=tuple(file.distributions),
        initialisations=tuple(file.initialisations),
        tolerance_factor=file.tolerance_factor,
        library_calls=file.library_calls,
        reference=reference,
        inputs=inputs,
        compare=_function(module, folder, "compare") if hasattr(module, "compare") else None,
        seed_source=_text_of(seed) if seed.exists() else None,
        hints=tuple(file.hints),
        folder=folder,
        digest=_digest(folder),
        reduction=tuple(file.reduction),
        reference_source=source,
    )
    _try_reference(task)
    return task


def entry_of(name_or_path: str | Path, *, root: Path | None = None) -> str:
    """The function that candidates of this task export, without importing torch; raises as load_task does."""
    folder = _find(name_or_path, root)
    if (other := importer_of(folder)) is not None:
        return "forward" if other is kernelbench else robust_kbench.direction(folder)
    return _read_file(folder).entry


def identity(name_or_path: str | Path, *, root: Path | None = None) -> tuple[str, str]:
    """Name and digest of a task, without importing torch or running anything; raises as load_task does."""
    folder = _find(name_or_path, root)
    if (other := importer_of(folder)) is not None:
        found: tuple[str, str] = other.identity(folder)
        return found
    return folder.name, _digest(folder)


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskSummary:
    """One line of a listing."""

    name: str
    title: str  # "" when the file cannot be read, as for the next two
    signature: str
    test_sizes: int  # how many sizes every evaluation judges
    has_seed: bool
    folder: Path
    problem: str | None  # why the file cannot be used, or None; the reference is not run


def list_tasks(root: Path | None = None) -> tuple[TaskSummary, ...]:
    """All folders below `root` that hold a task.toml, by name. One that cannot be used is listed with its problem."""
    summaries = []
    for path in sorted((root or tasks_root()).glob("*/task.toml")):
        folder = path.parent
        try:
            file, problem = _read_file(folder), None
        except TaskError as error:
            file, problem = None, str(error)
        summaries.append(
            TaskSummary(
                name=folder.name,
                title=file.title if file else "",
                signature=file.signature if file else "",
                test_sizes=len(file.test) if file else 0,
                has_seed=(folder / "seed.cu").exists(),
                folder=folder,
                problem=problem,
            )
        )
    return tuple(summaries)


def tasks_root() -> Path:
    """The tasks/ folder of the checkout, else the copy that was installed with the package."""
    checkout = Path(__file__).resolve().parents[2] / "tasks"
    return checkout if (checkout / "README.md").exists() else Path(__file__).resolve().parent / "library"


Name = Annotated[str, Field(pattern=r"^[A-Za-z][A-Za-z0-9_]*$")]
Size = Annotated[int, Field(ge=0, le=2**31 - 1)]
Sizes = Annotated[dict[Name, Size], Field(min_length=1)]


class TaskFile(BaseModel):
    """task.toml, key by key. tasks/README.md says the same in words."""

    model_config = ConfigDict(extra="forbid", strict=True)

    title: Annotated[str, Field(min_length=1, max_length=80)]
    description: Annotated[str, Field(min_length=1)]
    entry: Literal["forward", "backward"]
    signature: str
    dtypes: Annotated[list[Literal["float32", "float16", "bfloat16"]], Field(min_length=1)] = ["float32"]
    distributions: Annotated[list[str], Field(min_length=1)] = list(DISTRIBUTIONS)
    initialisations: Annotated[list[str], Field(min_length=1)] = ["none"]
    layouts: Annotated[list[Literal["contiguous", "strided"]], Field(min_length=1)] = ["contiguous"]
    mutates: list[str] = []
    reduction: list[str] = []
    tolerance_factor: Annotated[float, Field(gt=0, le=100)] = 4.0
    library_calls: Literal["allow", "label", "forbid"] = "forbid"
    hints: list[str] = []
    hidden: Annotated[dict[Name, list[Size]], Field(min_length=1)]
    test: Annotated[list[Sizes], Field(min_length=1)]
    bench: Annotated[list[Sizes], Field(min_length=1)]

    @field_validator("distributions")
    @classmethod
    def _known_distributions(cls, names: list[str]) -> list[str]:
        if len(names) < 3 and OWN not in names:
            raise ValueError(f"{names}: expected at least 3 names")
        return _known(names, {**DISTRIBUTIONS, OWN: ""})

    @field_validator("initialisations")
    @classmethod
    def _known_initialisations(cls, names: list[str]) -> list[str]:
        return _known(names, {**INITIALISATIONS, OWN: ""})

    @field_validator("hidden")
    @classmethod
    def _ranges(cls, hidden: dict[str, list[int]]) -> dict[str, list[int]]:
        for name, bounds in hidden.items():
            if len(bounds) != 2 or bounds[0] > bounds[1]:
                raise ValueError(f"{name} = {bounds}: expected [smallest, largest]")
        return hidden

    @model_validator(mode="after")
    def _agreement(self) -> TaskFile:
        names = set(self.hidden)
        for table, cases in (("test", self.test), ("bench", self.bench)):
            for number, sizes in enumerate(cases, start=1):
                if set(sizes) != names:
                    raise ValueError(
                        f"[[{table}]] number {number} has the sizes {', '.join(sorted(sizes))}: "
                        f"expected those of [hidden], {', '.join(sorted(names))}"
                    )
            if any(sizes in cases[:index] for index, sizes in enumerate(cases)):
                raise ValueError(f"[[{table}]] declares the same sizes twice: expected each once")
        for product in self.reduction:
            for factor in product.split("*"):
                if factor.strip() not in names:
                    raise ValueError(
                        f"reduction = {self.reduction}: expected size names of [hidden] ({', '.join(sorted(names))}) "
                        'or products of them such as "rows*cols"'
                    )
        if not self.signature.startswith(f"{self.entry}("):
            raise ValueError(f"signature = {self.signature!r}: expected it to begin with {self.entry + '('!r}")
        return self


def _known(names: list[str], table: Mapping[str, str]) -> list[str]:
    for name in names:
        if name not in table:
            raise ValueError(f"{name!r} is unknown: expected names from {', '.join(table)}")
    if len(set(names)) != len(names):
        raise ValueError("a name is given twice: expected each once")
    return names


def _find(name_or_path: str | Path, root: Path | None) -> Path:
    is_path = isinstance(name_or_path, Path) or "/" in name_or_path or name_or_path.startswith(".")
    if is_path or str(name_or_path).endswith(".py"):
        folder = Path(name_or_path).resolve()
        if not (folder / "task.toml").is_file() and importer_of(folder) is None:
            what = "it holds no task.toml" if folder.is_dir() else "there is no such file or folder"
            what = "expected a folder or a .py file" if folder.is_file() else what
            raise UsageError(f"{folder} is not a task: {what}", next_step=FORMAT)
        return folder
    parent = root or tasks_root()
    folder = parent / name_or_path
    if not (folder / "task.toml").is_file():
        names = [path.parent.name for path in sorted(parent.glob("*/task.toml"))]
        close = difflib.get_close_matches(str(name_or_path), names, n=1, cutoff=0.5)
        raise UsageError(
            f"there is no task {str(name_or_path)!r} in {parent}",
            next_step=f"did you mean {close[0]!r}?" if close else f"choose one of: {', '.join(names) or '(none)'}",
        )
    return folder.resolve()


def importer_of(path: Path) -> ModuleType | None:
    """The module that reads another format which lies there; None for a folder of our own, or nothing known."""
    if (path / "task.toml").is_file():
        return None
    if robust_kbench.is_task(path):
        return robust_kbench
    return kernelbench if kernelbench.is_problem(path) else None


def _read_file(folder: Path) -> TaskFile:
    path = folder / "task.toml"
    try:
        values = tomllib.loads(_text_of(path))
    except tomllib.TOMLDecodeError as error:
        raise TaskError(f"{path}: not valid TOML: {error}") from error
    try:
        return TaskFile.model_validate(values)
    except ValidationError as error:
        raise TaskError("\n".join(_complaint(path, dict(e)) for e in error.errors()[:5]), next_step=FORMAT) from None


def _complaint(path: Path, error: dict[str, Any]) -> str:
    """One line: file, key, value, what was expected."""
    key = ".".join(str(part + 1) if isinstance(part, int) else part for part in error["loc"])
    value = error["input"]
    match error["type"]:
        case "missing":
            return f"{path}: {key} is missing"
        case "extra_forbidden":
            close = difflib.get_close_matches(key, TaskFile.model_fields, n=1)
            return f"{path}: unknown key {key}" + (f": did you mean {close[0]}?" if close else "")
        case "value_error":
            expected = str(error["ctx"]["error"])
            return f"{path}: {key + ': ' if key else ''}{expected}"
        case _:
            shown = repr(value) if len(repr(value)) < 80 else f"{repr(value)[:77]}..."
            return f"{path}: {key} = {shown}: {error['msg'].lower().replace('input should be', 'expected')}"


def _text_of(path: Path) -> str:
    """A file of a task's folder; raises TaskError when it is not text that can be read."""
    try:
        return path.read_text(encoding="utf-8")
    except OSError as error:
        raise TaskError(f"{path}: cannot be read: {error.strerror}", next_step="make it a readable file") from error
    except UnicodeDecodeError as error:
        raise TaskError(
            f"{path}: byte {error.start} is not UTF-8: expected UTF-8 text", next_step="save the file as UTF-8"
        ) from error


def _reference_source(folder: Path) -> str:
    path = folder / "reference.py"
    if not path.exists():
        raise TaskError(
            f"{path} is missing: expected functions reference(...) and inputs(case, generator)", next_step=FORMAT
        )
    return _text_of(path)


def _run_reference(folder: Path, source: str) -> ModuleType:
    path = folder / "reference.py"
    module = ModuleType(f"kernelevo_task_{folder.name}")
    module.__file__ = str(path)
    try:
        exec(compile(source, str(path), "exec"), module.__dict__)
    except SyntaxError as error:
        raise TaskError(f"{path}:{error.lineno}: {error.msg}") from error
    except Exception as error:
        raise TaskError(f"{_place(path, error)}: importing it raised {type(error).__name__}: {error}") from error
    return module


def _function(module: ModuleType, folder: Path, name: str) -> Any:
    function = getattr(module, name, None)
    if not callable(function):
        what = "has no" if function is None else f"has {name} = {function!r} instead of a"
        raise TaskError(f"{folder / 'reference.py'}: {what} function {name}", next_step=FORMAT)
    return function


def _mutating(folder: Path, reference: Any, names: list[str]) -> Any:
    """The reference, marked with the positions of the inputs that it writes in place."""
    path = folder / "reference.py"
    taken = list(inspect.signature(reference).parameters)
    for name in names:
        if name not in taken:
            raise TaskError(f"{folder / 'task.toml'}: mutates: {name!r}: expected arguments of reference: {taken}")

    @functools.wraps(reference)
    def marked(*values: Any) -> Any:
        result = reference(*values)
        for output in result if isinstance(result, tuple) else (result,):
            if any(output is values[taken.index(name)] for name in names):
                raise TaskError(f"{_line(path, 'reference')}: reference returns an input that it mutates: return None")
        return result

    marked.mutates = tuple(taken.index(name) for name in names)  # type: ignore[attr-defined]
    return marked


def _try_reference(task: Task) -> None:
    """Draws the inputs of the smallest TEST case and runs the reference once, so that a broken one is refused here."""
    import torch

    path = task.folder / "reference.py"
    case = min((c for c in task.cases if c.purpose is Purpose.TEST), key=_volume)
    inputs = _tried(path, "inputs", case, lambda: task.inputs(case, torch.Generator().manual_seed(case.seed)))
    if not isinstance(inputs, tuple) or not inputs:
        raise TaskError(f"{_line(path, 'inputs')}: inputs returned {_kind(inputs)}: expected a tuple of tensors")
    for number, value in enumerate(inputs):
        if not isinstance(value, torch.Tensor | int | float):
            raise TaskError(f"{_line(path, 'inputs')}: input {number} is {_kind(value)}: expected a tensor or a number")
        if isinstance(value, torch.Tensor) and value.device.type != "cpu":
            raise TaskError(f"{_line(path, 'inputs')}: input {number} is on {value.device}: expected the CPU")
    outputs = _tried(path, "reference", case, lambda: task.reference(*inputs))
    if outputs is None and hasattr(task.reference, "mutates"):
        return
    for value in outputs if isinstance(outputs, tuple) and outputs else (outputs,):
        if not isinstance(value, torch.Tensor):
            raise TaskError(
                f"{_line(path, 'reference')}: reference returned {_kind(outputs)}: expected tensor or tuple of tensors"
            )


def _tried(path: Path, name: str, case: Case, call: Any) -> Any:
    try:
        return call()
    except Exception as error:
        text = f"{name} raised {type(error).__name__} on the case {case.name!r}: {error}"
        raise TaskError(f"{_place(path, error)}: {text}") from error


def _place(path: Path, error: BaseException) -> str:
    """path:line of the innermost frame that lies in the file."""
    lines = [frame.lineno for frame in traceback.extract_tb(error.__traceback__) if frame.filename == str(path)]
    return f"{path}:{lines[-1]}" if lines else str(path)


def _line(path: Path, function: str) -> str:
    """path:line where the function is defined."""
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1):
        if line.startswith(f"def {function}("):
            return f"{path}:{number}"
    return str(path)


def _kind(value: object) -> str:
    return "None" if value is None else f"a value of type {type(value).__name__}"


def _volume(case: Case) -> int:
    volume = 1
    for size in case.sizes.values():
        volume *= max(size, 1)
    return volume


def _digest(folder: Path) -> str:
    """Content hash of the folder: every file under its relative path, but for bytecode and hidden files."""
    parts = []
    for path in sorted(p for p in folder.rglob("*") if p.is_file()):
        name = path.relative_to(folder)
        if not any(part == "__pycache__" or part.startswith(".") for part in name.parts):
            try:
                parts += [name.as_posix(), path.read_bytes().hex()]
            except OSError as error:
                raise TaskError(
                    f"{path}: cannot be read: {error.strerror}", next_step="make it a readable file, or remove it"
                ) from error
    return digest(*parts, tag="t")
