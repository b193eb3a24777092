"""Stages with an outcome and a text, findings with a place, and keys by which equal kernels share an evaluation.

A released migration is never edited.
"""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"

COLUMNS = {
    "evaluations": ("source_key", "kernel_key", "shared_from"),
    "evaluation_stages": ("outcome", "text"),
    "verdicts": ("integrity_seconds", "failed_in"),
    "findings": ("block", "thread", "address", "allocation", "access_bytes"),
}
NUMBERS = ("address", "access_bytes")
SECONDS = ("integrity_seconds",)

RESULTS = """
CREATE VIEW results AS
SELECT e.id AS evaluation_id, e.candidate_id AS candidate, t.name AS task, t.digest AS task_digest, e.device,
       COALESCE(v.outcome, 'build failed') AS status, m.kind, m.target, m.score_ns, m.device AS timed_on,
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
SELECT task, device, target, kind,
       ROW_NUMBER() OVER (PARTITION BY task, task_digest, device, target, kind
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
       m.kind, m.target, m.score_ns,
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

STAGE_TIMES = """
CREATE VIEW stage_times AS
SELECT t.name AS task, e.device, s.stage, COUNT(*) AS times,
       SUM(CASE WHEN s.outcome = 'failed' THEN 1 ELSE 0 END) AS failed, SUM(s.seconds) AS total_seconds,
       AVG(s.seconds) AS mean_seconds, MAX(s.seconds) AS longest_seconds
FROM evaluation_stages s
JOIN evaluations e ON e.id = s.evaluation_id
JOIN tasks t ON t.id = e.task_id
GROUP BY t.name, e.device, s.stage
UNION ALL
SELECT t.name, r.device, 'propose', COUNT(*), 0, SUM(y.seconds), AVG(y.seconds), MAX(y.seconds)
FROM replies y
JOIN runs r ON r.id = y.run_id
JOIN tasks t ON t.id = r.task_id
GROUP BY t.name, r.device
"""


def upgrade() -> None:
    for view in ("failures_by_stage", "stage_times", "history", "leaderboard", "results"):
        op.execute(f"DROP VIEW {view}")
    number = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
    for table, names in COLUMNS.items():
        for name in names:
            kind = number if name in NUMBERS else sa.Double() if name in SECONDS else sa.Text()
            op.add_column(table, sa.Column(name, kind, nullable=True))
    for name in ("source_key", "kernel_key"):
        op.create_index(f"ix_evaluations_{name}", "evaluations", [name])
    for view in (RESULTS, LEADERBOARD, HISTORY, FAILURES_BY_STAGE, STAGE_TIMES):
        op.execute(view.strip())
