"""How much of each part is shown: what is sure, and who loses first."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from kernelevo.prompt.budget import ITEMS, PARTS, counts_of, fit

# Lengths of a part's items, and of the words that say how many are left out.
lengths = st.lists(st.integers(1, 4000), max_size=12).map(
    lambda items: [40 * (count < len(items)) + sum(items[:count]) for count in range(len(items) + 1)]
)
parts = st.dictionaries(st.sampled_from(list(PARTS)), lengths, min_size=1).map(
    lambda found: {name: found[name] for name in PARTS if name in found}
)


def length(sizes: dict[str, list[int]], shown: dict[str, int]) -> int:
    return sum(sizes[name][count] for name, count in shown.items())


@given(parts, st.integers(-100, 30000))
def test_what_is_shown_never_exceeds_the_room(sizes: dict[str, list[int]], room: int) -> None:
    shown = fit(sizes, room)
    if shown is None:
        assert sum(found[0] for found in sizes.values()) > room
    else:
        assert shown.keys() == sizes.keys()
        assert length(sizes, shown) <= room


@given(parts, st.integers(0, 30000))
def test_a_part_that_comes_after_one_that_was_cut_has_no_more_than_its_share(
    sizes: dict[str, list[int]], room: int
) -> None:
    shown = fit(sizes, room)
    if shown is None:
        return
    left = room - sum(found[0] for found in sizes.values())
    names = list(sizes)
    cut = [name for name in names if shown[name] < len(sizes[name]) - 1]
    for name in names[names.index(cut[0]) + 1 :] if cut else ():
        assert sizes[name][shown[name]] - sizes[name][0] <= PARTS[name] * left


@given(parts, st.integers(0, 30000))
def test_every_part_is_sure_of_its_share(sizes: dict[str, list[int]], room: int) -> None:
    shown = fit(sizes, room)
    if shown is None:
        return
    left = room - sum(found[0] for found in sizes.values())
    for name, found in sizes.items():
        within = [count for count, size in enumerate(found) if size - found[0] <= int(PARTS[name] * left)]
        assert shown[name] >= max(within)


@given(parts)
def test_with_room_for_all_nothing_is_left_out(sizes: dict[str, list[int]]) -> None:
    whole = sum(max(found) for found in sizes.values())
    assert fit(sizes, whole + 40 * len(sizes)) == {name: len(found) - 1 for name, found in sizes.items()}


def test_the_shares_are_of_one_whole() -> None:
    assert abs(sum(PARTS.values()) - 1) < 1e-9


def test_of_thousands_of_items_a_few_are_enough() -> None:
    assert list(counts_of(range(5000)))[-1] == ITEMS
    assert list(counts_of(range(3))) == [0, 1, 2, 3]
