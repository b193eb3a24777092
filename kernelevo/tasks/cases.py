"""Cases of a task: the declared ones, and the ones no candidate has seen. Sizes, names and seeds only; no tensors.

A TEST case is a declared size with one initialisation and one distribution. All combinations would be slow to run and
teach little, so each size and initialisation meets "normal" and a few others, which rotate until all have been used.
The largest size meets "spike": with as many rows as columns, every column matters in some row.
"""

from __future__ import annotations

import math
import random
from collections.abc import Iterator, Mapping, Sequence

from kernelevo.records import Case, Purpose, Task, digest

DISTRIBUTIONS_PER_SIZE = 3  # of each declared size and initialisation


def hidden_cases(task: Task, entropy: int, count: int = 6) -> tuple[Case, ...]:
    """`count` HIDDEN cases of sizes around the declared ones, the same for the same entropy.

    Sizes are drawn within task.hidden_sizes: one, a prime, one beside a multiple of 32 or 128, an odd number, the
    largest. Distributions, initialisations and dtypes rotate from a random start, so that few cases meet many of them.
    """
    rng = random.Random(entropy)
    distributions = _endless(task.distributions, rng)
    initialisations = _endless(task.initialisations, rng)
    dtypes = _endless(task.dtypes, rng)
    kinds = {name: _endless(SIZE_KINDS, rng) for name in task.hidden_sizes}
    cases = []
    for number in range(1, count + 1):
        sizes = {name: _hidden_size(next(kinds[name]), *bounds, rng) for name, bounds in task.hidden_sizes.items()}
        dtype, distribution, initialisation = next(dtypes), next(distributions), next(initialisations)
        cases.append(
            Case(
                name=f"hidden {number}: {case_name(sizes, dtype, distribution, initialisation)}",
                sizes=sizes,
                dtype=dtype,
                distribution=distribution,
                initialisation=initialisation,
                seed=rng.getrandbits(62),
                purpose=Purpose.HIDDEN,
            )
        )
    return tuple(cases)


def declared_cases(
    task: str,
    *,
    test: Sequence[Mapping[str, int]],
    bench: Sequence[Mapping[str, int]],
    dtypes: Sequence[str],
    distributions: Sequence[str],
    initialisations: Sequence[str],
) -> tuple[Case, ...]:
    """TEST and BENCH cases of a task file, in its order. Seeds derive from the task's and the case's name."""
    others = _rotation([d for d in distributions if d != "normal"])
    largest = max(test, key=lambda sizes: math.prod(max(size, 1) for size in sizes.values()))
    cases = []
    for sizes in test:
        wanted = ("normal", "spike") if sizes is largest else ("normal",)
        first = [name for name in wanted if name in distributions]
        for dtype in dtypes:
            for initialisation in initialisations:
                chosen = [*first]
                while len(chosen) < min(DISTRIBUTIONS_PER_SIZE, len(distributions)):
                    other = next(others)
                    chosen += [other] if other not in chosen else []
                for distribution in chosen:
                    name = case_name(sizes, dtype, distribution, initialisation)
                    cases.append(_declared(task, name, sizes, dtype, distribution, initialisation, Purpose.TEST))
    for sizes in bench:
        for dtype in dtypes:
            name = case_name(sizes, dtype)
            distribution = "normal" if "normal" in distributions else distributions[0]
            cases.append(_declared(task, name, sizes, dtype, distribution, initialisations[0], Purpose.BENCH))
    return tuple(cases)


def case_name(sizes: Mapping[str, int], dtype: str, distribution: str = "", initialisation: str = "none") -> str:
    """For example "rows=127 cols=129 float32 spike, weights uniform"."""
    words = [*(f"{name}={size}" for name, size in sizes.items()), dtype]
    if distribution:
        words.append(distribution)
    text = " ".join(words)
    return text if initialisation == "none" else f"{text}, weights {initialisation}"


def _declared(
    task: str, name: str, sizes: Mapping[str, int], dtype: str, distribution: str, initialisation: str, purpose: Purpose
) -> Case:
    seed = int(digest(task, name, purpose.value, tag="seed", length=15).removeprefix("seed-"), 16)
    return Case(
        name=name,
        sizes=dict(sizes),
        dtype=dtype,
        distribution=distribution,
        initialisation=initialisation,
        seed=seed,
        purpose=purpose,
    )


SIZE_KINDS = ("prime", "one", "beside 32", "odd", "beside 128", "largest")


def _hidden_size(kind: str, low: int, high: int, rng: random.Random) -> int:
    """A size of this kind within [low, high]; any size when the range holds none of the kind."""
    everything = range(low, high + 1)
    match kind:
        case "one":
            fitting: Sequence[int] = [low]
        case "largest":
            fitting = [high]
        case "prime":
            fitting = [n for n in everything if _is_prime(n)]
        case "beside 32":
            fitting = [n for n in everything if n % 32 in (1, 31)]
        case "beside 128":
            fitting = [n for n in everything if n % 128 in (1, 127)]
        case _:
            fitting = [n for n in everything if n % 2 == 1 and n % 3 != 0]
    return rng.choice(fitting or everything)


def _is_prime(n: int) -> bool:
    return n > 1 and all(n % divisor for divisor in range(2, int(n**0.5) + 1))


def _rotation(values: Sequence[str]) -> Iterator[str]:
    while values:
        yield from values


def _endless(values: Sequence[str], rng: random.Random) -> Iterator[str]:
    """All values in a random order, then all of them again in another."""
    while True:
        yield from rng.sample(list(values), len(values))
