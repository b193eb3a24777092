"""`kernelevo export`: what is in a package, what is refused, and that it works where nothing else of ours is."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
import tomllib
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from typer.testing import CliRunner

from kernelevo import load_task, open_archive
from kernelevo.archive import Archive
from kernelevo.cli import complete
from kernelevo.errors import UsageError
from kernelevo.export import LICENCES, Exported, Standard, export
from kernelevo.export.choose import choose
from kernelevo.export.domain import inputs_of
from kernelevo.export.reference import is_gradient_of, standalone
from kernelevo.export.write import write
from kernelevo.records import Candidate, Purpose

Process = Callable[..., "subprocess.CompletedProcess[str]"]
GALLERY = Path(__file__).resolve().parents[2] / "db" / "gallery.sqlite"


@pytest.fixture
def unpromoted() -> Iterator[Candidate]:
    """A candidate of rmsnorm that passed, and that nobody verified a second time."""
    task = load_task("rmsnorm")
    with open_archive(GALLERY, read_only=True) as archive:
        for place in archive.leaderboard("rmsnorm", limit=100):
            known = archive.known(place.candidate, task, place.device)
            if known is not None and known.passed and not known.promoted:
                yield archive.candidate(place.candidate)
                return
    raise AssertionError("the gallery has none")


def test_a_package_holds_the_candidate_as_it_was_verified(
    exported: Callable[[str], Exported], gallery: Archive
) -> None:
    done = exported("rmsnorm")
    source = done.folder / "src" / "rmsnorm_kernel"
    assert (source / "forward.cu").read_bytes() == done.chosen.candidate.source.encode()
    assert done.backward is not None
    assert (source / "backward.cu").read_bytes() == done.backward.candidate.source.encode()
    assert "A. N. Author" in (done.folder / "LICENSE").read_text()
    assert 'license = "MIT"' in (done.folder / "pyproject.toml").read_text()
    for file in ("dispatch", "kernels"):
        ours = Path(choose.__module__.replace(".", "/"))  # kernelevo/export/choose
        assert (source / f"_{file}.py").read_text() == (
            GALLERY.parents[1] / ours.parent / "package" / f"{file}.py"
        ).read_text()


def test_the_evidence_is_the_archives(exported: Callable[[str], Exported], gallery: Archive) -> None:
    done = exported("rmsnorm")
    text = (done.folder / "VERIFICATION.md").read_text()
    evaluation = done.chosen.evaluation
    assert evaluation.verdict is not None and evaluation.timing is not None and done.backward is not None
    assert "**promoted**" in text and "UNVERIFIED" not in text
    for part in (done.chosen, done.backward):
        assert part.candidate.id in text and hashlib.sha256(part.candidate.source.encode()).hexdigest() in text
        assert part.evaluation.verdict is not None
        for case in part.evaluation.verdict.cases:
            assert f"| {case.case.name} | {case.case.purpose.value} | passed |" in text
    assert f"PREDICTED for {evaluation.timing.target} by {evaluation.timing.method}" in text
    assert "nothing here was seen on a GPU" in text
    assert evaluation.build.compiler in text and done.chosen.task.digest in text
    for ancestor in gallery.lineage(done.chosen.candidate.id).walk():
        assert f"`{ancestor.candidate}`" in text
    seed = gallery.known(
        Candidate(source=done.chosen.task.seed_source or "", entry="forward").id, done.chosen.task, "emulator"
    )
    assert seed is not None and seed.timing is not None
    assert f"{seed.timing.score_ns / evaluation.timing.score_ns:.2f} times faster than the task's own kernel" in text


def test_the_domain_is_what_the_cases_span(exported: Callable[[str], Exported]) -> None:
    done = exported("rmsnorm")
    assert done.chosen.evaluation.verdict is not None
    text = (done.folder / "src" / "rmsnorm_kernel" / "__init__.py").read_text()
    sizes = [case.case.sizes for case in done.chosen.evaluation.verdict.cases]
    for name in ("rows", "cols"):
        low, high = min(s[name] for s in sizes), max(s[name] for s in sizes)
        assert f'"{name}": ({low}, {high})' in text


@pytest.mark.slow
@pytest.mark.nvcc
def test_a_wheel_in_a_clean_environment_passes_its_own_tests(tmp_path: Path, run_in_process: Process) -> None:
    folder = tmp_path / "package"
    done = CliRunner().invoke(
        complete(), ["export", "rmsnorm", "-o", str(folder), "--wheel", "--json", "--archive", str(GALLERY)]
    )
    assert done.exit_code == 0, done.output
    told = json.loads(done.stdout)
    assert told["promoted"] is True and Path(told["wheel"]).exists()
    assert sorted(path.name for path in folder.iterdir()) == [
        "README.md", "VERIFICATION.md", "dist", "pyproject.toml", "setup.py", "src", "tests",
    ]  # fmt: skip
    subprocess.run([sys.executable, "-m", "venv", str(tmp_path / "venv")], check=True)
    python = str(tmp_path / "venv" / "bin" / "python")
    pip = [python, "-m", "pip", "install", "--quiet", "--no-index", "--no-deps", told["wheel"]]
    subprocess.run(pip, check=True)
    # PyTorch and the emulator come from here: to install them again takes minutes and shows nothing of the package.
    site = next((tmp_path / "venv" / "lib").glob("python*/site-packages"))
    ours = [path for path in sys.path if path.endswith("site-packages")]
    (site / "ours.pth").write_text("".join(f"import site; site.addsitedir({path!r})\n" for path in ours))

    where = run_in_process("-c", "import rmsnorm_kernel; print(rmsnorm_kernel.__file__)", python=python)
    assert str(site) in where.stdout, where.stderr
    without = run_in_process("-m", "pytest", "-q", str(folder / "tests"), python=python)
    assert without.returncode == 0 and "skipped" in without.stdout, without.stdout + without.stderr
    emulated = run_in_process("-m", "pytest", "-v", str(folder / "tests"), python=python, KERNELEVO_EMULATE="1")
    assert emulated.returncode == 0, emulated.stdout + emulated.stderr
    for name in (
        "test_torch_compile_without_a_graph_break PASSED",
        "test_the_operator_keeps_the_rules_of_operators PASSED",
        "test_gradients_in_float64_where_pytorch_answers PASSED",
    ):
        assert name in emulated.stdout
    assert emulated.stdout.count("test_the_kernel_gives_what_was_verified") >= 6 and "skipped" not in emulated.stdout


@pytest.mark.slow
@pytest.mark.nvcc
@pytest.mark.parametrize("task", ["cross_entropy", "silu_mul", "depthwise_conv2d", "rmsnorm_backward"])
def test_packages_of_other_shapes_pass_their_own_tests(
    task: str, exported: Callable[[str], Exported], run_in_process: Process
) -> None:
    """An output without dimensions and integer inputs; three dtypes; four dimensions; two outputs and no gradients."""
    done = exported(task)
    path = str(done.folder / "src")
    tested = run_in_process("-m", "pytest", "-q", str(done.folder / "tests"), KERNELEVO_EMULATE="1", PYTHONPATH=path)
    assert tested.returncode == 0 and "skipped" not in tested.stdout, tested.stdout + tested.stderr


def test_a_compiled_kernel_in_the_package_is_found_and_hides_nothing(tmp_path: Path, run_in_process: Process) -> None:
    """The importing of a module sets its name in the package: it must not be one that is used there."""
    with open_archive(GALLERY, read_only=True) as archive:
        source = export(archive, "rmsnorm", tmp_path / "package").folder / "src"
    names = (tmp_path / "package" / "setup.py").read_text()
    assert 'f"rmsnorm_kernel._cuda_{name}"' in names
    for kernel in ("forward", "backward"):
        stand_in = f"def {kernel}(*values):\n    return values[0]\n"
        (source / "rmsnorm_kernel" / f"_cuda_{kernel}.py").write_text(stand_in)
    program = """
import torch
from rmsnorm_kernel import rmsnorm
from rmsnorm_kernel._kernels import kernel

assert kernel("forward")(3) == 3 and kernel("backward")(4) == 4
x = torch.rand(2, 8, requires_grad=True)
rmsnorm(x, torch.rand(8), 1e-5).sum().backward()
"""
    done = run_in_process("-c", program, PYTHONPATH=str(source))
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("task", ["rmsnorm", "cross_entropy", "rmsnorm_backward"])
def test_the_written_python_is_clean(task: str, exported: Callable[[str], Exported], run_in_process: Process) -> None:
    done = exported(task)
    source = done.folder / "src" / done.package
    checked = run_in_process(
        "-m", "ruff", "check", "--isolated", "--select", "E,F,I,B,UP", "--line-length", "120", str(source)
    )
    assert checked.returncode == 0, checked.stdout
    options = ["--config-file", "/dev/null", "--ignore-missing-imports", "--follow-imports=skip"]
    typed = run_in_process("-m", "mypy", *options, str(source / "__init__.py"))
    assert typed.returncode == 0, typed.stdout


def test_what_was_not_promoted_is_refused_and_stamped_when_it_is_wanted(unpromoted: Candidate, tmp_path: Path) -> None:
    with open_archive(GALLERY, read_only=True) as archive:
        with pytest.raises(UsageError, match="passed and was not promoted"):
            export(archive, unpromoted.id, tmp_path / "refused")
        assert not (tmp_path / "refused").exists()
        done = export(archive, unpromoted.id, tmp_path / "stamped", standard=Standard.PASSED)
    assert not done.chosen.evaluation.promoted
    for file in ("README.md", "VERIFICATION.md", "src/rmsnorm_kernel/__init__.py"):
        assert "UNVERIFIED" in (done.folder / file).read_text()
    assert (
        f'version = "0.0.0+unverified.{unpromoted.id.replace("-", "")}"' in (done.folder / "pyproject.toml").read_text()
    )
    warned = subprocess.run(
        [sys.executable, "-W", "error", "-c", "import rmsnorm_kernel"],
        env={"PYTHONPATH": str(done.folder / "src"), "PATH": "/usr/bin:/bin"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert "UNVERIFIED" in warned.stderr


def test_what_failed_is_refused_in_any_case(gallery: Archive, tmp_path: Path) -> None:
    run = gallery.list_runs(task="softmax")[0].run
    failed = next(s.candidate for s in gallery.scored(run.id) if s.status not in ("passed",))
    with pytest.raises(UsageError, match="did not pass"):
        export(gallery, failed, tmp_path / "package", standard=Standard.PASSED)


def test_the_best_of_a_run_is_chosen(gallery: Archive, tmp_path: Path) -> None:
    (run,) = [e.run for e in gallery.list_runs(task="softmax") if e.run.task_digest == load_task("softmax").digest]
    done = export(gallery, run.id, tmp_path / "package")
    assert done.chosen.evaluation.promoted and done.chosen.evaluation.timing is not None
    for place in gallery.leaderboard("softmax", run=run.id):
        timing = done.chosen.evaluation.timing
        if place.method == timing.method and place.score_ns < timing.score_ns:
            known = gallery.known(place.candidate, done.chosen.task, "emulator")
            assert known is not None and not known.promoted


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["softmax", "-o", "{full}"], "is there already"),
        (["softmax", "-o", "{new}", "--name", "not-a-name"], "no name for a Python package"),
        (["softmax", "-o", "{new}", "--name", "softmax"], "cannot have its function's name"),
        (["softmax", "-o", "{new}", "--license", "WTFPL"], "unknown licence 'WTFPL'"),
        (["no_such_task", "-o", "{new}"], "no_such_task"),
        (["c-0000", "-o", "{new}"], "c-0000"),
        (["r-0000", "-o", "{new}"], "r-0000"),
        (["softmax", "-o", "{new}", "--backward", "{gelu}"], "does not give the gradients of softmax"),
    ],
)
def test_what_cannot_be_exported_is_said_and_nothing_is_written(
    arguments: list[str], says: str, tmp_path: Path, gallery: Archive
) -> None:
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "precious").write_text("mine")
    gelu = next(
        p.candidate
        for p in gallery.leaderboard("gelu")
        if (known := gallery.known(p.candidate, load_task("gelu"), "emulator")) is not None and known.promoted
    )
    places = {"full": str(tmp_path / "full"), "new": str(tmp_path / "new"), "gelu": gelu}
    given = [argument.format(**places) for argument in arguments]
    done = CliRunner().invoke(complete(), ["export", *given, "--archive", str(GALLERY)])
    assert done.exit_code != 0 and says in str(done.exception)
    assert (tmp_path / "full" / "precious").read_text() == "mine"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["full"]


def test_a_task_that_has_changed_since_is_refused(tmp_path: Path, gallery: Archive) -> None:
    folder = tmp_path / "tasks" / "softmax"
    folder.mkdir(parents=True)
    for file in (GALLERY.parents[1] / "tasks" / "softmax").iterdir():
        (folder / file.name).write_bytes(file.read_bytes())
    (folder / "task.toml").write_text((folder / "task.toml").read_text() + "\n")
    with pytest.raises(UsageError, match="has changed since"):
        export(gallery, "softmax", tmp_path / "package", root=tmp_path / "tasks")


def test_no_words_of_a_task_break_the_written_python(tmp_path: Path, gallery: Archive, run_in_process: Process) -> None:
    chosen = choose(gallery, "gelu", standard=Standard.PROMOTED, root=None)
    odd = 'a """ b \\" {{ c }} {% d %} \\N{x} ü \U0001f600 "'
    task = replace(
        chosen.task, title=odd, description=f"{odd}\n{odd}", signature=f"forward(x: Tensor[rows, cols]) {odd}"
    )
    write(tmp_path, gallery, replace(chosen, task=task), None, "none", package="odd", licence=None, author="nobody")
    done = run_in_process("-c", "import odd; print(odd.__doc__, odd.gelu.__doc__)", PYTHONPATH=str(tmp_path / "src"))
    assert done.returncode == 0 and done.stdout.count(odd) == 5, done.stdout + done.stderr
    assert tomllib.loads((tmp_path / "pyproject.toml").read_text())["project"]["description"].startswith(odd)


def test_a_backward_task_that_is_right_at_one_size_only_is_no_gradient() -> None:
    task = load_task("rmsnorm")

    def without_sums(
        grad: torch.Tensor, x: torch.Tensor, weight: torch.Tensor, eps: float
    ) -> tuple[torch.Tensor, torch.Tensor]:
        scale = torch.rsqrt(x.square().mean(-1, keepdim=True) + eps)
        g = grad * weight
        return scale * g - scale**3 * x * (g * x).sum(-1, keepdim=True), (grad * x * scale)[0]

    cases = [case for case in task.cases if case.distribution == "normal" and case.purpose is Purpose.TEST]
    verdicts = [is_gradient_of(without_sums, task.reference, inputs_of(task, case)) for case in cases]
    assert verdicts[0] is None and any(verdict is not None for verdict in verdicts)


def test_a_reference_stands_alone_as_python_reads_it(tmp_path: Path) -> None:
    text = (
        "import torch\n# \f\u2028 not a line\nimport kernelevo\n\n\n"
        "def reference(x):\n    y = x * 2\n    return y\n\n\n"
        "def inputs(case, generator):\n    a = 1\n    return (torch.rand(3, generator=generator),)\n"
    )
    task = replace(
        load_task("gelu"),
        reference_source=text,
        reference=lambda x: x * 2,
        inputs=lambda case, generator: (torch.rand(3, generator=generator),),
    )
    alone = standalone(task)
    assert alone.endswith("def reference(x):\n    y = x * 2\n    return y\n") and "kernelevo" not in alone
    with pytest.raises(UsageError, match="computes something else"):
        standalone(replace(task, reference=lambda x: x * 3))
    with pytest.raises(UsageError, match="needs more than PyTorch: NameError"):
        standalone(replace(task, reference_source=text.replace("y = x * 2", "y = helper(x)")))


@pytest.mark.parametrize("licence", LICENCES)
def test_licences(licence: str, tmp_path: Path, gallery: Archive) -> None:
    done = export(gallery, "gelu", tmp_path / "package", licence=licence, author="A. N. Author")
    text = (done.folder / "LICENSE").read_text()
    assert ("A. N. Author" in text) == (licence != "Apache-2.0") and "{" not in text.replace("{}", "")
    assert f'license = "{licence}"' in (done.folder / "pyproject.toml").read_text()


def test_the_kept_cases_are_those_of_the_verdict(exported: Callable[[str], Exported]) -> None:
    done = exported("silu_mul")
    cases = torch.load(done.folder / "tests" / "cases.pt", weights_only=True)
    verdict = done.chosen.evaluation.verdict
    assert verdict is not None
    allowed = {case.case.name: case.allowed for case in verdict.cases}
    assert 3 <= len(cases) <= 8
    assert {case["inputs"][0].dtype for case in cases} == {torch.float32, torch.float16, torch.bfloat16}
    for case in cases:
        assert max(case["allowed"]) == pytest.approx(allowed[case["name"]])
