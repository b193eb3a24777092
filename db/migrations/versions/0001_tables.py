"""The first tables. A released migration is never edited."""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None

WHOLE = sa.BigInteger().with_variant(sa.Integer(), "sqlite")  # SQLite numbers rows by columns of type INTEGER only


def upgrade() -> None:
    op.create_table(
        "cases",
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("dtype", sa.Text(), nullable=False),
        sa.Column("distribution", sa.Text(), nullable=False),
        sa.Column("initialisation", sa.Text(), nullable=False),
        sa.Column("seed", WHOLE, nullable=False),
        sa.Column("purpose", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_cases"),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "messages",
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("role", sa.Text(), nullable=False),
        sa.Column("text", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_messages"),
    )
    op.create_table(
        "sources",
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("text", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_sources"),
    )
    op.create_table(
        "tasks",
        sa.Column("id", WHOLE, autoincrement=True, nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("digest", sa.Text(), nullable=False),
        sa.Column("title", sa.Text(), nullable=False),
        sa.Column("signature", sa.Text(), nullable=False),
        sa.Column("description", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_tasks"),
        sa.UniqueConstraint("name", "digest", name="uq_tasks_name_digest"),
    )
    op.create_table(
        "candidates",
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("source_id", sa.Text(), nullable=False),
        sa.Column("entry", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(["source_id"], ["sources.id"], name="fk_candidates_source_id"),
        sa.PrimaryKeyConstraint("id", name="pk_candidates"),
    )
    op.create_table(
        "case_sizes",
        sa.Column("case_id", sa.Text(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("value", WHOLE, nullable=False),
        sa.ForeignKeyConstraint(["case_id"], ["cases.id"], name="fk_case_sizes_case_id"),
        sa.PrimaryKeyConstraint("case_id", "name", name="pk_case_sizes"),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "runs",
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("task_id", WHOLE, nullable=False),
        sa.Column("device", sa.Text(), nullable=False),
        sa.Column("strategy", sa.Text(), nullable=False),
        sa.Column("generations", WHOLE, nullable=False),
        sa.Column("population", WHOLE, nullable=False),
        sa.Column("seed", WHOLE, nullable=False),
        sa.Column("status", sa.Text(), nullable=False),
        sa.Column("started_at", sa.Text(), nullable=False),
        sa.Column("ended_at", sa.Text(), nullable=True),
        sa.ForeignKeyConstraint(["task_id"], ["tasks.id"], name="fk_runs_task_id"),
        sa.PrimaryKeyConstraint("id", name="pk_runs"),
    )
    op.create_table(
        "evaluations",
        sa.Column("id", WHOLE, autoincrement=True, nullable=False),
        sa.Column("candidate_id", sa.Text(), nullable=False),
        sa.Column("task_id", WHOLE, nullable=False),
        sa.Column("device", sa.Text(), nullable=False),
        sa.Column("timing_reason", sa.Text(), nullable=True),
        sa.Column("recorded_at", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(["candidate_id"], ["candidates.id"], name="fk_evaluations_candidate_id"),
        sa.ForeignKeyConstraint(["task_id"], ["tasks.id"], name="fk_evaluations_task_id"),
        sa.PrimaryKeyConstraint("id", name="pk_evaluations"),
    )
    op.create_index(
        "ix_evaluations_candidate_id_task_id_device_id", "evaluations", ["candidate_id", "task_id", "device", "id"]
    )
    op.create_index("ix_evaluations_task_id", "evaluations", ["task_id"])
    op.create_table(
        "jobs",
        sa.Column("run_id", sa.Text(), nullable=False),
        sa.Column("iteration", WHOLE, nullable=False),
        sa.Column("generation", WHOLE, nullable=False),
        sa.Column("operator", sa.Text(), nullable=False),
        sa.Column("model", sa.Text(), nullable=False),
        sa.Column("island", WHOLE, nullable=True),
        sa.Column("seed", WHOLE, nullable=False),
        sa.Column("asked_at", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(["run_id"], ["runs.id"], name="fk_jobs_run_id"),
        sa.PrimaryKeyConstraint("run_id", "iteration", name="pk_jobs"),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "run_models",
        sa.Column("run_id", sa.Text(), nullable=False),
        sa.Column("position", WHOLE, nullable=False),
        sa.Column("model", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(["run_id"], ["runs.id"], name="fk_run_models_run_id"),
        sa.PrimaryKeyConstraint("run_id", "position", name="pk_run_models"),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "tunables",
        sa.Column("candidate_id", sa.Text(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("position", WHOLE, nullable=False),
        sa.Column("value", WHOLE, nullable=False),
        sa.ForeignKeyConstraint(["candidate_id"], ["candidates.id"], name="fk_tunables_candidate_id"),
        sa.PrimaryKeyConstraint("candidate_id", "name", "position", name="pk_tunables"),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "attempts",
        sa.Column("id", WHOLE, autoincrement=True, nullable=False),
        sa.Column("run_id", sa.Text(), nullable=True),
        sa.Column("iteration", WHOLE, nullable=True),
        sa.Column("candidate_id", sa.Text(), nullable=True),
        sa.Column("evaluation_id", WHOLE, nullable=True),
        sa.Column("reason", sa.Text(), nullable=True),
        sa.Column("recorded_at", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(["candidate_id"], ["candidates.id"], name="fk_attempts_candidate_id"),
        sa.ForeignKeyConstraint(["evaluation_id"], ["evaluations.id"], name="fk_attempts_evaluation_id"),
        sa.ForeignKeyConstraint(
            ["run_id", "iteration"], ["jobs.run_id", "jobs.iteration"], name="fk_attempts_run_id_iteration"
        ),
        sa.ForeignKeyConstraint(["run_id"], ["runs.id"], name="fk_attempts_run_id"),
        sa.PrimaryKeyConstraint("id", name="pk_attempts"),
        sa.UniqueConstraint("candidate_id", "id", name="uq_attempts_candidate_id_id"),
        sa.UniqueConstraint("run_id", "iteration", name="uq_attempts_run_id_iteration"),
    )
    op.create_index("ix_attempts_candidate_id_run_id_id", "attempts", ["candidate_id", "run_id", "id"])
    op.create_index("ix_attempts_run_id_id", "attempts", ["run_id", "id"])
    op.create_table(
        "builds",
        sa.Column("evaluation_id", WHOLE, nullable=False),
        sa.Column("target", sa.Text(), nullable=False),
        sa.Column("method", sa.Text(), nullable=True),
        sa.Column("fallback_reason", sa.Text(), nullable=True),
        sa.Column("compiler", sa.Text(), nullable=False),
        sa.Column("artifact", sa.Text(), nullable=True),
        sa.Column("ptx", sa.Text(), nullable=True),
        sa.Column("cached", sa.Boolean(), nullable=False),
        sa.Column("seconds", sa.Double(), nullable=False),
        sa.ForeignKeyConstraint(["evaluation_id"], ["evaluations.id"], name="fk_builds_evaluation_id"),
        sa.PrimaryKeyConstraint("evaluation_id", name="pk_builds"),
    )
    op.create_table(
        "evaluation_stages",
        sa.Column("evaluation_id", WHOLE, nullable=False),
        sa.Column("position", WHOLE, nullable=False),
        sa.Column("stage", sa.Text(), nullable=False),
        sa.Column("seconds", sa.Double(), nullable=False),
        sa.ForeignKeyConstraint(["evaluation_id"], ["evaluations.id"], name="fk_evaluation_stages_evaluation_id"),
        sa.PrimaryKeyConstraint("evaluation_id", "position", name="pk_evaluation_stages"),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "job_parents",
        sa.Column("run_id", sa.Text(), nullable=False),
        sa.Column("iteration", WHOLE, nullable=False),
        sa.Column("position", WHOLE, nullable=False),
        sa.Column("parent_id", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(["parent_id"], ["candidates.id"], name="fk_job_parents_parent_id"),
        sa.ForeignKeyConstraint(
            ["run_id", "iteration"], ["jobs.run_id", "jobs.iteration"], name="fk_job_parents_run_id_iteration"
        ),
        sa.PrimaryKeyConstraint("run_id", "iteration", "position", name="pk_job_parents"),
        sqlite_with_rowid=False,
    )
    op.create_index("ix_job_parents_parent_id", "job_parents", ["parent_id"])
    op.create_table(
        "prompts",
        sa.Column("run_id", sa.Text(), nullable=False),
        sa.Column("iteration", WHOLE, nullable=False),
        sa.Column("attempt", WHOLE, nullable=False),
        sa.Column("operator", sa.Text(), nullable=False),
        sa.Column("template", sa.Text(), nullable=False),
        sa.Column("seed", WHOLE, nullable=False),
        sa.ForeignKeyConstraint(
            ["run_id", "iteration"], ["jobs.run_id", "jobs.iteration"], name="fk_prompts_run_id_iteration"
        ),
        sa.PrimaryKeyConstraint("run_id", "iteration", "attempt", name="pk_prompts"),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "timings",
        sa.Column("evaluation_id", WHOLE, nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("device", sa.Text(), nullable=False),
        sa.Column("target", sa.Text(), nullable=False),
        sa.Column("method", sa.Text(), nullable=False),
        sa.Column("seconds", sa.Double(), nullable=False),
        sa.Column("score_ns", sa.Double(), nullable=False),
        sa.ForeignKeyConstraint(["evaluation_id"], ["evaluations.id"], name="fk_timings_evaluation_id"),
        sa.PrimaryKeyConstraint("evaluation_id", name="pk_timings"),
    )
    op.create_index("ix_timings_kind_target_score_ns", "timings", ["kind", "target", "score_ns"])
    op.create_table(
        "verdicts",
        sa.Column("evaluation_id", WHOLE, nullable=False),
        sa.Column("outcome", sa.Text(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=True),
        sa.Column("output", sa.Text(), nullable=False),
        sa.Column("seconds", sa.Double(), nullable=False),
        sa.ForeignKeyConstraint(["evaluation_id"], ["evaluations.id"], name="fk_verdicts_evaluation_id"),
        sa.PrimaryKeyConstraint("evaluation_id", name="pk_verdicts"),
    )
    op.create_table(
        "build_flags",
        sa.Column("evaluation_id", WHOLE, nullable=False),
        sa.Column("position", WHOLE, nullable=False),
        sa.Column("flag", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(["evaluation_id"], ["builds.evaluation_id"], name="fk_build_flags_evaluation_id"),
        sa.PrimaryKeyConstraint("evaluation_id", "position", name="pk_build_flags"),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "candidate_parents",
        sa.Column("candidate_id", sa.Text(), nullable=False),
        sa.Column("attempt_id", WHOLE, nullable=False),
        sa.Column("position", WHOLE, nullable=False),
        sa.Column("parent_id", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(
            ["candidate_id", "attempt_id"],
            ["attempts.candidate_id", "attempts.id"],
            name="fk_candidate_parents_candidate_id_attempt_id",
        ),
        sa.ForeignKeyConstraint(["parent_id"], ["candidates.id"], name="fk_candidate_parents_parent_id"),
        sa.PrimaryKeyConstraint("candidate_id", "attempt_id", "position", name="pk_candidate_parents"),
        sqlite_with_rowid=False,
    )
    op.create_index("ix_candidate_parents_parent_id", "candidate_parents", ["parent_id"])
    op.create_table(
        "case_timings",
        sa.Column("evaluation_id", WHOLE, nullable=False),
        sa.Column("position", WHOLE, nullable=False),
        sa.Column("case_id", sa.Text(), nullable=False),
        sa.Column("median_ns", sa.Double(), nullable=False),
        sa.Column("low_ns", sa.Double(), nullable=False),
        sa.Column("high_ns", sa.Double(), nullable=False),
        sa.Column("bottleneck", sa.Text(), nullable=True),
        sa.ForeignKeyConstraint(["case_id"], ["cases.id"], name="fk_case_timings_case_id"),
        sa.ForeignKeyConstraint(["evaluation_id"], ["timings.evaluation_id"], name="fk_case_timings_evaluation_id"),
        sa.PrimaryKeyConstraint("evaluation_id", "position", name="pk_case_timings"),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "case_verdicts",
        sa.Column("evaluation_id", WHOLE, nullable=False),
        sa.Column("position", WHOLE, nullable=False),
        sa.Column("case_id", sa.Text(), nullable=False),
        sa.Column("outcome", sa.Text(), nullable=False),
        sa.Column("error", sa.Double(), nullable=True),
        sa.Column("error_l2", sa.Double(), nullable=True),
        sa.Column("allowed", sa.Double(), nullable=True),
        sa.Column("worst", sa.Text(), nullable=True),
        sa.Column("reason", sa.Text(), nullable=True),
        sa.Column("seconds", sa.Double(), nullable=False),
        sa.ForeignKeyConstraint(["case_id"], ["cases.id"], name="fk_case_verdicts_case_id"),
        sa.ForeignKeyConstraint(["evaluation_id"], ["verdicts.evaluation_id"], name="fk_case_verdicts_evaluation_id"),
        sa.PrimaryKeyConstraint("evaluation_id", "position", name="pk_case_verdicts"),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "diagnostics",
        sa.Column("evaluation_id", WHOLE, nullable=False),
        sa.Column("position", WHOLE, nullable=False),
        sa.Column("severity", sa.Text(), nullable=False),
        sa.Column("stage", sa.Text(), nullable=False),
        sa.Column("line", WHOLE, nullable=True),
        sa.Column("column", WHOLE, nullable=True),
        sa.Column("text", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(["evaluation_id"], ["builds.evaluation_id"], name="fk_diagnostics_evaluation_id"),
        sa.PrimaryKeyConstraint("evaluation_id", "position", name="pk_diagnostics"),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "kernel_resources",
        sa.Column("evaluation_id", WHOLE, nullable=False),
        sa.Column("position", WHOLE, nullable=False),
        sa.Column("kernel", sa.Text(), nullable=False),
        sa.Column("registers", WHOLE, nullable=False),
        sa.Column("shared_bytes", WHOLE, nullable=False),
        sa.Column("local_bytes", WHOLE, nullable=False),
        sa.Column("spill_store_bytes", WHOLE, nullable=False),
        sa.Column("spill_load_bytes", WHOLE, nullable=False),
        sa.Column("constant_bytes", WHOLE, nullable=False),
        sa.ForeignKeyConstraint(["evaluation_id"], ["builds.evaluation_id"], name="fk_kernel_resources_evaluation_id"),
        sa.PrimaryKeyConstraint("evaluation_id", "position", name="pk_kernel_resources"),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "prompt_messages",
        sa.Column("run_id", sa.Text(), nullable=False),
        sa.Column("iteration", WHOLE, nullable=False),
        sa.Column("attempt", WHOLE, nullable=False),
        sa.Column("position", WHOLE, nullable=False),
        sa.Column("message_id", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(["message_id"], ["messages.id"], name="fk_prompt_messages_message_id"),
        sa.ForeignKeyConstraint(
            ["run_id", "iteration", "attempt"],
            ["prompts.run_id", "prompts.iteration", "prompts.attempt"],
            name="fk_prompt_messages_run_id_iteration_attempt",
        ),
        sa.PrimaryKeyConstraint("run_id", "iteration", "attempt", "position", name="pk_prompt_messages"),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "prompt_parents",
        sa.Column("run_id", sa.Text(), nullable=False),
        sa.Column("iteration", WHOLE, nullable=False),
        sa.Column("attempt", WHOLE, nullable=False),
        sa.Column("position", WHOLE, nullable=False),
        sa.Column("parent_id", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(["parent_id"], ["candidates.id"], name="fk_prompt_parents_parent_id"),
        sa.ForeignKeyConstraint(
            ["run_id", "iteration", "attempt"],
            ["prompts.run_id", "prompts.iteration", "prompts.attempt"],
            name="fk_prompt_parents_run_id_iteration_attempt",
        ),
        sa.PrimaryKeyConstraint("run_id", "iteration", "attempt", "position", name="pk_prompt_parents"),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "replies",
        sa.Column("run_id", sa.Text(), nullable=False),
        sa.Column("iteration", WHOLE, nullable=False),
        sa.Column("attempt", WHOLE, nullable=False),
        sa.Column("model", sa.Text(), nullable=False),
        sa.Column("text", sa.Text(), nullable=False),
        sa.Column("input_tokens", WHOLE, nullable=True),
        sa.Column("cached_tokens", WHOLE, nullable=True),
        sa.Column("output_tokens", WHOLE, nullable=True),
        sa.Column("reasoning_tokens", WHOLE, nullable=True),
        sa.Column("cost_usd", sa.Double(), nullable=True),
        sa.Column("seconds", sa.Double(), nullable=False),
        sa.Column("finish_reason", sa.Text(), nullable=False),
        sa.Column("received_at", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(
            ["run_id", "iteration", "attempt"],
            ["prompts.run_id", "prompts.iteration", "prompts.attempt"],
            name="fk_replies_run_id_iteration_attempt",
        ),
        sa.PrimaryKeyConstraint("run_id", "iteration", "attempt", name="pk_replies"),
    )
    op.create_table(
        "rewrites",
        sa.Column("attempt_id", WHOLE, nullable=False),
        sa.Column("position", WHOLE, nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("argument", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(["attempt_id"], ["attempts.id"], name="fk_rewrites_attempt_id"),
        sa.PrimaryKeyConstraint("attempt_id", "position", name="pk_rewrites"),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "counters",
        sa.Column("evaluation_id", WHOLE, nullable=False),
        sa.Column("case_position", WHOLE, nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("value", sa.Double(), nullable=False),
        sa.ForeignKeyConstraint(
            ["evaluation_id", "case_position"],
            ["case_timings.evaluation_id", "case_timings.position"],
            name="fk_counters_evaluation_id_case_position",
        ),
        sa.PrimaryKeyConstraint("evaluation_id", "case_position", "name", name="pk_counters"),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "findings",
        sa.Column("evaluation_id", WHOLE, nullable=False),
        sa.Column("case_position", WHOLE, nullable=False),
        sa.Column("position", WHOLE, nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("text", sa.Text(), nullable=False),
        sa.Column("kernel", sa.Text(), nullable=True),
        sa.Column("line", WHOLE, nullable=True),
        sa.ForeignKeyConstraint(
            ["evaluation_id", "case_position"],
            ["case_verdicts.evaluation_id", "case_verdicts.position"],
            name="fk_findings_evaluation_id_case_position",
        ),
        sa.PrimaryKeyConstraint("evaluation_id", "case_position", "position", name="pk_findings"),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "reply_rewrites",
        sa.Column("run_id", sa.Text(), nullable=False),
        sa.Column("iteration", WHOLE, nullable=False),
        sa.Column("attempt", WHOLE, nullable=False),
        sa.Column("position", WHOLE, nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("argument", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(
            ["run_id", "iteration", "attempt"],
            ["replies.run_id", "replies.iteration", "replies.attempt"],
            name="fk_reply_rewrites_run_id_iteration_attempt",
        ),
        sa.PrimaryKeyConstraint("run_id", "iteration", "attempt", "position", name="pk_reply_rewrites"),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "timing_samples",
        sa.Column("evaluation_id", WHOLE, nullable=False),
        sa.Column("case_position", WHOLE, nullable=False),
        sa.Column("position", WHOLE, nullable=False),
        sa.Column("elapsed_ns", sa.Double(), nullable=False),
        sa.ForeignKeyConstraint(
            ["evaluation_id", "case_position"],
            ["case_timings.evaluation_id", "case_timings.position"],
            name="fk_timing_samples_evaluation_id_case_position",
        ),
        sa.PrimaryKeyConstraint("evaluation_id", "case_position", "position", name="pk_timing_samples"),
        sqlite_with_rowid=False,
    )
