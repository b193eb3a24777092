"""A new task to start from. Takes a name and where to put it; writes a folder that loads and whose seed is correct."""

from __future__ import annotations

import re
from pathlib import Path

from kernelevo.errors import TaskError
from kernelevo.tasks.load import tasks_root

SKELETON = Path(__file__).parent / "skeleton"


def new_task(name: str, root: Path | None = None) -> Path:
    """Writes `root`/`name` with task.toml, reference.py and seed.cu of y = x * sigmoid(x) * weight; gives the folder.

    Raises TaskError when the name cannot be used or the folder exists.
    """
    if not re.fullmatch(r"[a-z][a-z0-9_]*", name):
        raise TaskError(f"task name {name!r}: expected lower-case letters, digits and underscores, a letter first")
    folder = (root or tasks_root()) / name
    if folder.exists():
        raise TaskError(f"{folder} already exists", next_step="choose another name, or edit what is there")
    folder.mkdir(parents=True)
    for file in ("task.toml", "reference.py", "seed.cu"):
        (folder / file).write_text((SKELETON / file).read_text(encoding="utf-8"), encoding="utf-8")
    return folder
