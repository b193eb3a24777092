PRAGMA application_id = 1801811567;
BEGIN TRANSACTION;
CREATE TABLE alembic_version (
	version_num VARCHAR(32) NOT NULL, 
	CONSTRAINT alembic_version_pkc PRIMARY KEY (version_num)
);
INSERT INTO "alembic_version" VALUES('0004');
CREATE TABLE attempts (
	id INTEGER NOT NULL, 
	run_id TEXT, 
	iteration INTEGER, 
	candidate_id TEXT, 
	evaluation_id INTEGER, 
	reason TEXT, 
	recorded_at TEXT NOT NULL, 
	CONSTRAINT pk_attempts PRIMARY KEY (id), 
	CONSTRAINT fk_attempts_candidate_id FOREIGN KEY(candidate_id) REFERENCES candidates (id), 
	CONSTRAINT fk_attempts_evaluation_id FOREIGN KEY(evaluation_id) REFERENCES evaluations (id), 
	CONSTRAINT fk_attempts_run_id_iteration FOREIGN KEY(run_id, iteration) REFERENCES jobs (run_id, iteration), 
	CONSTRAINT fk_attempts_run_id FOREIGN KEY(run_id) REFERENCES runs (id), 
	CONSTRAINT uq_attempts_candidate_id_id UNIQUE (candidate_id, id), 
	CONSTRAINT uq_attempts_run_id_iteration UNIQUE (run_id, iteration)
);
INSERT INTO "attempts" VALUES(1,'r-000000000001',0,'c-64d79256604d499e',1,NULL,'2026-11-26T13:56:10.852Z');
INSERT INTO "attempts" VALUES(2,'r-000000000001',1,'c-cd41c8ba41975736',2,NULL,'2026-11-26T13:56:10.861Z');
INSERT INTO "attempts" VALUES(3,'r-000000000001',2,NULL,NULL,'no kernel','2026-11-26T13:56:10.862Z');
INSERT INTO "attempts" VALUES(4,NULL,NULL,'c-4b0ebc0f815d738d',3,NULL,'2026-11-26T13:56:10.864Z');
CREATE TABLE build_flags (
	evaluation_id INTEGER NOT NULL, 
	position INTEGER NOT NULL, 
	flag TEXT NOT NULL, 
	CONSTRAINT pk_build_flags PRIMARY KEY (evaluation_id, position), 
	CONSTRAINT fk_build_flags_evaluation_id FOREIGN KEY(evaluation_id) REFERENCES builds (evaluation_id)
)
 WITHOUT ROWID

;
INSERT INTO "build_flags" VALUES(1,0,'-O3');
INSERT INTO "build_flags" VALUES(1,1,'--std=c++17');
INSERT INTO "build_flags" VALUES(2,0,'-O3');
INSERT INTO "build_flags" VALUES(2,1,'--std=c++17');
INSERT INTO "build_flags" VALUES(3,0,'-O3');
INSERT INTO "build_flags" VALUES(3,1,'--std=c++17');
CREATE TABLE builds (
	evaluation_id INTEGER NOT NULL, 
	target TEXT NOT NULL, 
	method TEXT, 
	fallback_reason TEXT, 
	compiler TEXT NOT NULL, 
	artifact TEXT, 
	ptx TEXT, 
	cached BOOLEAN NOT NULL, 
	seconds DOUBLE NOT NULL, 
	CONSTRAINT pk_builds PRIMARY KEY (evaluation_id), 
	CONSTRAINT fk_builds_evaluation_id FOREIGN KEY(evaluation_id) REFERENCES evaluations (id)
);
INSERT INTO "builds" VALUES(1,'sm_90','split',NULL,'nvcc 13.0.88','/cache/kernel.so','/cache/kernel.ptx',0,0.7);
INSERT INTO "builds" VALUES(2,'sm_90','split',NULL,'nvcc 13.0.88','/cache/kernel.so','/cache/kernel.ptx',0,0.7);
INSERT INTO "builds" VALUES(3,'sm_90',NULL,NULL,'nvcc 13.0.88',NULL,NULL,0,0.7);
CREATE TABLE call_ends (
	call_id INTEGER NOT NULL, 
	outcome TEXT NOT NULL, 
	text TEXT NOT NULL, 
	input_tokens INTEGER, 
	cached_tokens INTEGER, 
	output_tokens INTEGER, 
	reasoning_tokens INTEGER, 
	cost_usd DOUBLE, 
	seconds DOUBLE, 
	ended_at TEXT NOT NULL, 
	CONSTRAINT pk_call_ends PRIMARY KEY (call_id), 
	CONSTRAINT fk_call_ends_call_id FOREIGN KEY(call_id) REFERENCES calls (id)
);
INSERT INTO "call_ends" VALUES(1,'timeout','too long',NULL,NULL,NULL,NULL,NULL,2.0,'2026-11-26T13:56:10.858Z');
INSERT INTO "call_ends" VALUES(3,'judged','',NULL,NULL,NULL,NULL,0.125,0.5,'2026-11-26T13:56:10.860Z');
CREATE TABLE calls (
	id INTEGER NOT NULL, 
	run_id TEXT NOT NULL, 
	iteration INTEGER NOT NULL, 
	purpose TEXT NOT NULL, 
	model TEXT NOT NULL, 
	started_at TEXT NOT NULL, 
	CONSTRAINT pk_calls PRIMARY KEY (id), 
	CONSTRAINT fk_calls_run_id_iteration FOREIGN KEY(run_id, iteration) REFERENCES jobs (run_id, iteration)
);
INSERT INTO "calls" VALUES(1,'r-000000000001',1,'propose','m','2026-11-26T13:56:10.857Z');
INSERT INTO "calls" VALUES(2,'r-000000000001',1,'propose','m','2026-11-26T13:56:10.858Z');
INSERT INTO "calls" VALUES(3,'r-000000000001',1,'judge','m','2026-11-26T13:56:10.859Z');
CREATE TABLE candidate_parents (
	candidate_id TEXT NOT NULL, 
	attempt_id INTEGER NOT NULL, 
	position INTEGER NOT NULL, 
	parent_id TEXT NOT NULL, 
	CONSTRAINT pk_candidate_parents PRIMARY KEY (candidate_id, attempt_id, position), 
	CONSTRAINT fk_candidate_parents_candidate_id_attempt_id FOREIGN KEY(candidate_id, attempt_id) REFERENCES attempts (candidate_id, id), 
	CONSTRAINT fk_candidate_parents_parent_id FOREIGN KEY(parent_id) REFERENCES candidates (id)
)
 WITHOUT ROWID

;
INSERT INTO "candidate_parents" VALUES('c-cd41c8ba41975736',2,0,'c-64d79256604d499e');
CREATE TABLE candidates (
	id TEXT NOT NULL, 
	source_id TEXT NOT NULL, 
	entry TEXT NOT NULL, 
	CONSTRAINT pk_candidates PRIMARY KEY (id), 
	CONSTRAINT fk_candidates_source_id FOREIGN KEY(source_id) REFERENCES sources (id)
);
INSERT INTO "candidates" VALUES('c-64d79256604d499e','s-a9891be2b987d62a','forward');
INSERT INTO "candidates" VALUES('c-cd41c8ba41975736','s-d4ec3608763b20fa','forward');
INSERT INTO "candidates" VALUES('c-4b0ebc0f815d738d','s-47d0c2cc96564878','forward');
CREATE TABLE case_sizes (
	case_id TEXT NOT NULL, 
	name TEXT NOT NULL, 
	value INTEGER NOT NULL, 
	CONSTRAINT pk_case_sizes PRIMARY KEY (case_id, name), 
	CONSTRAINT fk_case_sizes_case_id FOREIGN KEY(case_id) REFERENCES cases (id)
)
 WITHOUT ROWID

;
INSERT INTO "case_sizes" VALUES('k-020dccac039db702','cols',129);
INSERT INTO "case_sizes" VALUES('k-020dccac039db702','rows',127);
INSERT INTO "case_sizes" VALUES('k-0ac49bcfd802728f','cols',129);
INSERT INTO "case_sizes" VALUES('k-0ac49bcfd802728f','rows',127);
INSERT INTO "case_sizes" VALUES('k-a5d2cb2e3ed95c23','cols',129);
INSERT INTO "case_sizes" VALUES('k-a5d2cb2e3ed95c23','rows',127);
INSERT INTO "case_sizes" VALUES('k-fab1790e6757b156','cols',129);
INSERT INTO "case_sizes" VALUES('k-fab1790e6757b156','rows',127);
CREATE TABLE case_timings (
	evaluation_id INTEGER NOT NULL, 
	position INTEGER NOT NULL, 
	case_id TEXT NOT NULL, 
	median_ns DOUBLE NOT NULL, 
	low_ns DOUBLE NOT NULL, 
	high_ns DOUBLE NOT NULL, 
	bottleneck TEXT, 
	CONSTRAINT pk_case_timings PRIMARY KEY (evaluation_id, position), 
	CONSTRAINT fk_case_timings_case_id FOREIGN KEY(case_id) REFERENCES cases (id), 
	CONSTRAINT fk_case_timings_evaluation_id FOREIGN KEY(evaluation_id) REFERENCES timings (evaluation_id)
)
 WITHOUT ROWID

;
INSERT INTO "case_timings" VALUES(1,0,'k-a5d2cb2e3ed95c23',1000.0,900.0,1100.0,'memory at 2048 rows');
INSERT INTO "case_timings" VALUES(1,1,'k-fab1790e6757b156',4000.0,3600.0,4400.0,'memory at 4096 rows');
INSERT INTO "case_timings" VALUES(2,0,'k-a5d2cb2e3ed95c23',1000.0,900.0,1100.0,'memory at 2048 rows');
INSERT INTO "case_timings" VALUES(2,1,'k-fab1790e6757b156',4000.0,3600.0,4400.0,'memory at 4096 rows');
CREATE TABLE case_verdicts (
	evaluation_id INTEGER NOT NULL, 
	position INTEGER NOT NULL, 
	case_id TEXT NOT NULL, 
	outcome TEXT NOT NULL, 
	error DOUBLE, 
	error_l2 DOUBLE, 
	allowed DOUBLE, 
	worst TEXT, 
	reason TEXT, 
	seconds DOUBLE NOT NULL, 
	CONSTRAINT pk_case_verdicts PRIMARY KEY (evaluation_id, position), 
	CONSTRAINT fk_case_verdicts_case_id FOREIGN KEY(case_id) REFERENCES cases (id), 
	CONSTRAINT fk_case_verdicts_evaluation_id FOREIGN KEY(evaluation_id) REFERENCES verdicts (evaluation_id)
)
 WITHOUT ROWID

;
INSERT INTO "case_verdicts" VALUES(1,0,'k-020dccac039db702','passed',1.0e-07,NULL,1.0e-05,NULL,NULL,0.01);
INSERT INTO "case_verdicts" VALUES(1,1,'k-0ac49bcfd802728f','passed',1.0e-07,NULL,1.0e-05,NULL,NULL,0.01);
INSERT INTO "case_verdicts" VALUES(2,0,'k-020dccac039db702','passed',1.0e-07,NULL,1.0e-05,NULL,NULL,0.01);
INSERT INTO "case_verdicts" VALUES(2,1,'k-0ac49bcfd802728f','passed',1.0e-07,NULL,1.0e-05,NULL,NULL,0.01);
CREATE TABLE cases (
	id TEXT NOT NULL, 
	name TEXT NOT NULL, 
	dtype TEXT NOT NULL, 
	distribution TEXT NOT NULL, 
	initialisation TEXT NOT NULL, 
	seed INTEGER NOT NULL, 
	purpose TEXT NOT NULL, 
	CONSTRAINT pk_cases PRIMARY KEY (id)
)
 WITHOUT ROWID

;
INSERT INTO "cases" VALUES('k-020dccac039db702','rows=127 cols=129','float32','normal','normal',3,'test');
INSERT INTO "cases" VALUES('k-0ac49bcfd802728f','rows=31 cols=7','float32','normal','normal',4611686018427387905,'hidden');
INSERT INTO "cases" VALUES('k-a5d2cb2e3ed95c23','rows=2048 cols=4096','float32','normal','normal',3,'bench');
INSERT INTO "cases" VALUES('k-fab1790e6757b156','rows=4096 cols=4096','float32','normal','normal',3,'bench');
CREATE TABLE counters (
	evaluation_id INTEGER NOT NULL, 
	case_position INTEGER NOT NULL, 
	name TEXT NOT NULL, 
	value DOUBLE NOT NULL, 
	CONSTRAINT pk_counters PRIMARY KEY (evaluation_id, case_position, name), 
	CONSTRAINT fk_counters_evaluation_id_case_position FOREIGN KEY(evaluation_id, case_position) REFERENCES case_timings (evaluation_id, position)
)
 WITHOUT ROWID

;
INSERT INTO "counters" VALUES(1,0,'flops',1000000.0);
INSERT INTO "counters" VALUES(1,0,'load sectors',4096.0);
INSERT INTO "counters" VALUES(1,1,'flops',1000000.0);
INSERT INTO "counters" VALUES(1,1,'load sectors',4096.0);
INSERT INTO "counters" VALUES(2,0,'flops',1000000.0);
INSERT INTO "counters" VALUES(2,0,'load sectors',4096.0);
INSERT INTO "counters" VALUES(2,1,'flops',1000000.0);
INSERT INTO "counters" VALUES(2,1,'load sectors',4096.0);
CREATE TABLE diagnostics (
	evaluation_id INTEGER NOT NULL, 
	position INTEGER NOT NULL, 
	severity TEXT NOT NULL, 
	stage TEXT NOT NULL, 
	line INTEGER, 
	"column" INTEGER, 
	text TEXT NOT NULL, 
	CONSTRAINT pk_diagnostics PRIMARY KEY (evaluation_id, position), 
	CONSTRAINT fk_diagnostics_evaluation_id FOREIGN KEY(evaluation_id) REFERENCES builds (evaluation_id)
)
 WITHOUT ROWID

;
INSERT INTO "diagnostics" VALUES(1,0,'warning','device',3,9,'unused variable');
INSERT INTO "diagnostics" VALUES(2,0,'warning','device',3,9,'unused variable');
INSERT INTO "diagnostics" VALUES(3,0,'error','device',2,NULL,'identifier "y" is undefined');
CREATE TABLE evaluation_stages (
	evaluation_id INTEGER NOT NULL, 
	position INTEGER NOT NULL, 
	stage TEXT NOT NULL, 
	seconds DOUBLE NOT NULL, outcome TEXT, text TEXT, 
	CONSTRAINT pk_evaluation_stages PRIMARY KEY (evaluation_id, position), 
	CONSTRAINT fk_evaluation_stages_evaluation_id FOREIGN KEY(evaluation_id) REFERENCES evaluations (id)
)
 WITHOUT ROWID

;
INSERT INTO "evaluation_stages" VALUES(1,0,'build',0.7,'passed','40 registers');
INSERT INTO "evaluation_stages" VALUES(1,1,'correctness',0.2,'passed',NULL);
INSERT INTO "evaluation_stages" VALUES(1,2,'measure',0.1,'skipped','not asked for');
INSERT INTO "evaluation_stages" VALUES(2,0,'build',0.7,'passed','40 registers');
INSERT INTO "evaluation_stages" VALUES(2,1,'correctness',0.2,'passed',NULL);
INSERT INTO "evaluation_stages" VALUES(2,2,'measure',0.1,'skipped','not asked for');
INSERT INTO "evaluation_stages" VALUES(3,0,'build',0.7,'failed',NULL);
CREATE TABLE evaluations (
	id INTEGER NOT NULL, 
	candidate_id TEXT NOT NULL, 
	task_id INTEGER NOT NULL, 
	device TEXT NOT NULL, 
	timing_reason TEXT, 
	recorded_at TEXT NOT NULL, source_key TEXT, kernel_key TEXT, shared_from TEXT, limited_by TEXT, technique TEXT, 
	CONSTRAINT pk_evaluations PRIMARY KEY (id), 
	CONSTRAINT fk_evaluations_candidate_id FOREIGN KEY(candidate_id) REFERENCES candidates (id), 
	CONSTRAINT fk_evaluations_task_id FOREIGN KEY(task_id) REFERENCES tasks (id)
);
INSERT INTO "evaluations" VALUES(1,'c-64d79256604d499e',1,'emulator',NULL,'2026-11-26T13:56:10.852Z',NULL,NULL,NULL,NULL,NULL);
INSERT INTO "evaluations" VALUES(2,'c-cd41c8ba41975736',1,'emulator','none','2026-11-26T13:56:10.861Z','s-1','k-1','c-64d79256604d499e','memory','vector loads');
INSERT INTO "evaluations" VALUES(3,'c-4b0ebc0f815d738d',1,'emulator',NULL,'2026-11-26T13:56:10.864Z',NULL,NULL,NULL,NULL,NULL);
CREATE TABLE findings (
	evaluation_id INTEGER NOT NULL, 
	case_position INTEGER NOT NULL, 
	position INTEGER NOT NULL, 
	kind TEXT NOT NULL, 
	text TEXT NOT NULL, 
	kernel TEXT, 
	line INTEGER, block TEXT, thread TEXT, address INTEGER, allocation TEXT, access_bytes INTEGER, 
	CONSTRAINT pk_findings PRIMARY KEY (evaluation_id, case_position, position), 
	CONSTRAINT fk_findings_evaluation_id_case_position FOREIGN KEY(evaluation_id, case_position) REFERENCES case_verdicts (evaluation_id, position)
)
 WITHOUT ROWID

;
INSERT INTO "findings" VALUES(1,0,0,'bad launch','grid of 0 blocks','_Z6kernelv',12,NULL,NULL,NULL,NULL,NULL);
INSERT INTO "findings" VALUES(1,1,0,'bad launch','grid of 0 blocks','_Z6kernelv',12,NULL,NULL,NULL,NULL,NULL);
INSERT INTO "findings" VALUES(2,0,0,'bad launch','grid of 0 blocks','_Z6kernelv',12,NULL,NULL,NULL,NULL,NULL);
INSERT INTO "findings" VALUES(2,1,0,'bad launch','grid of 0 blocks','_Z6kernelv',12,NULL,NULL,NULL,NULL,NULL);
CREATE TABLE gate_decisions (
	run_id TEXT NOT NULL, 
	iteration INTEGER NOT NULL, 
	candidate_id TEXT NOT NULL, 
	probability DOUBLE, 
	threshold DOUBLE NOT NULL, 
	method TEXT NOT NULL, 
	reason TEXT NOT NULL, 
	decision TEXT NOT NULL, 
	decided_at TEXT NOT NULL, 
	CONSTRAINT pk_gate_decisions PRIMARY KEY (run_id, iteration), 
	CONSTRAINT fk_gate_decisions_candidate_id FOREIGN KEY(candidate_id) REFERENCES candidates (id), 
	CONSTRAINT fk_gate_decisions_run_id_iteration FOREIGN KEY(run_id, iteration) REFERENCES jobs (run_id, iteration)
);
INSERT INTO "gate_decisions" VALUES('r-000000000001',1,'c-cd41c8ba41975736',0.25,0.2,'label model 1','one judge','evaluate','2026-11-26T13:56:10.860Z');
CREATE TABLE gate_features (
	run_id TEXT NOT NULL, 
	iteration INTEGER NOT NULL, 
	name TEXT NOT NULL, 
	value DOUBLE NOT NULL, 
	CONSTRAINT pk_gate_features PRIMARY KEY (run_id, iteration, name), 
	CONSTRAINT fk_gate_features_run_id_iteration FOREIGN KEY(run_id, iteration) REFERENCES gate_decisions (run_id, iteration)
)
 WITHOUT ROWID

;
INSERT INTO "gate_features" VALUES('r-000000000001',1,'lines',3.5);
CREATE TABLE hints (
	id INTEGER NOT NULL, 
	run_id TEXT NOT NULL, 
	text TEXT NOT NULL, 
	written_at TEXT NOT NULL, 
	CONSTRAINT pk_hints PRIMARY KEY (id), 
	CONSTRAINT fk_hints_run_id FOREIGN KEY(run_id) REFERENCES runs (id)
);
INSERT INTO "hints" VALUES(1,'r-000000000001','use float4','2026-11-26T13:56:10.862Z');
CREATE TABLE job_inspirations (
	run_id TEXT NOT NULL, 
	iteration INTEGER NOT NULL, 
	position INTEGER NOT NULL, 
	candidate_id TEXT NOT NULL, 
	CONSTRAINT pk_job_inspirations PRIMARY KEY (run_id, iteration, position), 
	CONSTRAINT fk_job_inspirations_candidate_id FOREIGN KEY(candidate_id) REFERENCES candidates (id), 
	CONSTRAINT fk_job_inspirations_run_id_iteration FOREIGN KEY(run_id, iteration) REFERENCES jobs (run_id, iteration)
)
 WITHOUT ROWID

;
INSERT INTO "job_inspirations" VALUES('r-000000000001',1,0,'c-64d79256604d499e');
CREATE TABLE job_parents (
	run_id TEXT NOT NULL, 
	iteration INTEGER NOT NULL, 
	position INTEGER NOT NULL, 
	parent_id TEXT NOT NULL, 
	CONSTRAINT pk_job_parents PRIMARY KEY (run_id, iteration, position), 
	CONSTRAINT fk_job_parents_parent_id FOREIGN KEY(parent_id) REFERENCES candidates (id), 
	CONSTRAINT fk_job_parents_run_id_iteration FOREIGN KEY(run_id, iteration) REFERENCES jobs (run_id, iteration)
)
 WITHOUT ROWID

;
INSERT INTO "job_parents" VALUES('r-000000000001',1,0,'c-64d79256604d499e');
INSERT INTO "job_parents" VALUES('r-000000000001',2,1,'c-64d79256604d499e');
INSERT INTO "job_parents" VALUES('r-000000000001',2,0,'c-cd41c8ba41975736');
CREATE TABLE jobs (
	run_id TEXT NOT NULL, 
	iteration INTEGER NOT NULL, 
	generation INTEGER NOT NULL, 
	operator TEXT NOT NULL, 
	model TEXT NOT NULL, 
	island INTEGER, 
	seed INTEGER NOT NULL, 
	asked_at TEXT NOT NULL, temperature DOUBLE, 
	CONSTRAINT pk_jobs PRIMARY KEY (run_id, iteration), 
	CONSTRAINT fk_jobs_run_id FOREIGN KEY(run_id) REFERENCES runs (id)
)
 WITHOUT ROWID

;
INSERT INTO "jobs" VALUES('r-000000000001',0,0,'seed','mutate',0,1000,'2026-11-26T13:56:10.852Z',NULL);
INSERT INTO "jobs" VALUES('r-000000000001',1,1,'optimize','mutate',1,1001,'2026-11-26T13:56:10.856Z',0.5);
INSERT INTO "jobs" VALUES('r-000000000001',2,1,'optimize','mutate',0,1002,'2026-11-26T13:56:10.862Z',NULL);
CREATE TABLE judgements (
	call_id INTEGER NOT NULL, 
	candidate_id TEXT NOT NULL, 
	judge TEXT NOT NULL, 
	vote INTEGER NOT NULL, 
	text TEXT NOT NULL, 
	finish_reason TEXT NOT NULL, 
	accepts BOOLEAN, 
	confidence DOUBLE, 
	reason TEXT NOT NULL, 
	CONSTRAINT pk_judgements PRIMARY KEY (call_id), 
	CONSTRAINT fk_judgements_call_id FOREIGN KEY(call_id) REFERENCES calls (id), 
	CONSTRAINT fk_judgements_candidate_id FOREIGN KEY(candidate_id) REFERENCES candidates (id)
);
INSERT INTO "judgements" VALUES(3,'c-cd41c8ba41975736','compiles',1,'yes','stop',1,0.75,'it looks right');
CREATE TABLE kernel_resources (
	evaluation_id INTEGER NOT NULL, 
	position INTEGER NOT NULL, 
	kernel TEXT NOT NULL, 
	registers INTEGER NOT NULL, 
	shared_bytes INTEGER NOT NULL, 
	local_bytes INTEGER NOT NULL, 
	spill_store_bytes INTEGER NOT NULL, 
	spill_load_bytes INTEGER NOT NULL, 
	constant_bytes INTEGER NOT NULL, 
	CONSTRAINT pk_kernel_resources PRIMARY KEY (evaluation_id, position), 
	CONSTRAINT fk_kernel_resources_evaluation_id FOREIGN KEY(evaluation_id) REFERENCES builds (evaluation_id)
)
 WITHOUT ROWID

;
INSERT INTO "kernel_resources" VALUES(1,0,'_Z6kernelv',32,1024,0,8,12,380);
INSERT INTO "kernel_resources" VALUES(2,0,'_Z6kernelv',32,1024,0,8,12,380);
CREATE TABLE leases (
	id INTEGER NOT NULL, 
	run_id TEXT NOT NULL, 
	iteration INTEGER NOT NULL, 
	holder TEXT NOT NULL, 
	leased_at TEXT NOT NULL, 
	leased_until TEXT NOT NULL, 
	CONSTRAINT pk_leases PRIMARY KEY (id), 
	CONSTRAINT fk_leases_run_id_iteration FOREIGN KEY(run_id, iteration) REFERENCES jobs (run_id, iteration)
);
INSERT INTO "leases" VALUES(1,'r-000000000001',1,'ada','2026-11-26T13:56:10.856Z','2026-11-26T13:57:10.856Z');
CREATE TABLE lessons (
	id INTEGER NOT NULL, 
	run_id TEXT NOT NULL, 
	after_iteration INTEGER NOT NULL, 
	text TEXT NOT NULL, 
	written_at TEXT NOT NULL, 
	CONSTRAINT pk_lessons PRIMARY KEY (id), 
	CONSTRAINT fk_lessons_run_id FOREIGN KEY(run_id) REFERENCES runs (id), 
	CONSTRAINT uq_lessons_run_id_after_iteration UNIQUE (run_id, after_iteration)
);
INSERT INTO "lessons" VALUES(1,'r-000000000001',2,'wider is better','2026-11-26T13:56:10.863Z');
CREATE TABLE messages (
	id TEXT NOT NULL, 
	role TEXT NOT NULL, 
	text TEXT NOT NULL, 
	CONSTRAINT pk_messages PRIMARY KEY (id)
);
INSERT INTO "messages" VALUES('m-608d2c0b4135cf98','system','You write CUDA.');
INSERT INTO "messages" VALUES('m-0ed9fdebd724a66a','user','Make it faster.');
CREATE TABLE prompt_messages (
	run_id TEXT NOT NULL, 
	iteration INTEGER NOT NULL, 
	attempt INTEGER NOT NULL, 
	position INTEGER NOT NULL, 
	message_id TEXT NOT NULL, 
	CONSTRAINT pk_prompt_messages PRIMARY KEY (run_id, iteration, attempt, position), 
	CONSTRAINT fk_prompt_messages_message_id FOREIGN KEY(message_id) REFERENCES messages (id), 
	CONSTRAINT fk_prompt_messages_run_id_iteration_attempt FOREIGN KEY(run_id, iteration, attempt) REFERENCES prompts (run_id, iteration, attempt)
)
 WITHOUT ROWID

;
INSERT INTO "prompt_messages" VALUES('r-000000000001',1,0,0,'m-608d2c0b4135cf98');
INSERT INTO "prompt_messages" VALUES('r-000000000001',1,0,1,'m-0ed9fdebd724a66a');
CREATE TABLE prompt_parents (
	run_id TEXT NOT NULL, 
	iteration INTEGER NOT NULL, 
	attempt INTEGER NOT NULL, 
	position INTEGER NOT NULL, 
	parent_id TEXT NOT NULL, 
	CONSTRAINT pk_prompt_parents PRIMARY KEY (run_id, iteration, attempt, position), 
	CONSTRAINT fk_prompt_parents_parent_id FOREIGN KEY(parent_id) REFERENCES candidates (id), 
	CONSTRAINT fk_prompt_parents_run_id_iteration_attempt FOREIGN KEY(run_id, iteration, attempt) REFERENCES prompts (run_id, iteration, attempt)
)
 WITHOUT ROWID

;
INSERT INTO "prompt_parents" VALUES('r-000000000001',1,0,0,'c-64d79256604d499e');
CREATE TABLE prompts (
	run_id TEXT NOT NULL, 
	iteration INTEGER NOT NULL, 
	attempt INTEGER NOT NULL, 
	operator TEXT NOT NULL, 
	template TEXT NOT NULL, 
	seed INTEGER NOT NULL, 
	CONSTRAINT pk_prompts PRIMARY KEY (run_id, iteration, attempt), 
	CONSTRAINT fk_prompts_run_id_iteration FOREIGN KEY(run_id, iteration) REFERENCES jobs (run_id, iteration)
)
 WITHOUT ROWID

;
INSERT INTO "prompts" VALUES('r-000000000001',1,0,'optimize','optimize',5);
CREATE TABLE replies (
	run_id TEXT NOT NULL, 
	iteration INTEGER NOT NULL, 
	attempt INTEGER NOT NULL, 
	model TEXT NOT NULL, 
	text TEXT NOT NULL, 
	input_tokens INTEGER, 
	cached_tokens INTEGER, 
	output_tokens INTEGER, 
	reasoning_tokens INTEGER, 
	cost_usd DOUBLE, 
	seconds DOUBLE NOT NULL, 
	finish_reason TEXT NOT NULL, 
	received_at TEXT NOT NULL, call_id INTEGER, 
	CONSTRAINT pk_replies PRIMARY KEY (run_id, iteration, attempt), 
	CONSTRAINT fk_replies_run_id_iteration_attempt FOREIGN KEY(run_id, iteration, attempt) REFERENCES prompts (run_id, iteration, attempt)
);
INSERT INTO "replies" VALUES('r-000000000001',1,0,'mutate','a kernel',9,4,5,2,0.0,0.5,'stop','2026-11-26T13:56:10.858Z',2);
CREATE TABLE reply_rewrites (
	run_id TEXT NOT NULL, 
	iteration INTEGER NOT NULL, 
	attempt INTEGER NOT NULL, 
	position INTEGER NOT NULL, 
	name TEXT NOT NULL, 
	argument TEXT NOT NULL, 
	CONSTRAINT pk_reply_rewrites PRIMARY KEY (run_id, iteration, attempt, position), 
	CONSTRAINT fk_reply_rewrites_run_id_iteration_attempt FOREIGN KEY(run_id, iteration, attempt) REFERENCES replies (run_id, iteration, attempt)
)
 WITHOUT ROWID

;
INSERT INTO "reply_rewrites" VALUES('r-000000000001',1,0,0,'vectorize','x width=4');
CREATE TABLE rewrites (
	attempt_id INTEGER NOT NULL, 
	position INTEGER NOT NULL, 
	name TEXT NOT NULL, 
	argument TEXT NOT NULL, 
	CONSTRAINT pk_rewrites PRIMARY KEY (attempt_id, position), 
	CONSTRAINT fk_rewrites_attempt_id FOREIGN KEY(attempt_id) REFERENCES attempts (id)
)
 WITHOUT ROWID

;
INSERT INTO "rewrites" VALUES(2,0,'vectorize','x width=4');
CREATE TABLE run_limits (
	run_id TEXT NOT NULL, 
	name TEXT NOT NULL, 
	value DOUBLE NOT NULL, 
	CONSTRAINT pk_run_limits PRIMARY KEY (run_id, name), 
	CONSTRAINT fk_run_limits_run_id FOREIGN KEY(run_id) REFERENCES runs (id)
)
 WITHOUT ROWID

;
INSERT INTO "run_limits" VALUES('r-000000000001','usd',5.0);
CREATE TABLE run_models (
	run_id TEXT NOT NULL, 
	position INTEGER NOT NULL, 
	model TEXT NOT NULL, purpose TEXT DEFAULT 'propose' NOT NULL, 
	CONSTRAINT pk_run_models PRIMARY KEY (run_id, position), 
	CONSTRAINT fk_run_models_run_id FOREIGN KEY(run_id) REFERENCES runs (id)
)
 WITHOUT ROWID

;
INSERT INTO "run_models" VALUES('r-000000000001',0,'mutate','propose');
INSERT INTO "run_models" VALUES('r-000000000001',1,'anthropic:some-model','propose');
INSERT INTO "run_models" VALUES('r-000000000001',2,'anthropic:judge','judge');
CREATE TABLE run_prices (
	run_id TEXT NOT NULL, 
	model TEXT NOT NULL, 
	input_usd DOUBLE NOT NULL, 
	cached_usd DOUBLE NOT NULL, 
	output_usd DOUBLE NOT NULL, 
	CONSTRAINT pk_run_prices PRIMARY KEY (run_id, model), 
	CONSTRAINT fk_run_prices_run_id FOREIGN KEY(run_id) REFERENCES runs (id)
)
 WITHOUT ROWID

;
INSERT INTO "run_prices" VALUES('r-000000000001','m',1.0,0.1,4.0);
CREATE TABLE runs (
	id TEXT NOT NULL, 
	task_id INTEGER NOT NULL, 
	device TEXT NOT NULL, 
	strategy TEXT NOT NULL, 
	generations INTEGER NOT NULL, 
	population INTEGER NOT NULL, 
	seed INTEGER NOT NULL, 
	status TEXT NOT NULL, 
	started_at TEXT NOT NULL, 
	ended_at TEXT, lookahead INTEGER DEFAULT '0' NOT NULL, replay_of TEXT, stop_reason TEXT, 
	CONSTRAINT pk_runs PRIMARY KEY (id), 
	CONSTRAINT fk_runs_task_id FOREIGN KEY(task_id) REFERENCES tasks (id)
);
INSERT INTO "runs" VALUES('r-000000000001',1,'emulator','islands',4,2,7,'stopped','2026-11-26T13:56:10.849Z','2026-11-26T13:56:10.864Z',1,NULL,'told to');
CREATE TABLE sources (
	id TEXT NOT NULL, 
	text TEXT NOT NULL, 
	CONSTRAINT pk_sources PRIMARY KEY (id)
);
INSERT INTO "sources" VALUES('s-a9891be2b987d62a','// 0
PYBIND11_MODULE(TORCH_EXTENSION_NAME, m) { m.def("forward", &forward); }
');
INSERT INTO "sources" VALUES('s-d4ec3608763b20fa','// 1
PYBIND11_MODULE(TORCH_EXTENSION_NAME, m) { m.def("forward", &forward); }
');
INSERT INTO "sources" VALUES('s-47d0c2cc96564878','// 9
PYBIND11_MODULE(TORCH_EXTENSION_NAME, m) { m.def("forward", &forward); }
');
CREATE TABLE tasks (
	id INTEGER NOT NULL, 
	name TEXT NOT NULL, 
	digest TEXT NOT NULL, 
	title TEXT NOT NULL, 
	signature TEXT NOT NULL, 
	description TEXT NOT NULL, 
	CONSTRAINT pk_tasks PRIMARY KEY (id), 
	CONSTRAINT uq_tasks_name_digest UNIQUE (name, digest)
);
INSERT INTO "tasks" VALUES(1,'rmsnorm','t-1','Root mean square normalisation','forward(x: Tensor[rows, cols], weight: Tensor[cols]) -> Tensor[rows, cols]','y = x / rms(x) * weight');
CREATE TABLE timing_samples (
	evaluation_id INTEGER NOT NULL, 
	case_position INTEGER NOT NULL, 
	position INTEGER NOT NULL, 
	elapsed_ns DOUBLE NOT NULL, 
	CONSTRAINT pk_timing_samples PRIMARY KEY (evaluation_id, case_position, position), 
	CONSTRAINT fk_timing_samples_evaluation_id_case_position FOREIGN KEY(evaluation_id, case_position) REFERENCES case_timings (evaluation_id, position)
)
 WITHOUT ROWID

;
INSERT INTO "timing_samples" VALUES(1,0,0,1000.0);
INSERT INTO "timing_samples" VALUES(1,0,1,1001.0);
INSERT INTO "timing_samples" VALUES(1,1,0,4000.0);
INSERT INTO "timing_samples" VALUES(1,1,1,4001.0);
INSERT INTO "timing_samples" VALUES(2,0,0,1000.0);
INSERT INTO "timing_samples" VALUES(2,0,1,1001.0);
INSERT INTO "timing_samples" VALUES(2,1,0,4000.0);
INSERT INTO "timing_samples" VALUES(2,1,1,4001.0);
CREATE TABLE timings (
	evaluation_id INTEGER NOT NULL, 
	kind TEXT NOT NULL, 
	device TEXT NOT NULL, 
	target TEXT NOT NULL, 
	method TEXT NOT NULL, 
	seconds DOUBLE NOT NULL, 
	score_ns DOUBLE NOT NULL, 
	CONSTRAINT pk_timings PRIMARY KEY (evaluation_id), 
	CONSTRAINT fk_timings_evaluation_id FOREIGN KEY(evaluation_id) REFERENCES evaluations (id)
);
INSERT INTO "timings" VALUES(1,'predicted','emulator','H100 SXM','prediction 1',0.1,2000.0);
INSERT INTO "timings" VALUES(2,'predicted','emulator','H100 SXM','prediction 1',0.1,2000.0);
CREATE TABLE tunables (
	candidate_id TEXT NOT NULL, 
	name TEXT NOT NULL, 
	position INTEGER NOT NULL, 
	value INTEGER NOT NULL, 
	CONSTRAINT pk_tunables PRIMARY KEY (candidate_id, name, position), 
	CONSTRAINT fk_tunables_candidate_id FOREIGN KEY(candidate_id) REFERENCES candidates (id)
)
 WITHOUT ROWID

;
INSERT INTO "tunables" VALUES('c-4b0ebc0f815d738d','BLOCK',0,64);
INSERT INTO "tunables" VALUES('c-4b0ebc0f815d738d','BLOCK',1,128);
INSERT INTO "tunables" VALUES('c-4b0ebc0f815d738d','UNROLL',0,4);
INSERT INTO "tunables" VALUES('c-64d79256604d499e','BLOCK',0,64);
INSERT INTO "tunables" VALUES('c-64d79256604d499e','BLOCK',1,128);
INSERT INTO "tunables" VALUES('c-64d79256604d499e','UNROLL',0,4);
INSERT INTO "tunables" VALUES('c-cd41c8ba41975736','BLOCK',0,64);
INSERT INTO "tunables" VALUES('c-cd41c8ba41975736','BLOCK',1,128);
INSERT INTO "tunables" VALUES('c-cd41c8ba41975736','UNROLL',0,4);
CREATE TABLE tuning (
	run_id TEXT NOT NULL, 
	iteration INTEGER NOT NULL, 
	position INTEGER NOT NULL, 
	configuration TEXT NOT NULL, 
	cases INTEGER NOT NULL, 
	score_ns DOUBLE, 
	reason TEXT, 
	CONSTRAINT pk_tuning PRIMARY KEY (run_id, iteration, position), 
	CONSTRAINT fk_tuning_run_id_iteration FOREIGN KEY(run_id, iteration) REFERENCES jobs (run_id, iteration)
)
 WITHOUT ROWID

;
INSERT INTO "tuning" VALUES('r-000000000001',2,0,'BLOCK=64',2,9.5,'it was not the best');
CREATE TABLE verdicts (
	evaluation_id INTEGER NOT NULL, 
	outcome TEXT NOT NULL, 
	reason TEXT, 
	output TEXT NOT NULL, 
	seconds DOUBLE NOT NULL, integrity_seconds DOUBLE, failed_in TEXT, 
	CONSTRAINT pk_verdicts PRIMARY KEY (evaluation_id), 
	CONSTRAINT fk_verdicts_evaluation_id FOREIGN KEY(evaluation_id) REFERENCES evaluations (id)
);
INSERT INTO "verdicts" VALUES(1,'passed',NULL,'hello
',0.2,NULL,NULL);
INSERT INTO "verdicts" VALUES(2,'passed',NULL,'hello
',0.2,NULL,NULL);
CREATE INDEX ix_evaluations_candidate_id_task_id_device_id ON evaluations (candidate_id, task_id, device, id);
CREATE INDEX ix_evaluations_task_id ON evaluations (task_id);
CREATE INDEX ix_attempts_candidate_id_run_id_id ON attempts (candidate_id, run_id, id);
CREATE INDEX ix_attempts_run_id_id ON attempts (run_id, id);
CREATE INDEX ix_job_parents_parent_id ON job_parents (parent_id);
CREATE INDEX ix_timings_kind_target_score_ns ON timings (kind, target, score_ns);
CREATE INDEX ix_candidate_parents_parent_id ON candidate_parents (parent_id);
CREATE VIEW lineage AS
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
SELECT candidate, ancestor, depth FROM ancestry;
CREATE INDEX ix_evaluations_source_key ON evaluations (source_key);
CREATE INDEX ix_evaluations_kernel_key ON evaluations (kernel_key);
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
GROUP BY t.name, r.device;
CREATE INDEX ix_hints_run_id ON hints (run_id);
CREATE INDEX ix_leases_run_id_iteration ON leases (run_id, iteration);
CREATE INDEX ix_calls_run_id_iteration ON calls (run_id, iteration);
CREATE INDEX ix_judgements_candidate_id ON judgements (candidate_id);
CREATE INDEX ix_gate_decisions_candidate_id ON gate_decisions (candidate_id);
CREATE INDEX ix_replies_call_id ON replies (call_id);
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
LEFT JOIN timings m ON m.evaluation_id = e.id;
CREATE VIEW leaderboard AS
SELECT task, device, target, kind, method,
       ROW_NUMBER() OVER (PARTITION BY task, task_digest, device, target, kind, method
                          ORDER BY score_ns, evaluation_id) AS place,
       candidate, score_ns, timed_on, promoted, task_digest, evaluation_id
FROM results
WHERE newest = 1 AND status = 'passed' AND score_ns IS NOT NULL;
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
LEFT JOIN timings m ON m.evaluation_id = e.id;
CREATE VIEW failures_by_stage AS
SELECT task, device, stage, outcome, COUNT(*) AS attempts
FROM history
WHERE stage <> 'done'
GROUP BY task, device, stage, outcome;
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
WHERE r.call_id IS NULL AND u.replay_of IS NULL;
CREATE VIEW costs AS
SELECT run, model, purpose, COUNT(*) AS calls,
       SUM(CASE WHEN outcome IN ('reply', 'judged') THEN 0 ELSE 1 END) AS failed_calls,
       SUM(cost_usd) AS cost_usd, COUNT(*) - COUNT(cost_usd) AS calls_of_unknown_cost,
       SUM(input_tokens) AS input_tokens, SUM(cached_tokens) AS cached_tokens, SUM(output_tokens) AS output_tokens,
       SUM(reasoning_tokens) AS reasoning_tokens, SUM(seconds) AS total_seconds
FROM ledger
GROUP BY run, model, purpose;
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
LEFT JOIN verdicts v ON v.evaluation_id = e.id;
COMMIT;
