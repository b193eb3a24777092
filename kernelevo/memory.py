"""What a prompt may show of what came before: an archive, a task and a job in, Material out. And what a run taught.

    gather(archive, task, job, device)        -> Material for the prompt of a job
    write_lesson(archive, task, run, told)    -> a lesson in the archive, once enough was told since the last
    summarise(task, history)                  -> its text: pure, and made by counting, without any model
    similar_tasks(task, others)               -> names of other tasks by what their references are made of: pure

A job is shown what the decision that made it could see (decide.visible), not what happened to be told meanwhile.
Numbers are ratios of times that the archive holds, of one kind and target; where there is no time there is no number.

Not covered: lessons in a model's words, and kernels that are alike although their references are not.
"""

from __future__ import annotations

import ast
import math
import re
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence, Set
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

from kernelevo.decide import iterations, visible
from kernelevo.devices import Device
from kernelevo.prompt import Example, Gpu, Lesson, Material, Sibling, Tried
from kernelevo.records import Candidate, Job, Operator, Outcome, Reply, Run, Task, Trial

if TYPE_CHECKING:
    from kernelevo.archive import Archive, Placing
    from kernelevo.archive.answers import Lesson as Noted

LESSON_EVERY = 12  # told iterations
RECENT = 200  # decisions of a run whose words are read, the newest
SIBLINGS = 12
LESSONS = 6
EXAMPLES = 3
SIMILAR = 0.25  # least similarity of tasks that are shown
REASONS = 40  # failures of a run whose reasons are read, the newest
PLAN_CHARACTERS = 160
CHANGES = 8  # lines of a lesson about single changes, and about failures
NOISE = 0.01  # of a ratio that counts as no difference

NO_CANDIDATE = "no candidate"
NOT_EVALUATED = "not evaluated"


@dataclass(frozen=True, slots=True, kw_only=True)
class Attempt:
    """One told decision of a run, and what became of it."""

    trial: Trial
    status: str  # Evaluation.status, NO_CANDIDATE or NOT_EVALUATED
    ratio: float | None  # time of its first parent over its own; None: one of the two has none
    ratios: Mapping[str, float] = field(default_factory=dict)  # the same for each of its parents, by candidate id
    changes: tuple[str, ...] = ()  # rewrites, or the plan of the reply, or the operator; none: not looked up
    reason: str = ""  # why it failed; "": it passed, or that was not looked up


def gather(archive: Archive, task: Task, job: Job, device: Device) -> Material:
    """Everything that the prompt of a job may show. Costs some dozen indexed queries."""
    tried: tuple[Tried, ...] = ()
    children: list[Attempt] = []
    if job.run:
        run = archive.get_run(job.run)
        seen = outcomes(archive, run, before_iteration=job.iteration, before_generation=visible(run, job.generation))
        children = in_words(archive, task, run, device.name, siblings(seen, job.parents))
        if job.operator is Operator.EXPLORE:
            tried = strategies(in_words(archive, task, run, device.name, seen[-RECENT:], reasons=0))
    best = winners(archive, device)
    newest = archive.notes.lessons()[::-1]
    similar = similar_tasks(task, references(task, {*best, *(lesson.task for lesson in newest)}))
    shown = (*job.parents, *job.inspirations)
    known = {candidate: archive.known(candidate, task, device.name) for candidate in shown}
    return Material(
        evaluations={candidate: evaluation for candidate, evaluation in known.items() if evaluation is not None},
        hints=archive.notes.hints(job.run)[::-1],
        tried=tried,
        siblings=tuple(
            Sibling(
                candidate=a.trial.candidate or "",
                change=", ".join(a.changes),
                status=a.status,
                ratio=over_shown(a, job.parents),
                reason=a.reason.partition("\n")[0],
            )
            for a in children
        ),
        lessons=lessons(archive, task, job, newest, similar),
        inspirations=tuple(archive.candidate(candidate, run=job.run or None) for candidate in job.inspirations),
        examples=examples(archive, device, task, best, similar),
        gpu=describe_gpu(device),
    )


def describe_gpu(device: Device) -> Gpu:
    return Gpu(
        title=device.timing_target,
        target=device.target,
        device=device.name,
        kind=device.timing_kind,
        facts=device.facts,
    )


def outcomes(archive: Archive, run: Run, *, before_iteration: int, before_generation: int) -> list[Attempt]:
    """The decisions of a run of which something is told, in order, without words: see in_words."""
    trials = archive.trials(run.id, before_iteration=before_iteration, before_generation=before_generation)
    times = {t.candidate: t.score_ns for t in trials if t.candidate is not None and t.score_ns is not None}
    statuses = {scored.candidate: scored.status for scored in archive.scored(run.id)}
    found = []
    for trial in trials:
        if not trial.told or trial.operator is Operator.SEED:
            continue
        own_ns = trial.score_ns
        ratios = {parent: times[parent] / own_ns for parent in trial.parents if own_ns and parent in times}
        found.append(
            Attempt(
                trial=trial,
                status=NO_CANDIDATE if trial.candidate is None else statuses.get(trial.candidate, NOT_EVALUATED),
                ratio=ratios.get(trial.parents[0]) if trial.parents else None,
                ratios=ratios,
            )
        )
    return found


def in_words(
    archive: Archive, task: Task, run: Run, device: str, chosen: Sequence[Attempt], *, reasons: int = REASONS
) -> list[Attempt]:
    """The same attempts with what they changed and, for the newest `reasons` of the failures, why they failed."""
    failures = [a for a in chosen if a.trial.candidate and a.status not in (Outcome.PASSED.value, NOT_EVALUATED)]
    newest = {a.trial.iteration for a in sorted(failures, key=lambda a: -a.trial.iteration)[:reasons]}
    return [
        replace(
            a,
            changes=changes_in(archive, run, a.trial),
            reason=archive.feedback(a.trial.candidate or "", task, device) if a.trial.iteration in newest else "",
        )
        for a in chosen
    ]


def changes_in(archive: Archive, run: Run, trial: Trial) -> tuple[str, ...]:
    """What a job did, in a few words."""
    if trial.operator is Operator.TUNE and trial.candidate is not None:
        before = archive.candidate(trial.parents[0], run=run.id).rewrites
        return tuple(str(r) for r in archive.candidate(trial.candidate, run=run.id).rewrites[len(before) :]) or (
            "tune",
        )
    return changes_of(archive.replies(run.id, trial.iteration), trial.operator)


def changes_of(replies: Sequence[Reply], operator: Operator) -> tuple[str, ...]:
    """What a job did, in a few words: the rewrites of its last reply, or its plan; failing these, the operator."""
    if not replies:
        return (operator.value,)
    last = replies[-1]
    return tuple(str(rewrite) for rewrite in last.rewrites) or (plan_of(last.text) or operator.value,)


def plan_of(text: str) -> str:
    """The plan that a reply begins with: one line after "PLAN:", as system.j2 asks for it; "" without one."""
    found = re.search(r"^[ \t>*#_`]*plan[ \t*_`]*:[ \t*_`]*(\S[^\n]*)$", text[:4000], re.IGNORECASE | re.MULTILINE)
    return found[1].strip().strip("*_`").strip()[:PLAN_CHARACTERS] if found else ""


# --- what other children of the parents did -------------------------------------------------------------------------


def siblings(seen: Iterable[Attempt], parents: Sequence[str]) -> list[Attempt]:
    """At most SIBLINGS children of the parents: those with a time, fastest first, then failures, newest first.

    Where there are more, a third of the places is kept for the slowest and a third for failures.
    """
    found = [a for a in seen if set(parents) & set(a.trial.parents)]
    ratios = {a.trial.iteration: over_shown(a, parents) for a in found}
    timed = [a for a in found if ratios[a.trial.iteration] is not None]
    timed.sort(key=lambda a: (-(ratios[a.trial.iteration] or 0.0), a.trial.iteration))
    others = [a for a in reversed(found) if ratios[a.trial.iteration] is None]
    third = SIBLINGS // 3
    room = SIBLINGS - min(len(others), third)
    if len(timed) > room:
        timed = timed[: room - third] + timed[-third:]
    return [*timed, *others][:SIBLINGS]


def over_shown(attempt: Attempt, parents: Sequence[str]) -> float | None:
    """How much faster it is than the parent that a prompt shows: of a crossover that need not be its first."""
    shown = next((parent for parent in parents if parent in attempt.trial.parents), None)
    return attempt.ratios.get(shown) if shown is not None else None


def strategies(history: Iterable[Attempt]) -> tuple[Tried, ...]:
    """Each change of a run once, least tried first. Of equally often tried ones, the better first."""
    found = []
    for key, group in by_change(history, named=str).items():
        ratios = [a.ratio for a in group if a.ratio is not None]
        found.append(
            Tried(
                plan=next(change for change in group[0].changes if key_of(change) == key),
                count=len(group),
                passed=sum(a.status == Outcome.PASSED.value for a in group),
                best_ratio=max(ratios, default=None),
            )
        )
    return tuple(sorted(found, key=lambda t: (t.count, -(t.best_ratio or 0.0), t.plan)))


def by_change(history: Iterable[Attempt], *, named: Callable[[str], str]) -> dict[str, list[Attempt]]:
    """Attempts by what they changed, in the order of first appearance. Who changed several things is in several."""
    groups: dict[str, list[Attempt]] = defaultdict(list)
    for attempt in history:
        for change in dict.fromkeys(key_of(named(change)) for change in attempt.changes):
            groups[change].append(attempt)
    return groups


def key_of(change: str) -> str:
    """Equal for changes that differ in case, spaces and final punctuation."""
    return " ".join(change.casefold().split()).rstrip(".;,:! ")


# --- lessons --------------------------------------------------------------------------------------------------------


def write_lesson(archive: Archive, task: Task, run: Run, told: Set[int], *, every: int = LESSON_EVERY) -> str | None:
    """Writes the lesson that is due: after the last multiple of `every` iterations up to which all are told.

    Gives its text; None when none is due, or it is written already. It is about the newest RECENT of all before it.
    """
    first = iterations(run, task).start
    reached = len(told) // every * every
    while reached > 0 and not set(range(first, reached + 1)) <= told:
        reached -= every
    if reached <= 0 or any(lesson.after_iteration >= reached for lesson in archive.notes.lessons(run=run.id)):
        return None
    seen = outcomes(archive, run, before_iteration=reached + 1, before_generation=run.generations + 1)
    text = summarise(task, in_words(archive, task, run, run.device, seen[-RECENT:]))
    archive.notes.write_lesson(run.id, after_iteration=reached, text=text)
    return text


def summarise(task: Task, history: Sequence[Attempt]) -> str:
    """What was tried on a task and what came of it: counts and geometric means, and the words of frequent failures.

    A change is credited with the whole ratio of each candidate that has it, although others may have helped.
    """
    statuses = Counter(a.status for a in history)
    told = ", ".join(f"{count} {status}" for status, count in statuses.most_common())
    lines = [f"{task.name}: {len(history)} proposals: {told}."]
    best = max((a for a in history if a.ratio is not None), key=lambda a: a.ratio or 0.0, default=None)
    if best is not None and best.ratio is not None and best.ratio > 1 + NOISE:
        lines.append(f"Largest single gain: {best.ratio:.2f}x over its parent by {', '.join(best.changes)}.")
    lines.append("By operator, as the geometric mean of the parent's time over the child's:")
    operators = sorted({a.trial.operator.value for a in history})
    lines += [f"- {name}: {record([a for a in history if a.trial.operator.value == name])}" for name in operators]
    groups = by_change(history, named=lambda change: change.partition("(")[0])
    rated = {name: mean for name, group in groups.items() if (mean := mean_ratio(group)) is not None}
    gains = sorted((n for n in rated if rated[n] > 1 + NOISE), key=lambda n: (-rated[n], n))
    losses = sorted((n for n in rated if rated[n] < 1 - NOISE), key=lambda n: (rated[n], n))
    never = [n for n, group in groups.items() if not any(a.status == Outcome.PASSED.value for a in group)]
    for title, names in (("Changes that paid:", gains), ("Changes that cost:", losses), ("Never correct:", never)):
        if names:
            lines.append(title)
            lines += [f"- {name}: {record(groups[name])}" for name in names[:CHANGES]]
            lines += [f"- and {len(names) - CHANGES} more"] * (len(names) > CHANGES)
    failures = Counter(f"{a.status}: {kind}" for a in history if (kind := kind_of_failure(a.reason)))
    if failures:
        lines.append("Why they failed:")
        lines += [f"- {count}x {kind}" for kind, count in failures.most_common(CHANGES)]
    return "\n".join(lines)


def record(group: Sequence[Attempt]) -> str:
    """ "5 proposed, 4 correct, 1.21x, 3 of 4 faster"."""
    passed = sum(a.status == Outcome.PASSED.value for a in group)
    ratios = [a.ratio for a in group if a.ratio is not None]
    words = [f"{len(group)} proposed", f"{passed} correct"]
    if (mean := mean_ratio(group)) is not None:
        faster = sum(ratio > 1 + NOISE for ratio in ratios)
        words += [f"{mean:.2f}x", f"{faster} of {len(ratios)} faster"]
    return ", ".join(words)


def mean_ratio(group: Iterable[Attempt]) -> float | None:
    """Geometric mean of the ratios there are."""
    logarithms = [math.log(a.ratio) for a in group if a.ratio is not None]
    return math.exp(math.fsum(logarithms) / len(logarithms)) if logarithms else None


def kind_of_failure(reason: str) -> str:
    """The first line of a reason without its places and numbers, so that equal mistakes count as one."""
    line = re.sub(r"^line \d+: ", "", reason.partition("\n")[0])
    line = re.split(r" \(case |; ", line)[0]
    line = re.sub(r"\[[\d, :]*\]", "[...]", line)
    return re.sub(r"(?<![\w.])-?\d[\d.e+-]*", "N", line)[:160].strip()


def lessons(
    archive: Archive, task: Task, job: Job, newest: Sequence[Noted], similar: Sequence[tuple[str, float]]
) -> tuple[Lesson, ...]:
    """The newest that this job could see of its own run, then other runs of the task, then one of each similar task.

    newest: the newest lesson of each run, newest first.
    """
    own = [lesson for lesson in archive.notes.lessons(run=job.run)[::-1] if lesson.after_iteration < job.iteration]
    found = own[:1] + [lesson for lesson in newest if lesson.task == task.name and lesson.run != job.run]
    for name, _ in similar:
        found += [lesson for lesson in newest if lesson.task == name][:1]
    return tuple(Lesson(task=lesson.task, text=lesson.text) for lesson in found[:LESSONS])


# --- similar tasks --------------------------------------------------------------------------------------------------

# What a function of PyTorch is made of, in the words of the others: what a kernel for it has to do. Names without "_".
MADE_OF = {
    "softmax": "amax exp sum div",
    "logsoftmax": "amax exp sum log sub",
    "crossentropy": "amax exp sum log sub gather mean",
    "nllloss": "gather mean",
    "logsumexp": "amax exp sum log",
    "layernorm": "mean sub square mean rsqrt mul add",
    "groupnorm": "mean sub square mean rsqrt mul add",
    "batchnorm": "mean sub square mean rsqrt mul add",
    "instancenorm": "mean sub square mean rsqrt mul add",
    "rmsnorm": "square mean rsqrt mul",
    "var": "mean sub square mean",
    "std": "mean sub square mean sqrt",
    "norm": "square sum sqrt",
    "normalize": "square sum sqrt div",
    "gelu": "erf mul elementwise",
    "silu": "sigmoid mul elementwise",
    "sigmoid": "sigmoid elementwise",
    "tanh": "tanh elementwise",
    "relu": "clamp elementwise",
    "leakyrelu": "clamp mul elementwise",
    "clamp": "clamp elementwise",
    "linear": "matmul add",
    "mm": "matmul",
    "bmm": "matmul",
    "einsum": "matmul",
    "addmm": "matmul add",
    "conv1d": "convolution add",
    "conv2d": "convolution add",
    "conv3d": "convolution add",
    "avgpool2d": "window mean",
    "maxpool2d": "window amax",
    "max": "amax",
    "scaleddotproductattention": "matmul amax exp sum div matmul",
}
OPERATORS = {ast.Add: "add", ast.Sub: "sub", ast.Mult: "mul", ast.Div: "div", ast.MatMult: "matmul", ast.Pow: "square"}
# Calls that move no value through arithmetic.
SHAPES = frozenset(
    {
        *("view", "reshape", "flatten", "unsqueeze", "squeeze", "transpose", "permute", "expand", "expandas"),
        *("contiguous", "clone", "detach", "to", "typeas", "float", "double", "half", "size", "dim", "numel", "item"),
        *("zeros", "zeroslike", "newzeros", "empty", "emptylike", "newempty", "len", "range", "int", "super", "init"),
    }
)


def similar_tasks(task: Task, others: Mapping[str, str]) -> list[tuple[str, float]]:
    """Names of tasks that are at least SIMILAR to a task, most similar first, with their similarity from 0 to 1.

    others: name -> text of its reference.
    The similarity is the Jaccard index of what both references are made of (parts_of): shared parts over all parts.
    """
    own = parts_of(task.reference_source)
    found = []
    for name, source in others.items():
        parts = parts_of(source)
        similarity = len(own & parts) / len(own | parts) if own | parts else 0.0
        if name != task.name and similarity >= SIMILAR:
            found.append((name, similarity))
    return sorted(found, key=lambda pair: (-pair[1], pair[0]))


def parts_of(reference_source: str) -> frozenset[str]:
    """What a reference is made of: functions and methods that it calls and arithmetic that it does, by MADE_OF.

    `inputs` and `compare`, which every task has, are left out. Empty for a text that is no Python.
    """
    try:
        tree = ast.parse(reference_source)
    except (SyntaxError, ValueError):
        return frozenset()
    parts: set[str] = set()
    for top in tree.body:
        if isinstance(top, ast.FunctionDef) and top.name in ("inputs", "compare", "get_inputs", "get_init_inputs"):
            continue
        for node in ast.walk(top):
            if isinstance(node, ast.BinOp) and type(node.op) in OPERATORS:
                parts.add(OPERATORS[type(node.op)])
            elif isinstance(node, ast.Call):
                function = node.func
                name = function.attr if isinstance(function, ast.Attribute) else getattr(function, "id", "")
                name = name.lower().replace("_", "")
                if name not in SHAPES:
                    parts |= set(MADE_OF.get(name, name).split())
    return frozenset(parts)


def references(task: Task, names: Set[str]) -> dict[str, str]:
    """The texts of other tasks' references. They are looked for beside the task's own folder; others are not found."""
    paths = {name: task.folder.parent / name / "reference.py" for name in sorted(names - {task.name})}
    return {name: path.read_text(encoding="utf-8") for name, path in paths.items() if path.is_file()}


def winners(archive: Archive, device: Device) -> dict[str, Placing]:
    """The fastest correct kernel of each task's newest version, by times that compare with this device's."""
    places = archive.leaderboard(
        device=device.name,
        kind=device.timing_kind,
        target=device.timing_target,
        method=device.timing_method,
        limit=1,
    )
    return {placing.task: placing for placing in places}  # versions come oldest first


def examples(
    archive: Archive, device: Device, task: Task, best: Mapping[str, Placing], similar: Sequence[tuple[str, float]]
) -> tuple[Example, ...]:
    """The fastest kernels of similar tasks, with what they gained over their task's own kernel."""
    found: list[Example] = []
    for name in [name for name, _ in similar if name in best][:EXAMPLES]:
        candidate = archive.candidate(best[name].candidate)
        seed_ns = seed_time(archive, device, task.folder.parent / name / "seed.cu", candidate.entry, best[name])
        ratio = seed_ns / best[name].score_ns if seed_ns else None
        found.append(Example(task=name, title="", source=candidate.source, ratio=ratio))
    return tuple(found)


def seed_time(archive: Archive, device: Device, path: Path, entry: str, placing: Placing) -> float | None:
    """The time of a task's own kernel for the same version of the task; None where the archive has none."""
    if not path.is_file():
        return None
    seed = Candidate(source=path.read_text(encoding="utf-8"), entry=entry)
    evaluation = archive.known_for(seed.id, placing.task, placing.task_digest, device.name)
    timing = evaluation.timing if evaluation is not None else None
    if timing is None or (timing.kind, timing.target, timing.method) != (
        placing.kind,
        placing.target,
        placing.method,
    ):
        return None
    return timing.score_ns
