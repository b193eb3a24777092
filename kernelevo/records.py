"""The vocabulary of kernelevo: frozen records that flow from stage to stage.

Takes nothing, gives types. Standard library only, so every module may import it. Records hold values;
clocks, random generators, files and processes live outside them. A field that was not measured is None.
"""

from __future__ import annotations

import enum
import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any


class Purpose(enum.Enum):
    """What a case is for."""

    TEST = "test"  # declared in task.toml, judged in every evaluation
    HIDDEN = "hidden"  # drawn from the operating system's randomness for one evaluation, recorded after it
    BENCH = "bench"  # timed, at sizes that matter on the target


class Outcome(enum.Enum):
    """What happened to a candidate on one case, or to the whole evaluation at its first failure."""

    PASSED = "passed"
    WRONG = "wrong"  # ran, and an output differs from the oracle in value, shape, dtype, strides or presence
    CRASHED = "crashed"  # raised, exited, or died by a signal
    TIMED_OUT = "timed out"
    UNSUPPORTED = "unsupported"  # our limit (for example a PTX form the emulator lacks), not the candidate's fault
    CHEATING = "cheating"  # broke a rule of integrity: changed an input, returned an input, left outputs unwritten


class BuildMethod(enum.Enum):
    """How the artifact was made."""

    SPLIT = "split"  # device pass against slim declarations, host pass with a precompiled header
    STANDARD = "standard"  # one nvcc run over the whole source with the real torch headers


class TimingKind(enum.Enum):
    """Where a time comes from. The two kinds are never compared with each other."""

    MEASURED = "measured"
    PREDICTED = "predicted"


class Operator(enum.Enum):
    """What a proposal is asked to do with its parents."""

    SEED = "seed"  # nothing: the task's own kernel enters the population
    TRANSLATE = "translate"  # no correct candidate yet: write one from the reference
    OPTIMIZE = "optimize"  # make one correct parent faster
    REPAIR = "repair"  # make one failed parent correct
    CROSSOVER = "crossover"  # combine two correct, unlike parents
    EXPLORE = "explore"  # take the least-tried direction
    SIMPLIFY = "simplify"  # same speed with less
    TUNE = "tune"  # try the values of the parent's declared tunables: no model is asked
    JUDGE = "judge"  # of prompts only: say whether a candidate is correct before it costs an evaluation


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """One input configuration of a task."""

    name: str  # unique in its task, for example "rows=127 cols=129 float32 normal"
    sizes: Mapping[str, int]  # the task's size names to values
    dtype: str  # torch dtype name of the floating inputs: "float32", "float16", "bfloat16"
    distribution: str  # how activations are drawn: a name from kernelevo.tasks.DISTRIBUTIONS
    initialisation: str  # how parameters are drawn: a name from kernelevo.tasks.INITIALISATIONS
    seed: int  # of the torch generator that draws the inputs
    purpose: Purpose


@dataclass(frozen=True, slots=True, kw_only=True)
class Task:
    """A PyTorch operation to make faster, and how to judge a candidate for it."""

    name: str  # folder name, for example "rmsnorm"
    title: str  # one line in words
    description: str  # what the operation computes, in words, with shapes
    signature: str  # how candidates are called: "forward(x: Tensor[rows, cols], eps: float) -> Tensor"
    entry: str  # exported function: "forward" or "backward"
    dtypes: tuple[str, ...]  # torch dtype names that candidates must accept
    cases: tuple[Case, ...]  # TEST and BENCH cases, in the order of the file
    hidden_sizes: Mapping[str, tuple[int, int]]  # inclusive range of each size for HIDDEN cases
    distributions: tuple[str, ...]  # of HIDDEN and TEST cases
    initialisations: tuple[str, ...]
    tolerance_factor: float  # k of the error-ratio rule (see verify/)
    library_calls: str  # policy for library compute calls: "allow", "label" or "forbid"
    reference: Callable[..., Any]  # positional inputs -> tensor or tuple of tensors; pure
    inputs: Callable[..., Any]  # (case, torch.Generator) -> tuple of CPU tensors and Python scalars
    compare: Callable[..., Any] | None  # optional (outputs, oracle) -> str or None: None accepts, a string says why not
    seed_source: str | None  # a naive, correct kernel, or None
    hints: tuple[str, ...]  # advice of the task's author for proposals
    folder: Path  # where the task was read from
    digest: str  # content hash of the task's files
    reduction: tuple[str, ...] = ()  # sizes, or products "a*b" of them, that one output element sums; longest counts
    reference_source: str = ""  # text of reference.py, for prompts


@dataclass(frozen=True, slots=True, kw_only=True)
class Rewrite:
    """One named rewrite of the built-in mutator."""

    name: str  # for example "vectorize"
    argument: str  # what makes it repeatable, for example "x width=4"; "" when there is nothing to say

    def __str__(self) -> str:
        return f"{self.name}({self.argument})" if self.argument else self.name


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidate:
    """One CUDA source. Two candidates with the same bytes are the same candidate."""

    source: str  # one .cu with PYBIND11_MODULE(TORCH_EXTENSION_NAME, m)
    entry: str  # exported function the verifier calls
    parents: tuple[str, ...] = ()  # candidate ids; none for a seed
    rewrites: tuple[Rewrite, ...] = ()  # all rewrites since the seed, in order; empty for written sources
    tunables: Mapping[str, tuple[int, ...]] = field(default_factory=dict)  # name -> declared values

    @property
    def id(self) -> str:
        """Tagged content hash: "c-" and 16 hexadecimal digits."""
        return digest("candidate", self.entry, self.source, tag="c")


@dataclass(frozen=True, slots=True, kw_only=True)
class Message:
    """One turn of a prompt."""

    role: str  # "system" or "user"
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """One decision of a strategy: what to propose next, from which parents, by which model."""

    run: str  # run id
    iteration: int  # from 0, unique in its run
    generation: int  # iteration // population
    operator: Operator
    parents: tuple[str, ...]  # candidate ids
    model: str  # key of the model, as given on the command line
    island: int | None  # for strategies with islands
    seed: int  # from which everything random in this iteration derives
    inspirations: tuple[str, ...] = ()  # candidate ids that the prompt shows beside the parents
    temperature: float | None = None  # None: the provider's default


@dataclass(frozen=True, slots=True, kw_only=True)
class Prompt:
    """What a model is given. Language models read `messages`; `mutate` reads `parents` and `seed`."""

    operator: Operator
    messages: tuple[Message, ...]
    parents: tuple[Candidate, ...]
    template: str  # name of the template that wrote the messages
    seed: int  # for models that can be seeded
    temperature: float | None = None  # for models that take one; None: the provider's default


@dataclass(frozen=True, slots=True, kw_only=True)
class Reply:
    """What a model answered. Paid for: stored before anything else happens."""

    model: str
    text: str
    rewrites: tuple[Rewrite, ...] = ()  # what `mutate` did to the parents; empty for language models
    input_tokens: int | None = None  # all of them
    cached_tokens: int | None = None  # those of the input that came from the provider's cache
    output_tokens: int | None = None  # all of them
    reasoning_tokens: int | None = None  # those of the output that were thought
    cost_usd: float | None = None  # None: unknown, never 0 by default
    seconds: float  # wall-clock time of the call
    finish_reason: str  # "stop", "length", "refusal", ... in the provider's words


@dataclass(frozen=True, slots=True, kw_only=True)
class FailedCall:
    """One request to a provider that gave no reply. What it cost belongs to the ledger all the same."""

    model: str
    kind: str  # "rate limited", "server error", "timeout", "connection", "malformed", "refused" or "cut off"
    text: str  # in the provider's words
    input_tokens: int | None = None
    cached_tokens: int | None = None
    output_tokens: int | None = None
    reasoning_tokens: int | None = None
    cost_usd: float | None = None  # 0.0 where the provider answered with an error status; None: unknown
    seconds: float  # wall-clock time of the call


@dataclass(frozen=True, slots=True, kw_only=True)
class Price:
    """What a provider asks for one model, in US dollars per million tokens."""

    input_usd: float
    cached_usd: float  # input tokens read from the provider's cache
    output_usd: float  # reasoning tokens included


@dataclass(frozen=True, slots=True, kw_only=True)
class Judgement:
    """What a model said about a candidate before anything ran it. It never overrides what was measured."""

    candidate: str  # candidate id
    judge: str  # what was asked: "compiles", "memory" or "numerics"
    vote: int  # from 0, of this judge on this candidate
    reply: Reply  # from which the rest was read
    accepts: bool | None  # None: the reply could not be read
    confidence: float | None  # from 0 to 1, of being right
    reason: str  # one line


class Decision(enum.Enum):
    """What the gate of the judges says about a candidate. It orders and defers; it never overrides a measurement."""

    EVALUATE = "evaluate"
    DEFER = "defer"  # refused
    AUDIT = "audit"  # refused, and evaluated all the same, to find false refusals


@dataclass(frozen=True, slots=True, kw_only=True)
class Gate:
    """One decision of the gate, and what it rested on."""

    candidate: str  # candidate id
    features: Mapping[str, float]  # what was known beside the judgements, before evaluation
    probability: float | None  # of passing, as it was believed; None: nothing to go by
    threshold: float  # below which a candidate is refused
    method: str  # how the probability was made, with its version
    reason: str  # one line
    decision: Decision


@dataclass(frozen=True, slots=True, kw_only=True)
class Judged:
    """One candidate that was judged, what was decided, and what was found of it afterwards."""

    candidate: str  # candidate id
    judgements: tuple[Judgement, ...]  # all votes, in the order of their asking
    gate: Gate | None  # None: the gate was not asked
    status: str | None  # Evaluation.status of its newest evaluation for this task and device; None: not evaluated
    evaluation_seconds: float | None  # sum of that evaluation's stages; None: not evaluated


@dataclass(frozen=True, slots=True, kw_only=True)
class KernelResources:
    """What ptxas says about one kernel on one target."""

    kernel: str  # mangled entry name
    registers: int  # per thread
    shared_bytes: int  # static, per block
    local_bytes: int  # stack frame, per thread
    spill_store_bytes: int
    spill_load_bytes: int
    constant_bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Diagnostic:
    """One message of a compiler, mapped back to the candidate's own lines."""

    severity: str  # "error", "warning" or "note"
    line: int | None  # of the candidate's source, from 1; None when it has no place there
    column: int | None
    text: str
    stage: str  # "read", "device", "ptxas", "host", "link"


@dataclass(frozen=True, slots=True, kw_only=True)
class Build:
    """Result of compiling one candidate for one target."""

    candidate: str  # candidate id
    target: str  # for example "sm_90"
    method: BuildMethod | None  # None when nothing could be built
    fallback_reason: str | None  # why the split build was not used
    flags: tuple[str, ...]  # of the device pass
    compiler: str  # nvcc and host compiler versions
    artifact: Path | None  # loadable extension, or None when the build failed
    ptx: Path | None  # PTX text of the device pass
    resources: tuple[KernelResources, ...]
    diagnostics: tuple[Diagnostic, ...]
    cached: bool  # taken from the content-addressed cache
    seconds: float  # wall-clock time spent now, cache or not

    @property
    def succeeded(self) -> bool:
        return self.artifact is not None


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One fact about a candidate that a check noticed, with its place when there is one."""

    kind: str  # for example "input changed", "not written", "bad launch"
    text: str  # one line of explanation
    kernel: str | None = None
    line: int | None = None  # of the candidate's source
    block: tuple[int, int, int] | None = None  # blockIdx of the thread that did it
    thread: tuple[int, int, int] | None = None  # threadIdx of it
    address: int | None = None  # bytes from the start of `allocation`; of a null pointer, the pointer
    allocation: str | None = None  # what is there, or nearest: "input 0 [64, 128] float32", "shared memory, 4096 bytes"
    access_bytes: int | None = None  # of the access, per thread


@dataclass(frozen=True, slots=True, kw_only=True)
class CaseVerdict:
    """What happened on one case."""

    case: Case
    outcome: Outcome
    error: float | None  # worst error, relative to max |oracle| of that output; None when nothing was compared
    error_l2: float | None  # relative L2 error
    allowed: float | None  # largest accepted value of `error`
    worst: str | None  # where, expected and got, for example "output 0 [3, 17]: expected 0.25, got 0.5"
    reason: str | None  # one line; None when passed
    findings: tuple[Finding, ...]
    seconds: float  # of the candidate's calls for this case


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """Whether a build computes its task, case by case, up to the first failure unless asked for all."""

    outcome: Outcome
    reason: str | None  # of the first case that did not pass, with the case's name
    cases: tuple[CaseVerdict, ...]
    output: str  # what the candidate printed, bounded
    seconds: float
    integrity_seconds: float | None = None  # of them, for calls that look for dishonesty; None: there were none
    failed_in: str | None = None  # stage that failed: "smoke", "correctness", "integrity", "promotion"


@dataclass(frozen=True, slots=True, kw_only=True)
class CaseTiming:
    """The time of one BENCH case."""

    case: Case
    samples_ns: tuple[float, ...]  # raw samples; one value for a prediction
    median_ns: float
    low_ns: float  # interval: bootstrap 95 % when measured, the model's stated interval when predicted
    high_ns: float
    bottleneck: str | None  # in words a model can use
    counters: Mapping[str, float]  # name with unit -> value, summed over the call's launches


@dataclass(frozen=True, slots=True, kw_only=True)
class Timing:
    """How long a verified build takes. Two timings compare only when kind, target and method are equal."""

    kind: TimingKind
    device: str  # where it ran: "emulator" or a card's name
    target: str  # which GPU the time is of: "H100 SXM"
    method: str  # protocol or model and its version, for example "prediction 1"
    cases: tuple[CaseTiming, ...]
    seconds: float  # spent on measuring

    @property
    def score_ns(self) -> float:
        """Geometric mean of the cases' medians."""
        product = 1.0
        for case in self.cases:
            product *= case.median_ns ** (1.0 / len(self.cases))
        return product


class StageOutcome(enum.Enum):
    """How one stage of an evaluation ended."""

    PASSED = "passed"
    FAILED = "failed"  # the candidate did not get past it
    SHARED = "shared"  # the same kernel was judged before: what was found then is taken over
    SKIPPED = "skipped"  # it was not asked for, or cannot be done here; `text` says why


# The stages of an evaluation, cheapest first. One that was not reached has no Stage.
STAGES = ("read", "duplicate", "static", "build", "smoke", "correctness", "integrity", "measure", "promotion")


@dataclass(frozen=True, slots=True, kw_only=True)
class Stage:
    """One stage of one evaluation."""

    name: str  # one of STAGES
    outcome: StageOutcome
    seconds: float  # wall-clock time
    text: str = ""  # what was found, in words for a person or a model


@dataclass(frozen=True, slots=True, kw_only=True)
class Behaviour:
    """Where a candidate stands on the grid of behaviours: read from its build and its profile, not from its text."""

    limited_by: str  # "memory", "compute", "latency" or "launch"
    technique: str  # the main one, for example "tensor cores": a name from kernelevo.build.technique.TECHNIQUES


@dataclass(frozen=True, slots=True, kw_only=True)
class Evaluation:
    """Everything learned about one candidate. `status` is derived, never stored beside the facts."""

    candidate: str  # candidate id
    task: str
    device: str
    build: Build
    verdict: Verdict | None  # None when the build failed
    timing: Timing | None  # None unless the verdict passed and a time could be had
    timing_reason: str | None  # why there is no timing although the verdict passed
    stages: tuple[Stage, ...]  # those that were reached, in the order of STAGES
    source_key: str | None = None  # equal for sources that differ in comments and spaces only
    kernel_key: str | None = None  # equal for candidates that compile to the same kernels and launch them alike
    shared_from: str | None = None  # id of the candidate whose build, verdict and timing these are
    behaviour: Behaviour | None = None  # None unless it passed and has a time

    @property
    def status(self) -> str:
        """ "build failed", or the verdict's outcome in words."""
        if self.verdict is None:
            return "build failed"
        return self.verdict.outcome.value

    @property
    def passed(self) -> bool:
        return self.verdict is not None and self.verdict.outcome is Outcome.PASSED

    @property
    def promoted(self) -> bool:
        """Whether it was verified and timed again, in a fresh process on new cases, as a new best."""
        return any(s.name == "promotion" and s.outcome is StageOutcome.PASSED for s in self.stages)

    @property
    def feedback(self) -> str:
        """Why it did not pass, or its bottleneck, in words for a person or a model."""
        if self.verdict is None:
            errors = [d for d in self.build.diagnostics if d.severity == "error"] or list(self.build.diagnostics)
            return "\n".join(f"line {d.line}: {d.text}" if d.line else d.text for d in errors[:5])
        if not self.passed:
            return self.verdict.reason or self.verdict.outcome.value
        if self.timing is None:
            return self.timing_reason or ""
        return "\n".join(f"{c.case.name}: {c.bottleneck}" for c in self.timing.cases if c.bottleneck)


@dataclass(frozen=True, slots=True, kw_only=True)
class Scored:
    """What selection knows about one candidate of a run."""

    candidate: str  # candidate id
    iteration: int  # that proposed it
    generation: int
    island: int | None
    status: str  # Evaluation.status
    score_ns: float | None  # Timing.score_ns; None when it did not pass or has no time
    children: int  # proposals that had it as a parent, in this run
    behaviour: Behaviour | None = None
    tunables: bool = False  # whether it declares any
    source_bytes: int = 0  # of its source: of two that are equally fast the shorter is better


@dataclass(frozen=True, slots=True, kw_only=True)
class Trial:
    """One decision of a run and what came of it: what a bandit learns from."""

    iteration: int
    generation: int
    operator: Operator
    model: str
    parents: tuple[str, ...]
    told: bool  # False: still under way
    candidate: str | None  # None: not told, or the replies held none
    score_ns: float | None  # None: not told, did not pass, or has no time
    cost_usd: float | None  # of the job's replies; None: not told, or unknown


@dataclass(frozen=True, slots=True, kw_only=True)
class Population:
    """What a strategy may know when it decides: everything that earlier generations showed."""

    scored: tuple[Scored, ...]  # in the order of their iterations
    trials: tuple[Trial, ...]  # all decisions before this one, in the order of their iterations
    models: tuple[str, ...]  # that may be asked


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """One call of evolve: its settings, all of them needed to repeat it."""

    id: str  # "r-" and 12 hexadecimal digits
    task: str
    task_digest: str
    models: tuple[str, ...]
    device: str
    strategy: str
    generations: int
    population: int
    seed: int
    lookahead: int = 0  # generations that may be proposed while earlier ones are still under way
    replay_of: str | None = None  # id of the run whose replies this one reads again
    judges: tuple[str, ...] = ()  # models that judge candidates before they are evaluated


def digest(*parts: str, tag: str, length: int = 16) -> str:
    """Tagged, delimited content hash: each part is preceded by its size, so ("ab", "c") != ("a", "bc")."""
    state = hashlib.sha256()
    for part in parts:
        encoded = part.encode()
        state.update(f"{len(encoded)}:".encode())
        state.update(encoded)
    return f"{tag}-{state.hexdigest()[:length]}"
