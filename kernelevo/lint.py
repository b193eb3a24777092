"""Whether a task is worth solving and can tell wrong from right. Takes a task, gives flaws and how to repair them.

    lint(task)                           -> flaws of its reference, inputs and cases; nothing is built or launched
    lint_seed(task, device, settings)    -> flaws of its seed, which is built and judged as every candidate is
    ask(task, model)                     -> what a language model thinks of the reference: opinions, not rules

Rules of `lint`, over the TEST cases, HIDDEN cases drawn for it, and the text of reference.py:

    no teeth             a typical wrong output (zeros, the mean, ...) passes every TEST case (verify/teeth.py)
    nearly constant      an output hardly varies, as a whole or along an axis that is longer than one
    dead input           no output depends on it
    idle initialisation  the inputs, or the outputs, are the same however parameters are drawn; or they are all one
    idle size            a size changes no shape
    impure               the reference writes to its inputs or gives them back; or two runs differ
    own state            reference.py imports a clock, the environment or the like, or changes a global
    names a dtype        the float64 oracle is not in float64
    not finite           more than 1 % of an output is infinite or NaN
    hidden sizes         drawn within [hidden], the reference fails, or a size can never vary
    duplicate case       two TEST cases have the same inputs, byte for byte
"""

from __future__ import annotations

import ast
import dataclasses
import hashlib
import itertools
import random
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from kernelevo.cascade import StageLog, draw_cases, prove
from kernelevo.config import Settings
from kernelevo.devices import Device
from kernelevo.models import Model
from kernelevo.records import Candidate, Case, Message, Operator, Outcome, Prompt, Purpose, Task
from kernelevo.tasks import hidden_cases
from kernelevo.toolchain import find_toolchain
from kernelevo.verify.oracle import Expected, compute_expected, one_thread, run_reference
from kernelevo.verify.teeth import accepts, toothless, with_changed

VARIATION = 1e-3  # of values, relative to the largest: less is nearly constant
NON_FINITE = 0.01  # share of an output
HIDDEN_DRAWS = 12
# What a reference that gives the same outputs for the same inputs has no use for.
STATEFUL_MODULES = frozenset(
    {"time", "datetime", "random", "secrets", "os", "uuid", "socket", "subprocess", "threading"}
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Flaw:
    """One thing that is wrong with a task."""

    kind: str  # one of the rules above
    text: str  # what is wrong, with numbers and names
    repair: str  # what to change


def lint(task: Task) -> tuple[Flaw, ...]:
    """Every flaw of a task; empty when there is none.

    Raises TaskError when the reference fails on a declared case.
    """
    with one_thread(), torch.random.fork_rng(devices=[]):
        cases = [(case, compute_expected(task, case)) for case in task.cases if case.purpose is Purpose.TEST]
        return (
            *toothless_flaws(task, cases),
            *_nearly_constant(cases),
            *_dead_inputs(task, cases),
            *_idle_initialisations(task, cases),
            *_idle_sizes(task, cases),
            *_impure(task, cases),
            *_own_state(task),
            *_named_dtypes(cases),
            *_not_finite(cases),
            *_hidden(task),
            *_duplicates(cases),
        )


def lint_seed(task: Task, device: Device, settings: Settings) -> tuple[Flaw, ...]:
    """What is wrong with the seed kernel, if there is one: it must build, export the entry and pass.

    Raises ToolchainError when nothing can be compiled here, WorkerError when our worker fails.
    """
    if task.seed_source is None:
        return ()
    from kernelevo.build import build

    candidate = Candidate(source=task.seed_source, entry=task.entry)
    toolchain = find_toolchain(settings.host_compiler)
    built = build(candidate, target=device.target, toolchain=toolchain, cache=settings.cache)
    if not built.succeeded:
        errors = [d for d in built.diagnostics if d.severity == "error"] or list(built.diagnostics)
        text = f"seed.cu does not build: {errors[0].text if errors else 'without a reason'}"
        return (Flaw(kind="seed", text=text, repair=f"export {task.entry!r} from a source that compiles"),)
    verdict = prove(task, built, device, settings, draw_cases(task), StageLog(lambda stage, line: None))
    if verdict.outcome is Outcome.PASSED:
        return ()
    text = f"seed.cu is judged {verdict.outcome.value}: {verdict.reason}"
    return (Flaw(kind="seed", text=text, repair="repair seed.cu, or the reference, whichever is wrong"),)


QUESTION = """Is this PyTorch reference a fair baseline? Answer with one line per problem, each beginning with
`redundant:` (work whose result is not used, or that a simpler expression of the same values avoids) or `inefficient:`
(the usual PyTorch operation for this is far faster), and nothing else. Answer `fine` when there is none.
"""


def ask(task: Task, model: Model) -> tuple[Flaw, ...]:
    """What a model finds redundant or inefficient in the reference. An answer in no known form is no finding.

    Raises ModelError when the model cannot answer.
    """
    text = f"{QUESTION}\n{task.description}\n\n```python\n{task.reference_source}\n```\n"
    prompt = Prompt(
        operator=Operator.SIMPLIFY,
        messages=(Message(role="user", text=text),),
        parents=(),
        template="task judge 1",
        seed=0,
    )
    flaws = []
    for line in model.propose(prompt).text.splitlines():
        kind, colon, reason = line.strip(" -*`").partition(":")
        if colon and kind.strip("*` ").lower() in ("redundant", "inefficient") and reason.strip():
            flaws.append(
                Flaw(
                    kind=f"{kind.strip('*` ').lower()}, says {model.name}",
                    text=reason.strip(" *`"),
                    repair="simplify the reference if you agree: a slow one makes any candidate look fast",
                )
            )
    return tuple(flaws)


Cases = Sequence[tuple[Case, Expected]]


def toothless_flaws(task: Task, cases: Cases) -> Iterator[Flaw]:
    for name in toothless(task, [expected for _, expected in cases]):
        yield Flaw(
            kind="no teeth",
            text=f"outputs that are {name} pass every TEST case",
            repair="lower tolerance_factor, or add sizes and distributions at which this output would be wrong",
        )


def _nearly_constant(cases: Cases) -> Iterator[Flaw]:
    """Judged over all cases together: one case at which an output varies is enough."""
    for number in range(len(cases[0][1].oracle)):
        outputs = [expected.oracle[number].to(torch.float64) for _, expected in cases]
        finite = [output[torch.isfinite(output)] for output in outputs]
        spreads = [_spread(values) for values in finite if values.numel() > 1]
        singles = torch.cat([values for values in finite if values.numel() == 1] or [torch.zeros(0)])
        if max([*spreads, _spread(singles)], default=0.0) < VARIATION:
            yield Flaw(
                kind="nearly constant",
                text=f"output {number} varies by less than {VARIATION:g} of its largest value: its mean would do",
                repair="choose inputs at which the operation gives different values, or another operation",
            )
            continue
        for axis in range(max(output.dim() for output in outputs)):
            long = [o for o in outputs if axis < o.dim() and o.shape[axis] > 1 and bool(torch.isfinite(o).all())]
            if long and all(_constant_along(output, axis) for output in long):
                yield Flaw(
                    kind="nearly constant",
                    text=f"output {number} is the same all along axis {axis}: one value of it would do",
                    repair="let the reference give that axis a length of one, or inputs that differ along it",
                )


def _spread(values: torch.Tensor) -> float:
    """Largest difference between values, relative to the largest value; 0 for fewer than two."""
    if values.numel() < 2:
        return 0.0
    return float(values.max() - values.min()) / max(float(values.abs().max()), 1e-300)


def _constant_along(output: torch.Tensor, axis: int) -> bool:
    spread = (output.amax(dim=axis) - output.amin(dim=axis)).abs().max()
    return float(spread) <= 1e-6 * max(float(output.abs().max()), 1e-300)


def _dead_inputs(task: Task, cases: Cases) -> Iterator[Flaw]:
    dead = set(range(len(cases[0][1].inputs)))
    for _, expected in cases:
        for number in list(dead):
            changed = with_changed(expected.inputs, number)
            if changed is None or not accepts(task, run_reference(task, changed), expected):
                dead.discard(number)
    for number in sorted(dead):
        yield Flaw(
            kind="dead input",
            text=f"no output depends on input {number}",
            repair="drop the input, or draw it so that it matters",
        )


def _idle_initialisations(task: Task, cases: Cases) -> Iterator[Flaw]:
    """Parameters drawn differently must change the inputs, and by them the outputs, whatever the activations are."""
    if task.initialisations == ("ones",):
        yield Flaw(
            kind="idle initialisation",
            text="parameters are all one in every case: a kernel that ignores them passes",
            repair='add another to initialisations, such as "normal"',
        )
    if len(task.initialisations) < 2:
        return
    case = cases[-1][0]
    drawn = {
        name: compute_expected(task, dataclasses.replace(case, initialisation=name)) for name in task.initialisations
    }
    names = list(drawn)
    for name, other in itertools.pairwise(names):
        one, two = drawn[name], drawn[other]
        if _same(one.inputs, two.inputs):
            text, repair = (
                "draw the same inputs",
                "draw parameters with sample_parameter, or declare one initialisation",
            )
        elif _same(one.oracle, two.oracle):
            text, repair = "give the same outputs", "use the parameters in the reference"
        else:
            continue
        yield Flaw(kind="idle initialisation", text=f"{name!r} and {other!r} {text}", repair=repair)


def _idle_sizes(task: Task, cases: Cases) -> Iterator[Flaw]:
    shapes = {tuple(case.sizes.items()): _shapes(expected) for case, expected in cases}
    case = max((case for case, _ in cases), key=lambda c: len(set(c.sizes.values())))
    for name, (low, high) in task.hidden_sizes.items():
        values = {sizes[name] for sizes in map(dict, shapes)}
        if low == high and values == {low}:
            yield Flaw(
                kind="hidden sizes",
                text=f"{name} is {low} in every TEST and HIDDEN case: a kernel may be written for this value alone",
                repair=f"widen [hidden] {name}, or make it a constant of the reference",
            )
            continue
        other = low if case.sizes[name] != low else high
        changed = dataclasses.replace(case, sizes={**case.sizes, name: other})
        try:
            idle = other != case.sizes[name] and _shapes(compute_expected(task, changed)) == shapes.get(
                tuple(case.sizes.items())
            )
        except Exception:
            continue  # that size is refused: _hidden says so if it can be drawn
        if idle:
            yield Flaw(
                kind="idle size",
                text=f"no shape depends on {name}",
                repair=f"use case.sizes[{name!r}] in inputs, or leave {name} out of the task",
            )


def _impure(task: Task, cases: Cases) -> Iterator[Flaw]:
    case, expected = max(cases, key=lambda pair: pair[1].size_bytes)
    kept = tuple(_copy(value) for value in expected.inputs)
    outputs = task.reference(*kept)
    for number, (before, after) in enumerate(zip(expected.inputs, kept, strict=True)):
        if isinstance(before, torch.Tensor) and not _equal(before, after):
            yield Flaw(
                kind="impure",
                text=f"the reference changes input {number}",
                repair="use operations without a trailing underscore, or work on a clone",
            )
    for number, output in enumerate(outputs if isinstance(outputs, tuple) else (outputs,)):
        if any(isinstance(v, torch.Tensor) and _shares(v, output) for v in kept):
            yield Flaw(
                kind="impure",
                text=f"output {number} is an input, or a view of one: a candidate that does so is a cheat",
                repair="return a new tensor",
            )
    torch.manual_seed(1)
    first = run_reference(task, expected.inputs)
    torch.manual_seed(2)
    if not _same(first, run_reference(task, expected.inputs)):
        yield Flaw(
            kind="impure",
            text=f"two runs of the reference on the same inputs differ (case {case.name})",
            repair="take what is random as an input, drawn in inputs() from its generator",
        )
    redrawn = []
    for seed in (1, 2):
        torch.manual_seed(seed)
        redrawn.append(tuple(task.inputs(case, torch.Generator().manual_seed(case.seed))))
    if not _same(*redrawn):
        yield Flaw(
            kind="impure",
            text="inputs() gives different tensors for the same case and generator",
            repair="pass generator=generator to everything that draws",
        )


def _own_state(task: Task) -> Iterator[Flaw]:
    """What the text of reference.py uses that other runs have otherwise. A second run would not always show it."""
    found: dict[str, int] = {}
    for node in ast.walk(ast.parse(task.reference_source)):
        if isinstance(node, ast.Import | ast.ImportFrom):
            modules = [node.module or ""] if isinstance(node, ast.ImportFrom) else [alias.name for alias in node.names]
            for name in STATEFUL_MODULES.intersection(module.split(".")[0] for module in modules):
                found.setdefault(f"imports {name}", node.lineno)
        if isinstance(node, ast.Global | ast.Nonlocal):
            found.setdefault(f"changes the global {', '.join(node.names)}", node.lineno)
    for text, line in found.items():
        yield Flaw(
            kind="own state",
            text=f"reference.py:{line} {text}",
            repair="let reference and inputs depend on nothing but their arguments",
        )


def _named_dtypes(cases: Cases) -> Iterator[Flaw]:
    _, expected = cases[0]
    for number, (oracle, reference) in enumerate(zip(expected.oracle, expected.reference, strict=True)):
        if reference.dtype.is_floating_point and oracle.dtype != torch.float64:
            yield Flaw(
                kind="names a dtype",
                text=f"output {number} is {str(oracle.dtype).removeprefix('torch.')} for float64 inputs: no oracle",
                repair="leave dtypes out of the reference: .to(x.dtype) instead of .float()",
            )


def _not_finite(cases: Cases) -> Iterator[Flaw]:
    worst, where = 0.0, ""
    for case, expected in cases:
        for output in expected.oracle:
            if output.dtype.is_floating_point and output.numel():
                share = float((~torch.isfinite(output)).double().mean())
                worst, where = max((worst, where), (share, case.name))
    if worst > NON_FINITE:
        yield Flaw(
            kind="not finite",
            text=f"{worst:.0%} of an output is infinite or NaN (case {where})",
            repair="leave out the distribution that does this, or draw inputs within the operation's domain",
        )


def _hidden(task: Task) -> Iterator[Flaw]:
    """HIDDEN cases as any evaluation may draw them, and the corners of [hidden]."""
    corners = [{n: bounds[end] for n, bounds in task.hidden_sizes.items()} for end in (0, 1)]
    drawn = list(hidden_cases(task, random.Random(task.digest).getrandbits(62), count=HIDDEN_DRAWS))
    drawn += [dataclasses.replace(drawn[0], name=f"corner {c}", sizes=c) for c in corners]
    for case in drawn:
        sizes = " ".join(f"{name}={size}" for name, size in case.sizes.items())
        try:
            run_reference(task, tuple(task.inputs(case, torch.Generator().manual_seed(case.seed))))
        except Exception as error:
            yield Flaw(
                kind="hidden sizes",
                text=f"with {sizes} {type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}",
                repair="narrow [hidden] to sizes that the reference accepts",
            )
            return


def _duplicates(cases: Cases) -> Iterator[Flaw]:
    names: defaultdict[str, list[str]] = defaultdict(list)
    for case, expected in cases:
        state = hashlib.sha256()
        for value in expected.inputs:
            state.update(repr(getattr(value, "shape", value)).encode())
            if isinstance(value, torch.Tensor):
                state.update(value.contiguous().view(-1).view(torch.uint8).numpy().tobytes())
        names[state.hexdigest()].append(case.name)
    for same in names.values():
        if len(same) > 1:
            yield Flaw(
                kind="duplicate case",
                text=f"{len(same)} TEST cases have the same inputs, such as {same[0]!r} and {same[1]!r}",
                repair="draw activations with sample(shape, case, generator), so that distributions differ",
            )
            return


def _shapes(expected: Expected) -> tuple[Any, ...]:
    values = (*expected.inputs, *expected.reference)
    return tuple(tuple(v.shape) if isinstance(v, torch.Tensor) else v for v in values)


def _copy(value: Any) -> Any:
    return value.clone() if isinstance(value, torch.Tensor) else value


def _equal(one: Any, two: Any) -> bool:
    if not isinstance(one, torch.Tensor):
        return bool(one == two)
    return one.shape == two.shape and one.dtype == two.dtype and torch.equal(_bytes(one), _bytes(two))


def _same(one: Sequence[Any], two: Sequence[Any]) -> bool:
    return len(one) == len(two) and all(_equal(a, b) for a, b in zip(one, two, strict=True))


def _bytes(values: torch.Tensor) -> torch.Tensor:
    return values.contiguous().view(-1).view(torch.uint8)


def _shares(one: torch.Tensor, two: torch.Tensor) -> bool:
    return one.untyped_storage().data_ptr() == two.untyped_storage().data_ptr() and one.numel() > 0
