"""Writes an imported task as a folder of our own format, for those who want to edit its sizes, data or tolerance.

Takes a path in another format and where to put the folder; gives the folder: task.toml with everything that was decided
about the task, the files as they were, and a reference.py of a few lines that reads them.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

from kernelevo.errors import TaskError, UsageError
from kernelevo.records import Purpose, Task
from kernelevo.tasks.load import importer_of, load_task

REFERENCE = '''"""Reads {what} as it is; edit it, or write `reference` and `inputs` here instead (tasks/README.md)."""

from pathlib import Path

from kernelevo.tasks.{module} import {kind}

task = {kind}(Path(__file__).with_name("{file}"))
reference = task.reference
inputs = task.inputs
'''


def write_native(path: Path, folder: Path) -> Path:
    """Writes `folder`, which must not exist, and reads it once.

    Raises UsageError for what is in no other format, TaskError when it cannot be used or the folder exists.
    """
    importer = importer_of(path)
    if importer is None:
        raise UsageError(
            f"{path} is neither a KernelBench problem nor a robust-kbench folder",
            next_step="see tasks/README.md, imported formats",
        )
    if folder.exists():
        raise TaskError(f"{folder} already exists", next_step="choose another folder with -o")
    task = load_task(path)
    folder.mkdir(parents=True)
    file, others = _files(path, task)
    (folder / file.name).write_text(file.read_text(encoding="utf-8"), encoding="utf-8")
    for other in others:
        (folder / other.name).write_text(other.read_text(encoding="utf-8"), encoding="utf-8")
    module = importer.__name__.rpartition(".")[2]
    kind = "Problem" if module == "kernelbench" else "Folder"
    text = REFERENCE.format(what=file.name, module=module, kind=kind, file=file.name)
    (folder / "reference.py").write_text(text, encoding="utf-8")
    if task.seed_source is not None:
        (folder / "seed.cu").write_text(task.seed_source, encoding="utf-8")
    (folder / "task.toml").write_text(as_toml(task), encoding="utf-8")
    load_task(folder)
    return folder


def as_toml(task: Task) -> str:
    """task.toml of a task."""
    lines = [
        f"title = {toml_string(task.title)}",
        f"description = {toml_string(task.description)}",
        f"entry = {toml_string(task.entry)}",
        f"signature = {toml_string(task.signature)}",
        f"dtypes = {_list(task.dtypes)}",
        f"distributions = {_list(task.distributions)}",
        f"initialisations = {_list(task.initialisations)}",
        f"reduction = {_list(task.reduction)}",
        f"tolerance_factor = {float(task.tolerance_factor)}",
        f"library_calls = {toml_string(task.library_calls)}",
        f"hints = {_list(task.hints)}",
        "",
        "[hidden]",
        *(f"{name} = [{low}, {high}]" for name, (low, high) in task.hidden_sizes.items()),
    ]
    for purpose in (Purpose.TEST, Purpose.BENCH):
        written: list[Mapping[str, int]] = []
        for case in task.cases:
            if case.purpose is purpose and case.sizes not in written:
                written.append(case.sizes)
                lines += ["", f"[[{purpose.value}]]", *(f"{name} = {size}" for name, size in case.sizes.items())]
    return "\n".join(lines) + "\n"


def _files(path: Path, task: Task) -> tuple[Path, list[Path]]:
    """The file with the reference, and the others that it reads."""
    if path.is_file() and not path.name.startswith("func_"):
        return path, []
    folder = task.folder
    return folder / f"func_{task.entry}.py", [folder / f"config_{task.entry}.json"]


def toml_string(text: str) -> str:
    """A basic string of TOML, which JSON's are too."""
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")


def _list(words: tuple[str, ...]) -> str:
    return f"[{', '.join(toml_string(word) for word in words)}]"
