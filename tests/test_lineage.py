"""The lineage hash: equal for repetitions of a run, and different as soon as one decision or outcome is."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest

from kernelevo.archive import Archive, open_archive
from kernelevo.errors import UsageError
from kernelevo.lineage import first_difference, lineage_hash
from kernelevo.records import (
    Build,
    BuildMethod,
    Candidate,
    Evaluation,
    Job,
    Message,
    Operator,
    Outcome,
    Prompt,
    Reply,
    Run,
    Task,
    Verdict,
)


def unused(*_: object) -> None:
    raise NotImplementedError


TASK = Task(
    name="gelu", title="", description="", signature="", entry="forward", dtypes=(), cases=(), hidden_sizes={},
    distributions=(), initialisations=(), tolerance_factor=1.0, library_calls="forbid", reference=unused, inputs=unused,
    compare=None, seed_source=None, hints=(), folder=Path(), digest="t-1",
)  # fmt: skip
SEED = Candidate(source="seed", entry="forward")
CHILD = Candidate(source="child", entry="forward", parents=(SEED.id,))
OTHER = Candidate(source="other", entry="forward", parents=(SEED.id,))
JOB = Job(
    run="r-0", iteration=1, generation=1, operator=Operator.OPTIMIZE, parents=(SEED.id,), model="mutate", island=0,
    seed=1,
)  # fmt: skip


@pytest.fixture
def archive(tmp_path: Path) -> Iterator[Archive]:
    times = iter(range(10**6))
    with open_archive(tmp_path / "a.sqlite", clock=lambda: datetime.fromtimestamp(next(times), UTC)) as opened:
        yield opened


def evaluation(candidate: Candidate, outcome: Outcome = Outcome.PASSED, *, seconds: float = 1.0) -> Evaluation:
    build = Build(
        candidate=candidate.id, target="sm_90", method=BuildMethod.SPLIT, fallback_reason=None, flags=(), compiler="",
        artifact=Path("/x"), ptx=None, resources=(), diagnostics=(), cached=False, seconds=seconds,
    )  # fmt: skip
    verdict = Verdict(outcome=outcome, reason=None, cases=(), output="", seconds=seconds)
    return Evaluation(
        candidate=candidate.id, task="gelu", device="emulator", build=build, verdict=verdict, timing=None,
        timing_reason=None, stages=(),
    )  # fmt: skip


def recorded(
    archive: Archive,
    name: str,
    *,
    job: Job = JOB,
    candidate: Candidate | None = CHILD,
    outcome: Outcome | None = Outcome.PASSED,
    reason: str | None = None,
    seconds: float = 1.0,
    last: bool = True,
) -> str:
    """A run of three iterations, the second as given, and its id. Without `last`: of two, the last one untold."""
    run = Run(
        id=f"r-{name}", task="gelu", task_digest="t-1", models=("mutate",), device="emulator", strategy="islands",
        generations=1, population=2, seed=0,
    )  # fmt: skip
    archive.create_run(run, TASK)
    first = replace(JOB, run=run.id, iteration=0, generation=0, operator=Operator.SEED, parents=())
    archive.record(first, SEED, evaluation(SEED, seconds=seconds))
    archive.record_job(replace(job, run=run.id))
    prompt = Prompt(operator=job.operator, messages=(Message(role="user", text="?"),), parents=(), template="t", seed=0)
    reply = Reply(model=job.model, text="!", cost_usd=seconds, seconds=seconds, finish_reason="stop")
    archive.record_reply(replace(job, run=run.id), 0, prompt, reply)
    if last:
        judged = candidate and outcome and evaluation(candidate, outcome, seconds=seconds)
        archive.record(replace(job, run=run.id), candidate, judged, reason=reason)
        again = replace(JOB, run=run.id, iteration=2)
        archive.record(again, None, None, reason="the reply holds no kernel")
    return run.id


def test_a_repetition_has_the_same_hash_whatever_its_id_and_how_long_it_took(archive: Archive) -> None:
    runs = [recorded(archive, "a"), recorded(archive, "b", seconds=9.0)]
    assert lineage_hash(archive, runs[0]) == lineage_hash(archive, runs[1])
    assert lineage_hash(archive, runs[0]).startswith("l-")
    assert first_difference(archive, *runs) is None


@pytest.mark.parametrize(
    ("change", "difference"),
    [
        ({"job": replace(JOB, operator=Operator.EXPLORE)}, "iteration 1: operator: optimize and explore"),
        ({"job": replace(JOB, parents=())}, f"iteration 1: parents: {SEED.id} and none"),
        ({"job": replace(JOB, inspirations=(SEED.id,))}, f"iteration 1: inspirations: none and {SEED.id}"),
        ({"job": replace(JOB, model="replay")}, "iteration 1: model: mutate and replay"),
        ({"candidate": OTHER}, f"iteration 1: candidate: {CHILD.id} and {OTHER.id}"),
        ({"candidate": None, "reason": "no kernel"}, f"iteration 1: candidate: {CHILD.id} and none"),
        ({"outcome": Outcome.WRONG}, "iteration 1: status: passed and wrong"),
        ({"outcome": None, "reason": "refused"}, "iteration 1: status: passed and not evaluated"),
        ({"last": False}, "iteration 1 is in one of them only"),
    ],
)
def test_any_other_decision_or_outcome_changes_the_hash(
    archive: Archive, change: dict[str, object], difference: str
) -> None:
    runs = recorded(archive, "a"), recorded(archive, "b", **change)  # type: ignore[arg-type]
    assert lineage_hash(archive, runs[0]) != lineage_hash(archive, runs[1])
    assert first_difference(archive, *runs) == difference


def test_parents_and_inspirations_are_not_taken_for_each_other(archive: Archive) -> None:
    one = recorded(archive, "a", job=replace(JOB, parents=(SEED.id,), inspirations=()))
    other = recorded(archive, "b", job=replace(JOB, parents=(), inspirations=(SEED.id,)))
    assert lineage_hash(archive, one) != lineage_hash(archive, other)


def test_the_order_of_parents_counts(archive: Archive) -> None:
    recorded(archive, "f", candidate=OTHER)
    recorded(archive, "e")
    one = recorded(archive, "a", job=replace(JOB, parents=(CHILD.id, OTHER.id)))
    other = recorded(archive, "b", job=replace(JOB, parents=(OTHER.id, CHILD.id)))
    assert lineage_hash(archive, one) != lineage_hash(archive, other)


def test_a_run_that_went_further_differs_where_the_other_ends(archive: Archive) -> None:
    one, other = recorded(archive, "a"), recorded(archive, "b")
    further = replace(JOB, run=other, iteration=3, generation=2)
    archive.record_job(further)
    assert lineage_hash(archive, one) == lineage_hash(archive, other), "what nothing came of is no part of it"
    archive.record(further, None, None, reason="no kernel")
    assert lineage_hash(archive, one) != lineage_hash(archive, other)
    assert first_difference(archive, one, other) == "iteration 3 is in one of them only"
    assert first_difference(archive, other, one) == "iteration 3 is in one of them only"


def test_the_words_of_a_reason_do_not_count(archive: Archive) -> None:
    one = recorded(archive, "a", candidate=None, reason="rate limited, retry after 3.1 s")
    other = recorded(archive, "b", candidate=None, reason="rate limited, retry after 2.9 s")
    assert lineage_hash(archive, one) == lineage_hash(archive, other)


def test_an_unknown_run_has_no_lineage(archive: Archive) -> None:
    with pytest.raises(UsageError, match="no run"):
        lineage_hash(archive, "r-123")
