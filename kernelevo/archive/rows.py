"""Record <-> rows, in both directions and nothing else.

`*_rows` give rows as a mapping from table to a list of dictionaries, in an order that foreign keys accept;
`insert` writes such a mapping. `read_*` rebuild the records. Rows whose key is a content hash are written once.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, Select, bindparam, func, select

from kernelevo.archive import tables as t
from kernelevo.records import (
    Behaviour,
    Build,
    BuildMethod,
    Candidate,
    Case,
    CaseTiming,
    CaseVerdict,
    Diagnostic,
    Evaluation,
    Finding,
    Job,
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
    digest,
)

Row = dict[str, Any]
Rows = Mapping[type[t.Base], Sequence[Row]]

STORED_ONCE = (t.Tasks, t.Messages, t.Sources, t.Candidates, t.Tunables, t.Cases, t.CaseSizes)


def insert(connection: Connection, rows: Rows) -> None:
    """Writes all rows, table by table. Rows that are stored once are skipped where they exist."""
    statements = insert_statements(connection.dialect.name)
    for table, values in rows.items():
        if values:
            connection.execute(statements[table], list(values))


def following(connection: Connection, last: Select[int]) -> int:
    """The next number of a table. Safe, because writers hold the write lock from the start of a transaction."""
    return (connection.execute(last).scalar() or 0) + 1


@cache
def insert_statements(dialect: str) -> Mapping[type[t.Base], Any]:
    insert_into = import_module(f"sqlalchemy.dialects.{dialect}").insert
    statements = {}
    for mapper in t.Base.registry.mappers:
        statement = insert_into(mapper.local_table)
        once = mapper.class_ in STORED_ONCE
        statements[mapper.class_] = statement.on_conflict_do_nothing() if once else statement
    return statements


# --- what was asked -------------------------------------------------------------------------------------------------


def task_row(task: Task) -> Row:
    return {
        "name": task.name,
        "digest": task.digest,
        "title": task.title,
        "signature": task.signature,
        "description": task.description,
    }


def run_rows(run: Run, *, task_id: int, status: str, now: str) -> Rows:
    row = {
        "id": run.id,
        "task_id": task_id,
        "device": run.device,
        "strategy": run.strategy,
        "generations": run.generations,
        "population": run.population,
        "seed": run.seed,
        "status": status,
        "started_at": now,
        "ended_at": None,
        "lookahead": run.lookahead,
        "replay_of": run.replay_of,
        "stop_reason": None,
    }
    asked = [*((model, "propose") for model in run.models), *((judge, "judge") for judge in run.judges)]
    models = [
        {"run_id": run.id, "position": i, "model": model, "purpose": purpose}
        for i, (model, purpose) in enumerate(asked)
    ]
    return {t.Runs: [row], t.RunModels: models}


def read_runs(connection: Connection, *conditions: Any) -> list[tuple[Run, Any]]:
    """Runs that meet the conditions, oldest first, each with its row (status, started_at, ended_at)."""
    query = select(t.Runs.__table__, t.Tasks.name, t.Tasks.digest).join(t.Tasks).where(*conditions)
    rows = connection.execute(query.order_by(t.Runs.started_at, t.Runs.id)).all()
    models = grouped(
        connection.execute(
            select(t.RunModels.run_id, t.RunModels.model, t.RunModels.purpose)
            .where(t.RunModels.run_id.in_([row.id for row in rows]))
            .order_by(t.RunModels.position)
        )
    )
    return [
        (
            Run(
                id=row.id,
                task=row.name,
                task_digest=row.digest,
                models=tuple(model for model, purpose in models[row.id] if purpose == "propose"),
                device=row.device,
                strategy=row.strategy,
                generations=row.generations,
                population=row.population,
                seed=row.seed,
                lookahead=row.lookahead,
                replay_of=row.replay_of,
                judges=tuple(model for model, purpose in models[row.id] if purpose == "judge"),
            ),
            row,
        )
        for row in rows
    ]


def job_rows(job: Job, *, now: str) -> Rows:
    row = {
        "run_id": job.run,
        "iteration": job.iteration,
        "generation": job.generation,
        "operator": job.operator.value,
        "model": job.model,
        "island": job.island,
        "seed": job.seed,
        "asked_at": now,
        "temperature": job.temperature,
    }
    at = {"run_id": job.run, "iteration": job.iteration}
    return {
        t.Jobs: [row],
        t.JobParents: [{**at, "position": i, "parent_id": parent} for i, parent in enumerate(job.parents)],
        t.JobInspirations: [{**at, "position": i, "candidate_id": shown} for i, shown in enumerate(job.inspirations)],
    }


def read_jobs(connection: Connection, *conditions: Any) -> list[Job]:
    """Jobs that meet the conditions, in the order of their iterations."""
    rows = connection.execute(select(t.Jobs.__table__).where(*conditions).order_by(t.Jobs.iteration)).all()
    parents, inspirations = (
        grouped(
            ((run, iteration), candidate)
            for run, iteration, candidate in connection.execute(
                select(table.run_id, table.iteration, column)
                .join(t.Jobs, (t.Jobs.run_id == table.run_id) & (t.Jobs.iteration == table.iteration))
                .where(*conditions)
                .order_by(table.position)
            )
        )
        for table, column in (
            (t.JobParents, t.JobParents.parent_id),
            (t.JobInspirations, t.JobInspirations.candidate_id),
        )
    )
    return [
        Job(
            run=row.run_id,
            iteration=row.iteration,
            generation=row.generation,
            operator=Operator(row.operator),
            parents=tuple(parent for (parent,) in parents[row.run_id, row.iteration]),
            model=row.model,
            island=row.island,
            seed=row.seed,
            inspirations=tuple(shown for (shown,) in inspirations[row.run_id, row.iteration]),
            temperature=row.temperature,
        )
        for row in rows
    ]


def prompt_rows(job: Job, attempt: int, prompt: Prompt) -> Rows:
    at = {"run_id": job.run, "iteration": job.iteration, "attempt": attempt}
    messages = [{"id": message_id(m), "role": m.role, "text": m.text} for m in prompt.messages]
    row = {"operator": prompt.operator.value, "template": prompt.template, "seed": prompt.seed}
    return {
        t.Prompts: [{**at, **row}],
        t.PromptParents: [{**at, "position": i, "parent_id": c.id} for i, c in enumerate(prompt.parents)],
        t.Messages: messages,
        t.PromptMessages: [{**at, "position": i, "message_id": m["id"]} for i, m in enumerate(messages)],
    }


def message_id(message: Message) -> str:
    return digest("message", message.role, t.storable(message.text), tag="m")


def reply_rows(job: Job, attempt: int, reply: Reply, *, call: int | None, now: str) -> Rows:
    at = {"run_id": job.run, "iteration": job.iteration, "attempt": attempt}
    row = {
        "model": reply.model,
        "text": reply.text,
        "input_tokens": reply.input_tokens,
        "cached_tokens": reply.cached_tokens,
        "output_tokens": reply.output_tokens,
        "reasoning_tokens": reply.reasoning_tokens,
        "cost_usd": reply.cost_usd,
        "seconds": reply.seconds,
        "finish_reason": reply.finish_reason,
        "received_at": now,
        "call_id": call,
    }
    rewrites = [{**at, "position": i, **rewrite_row(r)} for i, r in enumerate(reply.rewrites)]
    return {t.Replies: [{**at, **row}], t.ReplyRewrites: rewrites}


def rewrite_row(rewrite: Rewrite) -> Row:
    return {"name": rewrite.name, "argument": rewrite.argument}


def read_replies(connection: Connection, run: str, iteration: int) -> dict[int, Reply]:
    """Replies of a job, by attempt."""
    job = {"run": run, "iteration": iteration}
    rows = connection.execute(REPLIES, job).all()
    rewrites = grouped(connection.execute(REPLY_REWRITES, job)) if rows else {}
    return {
        row.attempt: Reply(
            model=row.model,
            text=row.text,
            rewrites=tuple(Rewrite(name=name, argument=argument) for name, argument in rewrites.get(row.attempt, ())),
            input_tokens=row.input_tokens,
            cached_tokens=row.cached_tokens,
            output_tokens=row.output_tokens,
            reasoning_tokens=row.reasoning_tokens,
            cost_usd=row.cost_usd,
            seconds=row.seconds,
            finish_reason=row.finish_reason,
        )
        for row in rows
    }


REPLIES = (
    select(t.Replies.__table__)
    .where(t.Replies.run_id == bindparam("run"), t.Replies.iteration == bindparam("iteration"))
    .order_by(t.Replies.attempt)
)
REPLY_REWRITES = (
    select(t.ReplyRewrites.attempt, t.ReplyRewrites.name, t.ReplyRewrites.argument)
    .where(t.ReplyRewrites.run_id == bindparam("run"), t.ReplyRewrites.iteration == bindparam("iteration"))
    .order_by(t.ReplyRewrites.attempt, t.ReplyRewrites.position)
)


def read_prompts(connection: Connection, run: str, iteration: int) -> dict[int, Prompt]:
    """Prompts of a job, by attempt; parents as they appeared in that run."""
    here = (t.Prompts.run_id == run, t.Prompts.iteration == iteration)
    job = (t.Jobs.run_id == run, t.Jobs.iteration == iteration)
    temperature = connection.execute(select(t.Jobs.temperature).where(*job)).scalar()
    rows = connection.execute(select(t.Prompts.__table__).where(*here).order_by(t.Prompts.attempt)).all()
    messages = grouped(
        connection.execute(
            select(t.PromptMessages.attempt, t.Messages.role, t.Messages.text)
            .join(t.Messages)
            .where(t.PromptMessages.run_id == run, t.PromptMessages.iteration == iteration)
            .order_by(t.PromptMessages.attempt, t.PromptMessages.position)
        )
    )
    parents = grouped(
        connection.execute(
            select(t.PromptParents.attempt, t.PromptParents.parent_id)
            .where(t.PromptParents.run_id == run, t.PromptParents.iteration == iteration)
            .order_by(t.PromptParents.attempt, t.PromptParents.position)
        )
    )
    prompts = {}
    for row in rows:
        shown = [read_candidate(connection, parent, run=run) for (parent,) in parents[row.attempt]]
        prompts[row.attempt] = Prompt(
            operator=Operator(row.operator),
            messages=tuple(Message(role=role, text=text) for role, text in messages[row.attempt]),
            parents=tuple(candidate for candidate in shown if candidate is not None),
            template=row.template,
            seed=row.seed,
            temperature=temperature,
        )
    return prompts


# --- candidates -----------------------------------------------------------------------------------------------------


def candidate_rows(candidate: Candidate) -> Rows:
    source_id = digest("source", candidate.source, tag="s")
    return {
        t.Sources: [{"id": source_id, "text": candidate.source}],
        t.Candidates: [{"id": candidate.id, "source_id": source_id, "entry": candidate.entry}],
        t.Tunables: [
            {"candidate_id": candidate.id, "name": name, "position": i, "value": value}
            for name, values in candidate.tunables.items()
            for i, value in enumerate(values)
        ],
    }


def origin_rows(attempt_id: int, candidate: Candidate) -> Rows:
    """Where the candidate of an attempt comes from."""
    return {
        t.CandidateParents: [
            {"candidate_id": candidate.id, "attempt_id": attempt_id, "position": i, "parent_id": parent}
            for i, parent in enumerate(candidate.parents)
        ],
        t.Rewrites: [
            {"attempt_id": attempt_id, "position": i, **rewrite_row(r)} for i, r in enumerate(candidate.rewrites)
        ],
    }


def read_candidate(connection: Connection, candidate_id: str, *, run: str | None) -> Candidate | None:
    """A candidate with the parents and rewrites of its first attempt in `run`, or else in the archive."""
    named = {"candidate": candidate_id}
    row = connection.execute(CANDIDATE, named).one_or_none()
    if row is None:
        return None
    origin = {"attempt": first_attempt(connection, candidate_id, run=run)}
    tunables = grouped(connection.execute(TUNABLES, named))
    return Candidate(
        source=row.text,
        entry=row.entry,
        parents=tuple(connection.execute(PARENTS, named | origin).scalars()),
        rewrites=tuple(
            Rewrite(name=name, argument=argument) for name, argument in connection.execute(REWRITES, origin)
        ),
        tunables={name: tuple(value for (value,) in values) for name, values in tunables.items()},
    )


def first_attempt(connection: Connection, candidate_id: str, *, run: str | None) -> int | None:
    """The candidate's first attempt in `run`, or else in the archive."""
    named = {"candidate": candidate_id, "run": run}
    if run is not None:
        there = connection.execute(FIRST_ATTEMPT_IN_RUN, named).scalar()
        if there is not None:
            return int(there)
    return connection.execute(FIRST_ATTEMPT, named).scalar()


CANDIDATE = select(t.Candidates.entry, t.Sources.text).join(t.Sources).where(t.Candidates.id == bindparam("candidate"))
TUNABLES = (
    select(t.Tunables.name, t.Tunables.value)
    .where(t.Tunables.candidate_id == bindparam("candidate"))
    .order_by(t.Tunables.name, t.Tunables.position)
)
PARENTS = (
    select(t.CandidateParents.parent_id)
    .where(
        t.CandidateParents.candidate_id == bindparam("candidate"), t.CandidateParents.attempt_id == bindparam("attempt")
    )
    .order_by(t.CandidateParents.position)
)
REWRITES = (
    select(t.Rewrites.name, t.Rewrites.argument)
    .where(t.Rewrites.attempt_id == bindparam("attempt"))
    .order_by(t.Rewrites.position)
)
FIRST_ATTEMPT = select(func.min(t.Attempts.id)).where(t.Attempts.candidate_id == bindparam("candidate"))
FIRST_ATTEMPT_IN_RUN = FIRST_ATTEMPT.where(t.Attempts.run_id == bindparam("run"))


# --- what was learned -----------------------------------------------------------------------------------------------


def evaluation_rows(evaluation_id: int, evaluation: Evaluation, *, task_id: int, now: str) -> Rows:
    at = {"evaluation_id": evaluation_id}
    row = {
        "id": evaluation_id,
        "candidate_id": evaluation.candidate,
        "task_id": task_id,
        "device": evaluation.device,
        "timing_reason": evaluation.timing_reason,
        "recorded_at": now,
        "source_key": evaluation.source_key,
        "kernel_key": evaluation.kernel_key,
        "shared_from": evaluation.shared_from,
        "limited_by": evaluation.behaviour and evaluation.behaviour.limited_by,
        "technique": evaluation.behaviour and evaluation.behaviour.technique,
    }
    stages = [
        {
            **at,
            "position": i,
            "stage": s.name,
            "seconds": s.seconds,
            "outcome": s.outcome.value,
            "text": s.text or None,
        }
        for i, s in enumerate(evaluation.stages)
    ]
    verdict = evaluation.verdict
    timing = evaluation.timing
    cases = [c.case for c in verdict.cases] if verdict else []
    cases += [c.case for c in timing.cases] if timing else []
    return {
        **case_rows(cases),
        t.Evaluations: [row],
        t.EvaluationStages: stages,
        **build_rows(at, evaluation.build),
        **(verdict_rows(at, verdict) if verdict else {}),
        **(timing_rows(at, timing) if timing else {}),
    }


def case_rows(cases: Iterable[Case]) -> Rows:
    unique = {case_id(case): case for case in cases}
    return {
        t.Cases: [
            {
                "id": identity,
                "name": case.name,
                "dtype": case.dtype,
                "distribution": case.distribution,
                "initialisation": case.initialisation,
                "seed": case.seed,
                "purpose": case.purpose.value,
            }
            for identity, case in unique.items()
        ],
        t.CaseSizes: [
            {"case_id": identity, "name": name, "value": value}
            for identity, case in unique.items()
            for name, value in case.sizes.items()
        ],
    }


def case_id(case: Case) -> str:
    sizes = [f"{name}={value}" for name, value in sorted(case.sizes.items())]
    facts = (case.name, case.dtype, case.distribution, case.initialisation, str(case.seed), case.purpose.value)
    return digest("case", *facts, *sizes, tag="k")


def build_rows(at: Row, build: Build) -> Rows:
    row = {
        "target": build.target,
        "method": build.method and build.method.value,
        "fallback_reason": build.fallback_reason,
        "compiler": build.compiler,
        "artifact": build.artifact and str(build.artifact),
        "ptx": build.ptx and str(build.ptx),
        "cached": build.cached,
        "seconds": build.seconds,
    }
    return {
        t.Builds: [{**at, **row}],
        t.BuildFlags: [{**at, "position": i, "flag": flag} for i, flag in enumerate(build.flags)],
        t.KernelResources: [
            {
                **at,
                "position": i,
                "kernel": r.kernel,
                "registers": r.registers,
                "shared_bytes": r.shared_bytes,
                "local_bytes": r.local_bytes,
                "spill_store_bytes": r.spill_store_bytes,
                "spill_load_bytes": r.spill_load_bytes,
                "constant_bytes": r.constant_bytes,
            }
            for i, r in enumerate(build.resources)
        ],
        t.Diagnostics: [
            {
                **at,
                "position": i,
                "severity": d.severity,
                "stage": d.stage,
                "line": d.line,
                "column": d.column,
                "text": d.text,
            }
            for i, d in enumerate(build.diagnostics)
        ],
    }


def verdict_rows(at: Row, verdict: Verdict) -> Rows:
    row = {
        "outcome": verdict.outcome.value,
        "reason": verdict.reason,
        "output": verdict.output,
        "seconds": verdict.seconds,
        "integrity_seconds": verdict.integrity_seconds,
        "failed_in": verdict.failed_in,
    }
    return {
        t.Verdicts: [{**at, **row}],
        t.CaseVerdicts: [
            {
                **at,
                "position": i,
                "case_id": case_id(c.case),
                "outcome": c.outcome.value,
                "error": c.error,
                "error_l2": c.error_l2,
                "allowed": c.allowed,
                "worst": c.worst,
                "reason": c.reason,
                "seconds": c.seconds,
            }
            for i, c in enumerate(verdict.cases)
        ],
        t.Findings: [
            {
                **at,
                "case_position": i,
                "position": j,
                "kind": f.kind,
                "text": f.text,
                "kernel": f.kernel,
                "line": f.line,
                "block": index_text(f.block),
                "thread": index_text(f.thread),
                "address": f.address,
                "allocation": f.allocation,
                "access_bytes": f.access_bytes,
            }
            for i, c in enumerate(verdict.cases)
            for j, f in enumerate(c.findings)
        ],
    }


def index_text(index: tuple[int, int, int] | None) -> str | None:
    """A blockIdx or threadIdx as text, "2,0,0"."""
    return None if index is None else ",".join(map(str, index))


def read_index(text: str | None) -> tuple[int, int, int] | None:
    if text is None:
        return None
    x, y, z = map(int, text.split(","))
    return x, y, z


def timing_rows(at: Row, timing: Timing) -> Rows:
    row = {
        "kind": timing.kind.value,
        "device": timing.device,
        "target": timing.target,
        "method": timing.method,
        "seconds": timing.seconds,
        "score_ns": timing.score_ns,
    }
    return {
        t.Timings: [{**at, **row}],
        t.CaseTimings: [
            {
                **at,
                "position": i,
                "case_id": case_id(c.case),
                "median_ns": c.median_ns,
                "low_ns": c.low_ns,
                "high_ns": c.high_ns,
                "bottleneck": c.bottleneck,
            }
            for i, c in enumerate(timing.cases)
        ],
        t.Counters: [
            {**at, "case_position": i, "name": name, "value": value}
            for i, c in enumerate(timing.cases)
            for name, value in c.counters.items()
        ],
        t.TimingSamples: [
            {**at, "case_position": i, "position": j, "elapsed_ns": sample}
            for i, c in enumerate(timing.cases)
            for j, sample in enumerate(c.samples_ns)
        ],
    }


def read_evaluation(connection: Connection, evaluation_id: int) -> Evaluation:
    """The evaluation of that number, whole."""
    row = connection.execute(EVALUATION, {"evaluation": evaluation_id}).one()
    return Evaluation(
        candidate=row.candidate_id,
        task=row.name,
        device=row.device,
        build=read_build(connection, evaluation_id, row.candidate_id),
        verdict=read_verdict(connection, evaluation_id),
        timing=read_timing(connection, evaluation_id),
        timing_reason=row.timing_reason,
        stages=tuple(
            Stage(
                name=s.stage,
                outcome=StageOutcome(s.outcome) if s.outcome else StageOutcome.PASSED,
                seconds=s.seconds,
                text=s.text or "",
            )
            for s in parts(connection, t.EvaluationStages, evaluation_id)
        ),
        source_key=row.source_key,
        kernel_key=row.kernel_key,
        shared_from=row.shared_from,
        behaviour=Behaviour(limited_by=row.limited_by, technique=row.technique) if row.technique else None,
    )


def read_build(connection: Connection, evaluation_id: int, candidate: str) -> Build:
    (row,) = parts(connection, t.Builds, evaluation_id)
    return Build(
        candidate=candidate,
        target=row.target,
        method=BuildMethod(row.method) if row.method else None,
        fallback_reason=row.fallback_reason,
        flags=tuple(f.flag for f in parts(connection, t.BuildFlags, evaluation_id)),
        compiler=row.compiler,
        artifact=Path(row.artifact) if row.artifact is not None else None,
        ptx=Path(row.ptx) if row.ptx is not None else None,
        resources=tuple(
            KernelResources(
                kernel=r.kernel,
                registers=r.registers,
                shared_bytes=r.shared_bytes,
                local_bytes=r.local_bytes,
                spill_store_bytes=r.spill_store_bytes,
                spill_load_bytes=r.spill_load_bytes,
                constant_bytes=r.constant_bytes,
            )
            for r in parts(connection, t.KernelResources, evaluation_id)
        ),
        diagnostics=tuple(
            Diagnostic(severity=d.severity, line=d.line, column=d.column, text=d.text, stage=d.stage)
            for d in parts(connection, t.Diagnostics, evaluation_id)
        ),
        cached=row.cached,
        seconds=row.seconds,
    )


def read_verdict(connection: Connection, evaluation_id: int) -> Verdict | None:
    row = next(iter(parts(connection, t.Verdicts, evaluation_id)), None)
    if row is None:
        return None
    cases = read_cases(connection, t.CaseVerdicts, evaluation_id)
    findings: dict[int, list[Finding]] = defaultdict(list)
    for f in parts(connection, t.Findings, evaluation_id):
        findings[f.case_position].append(
            Finding(
                kind=f.kind,
                text=f.text,
                kernel=f.kernel,
                line=f.line,
                block=read_index(f.block),
                thread=read_index(f.thread),
                address=f.address,
                allocation=f.allocation,
                access_bytes=f.access_bytes,
            )
        )
    return Verdict(
        outcome=Outcome(row.outcome),
        reason=row.reason,
        cases=tuple(
            CaseVerdict(
                case=cases[c.case_id],
                outcome=Outcome(c.outcome),
                error=c.error,
                error_l2=c.error_l2,
                allowed=c.allowed,
                worst=c.worst,
                reason=c.reason,
                findings=tuple(findings[c.position]),
                seconds=c.seconds,
            )
            for c in parts(connection, t.CaseVerdicts, evaluation_id)
        ),
        output=row.output,
        seconds=row.seconds,
        integrity_seconds=row.integrity_seconds,
        failed_in=row.failed_in,
    )


def read_timing(connection: Connection, evaluation_id: int) -> Timing | None:
    row = next(iter(parts(connection, t.Timings, evaluation_id)), None)
    if row is None:
        return None
    cases = read_cases(connection, t.CaseTimings, evaluation_id)
    counters: dict[int, dict[str, float]] = defaultdict(dict)
    for counter in parts(connection, t.Counters, evaluation_id):
        counters[counter.case_position][counter.name] = counter.value
    samples: dict[int, list[float]] = defaultdict(list)
    for sample in parts(connection, t.TimingSamples, evaluation_id):
        samples[sample.case_position].append(sample.elapsed_ns)
    return Timing(
        kind=TimingKind(row.kind),
        device=row.device,
        target=row.target,
        method=row.method,
        cases=tuple(
            CaseTiming(
                case=cases[c.case_id],
                samples_ns=tuple(samples[c.position]),
                median_ns=c.median_ns,
                low_ns=c.low_ns,
                high_ns=c.high_ns,
                bottleneck=c.bottleneck,
                counters=counters[c.position],
            )
            for c in parts(connection, t.CaseTimings, evaluation_id)
        ),
        seconds=row.seconds,
    )


def read_cases(
    connection: Connection, table: type[t.CaseVerdicts] | type[t.CaseTimings], evaluation_id: int
) -> dict[str, Case]:
    """The cases that an evaluation's verdicts or timings point to, by id."""
    cases_query, sizes_query = cases_queries(table)
    sizes = grouped(connection.execute(sizes_query, {"evaluation": evaluation_id}))
    return {
        row.id: Case(
            name=row.name,
            sizes={name: value for name, value in sizes[row.id]},
            dtype=row.dtype,
            distribution=row.distribution,
            initialisation=row.initialisation,
            seed=row.seed,
            purpose=Purpose(row.purpose),
        )
        for row in connection.execute(cases_query, {"evaluation": evaluation_id})
    }


@cache
def cases_queries(table: type[t.CaseVerdicts] | type[t.CaseTimings]) -> tuple[Any, Any]:
    wanted = select(table.case_id).where(table.evaluation_id == bindparam("evaluation"))
    sizes = select(t.CaseSizes.case_id, t.CaseSizes.name, t.CaseSizes.value).where(t.CaseSizes.case_id.in_(wanted))
    return select(t.Cases.__table__).where(t.Cases.id.in_(wanted)), sizes


def parts(connection: Connection, table: type[t.Base], evaluation_id: int) -> Sequence[Any]:
    """The rows of a table that belong to an evaluation, in the order of their key."""
    return connection.execute(parts_query(table), {"evaluation": evaluation_id}).all()


@cache
def parts_query(table: type[t.Base]) -> Any:
    columns = t.Base.metadata.tables[table.__tablename__]
    query = select(columns).where(columns.c.evaluation_id == bindparam("evaluation"))
    return query.order_by(*columns.primary_key.columns)


EVALUATION = (
    select(t.Evaluations.__table__, t.Tasks.name).join(t.Tasks).where(t.Evaluations.id == bindparam("evaluation"))
)


def grouped(rows: Iterable[Any]) -> dict[Any, list[tuple[Any, ...]]]:
    """First column -> the other columns of its rows, in their order."""
    groups: dict[Any, list[tuple[Any, ...]]] = defaultdict(list)
    for first, *rest in rows:
        groups[first].append(tuple(rest))
    return groups
