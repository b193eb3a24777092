"""db/gallery.sqlite: kernels of every shipped task, written by coding agents through ask and tell."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from kernelevo import load_task, open_archive
from kernelevo.archive import Archive
from kernelevo.decide import AGENT
from kernelevo.records import TimingKind
from kernelevo.tasks import list_tasks

TASKS = [summary.name for summary in list_tasks()]


@pytest.fixture(scope="module")
def gallery() -> Iterator[Archive]:
    with open_archive(Path(__file__).resolve().parents[1] / "db" / "gallery.sqlite", read_only=True) as archive:
        yield archive


@pytest.mark.parametrize("name", TASKS)
def test_every_task_has_kernels_of_agents_and_the_best_is_proven_and_faster_than_the_seed(
    name: str, gallery: Archive
) -> None:
    task = load_task(name)
    (run,) = [entry.run for entry in gallery.list_runs(task=name) if entry.run.task_digest == task.digest]
    assert run.models == (AGENT,)
    told = {job.iteration for job in gallery.jobs(run.id) if job.model == AGENT} & gallery.told(run.id)
    assert len(told - {0}) >= 6
    best = gallery.best(name, device="emulator", kind=TimingKind.PREDICTED, target="H100 SXM", method="prediction 2")
    assert best is not None
    evaluation = gallery.known(best.candidate, task, "emulator")
    assert evaluation is not None and evaluation.passed and evaluation.promoted and evaluation.timing is not None
    seed = next(s.candidate for s in gallery.scored(run.id) if s.iteration == 0)
    before = gallery.known(seed, task, "emulator")
    assert before is not None and before.timing is not None
    assert before.timing.method == evaluation.timing.method, "the two times do not compare"
    assert evaluation.timing.score_ns < before.timing.score_ns
    assert len(list(gallery.lineage(best.candidate, run=run.id).walk())) >= 2
