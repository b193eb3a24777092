"""A standing that is brought up to date is the one that would be made anew."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from kernelevo.records import Population, Scored
from kernelevo.selection import best_of
from kernelevo.selection.standing import CHUNK, ELITES, Cell, Standing, differences

from .populations import COMPUTE, MEMORY, populations, scored


@settings(max_examples=60, deadline=None)
@given(history=st.lists(populations(), min_size=1, max_size=4))
def test_a_standing_brought_up_to_date_is_one_made_anew(history: list[Population]) -> None:
    standing = Standing()
    for population in history:
        standing.update(population.scored)
    fresh = Standing()
    fresh._make(population.scored)
    assert (standing.entries, standing.cells) == (fresh.entries, fresh.cells)
    assert standing.best() == best_of(population.scored)


@settings(max_examples=60, deadline=None)
@given(
    changes=st.lists(st.tuples(st.integers(0, 99), st.none() | st.floats(1.0, 9.0), st.integers(0, 3)), max_size=8),
    more=st.integers(0, 3),
)
def test_a_few_changes_in_a_large_population_give_the_standing_made_anew(
    changes: list[tuple[int, float | None, int]], more: int
) -> None:
    entries = [scored(i, 10.0 + i % 7, island=i % 2, behaviour=MEMORY if i % 3 else COMPUTE) for i in range(100)]
    standing = Standing().update(tuple(entries))
    for index, score_ns, children in changes:
        entries[index] = scored(index, score_ns, children=children, island=index % 2, behaviour=COMPUTE)
    entries += [scored(100 + i, 1.0 + i) for i in range(more)]
    fresh = Standing()
    fresh._make(entries)
    standing.update(tuple(entries))
    assert (standing.entries, standing.cells) == (fresh.entries, fresh.cells)


@settings(max_examples=60, deadline=None)
@given(population=populations(), generation=st.integers(0, 12))
def test_the_best_before_a_generation_is_that_of_earlier_ones(population: Population, generation: int) -> None:
    best = best_of(s for s in population.scored if s.generation < generation)
    assert Standing().update(population.scored).best_before(generation) == (best.score_ns if best else None)


def test_only_what_changed_is_looked_at() -> None:
    entries = tuple(scored(i, 10.0) for i in range(3 * CHUNK))
    changed = scored(5, 10.0, children=1)
    later = (*entries[:5], changed, *entries[6:], new := scored(3 * CHUNK, 9.0))
    assert differences(entries, later) == ([entries[5]], [changed, new])


def test_elites_are_the_best_of_every_cell_best_first() -> None:
    def cell(first: int, island: int | None, behaviour: object) -> list[Scored]:
        return [scored(first + i, 100.0 + first + i, island=island, behaviour=behaviour) for i in range(ELITES + 2)]

    seed = scored(0, 200.0)
    here, elsewhere = cell(1, 0, MEMORY), cell(30, 1, MEMORY)
    other = cell(60, 0, COMPUTE)
    standing = Standing().update((seed, *here, *elsewhere, *other))
    assert standing.elites() == [*here[:ELITES], *elsewhere[:ELITES], *other[:ELITES], seed]
    assert set(standing.cells) == {
        Cell(-1, "", ""),
        Cell(0, "memory", "plain"),
        Cell(1, "memory", "plain"),
        Cell(0, "compute", "plain"),
    }
