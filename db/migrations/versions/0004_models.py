"""What runs with language models add: the ledger of requests, limits and prices, judges, tuning, lessons, hints, leases.

A released migration is never edited.
"""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"

WHOLE = sa.BigInteger().with_variant(sa.Integer(), "sqlite")  # SQLite numbers rows by columns of type INTEGER only

RESULTS = """
CREATE VIEW results AS
SELECT e.id AS evaluation_id, e.candidate_id AS candidate, t.name AS task, t.digest AS task_digest, e.device,
       COALESCE(v.outcome, 'build failed') AS status, m.kind, m.target, m.method, m.score_ns, m.device AS timed_on,
       COALESCE(v.reason, e.timing_reason) AS reason, e.recorded_at, e.shared_from,
       CASE WHEN EXISTS (SELECT 1 FROM evaluation_stages s WHERE s.evaluation_id = e.id AND s.stage = 'promotion'
                         AND s.outcome = 'passed') THEN 1 ELSE 0 END AS promoted,
       CASE WHEN EXISTS (SELECT 1 FROM evaluations n WHERE n.candidate_id = e.candidate_id AND n.task_id = e.task_id
                         AND n.device = e.device AND n.id > e.id) THEN 0 ELSE 1 END AS newest
FROM evaluations e
JOIN tasks t ON t.id = e.task_id
LEFT JOIN verdicts v ON v.evaluation_id = e.id
LEFT JOIN timings m ON m.evaluation_id = e.id
"""

LEADERBOARD = """
CREATE VIEW leaderboard AS
SELECT task, device, target, kind, method,
       ROW_NUMBER() OVER (PARTITION BY task, task_digest, device, target, kind, method
                          ORDER BY score_ns, evaluation_id) AS place,
       candidate, score_ns, timed_on, promoted, task_digest, evaluation_id
FROM results
WHERE newest = 1 AND status = 'passed' AND score_ns IS NOT NULL
"""

HISTORY = """
CREATE VIEW history AS
SELECT a.id AS attempt_id, t.name AS task, COALESCE(e.device, r.device) AS device, a.run_id AS run, a.iteration,
       j.generation, j.operator, j.model, j.island, p.parent_id AS parent, q.parent_id AS second_parent,
       a.candidate_id AS candidate,
       CASE WHEN a.candidate_id IS NULL THEN 'propose'
            WHEN e.id IS NULL THEN 'evaluate'
            ELSE COALESCE((SELECT s.stage FROM evaluation_stages s
                           WHERE s.evaluation_id = e.id AND s.outcome = 'failed' ORDER BY s.position LIMIT 1),
                          CASE WHEN v.evaluation_id IS NULL THEN 'build'
                               WHEN v.outcome <> 'passed' THEN 'correctness'
                               WHEN m.evaluation_id IS NULL THEN 'measure'
                               ELSE 'done' END) END AS stage,
       CASE WHEN a.candidate_id IS NULL THEN 'no candidate'
            WHEN e.id IS NULL THEN 'not evaluated'
            WHEN v.outcome = 'passed' AND m.evaluation_id IS NULL THEN 'no time'
            ELSE COALESCE(v.outcome, 'build failed') END AS outcome,
       m.kind, m.target, m.method, m.score_ns,
       (SELECT SUM(y.seconds) FROM replies y
        WHERE y.run_id = a.run_id AND y.iteration = a.iteration) AS propose_seconds,
       (SELECT SUM(s.seconds) FROM evaluation_stages s WHERE s.evaluation_id = e.id) AS evaluation_seconds,
       COALESCE(a.reason, v.reason, e.timing_reason,
                (SELECT d.text FROM diagnostics d WHERE d.evaluation_id = e.id AND d.severity = 'error'
                 ORDER BY d.position LIMIT 1)) AS reason,
       a.recorded_at
FROM attempts a
LEFT JOIN runs r ON r.id = a.run_id
LEFT JOIN jobs j ON j.run_id = a.run_id AND j.iteration = a.iteration
LEFT JOIN job_parents p ON p.run_id = a.run_id AND p.iteration = a.iteration AND p.position = 0
LEFT JOIN job_parents q ON q.run_id = a.run_id AND q.iteration = a.iteration AND q.position = 1
LEFT JOIN evaluations e ON e.id = a.evaluation_id
LEFT JOIN tasks t ON t.id = COALESCE(e.task_id, r.task_id)
LEFT JOIN verdicts v ON v.evaluation_id = e.id
LEFT JOIN timings m ON m.evaluation_id = e.id
"""

FAILURES_BY_STAGE = """
CREATE VIEW failures_by_stage AS
SELECT task, device, stage, outcome, COUNT(*) AS attempts
FROM history
WHERE stage <> 'done'
GROUP BY task, device, stage, outcome
"""

LEDGER = """
CREATE VIEW ledger AS
SELECT c.run_id AS run, c.iteration, c.purpose, c.model,
       COALESCE(x.outcome, CASE WHEN r.call_id IS NULL THEN 'under way' ELSE 'reply' END) AS outcome, x.text,
       COALESCE(x.input_tokens, r.input_tokens) AS input_tokens,
       COALESCE(x.cached_tokens, r.cached_tokens) AS cached_tokens,
       COALESCE(x.output_tokens, r.output_tokens) AS output_tokens,
       COALESCE(x.reasoning_tokens, r.reasoning_tokens) AS reasoning_tokens,
       COALESCE(x.cost_usd, r.cost_usd) AS cost_usd, COALESCE(x.seconds, r.seconds) AS seconds,
       c.started_at, COALESCE(x.ended_at, r.received_at) AS ended_at
FROM calls c
LEFT JOIN call_ends x ON x.call_id = c.id
LEFT JOIN replies r ON r.call_id = c.id
UNION ALL
SELECT r.run_id, r.iteration, 'propose', r.model, 'reply', NULL, r.input_tokens, r.cached_tokens, r.output_tokens,
       r.reasoning_tokens, r.cost_usd, r.seconds, NULL, r.received_at
FROM replies r
JOIN runs u ON u.id = r.run_id
WHERE r.call_id IS NULL AND u.replay_of IS NULL
"""

COSTS = """
CREATE VIEW costs AS
SELECT run, model, purpose, COUNT(*) AS calls,
       SUM(CASE WHEN outcome IN ('reply', 'judged') THEN 0 ELSE 1 END) AS failed_calls,
       SUM(cost_usd) AS cost_usd, COUNT(*) - COUNT(cost_usd) AS calls_of_unknown_cost,
       SUM(input_tokens) AS input_tokens, SUM(cached_tokens) AS cached_tokens, SUM(output_tokens) AS output_tokens,
       SUM(reasoning_tokens) AS reasoning_tokens, SUM(seconds) AS total_seconds
FROM ledger
GROUP BY run, model, purpose
"""

JUDGED = """
CREATE VIEW judged AS
SELECT y.candidate_id AS candidate, y.judge, y.vote, c.model, y.accepts, y.confidence, y.reason,
       t.name AS task, e.device,
       CASE WHEN e.id IS NULL THEN NULL ELSE COALESCE(v.outcome, 'build failed') END AS outcome
FROM judgements y
JOIN calls c ON c.id = y.call_id
JOIN runs r ON r.id = c.run_id
JOIN tasks t ON t.id = r.task_id
LEFT JOIN evaluations e ON e.id = (SELECT MAX(n.id) FROM evaluations n
                                   WHERE n.candidate_id = y.candidate_id AND n.task_id = r.task_id)
LEFT JOIN verdicts v ON v.evaluation_id = e.id
"""


def upgrade() -> None:
    for view in ("costs", "failures_by_stage", "history", "leaderboard", "results"):
        op.execute(f"DROP VIEW {view}")
    op.add_column("runs", sa.Column("lookahead", WHOLE, nullable=False, server_default="0"))
    op.add_column("runs", sa.Column("replay_of", sa.Text(), nullable=True))
    op.add_column("runs", sa.Column("stop_reason", sa.Text(), nullable=True))
    op.add_column("run_models", sa.Column("purpose", sa.Text(), nullable=False, server_default="propose"))
    op.add_column("jobs", sa.Column("temperature", sa.Double(), nullable=True))
    op.add_column("replies", sa.Column("call_id", WHOLE, nullable=True))
    op.add_column("evaluations", sa.Column("limited_by", sa.Text(), nullable=True))
    op.add_column("evaluations", sa.Column("technique", sa.Text(), nullable=True))
    op.create_table(
        "run_limits",
        sa.Column("run_id", sa.Text(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("value", sa.Double(), nullable=False),
        sa.ForeignKeyConstraint(["run_id"], ["runs.id"], name="fk_run_limits_run_id"),
        sa.PrimaryKeyConstraint("run_id", "name", name="pk_run_limits"),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "run_prices",
        sa.Column("run_id", sa.Text(), nullable=False),
        sa.Column("model", sa.Text(), nullable=False),
        sa.Column("input_usd", sa.Double(), nullable=False),
        sa.Column("cached_usd", sa.Double(), nullable=False),
        sa.Column("output_usd", sa.Double(), nullable=False),
        sa.ForeignKeyConstraint(["run_id"], ["runs.id"], name="fk_run_prices_run_id"),
        sa.PrimaryKeyConstraint("run_id", "model", name="pk_run_prices"),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "hints",
        sa.Column("id", WHOLE, autoincrement=True, nullable=False),
        sa.Column("run_id", sa.Text(), nullable=False),
        sa.Column("text", sa.Text(), nullable=False),
        sa.Column("written_at", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(["run_id"], ["runs.id"], name="fk_hints_run_id"),
        sa.PrimaryKeyConstraint("id", name="pk_hints"),
    )
    op.create_index("ix_hints_run_id", "hints", ["run_id"])
    op.create_table(
        "job_inspirations",
        sa.Column("run_id", sa.Text(), nullable=False),
        sa.Column("iteration", WHOLE, nullable=False),
        sa.Column("position", WHOLE, nullable=False),
        sa.Column("candidate_id", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(["candidate_id"], ["candidates.id"], name="fk_job_inspirations_candidate_id"),
        sa.ForeignKeyConstraint(
            ["run_id", "iteration"], ["jobs.run_id", "jobs.iteration"], name="fk_job_inspirations_run_id_iteration"
        ),
        sa.PrimaryKeyConstraint("run_id", "iteration", "position", name="pk_job_inspirations"),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "leases",
        sa.Column("id", WHOLE, autoincrement=True, nullable=False),
        sa.Column("run_id", sa.Text(), nullable=False),
        sa.Column("iteration", WHOLE, nullable=False),
        sa.Column("holder", sa.Text(), nullable=False),
        sa.Column("leased_at", sa.Text(), nullable=False),
        sa.Column("leased_until", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(
            ["run_id", "iteration"], ["jobs.run_id", "jobs.iteration"], name="fk_leases_run_id_iteration"
        ),
        sa.PrimaryKeyConstraint("id", name="pk_leases"),
    )
    op.create_index("ix_leases_run_id_iteration", "leases", ["run_id", "iteration"])
    op.create_table(
        "calls",
        sa.Column("id", WHOLE, autoincrement=True, nullable=False),
        sa.Column("run_id", sa.Text(), nullable=False),
        sa.Column("iteration", WHOLE, nullable=False),
        sa.Column("purpose", sa.Text(), nullable=False),
        sa.Column("model", sa.Text(), nullable=False),
        sa.Column("started_at", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(
            ["run_id", "iteration"], ["jobs.run_id", "jobs.iteration"], name="fk_calls_run_id_iteration"
        ),
        sa.PrimaryKeyConstraint("id", name="pk_calls"),
    )
    op.create_index("ix_calls_run_id_iteration", "calls", ["run_id", "iteration"])
    op.create_table(
        "call_ends",
        sa.Column("call_id", WHOLE, nullable=False),
        sa.Column("outcome", sa.Text(), nullable=False),
        sa.Column("text", sa.Text(), nullable=False),
        sa.Column("input_tokens", WHOLE, nullable=True),
        sa.Column("cached_tokens", WHOLE, nullable=True),
        sa.Column("output_tokens", WHOLE, nullable=True),
        sa.Column("reasoning_tokens", WHOLE, nullable=True),
        sa.Column("cost_usd", sa.Double(), nullable=True),
        sa.Column("seconds", sa.Double(), nullable=True),
        sa.Column("ended_at", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(["call_id"], ["calls.id"], name="fk_call_ends_call_id"),
        sa.PrimaryKeyConstraint("call_id", name="pk_call_ends"),
    )
    op.create_table(
        "judgements",
        sa.Column("call_id", WHOLE, nullable=False),
        sa.Column("candidate_id", sa.Text(), nullable=False),
        sa.Column("judge", sa.Text(), nullable=False),
        sa.Column("vote", WHOLE, nullable=False),
        sa.Column("text", sa.Text(), nullable=False),
        sa.Column("finish_reason", sa.Text(), nullable=False),
        sa.Column("accepts", sa.Boolean(), nullable=True),
        sa.Column("confidence", sa.Double(), nullable=True),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(["call_id"], ["calls.id"], name="fk_judgements_call_id"),
        sa.ForeignKeyConstraint(["candidate_id"], ["candidates.id"], name="fk_judgements_candidate_id"),
        sa.PrimaryKeyConstraint("call_id", name="pk_judgements"),
    )
    op.create_index("ix_judgements_candidate_id", "judgements", ["candidate_id"])
    op.create_table(
        "gate_decisions",
        sa.Column("run_id", sa.Text(), nullable=False),
        sa.Column("iteration", WHOLE, nullable=False),
        sa.Column("candidate_id", sa.Text(), nullable=False),
        sa.Column("probability", sa.Double(), nullable=True),
        sa.Column("threshold", sa.Double(), nullable=False),
        sa.Column("method", sa.Text(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("decision", sa.Text(), nullable=False),
        sa.Column("decided_at", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(["candidate_id"], ["candidates.id"], name="fk_gate_decisions_candidate_id"),
        sa.ForeignKeyConstraint(
            ["run_id", "iteration"], ["jobs.run_id", "jobs.iteration"], name="fk_gate_decisions_run_id_iteration"
        ),
        sa.PrimaryKeyConstraint("run_id", "iteration", name="pk_gate_decisions"),
    )
    op.create_index("ix_gate_decisions_candidate_id", "gate_decisions", ["candidate_id"])
    op.create_table(
        "gate_features",
        sa.Column("run_id", sa.Text(), nullable=False),
        sa.Column("iteration", WHOLE, nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("value", sa.Double(), nullable=False),
        sa.ForeignKeyConstraint(
            ["run_id", "iteration"],
            ["gate_decisions.run_id", "gate_decisions.iteration"],
            name="fk_gate_features_run_id_iteration",
        ),
        sa.PrimaryKeyConstraint("run_id", "iteration", "name", name="pk_gate_features"),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "tuning",
        sa.Column("run_id", sa.Text(), nullable=False),
        sa.Column("iteration", WHOLE, nullable=False),
        sa.Column("position", WHOLE, nullable=False),
        sa.Column("configuration", sa.Text(), nullable=False),
        sa.Column("cases", WHOLE, nullable=False),
        sa.Column("score_ns", sa.Double(), nullable=True),
        sa.Column("reason", sa.Text(), nullable=True),
        sa.ForeignKeyConstraint(
            ["run_id", "iteration"], ["jobs.run_id", "jobs.iteration"], name="fk_tuning_run_id_iteration"
        ),
        sa.PrimaryKeyConstraint("run_id", "iteration", "position", name="pk_tuning"),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "lessons",
        sa.Column("id", WHOLE, autoincrement=True, nullable=False),
        sa.Column("run_id", sa.Text(), nullable=False),
        sa.Column("after_iteration", WHOLE, nullable=False),
        sa.Column("text", sa.Text(), nullable=False),
        sa.Column("written_at", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(["run_id"], ["runs.id"], name="fk_lessons_run_id"),
        sa.PrimaryKeyConstraint("id", name="pk_lessons"),
        sa.UniqueConstraint("run_id", "after_iteration", name="uq_lessons_run_id_after_iteration"),
    )
    op.create_index("ix_replies_call_id", "replies", ["call_id"])
    for view in (RESULTS, LEADERBOARD, HISTORY, FAILURES_BY_STAGE, LEDGER, COSTS, JUDGED):
        op.execute(view.strip())
