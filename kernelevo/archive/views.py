"""The archive's views, in plain SQL that SQLite and PostgreSQL both read.

Takes nothing, gives name -> (meaning, SELECT). A view that changes here needs a migration in db/migrations.
"""

from __future__ import annotations

RESULTS = """
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
SELECT task, device, target, kind, method,
       ROW_NUMBER() OVER (PARTITION BY task, task_digest, device, target, kind, method
                          ORDER BY score_ns, evaluation_id) AS place,
       candidate, score_ns, timed_on, promoted, task_digest, evaluation_id
FROM results
WHERE newest = 1 AND status = 'passed' AND score_ns IS NOT NULL
"""

LINEAGE = """
WITH RECURSIVE
edges (child, parent) AS (
    SELECT p.candidate_id, p.parent_id FROM candidate_parents p
    WHERE p.parent_id <> p.candidate_id
      AND p.attempt_id = (SELECT MIN(a.id) FROM attempts a WHERE a.candidate_id = p.candidate_id)
),
ancestry (candidate, ancestor, depth) AS (
    SELECT child, parent, 1 FROM edges
    UNION
    SELECT y.candidate, e.parent, y.depth + 1 FROM ancestry y JOIN edges e ON e.child = y.ancestor
)
SELECT candidate, ancestor, depth FROM ancestry
"""

HISTORY = """
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
SELECT task, device, stage, outcome, COUNT(*) AS attempts
FROM history
WHERE stage <> 'done'
GROUP BY task, device, stage, outcome
"""

STAGE_TIMES = """
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

LEDGER = """
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
SELECT run, model, purpose, COUNT(*) AS calls,
       SUM(CASE WHEN outcome IN ('reply', 'judged') THEN 0 ELSE 1 END) AS failed_calls,
       SUM(cost_usd) AS cost_usd, COUNT(*) - COUNT(cost_usd) AS calls_of_unknown_cost,
       SUM(input_tokens) AS input_tokens, SUM(cached_tokens) AS cached_tokens, SUM(output_tokens) AS output_tokens,
       SUM(reasoning_tokens) AS reasoning_tokens, SUM(seconds) AS total_seconds
FROM ledger
GROUP BY run, model, purpose
"""

JUDGED = """
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

VIEWS: dict[str, tuple[str, str]] = {
    "results": ("One row per evaluation: its status, its time, and whether it is the newest of its kind.", RESULTS),
    "leaderboard": (
        "Correct candidates by time, place 1 first, apart for each task version, device, target, kind and "
        "method of timing. A candidate's newest evaluation counts.",
        LEADERBOARD,
    ),
    "lineage": (
        "Ancestors of every candidate by its first appearance in the archive. An ancestor that is reached by ways of "
        "different length has one row for each depth.",
        LINEAGE,
    ),
    "history": ("One row per attempt: what was asked, the stage it reached, and what came of it.", HISTORY),
    "failures_by_stage": ("How many attempts ended in which stage, and how.", FAILURES_BY_STAGE),
    "stage_times": ("How often each stage was reached and failed, and its wall-clock seconds.", STAGE_TIMES),
    "ledger": (
        "One row per request to a model, failed ones included: outcome, tokens, dollars. Replies of free models, and "
        "of archives before schema 0004, have no request of their own. What a replayed run reads again costs nothing.",
        LEDGER,
    ),
    "costs": (
        "Calls, tokens and dollars per run, model and purpose; dollars are of the calls whose cost is known.",
        COSTS,
    ),
    "judged": ("What models said about candidates before they were run, beside what was found.", JUDGED),
}
