"""Runs to report on, recorded in a moment: nothing is built or run.

a_run(archive, 13)            -> a run with candidates of every outcome
a_run(archive, 13, evil=EVIL) -> the same with a text wherever candidates, models and compilers write one
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from kernelevo.archive import Archive
from kernelevo.archive.answers import Tuned
from kernelevo.emulator.predict import load_gpu
from kernelevo.records import (
    Behaviour,
    Build,
    BuildMethod,
    Candidate,
    Case,
    CaseTiming,
    CaseVerdict,
    Decision,
    Diagnostic,
    Evaluation,
    FailedCall,
    Finding,
    Gate,
    Job,
    Judgement,
    KernelResources,
    Message,
    Operator,
    Outcome,
    Prompt,
    Purpose,
    Reply,
    Rewrite,
    Run,
    Stage,
    StageOutcome,
    Task,
    Timing,
    TimingKind,
    Verdict,
)
from kernelevo.report import Roof, roof_of

PAID = "openai:big"
EVIL = (
    "</script><script>window.harmed = 1</script><img src=x onerror='window.harmed = 2'>"
    "<!-- <style>body{display:none}</style> {{ 7 * 7 }} %{x} <a href='https://evil.invalid/'>here</a> \" ' & $x$"
)
LIMITS = ("memory", "compute", "latency")
TECHNIQUES = ("plain", "warp shuffles", "vectorised access")


def roofs() -> tuple[Roof, ...]:
    """Of the GPUs that times are predicted for."""
    gpu = load_gpu()
    return (roof_of(gpu.title, gpu.constants),)


def unused(*_: object) -> None:
    raise NotImplementedError


def a_task() -> Task:
    return Task(
        name="rmsnorm",
        title="Root mean square normalisation",
        description="y = x / rms(x) * weight",
        signature="forward(x: Tensor[rows, cols], weight: Tensor[cols]) -> Tensor[rows, cols]",
        entry="forward",
        dtypes=("float32",),
        cases=(),
        hidden_sizes={"rows": (1, 100)},
        distributions=("normal",),
        initialisations=("normal",),
        tolerance_factor=4.0,
        library_calls="forbid",
        reference=unused,
        inputs=unused,
        compare=None,
        seed_source=None,
        hints=(),
        folder=Path("tasks") / "rmsnorm",
        digest="t-1",
    )


def a_run(
    archive: Archive,
    candidates: int,
    *,
    identity: str = "r-00000000000a",
    models: tuple[str, ...] = ("mutate", PAID),
    kind: TimingKind = TimingKind.PREDICTED,
    evil: str = "",
    lines: int = 40,
) -> Run:
    """A run of the task's own kernel and what came of it. Of ten candidates, three do not pass.

    lines: of each source. models: the second one costs dollars, and one of its replies an unknown sum.
    """
    task = a_task()
    run = Run(
        id=identity,
        task=task.name,
        task_digest=task.digest,
        models=models,
        device="emulator" if kind is TimingKind.PREDICTED else "cuda",
        strategy="islands",
        generations=max(1, candidates // 4),
        population=4,
        seed=7,
        judges=("openai:judge",) if len(models) > 1 else (),
    )
    archive.create_run(run, task)
    made: list[Candidate] = []
    for number in range(candidates):
        parents = parents_of(number)
        rewrites = (Rewrite(name=f"vectorize{evil}", argument=f"x width={number % 4 + 1}"),) if number else ()
        candidate = Candidate(
            source=source_of(number, lines=lines, evil=evil),
            entry="forward",
            parents=tuple(made[p].id for p in parents),
            rewrites=rewrites,
            tunables={"BLOCK": (64, 128)} if number % 5 == 1 else {},
        )
        made.append(candidate)
        job = Job(
            run=run.id,
            iteration=number,
            generation=(number + 3) // 4,
            operator=operator_of(number),
            parents=candidate.parents,
            model=models[number % len(models)],
            island=number % 2 if number else None,
            seed=number,
            inspirations=(made[0].id,) if number > 4 else (),
        )
        if number:
            propose(archive, job, candidate, rewrites, evil=evil, paid=len(models) > 1 and job.model == models[1])
        archive.record(job, candidate, evaluated(candidate, number, kind=kind, evil=evil))
    archive.finish_run(run.id)
    return run


def more_of(archive: Archive, run: Run, *, evil: str = "") -> None:
    """Three more iterations: one without a candidate, one that tunes the newest, and one that is not told yet."""
    done = max(archive.told(run.id))
    newest = archive.candidate(archive.scored(run.id)[-1].candidate, run=run.id)

    def job(number: int, operator: Operator) -> Job:
        generation = (number + 3) // 4
        return Job(
            run=run.id,
            iteration=number,
            generation=generation,
            operator=operator,
            parents=(newest.id,),
            model="mutate",
            island=0,
            seed=number,
        )

    archive.record(job(done + 1, Operator.REPAIR), None, None, reason=f"no rewrite applies {evil}")
    tune = job(done + 2, Operator.TUNE)
    archive.record_job(tune)
    tried = [Tuned(configuration=f"BLOCK=64{evil}", cases=2, score_ns=5e3, reason=None)]
    archive.notes.write_tuning(tune, [*tried, Tuned(configuration="BLOCK=99", cases=0, score_ns=None, reason="odd")])
    tuned = replace(
        newest,
        source=newest.source.replace("x[", "x [", 1),
        parents=(newest.id,),
        rewrites=(*newest.rewrites, Rewrite(name="tunable", argument="BLOCK=64")),
    )
    archive.record(tune, tuned, evaluated(tuned, 1, kind=TimingKind.PREDICTED, evil=evil))
    archive.record_job(job(done + 3, Operator.OPTIMIZE))
    archive.notes.write_hint(run.id, f"mind the last row {evil}")


def propose(
    archive: Archive, job: Job, candidate: Candidate, rewrites: tuple[Rewrite, ...], *, evil: str, paid: bool
) -> None:
    """The request, its reply and, of a paid model, a failed call before and a judge after it."""
    prompt = Prompt(
        operator=job.operator,
        messages=(Message(role="user", text="Faster."),),
        parents=(),
        template="optimize",
        seed=job.seed,
    )
    if not paid:
        reply = Reply(model=job.model, text="", rewrites=rewrites, cost_usd=0.0, seconds=0.01, finish_reason="stop")
        archive.record_reply(job, 0, prompt, reply)
        return
    archive.record_job(job)
    failed = archive.ledger.begin(job, job.model)
    archive.ledger.fail(
        failed, FailedCall(model=job.model, kind="timeout", text=f"slow {evil}", cost_usd=0.0, seconds=2.0)
    )
    reply = Reply(
        model=job.model,
        text=f"PLAN: use wider loads {evil}\n```cuda\n...```",
        input_tokens=1000,
        output_tokens=500,
        cost_usd=None if job.iteration == 5 else 0.01,
        seconds=3.0,
        finish_reason=f"stop{evil}",
    )
    archive.record_reply(job, 0, prompt, reply, call=archive.ledger.begin(job, job.model))
    call = archive.ledger.begin(job, "openai:judge", purpose="judge")
    said = replace(reply, model="openai:judge", text="yes", cost_usd=0.001, seconds=1.0)
    judgement = Judgement(
        candidate=candidate.id,
        judge="numerics",
        vote=0,
        reply=said,
        accepts=True,
        confidence=0.8,
        reason=f"fine {evil}",
    )
    archive.ledger.judged_by(call, candidate, judgement)
    gate = Gate(
        candidate=candidate.id,
        features={},
        probability=0.8,
        threshold=0.5,
        method="mean 1",
        reason="fine",
        decision=Decision.EVALUATE,
    )
    archive.ledger.decide(job, candidate, gate)


def parents_of(number: int) -> tuple[int, ...]:
    if number == 0:
        return ()
    first = (number - 1) // 3
    return (first, number // 2) if number % 6 == 5 else (first,)


def operator_of(number: int) -> Operator:
    if number == 0:
        return Operator.SEED
    if number % 6 == 5:
        return Operator.CROSSOVER
    return (Operator.OPTIMIZE, Operator.EXPLORE, Operator.SIMPLIFY)[number % 3]


def source_of(number: int, *, lines: int, evil: str) -> str:
    body = "".join(f"    float v{i} = x[{i * (1 + number % 3)}] * {number}.0f; // step {i}\n" for i in range(lines))
    return (
        f"#include <torch/extension.h>\n// candidate {number} µ 😀 {evil}\n"
        f'__global__ void rmsnorm_kernel(const float* x, float* y) {{\n{body}    printf("{number}");\n}}\n'
        'PYBIND11_MODULE(TORCH_EXTENSION_NAME, m) { m.def("forward", &forward); }\n'
    )


def evaluated(candidate: Candidate, number: int, *, kind: TimingKind, evil: str) -> Evaluation:
    """What came of it; its time falls slowly with its number."""
    case = Case(
        name=f"rows=127 cols=129 float32 {evil}".strip(),
        sizes={"rows": 127, "cols": 129},
        dtype="float32",
        distribution="normal",
        initialisation="normal",
        seed=3,
        purpose=Purpose.TEST,
    )
    outcome = {3: Outcome.WRONG, 7: Outcome.CRASHED, 8: Outcome.UNSUPPORTED, 9: None}.get(number % 10, Outcome.PASSED)
    finding = Finding(kind="out of bounds", text=f"reads past x {evil}", kernel="k", line=4)
    verdict = Verdict(
        outcome=outcome or Outcome.PASSED,
        reason=None if outcome is Outcome.PASSED else f"differs at 3 {evil}",
        cases=(
            CaseVerdict(
                case=case,
                outcome=outcome or Outcome.PASSED,
                error=1e-7,
                error_l2=None,
                allowed=1e-5,
                worst=None,
                reason=None if outcome is Outcome.PASSED else f"differs {evil}",
                findings=(finding,) if outcome is Outcome.CRASHED else (),
                seconds=0.01,
            ),
        ),
        output=f"hello {evil}",
        seconds=0.2,
        failed_in=None if outcome is Outcome.PASSED else "correctness",
    )
    passed = outcome is Outcome.PASSED
    names = ("build", "correctness", "measure") if passed else ("build", "correctness")[: 1 if outcome is None else 2]
    error = Diagnostic(severity="error", line=2, column=None, text=f'identifier "y" {evil}', stage="device")
    return Evaluation(
        candidate=candidate.id,
        task="rmsnorm",
        device="emulator" if kind is TimingKind.PREDICTED else "cuda",
        build=Build(
            candidate=candidate.id,
            target="sm_90",
            method=BuildMethod.SPLIT if outcome else None,
            fallback_reason=None,
            flags=("-O3",),
            compiler=f"nvcc 13.0.88{evil}",
            artifact=Path("/cache/kernel.so") if outcome else None,
            ptx=None,
            resources=(
                KernelResources(
                    kernel="_Z6kernelv",
                    registers=32,
                    shared_bytes=0,
                    local_bytes=0,
                    spill_store_bytes=0,
                    spill_load_bytes=0,
                    constant_bytes=0,
                ),
            ),
            diagnostics=() if outcome else (error,),
            cached=False,
            seconds=1.5,
        ),
        verdict=verdict if outcome else None,
        timing=timed(number, kind=kind, evil=evil) if passed else None,
        timing_reason=None,
        stages=tuple(
            Stage(
                name=name,
                outcome=StageOutcome.FAILED if not passed and name == names[-1] else StageOutcome.PASSED,
                seconds=1.5,
                text=f"found {evil}",
            )
            for name in names
        ),
        behaviour=Behaviour(limited_by=LIMITS[number % 3], technique=TECHNIQUES[number % 2]) if passed else None,
    )


def timed(number: int, *, kind: TimingKind, evil: str) -> Timing:
    base = 20_000.0 - 40.0 * (number % 200) - number
    counted = {"flops": 1e7, "unique_read_bytes": 3e6, "unique_write_bytes": 3e6, "launches": 1.0}
    return Timing(
        kind=kind,
        device="emulator" if kind is TimingKind.PREDICTED else "NVIDIA H100 80GB HBM3",
        target="H100 SXM",
        method="prediction 2" if kind is TimingKind.PREDICTED else "protocol 1",
        cases=tuple(
            CaseTiming(
                case=Case(
                    name=f"rows=2048 cols={cols} float32",
                    sizes={"rows": 2048, "cols": cols},
                    dtype="float32",
                    distribution="normal",
                    initialisation="normal",
                    seed=3,
                    purpose=Purpose.BENCH,
                ),
                samples_ns=(base * cols / 1024,),
                median_ns=base * cols / 1024,
                low_ns=base * cols / 1536,
                high_ns=base * cols / 700,
                bottleneck=f"bound by DRAM bandwidth {evil}",
                counters=counted if kind is TimingKind.PREDICTED else {"floor_ns": 100.0},
            )
            for cols in (1024, 4096)
        ),
        seconds=0.1,
    )
