"""What prompts are shown of what came before: siblings, strategies, lessons, hints and kernels of similar tasks."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kernelevo import load_task, open_archive
from kernelevo.archive import Archive
from kernelevo.memory import (
    LESSON_EVERY,
    SIBLINGS,
    Attempt,
    gather,
    kind_of_failure,
    mean_ratio,
    outcomes,
    over_shown,
    parts_of,
    plan_of,
    siblings,
    similar_tasks,
    summarise,
    write_lesson,
)
from kernelevo.prompt import write_prompt
from kernelevo.records import (
    Build,
    BuildMethod,
    Candidate,
    Case,
    CaseTiming,
    CaseVerdict,
    Diagnostic,
    Evaluation,
    Job,
    Operator,
    Outcome,
    Prompt,
    Purpose,
    Reply,
    Rewrite,
    Run,
    Task,
    Timing,
    TimingKind,
    Trial,
    Verdict,
)

SOFTMAX = load_task("softmax")
REFERENCES = {path.parent.name: path.read_text() for path in SOFTMAX.folder.parent.glob("*/reference.py")}


@dataclass(frozen=True)
class Place:
    """What is asked of a device here: where times come from."""

    name: str = "emulator"
    target: str = "sm_90"
    timing_target: str = "H100 SXM"
    timing_kind: TimingKind = TimingKind.PREDICTED
    timing_method: str = "prediction 1"
    facts: dict[str, float] = field(default_factory=lambda: {"multiprocessors": 132.0})


@pytest.fixture
def archive(tmp_path: Path) -> Iterator[Archive]:
    with open_archive(tmp_path / "archive.sqlite") as opened:
        yield opened


def a_run(archive: Archive, task: Task = SOFTMAX, *, number: int = 0, lookahead: int = 0) -> Run:
    run = Run(
        id=f"r-{number:012x}",
        task=task.name,
        task_digest=task.digest,
        models=("replay:a.sqlite",),
        device="emulator",
        strategy="islands",
        generations=20,
        population=2,
        seed=1,
        lookahead=lookahead,
    )
    archive.create_run(run, task)
    return run


def a_job(run: Run, iteration: int, operator: Operator, *parents: Candidate, inspirations: tuple[str, ...] = ()) -> Job:
    return Job(
        run=run.id,
        iteration=iteration,
        generation=0 if iteration == 0 else 1 + (iteration - 1) // run.population,
        operator=operator,
        parents=tuple(parent.id for parent in parents),
        model="replay:a.sqlite",
        island=None,
        seed=iteration,
        inspirations=inspirations,
    )


def evaluated(candidate: Candidate, task: Task, *, score_ns: float | None = None, error: str = "") -> Evaluation:
    """Passed with a time, did not compile with an error, or wrong."""
    built = not error
    case = Case(
        name="rows=1 cols=1 float32 normal",
        sizes={"rows": 1, "cols": 1},
        dtype="float32",
        distribution="normal",
        initialisation="none",
        seed=1,
        purpose=Purpose.BENCH,
    )
    outcome = Outcome.PASSED if score_ns is not None else Outcome.WRONG
    reason = None if score_ns is not None else "wrong value: output 0 [0, 0]: expected 1, got 2 (case rows=1 cols=1)"
    judged = CaseVerdict(
        case=case,
        outcome=outcome,
        error=None,
        error_l2=None,
        allowed=None,
        worst=None,
        reason=reason,
        findings=(),
        seconds=0.0,
    )
    timing = score_ns and Timing(
        kind=TimingKind.PREDICTED,
        device="emulator",
        target="H100 SXM",
        method="prediction 1",
        cases=(
            CaseTiming(
                case=case,
                samples_ns=(score_ns,),
                median_ns=score_ns,
                low_ns=score_ns,
                high_ns=score_ns,
                bottleneck=None,
                counters={},
            ),
        ),
        seconds=0.0,
    )
    return Evaluation(
        candidate=candidate.id,
        task=task.name,
        device="emulator",
        build=Build(
            candidate=candidate.id,
            target="sm_90",
            method=BuildMethod.SPLIT if built else None,
            fallback_reason=None,
            flags=(),
            compiler="nvcc 13.0",
            artifact=Path("a.so") if built else None,
            ptx=None,
            resources=(),
            diagnostics=() if built else (Diagnostic(severity="error", line=3, column=1, text=error, stage="device"),),
            cached=False,
            seconds=0.0,
        ),
        verdict=Verdict(
            outcome=outcome,
            reason=reason,
            cases=(judged,),
            output="",
            seconds=0.0,
            failed_in=None if score_ns else "smoke",
        )
        if built
        else None,
        timing=timing or None,
        timing_reason=None,
        stages=(),
    )


def tell(
    archive: Archive,
    job: Job,
    *,
    reply: str = "",
    rewrites: tuple[Rewrite, ...] = (),
    score_ns: float | None = None,
    error: str = "",
    task: Task = SOFTMAX,
    source: str = "",
) -> Candidate:
    """Records a decision, its reply and what came of it."""
    candidate = Candidate(
        source=source or f"// {job.run} {job.iteration}\n{task.seed_source}", entry=task.entry, parents=job.parents
    )
    prompt = Prompt(operator=job.operator, messages=(), parents=(), template="", seed=job.seed)
    text = reply or "code"
    answer = Reply(model=job.model, text=text, rewrites=rewrites, cost_usd=0.0, seconds=0.0, finish_reason="stop")
    if job.operator is not Operator.SEED:
        archive.record_reply(job, 0, prompt, answer)
    archive.record(job, candidate, evaluated(candidate, task, score_ns=score_ns, error=error))
    return candidate


def planned(plan: str) -> str:
    return f"PLAN: {plan}\n\n```cuda\n...\n```"


def test_children_of_a_parent_are_shown_with_what_they_won_or_why_they_failed(archive: Archive) -> None:
    run = a_run(archive)
    seed = tell(archive, a_job(run, 0, Operator.SEED), score_ns=60.0, source=SOFTMAX.seed_source or "")
    tell(archive, a_job(run, 1, Operator.OPTIMIZE, seed), reply=planned("two rows per block"), score_ns=80.0)
    best = tell(
        archive, a_job(run, 2, Operator.OPTIMIZE, seed), rewrites=(Rewrite(name="unroll", argument="4"),), score_ns=40.0
    )
    tell(archive, a_job(run, 3, Operator.OPTIMIZE, seed), reply=planned("Tensor cores."), error="no such thing")
    tell(archive, a_job(run, 4, Operator.OPTIMIZE, best), reply=planned("of another parent"), score_ns=39.0)
    job = a_job(run, 5, Operator.OPTIMIZE, seed)
    archive.record(replace(job, iteration=4 + 2, generation=3), None, None, reason="nothing of use")
    shown = gather(archive, SOFTMAX, job, Place()).siblings
    assert [(s.change, s.status, s.ratio, s.reason) for s in shown] == [
        ("unroll(4)", "passed", 1.5, ""),
        ("two rows per block", "passed", 0.75, ""),
        ("Tensor cores.", "build failed", None, "line 3: no such thing"),
    ]


def test_a_prompt_shows_what_its_decision_could_see_however_late_it_is_written(archive: Archive) -> None:
    run = a_run(archive, lookahead=1)
    seed = tell(archive, a_job(run, 0, Operator.SEED), score_ns=60.0)
    job = a_job(run, 5, Operator.OPTIMIZE, seed)  # of generation 3: it sees generations 0 and 1
    early = gather(archive, SOFTMAX, job, Place())
    assert early.siblings == ()
    for iteration in (1, 2, 3, 4, 6):
        tell(archive, a_job(run, iteration, Operator.OPTIMIZE, seed), reply=planned(f"plan {iteration}"), score_ns=50.0)
    assert {s.change for s in gather(archive, SOFTMAX, job, Place()).siblings} == {"plan 1", "plan 2"}


def test_an_explorer_is_told_each_strategy_once_and_the_least_tried_first(archive: Archive) -> None:
    run = a_run(archive)
    seed = tell(archive, a_job(run, 0, Operator.SEED), score_ns=60.0)
    for iteration, (plan, score) in enumerate(
        [("One warp per row", 30.0), ("online softmax", 40.0), ("one warp  per row.", 20.0), ("persistent grid", None)],
        1,
    ):
        tell(archive, a_job(run, iteration, Operator.EXPLORE, seed), reply=planned(plan), score_ns=score)
    tried = gather(archive, SOFTMAX, a_job(run, 5, Operator.EXPLORE, seed), Place()).tried
    assert [(t.plan, t.count, t.passed, t.best_ratio) for t in tried] == [
        ("online softmax", 1, 1, 1.5),
        ("persistent grid", 1, 0, None),
        ("One warp per row", 2, 2, 3.0),
    ]
    assert gather(archive, SOFTMAX, a_job(run, 5, Operator.OPTIMIZE, seed), Place()).tried == ()


@pytest.mark.parametrize(
    ("reply", "plan"),
    [
        ("PLAN: one warp per row\n```cuda\n```", "one warp per row"),
        ("Sure.\n\n**Plan:** one warp per row**\n", "one warp per row"),
        ("# plan : `one warp per row`", "one warp per row"),
        ("> PLAN: one warp per row\r\ncode", "one warp per row"),
        ("My plan is to win.\nint plan;\n", ""),
        ("PLAN:\n\ncode", ""),
        ("", ""),
    ],
)
def test_a_plan_is_read_from_the_line_that_a_reply_begins_with(reply: str, plan: str) -> None:
    assert plan_of(reply) == plan


@given(st.text(max_size=300))
def test_a_plan_is_one_line_whatever_a_reply_holds(text: str) -> None:
    assert "\n" not in plan_of(text)


def an_attempt(
    iteration: int,
    *changes: str,
    ratio: float | None = None,
    status: str = "passed",
    reason: str = "",
    operator: Operator = Operator.OPTIMIZE,
) -> Attempt:
    trial = Trial(
        iteration=iteration,
        generation=1,
        operator=operator,
        model="m",
        parents=("c-1",),
        told=True,
        candidate=f"c-{iteration}",
        score_ns=None,
        cost_usd=None,
    )
    ratios = {} if ratio is None else {"c-1": ratio}
    return Attempt(trial=trial, changes=changes, status=status, ratio=ratio, ratios=ratios, reason=reason)


def test_a_sibling_by_crossover_is_compared_with_the_parent_that_is_shown() -> None:
    slower = replace(an_attempt(3, "joined", ratio=1.05), ratios={"c-0": 1.05, "c-1": 0.98})
    slower = replace(slower, trial=replace(slower.trial, parents=("c-0", "c-1")))
    assert over_shown(slower, ("c-1",)) == 0.98
    assert over_shown(slower, ("c-0", "c-1")) == 1.05
    assert over_shown(slower, ("c-7",)) is None


def test_a_lesson_counts_what_won_and_lost_and_why_attempts_failed() -> None:
    wrong = "wrong value: output 0 [{}]: expected 0.25, got {} (case rows={})"
    history = [
        an_attempt(1, "vectorize(x width=4)", ratio=2.0),
        an_attempt(2, "vectorize(y width=2)", "unroll(4)", ratio=0.5),
        an_attempt(3, "vectorize(x width=2)", ratio=8.0),
        an_attempt(4, "unroll(2)", ratio=1.0),
        an_attempt(5, "warp_shuffle(sum)", status="wrong", reason=wrong.format("3, 17", "0.5", "3")),
        an_attempt(6, "warp_shuffle(max)", status="wrong", reason=wrong.format("0, 1", "-1e-3", "128")),
        an_attempt(7, "explore", status="no candidate", operator=Operator.EXPLORE),
    ]
    assert (
        summarise(SOFTMAX, history)
        == """softmax: 7 proposals: 4 passed, 2 wrong, 1 no candidate.
Largest single gain: 8.00x over its parent by vectorize(x width=2).
By operator, as the geometric mean of the parent's time over the child's:
- explore: 1 proposed, 0 correct
- optimize: 6 proposed, 4 correct, 1.68x, 2 of 4 faster
Changes that paid:
- vectorize: 3 proposed, 3 correct, 2.00x, 2 of 3 faster
Changes that cost:
- unroll: 2 proposed, 2 correct, 0.71x, 0 of 2 faster
Never correct:
- warp_shuffle: 2 proposed, 0 correct
- explore: 1 proposed, 0 correct
Why they failed:
- 2x wrong: wrong value: output N [...]: expected N, got N"""
    )


def test_a_lesson_without_times_has_no_ratio_in_it() -> None:
    history = [an_attempt(n, f"plan {n}", status="wrong", reason="wrong shape") for n in range(20)]
    assert not re.search(r"\d\.\d+x", summarise(SOFTMAX, history))
    assert "gain" not in summarise(SOFTMAX, history)
    assert "0 proposals" in summarise(SOFTMAX, [])


@given(st.lists(st.one_of(st.none(), st.floats(1e-3, 1e3)), max_size=20))
def test_the_mean_of_ratios_is_geometric_and_of_those_there_are(ratios: list[float | None]) -> None:
    known = [ratio for ratio in ratios if ratio is not None]
    mean = mean_ratio([an_attempt(n, "x", ratio=ratio) for n, ratio in enumerate(ratios)])
    if not known:
        assert mean is None
    else:
        assert mean is not None
        assert math.isclose(mean ** len(known), math.prod(known), rel_tol=1e-9)
        assert min(known) * 0.999 <= mean <= max(known) * 1.001


@pytest.mark.parametrize(
    ("one", "two"),
    [
        ('line 3: identifier "foo" is undefined', 'line 71: identifier "foo" is undefined'),
        ("race: at 0x10 (case rows=3)", "race: at 0x10 (case rows=128 cols=1)"),
        ("wrong: off by 0.5; 3 of 4 elements", "wrong: off by 1.25e-07; all 9 elements"),
    ],
)
def test_equal_mistakes_at_other_places_count_as_one(one: str, two: str) -> None:
    assert kind_of_failure(one) == kind_of_failure(two) != ""
    assert kind_of_failure('identifier "foo" is undefined') != kind_of_failure('identifier "bar4" is undefined')


def test_of_many_siblings_winners_losers_and_failures_are_all_among_those_shown() -> None:
    history = [an_attempt(n, f"won {n}", ratio=2.0 + n) for n in range(20)]
    history += [an_attempt(20 + n, f"lost {n}", ratio=0.1 + n / 100) for n in range(20)]
    history += [an_attempt(40 + n, f"failed {n}", status="wrong") for n in range(20)]
    shown = siblings(history, ("c-1",))
    assert [a.changes[0] for a in shown] == [
        *("won 19", "won 18", "won 17", "won 16", "lost 3", "lost 2", "lost 1", "lost 0"),
        *("failed 19", "failed 18", "failed 17", "failed 16"),
    ]
    assert len(siblings(history[:20], ("c-1",))) == len(siblings(history[40:], ("c-1",))) == SIBLINGS
    assert siblings(history, ("c-2",)) == []


def test_a_lesson_is_written_when_all_before_it_is_told_and_once(archive: Archive) -> None:
    run = a_run(archive)
    seed = tell(archive, a_job(run, 0, Operator.SEED), score_ns=60.0)
    told = {0}
    order = [*range(1, LESSON_EVERY - 1), LESSON_EVERY, LESSON_EVERY + 1]  # one is missing
    for iteration in order:
        tell(archive, a_job(run, iteration, Operator.OPTIMIZE, seed), score_ns=30.0)
        told.add(iteration)
        assert write_lesson(archive, SOFTMAX, run, told) is None
    missing = LESSON_EVERY - 1
    tell(archive, a_job(run, missing, Operator.OPTIMIZE, seed), score_ns=30.0)
    text = write_lesson(archive, SOFTMAX, run, told | {missing})
    assert text is not None and f"{LESSON_EVERY} proposals" in text  # not the one after it, nor the seed
    assert write_lesson(archive, SOFTMAX, run, told | {missing}) is None
    assert [(n.after_iteration, n.text) for n in archive.notes.lessons(run=run.id)] == [(LESSON_EVERY, text)]


def test_lessons_come_from_the_own_run_then_the_task_then_similar_tasks(archive: Archive) -> None:
    runs = [
        a_run(archive, load_task(name), number=n)
        for n, name in enumerate(("softmax", "softmax", "cross_entropy", "gelu"))
    ]
    seed = tell(archive, a_job(runs[0], 0, Operator.SEED), score_ns=60.0)
    for run in runs:
        archive.notes.write_lesson(run.id, after_iteration=4, text=f"of {run.id}, {run.task}")
    archive.notes.write_lesson(runs[0].id, after_iteration=90, text="later than this decision")
    job = a_job(runs[0], 7, Operator.OPTIMIZE, seed)
    shown = gather(archive, SOFTMAX, job, Place()).lessons
    assert [lesson.text for lesson in shown] == [f"of {run.id}, {run.task}" for run in runs[:3]]
    assert [lesson.task for lesson in shown] == ["softmax", "softmax", "cross_entropy"]


def test_verified_kernels_of_similar_tasks_are_examples_with_their_gain(archive: Archive) -> None:
    for number, (name, seed_ns, best_ns) in enumerate(
        [("layernorm", 60.0, 40.0), ("gelu", 60.0, 10.0), ("rmsnorm", 60.0, 20.0)]
    ):
        task = load_task(name)
        run = a_run(archive, task, number=number)
        seed = tell(archive, a_job(run, 0, Operator.SEED), task=task, source=task.seed_source or "", score_ns=seed_ns)
        tell(archive, a_job(run, 1, Operator.OPTIMIZE, seed), task=task, score_ns=best_ns)
        tell(archive, a_job(run, 2, Operator.OPTIMIZE, seed), task=task)  # wrong, and no example
    task = load_task("rmsnorm")
    shown = gather(archive, task, a_job(run, 3, Operator.TRANSLATE), Place()).examples
    assert [(example.task, example.ratio) for example in shown] == [("layernorm", 1.5)]
    assert shown[0].source.startswith("// r-000000000000 1\n")
    measured = Place(name="cuda", timing_kind=TimingKind.MEASURED)
    assert gather(archive, task, a_job(run, 3, Operator.TRANSLATE), measured).examples == ()


def test_hints_come_newest_first_and_inspirations_with_what_is_known_of_them(archive: Archive) -> None:
    run = a_run(archive)
    seed = tell(archive, a_job(run, 0, Operator.SEED), score_ns=60.0)
    other = tell(archive, a_job(run, 1, Operator.OPTIMIZE, seed), score_ns=30.0)
    archive.notes.write_hint(run.id, "first")
    archive.notes.write_hint(run.id, "second")
    material = gather(archive, SOFTMAX, a_job(run, 3, Operator.OPTIMIZE, seed, inspirations=(other.id,)), Place())
    assert material.hints == ("second", "first")
    assert material.inspirations[0].source == other.source
    assert material.evaluations.keys() == {seed.id, other.id}
    assert material.gpu is not None and material.gpu.facts == {"multiprocessors": 132.0}


@pytest.mark.parametrize("operator", [Operator.TRANSLATE, Operator.OPTIMIZE, Operator.EXPLORE, Operator.REPAIR])
def test_what_is_gathered_makes_a_prompt(archive: Archive, operator: Operator) -> None:
    run = a_run(archive)
    seed = tell(archive, a_job(run, 0, Operator.SEED), score_ns=60.0)
    tell(archive, a_job(run, 1, Operator.OPTIMIZE, seed), reply=planned("one warp per row"), score_ns=30.0)
    parents = () if operator is Operator.TRANSLATE else (seed,)
    job = a_job(run, 3, operator, *parents)
    material = gather(archive, SOFTMAX, job, Place())
    text = write_prompt(SOFTMAX, job, parents, target="sm_90", material=material).messages[1].text
    assert ("one warp per row: 2.00x" in text) == (operator is not Operator.TRANSLATE)


def test_tasks_are_similar_by_what_their_references_are_made_of() -> None:
    similar = {name: [other for other, _ in similar_tasks(load_task(name), REFERENCES)] for name in REFERENCES}
    assert similar["layernorm"] == ["rmsnorm_backward", "rmsnorm"]
    assert similar["softmax"] == ["cross_entropy"]
    assert similar["gelu"] == ["silu_mul"]
    assert similar["linear_relu"] == similar["depthwise_conv2d"] == []


@given(st.sampled_from(sorted(REFERENCES)), st.sampled_from(sorted(REFERENCES)))
def test_similarity_is_symmetric_and_whole_for_the_same_reference(one: str, two: str) -> None:
    def similarity(first: str, second: str) -> float:
        task = replace(SOFTMAX, name="", reference_source=REFERENCES[first])
        return dict(similar_tasks(task, {second: REFERENCES[second]})).get(second, 0.0)

    assert similarity(one, two) == similarity(two, one) <= similarity(one, one) == 1.0


@given(st.text(max_size=200))
def test_a_text_that_is_no_reference_has_parts_or_none_and_never_raises(text: str) -> None:
    assert isinstance(parts_of(text), frozenset)


def test_a_module_and_its_function_are_made_of_the_same() -> None:
    module = "class Model(nn.Module):\n    def __init__(self):\n        self.norm = nn.LayerNorm(8)\n"
    function = "def reference(x):\n    return F.layer_norm(x, (8,))\n"
    assert parts_of(module) == parts_of(function) != frozenset()


def test_attempts_of_a_run_that_has_none_are_none(archive: Archive) -> None:
    assert outcomes(archive, a_run(archive), before_iteration=9, before_generation=9) == []
