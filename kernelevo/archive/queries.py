"""Questions that people ask an archive, as plain SQL for any SQLite browser: the cookbook of db/README.md.

Takes nothing, gives name -> (title, SELECT). `:candidate`, `:from_candidate`, `:to_candidate` and `:run` are
parameters. The documents, the browser of `kernelevo browse` and the tests read them here. PostgreSQL reads all of it
but two functions, which `in_postgresql` gives the names that they have there.
"""

from __future__ import annotations

POSTGRESQL_NAMES = {"GROUP_CONCAT(": "STRING_AGG(", "INSTR(": "STRPOS("}


def in_postgresql(query: str) -> str:
    """A query of the cookbook as PostgreSQL reads it."""
    for ours, theirs in POSTGRESQL_NAMES.items():
        query = query.replace(ours, theirs)
    return query


QUERIES: dict[str, tuple[str, str]] = {
    "best": (
        "The best kernel of each task, with its source",
        """
SELECT b.task, b.device, b.target, b.kind, b.method, b.candidate, b.score_ns / 1000 AS score_us, s.text AS source
FROM leaderboard b JOIN candidates c ON c.id = b.candidate JOIN sources s ON s.id = c.source_id
WHERE b.place = 1 ORDER BY b.task, b.device, b.target, b.kind, b.method
""",
    ),
    "top_ten": (
        "Leaderboard: the ten fastest correct candidates of each task",
        """
SELECT task, device, target, kind, method, place, candidate, score_ns / 1000 AS score_us, promoted, task_digest
FROM leaderboard WHERE place <= 10 ORDER BY task, device, target, kind, method, task_digest, place
""",
    ),
    "run": (
        "A run, iteration by iteration, with the best time so far",
        """
SELECT iteration, operator, parent, candidate, stage, outcome, score_ns,
       MIN(score_ns) OVER (ORDER BY iteration) AS best_so_far_ns, reason
FROM history WHERE run = :run ORDER BY iteration
""",
    ),
    "ancestors": (
        "Lineage: all ancestors of one candidate, with what each came to",
        """
WITH RECURSIVE ancestry (candidate, depth) AS (
    SELECT id, 0 FROM candidates WHERE id = :candidate
    UNION
    SELECT p.parent_id, y.depth + 1
    FROM ancestry y
    JOIN candidate_parents p ON p.candidate_id = y.candidate AND p.parent_id <> p.candidate_id
     AND p.attempt_id = (SELECT MIN(a.id) FROM attempts a WHERE a.candidate_id = y.candidate)
)
SELECT y.depth, y.candidate, h.parent, h.run, h.iteration, h.operator, h.score_ns
FROM ancestry y JOIN history h ON h.candidate = y.candidate
ORDER BY y.depth, h.attempt_id
""",
    ),
    "changed_lines": (
        "What changed between two candidates: the lines that only one of them has",
        """
WITH RECURSIVE lines (side, number, line, rest) AS (
    SELECT CASE c.id WHEN :from_candidate THEN 'before' ELSE 'after' END, 0, '', s.text || '
'
    FROM candidates c JOIN sources s ON s.id = c.source_id WHERE c.id IN (:from_candidate, :to_candidate)
    UNION ALL
    SELECT side, number + 1, SUBSTR(rest, 1, INSTR(rest, '
') - 1), SUBSTR(rest, INSTR(rest, '
') + 1)
    FROM lines WHERE rest <> ''
)
SELECT l.side, l.number, l.line FROM lines l
WHERE TRIM(l.line) <> '' AND NOT EXISTS (SELECT 1 FROM lines o WHERE o.side <> l.side AND o.line = l.line)
ORDER BY l.number, l.side DESC
""",
    ),
    "operators": (
        "Which operators make things faster than the first parent, and by how much",
        """
SELECT h.operator, h.model, COUNT(*) AS compared, SUM(CASE WHEN h.score_ns < p.score_ns THEN 1 ELSE 0 END) AS faster,
       MAX(p.score_ns / h.score_ns) AS best_speedup
FROM history h
JOIN results p ON p.candidate = h.parent AND p.task = h.task AND p.device = h.device AND p.kind = h.kind
              AND p.target = h.target AND p.method = h.method AND p.newest = 1
WHERE h.score_ns IS NOT NULL AND p.score_ns IS NOT NULL
GROUP BY h.operator, h.model ORDER BY faster DESC
""",
    ),
    "rewrites": (
        "What the rewrites of `mutate` come to",
        """
SELECT w.name, COUNT(*) AS tried, SUM(CASE WHEN h.outcome = 'passed' OR h.stage = 'done' THEN 1 ELSE 0 END) AS correct,
       MAX(p.score_ns / h.score_ns) AS best_speedup
FROM reply_rewrites w
JOIN history h ON h.run = w.run_id AND h.iteration = w.iteration
LEFT JOIN results p ON p.candidate = h.parent AND p.task = h.task AND p.device = h.device AND p.kind = h.kind
                   AND p.target = h.target AND p.method = h.method AND p.newest = 1
GROUP BY w.name ORDER BY best_speedup DESC NULLS LAST
""",
    ),
    "failures": (
        "Failures by stage: where attempts end, and how",
        """
SELECT * FROM failures_by_stage ORDER BY attempts DESC
""",
    ),
    "complaints": (
        "The compilers' most frequent complaints",
        """
SELECT d.stage, d.text, COUNT(*) AS times FROM diagnostics d
WHERE d.severity = 'error' GROUP BY d.stage, d.text ORDER BY times DESC LIMIT 20
""",
    ),
    "hidden_failures": (
        "Hidden cases that were not passed, with what it takes to draw them again",
        """
SELECT e.candidate_id, k.name, k.seed, k.distribution, k.initialisation, k.dtype,
       (SELECT GROUP_CONCAT(z.name || '=' || z.value, ' ') FROM case_sizes z WHERE z.case_id = k.id) AS sizes,
       v.outcome, v.error, v.allowed, v.worst, v.reason
FROM case_verdicts v JOIN cases k ON k.id = v.case_id JOIN evaluations e ON e.id = v.evaluation_id
WHERE k.purpose = 'hidden' AND v.outcome <> 'passed'
""",
    ),
    "unsupported": (
        "What the emulator could not run (our limit, not the candidate's fault)",
        """
SELECT reason, COUNT(*) AS candidates FROM results WHERE status = 'unsupported' AND newest = 1 GROUP BY reason
""",
    ),
    "registers": (
        "Registers and spills beside the time",
        """
SELECT r.candidate, r.score_ns, k.kernel, k.registers, k.shared_bytes, k.spill_store_bytes
FROM results r JOIN kernel_resources k ON k.evaluation_id = r.evaluation_id
WHERE r.newest = 1 AND r.score_ns IS NOT NULL ORDER BY r.task, r.score_ns
""",
    ),
    "bottlenecks": (
        "Counters and bottleneck of a candidate, case by case",
        """
SELECT k.name AS case_name, m.median_ns, m.bottleneck, n.name, n.value
FROM evaluations e
JOIN case_timings m ON m.evaluation_id = e.id JOIN cases k ON k.id = m.case_id
LEFT JOIN counters n ON n.evaluation_id = e.id AND n.case_position = m.position
WHERE e.candidate_id = :candidate ORDER BY e.id, m.position, n.name
""",
    ),
    "costs": (
        "Cost by model, over all runs",
        """
SELECT model, purpose, SUM(calls) AS calls, SUM(failed_calls) AS failed_calls, SUM(cost_usd) AS cost_usd,
       SUM(calls_of_unknown_cost) AS calls_of_unknown_cost, SUM(input_tokens) AS input_tokens,
       SUM(cached_tokens) AS cached_tokens, SUM(output_tokens) AS output_tokens, SUM(total_seconds) AS total_seconds
FROM costs GROUP BY model, purpose ORDER BY cost_usd DESC NULLS LAST, model, purpose
""",
    ),
    "requests": (
        "Each request of a run to a model, failed ones included",
        """
SELECT iteration, purpose, model, outcome, text, input_tokens, cached_tokens, output_tokens, cost_usd, seconds
FROM ledger WHERE run = :run ORDER BY iteration, started_at
""",
    ),
    "stages": (
        "Where the time went",
        """
SELECT * FROM stage_times ORDER BY total_seconds DESC
""",
    ),
    "found_again": (
        "Candidates that several runs found",
        """
SELECT candidate_id, COUNT(DISTINCT run_id) AS runs FROM attempts
WHERE candidate_id IS NOT NULL GROUP BY candidate_id HAVING COUNT(DISTINCT run_id) > 1
""",
    ),
}
