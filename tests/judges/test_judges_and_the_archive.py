"""Votes, decisions and outcomes through a real archive: what is learned and reported from it is what happened."""

from __future__ import annotations

import random
from pathlib import Path

from judged_examples import ScriptedModel, says

from kernelevo.archive import open_archive
from kernelevo.judges import consult
from kernelevo.judges.combine import LabelModel, Regression, Weights, learn
from kernelevo.judges.facts import source_facts
from kernelevo.judges.gate import gate
from kernelevo.judges.report import ALL_TOGETHER, calibration, savings
from kernelevo.records import (
    Build,
    Candidate,
    Decision,
    Evaluation,
    Job,
    Judged,
    Operator,
    Outcome,
    Prompt,
    Run,
    Stage,
    StageOutcome,
    Verdict,
)
from kernelevo.tasks import load_task

JOBS = 150
LEARN_EVERY = 25  # jobs
EVALUATION_SECONDS = 12.5


def evaluation(candidate: Candidate, *, outcome: Outcome | None) -> Evaluation:
    """outcome: None when the build fails."""
    return Evaluation(
        candidate=candidate.id,
        task="softmax",
        device="emulator",
        build=Build(
            candidate=candidate.id,
            target="sm_90",
            method=None,
            fallback_reason=None,
            flags=(),
            compiler="nvcc",
            artifact=None,
            ptx=None,
            resources=(),
            diagnostics=(),
            cached=False,
            seconds=0.5,
        ),
        verdict=outcome and Verdict(outcome=outcome, reason=None, cases=(), output="", seconds=1.0),
        timing=None,
        timing_reason="not asked for",
        stages=(Stage(name="build", outcome=StageOutcome.PASSED, seconds=EVALUATION_SECONDS),),
    )


def test_a_run_of_judged_candidates_learns_and_reports_from_what_the_archive_holds(tmp_path: Path) -> None:
    """Judges that are right 7 times in 10; two of three candidates fail, a third of those already in the build."""
    task = load_task("softmax")
    run = Run(
        id="r-000000000001",
        task=task.name,
        task_digest=task.digest,
        models=("writer",),
        device="emulator",
        strategy="islands",
        generations=JOBS,
        population=1,
        seed=3,
    )
    rng = random.Random(5)
    passes = False

    def words(prompt: Prompt) -> str:
        return says(passes if rng.random() < 0.7 else not passes, rng.choice([0.6, 0.9]))(prompt)

    kept: list[Judged] = []
    methods = []
    weights: Weights = learn([])
    with open_archive(tmp_path / "archive.sqlite") as archive:
        archive.create_run(run, task)
        for iteration in range(JOBS):
            passes = rng.random() < 1 / 3
            job = archive.record_job(
                Job(
                    run=run.id,
                    iteration=iteration,
                    generation=iteration,
                    operator=Operator.TRANSLATE,
                    parents=(),
                    model="writer",
                    island=None,
                    seed=iteration,
                )
            )
            candidate = Candidate(source=f"int number_{iteration};\n{task.seed_source}", entry="forward")
            if iteration % LEARN_EVERY == 0:
                weights = learn(archive.ledger.judged(task, "emulator"))
            votes = []
            model = ScriptedModel("judge", words)
            for judgement in consult(task, candidate, [model], target="H100 SXM", seed=job.seed):
                archive.ledger.judged_by(archive.ledger.begin(job, model.name, purpose="judge"), candidate, judgement)
                votes.append(judgement)
            decided = gate(candidate.id, votes, source_facts(candidate.source), weights, threshold=0.2, rng=rng)
            archive.ledger.decide(job, candidate, decided)
            methods.append(decided.method)
            found = None
            if decided.decision is not Decision.DEFER:
                failure = None if rng.random() < 1 / 3 else Outcome.WRONG
                found = evaluation(candidate, outcome=Outcome.PASSED if passes else failure)
            archive.record(job, candidate, found, reason=None if found else "refused by the judges")
            kept.append(
                Judged(
                    candidate=candidate.id,
                    judgements=tuple(votes),
                    gate=decided,
                    status=found.status if found else None,
                    evaluation_seconds=EVALUATION_SECONDS if found else None,
                )
            )
            assert archive.ledger.gate(run.id, iteration) == decided
        stored = archive.ledger.judged(task, "emulator")

    assert stored == tuple(kept)
    assert methods[0] == "label model 1"
    assert methods[-1] == "logistic regression 1"
    assert isinstance(learn(stored[:40]), LabelModel)
    assert isinstance(learn(stored), Regression)
    rows = {row.judge: row for row in calibration(stored)}
    assert set(rows) == {"compiles", "memory", "numerics", ALL_TOGETHER}
    assert rows[ALL_TOGETHER].votes == JOBS
    saved = savings(stored)
    assert saved.judged == JOBS
    assert saved.avoided == JOBS - sum(entry.status is not None for entry in kept) > JOBS / 5
    assert saved.mean_evaluation_seconds == EVALUATION_SECONDS
    evaluated = [entry for entry in stored if entry.gate and entry.gate.decision is Decision.EVALUATE]
    assert sum(entry.status == "passed" for entry in evaluated) / len(evaluated) > 0.5  # and 1/3 without judges
