"""Task, job, parents and material in, Prompt out. Pure: the same arguments give the same prompt.

One template per operator lies in templates/. `system.j2` is the same text for all prompts of one task and GPU, so that
providers can cache it; what differs is in the request. `retry.j2` ends the request when a reply before was of no use.

No prompt exceeds its budget of estimated tokens (budget.py). Never cut are the system message, the operator's own
words, the parents' sources and the retry's reason, which is bounded: when these alone are too long, PromptTooLargeError
says how long each is. The rest is for the PARTS, cut in a stated order; the request says how much was left out.

Not covered: where the material comes from (kernelevo/memory.py), and reading the reply (kernelevo/propose.py).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kernelevo.errors import UsageError
from kernelevo.prompt.budget import CHARACTERS_PER_TOKEN, PARTS, counts_of, estimate_tokens, fit
from kernelevo.prompt.material import Example, Gpu, Lesson, Material, Sibling, Tried
from kernelevo.prompt.words import bounded, duration, facts_about, facts_about_gpu, one_line
from kernelevo.records import Candidate, Job, Message, Operator, Prompt, Purpose, Task

if TYPE_CHECKING:
    import jinja2

__all__ = [
    "BUDGET_TOKENS",
    "PARTS",
    "Composition",
    "Example",
    "Gpu",
    "Lesson",
    "Material",
    "PartSize",
    "PromptTooLargeError",
    "Sibling",
    "Tried",
    "compose",
    "estimate_tokens",
    "fenced",
    "write_prompt",
]

BUDGET_TOKENS = 24_000
RETRY_CHARACTERS = 4000
TEMPLATES = Path(__file__).parent / "templates"

EDITABLE = (Operator.OPTIMIZE, Operator.REPAIR, Operator.SIMPLIFY)  # may be answered by edits of the parent


class PromptTooLargeError(UsageError):
    """What may not be cut is longer than the budget."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PartSize:
    """One part of a prompt, for who wants to see where the tokens go."""

    name: str  # "system", "request" (the operator's own words), "parents", "retry", or one of PARTS
    tokens: int  # estimated
    items: int  # shown
    left_out: int  # for length


@dataclass(frozen=True, slots=True, kw_only=True)
class Composition:
    """A prompt and what it is made of."""

    prompt: Prompt
    parts: tuple[PartSize, ...]
    tokens: int  # estimated, of all messages


def write_prompt(
    task: Task,
    job: Job,
    parents: Sequence[Candidate],
    *,
    target: str,
    material: Material | None = None,
    budget_tokens: int = BUDGET_TOKENS,
) -> Prompt:
    """The prompt for one job.

    parents: the candidates of job.parents, in that order.
    target: what nvcc compiles for, for example "sm_90".
    material: everything that is shown besides.
    budget_tokens: estimated tokens that no prompt exceeds.

    Raises PromptTooLargeError when what may not be cut exceeds the budget.
    """
    return compose(task, job, parents, target=target, material=material, budget_tokens=budget_tokens).prompt


def compose(
    task: Task,
    job: Job,
    parents: Sequence[Candidate],
    *,
    target: str,
    material: Material | None = None,
    budget_tokens: int = BUDGET_TOKENS,
) -> Composition:
    """The same with the sizes of its parts."""
    material = material or Material()
    template = f"{job.operator.value}.j2"
    request = read_template(template)
    system = read_template("system.j2").render(system_facts(task, target, material.gpu))
    parents_text = "".join(macro("kernel")(parent, title) for parent, title in titled(parents))
    retry = retry_text(material.retry, job.operator)
    items = {name: found for name, found in collect(parents, material).items() if found and name in names_in(template)}
    texts = {name: [part_text(name, found, count) for count in counts_of(found)] for name, found in items.items()}

    def render(parts: Mapping[str, str]) -> str:
        return request.render(dict.fromkeys(PARTS, "") | {"parents": parents_text, "retry": retry, **parts})

    bare = render({})
    shown = fit(
        {name: [len(text) for text in variants] for name, variants in texts.items()},
        budget_tokens * CHARACTERS_PER_TOKEN - len(system) - len(bare),
    )
    sizes = {"system": len(system), "request": len(bare) - len(parents_text) - len(retry)}
    sizes |= {name: len(text) for name, text in (("parents", parents_text), ("retry", retry)) if text}
    if shown is None:
        sizes["what says how much was left out"] = sum(len(variants[0]) for variants in texts.values())
        told = ", ".join(f"{name} {estimate_tokens(length)}" for name, length in sizes.items())
        raise PromptTooLargeError(
            f"the {job.operator.value} prompt of {task.name} needs more than {budget_tokens} tokens for what is never "
            f"cut: {told}",
            next_step="allow more tokens, or choose shorter parents",
        )
    user = render({name: variants[shown[name]] for name, variants in texts.items()})
    counts = {"parents": len(parents)}
    parts = [
        *(
            PartSize(name=name, tokens=estimate_tokens(length), items=counts.get(name, 1), left_out=0)
            for name, length in sizes.items()
        ),
        *(
            PartSize(
                name=name,
                tokens=estimate_tokens(len(variants[shown[name]])),
                items=shown[name],
                left_out=len(items[name]) - shown[name],
            )
            for name, variants in texts.items()
        ),
    ]
    prompt = Prompt(
        operator=job.operator,
        messages=(Message(role="system", text=system), Message(role="user", text=user)),
        parents=tuple(parents),
        template=template,
        seed=job.seed,
        temperature=job.temperature,
    )
    return Composition(prompt=prompt, parts=tuple(parts), tokens=estimate_tokens(len(system) + len(user)))


def collect(parents: Sequence[Candidate], material: Material) -> dict[str, list[Any]]:
    """The items of each part in the order of PARTS, most useful first, bounded where others wrote them."""
    return {
        "feedback": about_parents(parents, material),
        "hints": [bounded(hint).strip() for hint in material.hints],
        "tried": [tried_line(tried) for tried in material.tried],
        "siblings": [sibling_line(sibling) for sibling in material.siblings],
        "lessons": [lesson_text(lesson) for lesson in material.lessons],
        "inspirations": [
            {"title": inspiration_title(candidate, material), "source": candidate.source}
            for candidate in material.inspirations
            if candidate.id not in {parent.id for parent in parents}
        ],
        "examples": [{"title": example_title(example), "source": example.source} for example in material.examples],
    }


def about_parents(parents: Sequence[Candidate], material: Material) -> list[str]:
    """Facts about each parent; of several, in turns, each with the kernel's number."""
    known = [(material.evaluations.get(parent.id), parent) for parent in parents]
    facts = [facts_about(evaluation, parent) if evaluation is not None else () for evaluation, parent in known]
    if len(facts) == 1:
        return list(facts[0])
    longest = max(map(len, facts), default=0)
    return [
        f"Kernel {number}: {found[index]}"
        for index in range(longest)
        for number, found in enumerate(facts, start=1)
        if index < len(found)
    ]


def tried_line(tried: Tried) -> str:
    best = f", best {tried.best_ratio:.2f}x its parent's speed" if tried.best_ratio is not None else ""
    return f"- {one_line(tried.plan)}: {tried.count} time{'s' * (tried.count != 1)}, {tried.passed} correct{best}"


def sibling_line(sibling: Sibling) -> str:
    came = f"{sibling.ratio:.2f}x" if sibling.ratio is not None else sibling.status
    reason = f" ({one_line(sibling.reason)})" if sibling.reason else ""
    return f"- {one_line(sibling.change)}: {came}{reason}"


def lesson_text(lesson: Lesson) -> str:
    """Its words, which begin with the task that they are about."""
    text = bounded(lesson.text).strip()
    return text if text.startswith(f"{lesson.task}: ") else f"{lesson.task}: {text}"


def inspiration_title(candidate: Candidate, material: Material) -> str:
    evaluation = material.evaluations.get(candidate.id)
    if evaluation is None:
        return f"Another kernel for this task ({candidate.id}):"
    timing = evaluation.timing
    time = f", {duration(timing.score_ns)} {timing.kind.value}" if timing is not None else ""
    return f"Another kernel for this task ({candidate.id}, {evaluation.status}{time}):"


def example_title(example: Example) -> str:
    title = f", {one_line(example.title)}" if example.title else ""
    ratio = f", {example.ratio:.2f} times as fast as that task's first kernel" if example.ratio is not None else ""
    return f"A verified kernel of another task ({example.task}{title}{ratio}):"


def titled(parents: Sequence[Candidate]) -> list[tuple[Candidate, str]]:
    if len(parents) == 1:
        return [(parents[0], "The kernel")]
    return [(parent, f"Kernel {number}") for number, parent in enumerate(parents, start=1)]


def retry_text(reason: str, operator: Operator) -> str:
    if not reason:
        return ""
    return read_template("retry.j2").render(reason=bounded(reason, RETRY_CHARACTERS), edits=operator in EDITABLE)


def system_facts(task: Task, target: str, gpu: Gpu | None) -> dict[str, Any]:
    tests = [case for case in task.cases if case.purpose is Purpose.TEST]
    return {
        "task": task,
        "target": target,
        "gpu": gpu,
        "gpu_lines": facts_about_gpu(gpu),
        "notes": [hint for hint in task.hints if hint not in task.description],
        "own_comparison": task.compare is not None,
        "strided": any(case.name.endswith(" strided") for case in tests),
        "mutated": tuple(getattr(task.reference, "mutates", ())),
        "bench": [f"{sizes_of(case.sizes)} {case.dtype}" for case in task.cases if case.purpose is Purpose.BENCH],
        "tests": list(dict.fromkeys(sizes_of(case.sizes) for case in tests)),
        "smallest": sizes_of({name: low for name, (low, _) in task.hidden_sizes.items()}),
    }


def sizes_of(sizes: Mapping[str, int]) -> str:
    return " ".join(f"{name}={value}" for name, value in sizes.items())


def part_text(name: str, items: Sequence[Any], shown: int) -> str:
    return macro(name)(items[:shown], len(items) - shown)


def fenced(text: str, language: str = "") -> str:
    """A block that the text cannot end: its fence is longer than any run of backticks in it."""
    longest = max((len(run) for run in re.findall("`+", text)), default=0)
    fence = "`" * max(3, longest + 1)
    return f"{fence}{language}\n{text.rstrip()}\n{fence}"


def macro(name: str) -> Callable[..., str]:
    """A macro of parts.j2, by name."""
    found: Callable[..., str] = getattr(read_template("parts.j2").module, name)
    return lambda *arguments: found(*arguments).strip("\n") + "\n\n"


@cache
def read_template(name: str) -> jinja2.Template:
    """A file of templates/. A name in it that no fact has is an error."""
    return environment().get_template(name)


@cache
def names_in(template: str) -> frozenset[str]:
    """What a template wants to be given: which parts the operator shows."""
    from jinja2 import meta

    return frozenset(meta.find_undeclared_variables(environment().parse((TEMPLATES / template).read_text())))


@cache
def environment() -> jinja2.Environment:
    import jinja2

    made = jinja2.Environment(
        loader=jinja2.FileSystemLoader(TEMPLATES),
        undefined=jinja2.StrictUndefined,
        keep_trailing_newline=True,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.filters["fenced"] = fenced
    return made
