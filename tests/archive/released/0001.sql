PRAGMA application_id = 1801811567;
BEGIN TRANSACTION;
CREATE TABLE alembic_version (
	version_num VARCHAR(32) NOT NULL, 
	CONSTRAINT alembic_version_pkc PRIMARY KEY (version_num)
);
INSERT INTO "alembic_version" VALUES('0001');
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
INSERT INTO "attempts" VALUES(1,'r-000000000001',0,'c-64d79256604d499e',1,NULL,'2026-11-26T13:56:10.594Z');
INSERT INTO "attempts" VALUES(2,'r-000000000001',1,'c-cd41c8ba41975736',2,NULL,'2026-11-26T13:56:10.604Z');
INSERT INTO "attempts" VALUES(3,'r-000000000001',2,NULL,NULL,'no kernel','2026-11-26T13:56:10.605Z');
INSERT INTO "attempts" VALUES(4,NULL,NULL,'c-4b0ebc0f815d738d',3,NULL,'2026-11-26T13:56:10.608Z');
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
	seconds DOUBLE NOT NULL, 
	CONSTRAINT pk_evaluation_stages PRIMARY KEY (evaluation_id, position), 
	CONSTRAINT fk_evaluation_stages_evaluation_id FOREIGN KEY(evaluation_id) REFERENCES evaluations (id)
)
 WITHOUT ROWID

;
INSERT INTO "evaluation_stages" VALUES(1,0,'build',0.7);
INSERT INTO "evaluation_stages" VALUES(1,1,'correctness',0.2);
INSERT INTO "evaluation_stages" VALUES(1,2,'measure',0.1);
INSERT INTO "evaluation_stages" VALUES(2,0,'build',0.7);
INSERT INTO "evaluation_stages" VALUES(2,1,'correctness',0.2);
INSERT INTO "evaluation_stages" VALUES(2,2,'measure',0.1);
INSERT INTO "evaluation_stages" VALUES(3,0,'build',0.7);
CREATE TABLE evaluations (
	id INTEGER NOT NULL, 
	candidate_id TEXT NOT NULL, 
	task_id INTEGER NOT NULL, 
	device TEXT NOT NULL, 
	timing_reason TEXT, 
	recorded_at TEXT NOT NULL, 
	CONSTRAINT pk_evaluations PRIMARY KEY (id), 
	CONSTRAINT fk_evaluations_candidate_id FOREIGN KEY(candidate_id) REFERENCES candidates (id), 
	CONSTRAINT fk_evaluations_task_id FOREIGN KEY(task_id) REFERENCES tasks (id)
);
INSERT INTO "evaluations" VALUES(1,'c-64d79256604d499e',1,'emulator',NULL,'2026-11-26T13:56:10.594Z');
INSERT INTO "evaluations" VALUES(2,'c-cd41c8ba41975736',1,'emulator','none','2026-11-26T13:56:10.604Z');
INSERT INTO "evaluations" VALUES(3,'c-4b0ebc0f815d738d',1,'emulator',NULL,'2026-11-26T13:56:10.608Z');
CREATE TABLE findings (
	evaluation_id INTEGER NOT NULL, 
	case_position INTEGER NOT NULL, 
	position INTEGER NOT NULL, 
	kind TEXT NOT NULL, 
	text TEXT NOT NULL, 
	kernel TEXT, 
	line INTEGER, 
	CONSTRAINT pk_findings PRIMARY KEY (evaluation_id, case_position, position), 
	CONSTRAINT fk_findings_evaluation_id_case_position FOREIGN KEY(evaluation_id, case_position) REFERENCES case_verdicts (evaluation_id, position)
)
 WITHOUT ROWID

;
INSERT INTO "findings" VALUES(1,0,0,'bad launch','grid of 0 blocks','_Z6kernelv',12);
INSERT INTO "findings" VALUES(1,1,0,'bad launch','grid of 0 blocks','_Z6kernelv',12);
INSERT INTO "findings" VALUES(2,0,0,'bad launch','grid of 0 blocks','_Z6kernelv',12);
INSERT INTO "findings" VALUES(2,1,0,'bad launch','grid of 0 blocks','_Z6kernelv',12);
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
	asked_at TEXT NOT NULL, 
	CONSTRAINT pk_jobs PRIMARY KEY (run_id, iteration), 
	CONSTRAINT fk_jobs_run_id FOREIGN KEY(run_id) REFERENCES runs (id)
)
 WITHOUT ROWID

;
INSERT INTO "jobs" VALUES('r-000000000001',0,0,'seed','mutate',0,1000,'2026-11-26T13:56:10.593Z');
INSERT INTO "jobs" VALUES('r-000000000001',1,1,'optimize','mutate',1,1001,'2026-11-26T13:56:10.599Z');
INSERT INTO "jobs" VALUES('r-000000000001',2,1,'optimize','mutate',0,1002,'2026-11-26T13:56:10.605Z');
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
	received_at TEXT NOT NULL, 
	CONSTRAINT pk_replies PRIMARY KEY (run_id, iteration, attempt), 
	CONSTRAINT fk_replies_run_id_iteration_attempt FOREIGN KEY(run_id, iteration, attempt) REFERENCES prompts (run_id, iteration, attempt)
);
INSERT INTO "replies" VALUES('r-000000000001',1,0,'mutate','a kernel',9,4,5,2,0.0,0.5,'stop','2026-11-26T13:56:10.601Z');
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
CREATE TABLE run_models (
	run_id TEXT NOT NULL, 
	position INTEGER NOT NULL, 
	model TEXT NOT NULL, 
	CONSTRAINT pk_run_models PRIMARY KEY (run_id, position), 
	CONSTRAINT fk_run_models_run_id FOREIGN KEY(run_id) REFERENCES runs (id)
)
 WITHOUT ROWID

;
INSERT INTO "run_models" VALUES('r-000000000001',0,'mutate');
INSERT INTO "run_models" VALUES('r-000000000001',1,'anthropic:some-model');
INSERT INTO "run_models" VALUES('r-000000000001',2,'anthropic:judge');
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
	ended_at TEXT, 
	CONSTRAINT pk_runs PRIMARY KEY (id), 
	CONSTRAINT fk_runs_task_id FOREIGN KEY(task_id) REFERENCES tasks (id)
);
INSERT INTO "runs" VALUES('r-000000000001',1,'emulator','islands',4,2,7,'stopped','2026-11-26T13:56:10.590Z','2026-11-26T13:56:10.607Z');
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
CREATE TABLE verdicts (
	evaluation_id INTEGER NOT NULL, 
	outcome TEXT NOT NULL, 
	reason TEXT, 
	output TEXT NOT NULL, 
	seconds DOUBLE NOT NULL, 
	CONSTRAINT pk_verdicts PRIMARY KEY (evaluation_id), 
	CONSTRAINT fk_verdicts_evaluation_id FOREIGN KEY(evaluation_id) REFERENCES evaluations (id)
);
INSERT INTO "verdicts" VALUES(1,'passed',NULL,'hello
',0.2);
INSERT INTO "verdicts" VALUES(2,'passed',NULL,'hello
',0.2);
CREATE INDEX ix_evaluations_candidate_id_task_id_device_id ON evaluations (candidate_id, task_id, device, id);
CREATE INDEX ix_evaluations_task_id ON evaluations (task_id);
CREATE INDEX ix_attempts_candidate_id_run_id_id ON attempts (candidate_id, run_id, id);
CREATE INDEX ix_attempts_run_id_id ON attempts (run_id, id);
CREATE INDEX ix_job_parents_parent_id ON job_parents (parent_id);
CREATE INDEX ix_timings_kind_target_score_ns ON timings (kind, target, score_ns);
CREATE INDEX ix_candidate_parents_parent_id ON candidate_parents (parent_id);
COMMIT;
