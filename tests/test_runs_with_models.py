"""Whole runs with language models, against a real server that speaks their APIs and misbehaves in every way."""

from __future__ import annotations

import math
import threading
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from providers.scripts import MISTAKES, SEED, good, judge, mixed, whole
from providers.server import Answer, Entry, ProviderServer, Request, error, reply

from kernelevo import Budget, Evolution, evolve, load_task, open_archive
from kernelevo.archive import Archive
from kernelevo.config import OwnPrice, Settings
from kernelevo.devices.emulator import EmulatorDevice
from kernelevo.errors import ModelError, UsageError
from kernelevo.lineage import first_difference, lineage_hash
from kernelevo.records import Decision, Operator
from kernelevo.site import Event, Step, stop_file

pytestmark = [pytest.mark.nvcc, pytest.mark.slow]

TASK = load_task("gelu")
KEY = "sk-secret-0123456789"


def settings(*names: str, **more: object) -> Settings:
    prices = {name.partition("?")[0]: OwnPrice(input=2.0, cached=0.5, output=8.0) for name in names}
    return Settings(prices=prices, **more)  # type: ignore[arg-type]


def dollars(log: list[Entry]) -> float:
    """What the provider wants for the requests that it billed, by the prices above."""
    return math.fsum(
        (e.input_tokens - e.cached_tokens - e.written_tokens) * 2e-6
        + e.cached_tokens * 0.5e-6
        + e.written_tokens * 2.5e-6
        + e.output_tokens * 8e-6
        for e in log
        if e.billed
    )


def run(
    archive: Archive, device: EmulatorDevice, *names: str, watch: Callable[[Event], None] | None = None, **more: object
) -> Evolution:
    options = {"settings": settings(*names), "models": names, **more}
    return evolve(TASK, archive, device=device, watch=watch or (lambda event: None), **options)  # type: ignore[arg-type]


def test_a_run_in_which_everything_fails_in_turn_goes_on_keeps_its_books_and_can_be_replayed(
    tmp_path: Path, emulator: EmulatorDevice, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SERVER_KEY", KEY)
    events: list[Event] = []
    with ProviderServer(mixed) as server, open_archive(tmp_path / "a.sqlite") as archive:
        names = (f"anthropic:m1@{server.url}?key=SERVER_KEY", f"openai:m2@{server.url}/v1?key=SERVER_KEY")
        result = run(archive, emulator, *names, generations=4, population=3, watch=events.append)
        assert {request.key for request in server.requests} == {KEY}
        assert len(server.log) >= 3 * len(MISTAKES) // 2, "the run ended before every kind of failure was met"
        cost = archive.ledger.cost(result.run.id)
        assert cost.calls - cost.free_calls == len(server.log)
        assert cost.calls_under_way == 0
        unfinished = [e for e in server.log if e.status in (0, 200) and not e.finish]  # nobody told their usage
        assert cost.cost_usd == pytest.approx(dollars([e for e in server.log if e not in unfinished]))
        assert cost.calls_of_unknown_cost == len(unfinished)
        kinds = Counter(event.text.partition(":")[0] for event in events if event.step is Step.CALL_FAILED)
        assert set(kinds) == {"rate limited", "server error", "cut off", "malformed", "connection"}
        statuses = {s.status for s in archive.scored(result.run.id)}
        assert {"passed", "build failed"} <= statuses
        assert archive.told(result.run.id) == set(range(13))
        assert any("of no use" in p.messages[1].text for i in range(1, 13) for p in archive.prompts(result.run.id, i))

        asked = len(server.log)
        again = [evolve(TASK, archive, device=emulator, replay=result.run.id).run.id for _ in range(2)]
        assert len(server.log) == asked, "a replay asked the server"
        hashes = {lineage_hash(archive, one) for one in (result.run.id, *again)}
        assert len(hashes) == 1, first_difference(archive, result.run.id, again[0])
        assert [archive.ledger.cost(one).cost_usd for one in again] == [0.0, 0.0]
    kept = b"".join(path.read_bytes() for path in tmp_path.iterdir())
    assert KEY.encode() not in kept


def test_a_budget_in_dollars_ends_the_run_and_is_not_passed(tmp_path: Path, emulator: EmulatorDevice) -> None:
    with ProviderServer(good) as server, open_archive(tmp_path / "a.sqlite") as archive:
        name = f"openai:m@{server.url}/v1"
        budget = Budget(usd=0.03)
        result = run(archive, emulator, name, generations=20, population=2, budget=budget)
        assert result.stop_reason is not None and "of 0.03 US dollars" in result.stop_reason
        assert 0.015 < dollars(server.log) <= 0.03
        replies = [r for job in archive.jobs(result.run.id) for r in archive.replies(result.run.id, job.iteration)]
        stopped = sum(r.finish_reason == "budget" for r in replies)  # the last one, whose usage nobody told
        cost = archive.ledger.cost(result.run.id)
        assert cost.calls_of_unknown_cost == stopped <= 1
        assert cost.cost_usd == pytest.approx(dollars(server.log[: len(server.log) - stopped]))
        entry = archive.list_runs()[-1]
        assert entry.status == "finished" and entry.attempts < 41
        more = run(archive, emulator, resume=result.run.id, settings=settings(name), budget=Budget(usd=0.045))
        assert more.candidates > result.candidates, "with more money the run goes on"


def test_a_budget_in_dollars_for_a_model_without_a_price_is_refused(tmp_path: Path) -> None:
    with open_archive(tmp_path / "a.sqlite") as archive, pytest.raises(UsageError, match=r"openai:m@http.*not known"):
        evolve(TASK, archive, models=["openai:m@http://127.0.0.1:9/v1"], budget=Budget(usd=1.0), settings=Settings())


def test_a_model_that_can_never_be_asked_ends_the_run_at_once_in_the_providers_words(
    tmp_path: Path, emulator: EmulatorDevice
) -> None:
    script = [error(401, "this key is not known", kind="authentication_error")]
    with ProviderServer(script) as server, open_archive(tmp_path / "a.sqlite") as archive:
        with pytest.raises(ModelError, match="this key is not known"):
            run(archive, emulator, f"anthropic:m@{server.url}", generations=2, population=1)
        assert archive.list_runs()[-1].status == "failed"
        assert archive.told(archive.list_runs()[-1].run.id) == {0}, "the proposal is still to be made"


def test_a_stop_file_lets_what_is_begun_end_and_resume_goes_on(tmp_path: Path, emulator: EmulatorDevice) -> None:
    with ProviderServer(good, latency_seconds=0.2) as server, open_archive(tmp_path / "a.sqlite") as archive:
        name = f"openai:m@{server.url}/v1"

        def stop_after_two(event: Event) -> None:
            if event.step is Step.TOLD and event.job is not None and event.job.iteration == 2:
                stop_file(archive, event.job.run).touch()

        first = run(archive, emulator, name, generations=6, population=1, lookahead=0, watch=stop_after_two)
        assert first.stop_reason is not None and "stop file" in first.stop_reason
        assert archive.told(first.run.id) == {0, 1, 2}
        with pytest.raises(UsageError, match=r"PREDICTED for H100 SXM by prediction 2, and would now be .* by pred"):
            later = EmulatorDevice()
            later.timing_method = "prediction of a later version"
            run(archive, later, resume=first.run.id, settings=settings(name))
        assert stop_file(archive, first.run.id).exists(), "nothing was begun"
        more = run(archive, emulator, resume=first.run.id, settings=settings(name), budget=Budget(evaluations=5))
        assert not stop_file(archive, first.run.id).exists()
        assert more.stop_reason is not None and "5 of 5 evaluations" in more.stop_reason


def test_an_interruption_waits_for_replies_that_are_paid_for_and_keeps_them(
    tmp_path: Path, emulator: EmulatorDevice
) -> None:
    with ProviderServer(good, latency_seconds=1.0) as server, open_archive(tmp_path / "a.sqlite") as archive:
        name = f"openai:m@{server.url}/v1"

        def interrupt(event: Event) -> None:
            if event.step is Step.ASKED and event.job is not None and event.job.iteration == 2:
                time.sleep(0.3)  # both requests are out
                raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            run(archive, emulator, name, generations=1, population=2, watch=interrupt)
        entry = archive.list_runs()[-1]
        assert entry.status == "stopped"
        pending = archive.progress(entry.run.id).pending
        assert [len(p.replies) for p in pending] == [1, 1], "a reply that was paid for is lost"
        asked = len(server.log)
        run(archive, emulator, resume=entry.run.id, settings=settings(name))
        assert len(server.log) == asked == 2, "a reply was paid for twice"


def test_proposals_wait_side_by_side_and_overlap_evaluations(tmp_path: Path, emulator: EmulatorDevice) -> None:
    overlapped = threading.Event()

    def watch(event: Event) -> None:
        if event.step is Step.STAGE and server.open > 0:
            overlapped.set()

    with ProviderServer(good, latency_seconds=1.0) as server, open_archive(tmp_path / "a.sqlite") as archive:
        run(archive, emulator, f"openai:m@{server.url}/v1", generations=3, population=4, watch=watch)
        assert server.most_open == 4
        assert overlapped.is_set()


def test_judges_refuse_what_will_not_pass_and_never_override_what_was_measured(
    tmp_path: Path, emulator: EmulatorDevice
) -> None:
    def script(request: Request) -> Answer:
        if request.model == "judge":
            return judge(request)
        wrong = whole(request.number).text.replace("0.5f", "0.25f")
        return reply(wrong)

    with ProviderServer(script) as server, open_archive(tmp_path / "a.sqlite") as archive:
        model, judging = f"openai:m@{server.url}/v1", f"openai:judge@{server.url}/v1"
        result = run(
            archive,
            emulator,
            model,
            judges=[judging],
            settings=settings(model, judging),
            generations=2,
            population=2,
            strategy="best_of_n",
            lookahead=0,
            budget=Budget(evaluations=3),
        )
        assert len(archive.ledger.judged(TASK, "emulator")) < 4, "it ended early"
        result = run(
            archive, emulator, resume=result.run.id, settings=settings(model, judging), budget=Budget(evaluations=99)
        )
        assert archive.get_run(result.run.id).judges == (judging,), "and they go on judging"
        judged = archive.ledger.judged(TASK, "emulator")
        assert len(judged) == 4
        assert all(len(entry.judgements) >= 3 and entry.gate is not None for entry in judged)
        for entry in judged:
            assert entry.gate is not None
            assert (entry.status is None) == (entry.gate.decision is Decision.DEFER)
        assert result.best is not None and result.best.source == SEED
        cost = archive.ledger.cost(result.run.id)
        assert cost.cost_usd == pytest.approx(dollars(server.log))
        asked = len(server.log)
        again = evolve(TASK, archive, device=emulator, replay=result.run.id)
        assert lineage_hash(archive, again.run.id) == lineage_hash(archive, result.run.id)
        assert len(server.log) == asked


def test_a_new_best_that_declares_tunables_is_tuned_without_asking_a_model(
    tmp_path: Path, emulator: EmulatorDevice
) -> None:
    tunable = SEED.replace(
        "    const int threads = 256;",
        "    // tunable: threads = 32, 256, 512\n    constexpr int threads = 32;",
    )
    assert tunable != SEED
    with ProviderServer([reply(f"```cuda\n{tunable}```")]) as server, open_archive(tmp_path / "a.sqlite") as archive:
        name = f"openai:m@{server.url}/v1"
        untried = replace(TASK, seed_source=None)  # so that the reply is the best there is
        result = evolve(
            untried,
            archive,
            models=[name],
            device=emulator,
            generations=2,
            population=1,
            lookahead=0,
            settings=settings(name),
        )
        assert [job.operator for job in archive.jobs(result.run.id)] == [Operator.TRANSLATE, Operator.TUNE]
        assert len(server.log) == 1
        tried = archive.notes.tuning(result.run.id, 2)
        assert {t.configuration for t in tried} == {"threads=32", "threads=256", "threads=512"}
        times = {t.configuration: t.score_ns for t in tried}
        assert result.best is not None
        assert f"threads = {min(times, key=lambda c: times[c] or math.inf).partition('=')[2]}" in result.best.source
