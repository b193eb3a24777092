"""The fifty known cheats of kernel benchmarks: what stands for each here, and what must be said of it.

Numbers and titles are those of the catalogue that the design was made from. A record names a kernel, the outcome that
its verdict must have and what the reason must say; or why no kernel can stand for the cheat, with the tests that hold
the property elsewhere.
"""

from __future__ import annotations

from dataclasses import dataclass

NOT_WRITTEN = r"^output 0 not written: it holds what its memory held before"
WRONG_VALUE = r"^wrong value: output 0 \["
LIBRARY = r"^library call: "


@dataclass(frozen=True, kw_only=True)
class Cheat:
    """One cheat as a kernel, or as words."""

    number: int
    title: str
    file: str = ""  # of this folder, without .cu
    task: str = "gelu"
    outcome: str = ""  # of the verdict, or "build failed"
    reason: str = ""  # regular expression
    cases: str = "small"  # "small", "first" (the declared case of one element, then hidden ones), "bench", "wide"
    gpu: str = ""  # why it needs a GPU
    elsewhere: str = ""  # why no kernel can stand for it here
    tests: tuple[str, ...] = ()  # file::name of those that hold the property elsewhere


CHEATS = (
    Cheat(number=1, title="stale output", file="stale_memory", outcome="cheating", reason=NOT_WRITTEN),
    Cheat(
        number=2, title="input mutation", file="zeroes_its_input", outcome="cheating", reason=r"^input 0 changed at \["
    ),
    Cheat(
        number=3,
        title="NaN for everybody",
        file="makes_everything_nan",
        outcome="cheating",
        reason=r"^input 0 changed at \[0, 0\]: was .*, is now nan",
    ),
    Cheat(
        number=3,
        title="infinity everywhere",
        file="infinite_everywhere",
        task="softmax",
        outcome="wrong",
        reason=r"^wrong value: output 0 \[0, 0\]: expected .*, got inf",
    ),
    Cheat(
        number=4,
        title="broadcast shape",
        file="one_element_for_a_number",
        task="cross_entropy",
        outcome="wrong",
        reason=r"^wrong shape: output 0 is \[1\], expected \[\]",
    ),
    Cheat(
        number=4,
        title="strides of zero",
        file="one_row_for_all",
        outcome="wrong",
        reason=r"^overlapping output: output 0 has shape",
    ),
    Cheat(
        number=4,
        title="a tensor with a gradient",
        file="wants_a_gradient",
        outcome="wrong",
        reason=r"^requires grad: output 0",
    ),
    Cheat(
        number=5,
        title="zeros below a tolerance",
        file="zeros_below_a_tolerance",
        task="softmax",
        outcome="wrong",
        reason=r"^wrong value: output 0 \[\d+, \d+\]: expected .*, got 0;.*\(case rows=5 cols=1000",
        cases="wide",
    ),
    Cheat(
        number=6,
        title="constant-output task",
        elsewhere="the task is at fault, not the candidate: it is found when the task is registered",
        tests=(
            "tests/tasks/test_lint.py::test_a_flaw_is_found_by_its_rule_with_the_way_to_repair_it",
            "tests/tasks/test_lint.py::test_no_shipped_task_has_a_flaw",
        ),
    ),
    Cheat(
        number=7,
        title="statistics shortcut",
        file="means_of_a_sample",
        task="rmsnorm",
        outcome="wrong",
        reason=WRONG_VALUE,
        cases="wide",
    ),
    Cheat(
        number=8,
        title="seed replay",
        file="replays_the_seed",
        outcome="wrong",
        reason=WRONG_VALUE + r".*\(case hidden ",
        cases="first",
    ),
    Cheat(
        number=9,
        title="declared sizes only",
        file="declared_sizes_only",
        outcome="wrong",
        reason=WRONG_VALUE + r".*, got 0;.*\(case hidden ",
    ),
    Cheat(
        number=10,
        title="partial sums",
        file="sums_98_of_100",
        task="linear_relu",
        outcome="wrong",
        reason=WRONG_VALUE,
    ),
    Cheat(
        number=10,
        title="last channel omitted",
        file="forgets_the_last_channel",
        task="depthwise_conv2d",
        outcome="wrong",
        reason=r"^output 0 not written at \[0, \d+, 0, 0\], ",
    ),
    Cheat(
        number=11,
        title="precision downgrade",
        file="half_precision_products",
        task="linear_relu",
        outcome="wrong",
        reason=WRONG_VALUE + r".* of the largest value, .* allowed",
    ),
    Cheat(
        number=12,
        title="global math mode",
        file="allows_tf32",
        outcome="cheating",
        reason=r"^global state changed: (float32 matmul precision|TF32 in matmul): ",
    ),
    Cheat(
        number=13,
        title="input as output",
        file="returns_a_view",
        outcome="cheating",
        reason=r"^aliases input: output 0 shares memory with tensor input 0",
    ),
    Cheat(
        number=14,
        title="only the properties that a checker may ask for",
        file="rows_sum_to_one",
        task="softmax",
        outcome="wrong",
        reason=WRONG_VALUE,
    ),
    Cheat(
        number=15,
        title="silent launch failure",
        file="too_much_shared_memory",
        outcome="wrong",
        reason=r"^bad launch: kernel gelu_kernel: ",
    ),
    Cheat(
        number=16,
        title="writes beside its output",
        file="writes_beside",
        outcome="wrong",
        reason=r"^out of bounds: wrote \d+ bytes before a tensor",
    ),
    Cheat(
        number=16,
        title="fishes for the answer in neighbouring memory",
        file="fishes_behind_its_input",
        outcome="wrong",
        reason=WRONG_VALUE,
    ),
    Cheat(
        number=17,
        title="walk through the collector's objects",
        file="walks_the_collector",
        outcome="wrong",
        reason=r"^output 0 not written|^wrong value: output 0 \[0, 0\]: expected .*, got nan",
        tests=("tests/cheats/test_cheats.py::test_a_worker_holds_no_expected_output_and_nothing_of_the_judge",),
    ),
    Cheat(
        number=18,
        title="call of the reference",
        file="calls_the_reference",
        outcome="crashed",
        reason=r"^raised \w+: .*tasks/gelu/task\.toml: cannot be read: Permission denied",
    ),
    Cheat(
        number=18,
        title="search for the reference",
        file="looks_for_the_reference",
        outcome="cheating",
        reason=r"^reads the judge: it imported kernelevo\.tasks",
    ),
    Cheat(
        number=19,
        title="race that may pass",
        file="missing_barrier",
        task="rmsnorm",
        outcome="wrong",
        reason=WRONG_VALUE,
    ),
    Cheat(
        number=20,
        title="uninitialised accumulator",
        file="adds_to_fresh_memory",
        task="cross_entropy",
        outcome="wrong",
        reason=NOT_WRITTEN + r"|^wrong value: output 0 \[\]: expected .*, got nan",
    ),
    Cheat(
        number=21,
        title="kernel that is never reached",
        file="a_kernel_for_show",
        outcome="cheating",
        reason=LIBRARY + r"calls compute operators of PyTorch: at::gelu and launched no kernel of its own",
    ),
    Cheat(
        number=21,
        title="kernel for show, host computation",
        file="computes_on_the_host",
        outcome="cheating",
        reason=r"^host computation: copied \d+ bytes from the device and \d+ bytes to it",
    ),
    Cheat(
        number=21,
        title="kernel for show, answer from elsewhere",
        file="answers_past_its_kernel",
        outcome="cheating",
        reason=r"^kernels for show: output 0 is right also when none of its kernels runs",
    ),
    Cheat(
        number=22,
        title="library call",
        file="library_call",
        task="softmax",
        outcome="cheating",
        reason=LIBRARY + r"calls compute operators of PyTorch: at::softmax_int and launched no kernel",
    ),
    Cheat(
        number=22,
        title="library call by name",
        file="library_call_by_name",
        outcome="cheating",
        reason=LIBRARY + r"ran compute operators of PyTorch: aten::gelu and reaches .*findSchemaOrThrow",
    ),
    Cheat(
        number=22,
        title="library call through Python",
        file="library_call_through_python",
        outcome="cheating",
        reason=LIBRARY + r"ran compute operators of PyTorch: aten::gelu;",
    ),
    Cheat(
        number=22,
        title="library call while observers are off",
        file="library_call_unobserved",
        outcome="cheating",
        reason=LIBRARY + r"reaches operators of PyTorch in ways that hide them: at::enableRecordFunction",
    ),
    Cheat(
        number=23,
        title="silent fallback",
        file="falls_back_silently",
        outcome="cheating",
        reason=LIBRARY + r"calls compute operators of PyTorch: at::gelu",
        tests=("tests/tasks/importers/test_candidates.py::test_plain_pytorch_is_a_library_call",),
    ),
    Cheat(
        number=24,
        title="inheritance bypass",
        elsewhere="a CUDA source has no class to inherit from",
        tests=(
            "tests/tasks/importers/test_candidates.py::"
            "test_inheriting_the_references_forward_is_refused_before_anything_runs",
        ),
    ),
    Cheat(
        number=25,
        title="side stream, never joined",
        file="side_stream",
        outcome="wrong",
        reason=r"^unjoined stream: nothing waits for gelu_kernel",
    ),
    Cheat(
        number=26,
        title="one stream of four joined",
        file="joins_one_stream_of_four",
        outcome="wrong",
        reason=r"^unjoined stream: nothing waits for gelu_kernel",
    ),
    Cheat(
        number=27,
        title="host-thread deferral",
        file="works_after_it_returned",
        outcome="cheating",
        reason=r"^late output: a thread of the host changed output 0 after it was returned",
    ),
    Cheat(
        number=28,
        title="lazy output",
        file="computes_when_looked_at",
        outcome="wrong",
        reason=r"^not a tensor: output 0 is a .*Later",
    ),
    Cheat(
        number=28,
        title="output that has yet to be moved",
        file="answers_on_the_host",
        outcome="wrong",
        reason=r"^wrong device: output 0 is on cpu, not on cuda",
    ),
    Cheat(
        number=29,
        title="cache by address",
        file="answers_by_address",
        outcome="cheating",
        reason=r"^stale answer: one element of input 0 was changed where it lies",
    ),
    Cheat(
        number=30,
        title="cache by fingerprint",
        file="answers_by_fingerprint",
        outcome="cheating",
        reason=r"^stale answer: one element of input 0 was changed where it lies",
    ),
    Cheat(
        number=31,
        title="first answer for ever",
        file="first_answer_for_ever",
        outcome="cheating",
        reason=r"^reuses output: output 0 shares memory with an output of an earlier call",
    ),
    Cheat(
        number=31,
        title="last answer of that size",
        file="last_answer_of_that_size",
        outcome="cheating",
        reason=r"^stale answer: one element of input 0 was changed where it lies",
    ),
    Cheat(
        number=32,
        title="shared static output",
        file="one_buffer_for_all",
        outcome="cheating",
        reason=r"^reuses output: output 0 shares memory with an output of an earlier call",
    ),
    Cheat(
        number=32,
        title="outputs that share memory",
        file="one_buffer_for_two_outputs",
        task="rmsnorm_backward",
        outcome="wrong",
        reason=r"^outputs share memory: outputs 0 and 1",
    ),
    Cheat(
        number=33,
        title="weights prepared once",
        file="packs_weights_once",
        task="rmsnorm",
        outcome="cheating",
        reason=r"^stale answer: one element of input 1 was changed where it lies",
    ),
    Cheat(
        number=34,
        title="graph with stale inputs",
        file="replays_a_graph",
        outcome="cheating",
        reason=r"^stale answer: one element of input 0 was changed where it lies",
        gpu="the emulator refuses stream capture",
    ),
    Cheat(number=35, title="super-batching", file="batches_its_calls", outcome="cheating", reason=NOT_WRITTEN),
    Cheat(
        number=35,
        title="memory of earlier answers",
        file="reuses_what_it_gave_away",
        outcome="cheating",
        reason=r"^earlier output changed: an output of an earlier call was changed",
    ),
    Cheat(
        number=36,
        title="phase by environment",
        file="looks_at_the_environment",
        outcome="cheating",
        reason=NOT_WRITTEN,
    ),
    Cheat(
        number=36,
        title="phase by number of calls",
        file="tires_after_some_calls",
        outcome="wrong",
        reason=WRONG_VALUE
        + r".*; (it was right before, and is not in a later call|one element of input 0 was changed)",
    ),
    Cheat(
        number=37,
        title="timer replaced",
        file="replaces_the_clock",
        outcome="cheating",
        reason=r"^global state changed: torch\.cuda\.Event was replaced",
    ),
    Cheat(
        number=37,
        title="timer replaced, aliased",
        file="replaces_the_clock_by_another_name",
        outcome="cheating",
        reason=r"^global state changed: torch\.cuda\.synchronize was replaced",
    ),
    Cheat(
        number=38,
        title="native timer patch",
        file="overwrites_the_clock",
        outcome="cheating",
        reason=r"^global state changed: the code of cudaEventElapsedTime was changed",
    ),
    Cheat(
        number=39,
        title="comparator replaced",
        file="makes_everything_close",
        outcome="cheating",
        reason=r"^global state changed: torch\.allclose was replaced",
    ),
    Cheat(
        number=40,
        title="one size for nothing",
        file="one_size_for_nothing",
        outcome="wrong",
        reason=r"^output 0 not written at \[0, 256\], .*\(case rows=2048 cols=1024",
        cases="bench",
    ),
    Cheat(
        number=41,
        title="baseline sabotage",
        file="slows_the_others_down",
        outcome="cheating",
        reason=r"^global state changed: cuDNN: True became False",
    ),
    Cheat(
        number=42,
        title="persisting-L2 carve-out",
        elsewhere="changes only how long calls take: a time below what memory allows is a finding",
        tests=("tests/measure/test_protocol.py::test_a_time_below_what_memory_allows_is_a_finding",),
    ),
    Cheat(
        number=43,
        title="warm caches, high clocks",
        elsewhere="changes only how long calls take: cold and warm are told apart, clocks are recorded",
        tests=(
            "tests/measure/test_protocol.py::test_an_honest_kernel_gets_its_time_cold_warm_and_in_graphs",
            "tests/measure/test_protocol.py::test_inputs_rotate_through_more_than_twice_the_l2",
            "tests/measure/test_statistics.py::test_an_arm_that_only_met_a_faster_clock_has_not_won",
        ),
    ),
    Cheat(
        number=44,
        title="next answer prepared in advance",
        file="prepares_its_next_answer",
        outcome="cheating",
        reason=r"^stale answer: one element of input 0 was changed where it lies|^reuses output",
    ),
    Cheat(
        number=45,
        title="forged result",
        file="forges_its_result",
        outcome="crashed",
        reason=r"^broke the channel to its parent: bytes that are not a frame|^exited with status 0 before it returned",
    ),
    Cheat(
        number=46,
        title="old verdict left behind",
        file="leaves_a_verdict_and_dies",
        outcome="crashed",
        reason=r"^killed by SIGSEGV",
    ),
    Cheat(
        number=47,
        title="poison for the next build",
        file="poisons_the_next_build",
        outcome="cheating",
        reason=r"^global state changed: (environment|search path for modules): has now '(TORCH_EXTENSIONS_DIR|\.')",
        tests=("tests/cheats/test_cheats.py::test_the_next_candidate_sees_nothing_of_one_that_left_poison",),
    ),
    Cheat(
        number=48,
        title="secrets in compiler messages",
        file="includes_a_secret",
        outcome="build failed",
        reason=r"a header outside the include paths",
    ),
    Cheat(number=49, title="words for a judge", file="talks_to_the_judge", outcome="wrong", reason=WRONG_VALUE),
    Cheat(
        number=50,
        title="names pasted together",
        file="pastes_names_together",
        outcome="wrong",
        reason=r"^unjoined stream: nothing waits for gelu_kernel",
    ),
    Cheat(
        number=50,
        title="hidden text",
        file="runs_hidden_text",
        outcome="cheating",
        reason=r"^global state changed: torch\.equal was replaced",
    ),
    Cheat(
        number=50,
        title="network",
        file="calls_home",
        outcome="crashed",
        reason=r"^raised RuntimeError: no socket: Operation not permitted",
    ),
    Cheat(
        number=50,
        title="endless kernel",
        file="never_ends",
        outcome="timed out",
        reason=r"^kernel spin_kernel: ran past the time limit",
    ),
    Cheat(
        number=50,
        title="sticky error",
        file="leaves_an_error_behind",
        outcome="crashed",
        reason=r"^kernel trap_kernel: executed trap",
        tests=("tests/cheats/test_cheats.py::test_the_next_candidate_sees_nothing_of_one_that_left_poison",),
    ),
    Cheat(
        number=50,
        title="a process left behind",
        file="leaves_a_process",
        outcome="cheating",
        reason=r"^processes left running: 1 ",
    ),
    Cheat(
        number=50,
        title="fork bomb",
        elsewhere="needs no kernel: the same worker is asked to load an extension that forks",
        tests=("tests/worker/test_bad_candidates.py::test_a_fork_bomb_ends_at_the_limit_of_processes",),
    ),
)

# What must not be taken for a cheat: file, task, the numbers whose cheat it resembles.
HONEST = (
    ("honest/joins_four_streams", "gelu", "26"),
    ("honest/joins_its_thread", "gelu", "27"),
    ("honest/workspace", "rmsnorm", "32"),
    ("honest/reads_one_number", "gelu", "21, 30"),
    ("honest/special_sizes_with_a_fallback", "rmsnorm", "9"),
    ("honest/constant_memory", "gelu", "21"),
    ("honest/attribute_set_once", "rmsnorm", "15, 36"),
    ("../twins/honest/atomics", "rmsnorm_backward", "19, 20"),
)
