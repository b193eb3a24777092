"""Money and opinions: every request to a paid model, what it cost, and what judges said with it.

Takes records, gives records. A request is written down before it is sent (`begin`), and once more when it has ended:
as a reply (Archive.record_reply), a judgement (`judged`) or a failure (`fail`). What has no end when a run goes on
again was under way when it was cut off: `close_cut_off` ends it with an unknown cost, so that the ledger never claims
to know more than it does. Free models have no requests.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from sqlalchemy import Connection, Engine, RowMapping, delete, func, select, text

from kernelevo.archive import rows
from kernelevo.archive import tables as t
from kernelevo.archive.answers import Cost, ModelCost
from kernelevo.archive.connection import reading, writing
from kernelevo.records import Candidate, Decision, FailedCall, Gate, Job, Judged, Judgement, Price, Reply, Task

TOKENS = ("input_tokens", "cached_tokens", "output_tokens", "reasoning_tokens")


class Ledger:
    """The part of an archive that knows what was paid for. `archive.ledger` is it."""

    def __init__(self, engine: Engine, now: Callable[[], str]) -> None:
        self.engine = engine
        self.now = now

    # --- requests ---------------------------------------------------------------------------------------------------

    def begin(self, job: Job, model: str, *, purpose: str = "propose") -> int:
        """Writes a request down before it is sent; gives its number."""
        with writing(self.engine) as connection:
            number = rows.following(connection, select(func.max(t.Calls.id)))
            row = {
                "id": number,
                "run_id": job.run,
                "iteration": job.iteration,
                "purpose": purpose,
                "model": model,
                "started_at": self.now(),
            }
            rows.insert(connection, {t.Calls: [row]})
            return number

    def fail(self, call: int, failed: FailedCall) -> None:
        """Ends a request that gave nothing."""
        with writing(self.engine) as connection:
            rows.insert(connection, {t.CallEnds: [self._end(call, failed.kind, failed.text, failed, failed.seconds)]})

    def withdraw(self, call: int) -> None:
        """Takes back a request that was never sent."""
        with writing(self.engine) as connection:
            connection.execute(delete(t.Calls).where(t.Calls.id == call))

    def close_cut_off(self, run: str) -> int:
        """Ends the requests of a run that nothing ended: their process died. Gives how many there were.

        Only for whoever holds the run: a request under way in a living process would be ended too.
        """
        with writing(self.engine) as connection:
            numbers = connection.execute(text(UNENDED), {"run": run}).scalars().all()
            words = "the process that waited for it was killed"
            ends = [self._end(number, "cut off", words, None, None) for number in numbers]
            rows.insert(connection, {t.CallEnds: ends})
            return len(ends)

    def cost(self, run: str) -> Cost:
        """What a run's requests cost, failed ones and those under way included."""
        with reading(self.engine) as connection:
            row = connection.execute(text(COST), {"run": run}).mappings().one()
        return Cost(
            calls=row["calls"],
            free_calls=row["free"] or 0,
            failed_calls=row["failed"] or 0,
            calls_under_way=row["under_way"] or 0,
            calls_of_unknown_cost=row["calls"] - row["priced"] - (row["under_way"] or 0),
            cost_usd=float(row["cost_usd"] or 0.0),
            seconds=float(row["seconds"] or 0.0),
            **{name: int(row[name] or 0) for name in TOKENS},
        )

    def by_model(self, run: str) -> list[ModelCost]:
        """What each model of a run was asked for, and what that cost."""
        with reading(self.engine) as connection:
            found = connection.execute(text(BY_MODEL), {"run": run}).mappings().all()
        known: list[dict[str, Any]] = [{str(k): 0 if v is None else v for k, v in row.items()} for row in found]
        return [ModelCost(**row) for row in known]

    def spending(self, run: str) -> dict[int, float | None]:
        """US dollars of each iteration's requests, judges and failures included; None: not all of them are known."""
        with reading(self.engine) as connection:
            found = connection.execute(text(SPENDING), {"run": run})
            return {row.iteration: None if row.unknown else float(row.cost_usd) for row in found}

    # --- what was agreed when the run began ---------------------------------------------------------------------------

    def agree(self, run: str, *, prices: Mapping[str, Price | None], limits: Mapping[str, float | None]) -> None:
        """Stores the prices and limits of a run. Of a run that goes on, new limits replace those before."""
        with writing(self.engine) as connection:
            had = set(connection.execute(select(t.RunPrices.model).where(t.RunPrices.run_id == run)).scalars())
            new_prices = [
                {"run_id": run, "model": model, **price_row(price)}
                for model, price in prices.items()
                if price is not None and model not in had
            ]
            given = {name: value for name, value in limits.items() if value is not None}
            connection.execute(delete(t.RunLimits).where(t.RunLimits.run_id == run, t.RunLimits.name.in_(given)))
            new_limits = [{"run_id": run, "name": name, "value": value} for name, value in given.items()]
            rows.insert(connection, {t.RunPrices: new_prices, t.RunLimits: new_limits})

    def prices(self, run: str) -> dict[str, Price]:
        """The prices that were known when the run began, by model."""
        p = t.RunPrices
        with reading(self.engine) as connection:
            found = connection.execute(select(p.model, p.input_usd, p.cached_usd, p.output_usd).where(p.run_id == run))
            return {m: Price(input_usd=i, cached_usd=c, output_usd=o) for m, i, c, o in found}

    def limits(self, run: str) -> dict[str, float]:
        """What ends the run early, by the names of kernelevo.budget.Budget."""
        query = select(t.RunLimits.name, t.RunLimits.value).where(t.RunLimits.run_id == run)
        with reading(self.engine) as connection:
            return {name: value for name, value in connection.execute(query)}

    # --- judges -------------------------------------------------------------------------------------------------------

    def judged_by(self, call: int, candidate: Candidate, judgement: Judgement) -> None:
        """Ends a request with the judgement that it gave."""
        reply = judgement.reply
        row = {
            "call_id": call,
            "candidate_id": candidate.id,
            "judge": judgement.judge,
            "vote": judgement.vote,
            "text": reply.text,
            "finish_reason": reply.finish_reason,
            "accepts": judgement.accepts,
            "confidence": judgement.confidence,
            "reason": judgement.reason,
        }
        with writing(self.engine) as connection:
            rows.insert(
                connection,
                {
                    **rows.candidate_rows(candidate),
                    t.CallEnds: [self._end(call, "judged", "", reply, reply.seconds)],
                    t.Judgements: [row],
                },
            )

    def judgements(self, run: str, iteration: int) -> tuple[Judgement, ...]:
        """What was said of a job's candidate, in the order of asking."""
        where = "c.run_id = :run AND c.iteration = :iteration"
        with reading(self.engine) as connection:
            found = connection.execute(text(JUDGEMENTS.format(where=where)), {"run": run, "iteration": iteration})
            return tuple(read_judgement(row) for row in found.mappings())

    def decide(self, job: Job, candidate: Candidate, gate: Gate) -> None:
        """Stores what was made of the judgements on a job's candidate."""
        at = {"run_id": job.run, "iteration": job.iteration}
        row = {
            **at,
            "candidate_id": gate.candidate,
            "probability": gate.probability,
            "threshold": gate.threshold,
            "method": gate.method,
            "reason": gate.reason,
            "decision": gate.decision.value,
            "decided_at": self.now(),
        }
        features = [{**at, "name": name, "value": value} for name, value in gate.features.items()]
        with writing(self.engine) as connection:
            rows.insert(
                connection,
                {**rows.candidate_rows(candidate), t.GateDecisions: [row], t.GateFeatures: features},
            )

    def gate(self, run: str, iteration: int) -> Gate | None:
        """The gate's decision on a job's candidate, if there was one."""
        with reading(self.engine) as connection:
            return read_gate(connection, run, iteration)

    def judged(self, task: Task | None, device: str | None, *, run: str | None = None) -> tuple[Judged, ...]:
        """Every job whose candidate was judged, beside what was found of it, oldest first.

        task, device: of these files and this device only; None: any. run: of this run only.
        """
        given = {"task": task and task.name, "digest": task and task.digest, "device": device, "run": run}
        columns = {"task": "t.name", "digest": "t.digest", "device": "r.device", "run": "c.run_id"}
        wanted = {name: value for name, value in given.items() if value is not None}
        where = " AND ".join(f"{columns[name]} = :{name}" for name in wanted) or "1 = 1"
        with reading(self.engine) as connection:
            jobs = connection.execute(text(JUDGED.format(where=where)), wanted).mappings().all()
            result = []
            for job in jobs:
                at = {"run": job["run_id"], "iteration": job["iteration"]}
                found = connection.execute(
                    text(JUDGEMENTS.format(where="c.run_id = :run AND c.iteration = :iteration")), at
                )
                result.append(
                    Judged(
                        candidate=job["candidate_id"],
                        judgements=tuple(read_judgement(row) for row in found.mappings()),
                        gate=read_gate(connection, job["run_id"], job["iteration"]),
                        status=job["status"],
                        evaluation_seconds=job["seconds"],
                    )
                )
        return tuple(result)

    def _end(self, call: int, outcome: str, words: str, known: FailedCall | Reply | None, seconds: float | None) -> Any:
        tokens = {name: getattr(known, name, None) for name in (*TOKENS, "cost_usd")}
        return {
            "call_id": call,
            "outcome": outcome,
            "text": words,
            **tokens,
            "seconds": seconds,
            "ended_at": self.now(),
        }


def price_row(price: Price) -> rows.Row:
    return {"input_usd": price.input_usd, "cached_usd": price.cached_usd, "output_usd": price.output_usd}


def read_judgement(row: RowMapping) -> Judgement:
    return Judgement(
        candidate=row["candidate_id"],
        judge=row["judge"],
        vote=row["vote"],
        reply=Reply(
            model=row["model"],
            text=row["text"],
            cost_usd=row["cost_usd"],
            seconds=row["seconds"],
            finish_reason=row["finish_reason"],
            **{name: row[name] for name in TOKENS},
        ),
        accepts=None if row["accepts"] is None else bool(row["accepts"]),
        confidence=row["confidence"],
        reason=row["reason"],
    )


def read_gate(connection: Connection, run: str, iteration: int) -> Gate | None:
    g, f = t.GateDecisions, t.GateFeatures
    here = select(g.__table__).where(g.run_id == run, g.iteration == iteration)
    row = connection.execute(here).one_or_none()
    if row is None:
        return None
    features = connection.execute(select(f.name, f.value).where(f.run_id == run, f.iteration == iteration))
    return Gate(
        candidate=row.candidate_id,
        features={name: value for name, value in features},
        probability=row.probability,
        threshold=row.threshold,
        method=row.method,
        reason=row.reason,
        decision=Decision(row.decision),
    )


UNENDED = """
SELECT c.id FROM calls c
WHERE c.run_id = :run AND NOT EXISTS (SELECT 1 FROM call_ends x WHERE x.call_id = c.id)
  AND NOT EXISTS (SELECT 1 FROM replies r WHERE r.call_id = c.id)
"""

COST = """
SELECT COUNT(*) AS calls, COUNT(cost_usd) AS priced, SUM(cost_usd) AS cost_usd, SUM(seconds) AS seconds,
       SUM(CASE WHEN outcome IN ('reply', 'judged', 'under way') THEN 0 ELSE 1 END) AS failed,
       SUM(CASE WHEN outcome = 'under way' THEN 1 ELSE 0 END) AS under_way,
       SUM(CASE WHEN started_at IS NULL AND cost_usd = 0 THEN 1 ELSE 0 END) AS free,
       SUM(input_tokens) AS input_tokens, SUM(cached_tokens) AS cached_tokens, SUM(output_tokens) AS output_tokens,
       SUM(reasoning_tokens) AS reasoning_tokens
FROM ledger WHERE run = :run
"""

BY_MODEL = """
SELECT model, purpose, calls, failed_calls, calls_of_unknown_cost, cost_usd, input_tokens, cached_tokens, output_tokens,
       total_seconds AS seconds
FROM costs WHERE run = :run ORDER BY purpose DESC, model
"""

SPENDING = """
SELECT iteration, SUM(cost_usd) AS cost_usd, COUNT(*) - COUNT(cost_usd) AS unknown
FROM ledger WHERE run = :run GROUP BY iteration
"""

JUDGEMENTS = """
SELECT y.*, c.model, x.input_tokens, x.cached_tokens, x.output_tokens, x.reasoning_tokens, x.cost_usd, x.seconds
FROM judgements y JOIN calls c ON c.id = y.call_id JOIN call_ends x ON x.call_id = c.id
WHERE {where} ORDER BY y.call_id
"""

JUDGED = """
SELECT c.run_id, c.iteration, y.candidate_id, MIN(y.call_id) AS first,
       CASE WHEN e.id IS NULL THEN NULL ELSE COALESCE(v.outcome, 'build failed') END AS status,
       (SELECT SUM(s.seconds) FROM evaluation_stages s WHERE s.evaluation_id = e.id) AS seconds
FROM judgements y
JOIN calls c ON c.id = y.call_id
JOIN runs r ON r.id = c.run_id
JOIN tasks t ON t.id = r.task_id
LEFT JOIN evaluations e ON e.id = (SELECT MAX(n.id) FROM evaluations n WHERE n.candidate_id = y.candidate_id
                                   AND n.task_id = r.task_id AND n.device = r.device)
LEFT JOIN verdicts v ON v.evaluation_id = e.id
WHERE {where}
GROUP BY c.run_id, c.iteration, y.candidate_id, e.id, v.outcome
ORDER BY first
"""
