"""Small, whole records for the archive's tests."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from kernelevo.archive import Archive
from kernelevo.archive.answers import Tuned
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
    Price,
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


def unused(*_: object) -> None:
    raise NotImplementedError


def task(name: str = "rmsnorm", digest: str = "t-1") -> Task:
    return Task(
        name=name,
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
        folder=Path("tasks") / name,
        digest=digest,
    )


def run(identity: str = "r-000000000001", of: Task | None = None) -> Run:
    of = of or task()
    return Run(
        id=identity,
        task=of.name,
        task_digest=of.digest,
        models=("mutate", "anthropic:some-model"),
        device="emulator",
        strategy="islands",
        generations=4,
        population=2,
        seed=7,
    )


def job(iteration: int, *parents: str, of: str = "r-000000000001", **changes: object) -> Job:
    made = Job(
        run=of,
        iteration=iteration,
        generation=(iteration + 1) // 2,
        operator=Operator.OPTIMIZE if parents else Operator.SEED,
        parents=parents,
        model="mutate",
        island=iteration % 2,
        seed=1000 + iteration,
    )
    return replace(made, **changes)  # type: ignore[arg-type]


def candidate(number: int, *parents: str, rewrites: tuple[Rewrite, ...] = ()) -> Candidate:
    return Candidate(
        source=f'// {number}\nPYBIND11_MODULE(TORCH_EXTENSION_NAME, m) {{ m.def("forward", &forward); }}\n',
        entry="forward",
        parents=parents,
        rewrites=rewrites,
        tunables={"BLOCK": (64, 128), "UNROLL": (4,)},
    )


def prompt(*parents: Candidate, text: str = "Make it faster.") -> Prompt:
    messages = (Message(role="system", text="You write CUDA."), Message(role="user", text=text))
    return Prompt(operator=Operator.OPTIMIZE, messages=messages, parents=parents, template="optimize", seed=5)


def reply(text: str = "a kernel", **changes: object) -> Reply:
    made = Reply(model="mutate", text=text, seconds=0.5, finish_reason="stop", cost_usd=0.0)
    return replace(made, **changes)  # type: ignore[arg-type]


def case(name: str = "rows=127 cols=129", *, purpose: Purpose = Purpose.TEST, seed: int = 3) -> Case:
    return Case(
        name=name,
        sizes={"rows": 127, "cols": 129},
        dtype="float32",
        distribution="normal",
        initialisation="normal",
        seed=seed,
        purpose=purpose,
    )


def build(of: str, **changes: object) -> Build:
    made = Build(
        candidate=of,
        target="sm_90",
        method=BuildMethod.SPLIT,
        fallback_reason=None,
        flags=("-O3", "--std=c++17"),
        compiler="nvcc 13.0.88",
        artifact=Path("/cache/kernel.so"),
        ptx=Path("/cache/kernel.ptx"),
        resources=(
            KernelResources(
                kernel="_Z6kernelv",
                registers=32,
                shared_bytes=1024,
                local_bytes=0,
                spill_store_bytes=8,
                spill_load_bytes=12,
                constant_bytes=380,
            ),
        ),
        diagnostics=(Diagnostic(severity="warning", line=3, column=9, text="unused variable", stage="device"),),
        cached=False,
        seconds=0.7,
    )
    return replace(made, **changes)  # type: ignore[arg-type]


def passed(
    of: str,
    *,
    median_ns: float = 1000.0,
    kind: TimingKind = TimingKind.PREDICTED,
    method: str = "prediction 1",
    **changes: object,
) -> Evaluation:
    """An evaluation with every kind of detail."""
    hidden = case("rows=31 cols=7", purpose=Purpose.HIDDEN, seed=2**62 + 1)
    verdicts = tuple(
        CaseVerdict(
            case=judged,
            outcome=Outcome.PASSED,
            error=1e-7,
            error_l2=None,
            allowed=1e-5,
            worst=None,
            reason=None,
            findings=(Finding(kind="bad launch", text="grid of 0 blocks", kernel="_Z6kernelv", line=12),),
            seconds=0.01,
        )
        for judged in (case(), hidden)
    )
    timings = tuple(
        CaseTiming(
            case=case(f"rows={rows} cols=4096", purpose=Purpose.BENCH),
            samples_ns=(median_ns * factor, median_ns * factor + 1),
            median_ns=median_ns * factor,
            low_ns=median_ns * factor * 0.9,
            high_ns=median_ns * factor * 1.1,
            bottleneck=f"memory at {rows} rows",
            counters={"flops": 1e6, "load sectors": 4096.0},
        )
        for rows, factor in ((2048, 1.0), (4096, 4.0))
    )
    made = Evaluation(
        candidate=of,
        task="rmsnorm",
        device="emulator" if kind is TimingKind.PREDICTED else "cuda",
        build=build(of),
        verdict=Verdict(outcome=Outcome.PASSED, reason=None, cases=verdicts, output="hello\n", seconds=0.2),
        timing=Timing(
            kind=kind,
            device="emulator" if kind is TimingKind.PREDICTED else "NVIDIA H100 80GB HBM3",
            target="H100 SXM",
            method=method,
            cases=timings,
            seconds=0.1,
        ),
        timing_reason=None,
        stages=(
            Stage(name="build", outcome=StageOutcome.PASSED, seconds=0.7, text="40 registers"),
            Stage(name="correctness", outcome=StageOutcome.PASSED, seconds=0.2),
            Stage(name="measure", outcome=StageOutcome.SKIPPED, seconds=0.1, text="not asked for"),
        ),
    )
    return replace(made, **changes)  # type: ignore[arg-type]


def wrong(of: str) -> Evaluation:
    verdict = passed(of).verdict
    assert verdict is not None
    failed = replace(verdict.cases[1], outcome=Outcome.WRONG, worst="output 0 [3]: expected 1, got 2", reason="differs")
    verdict = replace(
        verdict, outcome=Outcome.WRONG, reason="rows=31 cols=7: differs", cases=(verdict.cases[0], failed)
    )
    return passed(of, verdict=verdict, timing=None)


def unbuildable(of: str) -> Evaluation:
    error = Diagnostic(severity="error", line=2, column=None, text='identifier "y" is undefined', stage="device")
    failed = build(of, method=None, artifact=None, ptx=None, resources=(), diagnostics=(error,))
    return passed(
        of,
        build=failed,
        verdict=None,
        timing=None,
        stages=(Stage(name="build", outcome=StageOutcome.FAILED, seconds=0.7),),
    )


def fill_everything(archive: Archive) -> None:
    """At least one row in every table."""
    job_of_judge = job(1, candidate(0).id, inspirations=(candidate(0).id,), temperature=0.5)
    archive.create_run(replace(run(), judges=("anthropic:judge",), lookahead=1), task())
    archive.ledger.agree(
        run().id, prices={"m": Price(input_usd=1.0, cached_usd=0.1, output_usd=4.0)}, limits={"usd": 5.0}
    )
    seed = candidate(0)
    archive.record(job(0), seed, passed(seed.id))
    archive.record_job(job_of_judge)
    archive.leases.take(job_of_judge, holder="ada", seconds=60)
    archive.ledger.fail(
        archive.ledger.begin(job_of_judge, "m"), FailedCall(model="m", kind="timeout", text="too long", seconds=2.0)
    )
    call = archive.ledger.begin(job_of_judge, "m")
    made = (Rewrite(name="vectorize", argument="x width=4"),)
    answer = reply("a kernel", rewrites=made, input_tokens=9, cached_tokens=4, output_tokens=5, reasoning_tokens=2)
    archive.record_reply(job_of_judge, 0, prompt(seed), answer, call=call)
    child = candidate(1, seed.id, rewrites=made)
    judgement = Judgement(
        candidate=child.id,
        judge="compiles",
        vote=1,
        reply=reply("yes", model="m", cost_usd=0.125),
        accepts=True,
        confidence=0.75,
        reason="it looks right",
    )
    archive.ledger.judged_by(archive.ledger.begin(job_of_judge, "m", purpose="judge"), child, judgement)
    gate = Gate(
        candidate=child.id,
        features={"lines": 3.5},
        probability=0.25,
        threshold=0.2,
        method="label model 1",
        reason="one judge",
        decision=Decision.EVALUATE,
    )
    archive.ledger.decide(job_of_judge, child, gate)
    behaviour = Behaviour(limited_by="memory", technique="vector loads")
    found = passed(
        child.id, source_key="s-1", kernel_key="k-1", shared_from=seed.id, behaviour=behaviour, timing_reason="none"
    )
    archive.record(job_of_judge, child, found)
    archive.record(job(2, child.id, seed.id), None, None, reason="no kernel")
    archive.notes.write_tuning(
        job(2, child.id), [Tuned(configuration="BLOCK=64", cases=2, score_ns=9.5, reason="it was not the best")]
    )
    archive.notes.write_hint(run().id, "use float4")
    archive.notes.write_lesson(run().id, after_iteration=2, text="wider is better")
    archive.finish_run(run().id, status="stopped", reason="told to")
    archive.record_evaluation(task(), candidate(9), unbuildable(candidate(9).id))
