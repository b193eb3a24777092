"""Tasks: PyTorch operations to make faster. Takes folders, gives Task records and their cases; judges nothing.

    task = load_task("rmsnorm")                       # or a path; raises TaskError when the folder cannot be used
    list_tasks()                                      # without importing torch
    hidden_cases(task, entropy, count=6)              # sizes and data no candidate has seen
    new_task("my_operation", root)                    # a commented template that works as it is

`sample` and `sample_parameter` are what a reference.py draws its inputs with. tasks/README.md documents the format.
"""

from kernelevo.tasks.cases import hidden_cases
from kernelevo.tasks.load import TaskSummary, list_tasks, load_task, tasks_root
from kernelevo.tasks.sampling import DISTRIBUTIONS, INITIALISATIONS, sample, sample_parameter
from kernelevo.tasks.template import new_task

__all__ = [
    "DISTRIBUTIONS",
    "INITIALISATIONS",
    "TaskSummary",
    "hidden_cases",
    "list_tasks",
    "load_task",
    "new_task",
    "sample",
    "sample_parameter",
    "tasks_root",
]
