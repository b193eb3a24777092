"""What holds for any sequence of rewrites, on any source, by hypothesis."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st
from rewriting import SOURCES, quiet_ranges, random_rewrites

from kernelevo.models.mutate import apply_rewrite, find_site
from kernelevo.models.rewrites.syntax import has_errors, parse

walks = st.tuples(st.sampled_from(sorted(SOURCES)), st.integers(0, 10_000))


@settings(max_examples=24, deadline=None)
@given(walks)
def test_ten_rewrites_leave_a_readable_source_that_replaying_them_gives_again(walk: tuple[str, int]) -> None:
    name, seed = walk
    source = SOURCES[name]
    for rewrite, after in random_rewrites(source, seed, 10):
        assert apply_rewrite(source, rewrite) == after, rewrite
        assert not has_errors(after), rewrite
        assert after != source, rewrite
        source = after


@settings(max_examples=12, deadline=None)
@given(walks)
def test_no_edit_begins_or_ends_inside_a_comment_or_a_string(walk: tuple[str, int]) -> None:
    name, seed = walk
    source = SOURCES[name]
    for rewrite, after in random_rewrites(source, seed, 6):
        site = find_site(source, rewrite)
        assert site is not None
        for start, end in quiet_ranges(parse(source)):
            assert not any(start < e.start < end or start < e.end < end for e in site.edits), rewrite
        source = after


@settings(max_examples=12, deadline=None)
@given(walks)
def test_a_rewrite_that_was_just_done_is_refused(walk: tuple[str, int]) -> None:
    name, seed = walk
    for rewrite, after in random_rewrites(SOURCES[name], seed, 6):
        assert apply_rewrite(after, rewrite) is None, rewrite
