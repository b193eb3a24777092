"""Task, job and parents in, Prompt out. Pure: the same arguments give the same prompt.

One template per operator lies in templates/; `system.j2` is shared by all, so that providers can cache it.

Not covered: token budgets and examples of similar tasks.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from kernelevo.records import Candidate, Job, Message, Prompt, Purpose, Task

if TYPE_CHECKING:
    import jinja2


def write_prompt(
    task: Task, job: Job, parents: Sequence[Candidate], *, feedback: Mapping[str, str], target: str
) -> Prompt:
    """The prompt for one job.

    parents: the candidates of job.parents, in that order.
    feedback: candidate id -> why it failed, or its time and bottleneck, in words.
    target: the GPU that times are for, in words.
    """
    facts = {
        "task": task,
        "reference": task.reference_source.rstrip() + "\n",
        "sizes": [dict(case.sizes) for case in task.cases if case.purpose is Purpose.BENCH],
        "target": target,
        "parents": [(parent, feedback.get(parent.id, "")) for parent in parents],
    }
    template = f"{job.operator.value}.j2"
    return Prompt(
        operator=job.operator,
        messages=(
            Message(role="system", text=read_template("system.j2").render(facts)),
            Message(role="user", text=read_template(template).render(facts)),
        ),
        parents=tuple(parents),
        template=template,
        seed=job.seed,
    )


@cache
def read_template(name: str) -> jinja2.Template:
    """A file of templates/. A name in it that no fact has is an error."""
    import jinja2

    folder = jinja2.FileSystemLoader(Path(__file__).parent / "templates")
    environment = jinja2.Environment(
        loader=folder,
        undefined=jinja2.StrictUndefined,
        keep_trailing_newline=True,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template(name)
