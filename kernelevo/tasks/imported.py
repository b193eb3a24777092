"""What all imported formats share: from an operation whose sizes can be chosen to a Task.

Takes an Operation (kernelbench.py, robust_kbench.py), runs its reference at a few dozen small sizes, and decides

- visible: sizes that show in the shapes or numbers a candidate is given. Others are constants of the operation (the
  width of a pooling window) and stay as the file says;
- TEST and BENCH sizes: the file's own where the estimated work fits the budget of an emulator, otherwise the largest
  visible size is halved, again and again, until it does. Sizes of at most SMALL are left alone, but for batches;
- free: visible sizes that may be odd; HIDDEN cases draw them. A drawn combination that the reference refuses is
  replaced by the TEST sizes;
- distributions: "own" is what the file draws. One of ours is used as well when the reference stays finite under it;
  then it replaces inputs of floats, but for those that hold few different values (labels, masks), and keeps zeros
  where the file puts zeros, and symmetry where it makes it symmetric;
- initialisations: "own" is what the modules draw. With "uniform", parameters that are constant (the weight of a fresh
  normalisation) are drawn from [-1, 1], constant buffers from [0.5, 1.5], so that a kernel cannot ignore them.

Estimated work: elements of values and outputs, and multiply-adds of matrix products and convolutions. Not covered:
other dtypes than float32, and sizes that are hidden in the code of functions.
"""

from __future__ import annotations

import contextlib
import functools
import itertools
import json
import math
import threading
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kernelevo.devices import Arguments
from kernelevo.errors import TaskError
from kernelevo.records import Case, Purpose, Task
from kernelevo.tasks.cases import declared_cases
from kernelevo.tasks.sampling import DISTRIBUTIONS, OWN, sample, sample_parameter

if TYPE_CHECKING:
    import torch

Sizes = dict[str, int]
Change = Callable[["torch.Tensor", str, str], "torch.Tensor"]  # a value, its role and its name -> what it becomes

SMALL = 8  # sizes of at most this are taken for structure (a stride, a kernel's width), not for extent
TEST_ELEMENTS, TEST_MACS = 1 << 15, 1 << 20
BENCH_ELEMENTS, BENCH_MACS = 1 << 22, 1 << 28
ODD = (13, 17, 19)  # distinct, so that shapes tell which size a dimension is
SMALL_ODD = (7, 5, 9, 11, 3, 13, 15)  # where there are more of them
RULE = f"the largest size is halved until inputs and outputs have at most {BENCH_ELEMENTS} elements and products " + (
    f"{BENCH_MACS} multiply-adds ({TEST_ELEMENTS} and {TEST_MACS} for tests); sizes up to {SMALL} stay"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Drawn:
    """One set of values for the reference and candidates."""

    values: tuple[Any, ...]  # CPU tensors and numbers
    roles: tuple[str, ...]  # of each value: "input", "parameter", "buffer", "gradient", "saved"
    names: tuple[str, ...]
    layout: str | None  # see devices/arguments.py; None: the values are the arguments


@dataclass(frozen=True, slots=True, kw_only=True)
class Probe:
    """What one run of the reference showed."""

    shapes: tuple[Any, ...]  # of tensors; numbers as they are
    outputs: tuple[tuple[int, ...], ...]
    elements: int
    macs: int  # multiply-adds of products and convolutions
    longest: int  # sum that an operator of the reference takes


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """At which sizes and from which data an imported task is judged."""

    test: tuple[Sizes, ...]
    bench: tuple[Sizes, ...]
    hidden: Mapping[str, tuple[int, int]]
    free: tuple[str, ...]
    distributions: tuple[str, ...]
    initialisations: tuple[str, ...]
    changed: frozenset[str]  # names of the inputs that our distributions replace
    reduction: tuple[str, ...]
    signature: str
    scaled: str | None  # what was scaled down, in words


class Operation:
    """Base of the formats: `draw` and `compute` are theirs, the rest follows."""

    name: str
    title: str
    description: str
    entry: str
    path: Path  # of the file that says what is computed
    source: str  # text of it, for prompts
    sizes: Sizes  # as the files say
    library_calls = "forbid"

    def __init__(self) -> None:
        self._structures: OrderedDict[tuple[Any, ...], Any] = OrderedDict()
        self._one_at_a_time = threading.RLock()  # a model's parameters are put in place for the time of a call

    def draw(self, sizes: Sizes, change: Change) -> Drawn:
        """Values at these sizes, from torch's global generator; `change` is applied to what is drawn."""
        raise NotImplementedError

    def compute(self, values: Sequence[Any], structure: Any) -> Any:
        """The reference's outputs. structure: what `draw` remembered for values of these shapes."""
        raise NotImplementedError

    def configurations(self) -> tuple[Sizes, ...]:
        """All sizes the files name, the one to time first."""
        return (self.sizes,)

    def settle(self) -> bool:
        """Makes a random reference deterministic if it can be; True when something changed."""
        return False

    @functools.cached_property
    def plan(self) -> Plan:
        return make_plan(self)

    def reference(self, *values: Any) -> Any:
        """The operation on the flat values of `inputs`, in whatever dtype they are."""
        structure = self.structure_of(values)
        with self._one_at_a_time, _no_narrowing(values):
            outputs = tuple(_leaves(self.compute(values, structure)))
        return outputs if len(outputs) != 1 else outputs[0]

    def structure_of(self, values: Sequence[Any]) -> Any:
        """What was remembered for values of these shapes. Raises TaskError."""
        structure = self._structures.get(shape_key(values))
        if structure is None:
            raise TaskError(f"{self.path}: the reference was given values of shapes that it did not draw")
        return structure

    def inputs(self, case: Case, generator: torch.Generator) -> tuple[Any, ...]:
        """The values of a case, drawn from the generator's seed."""
        seed = generator.initial_seed()
        try:
            drawn = self._values(dict(case.sizes), case, generator, seed)
            if case.purpose is Purpose.HIDDEN:
                self.reference(*drawn.values)
        except Exception:
            if case.purpose is not Purpose.HIDDEN:
                raise
            drawn = self._values(self.plan.test[0], case, generator, seed)
        return drawn.values if drawn.layout is None else Arguments(drawn.values, drawn.layout)

    def refreshed(self, values: tuple[Any, ...]) -> tuple[Any, ...]:
        """The values, those computed anew that `draw` computes from others."""
        return values

    def remember(self, values: Sequence[Any], structure: Any) -> None:
        """Keeps what `compute` needs beside values of these shapes."""
        key = shape_key(values)
        self._structures[key] = structure
        self._structures.move_to_end(key)
        while len(self._structures) > 256:
            self._structures.popitem(last=False)

    def _values(self, sizes: Sizes, case: Case, generator: torch.Generator, seed: int) -> Drawn:
        changed = self.plan.changed  # made now: it seeds the same generator

        def change(value: torch.Tensor, role: str, name: str) -> torch.Tensor:
            if role == "input" and case.distribution != OWN and name in changed:
                return like(value, case, generator)
            if case.initialisation == "uniform" and role in ("parameter", "buffer") and is_constant(value):
                kind = "uniform" if role == "parameter" else "positive"
                return sample_parameter(value.shape, _case(sizes, initialisation=kind), generator).to(value.dtype)
            return value

        with seeded(seed):
            return self.draw(sizes, change)


def task_of(operation: Operation, *, folder: Path, task_digest: str, seed_source: str | None) -> Task:
    """The Task of an imported operation. Raises TaskError when its reference cannot be run at any size."""
    plan = operation.plan
    cases = declared_cases(
        operation.name,
        test=plan.test,
        bench=plan.bench,
        dtypes=("float32",),
        distributions=plan.distributions,
        initialisations=plan.initialisations,
    )
    return Task(
        name=operation.name,
        title=operation.title,
        description=described(operation),
        signature=plan.signature,
        entry=operation.entry,
        dtypes=("float32",),
        cases=cases,
        hidden_sizes=plan.hidden,
        distributions=plan.distributions,
        initialisations=plan.initialisations,
        tolerance_factor=4.0,
        library_calls=operation.library_calls,
        reference=operation.reference,
        inputs=operation.inputs,
        compare=None,
        seed_source=seed_source,
        hints=(plan.scaled,) if plan.scaled else (),
        folder=folder,
        digest=task_digest,
        reduction=plan.reduction,
        reference_source=operation.source,
    )


def described(operation: Operation) -> str:
    """The operation's own words, then how candidates are called and what was chosen here."""
    plan = operation.plan
    inputs = ", ".join(sorted(plan.changed)) or "no input"
    words = [operation.description.strip(), ""]
    words.append(f"Distribution {OWN!r} is what the file draws; the others replace {inputs}.")
    if "uniform" in plan.initialisations:
        words.append("Initialisation 'uniform' draws parameters that the modules set to a constant.")
    if plan.scaled:
        words.append(plan.scaled)
    return "\n".join(words).strip()


# --- the plan -------------------------------------------------------------------------------------------------------


def make_plan(operation: Operation) -> Plan:
    """Runs the reference at small sizes; raises TaskError when there is none at which it runs."""
    import torch

    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # small work: a pool that waits for a core costs more
    try:
        return _planned(operation)
    finally:
        torch.set_num_threads(threads)


def _planned(operation: Operation) -> Plan:
    prober = _Prober(operation)
    own = operation.sizes
    scalable = [name for name, size in own.items() if is_extent(name, size)]
    first = prober.smallest(ladder(own, scalable))
    visible = [name for name in scalable if prober.shows(first, name)]
    levels = ladder(own, visible)
    test = prober.largest(levels, TEST_ELEMENTS, TEST_MACS)
    if prober.is_random(test):
        if not operation.settle() or prober.is_random(test):
            raise TaskError(
                f"{operation.path}: the reference gives different outputs for equal inputs",
                next_step="take the randomness (dropout?) out of it",
            )
        prober.forget()
    bench = prober.largest(levels, BENCH_ELEMENTS, BENCH_MACS)
    tests = [test]
    for other in operation.configurations()[1:]:
        with contextlib.suppress(TaskError):
            tests.append(prober.largest(ladder(other, visible), TEST_ELEMENTS, TEST_MACS))
    odd = prober.odd(test, visible)
    free = [name for name in visible if odd[name] != test[name]]
    low, high = prober.range(test, free)
    for sizes in (odd, low):
        if prober.runs(sizes):
            tests.append(sizes)
    hidden = {name: (low[name], high[name]) if name in free else (test[name], test[name]) for name in own}
    numbers = {sizes["configuration"] for sizes in tests if "configuration" in sizes}
    if numbers:
        hidden["configuration"] = (min(numbers), max(numbers))
    changed = prober.changeable(test)
    scaled = [name for name in visible if bench[name] != own[name]]
    return Plan(
        test=tuple(unique(tests)),
        bench=(bench,),
        hidden=hidden,
        free=tuple(free),
        distributions=prober.distributions(test, changed),
        initialisations=prober.initialisations(test),
        changed=changed,
        reduction=prober.reduction([sizes for sizes in (test, odd, bench) if prober.runs(sizes)]),
        signature=prober.signature(odd, test, free),
        scaled=None
        if not scaled
        else "Scaled down for the emulator: "
        + ", ".join(f"{name} {own[name]} to {bench[name]}" for name in scaled)
        + f" ({RULE}).",
    )


class _Prober:
    """Runs one operation's reference and remembers what it saw."""

    def __init__(self, operation: Operation) -> None:
        self.operation = operation
        self._seen: dict[str, Probe | Exception] = {}

    def probe(self, sizes: Sizes) -> Probe | None:
        """None when the reference refuses these sizes."""
        key = json.dumps(sizes, sort_keys=True)
        if key not in self._seen:
            try:
                self._seen[key] = self._run(sizes)
            except TaskError:
                raise
            except Exception as error:
                self._seen[key] = error
        seen = self._seen[key]
        return seen if isinstance(seen, Probe) else None

    def runs(self, sizes: Sizes) -> bool:
        return self.probe(sizes) is not None

    def forget(self) -> None:
        self._seen.clear()

    def smallest(self, levels: Sequence[Sizes]) -> Sizes:
        for sizes in reversed(levels):
            if self.runs(sizes):
                return sizes
        errors = [seen for seen in self._seen.values() if isinstance(seen, Exception)]
        raise TaskError(
            f"{self.operation.path}: the reference runs at none of the sizes tried, from {_words(levels[-1])} to "
            f"{_words(levels[0])}: {type(errors[-1]).__name__}: {errors[-1]}"
        )

    def largest(self, levels: Sequence[Sizes], elements: int, macs: int) -> Sizes:
        """The largest sizes within the budget; the smallest that run when none is."""
        chosen = None
        for sizes in reversed(levels):
            probe = self.probe(sizes)
            if probe is None:
                continue
            if chosen is not None and (probe.elements > elements or probe.macs > macs):
                break
            chosen = sizes
        return chosen if chosen is not None else self.smallest(levels)

    def shows(self, sizes: Sizes, name: str) -> bool:
        """Whether a size shows in what a candidate is given."""
        before = self.probe(sizes)
        for value in (sizes[name] + 1, sizes[name] * 2, sizes[name] - 1, sizes[name] // 2):
            after = self.probe(sizes | {name: value}) if value > 0 else None
            if before and after and after.shapes != before.shapes:
                return True
        return False

    def odd(self, sizes: Sizes, names: Sequence[str]) -> Sizes:
        """Distinct odd values of as many of the sizes as take them."""
        wanted: Sizes = {}
        for name, value in zip(names, ODD if len(names) <= len(ODD) else SMALL_ODD, strict=False):
            odd = (value, sizes[name] - 1 - sizes[name] % 2)  # the second where a size is bounded by another
            fitting = [v for v in odd if v > 0 and v not in wanted.values() and self.runs(sizes | wanted | {name: v})]
            if fitting:
                wanted[name] = fitting[0]
        while wanted and ((found := self.probe(sizes | wanted)) is None or found.elements > 4 * TEST_ELEMENTS):
            wanted.popitem()
        return sizes | wanted

    def range(self, sizes: Sizes, names: Sequence[str]) -> tuple[Sizes, Sizes]:
        """(lowest, highest) of HIDDEN sizes."""
        low, high = dict(sizes), dict(sizes)
        for name in names:
            tried = (value for value in (1, 2, 3, 5, 9) if value < sizes[name])
            low[name] = next((value for value in tried if self.runs(sizes | {name: value})), sizes[name])
            high[name] = sizes[name] + sizes[name] // 2 + 1
        for name in reversed(names):
            if not self.runs(low):
                low[name] = sizes[name]
        if not self.runs(high):
            high = dict(sizes)
        return low, {name: max(high[name], low[name]) for name in high}

    def is_random(self, sizes: Sizes) -> bool:
        import torch

        drawn = self._draw(sizes)
        runs = []
        for seed in (1, 2):
            with seeded(seed), torch.no_grad():
                runs.append(tuple(_leaves(self.operation.reference(*_clones(drawn.values)))))
        return any(not torch.equal(a.nan_to_num(), b.nan_to_num()) for a, b in zip(*runs, strict=True))

    def changeable(self, sizes: Sizes) -> frozenset[str]:
        """Inputs of floats that take many values."""
        drawn = self._draw(sizes)
        return frozenset(
            name
            for value, role, name in zip(drawn.values, drawn.roles, drawn.names, strict=True)
            if role == "input" and _is_float(value) and len(value.unique()) > min(4, value.numel() - 1)
        )

    def distributions(self, sizes: Sizes, changed: frozenset[str]) -> tuple[str, ...]:
        """ "own", and those of ours under which the reference stays finite."""
        import torch

        fitting = []
        for name in DISTRIBUTIONS if changed else ():
            case = _case(sizes, distribution=name)
            generator = torch.Generator().manual_seed(7)

            def change(
                value: torch.Tensor, role: str, called: str, case: Case = case, generator: torch.Generator = generator
            ) -> torch.Tensor:
                return like(value, case, generator) if role == "input" and called in changed else value

            try:
                with seeded(7):
                    drawn = self.operation.draw(sizes, change)
                wide = [v.double() if _is_float(v) else v for v in drawn.values]
                outputs = [*self._outputs(drawn.values), *self._outputs(wide)]
            except Exception:  # values that the reference refuses: outside its domain
                continue
            if all(bool(torch.isfinite(output).all()) for output in outputs):
                fitting.append(name)
        return (OWN, *fitting)

    def initialisations(self, sizes: Sizes) -> tuple[str, ...]:
        drawn = self._draw(sizes)
        held = [v for v, role in zip(drawn.values, drawn.roles, strict=True) if role in ("parameter", "buffer")]
        if not held:
            return ("none",)
        return (OWN, "uniform") if any(_is_float(v) and is_constant(v) for v in held) else (OWN,)

    def reduction(self, probed: Sequence[Sizes]) -> tuple[str, ...]:
        """The smallest product of up to four sizes, or the longer of two, that is nowhere below the longest sum."""
        wanted = [probe.longest for sizes in probed if (probe := self.probe(sizes))]
        if max(wanted) < 2:
            return ()
        names = [name for name in probed[0] if name != "configuration"]
        products = [p for count in range(1, 5) for p in itertools.combinations_with_replacement(names, count)]
        pairs = itertools.combinations([product for product in products if len(product) == 1], 2)
        best: tuple[float, tuple[tuple[str, ...], ...]] | None = None
        for chosen in (*((product,) for product in products), *pairs):
            ratios = [
                max(math.prod(sizes[name] for name in product) for product in chosen) / most
                for sizes, most in zip(probed, wanted, strict=True)
            ]
            if min(ratios) >= 0.9 and (best is None or max(ratios) < best[0]):
                best = (max(ratios), chosen)
        return tuple("*".join(product) for product in best[1]) if best else ()

    def signature(self, sizes: Sizes, others: Sizes, free: Sequence[str]) -> str:
        """For example "forward(x: Tensor[batch, 3], weight: Tensor[3]) -> Tensor[batch]".

        A dimension has a size's name when it is that size here and at the other sizes.
        """
        probe, other = self.probe(sizes), self.probe(others)
        assert probe is not None and other is not None
        drawn = self._draw(sizes)
        named = {sizes[name]: name for name in reversed(free)}
        texts = []

        def dims(shape: Sequence[int], there: Sequence[int]) -> str:
            pairs = zip(shape, there, strict=True)
            return f"[{', '.join(named[a] if a in named and others[named[a]] == b else str(a) for a, b in pairs)}]"

        for value, there in zip(drawn.values, other.shapes, strict=True):
            if hasattr(value, "shape"):
                kind = "" if value.dtype.is_floating_point else f" {str(value.dtype).removeprefix('torch.')}"
                texts.append(f"Tensor{dims(value.shape, there)}{kind}")
            else:
                texts.append(type(value).__name__)
        if drawn.layout is None:
            parts = [f"{name}: {text}" for name, text in zip(drawn.names, texts, strict=True)]
        else:
            nodes = json.loads(drawn.layout)["arguments"]
            parts = [_node_words(node, drawn.names, texts, named) for node in nodes]
        outputs = [f"Tensor{dims(a, b)}" for a, b in zip(probe.outputs, other.outputs, strict=True)]
        result = outputs[0] if len(outputs) == 1 else f"({', '.join(outputs)})"
        return f"{self.operation.entry}({', '.join(parts)}) -> {result}"

    def _draw(self, sizes: Sizes) -> Drawn:
        with seeded(7):
            return self.operation.draw(sizes, unchanged)

    def _run(self, sizes: Sizes) -> Probe:
        drawn = self._draw(sizes)
        with _Counted() as counted:
            outputs = self._outputs(drawn.values)
        tensors = [value for value in drawn.values if hasattr(value, "shape")]
        return Probe(
            shapes=tuple(tuple(v.shape) if hasattr(v, "shape") else v for v in drawn.values),
            outputs=tuple(tuple(output.shape) for output in outputs),
            elements=sum(t.numel() for t in (*tensors, *outputs)),
            macs=counted.macs,
            longest=counted.longest,
        )

    def _outputs(self, values: Sequence[Any]) -> tuple[torch.Tensor, ...]:
        outputs = tuple(_leaves(self.operation.reference(*_clones(values))))
        if not all(hasattr(output, "shape") for output in outputs):
            kinds = ", ".join(type(output).__name__ for output in outputs)
            raise TaskError(f"{self.operation.path}: the reference returns {kinds}: expected tensors")
        return outputs


def ladder(sizes: Sizes, names: Sequence[str]) -> list[Sizes]:
    """The sizes, then always the largest of the named ones halved (the first of several), until all are small."""
    levels = [dict(sizes)]
    while True:
        last = levels[-1]
        large = [name for name in names if last[name] > SMALL or (is_batch(name) and last[name] > 2)]
        if not large:
            return levels
        name = max(large, key=lambda name: last[name])
        levels.append(last | {name: last[name] // 2})


def is_extent(name: str, size: int) -> bool:
    return name != "configuration" and (size > SMALL or is_batch(name))


def is_batch(name: str) -> bool:
    return "batch" in name.lower()


def unique(all_sizes: Sequence[Sizes]) -> list[Sizes]:
    return [sizes for index, sizes in enumerate(all_sizes) if sizes not in all_sizes[:index]]


# --- values ---------------------------------------------------------------------------------------------------------


def flat(value: Any, values: list[Any], where: str) -> Any:
    """The node of an argument (devices/arguments.py), with its tensors appended to `values`. Raises TaskError."""
    import torch

    if isinstance(value, torch.Tensor):
        values.append(value.detach().contiguous())
        return len(values) - 1
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        values.append(value)
        return len(values) - 1
    return _constant(value, values, where)


def _constant(value: Any, values: list[Any], where: str) -> Any:
    import torch

    if isinstance(value, torch.Tensor):
        return flat(value, values, where)
    if value is None or isinstance(value, (bool, int, float, str)):
        return {"constant": value}
    if isinstance(value, tuple | list):
        kind = "list" if isinstance(value, list) else "tuple"
        return {kind: [_constant(part, values, where) for part in value]}
    raise TaskError(f"{where} is a value of type {type(value).__name__}: expected tensors, numbers, strings or None")


def layout_of(nodes: Sequence[Any], values: int, model: Any = None) -> str | None:
    """None when the arguments are the values, one by one."""
    if list(nodes) == list(range(values)) and model is None:
        return None
    return json.dumps({"arguments": list(nodes), "model": model})


def shape_key(values: Sequence[Any]) -> tuple[Any, ...]:
    return tuple(tuple(value.shape) if hasattr(value, "shape") else type(value).__name__ for value in values)


def unchanged(value: torch.Tensor, role: str, name: str) -> torch.Tensor:
    return value


def like(value: torch.Tensor, case: Case, generator: torch.Generator) -> torch.Tensor:
    """Values of the case's distribution with the zeros and the symmetry of `value`."""
    import torch

    drawn = sample(value.shape, case, generator).to(value.dtype)
    if value.dim() >= 2 and value.shape[-1] == value.shape[-2] > 1 and torch.equal(value, value.mT):
        drawn = (drawn + drawn.mT) / 2
    if value.numel() > 1 and bool((value == 0).any()):
        drawn = drawn * (value != 0)
    return drawn.contiguous()


def is_constant(value: torch.Tensor) -> bool:
    return value.is_floating_point() and value.numel() > 0 and bool((value == value.flatten()[0]).all())


_SEEDING = threading.Lock()


@contextlib.contextmanager
def seeded(seed: int) -> Iterator[None]:
    """torch's global generator, seeded, for one thread at a time; put back afterwards."""
    import torch

    with _SEEDING, torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed % (1 << 63))
        yield


def _case(sizes: Sizes, *, distribution: str = "normal", initialisation: str = "none") -> Case:
    return Case(
        name="probe",
        sizes=sizes,
        dtype="float32",
        distribution=distribution,
        initialisation=initialisation,
        seed=7,
        purpose=Purpose.TEST,
    )


def _is_float(value: Any) -> bool:
    return hasattr(value, "shape") and bool(value.is_floating_point())


def _clones(values: Sequence[Any]) -> list[Any]:
    return [value.clone() if hasattr(value, "shape") else value for value in values]


def _leaves(value: Any) -> Iterator[Any]:
    if isinstance(value, tuple | list):
        for part in value:
            yield from _leaves(part)
    else:
        yield value


def _node_words(node: Any, names: Sequence[str], texts: Sequence[str], named: Mapping[int, str]) -> str:
    if isinstance(node, int):
        return f"{names[node]}: {texts[node]}"
    if "constant" in node:
        value = node["constant"]
        return named.get(value, repr(value)) if type(value) is int else repr(value)
    kind, parts = next(iter(node.items()))
    inside = ", ".join(_node_words(part, names, texts, named) for part in parts)
    return f"[{inside}]" if kind == "list" else f"({inside}{',' if len(parts) == 1 else ''})"


def _words(sizes: Sizes) -> str:
    return " ".join(f"{name}={size}" for name, size in sizes.items()) or "none"


@contextlib.contextmanager
def _no_narrowing(values: Sequence[Any]) -> Iterator[None]:
    """In float64, `.float()` and dtype=torch.float32 of a reference mean float64, or the oracle would be no oracle."""
    import torch
    from torch.overrides import TorchFunctionMode

    if not any(hasattr(v, "shape") and v.dtype is torch.float64 for v in values):
        yield
        return

    class Wide(TorchFunctionMode):
        def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            if func is torch.Tensor.float:
                func = torch.Tensor.double
            args = tuple(torch.float64 if value is torch.float32 else value for value in args)
            kwargs = {n: torch.float64 if v is torch.float32 else v for n, v in (kwargs or {}).items()}
            return func(*args, **kwargs)

    with Wide():
        yield


class _Counted:
    """Counts multiply-adds and the longest sum inside its `with` block, by what torch dispatches."""

    def __init__(self) -> None:
        self.macs = 0
        self.longest = 1

    def __enter__(self) -> _Counted:
        from torch.utils._python_dispatch import TorchDispatchMode

        counter = self

        class Mode(TorchDispatchMode):  # type: ignore[no-untyped-call]
            @classmethod
            def _should_skip_dynamo(cls) -> bool:
                return False  # it would import torch._dynamo, which takes seconds; nothing is compiled here

            def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
                result = func(*args, **(kwargs or {}))
                operator = func.name().removeprefix("aten::").partition(".")[0]
                macs, length = _work(operator, args, result)
                counter.macs += macs
                counter.longest = max(counter.longest, length)
                return result

        self._mode: Any = Mode()  # type: ignore[no-untyped-call]
        self._mode.__enter__()  # type: ignore[no-untyped-call]
        return self

    def __exit__(self, *exc: object) -> None:
        self._mode.__exit__(*exc)


def _work(operator: str, args: Sequence[Any], result: Any) -> tuple[int, int]:
    """(multiply-adds, terms of one sum) of one operator; (0, 1) for those that sum nothing."""
    match operator:
        case "mm" | "bmm":
            return int(result.numel() * args[0].shape[-1]), args[0].shape[-1]
        case "addmm" | "baddbmm" | "addbmm":
            return int(args[1].numel() * args[2].shape[-1]), args[1].shape[-1]
        case "convolution" | "_convolution":
            image, weight, transposed = args[0], args[1], bool(args[6])
            terms = math.prod(weight.shape[1:])
            return int((image if transposed else result).numel() * terms), terms
        case "convolution_backward":
            terms = math.prod(args[2].shape[1:])
            return int(2 * args[0].numel() * terms), max(terms, args[0].numel() // args[0].shape[1])
        case "_scaled_dot_product_flash_attention_for_cpu" | "_scaled_dot_product_attention_math":
            return int(2 * args[0].numel() * args[1].shape[-2]), max(args[1].shape[-2:])
        case "_softmax" | "_log_softmax" | "cumsum" | "cumprod" | "logcumsumexp":
            return 0, args[0].shape[args[1]] if args[0].dim() else 1
        case "_softmax_backward_data" | "_log_softmax_backward_data":
            return 0, args[0].shape[args[2]] if args[0].dim() else 1
        case "native_layer_norm":
            return 0, math.prod(args[1])
        case "native_layer_norm_backward":
            row = math.prod(args[2])
            return 0, max(row, args[0].numel() // max(row, 1))
        case "native_batch_norm" | "_native_batch_norm_legit" | "native_batch_norm_backward" | "batch_norm":
            return 0, args[0].numel() // args[0].shape[1]
        case "native_group_norm" | "native_group_norm_backward":
            return 0, args[0].numel() // max(args[-2], 1)
        case _ if operator.startswith(_SUMS):
            first = next((arg for arg in args if hasattr(arg, "numel")), None)
            out = result[0] if isinstance(result, tuple) else result
            if first is not None and hasattr(out, "numel") and out.numel():
                return 0, max(1, first.numel() // out.numel())
            return 0, 1
        case _:
            return 0, 1


_SUMS = (
    *("sum", "mean", "prod", "var", "std", "norm", "linalg_vector_norm", "logsumexp"),
    *("nll_loss", "mse_loss", "avg_pool"),
)
