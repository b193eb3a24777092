"""The archive's tables. Each class is one table, each attribute one column with its meaning beside it.

Takes nothing, gives SQLAlchemy metadata; db/README.md is generated from it and db/migrations must build the same.

How it hangs together: a run asks for jobs (run_id, iteration); a job has prompts and replies (attempt); what came of
it is one row of `attempts`, which points to a candidate and to an evaluation. `kernelevo evaluate` writes attempts
without a run. Everything learned in an evaluation hangs below `evaluations` by evaluation_id and position.

Conventions: ids of candidates, sources, cases and messages are content hashes of kernelevo.records.digest and can be
derived again; times of day are ISO 8601 text in UTC; durations carry their unit in the column's name; what was not
measured is NULL; no column holds JSON. Facts are stored once, with one exception that says so: timings.score_ns.
"""

from __future__ import annotations

from typing import Any

from sqlalchemy import (
    BigInteger,
    Boolean,
    Dialect,
    Double,
    ForeignKey,
    ForeignKeyConstraint,
    Index,
    Integer,
    MetaData,
    Text,
    TypeDecorator,
    UniqueConstraint,
)
from sqlalchemy.orm import DeclarativeBase, Mapped, MappedColumn, mapped_column


class FreeText(TypeDecorator[str]):
    """Text from outside, as `storable` makes it."""

    impl = Text
    cache_ok = True

    def process_bind_param(self, value: str | None, dialect: Dialect) -> str | None:
        return None if value is None else storable(value)


def storable(text: str) -> str:
    """Lone surrogates, which no database takes, and NUL, which PostgreSQL does not take, as backslash escapes."""
    if not text.isascii():
        text = text.encode(errors="backslashreplace").decode()
    return text.replace("\0", "\\x00")


class Base(DeclarativeBase):
    metadata = MetaData(
        naming_convention={
            "ix": "ix_%(table_name)s_%(column_0_N_name)s",
            "uq": "uq_%(table_name)s_%(column_0_N_name)s",
            "fk": "fk_%(table_name)s_%(column_0_N_name)s",
            "pk": "pk_%(table_name)s",
        }
    )
    type_annotation_map = {  # noqa: RUF012
        str: Text(),
        int: BigInteger().with_variant(Integer(), "sqlite"),
        float: Double(),
        bool: Boolean(),
    }


CLUSTERED: dict[str, Any] = {"sqlite_with_rowid": False}  # rows of small tables lie in the order of their key


def field(meaning: str, *arguments: Any, **options: Any) -> MappedColumn[Any]:
    return mapped_column(*arguments, comment=meaning, **options)


def key(meaning: str, *arguments: Any, **options: Any) -> MappedColumn[Any]:
    return mapped_column(*arguments, comment=meaning, primary_key=True, autoincrement=False, **options)


def number(meaning: str) -> MappedColumn[Any]:
    return mapped_column(comment=meaning, primary_key=True, autoincrement=True)


# --- what was asked -------------------------------------------------------------------------------------------------


class Tasks(Base):
    """One version of a task's files."""

    __tablename__ = "tasks"
    id: Mapped[int] = number("number in this archive")
    name: Mapped[str] = field("folder name, for example rmsnorm")
    digest: Mapped[str] = field("content hash of the task's files: times of different digests do not compare")
    title: Mapped[str] = field("one line in words", FreeText)
    signature: Mapped[str] = field("how candidates are called", FreeText)
    description: Mapped[str] = field("what the operation computes", FreeText)
    __table_args__ = (UniqueConstraint("name", "digest"),)


class Runs(Base):
    """One call of evolve with the settings that repeat it."""

    __tablename__ = "runs"
    id: Mapped[str] = key("r- and 12 hexadecimal digits")
    task_id: Mapped[int] = field("task", ForeignKey("tasks.id"))
    device: Mapped[str] = field("emulator or cuda")
    strategy: Mapped[str] = field("how parents were chosen")
    generations: Mapped[int] = field("asked for, after the task's own kernel")
    population: Mapped[int] = field("proposals per generation")
    seed: Mapped[int] = field("from which everything random derives")
    status: Mapped[str] = field("running (or killed), finished, stopped or failed")
    started_at: Mapped[str] = field("UTC")
    ended_at: Mapped[str | None] = field("UTC; NULL while running, and after a kill")
    lookahead: Mapped[int] = field(
        "generations that may be proposed while earlier ones are under way", server_default="0"
    )
    replay_of: Mapped[str | None] = field("run whose replies this one reads again")
    stop_reason: Mapped[str | None] = field("why it ended before its last generation, in words", FreeText)


class RunModels(Base):
    """Models of a run, and after them its judges."""

    __tablename__ = "run_models"
    run_id: Mapped[str] = key("run", ForeignKey("runs.id"))
    position: Mapped[int] = key("from 0")
    model: Mapped[str] = field("as given on the command line")
    purpose: Mapped[str] = field("propose or judge", server_default="propose")
    __table_args__ = (CLUSTERED,)


class RunLimits(Base):
    """What ends a run early."""

    __tablename__ = "run_limits"
    run_id: Mapped[str] = key("run", ForeignKey("runs.id"))
    name: Mapped[str] = key("field of kernelevo.budget.Budget, for example usd")
    value: Mapped[float] = field("in the unit that its field states")
    __table_args__ = (CLUSTERED,)


class RunPrices(Base):
    """The price table of a run's models as it was when the run began. No row: the price is not known."""

    __tablename__ = "run_prices"
    run_id: Mapped[str] = key("run", ForeignKey("runs.id"))
    model: Mapped[str] = key("as given on the command line")
    input_usd: Mapped[float] = field("US dollars per million input tokens")
    cached_usd: Mapped[float] = field("US dollars per million input tokens read from the provider's cache")
    output_usd: Mapped[float] = field("US dollars per million output tokens, reasoning included")
    __table_args__ = (CLUSTERED,)


class Hints(Base):
    """Advice of a person for the prompts of a run that come after it."""

    __tablename__ = "hints"
    id: Mapped[int] = number("grows in the order of writing")
    run_id: Mapped[str] = field("run", ForeignKey("runs.id"))
    text: Mapped[str] = field("in that person's words", FreeText)
    written_at: Mapped[str] = field("UTC")
    __table_args__ = (Index(None, "run_id"),)


class Jobs(Base):
    """One decision of a strategy: what to propose next."""

    __tablename__ = "jobs"
    run_id: Mapped[str] = key("run", ForeignKey("runs.id"))
    iteration: Mapped[int] = key("from 0, unique in its run")
    generation: Mapped[int] = field("from 0: the task's own kernel")
    operator: Mapped[str] = field("what was asked: seed, optimize, repair, crossover, ...")
    model: Mapped[str] = field("which model was asked")
    island: Mapped[int | None] = field("for strategies with islands")
    seed: Mapped[int] = field("from which everything random in this iteration derives")
    asked_at: Mapped[str] = field("UTC")
    temperature: Mapped[float | None] = field("of sampling; NULL: the provider's default")
    __table_args__ = (CLUSTERED,)


class JobParents(Base):
    """Parents that a strategy chose for a job."""

    __tablename__ = "job_parents"
    run_id: Mapped[str] = key("run")
    iteration: Mapped[int] = key("of the job")
    position: Mapped[int] = key("from 0")
    parent_id: Mapped[str] = field("candidate", ForeignKey("candidates.id"))
    __table_args__ = (
        ForeignKeyConstraint(["run_id", "iteration"], ["jobs.run_id", "jobs.iteration"]),
        Index(None, "parent_id"),
        CLUSTERED,
    )


class JobInspirations(Base):
    """Candidates that a job's prompt shows beside its parents."""

    __tablename__ = "job_inspirations"
    run_id: Mapped[str] = key("run")
    iteration: Mapped[int] = key("of the job")
    position: Mapped[int] = key("from 0")
    candidate_id: Mapped[str] = field("candidate", ForeignKey("candidates.id"))
    __table_args__ = (ForeignKeyConstraint(["run_id", "iteration"], ["jobs.run_id", "jobs.iteration"]), CLUSTERED)


class Leases(Base):
    """A job handed to an agent outside, until when it is the agent's alone. Of several of a job, the newest counts."""

    __tablename__ = "leases"
    id: Mapped[int] = number("grows in the order of handing out")
    run_id: Mapped[str] = field("run")
    iteration: Mapped[int] = field("of the job")
    holder: Mapped[str] = field("name that the agent gave itself", FreeText)
    leased_at: Mapped[str] = field("UTC")
    leased_until: Mapped[str] = field("UTC: not told by then, the job may be handed to another")
    __table_args__ = (
        ForeignKeyConstraint(["run_id", "iteration"], ["jobs.run_id", "jobs.iteration"]),
        Index(None, "run_id", "iteration"),
    )


class Prompts(Base):
    """What a model was given. A job has several when earlier replies held no new candidate."""

    __tablename__ = "prompts"
    run_id: Mapped[str] = key("run")
    iteration: Mapped[int] = key("of the job")
    attempt: Mapped[int] = key("from 0, of this job")
    operator: Mapped[str] = field("what the prompt asks for", FreeText)
    template: Mapped[str] = field("name of the template that wrote the messages", FreeText)
    seed: Mapped[int] = field("for models that can be seeded")
    __table_args__ = (ForeignKeyConstraint(["run_id", "iteration"], ["jobs.run_id", "jobs.iteration"]), CLUSTERED)


class PromptParents(Base):
    """Candidates that a prompt shows."""

    __tablename__ = "prompt_parents"
    run_id: Mapped[str] = key("run")
    iteration: Mapped[int] = key("of the job")
    attempt: Mapped[int] = key("of the prompt")
    position: Mapped[int] = key("from 0")
    parent_id: Mapped[str] = field("candidate", ForeignKey("candidates.id"))
    __table_args__ = (
        ForeignKeyConstraint(
            ["run_id", "iteration", "attempt"], ["prompts.run_id", "prompts.iteration", "prompts.attempt"]
        ),
        CLUSTERED,
    )


class Messages(Base):
    """Texts of prompts, each stored once."""

    __tablename__ = "messages"
    id: Mapped[str] = key("content hash of role and text")
    role: Mapped[str] = field("system or user", FreeText)
    text: Mapped[str] = field("what was said", FreeText)


class PromptMessages(Base):
    """Which messages make up a prompt."""

    __tablename__ = "prompt_messages"
    run_id: Mapped[str] = key("run")
    iteration: Mapped[int] = key("of the job")
    attempt: Mapped[int] = key("of the prompt")
    position: Mapped[int] = key("from 0")
    message_id: Mapped[str] = field("message", ForeignKey("messages.id"))
    __table_args__ = (
        ForeignKeyConstraint(
            ["run_id", "iteration", "attempt"], ["prompts.run_id", "prompts.iteration", "prompts.attempt"]
        ),
        CLUSTERED,
    )


class Replies(Base):
    """What a model answered, stored before anything else happens: it has been paid for."""

    __tablename__ = "replies"
    run_id: Mapped[str] = key("run")
    iteration: Mapped[int] = key("of the job")
    attempt: Mapped[int] = key("of the prompt")
    model: Mapped[str] = field("which model answered")
    text: Mapped[str] = field("the model's own words", FreeText)
    input_tokens: Mapped[int | None] = field("NULL: unknown")
    cached_tokens: Mapped[int | None] = field("NULL: unknown")
    output_tokens: Mapped[int | None] = field("NULL: unknown")
    reasoning_tokens: Mapped[int | None] = field("NULL: unknown")
    cost_usd: Mapped[float | None] = field("US dollars; NULL: unknown, never 0 by default")
    seconds: Mapped[float] = field("wall-clock time of the call")
    finish_reason: Mapped[str] = field("in the provider's words", FreeText)
    received_at: Mapped[str] = field("UTC")
    call_id: Mapped[int | None] = field("request that gave it; NULL: a free model's", index=True)
    __table_args__ = (
        ForeignKeyConstraint(
            ["run_id", "iteration", "attempt"], ["prompts.run_id", "prompts.iteration", "prompts.attempt"]
        ),
    )


class Calls(Base):
    """A request to a paid model, written before it is sent. One without an end is under way."""

    __tablename__ = "calls"
    id: Mapped[int] = number("grows in the order of asking")
    run_id: Mapped[str] = field("run")
    iteration: Mapped[int] = field("of the job")
    purpose: Mapped[str] = field("propose or judge")
    model: Mapped[str] = field("which model was asked")
    started_at: Mapped[str] = field("UTC")
    __table_args__ = (
        ForeignKeyConstraint(["run_id", "iteration"], ["jobs.run_id", "jobs.iteration"]),
        Index(None, "run_id", "iteration"),
    )


class CallEnds(Base):
    """How a request ended that gave no proposal, and what it cost; of those that did, `replies` says it."""

    __tablename__ = "call_ends"
    call_id: Mapped[int] = key("request", ForeignKey("calls.id"))
    outcome: Mapped[str] = field(
        "judged, rate limited, server error, timeout, connection, malformed, refused, or cut off: while under way"
    )
    text: Mapped[str] = field("of a failure, in the provider's words", FreeText)
    input_tokens: Mapped[int | None] = field("NULL: unknown")
    cached_tokens: Mapped[int | None] = field("NULL: unknown")
    output_tokens: Mapped[int | None] = field("NULL: unknown")
    reasoning_tokens: Mapped[int | None] = field("NULL: unknown")
    cost_usd: Mapped[float | None] = field("US dollars; NULL: unknown, never 0 by default")
    seconds: Mapped[float | None] = field("wall-clock time of the request; NULL: cut off")
    ended_at: Mapped[str] = field("UTC; of a request that was cut off, when that was noticed")


class ReplyRewrites(Base):
    """What `mutate` did to the parents in one reply."""

    __tablename__ = "reply_rewrites"
    run_id: Mapped[str] = key("run")
    iteration: Mapped[int] = key("of the job")
    attempt: Mapped[int] = key("of the reply")
    position: Mapped[int] = key("from 0")
    name: Mapped[str] = field("for example vectorize")
    argument: Mapped[str] = field("what makes it repeatable", FreeText)
    __table_args__ = (
        ForeignKeyConstraint(
            ["run_id", "iteration", "attempt"], ["replies.run_id", "replies.iteration", "replies.attempt"]
        ),
        CLUSTERED,
    )


# --- candidates and where they come from ----------------------------------------------------------------------------


class Sources(Base):
    """CUDA texts, each stored once."""

    __tablename__ = "sources"
    id: Mapped[str] = key("content hash of the text")
    text: Mapped[str] = field("one .cu file")


class Candidates(Base):
    """A CUDA source and the function it exports. The same bytes are the same candidate, in every run."""

    __tablename__ = "candidates"
    id: Mapped[str] = key("content hash of entry and source: c- and 16 hexadecimal digits")
    source_id: Mapped[str] = field("source", ForeignKey("sources.id"))
    entry: Mapped[str] = field("exported function: forward or backward")


class Tunables(Base):
    """Values that a candidate declares for a compile-time constant."""

    __tablename__ = "tunables"
    candidate_id: Mapped[str] = key("candidate", ForeignKey("candidates.id"))
    name: Mapped[str] = key("macro name, for example BLOCK")
    position: Mapped[int] = key("from 0: the default")
    value: Mapped[int] = field("declared value")
    __table_args__ = (CLUSTERED,)


class Attempts(Base):
    """What came of one job, or of one `kernelevo evaluate`. Its stage and outcome are derived: see view history."""

    __tablename__ = "attempts"
    id: Mapped[int] = number("grows in the order of recording")
    run_id: Mapped[str | None] = field("run; NULL outside runs", ForeignKey("runs.id"))
    iteration: Mapped[int | None] = field("of the job; NULL outside runs")
    candidate_id: Mapped[str | None] = field("NULL: the reply held none", ForeignKey("candidates.id"))
    evaluation_id: Mapped[int | None] = field(
        "NULL: not evaluated; several attempts share one when they propose the same", ForeignKey("evaluations.id")
    )
    reason: Mapped[str | None] = field("why there is no candidate or no evaluation", FreeText)
    recorded_at: Mapped[str] = field("UTC")
    __table_args__ = (
        ForeignKeyConstraint(["run_id", "iteration"], ["jobs.run_id", "jobs.iteration"]),
        UniqueConstraint("run_id", "iteration"),
        UniqueConstraint("candidate_id", "id"),
        Index(None, "run_id", "id"),
        Index(None, "candidate_id", "run_id", "id"),
    )


class CandidateParents(Base):
    """Edges of the ancestry: in this attempt, the candidate was made from that parent."""

    __tablename__ = "candidate_parents"
    candidate_id: Mapped[str] = key("child")
    attempt_id: Mapped[int] = key("attempt that made it; the first one is its origin")
    position: Mapped[int] = key("from 0")
    parent_id: Mapped[str] = field("candidate it was made from", ForeignKey("candidates.id"))
    __table_args__ = (
        ForeignKeyConstraint(["candidate_id", "attempt_id"], ["attempts.candidate_id", "attempts.id"]),
        Index(None, "parent_id"),
        CLUSTERED,
    )


class Rewrites(Base):
    """All rewrites of the built-in mutator between the task's own kernel and the candidate of an attempt."""

    __tablename__ = "rewrites"
    attempt_id: Mapped[int] = key("attempt", ForeignKey("attempts.id"))
    position: Mapped[int] = key("from 0, in the order of application")
    name: Mapped[str] = field("for example vectorize")
    argument: Mapped[str] = field("what makes it repeatable", FreeText)
    __table_args__ = (CLUSTERED,)


# --- what was learned -----------------------------------------------------------------------------------------------


class Cases(Base):
    """Input configurations, each stored once. Hidden ones keep their seed and sizes, so they can be drawn again."""

    __tablename__ = "cases"
    id: Mapped[str] = key("content hash of all fields and sizes")
    name: Mapped[str] = field("for example rows=127 cols=129 float32 normal", FreeText)
    dtype: Mapped[str] = field("torch dtype name of the floating inputs")
    distribution: Mapped[str] = field("how activations are drawn")
    initialisation: Mapped[str] = field("how parameters are drawn")
    seed: Mapped[int] = field("of the torch generator that draws the inputs")
    purpose: Mapped[str] = field("test, hidden or bench")
    __table_args__ = (CLUSTERED,)


class CaseSizes(Base):
    """Sizes of a case."""

    __tablename__ = "case_sizes"
    case_id: Mapped[str] = key("case", ForeignKey("cases.id"))
    name: Mapped[str] = key("the task's name of the size, for example rows")
    value: Mapped[int] = field("elements")
    __table_args__ = (CLUSTERED,)


class Evaluations(Base):
    """One candidate, built, verified and measured once. No row in verdicts: the build failed."""

    __tablename__ = "evaluations"
    id: Mapped[int] = number("grows in the order of recording; of several, the newest counts")
    candidate_id: Mapped[str] = field("candidate", ForeignKey("candidates.id"))
    task_id: Mapped[int] = field("task", ForeignKey("tasks.id"))
    device: Mapped[str] = field("emulator or cuda")
    timing_reason: Mapped[str | None] = field("why there is no timing although the verdict passed", FreeText)
    recorded_at: Mapped[str] = field("UTC")
    source_key: Mapped[str | None] = field("equal for sources that differ in comments and spaces only")
    kernel_key: Mapped[str | None] = field(
        "equal for candidates that compile to the same kernels and launch them alike"
    )
    shared_from: Mapped[str | None] = field("candidate whose build, verdict and time these are; NULL: its own")
    limited_by: Mapped[str | None] = field("memory, compute, latency or launch; NULL: no time")
    technique: Mapped[str | None] = field("main technique, read from the PTX; NULL: no time")
    __table_args__ = (
        Index(None, "candidate_id", "task_id", "device", "id"),
        Index(None, "task_id"),
        Index(None, "source_key"),
        Index(None, "kernel_key"),
    )


class EvaluationStages(Base):
    """One stage of an evaluation: how it ended, how long it took and what it found."""

    __tablename__ = "evaluation_stages"
    evaluation_id: Mapped[int] = key("evaluation", ForeignKey("evaluations.id"))
    position: Mapped[int] = key("from 0")
    stage: Mapped[str] = field("read, duplicate, static, build, smoke, correctness, integrity, measure or promotion")
    seconds: Mapped[float] = field("wall-clock time")
    outcome: Mapped[str | None] = field("passed, failed, shared or skipped; NULL before schema 0003")
    text: Mapped[str | None] = field("what was found, in words", FreeText)
    __table_args__ = (CLUSTERED,)


class Builds(Base):
    """How the candidate compiled. No artifact: it did not."""

    __tablename__ = "builds"
    evaluation_id: Mapped[int] = key("evaluation", ForeignKey("evaluations.id"))
    target: Mapped[str] = field("for example sm_90")
    method: Mapped[str | None] = field("split or standard; NULL when nothing could be built")
    fallback_reason: Mapped[str | None] = field("why the split build was not used", FreeText)
    compiler: Mapped[str] = field("nvcc and host compiler versions", FreeText)
    artifact: Mapped[str | None] = field("path of the loadable extension on the machine that built it", FreeText)
    ptx: Mapped[str | None] = field("path of the PTX text on the machine that built it", FreeText)
    cached: Mapped[bool] = field("taken from the content-addressed cache")
    seconds: Mapped[float] = field("wall-clock time, cache or not")


class BuildFlags(Base):
    """Flags of the device pass."""

    __tablename__ = "build_flags"
    evaluation_id: Mapped[int] = key("evaluation", ForeignKey("builds.evaluation_id"))
    position: Mapped[int] = key("from 0")
    flag: Mapped[str] = field("for example -O3", FreeText)
    __table_args__ = (CLUSTERED,)


class KernelResources(Base):
    """What ptxas says about one kernel."""

    __tablename__ = "kernel_resources"
    evaluation_id: Mapped[int] = key("evaluation", ForeignKey("builds.evaluation_id"))
    position: Mapped[int] = key("from 0")
    kernel: Mapped[str] = field("mangled entry name", FreeText)
    registers: Mapped[int] = field("per thread")
    shared_bytes: Mapped[int] = field("static, per block")
    local_bytes: Mapped[int] = field("stack frame, per thread")
    spill_store_bytes: Mapped[int] = field("per thread")
    spill_load_bytes: Mapped[int] = field("per thread")
    constant_bytes: Mapped[int] = field("of all constant banks")
    __table_args__ = (CLUSTERED,)


class Diagnostics(Base):
    """Messages of the compilers, on the candidate's own lines."""

    __tablename__ = "diagnostics"
    evaluation_id: Mapped[int] = key("evaluation", ForeignKey("builds.evaluation_id"))
    position: Mapped[int] = key("from 0")
    severity: Mapped[str] = field("error, warning or note")
    stage: Mapped[str] = field("read, device, ptxas, host or link")
    line: Mapped[int | None] = field("of the candidate's source, from 1")
    column: Mapped[int | None] = field("from 1")
    text: Mapped[str] = field("in the compiler's words", FreeText)
    __table_args__ = (CLUSTERED,)


class Verdicts(Base):
    """Whether the build computes its task."""

    __tablename__ = "verdicts"
    evaluation_id: Mapped[int] = key("evaluation", ForeignKey("evaluations.id"))
    outcome: Mapped[str] = field("passed, wrong, crashed, timed out, unsupported or cheating")
    reason: Mapped[str | None] = field("of the first case that did not pass", FreeText)
    output: Mapped[str] = field("what the candidate printed, bounded", FreeText)
    seconds: Mapped[float] = field("wall-clock time")
    integrity_seconds: Mapped[float | None] = field("of them, for calls that look for dishonesty")
    failed_in: Mapped[str | None] = field("smoke, correctness, integrity or promotion; NULL: passed")


class CaseVerdicts(Base):
    """What happened on one case."""

    __tablename__ = "case_verdicts"
    evaluation_id: Mapped[int] = key("evaluation", ForeignKey("verdicts.evaluation_id"))
    position: Mapped[int] = key("from 0, in the order of judging")
    case_id: Mapped[str] = field("case", ForeignKey("cases.id"))
    outcome: Mapped[str] = field("as in verdicts")
    error: Mapped[float | None] = field("worst error relative to max |oracle|; NULL: nothing was compared")
    error_l2: Mapped[float | None] = field("relative L2 error")
    allowed: Mapped[float | None] = field("largest accepted value of error")
    worst: Mapped[str | None] = field("where, expected and got", FreeText)
    reason: Mapped[str | None] = field("one line; NULL when passed", FreeText)
    seconds: Mapped[float] = field("of the candidate's calls for this case")
    __table_args__ = (CLUSTERED,)


class Findings(Base):
    """Facts that checks noticed on a case."""

    __tablename__ = "findings"
    evaluation_id: Mapped[int] = key("evaluation")
    case_position: Mapped[int] = key("of the case verdict")
    position: Mapped[int] = key("from 0")
    kind: Mapped[str] = field("for example input changed", FreeText)
    text: Mapped[str] = field("one line of explanation", FreeText)
    kernel: Mapped[str | None] = field("kernel it concerns", FreeText)
    line: Mapped[int | None] = field("of the candidate's source")
    block: Mapped[str | None] = field("blockIdx of the thread that did it, for example 2,0,0")
    thread: Mapped[str | None] = field("threadIdx of it")
    address: Mapped[int | None] = field("bytes from the start of the allocation; of a null pointer, the pointer")
    allocation: Mapped[str | None] = field("what is there, or nearest", FreeText)
    access_bytes: Mapped[int | None] = field("of the access, per thread")
    __table_args__ = (
        ForeignKeyConstraint(
            ["evaluation_id", "case_position"], ["case_verdicts.evaluation_id", "case_verdicts.position"]
        ),
        CLUSTERED,
    )


class Timings(Base):
    """How long a verified build takes. Times compare only where kind, target and method are equal."""

    __tablename__ = "timings"
    evaluation_id: Mapped[int] = key("evaluation", ForeignKey("evaluations.id"))
    kind: Mapped[str] = field("measured or predicted: the two are never compared")
    device: Mapped[str] = field("where it ran: emulator or a card's name", FreeText)
    target: Mapped[str] = field("which GPU the time is of, for example H100 SXM", FreeText)
    method: Mapped[str] = field("protocol or model and its version", FreeText)
    seconds: Mapped[float] = field("spent on measuring")
    score_ns: Mapped[float] = field(
        "geometric mean of case_timings.median_ns; stored although derivable, because rankings are sorted by it"
    )
    __table_args__ = (Index(None, "kind", "target", "score_ns"),)


class CaseTimings(Base):
    """The time of one bench case."""

    __tablename__ = "case_timings"
    evaluation_id: Mapped[int] = key("evaluation", ForeignKey("timings.evaluation_id"))
    position: Mapped[int] = key("from 0")
    case_id: Mapped[str] = field("case", ForeignKey("cases.id"))
    median_ns: Mapped[float] = field("median of the samples, nanoseconds")
    low_ns: Mapped[float] = field("lower end of the interval, nanoseconds")
    high_ns: Mapped[float] = field("upper end of the interval, nanoseconds")
    bottleneck: Mapped[str | None] = field("in words", FreeText)
    __table_args__ = (CLUSTERED,)


class Counters(Base):
    """Counted events of one timed case."""

    __tablename__ = "counters"
    evaluation_id: Mapped[int] = key("evaluation")
    case_position: Mapped[int] = key("of the case timing")
    name: Mapped[str] = key("with its unit")
    value: Mapped[float] = field("summed over the call's launches")
    __table_args__ = (
        ForeignKeyConstraint(
            ["evaluation_id", "case_position"], ["case_timings.evaluation_id", "case_timings.position"]
        ),
        CLUSTERED,
    )


class TimingSamples(Base):
    """Raw samples of one timed case."""

    __tablename__ = "timing_samples"
    evaluation_id: Mapped[int] = key("evaluation")
    case_position: Mapped[int] = key("of the case timing")
    position: Mapped[int] = key("from 0")
    elapsed_ns: Mapped[float] = field("nanoseconds")
    __table_args__ = (
        ForeignKeyConstraint(
            ["evaluation_id", "case_position"], ["case_timings.evaluation_id", "case_timings.position"]
        ),
        CLUSTERED,
    )


# --- what was thought before and after ------------------------------------------------------------------------------


class Judgements(Base):
    """What a model said about a candidate before anything ran it. It never overrides what was measured."""

    __tablename__ = "judgements"
    call_id: Mapped[int] = key("request that gave it", ForeignKey("calls.id"))
    candidate_id: Mapped[str] = field("candidate", ForeignKey("candidates.id"))
    judge: Mapped[str] = field("what was asked: compiles, memory or numerics")
    vote: Mapped[int] = field("from 0, of this judge on this candidate")
    text: Mapped[str] = field("the model's own words", FreeText)
    finish_reason: Mapped[str] = field("in the provider's words", FreeText)
    accepts: Mapped[bool | None] = field("NULL: the reply could not be read")
    confidence: Mapped[float | None] = field("from 0 to 1, of being right")
    reason: Mapped[str] = field("one line", FreeText)
    __table_args__ = (Index(None, "candidate_id"),)


class GateDecisions(Base):
    """What was made of the judgements on one job's candidate."""

    __tablename__ = "gate_decisions"
    run_id: Mapped[str] = key("run")
    iteration: Mapped[int] = key("of the job")
    candidate_id: Mapped[str] = field("candidate", ForeignKey("candidates.id"))
    probability: Mapped[float | None] = field("of passing, from 0 to 1, as it was believed; NULL: nothing to go by")
    threshold: Mapped[float] = field("below which a candidate is refused")
    method: Mapped[str] = field("how the probability was made, with its version")
    reason: Mapped[str] = field("one line", FreeText)
    decision: Mapped[str] = field("evaluate, defer, or audit: refused, and evaluated to find false refusals")
    decided_at: Mapped[str] = field("UTC")
    __table_args__ = (
        ForeignKeyConstraint(["run_id", "iteration"], ["jobs.run_id", "jobs.iteration"]),
        Index(None, "candidate_id"),
    )


class GateFeatures(Base):
    """What was known of a candidate beside the judgements when the gate decided."""

    __tablename__ = "gate_features"
    run_id: Mapped[str] = key("run")
    iteration: Mapped[int] = key("of the job")
    name: Mapped[str] = key("of the feature")
    value: Mapped[float] = field("a number without unit")
    __table_args__ = (
        ForeignKeyConstraint(["run_id", "iteration"], ["gate_decisions.run_id", "gate_decisions.iteration"]),
        CLUSTERED,
    )


class Tuning(Base):
    """Values of tunables that a tune job timed. Unverified: they rank configurations and nothing else."""

    __tablename__ = "tuning"
    run_id: Mapped[str] = key("run")
    iteration: Mapped[int] = key("of the job")
    position: Mapped[int] = key("from 0, in the order of trying")
    configuration: Mapped[str] = field("for example BLOCK=128 UNROLL=4", FreeText)
    cases: Mapped[int] = field("bench cases that were timed")
    score_ns: Mapped[float | None] = field("geometric mean over them; NULL: it did not build or run")
    reason: Mapped[str | None] = field("why there is no time", FreeText)
    __table_args__ = (ForeignKeyConstraint(["run_id", "iteration"], ["jobs.run_id", "jobs.iteration"]), CLUSTERED)


class Lessons(Base):
    """A summary of what a run tried and what won, for the prompts that come after it."""

    __tablename__ = "lessons"
    id: Mapped[int] = number("grows in the order of writing")
    run_id: Mapped[str] = field("run", ForeignKey("runs.id"))
    after_iteration: Mapped[int] = field("last iteration that it is about")
    text: Mapped[str] = field("the summary", FreeText)
    written_at: Mapped[str] = field("UTC")
    __table_args__ = (UniqueConstraint("run_id", "after_iteration"),)
