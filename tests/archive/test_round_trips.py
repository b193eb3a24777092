"""What goes in comes out: record -> rows -> record."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import archive_examples as examples
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from postgresql_server import BACKENDS
from sqlalchemy import text

from kernelevo.archive import Archive, open_archive
from kernelevo.archive.rows import case_id
from kernelevo.errors import ArchiveError, UsageError
from kernelevo.records import (
    Build,
    BuildMethod,
    Candidate,
    Case,
    CaseTiming,
    CaseVerdict,
    Diagnostic,
    Evaluation,
    Finding,
    KernelResources,
    Outcome,
    Purpose,
    Rewrite,
    Stage,
    StageOutcome,
    Timing,
    TimingKind,
    Verdict,
    digest,
)

TASK = examples.task()

texts = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=20)
names = st.text(st.sampled_from("abcxyz_ =0123"), min_size=1, max_size=8)
finite = st.floats(allow_nan=False, allow_infinity=False)
positive = st.floats(min_value=1e-3, max_value=1e12)
counts = st.integers(0, 2**62)


def few(strategy: st.SearchStrategy[object], *, at_least: int = 0) -> st.SearchStrategy[tuple[object, ...]]:
    return st.lists(strategy, min_size=at_least, max_size=3).map(tuple)


cases = st.builds(
    Case,
    name=texts,
    sizes=st.dictionaries(names, counts, max_size=3),
    dtype=names,
    distribution=names,
    initialisation=names,
    seed=st.integers(-(2**63), 2**63 - 1),
    purpose=st.sampled_from(Purpose),
)
findings = st.builds(Finding, kind=texts, text=texts, kernel=st.none() | texts, line=st.none() | st.integers(1, 10_000))
case_verdicts = st.builds(
    CaseVerdict,
    case=cases,
    outcome=st.sampled_from(Outcome),
    error=st.none() | finite,
    error_l2=st.none() | finite,
    allowed=st.none() | finite,
    worst=st.none() | texts,
    reason=st.none() | texts,
    findings=few(findings),
    seconds=finite,
)
verdicts = st.builds(
    Verdict,
    outcome=st.sampled_from(Outcome),
    reason=st.none() | texts,
    cases=few(case_verdicts),
    output=texts,
    seconds=finite,
)
case_timings = st.builds(
    CaseTiming,
    case=cases,
    samples_ns=few(positive),
    median_ns=positive,
    low_ns=positive,
    high_ns=positive,
    bottleneck=st.none() | texts,
    counters=st.dictionaries(names, finite, max_size=3),
)
timings = st.builds(
    Timing,
    kind=st.sampled_from(TimingKind),
    device=texts,
    target=texts,
    method=texts,
    cases=few(case_timings, at_least=1),
    seconds=finite,
)
resources = st.builds(
    KernelResources,
    kernel=texts,
    registers=counts,
    shared_bytes=counts,
    local_bytes=counts,
    spill_store_bytes=counts,
    spill_load_bytes=counts,
    constant_bytes=counts,
)
diagnostics = st.builds(
    Diagnostic,
    severity=st.sampled_from(["error", "warning", "note"]),
    line=st.none() | counts,
    column=st.none() | counts,
    text=texts,
    stage=st.sampled_from(["read", "device", "ptxas", "host", "link"]),
)
paths = st.none() | names.map(lambda name: Path("/cache") / name)
builds = st.builds(
    Build,
    candidate=st.just(""),
    target=names,
    method=st.none() | st.sampled_from(BuildMethod),
    fallback_reason=st.none() | texts,
    flags=few(texts),
    compiler=texts,
    artifact=paths,
    ptx=paths,
    resources=few(resources),
    diagnostics=few(diagnostics),
    cached=st.booleans(),
    seconds=finite,
)
rewrites = st.builds(Rewrite, name=names, argument=texts)
candidates = st.builds(
    Candidate,
    source=texts,
    entry=names,
    rewrites=few(rewrites),
    tunables=st.dictionaries(names, few(counts, at_least=1), max_size=3),
)
evaluations = st.builds(
    Evaluation,
    candidate=st.just(""),
    task=st.just(TASK.name),
    device=names,
    build=builds,
    verdict=st.none() | verdicts,
    timing=st.none() | timings,
    timing_reason=st.none() | texts,
    stages=few(st.builds(Stage, name=names, outcome=st.sampled_from(StageOutcome), seconds=finite, text=texts)),
)


@pytest.fixture(scope="module", params=BACKENDS)
def shared(request: pytest.FixtureRequest) -> Iterator[Archive]:
    with tempfile.TemporaryDirectory() as folder:
        place = f"{folder}/shared.sqlite"
        if request.param == "postgresql":
            place = request.getfixturevalue("server").new_database(like="template")
        with open_archive(place) as archive:
            yield archive


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(candidate=candidates, evaluation=evaluations)
def test_any_candidate_and_evaluation_come_back_as_they_were(
    shared: Archive, candidate: Candidate, evaluation: Evaluation
) -> None:
    evaluation = replace_candidate(evaluation, candidate.id)
    first_time = not known_ids(shared, candidate.id)
    shared.record_evaluation(TASK, candidate, evaluation)
    assert shared.known(candidate.id, TASK, evaluation.device) == evaluation
    if first_time:  # later ones with the same bytes are the same candidate, with the origin of the first
        assert shared.candidate(candidate.id) == candidate
    assert shared.candidate(candidate.id).id == candidate.id


def replace_candidate(evaluation: Evaluation, identity: str) -> Evaluation:
    return replace(evaluation, candidate=identity, build=replace(evaluation.build, candidate=identity))


def known_ids(archive: Archive, identity: str) -> bool:
    try:
        archive.candidate(identity)
    except UsageError:
        return False
    return True


def test_a_run_a_job_a_prompt_and_its_replies_come_back_as_they_were(archive: Archive) -> None:
    run = examples.run()
    archive.create_run(run, TASK)
    seed = examples.candidate(0)
    archive.record(examples.job(0), seed, examples.passed(seed.id))
    job = examples.job(1, seed.id)
    assert archive.record_job(job) == job
    bad = examples.reply("no kernel here", input_tokens=10, cached_tokens=4, output_tokens=5, reasoning_tokens=2)
    good = examples.reply("a kernel", rewrites=(Rewrite(name="vectorize", argument="x width=4"),), cost_usd=None)
    prompts = [examples.prompt(seed), examples.prompt(seed, text="Once more: it held no kernel.")]
    archive.record_reply(job, 0, prompts[0], bad)
    archive.record_reply(job, 1, prompts[1], good)
    assert archive.get_run(run.id) == run
    assert archive.get_run(run.id[:8]) == run
    assert archive.jobs(run.id) == [examples.job(0), job]
    assert archive.reply(job, 0) == bad
    assert archive.reply(job, 1) == good
    assert archive.reply(job, 2) is None
    assert archive.replies(run.id, 1) == (bad, good)
    assert archive.prompts(run.id, 1) == tuple(prompts)


def test_text_that_is_not_unicode_is_kept_readable(archive: Archive) -> None:
    candidate = examples.candidate(1)
    verdict = examples.passed(candidate.id).verdict
    assert verdict is not None
    printed = replace(verdict, output="\udcff\x00 é")
    archive.record_evaluation(TASK, candidate, examples.passed(candidate.id, verdict=printed))
    stored = archive.known(candidate.id, TASK, "emulator")
    assert stored is not None and stored.verdict is not None
    assert stored.verdict.output == "\\udcff\\x00 é"


def test_a_seed_beyond_63_bits_is_refused_and_nothing_of_the_evaluation_is_kept(archive: Archive) -> None:
    candidate = examples.candidate(1)
    evaluation = examples.passed(candidate.id)
    assert evaluation.verdict is not None
    broken = replace(evaluation.verdict.cases[0], case=examples.case(seed=2**63))
    with pytest.raises(ArchiveError, match="64 bits"):
        archive.record_evaluation(
            TASK, candidate, replace(evaluation, verdict=replace(evaluation.verdict, cases=(broken,)))
        )
    with pytest.raises(UsageError):
        archive.candidate(candidate.id)


def test_ids_in_the_archive_are_the_hashes_of_their_contents(archive: Archive) -> None:
    candidate = examples.candidate(1)
    archive.record_evaluation(TASK, candidate, examples.passed(candidate.id))
    with archive.engine.connect() as connection:
        for identity, source in connection.execute(text("SELECT id, text FROM sources")):
            assert identity == digest("source", source, tag="s")
        stored = connection.execute(text("SELECT id, entry FROM candidates")).one()
        assert tuple(stored) == (Candidate(source=candidate.source, entry="forward").id, "forward")
        evaluation = archive.known(candidate.id, TASK, "emulator")
        assert evaluation is not None and evaluation.verdict is not None and evaluation.timing is not None
        cases = [c.case for c in evaluation.verdict.cases] + [c.case for c in evaluation.timing.cases]
        identities = set(connection.execute(text("SELECT id FROM cases")).scalars())
    assert {case_id(case) for case in cases} == identities


def test_a_hidden_case_keeps_its_seed_and_sizes(archive: Archive) -> None:
    candidate = examples.candidate(1)
    archive.record_evaluation(TASK, candidate, examples.passed(candidate.id))
    with archive.engine.connect() as connection:
        rows = connection.execute(
            text(
                "SELECT k.seed, z.name, z.value FROM cases k JOIN case_sizes z ON z.case_id = k.id"
                " WHERE k.purpose = 'hidden' ORDER BY z.name"
            )
        ).all()
    assert [tuple(row) for row in rows] == [(2**62 + 1, "cols", 129), (2**62 + 1, "rows", 127)]
