"""A run in the archive: telling, resuming, selection, lineage, leaderboard."""

from __future__ import annotations

import math
import random
import threading
from dataclasses import replace
from datetime import UTC, datetime

import archive_examples as examples
import pytest

from kernelevo.archive import Archive, open_archive
from kernelevo.errors import ArchiveError, UsageError
from kernelevo.records import Operator, Rewrite, Scored, TimingKind

TASK = examples.task()
RUN = examples.run()


@pytest.fixture
def running(archive: Archive) -> Archive:
    archive.create_run(RUN, TASK)
    return archive


def tell(
    archive: Archive,
    iteration: int,
    number: int,
    *parents: str,
    median_ns: float = 1000.0,
    method: str = "prediction 1",
) -> str:
    candidate = examples.candidate(number, *parents)
    evaluation = examples.passed(candidate.id, median_ns=median_ns, method=method)
    archive.record(examples.job(iteration, *parents), candidate, evaluation)
    return candidate.id


def test_times_of_day_come_from_the_clock_that_was_given(place: str) -> None:
    noon = datetime(2026, 1, 2, 12, 0, 0, 345_678, tzinfo=UTC)
    with open_archive(place, clock=lambda: noon) as archive:
        archive.create_run(RUN, TASK)
        archive.finish_run(RUN.id)
        (entry,) = archive.list_runs()
    assert (entry.started_at, entry.ended_at) == ("2026-01-02T12:00:00.345Z", "2026-01-02T12:00:00.345Z")
    assert entry.status == "finished"


def test_a_run_that_was_reopened_is_running_again(running: Archive) -> None:
    running.finish_run(RUN.id, status="stopped")
    running.reopen_run(RUN.id)
    (entry,) = running.list_runs()
    assert (entry.status, entry.ended_at) == ("running", None)


def test_a_run_id_cannot_be_taken_twice(running: Archive) -> None:
    with pytest.raises(UsageError, match="exists"):
        running.create_run(RUN, TASK)


def test_runs_are_listed_by_task_with_their_counts(running: Archive) -> None:
    other = examples.task("gelu", "t-9")
    running.create_run(examples.run("r-0000000000ff", other), other)
    seed = tell(running, 0, 0)
    tell(running, 1, 1, seed)
    running.record(examples.job(2, seed), None, None, reason="no kernel in the reply")
    (entry,) = running.list_runs(task="rmsnorm")
    assert (entry.run, entry.attempts, entry.candidates) == (RUN, 3, 2)
    assert len(running.list_runs()) == 2


def test_an_unknown_run_candidate_or_status_is_a_usage_error(running: Archive) -> None:
    for ask in (
        lambda: running.get_run("r-ffff"),
        lambda: running.finish_run("r-ffff"),
        lambda: running.finish_run(RUN.id, status="perhaps"),
        lambda: running.candidate("c-ffff"),
        lambda: running.candidate("c-%"),
        lambda: running.record_job(examples.job(0, of="r-ffff")),
    ):
        with pytest.raises(UsageError) as caught:
            ask()
        assert caught.value.next_step


def test_a_candidate_is_found_by_the_beginning_of_its_id(running: Archive) -> None:
    made = [examples.candidate(number) for number in range(40)]
    for candidate in made:
        running.record_evaluation(TASK, candidate, examples.passed(candidate.id))
    wanted = made[7]
    assert running.candidate(wanted.id[:12]) == wanted
    assert running.candidate(wanted.id[2:12]) == wanted
    first_digits = [candidate.id[:3] for candidate in made]
    crowded = next(digit for digit in first_digits if first_digits.count(digit) > 1)
    with pytest.raises(UsageError, match="several candidates"):
        running.candidate(crowded)


def test_an_iteration_is_told_once(running: Archive) -> None:
    seed = tell(running, 0, 0)
    with pytest.raises(ArchiveError, match="told already"):
        tell(running, 0, 1, seed)
    assert running.told(RUN.id) == {0}
    assert len(running.scored(RUN.id)) == 1


def test_a_parent_that_is_not_in_the_archive_is_named_and_nothing_is_kept(running: Archive) -> None:
    orphan = examples.candidate(1, "c-0123456789abcdef")
    with pytest.raises(ArchiveError, match="does not hold the parent c-0123456789abcdef"):
        running.record_evaluation(TASK, orphan, examples.passed(orphan.id))
    with pytest.raises(UsageError):
        running.candidate(orphan.id)


def test_an_evaluation_of_another_candidate_is_refused(running: Archive) -> None:
    with pytest.raises(ValueError, match="for candidate"):
        running.record_evaluation(TASK, examples.candidate(1), examples.passed(examples.candidate(2).id))


# --- resuming


def test_progress_gives_what_was_told_and_the_replies_that_were_paid_for(running: Archive) -> None:
    seed = tell(running, 0, 0)
    waiting, asked = examples.job(1, seed), examples.job(2, seed)
    paid = examples.reply("a kernel", cost_usd=0.25)
    running.record_job(waiting)
    running.record_job(asked)
    running.record_reply(waiting, 0, examples.prompt(), paid)
    progress = running.progress(RUN.id)
    assert progress.told == {0}
    assert [(p.job, p.replies) for p in progress.pending] == [(waiting, (paid,)), (asked, ())]
    assert progress.next_iteration == 3


def test_a_decision_that_was_stored_is_given_back_instead_of_a_new_one(running: Archive) -> None:
    seed = tell(running, 0, 0)
    first = running.record_job(examples.job(1, seed))
    second = running.record_job(examples.job(1, seed, operator=Operator.EXPLORE, seed=99))
    assert second == first
    assert running.jobs(RUN.id)[1] == first


def test_a_reply_whose_job_was_never_stored_is_kept_with_it(running: Archive) -> None:
    job = examples.job(0)
    running.record_reply(job, 0, examples.prompt(), examples.reply())
    assert running.jobs(RUN.id) == [job]


def test_the_cost_counts_replies_that_led_nowhere_and_does_not_take_unknown_for_nothing(running: Archive) -> None:
    job = examples.job(0)
    running.record_reply(job, 0, examples.prompt(), examples.reply(cost_usd=0.25, input_tokens=100))
    running.record_reply(job, 1, examples.prompt(), examples.reply(cost_usd=None, output_tokens=7))
    cost = running.ledger.cost(RUN.id)
    assert (cost.calls, cost.calls_of_unknown_cost, cost.cost_usd) == (2, 1, 0.25)
    assert (cost.input_tokens, cost.output_tokens, cost.seconds) == (100, 7, 1.0)
    assert running.ledger.cost("r-none").calls == 0


# --- selection


def test_scored_lists_evaluated_candidates_by_iteration_with_their_children(running: Archive) -> None:
    seed = tell(running, 0, 0)
    fast = tell(running, 2, 2, seed, median_ns=500.0)  # told before iteration 1
    child = examples.candidate(1, seed, fast)
    running.record(examples.job(1, seed, fast), child, examples.wrong(child.id))
    running.record(examples.job(3, seed), None, None, reason="no kernel in the reply")
    expected = [
        Scored(
            candidate=seed,
            iteration=0,
            generation=0,
            island=0,
            status="passed",
            score_ns=pytest.approx(2000),
            children=3,
            tunables=True,
            source_bytes=len(examples.candidate(0).source),
        ),
        Scored(
            candidate=child.id,
            iteration=1,
            generation=1,
            island=1,
            status="wrong",
            score_ns=None,
            children=0,
            tunables=True,
            source_bytes=len(child.source),
        ),
        Scored(
            candidate=fast,
            iteration=2,
            generation=1,
            island=0,
            status="passed",
            score_ns=pytest.approx(1000),
            children=1,
            tunables=True,
            source_bytes=len(examples.candidate(2).source),
        ),
    ]
    assert running.scored(RUN.id) == expected


def test_scored_is_the_same_from_scratch_and_step_by_step(running: Archive, place: str) -> None:
    seed = tell(running, 0, 0)
    order = [3, 1, 2, 5, 4, 6]
    parents = [seed]
    for iteration in order:
        parents.append(
            tell(running, iteration, iteration, parents[iteration % len(parents)], median_ns=100.0 * iteration)
        )
        with open_archive(place, read_only=True) as fresh:
            assert fresh.scored(RUN.id) == running.scored(RUN.id)
            for generation in range(5):
                assert fresh.scored(RUN.id, before_generation=generation) == running.scored(
                    RUN.id, before_generation=generation
                )


def test_what_earlier_generations_showed_does_not_change_while_a_generation_is_told(running: Archive) -> None:
    seed = tell(running, 0, 0)
    before = running.scored(RUN.id, before_generation=1)
    tell(running, 1, 1, seed)
    assert running.scored(RUN.id, before_generation=1) == before
    assert running.scored(RUN.id)[0].children == 1


@pytest.mark.parametrize("first", [0, 1])
def test_the_trials_of_a_run_are_its_jobs_and_what_early_generations_made_of_them(
    running: Archive, place: str, first: int
) -> None:
    """Told in any order, with gaps, with and without an iteration 0; asked step by step and from scratch."""
    rng = random.Random(first)
    jobs = {i: examples.job(i) for i in range(first, 24)}  # generation: (i + 1) // 2
    told: dict[int, str | None] = {}
    waiting = list(jobs)
    while waiting:
        iteration = waiting.pop(min(rng.randrange(3), len(waiting) - 1))
        running.record_job(jobs[iteration])
        if rng.random() < 0.8:
            made = rng.random() < 0.8
            told[iteration] = tell(running, iteration, iteration) if made else None
            if not made:
                running.record(jobs[iteration], None, None, reason="no kernel")
        asked = [job for job in running.jobs(RUN.id)]
        for before_iteration, before_generation in ((24, 13), (iteration, 5), (20, iteration // 2), (7, 0)):
            expected = [
                (job.iteration, job.iteration in told and job.generation < before_generation, told.get(job.iteration))
                for job in asked
                if job.iteration < before_iteration
            ]
            with open_archive(place, read_only=True) as fresh:
                for archive in (running, fresh):
                    found = archive.trials(
                        RUN.id, before_iteration=before_iteration, before_generation=before_generation
                    )
                    assert [(t.iteration, t.told, t.candidate) for t in found] == [
                        (number, seen, candidate if seen else None) for number, seen, candidate in expected
                    ]


def test_what_another_process_recorded_is_seen_at_the_next_question(running: Archive, place: str) -> None:
    seed = tell(running, 0, 0)
    assert len(running.scored(RUN.id)) == 1
    with open_archive(place) as other:
        child = examples.candidate(1, seed)
        other.record(examples.job(1, seed), child, examples.passed(child.id))
    assert [s.candidate for s in running.scored(RUN.id)] == [seed, child.id]


def test_a_candidate_that_a_run_proposes_twice_is_scored_once(running: Archive) -> None:
    seed = tell(running, 0, 0)
    evaluation = running.known(seed, TASK, "emulator")
    running.record(examples.job(1, seed), examples.candidate(0, seed), evaluation)
    assert [(s.candidate, s.iteration, s.children) for s in running.scored(RUN.id)] == [(seed, 0, 1)]
    assert len(running.evaluations(seed)) == 1


def test_times_of_another_target_are_not_mixed_into_a_run(running: Archive) -> None:
    seed = tell(running, 0, 0)
    other = examples.candidate(1, seed)
    evaluation = examples.passed(other.id)
    assert evaluation.timing is not None
    evaluation = replace(evaluation, timing=replace(evaluation.timing, target="RTX 4090"))
    running.record(examples.job(1, seed), other, evaluation)
    assert running.scored(RUN.id)[1].score_ns is None


def test_runs_share_evaluations_but_not_their_scored_candidates(running: Archive) -> None:
    seed = tell(running, 0, 0)
    again = examples.run("r-000000000002")
    running.create_run(again, TASK)
    shared = running.known(seed, TASK, "emulator")
    running.record(examples.job(0, of=again.id), examples.candidate(0), shared)
    tell(running, 1, 1, seed)
    assert len(running.scored(again.id)) == 1
    assert running.scored(again.id)[0].children == 0
    assert len(running.evaluations(seed)) == 1


def test_stages_are_added_up_over_a_run_and_in_their_order(running: Archive) -> None:
    seed = tell(running, 0, 0)
    broken = examples.candidate(1, seed)
    running.record(examples.job(1, seed), broken, examples.unbuildable(broken.id))
    totals = [(s.name, s.reached, s.failed, round(s.seconds, 6)) for s in running.stage_totals(RUN.id)]
    assert totals == [("build", 2, 1, 1.4), ("correctness", 1, 0, 0.2), ("measure", 1, 0, 0.1)]


def test_an_equal_kernel_is_known_by_either_key_once_it_passed(running: Archive) -> None:
    seed, wrong, copy = (examples.candidate(number) for number in range(3))
    keys = {"source_key": "s-1", "kernel_key": "k-1"}
    failed = replace(examples.wrong(wrong.id), **keys)
    running.record(examples.job(0), wrong, failed)
    assert running.known_kernel("k-1", TASK, "emulator") is None
    passed = replace(examples.passed(seed.id), **keys)
    running.record(examples.job(1), seed, passed)
    shared = replace(examples.passed(copy.id), source_key="s-2", kernel_key="k-1", shared_from=seed.id)
    running.record(examples.job(2), copy, shared)
    assert running.known_kernel("s-1", TASK, "emulator") == passed
    assert running.known_kernel("k-1", TASK, "emulator") == passed
    assert running.known_kernel("s-2", TASK, "emulator") is None, "one that was shared is not handed on"
    assert running.known_kernel("k-1", examples.task(digest="t-9"), "emulator") is None
    assert running.known_kernel("k-1", TASK, "cuda") is None
    assert running.known(copy.id, TASK, "emulator") == shared


def test_an_evaluation_is_known_only_for_the_same_task_files_and_device(running: Archive) -> None:
    seed = tell(running, 0, 0)
    assert running.known(seed, TASK, "emulator") == examples.passed(seed)
    assert running.known(seed, TASK, "cuda") is None
    assert running.known(seed, examples.task(digest="t-2"), "emulator") is None
    assert running.evaluation(seed, task="rmsnorm") == examples.passed(seed)
    assert running.evaluation(seed, task="gelu") is None


def test_feedback_is_that_of_the_newest_evaluation(running: Archive) -> None:
    candidate = examples.candidate(3)
    assert running.feedback(candidate.id, TASK, "emulator") == ""
    running.record_evaluation(TASK, candidate, examples.passed(candidate.id))
    assert running.feedback(candidate.id, TASK, "emulator") == examples.passed(candidate.id).feedback
    assert "memory at 2048 rows" in running.feedback(candidate.id, TASK, "emulator")
    running.record_evaluation(TASK, candidate, examples.wrong(candidate.id))
    assert running.feedback(candidate.id, TASK, "emulator") == "rows=31 cols=7: differs"
    running.record_evaluation(TASK, candidate, examples.unbuildable(candidate.id))
    assert running.feedback(candidate.id, TASK, "emulator") == 'line 2: identifier "y" is undefined'


# --- lineage


def test_lineage_is_the_tree_of_ancestors_with_what_was_done(running: Archive) -> None:
    seed = tell(running, 0, 0)
    left = tell(running, 1, 1, seed)
    right = tell(running, 2, 2, seed)
    job = examples.job(3, left, right, operator=Operator.CROSSOVER)
    widened = Rewrite(name="vectorize", argument="x width=4")
    running.record_reply(job, 0, examples.prompt(), examples.reply(rewrites=(widened,)))
    child = examples.candidate(3, left, right, rewrites=(widened,))
    running.record(job, child, examples.passed(child.id, median_ns=10.0))
    tree = running.lineage(child.id)
    assert (tree.operator, tree.iteration, tree.rewrites, tree.status) == (Operator.CROSSOVER, 3, (widened,), "passed")
    assert tree.score_ns == pytest.approx(20.0)
    assert [parent.candidate for parent in tree.parents] == [left, right]
    assert tree.parents[0].parents[0] is tree.parents[1].parents[0]
    assert [a.candidate for a in tree.walk()] == [child.id, left, right, seed]
    assert running.lineage(seed).parents == ()


def test_origins_differ_by_run_when_runs_found_the_same_candidate_in_different_ways(running: Archive) -> None:
    seed = tell(running, 0, 0)
    one = tell(running, 1, 1, seed)
    found = tell(running, 2, 2, one)
    again = examples.run("r-000000000002")
    running.create_run(again, TASK)
    rewrites = (Rewrite(name="unroll", argument="4"),)
    direct = examples.candidate(2, seed, rewrites=rewrites)
    running.record(examples.job(0, seed, of=again.id), direct, examples.passed(direct.id))
    assert running.candidate(found) == examples.candidate(2, one)
    assert running.candidate(found, run=again.id) == direct
    assert [a.candidate for a in running.lineage(found).walk()] == [found, one, seed]
    assert [a.candidate for a in running.lineage(found, run=again.id).walk()] == [found, seed]


def test_lineage_ends_where_two_candidates_came_from_each_other(running: Archive) -> None:
    seed = tell(running, 0, 0)
    child = tell(running, 1, 1, seed)
    again = examples.run("r-000000000002")
    running.create_run(again, TASK)
    for iteration, (number, parent) in enumerate([(0, child), (1, seed)]):
        candidate = examples.candidate(number, parent)
        running.record(examples.job(iteration, parent, of=again.id), candidate, examples.passed(candidate.id))
    assert {a.candidate for a in running.lineage(seed, run=again.id).walk()} == {seed, child}
    assert [a.candidate for a in running.lineage(child).walk()] == [child, seed]


def test_a_lineage_of_two_thousand_generations_is_no_deeper_than_memory(running: Archive) -> None:
    parent = tell(running, 0, 0)
    for iteration in range(1, 2001):
        candidate = examples.candidate(iteration, parent)
        running.record(examples.job(iteration, parent), candidate, None, reason="not evaluated in this test")
        parent = candidate.id
    assert sum(1 for _ in running.lineage(parent).walk()) == 2001


# --- leaderboard


def test_the_best_is_the_fastest_correct_candidate_of_the_newest_task_version(running: Archive) -> None:
    seed = tell(running, 0, 0)
    fast = tell(running, 1, 1, seed, median_ns=10.0)
    broken = examples.candidate(2, seed)
    running.record(examples.job(2, seed), broken, examples.wrong(broken.id))
    best = running.best(
        "rmsnorm", device="emulator", kind=TimingKind.PREDICTED, target="H100 SXM", method="prediction 1"
    )
    assert best is not None
    assert (best.candidate, best.place) == (fast, 1)
    assert best.score_ns == pytest.approx(math.sqrt(10.0 * 40.0))
    newer = examples.task(digest="t-2")
    slow = examples.candidate(5)
    running.record_evaluation(newer, slow, examples.passed(slow.id, median_ns=9e9))
    best = running.best(
        "rmsnorm", device="emulator", kind=TimingKind.PREDICTED, target="H100 SXM", method="prediction 1"
    )
    assert best is not None and best.candidate == slow.id
    assert (
        running.best("gelu", device="emulator", kind=TimingKind.PREDICTED, target="H100 SXM", method="prediction 1")
        is None
    )


def test_measured_and_predicted_times_have_leaderboards_of_their_own(running: Archive) -> None:
    one, two = examples.candidate(1), examples.candidate(2)
    running.record_evaluation(TASK, one, examples.passed(one.id, median_ns=5.0))
    running.record_evaluation(TASK, two, examples.passed(two.id, median_ns=6.0))
    running.record_evaluation(TASK, one, examples.passed(one.id, median_ns=90.0, kind=TimingKind.MEASURED))
    found = [(p.kind, p.place, p.candidate) for p in running.leaderboard("rmsnorm")]
    assert found == [
        (TimingKind.MEASURED, 1, one.id),
        (TimingKind.PREDICTED, 1, one.id),
        (TimingKind.PREDICTED, 2, two.id),
    ]


def test_times_of_two_versions_of_a_method_have_leaderboards_of_their_own(running: Archive) -> None:
    one, two = examples.candidate(1), examples.candidate(2)
    running.record_evaluation(TASK, one, examples.passed(one.id, median_ns=5.0, method="prediction 1"))
    running.record_evaluation(TASK, two, examples.passed(two.id, median_ns=6.0, method="prediction 2"))
    found = [(p.method, p.place, p.candidate) for p in running.leaderboard("rmsnorm")]
    assert found == [("prediction 1", 1, one.id), ("prediction 2", 1, two.id)]
    assert [p.candidate for p in running.leaderboard("rmsnorm", method="prediction 2")] == [two.id]


def test_times_of_another_method_are_no_scores_of_a_run(running: Archive) -> None:
    assert running.timed_as(RUN.id) is None
    seed = tell(running, 0, 0, method="prediction 1")
    tell(running, 1, 1, seed, median_ns=1.0, method="prediction 2")
    assert [s.score_ns is not None for s in running.scored(RUN.id)] == [True, False]
    assert running.timed_as(RUN.id) == ("predicted", "H100 SXM", "prediction 1")


def test_a_newer_evaluation_replaces_an_older_one_on_the_leaderboard(running: Archive) -> None:
    candidate = examples.candidate(1)
    running.record_evaluation(TASK, candidate, examples.passed(candidate.id))
    running.record_evaluation(TASK, candidate, examples.wrong(candidate.id))
    assert running.leaderboard("rmsnorm") == []


def test_a_leaderboard_that_was_asked_before_has_what_came_since_also_from_others(running: Archive, place: str) -> None:
    tell(running, 0, 0)
    assert len(running.leaderboard()) == 1
    newer = examples.task(digest="t-2")
    with open_archive(place) as other:
        one, two = examples.candidate(1), examples.candidate(2)
        other.record_evaluation(newer, one, examples.passed(one.id, kind=TimingKind.MEASURED))
        other.record_evaluation(examples.task("gelu"), two, examples.passed(two.id))
    assert [(p.task, p.task_digest, p.device) for p in running.leaderboard()] == [
        ("gelu", "t-1", "emulator"),
        ("rmsnorm", "t-1", "emulator"),
        ("rmsnorm", "t-2", "cuda"),
    ]
    assert [p.device for p in running.leaderboard("rmsnorm")] == ["cuda"], "of the newest version"
    assert running.leaderboard("softmax") == []


def test_a_leaderboard_of_a_run_holds_only_its_candidates(running: Archive) -> None:
    seed = tell(running, 0, 0)
    outside = examples.candidate(9)
    running.record_evaluation(TASK, outside, examples.passed(outside.id, median_ns=1.0))
    assert [p.candidate for p in running.leaderboard("rmsnorm", run=RUN.id)] == [seed]
    assert [p.candidate for p in running.leaderboard("rmsnorm", limit=1)] == [outside.id]


def test_a_run_is_held_by_one_at_a_time_and_free_afterwards(running: Archive) -> None:
    with running.holding(examples.run().id):
        with pytest.raises(UsageError, match="under way in another process"), running.holding(examples.run().id):
            pass
        with running.holding("r-000000000000"):
            pass
    with running.holding(examples.run().id):
        pass


# --- several at once


def test_threads_of_one_process_may_record_at_once(archive: Archive) -> None:
    archive.create_run(RUN, TASK)
    problems: list[BaseException] = []

    def record(start: int) -> None:
        try:
            for iteration in range(start, 40, 4):
                candidate = examples.candidate(iteration)
                archive.record(examples.job(iteration), candidate, examples.passed(candidate.id))
                archive.scored(RUN.id)
        except BaseException as error:
            problems.append(error)

    threads = [threading.Thread(target=record, args=(start,)) for start in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert problems == []
    assert [s.iteration for s in archive.scored(RUN.id)] == list(range(40))


def test_a_reader_sees_what_a_running_writer_has_recorded_so_far(archive: Archive, place: str) -> None:
    archive.create_run(RUN, TASK)
    with open_archive(place, read_only=True) as reader:
        assert reader.scored(RUN.id) == []
        candidate = examples.candidate(0)
        archive.record(examples.job(0), candidate, examples.passed(candidate.id))
        assert [s.candidate for s in reader.scored(RUN.id)] == [candidate.id]
