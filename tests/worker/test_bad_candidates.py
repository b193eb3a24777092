"""Whatever a candidate does is an ordinary Call, nothing of it is left afterwards, and the next candidate works."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
from sites import HERE, Site, eventually, start_site

from kernelevo.devices import Call
from kernelevo.records import Outcome

TIMEOUT_SECONDS = 1.0  # where one is expected; a session's own limit is for calls that end by themselves

SOURCE = (HERE / "candidates" / "behaviours.cpp").read_text()
BEHAVIOURS = sorted(re.findall(r'^    \{"([^"]+)",', SOURCE, re.MULTILINE))


def number(behaviour: str) -> int:
    return BEHAVIOURS.index(behaviour)


@dataclass(frozen=True)
class Row:
    behaviour: str
    outcome: Outcome
    reason: str  # regular expression


ENDINGS = [
    Row("exit with 0", Outcome.CRASHED, r"^exited with status 0 before it returned$"),
    Row("exit at once with 3", Outcome.CRASHED, r"^exited with status 3 before it returned$"),
    Row("exit from Python", Outcome.CRASHED, r"^raised SystemExit: 0$"),
    Row("abort", Outcome.CRASHED, r"^killed by SIGABRT \(Aborted\)"),
    Row("write to address 16", Outcome.CRASHED, r"^killed by SIGSEGV \(Segmentation fault\)$"),
    Row("divide by zero", Outcome.CRASHED, r"^killed by SIGFPE"),
    Row("loop for ever", Outcome.TIMED_OUT, r"^did not return within 1 s$"),
    Row("sleep", Outcome.TIMED_OUT, r"^did not return within 1 s$"),
    Row("stop itself", Outcome.CRASHED, r"^stopped itself \(SIGSTOP\)$"),
    Row("throw", Outcome.CRASHED, r"^raised RuntimeError: no such size$"),
    Row("throw a number", Outcome.CRASHED, r"^raised RuntimeError: "),
    Row("throw in a thread", Outcome.CRASHED, r"^killed by SIGABRT.*it printed:.*lost"),
    Row("leave a daemon and exit", Outcome.CRASHED, r"^exited with status 0"),
    Row("leave a daemon and hang", Outcome.TIMED_OUT, r"^did not return"),
    Row("close every descriptor", Outcome.CRASHED, r"lost its channel"),
    Row("print for ever", Outcome.TIMED_OUT, r"^did not return"),
    Row("write to every descriptor", Outcome.CRASHED, r"^broke the channel to its parent: bytes that are not a frame"),
    Row(
        "claim too much",
        Outcome.CRASHED,
        r"^broke the channel to its parent: 1099511627776 bytes of tensors, more than",
    ),
    Row("open for ever", Outcome.CRASHED, r"^raised RuntimeError: no more files$"),
    Row("write for ever", Outcome.CRASHED, r"^raised RuntimeError: no more room$|^killed by SIGXFSZ"),
]


PROCESSES = [row for row in ENDINGS if row.behaviour in ("stop itself", "leave a daemon and exit", "loop for ever")]


@pytest.fixture(scope="module")
def behaviours(extension: Callable[[str], Path]) -> Path:
    return extension("behaviours")


@pytest.fixture
def x() -> torch.Tensor:
    return torch.arange(6, dtype=torch.float32).reshape(2, 3)


def call(site: Site, artifact: Path, x: torch.Tensor, behaviour: str, **limits: float) -> Call:
    with site.session(artifact, **limits) as session:
        return session.call([x, number(behaviour)])


@pytest.mark.parametrize("row", ENDINGS, ids=lambda row: row.behaviour)
def test_a_candidate_that_ends_badly_is_an_ordinary_call_and_leaves_nothing(
    site: Site, behaviours: Path, x: torch.Tensor, row: Row
) -> None:
    ends_badly(site, behaviours, x, row)


@pytest.mark.parametrize("row", PROCESSES, ids=lambda row: row.behaviour)
def test_a_candidate_leaves_nothing_where_there_are_no_namespaces(
    bare_site: Site, behaviours: Path, x: torch.Tensor, row: Row
) -> None:
    ends_badly(bare_site, behaviours, x, row)


def ends_badly(site: Site, behaviours: Path, x: torch.Tensor, row: Row) -> None:
    limits = {"timeout_seconds": TIMEOUT_SECONDS} if row.outcome is Outcome.TIMED_OUT else {}
    with site.session(behaviours, **limits) as session:
        result = session.call([x, number(row.behaviour)])
        left = site.wait_for_processes(0)
    assert result.outcome is row.outcome, result.reason
    assert result.reason is not None
    assert re.search(row.reason, result.reason), result.reason
    assert "\n" not in result.reason
    assert result.outputs == ()
    assert left == 0
    assert call(site, behaviours, x, "double").outcome is Outcome.PASSED, "the next candidate must work"


@pytest.mark.parametrize(("behaviour", "left"), [("leave children", 4), ("leave a daemon and return", 1)])
def test_processes_that_a_returning_candidate_leaves_are_counted_and_end_before_the_next_call(
    any_site: Site, behaviours: Path, x: torch.Tensor, behaviour: str, left: int
) -> None:
    with any_site.session(behaviours) as session:
        result = session.call([x, number(behaviour)])
        assert any_site.wait_for_processes(0) == 0
        again = session.call([x, number("double")])
    assert result.outcome is Outcome.PASSED, result.reason
    torch.testing.assert_close(result.outputs[0], 2 * x)
    assert [(finding.kind, finding.text[:2]) for finding in result.findings] == [("processes left running", f"{left} ")]
    assert (again.outcome, again.findings) == (Outcome.PASSED, ())


def test_threads_that_a_candidate_leaves_are_told_once(any_site: Site, behaviours: Path, x: torch.Tensor) -> None:
    with any_site.session(behaviours) as session:
        calls = [session.call([x, number(name)]) for name in ("double", "leave threads", "double")]
    assert [call.outcome for call in calls] == [Outcome.PASSED] * 3
    assert [[finding.kind for finding in call.findings] for call in calls] == [[], ["threads left running"], []]
    assert calls[1].findings[0].text.startswith("3 threads more than before")


def test_threads_of_the_device_itself_are_no_finding(behaviours: Path, x: torch.Tensor) -> None:
    pooling = start_site("PoolingBackend")
    try:
        result = call(pooling, behaviours, x, "start a thread of the pool")
    finally:
        pooling.server.close()
    assert (result.outcome, result.findings) == (Outcome.PASSED, ())


def test_a_child_that_was_waited_for_is_no_finding(any_site: Site, behaviours: Path, x: torch.Tensor) -> None:
    result = call(any_site, behaviours, x, "start a child and wait for it")
    assert (result.outcome, result.findings) == (Outcome.PASSED, ())


def test_a_candidate_can_signal_nothing_outside_its_namespace(site: Site, behaviours: Path, x: torch.Tensor) -> None:
    if "processes" in site.missing():
        pytest.skip("without a PID namespace a candidate can signal every process of its user, this one included")
    with site.session(behaviours) as other:
        assert other.call([x, number("double")]).outcome is Outcome.PASSED
        assert call(site, behaviours, x, "kill everything").outcome is Outcome.PASSED
        assert other.call([x, number("double")]).outcome is Outcome.PASSED
    assert site.wait_for_processes(0) == 0


def test_a_candidate_that_stops_its_keeper_is_still_ended(any_site: Site, behaviours: Path, x: torch.Tensor) -> None:
    result = call(any_site, behaviours, x, "stop its parent", timeout_seconds=TIMEOUT_SECONDS)
    assert result.outcome is Outcome.TIMED_OUT
    assert any_site.wait_for_processes(0) == 0


def test_a_fork_bomb_ends_at_the_limit_of_processes(any_site: Site, behaviours: Path, x: torch.Tensor) -> None:
    result = call(any_site, behaviours, x, "fork for ever")
    assert result.outcome is Outcome.CRASHED
    assert result.reason is not None
    assert re.fullmatch(r"started \d+ processes and threads, more than allowed", result.reason), result.reason
    assert any_site.wait_for_processes(0) == 0


@pytest.mark.parametrize("behaviour", ["start threads for ever", "daemons for ever"])
def test_threads_and_daemons_without_end_meet_the_same_limit(
    any_site: Site, behaviours: Path, x: torch.Tensor, behaviour: str
) -> None:
    result = call(any_site, behaviours, x, behaviour)
    assert result.outcome is Outcome.CRASHED
    assert "processes and threads, more than allowed" in str(result.reason) or "Resource temporarily" in str(
        result.reason
    )
    assert any_site.wait_for_processes(0) == 0


def test_ten_megabytes_of_output_neither_block_nor_are_kept(site: Site, behaviours: Path, x: torch.Tensor) -> None:
    result = call(site, behaviours, x, "print 10 MB")
    assert result.outcome is Outcome.PASSED
    assert result.output.startswith("the first line\n")
    assert result.output.endswith("the last line\n")
    assert re.search(r"\[\.\.\. 1\d{7} bytes left out \.\.\.\]", result.output)
    assert len(result.output) < 40_000


@pytest.mark.parametrize("behaviour", ["allocate for ever", "allocate in children"])
def test_memory_is_bounded_for_a_process_and_for_its_children_together(
    site: Site, behaviours: Path, x: torch.Tensor, behaviour: str
) -> None:
    result = call(site, behaviours, x, behaviour, memory_bytes=512 << 20)
    assert result.outcome is Outcome.CRASHED
    assert result.reason is not None
    assert re.search(r"^raised MemoryError|^used more memory than allowed \(\d+ MiB\)$", result.reason), result.reason
    assert site.wait_for_processes(0) == 0


@pytest.mark.parametrize(
    ("behaviour", "kind"),
    [
        ("return a string", "not a tensor"),
        ("return nothing", "not a tensor"),
        ("return its input", "aliases input"),
        ("return a view of its input", "aliases input"),
        ("return one tensor twice", "outputs share memory"),
        ("return a broadcast tensor", "overlapping output"),
        ("turn on determinism", "global state changed"),
    ],
)
def test_what_is_wrong_with_a_result_is_a_finding(
    site: Site, behaviours: Path, x: torch.Tensor, behaviour: str, kind: str
) -> None:
    result = call(site, behaviours, x, behaviour)
    assert result.outcome is Outcome.PASSED
    assert kind in [finding.kind for finding in result.findings]
    assert call(site, behaviours, x, "double").findings == ()


def test_an_output_that_is_kept_and_returned_again_is_noticed(site: Site, behaviours: Path, x: torch.Tensor) -> None:
    with site.session(behaviours) as session:
        first = session.call([x, number("return the same tensor every time")])
        second = session.call([x + 1, number("return the same tensor every time")])
    assert first.findings == ()
    assert [finding.kind for finding in second.findings] == ["reuses output"]


def test_results_keep_their_shape_dtype_strides_and_bits(site: Site, behaviours: Path, x: torch.Tensor) -> None:
    with site.session(behaviours) as session:
        transposed = session.call([x, number("return a transposed tensor")]).outputs[0]
        scalar, empty = session.call([x, number("return a scalar and an empty tensor")]).outputs
        half = session.call([x + 1, number("return NaN in half precision")]).outputs[0]
    assert (transposed.shape, transposed.stride()) == ((3, 2), (1, 3))
    torch.testing.assert_close(transposed, 2 * x.t())
    assert (scalar.shape, scalar.item()) == ((), 15.0)
    assert empty.shape == (0,)
    assert half.dtype is torch.bfloat16
    assert half.isnan().all()


def test_a_changed_input_comes_back_changed_and_the_callers_tensor_is_untouched(
    site: Site, behaviours: Path, x: torch.Tensor
) -> None:
    before = x.clone()
    changed = call(site, behaviours, x, "change its input")
    torch.testing.assert_close(x, before)
    assert changed.inputs_after[1] is None
    torch.testing.assert_close(changed.inputs_after[0], before + 1)
    unchanged = call(site, behaviours, x, "double")
    torch.testing.assert_close(unchanged.inputs_after[0], before)


def test_strided_inputs_arrive_strided(site: Site, behaviours: Path, x: torch.Tensor) -> None:
    result = call(site, behaviours, x.t(), "double")
    assert result.outputs[0].stride() == (1, 3)
    torch.testing.assert_close(result.outputs[0], 2 * x.t())


def test_a_worker_sees_no_secret_of_the_environment(
    behaviours: Path, x: torch.Tensor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ANTHROPIC_API_KEY", "sk-secret")
    site = start_site()
    try:
        printed = call(site, behaviours, x, "show the environment").output
    finally:
        site.server.close()
    assert "PATH=" in printed
    assert "sk-secret" not in printed


def test_a_worker_runs_in_a_folder_of_its_own_that_is_removed(site: Site, behaviours: Path, x: torch.Tensor) -> None:
    with site.session(behaviours) as session:
        folder = Path(session.call([x, number("show the working folder")]).output.strip())
        assert folder != Path.cwd()
        assert list(folder.iterdir()) == []
    assert eventually(lambda: not folder.exists())


def test_a_wrong_number_of_arguments_is_named(site: Site, behaviours: Path, x: torch.Tensor) -> None:
    with site.session(behaviours) as session:
        result = session.call([x])
    assert result.outcome is Outcome.CRASHED
    assert result.reason is not None
    assert result.reason.startswith("forward does not take these arguments: it is (arg0: object, arg1:")
    assert result.reason.endswith("it was called with 1 tensor")


@pytest.mark.parametrize(
    ("name", "entry", "reason"),
    [
        ("no_module", "forward", "cannot be loaded: the source has no PYBIND11_MODULE(TORCH_EXTENSION_NAME, m)"),
        ("undefined_symbol", "forward", "cannot be loaded: undefined symbol cublas::multiply(float)"),
        ("dies_on_import", "forward", "exited with status 0 before it returned"),
        ("behaviours", "backward", "the module has no function 'backward'; it exports forward"),
    ],
)
def test_an_extension_that_cannot_be_loaded_says_why(
    site: Site, extension: Callable[[str], Path], x: torch.Tensor, name: str, entry: str, reason: str
) -> None:
    with site.session(extension(name), entry=entry) as session:
        result = session.call([x])
    assert (result.outcome, result.reason) == (Outcome.CRASHED, reason)
