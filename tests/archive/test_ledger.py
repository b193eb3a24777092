"""The books of a run: requests before they are sent, how they ended, what judges said with them, leases and notes."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import archive_examples as examples
import pytest

from kernelevo.archive import Archive, open_archive
from kernelevo.archive.answers import Tuned
from kernelevo.records import Decision, FailedCall, Gate, Judgement, Price

RUN = examples.run()
JOB = examples.job(1)
SEED = examples.candidate(0)


@pytest.fixture
def running(archive: Archive) -> Archive:
    archive.create_run(RUN, examples.task())
    archive.record(examples.job(0), SEED, examples.passed(SEED.id))
    archive.record_job(JOB)
    return archive


def failed(kind: str = "timeout", **more: object) -> FailedCall:
    return FailedCall(model="m", kind=kind, text="it took too long", seconds=2.0, **more)  # type: ignore[arg-type]


def outcomes(archive: Archive) -> list[str]:
    with archive.engine.connect() as connection:
        rows = connection.exec_driver_sql("SELECT outcome FROM ledger WHERE model = 'm' ORDER BY started_at, outcome")
        return [row[0] for row in rows]


def test_a_request_is_under_way_until_something_ends_it(running: Archive) -> None:
    call = running.ledger.begin(JOB, "m")
    cost = running.ledger.cost(RUN.id)
    assert (cost.calls, cost.calls_under_way, cost.calls_of_unknown_cost) == (1, 1, 0)
    running.record_reply(
        JOB, 0, examples.prompt(SEED), examples.reply(model="m", cost_usd=0.5, input_tokens=9), call=call
    )
    cost = running.ledger.cost(RUN.id)
    assert (cost.calls, cost.calls_under_way, cost.cost_usd, cost.input_tokens) == (1, 0, 0.5, 9)
    assert outcomes(running) == ["reply"]


def test_a_failed_request_is_in_the_books_with_what_is_known_of_it(running: Archive) -> None:
    running.ledger.fail(running.ledger.begin(JOB, "m"), failed("rate limited", cost_usd=0.0))
    running.ledger.fail(running.ledger.begin(JOB, "m"), failed(input_tokens=100))
    cost = running.ledger.cost(RUN.id)
    assert (cost.calls, cost.failed_calls, cost.calls_of_unknown_cost, cost.cost_usd) == (2, 2, 1, 0.0)
    assert cost.input_tokens == 100
    assert running.ledger.spending(RUN.id) == {1: None}
    (row,) = running.ledger.by_model(RUN.id)
    assert (row.model, row.purpose, row.calls, row.failed_calls, row.seconds) == ("m", "propose", 2, 2, 4.0)


def test_a_request_that_was_never_sent_is_taken_back(running: Archive) -> None:
    running.ledger.withdraw(running.ledger.begin(JOB, "m"))
    assert running.ledger.cost(RUN.id).calls == 0


def test_requests_that_a_kill_cut_off_are_ended_when_the_run_goes_on_and_their_cost_stays_unknown(
    running: Archive,
) -> None:
    ended = running.ledger.begin(JOB, "m")
    running.record_reply(JOB, 0, examples.prompt(SEED), examples.reply(model="m"), call=ended)
    running.ledger.begin(JOB, "m")
    running.reopen_run(RUN.id)
    assert sorted(outcomes(running)) == ["cut off", "reply"]
    cost = running.ledger.cost(RUN.id)
    assert (cost.calls_under_way, cost.calls_of_unknown_cost, cost.failed_calls) == (0, 1, 1)
    assert running.ledger.close_cut_off(RUN.id) == 0


def test_prices_stay_as_they_were_and_new_limits_replace_old_ones(running: Archive) -> None:
    first = Price(input_usd=1.0, cached_usd=0.1, output_usd=4.0)
    running.ledger.agree(RUN.id, prices={"m": first, "unknown": None}, limits={"usd": 5.0, "seconds": None})
    running.ledger.agree(
        RUN.id,
        prices={"m": Price(input_usd=9.0, cached_usd=9.0, output_usd=9.0)},
        limits={"usd": 7.0, "evaluations": 3},
    )
    assert running.ledger.prices(RUN.id) == {"m": first}
    assert running.ledger.limits(RUN.id) == {"usd": 7.0, "evaluations": 3.0}


def test_judgements_and_the_decision_made_of_them_come_back_beside_what_was_found(running: Archive) -> None:
    child = examples.candidate(1, SEED.id)
    votes = [
        Judgement(
            candidate=child.id,
            judge=judge,
            vote=0,
            reply=examples.reply("yes", model="m", cost_usd=0.125),
            accepts=accepts,
            confidence=0.75 if accepts is not None else None,
            reason="it looks right",
        )
        for judge, accepts in (("compiles", True), ("memory", None), ("numerics", False))
    ]
    for vote in votes:
        running.ledger.judged_by(running.ledger.begin(JOB, "m", purpose="judge"), child, vote)
    gate = Gate(
        candidate=child.id,
        features={"lines": 3.5},
        probability=0.25,
        threshold=0.2,
        method="label model 1",
        reason="two judges",
        decision=Decision.EVALUATE,
    )
    running.ledger.decide(JOB, child, gate)
    assert running.ledger.judgements(RUN.id, 1) == tuple(votes)
    assert running.ledger.gate(RUN.id, 1) == gate
    assert running.ledger.gate(RUN.id, 0) is None
    (before,) = running.ledger.judged(examples.task(), RUN.device)
    assert (before.judgements, before.gate, before.status) == (tuple(votes), gate, None)
    running.record(JOB, child, examples.wrong(child.id))
    (after,) = running.ledger.judged(None, None, run=RUN.id)
    assert after.status == "wrong" and after.evaluation_seconds is not None
    assert running.ledger.judged(examples.task(digest="t-2"), RUN.device) == ()
    assert running.ledger.cost(RUN.id).cost_usd == pytest.approx(0.375)


def test_what_a_replayed_run_reads_again_costs_nothing(running: Archive) -> None:
    repeated = replace(RUN, id="r-000000000009", replay_of=RUN.id)
    running.create_run(repeated, examples.task())
    assert running.get_run(repeated.id) == repeated
    job = replace(JOB, run=repeated.id, inspirations=(SEED.id,), temperature=0.5)
    running.record_reply(job, 0, examples.prompt(SEED), examples.reply(cost_usd=2.0))
    assert running.ledger.cost(repeated.id).cost_usd == 0.0
    assert running.jobs(repeated.id) == [job]


class Clock:
    def __init__(self) -> None:
        self.now = datetime(2026, 1, 1, tzinfo=UTC)

    def __call__(self) -> datetime:
        return self.now


@pytest.fixture
def timed(place: str) -> Iterator[tuple[Archive, Clock]]:
    clock = Clock()
    with open_archive(place, clock=clock) as archive:
        archive.create_run(RUN, examples.task())
        archive.record_job(JOB)
        yield archive, clock


def test_a_job_is_leased_to_one_holder_until_its_lease_ends(timed: tuple[Archive, Clock]) -> None:
    archive, clock = timed
    assert archive.leases.free(RUN.id) == [1]
    lease = archive.leases.take(JOB, holder="ada", seconds=60)
    assert lease is not None and not lease.expired
    assert archive.leases.take(JOB, holder="bob", seconds=60) is None
    assert archive.leases.free(RUN.id) == []
    clock.now += timedelta(seconds=60)
    assert archive.leases.free(RUN.id) == [1]
    newest = archive.leases.newest(RUN.id, 1)
    assert newest is not None and newest.expired and newest.holder == "ada"
    assert archive.leases.take(JOB, holder="bob", seconds=60) is not None
    archive.record(JOB, None, None, reason="no kernel")
    assert archive.leases.take(JOB, holder="eve", seconds=60) is None, "it was told"
    assert archive.leases.free(RUN.id) == []


def test_hints_lessons_and_tuning_come_back_in_order(running: Archive) -> None:
    for text in ("use float4", "keep the row in registers"):
        running.notes.write_hint(RUN.id, text)
    assert running.notes.hints(RUN.id) == ("use float4", "keep the row in registers")
    running.notes.write_lesson(RUN.id, after_iteration=12, text="first")
    running.notes.write_lesson(RUN.id, after_iteration=12, text="written already")
    running.notes.write_lesson(RUN.id, after_iteration=24, text="second")
    assert [lesson.text for lesson in running.notes.lessons(run=RUN.id)] == ["first", "second"]
    assert [(lesson.task, lesson.text) for lesson in running.notes.lessons()] == [("rmsnorm", "second")]
    tried = (
        Tuned(configuration="BLOCK=128", cases=2, score_ns=10.0, reason=None),
        Tuned(configuration="BLOCK=256", cases=1, score_ns=None, reason="it does not build"),
    )
    running.notes.write_tuning(JOB, tried)
    assert running.notes.tuning(RUN.id, 1) == tried
