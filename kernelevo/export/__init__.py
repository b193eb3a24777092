"""From a proven candidate to a pip-installable PyTorch extension, or to a callable in this process.

    export(archive, "rmsnorm", Path("out"))       # a folder with pyproject.toml, kernels, operator, tests, evidence
    load("rmsnorm")                               # load.py: the same package, from the cache, imported
    patch(model, {torch.nn.RMSNorm: "rmsnorm"})   # patch.py: modules and functions of a model, and back

choose.py finds the candidate, domain.py says what was verified, reference.py what PyTorch does outside of it,
evidence.py what VERIFICATION.md says. package/ is copied into every package as it is; templates/ is filled in.

Not covered: tasks of other formats, whose reference needs kernelevo; candidates in Python; operations that write in
place, or whose outputs are judged by a function of their own.
"""

from __future__ import annotations

import keyword
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING, Any

import jinja2
import torch

from kernelevo.build.python import is_python
from kernelevo.errors import TaskError, UsageError
from kernelevo.export.choose import Chosen, Standard, choose
from kernelevo.export.domain import domain_of, inputs_of
from kernelevo.export.evidence import evidence
from kernelevo.export.package.dispatch import Domain
from kernelevo.export.reference import is_gradient_of, standalone
from kernelevo.records import Case, Outcome, Purpose, Task
from kernelevo.tasks import list_tasks
from kernelevo.verify.oracle import oracle_of

if TYPE_CHECKING:
    from kernelevo.archive import Archive

__all__ = ["LICENCES", "Exported", "Standard", "export"]

LICENCES = ("MIT", "BSD-3-Clause", "Apache-2.0")
HERE = Path(__file__).parent
KEPT_CASES = 8  # whose inputs and outputs go into the package's tests
KEPT_BYTES = 256 << 10  # of one of them, at most


@dataclass(frozen=True, slots=True, kw_only=True)
class Exported:
    """What was written."""

    folder: Path
    package: str  # name to import
    operation: str  # function in it
    chosen: Chosen
    backward: Chosen | None
    gradients: str  # where they come from, in words


def export(
    archive: Archive,
    wanted: str,
    folder: Path,
    *,
    standard: Standard = Standard.PROMOTED,
    name: str | None = None,
    backward: str | None = None,
    licence: str | None = None,
    author: str = "the authors",
    root: Path | None = None,
    task: str | None = None,
) -> Exported:
    """Writes a package for the candidate that `wanted` names (see choose.py).

    folder: must be absent or empty.
    name: of the package to import; by default the task's with "_kernel".
    backward: id of the candidate that computes the gradients, or "none"; by default the best promoted one of the task
        with the same name and "_backward", where there is one that gives this task's gradients.
    licence: one of LICENCES, or None for no licence; `author` is named in it.
    task: name or path of the task, where it is not below `root`.

    Raises UsageError for what cannot be exported, with the reason; TaskError for a task that cannot be used.
    """
    chosen = choose(archive, wanted, standard=standard, root=root, task=task)
    package = name or f"{chosen.task.name}_kernel"
    for word in (package, chosen.task.name):
        if not word.isidentifier() or keyword.iskeyword(word) or word.startswith("_"):
            raise UsageError(f"{word!r} is no name for a Python package", next_step="choose one with --name")
    if package == chosen.task.name:
        raise UsageError(f"the package cannot have its function's name, {package}", next_step="choose another --name")
    if licence not in (None, *LICENCES):
        raise UsageError(f"unknown licence {licence!r}", next_step=f"one of {', '.join(LICENCES)}")
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise UsageError(f"{folder} is there already", next_step="name an empty or a new folder")
    if is_python(chosen.candidate.source):
        raise UsageError(
            f"{chosen.candidate.id} is a Python candidate, not one CUDA source", next_step="export a .cu candidate"
        )
    if chosen.task.compare is not None:
        raise UsageError(
            f"{chosen.task.name}: outputs are judged by the task's own compare()",
            next_step="export takes tasks whose outputs are compared value by value",
        )
    found, why_none = find_backward(archive, chosen, backward, root=root)
    with appearing(folder) as work:
        gradients = write(work, archive, chosen, found, why_none, package=package, licence=licence, author=author)
    return Exported(
        folder=folder,
        package=package,
        operation=chosen.task.name,
        chosen=chosen,
        backward=found,
        gradients=gradients,
    )


def find_backward(
    archive: Archive, chosen: Chosen, wanted: str | None, *, root: Path | None
) -> tuple[Chosen | None, str]:
    """The verified kernel of the gradients, or None and why. Raises UsageError when one was named and will not do."""
    task = chosen.task
    if task.entry != "forward":
        return None, "this is a backward kernel itself"
    if wanted == "none":
        return None, "none was wanted"
    name = f"{task.name}_backward"
    if wanted is None and name not in {summary.name for summary in list_tasks(root)}:
        return None, f"there is no task {name}"
    try:
        found = choose(archive, wanted or name, standard=Standard.PROMOTED, root=root)
    except (UsageError, TaskError) as error:
        if wanted is not None:
            raise
        return None, str(error.args[0])
    smallest = min(task.cases, key=lambda case: (case.purpose is not Purpose.TEST, sum(case.sizes.values())))
    wrong = is_gradient_of(found.task.reference, task.reference, inputs_of(task, smallest))
    if wrong is None:
        return found, ""
    if wanted is not None:
        raise UsageError(
            f"{found.task.name} does not give the gradients of {task.name}: {wrong}",
            next_step="its reference takes the outputs' gradients, then the inputs, and gives the inputs' gradients",
        )
    return None, f"{found.task.name} does not give them: {wrong}"


def write(
    folder: Path,
    archive: Archive,
    chosen: Chosen,
    backward: Chosen | None,
    why_none: str,
    *,
    package: str,
    licence: str | None,
    author: str,
) -> str:
    """All files of the package; gives where its gradients come from, in words."""
    task = chosen.task
    kind = "none" if task.entry == "backward" else "kernel" if backward else "pytorch"
    words = {
        "kernel": f"by the verified kernel {backward.candidate.id}, once differentiable." if backward else "",
        "pytorch": f"by PyTorch's autograd through the reference ({why_none}).",
        "none": "none: this operation computes gradients itself.",
    }[kind]
    unverified = not chosen.evaluation.promoted
    values = {
        **described(chosen),
        "package": package,
        "unverified": unverified,
        "version": version(chosen),
        "summary": f"{task.title} as a CUDA kernel, evolved and verified by kernelevo",
        "license": licence,
        "kernels": [part.task.entry for part in (chosen, backward) if part],
        "gradients": kind,
        "gradient_words": words,
        "backward": backward and described(backward),
    }
    source = folder / "src" / package
    tests = folder / "tests"
    source.mkdir(parents=True)
    tests.mkdir()
    for template, path in (
        ("pyproject.toml.j2", folder / "pyproject.toml"),
        ("setup.py.j2", folder / "setup.py"),
        ("README.md.j2", folder / "README.md"),
        ("init.py.j2", source / "__init__.py"),
        ("test_op.py.j2", tests / f"test_{task.name}.py"),
    ):
        path.write_text(filled(template, **values), encoding="utf-8")
    facts = evidence(archive, chosen, backward)
    (folder / "VERIFICATION.md").write_text(filled("VERIFICATION.md.j2", **values, **facts), encoding="utf-8")
    for module in ("dispatch", "kernels"):
        shutil.copyfile(HERE / "package" / f"{module}.py", source / f"_{module}.py")
    (source / "py.typed").touch()
    for part, module in ((chosen, "_reference"), (backward, "_reference_backward")):
        if part:
            (source / f"{module}.py").write_text(standalone(part.task), encoding="utf-8")
            (source / f"{part.task.entry}.cu").write_text(part.candidate.source, encoding="utf-8", newline="")
    torch.save(kept_cases(task, passed_cases(chosen)), tests / "cases.pt")
    if licence is not None:
        text = (HERE / "licences" / f"{licence}.txt").read_text(encoding="utf-8")
        if "{author}" in text:
            text = text.format(year=date.today().year, author=author)
        (folder / "LICENSE").write_text(text, encoding="utf-8")
    return words


def described(part: Chosen) -> dict[str, Any]:
    """What templates say about one kernel's arguments and outputs."""
    task = part.task
    cases = passed_cases(part)
    domain = domain_of(task, cases)
    inputs = inputs_of(task, cases[0])
    outputs = oracle_of(task).expected(cases[0]).reference
    pairs = list(zip(domain.arguments, inputs, strict=True))
    names = [argument.name for argument in domain.arguments]
    kinds = ["torch.Tensor" if a.dims is not None else type(value).__name__ for a, value in pairs]
    tensors = [a.name for a in domain.arguments if a.dims is not None]
    floating = [isinstance(value, torch.Tensor) and value.is_floating_point() for _, value in pairs]
    return {
        "task": task,
        "op": task.name,
        "entry": task.entry,
        "title": task.title,
        "description": task.description.strip(),
        "signature": task.signature,
        "candidate": part.candidate.id,
        "domain": domain,
        "domain_source": source_of(domain),
        "arguments": domain.arguments,
        "parameters": ", ".join(f"{name}: {kind}" for name, kind in zip(names, kinds, strict=True)),
        "names": ", ".join(names),
        "tensors": tensors,
        "numbers": [name for name in names if name not in tensors],
        "values": ", ".join(name if name in tensors else f"ctx.{name}" for name in names),
        "each_gradient": "".join("next(given), " if one else "None, " for one in floating).rstrip(" "),
        "returns": "torch.Tensor" if len(outputs) == 1 else f"tuple[{', '.join(['torch.Tensor'] * len(outputs))}]",
    }


def source_of(domain: Domain) -> str:
    """The domain as Python, below `domain=` in a call."""
    lines = ["Domain(", "        arguments=("]
    for argument in domain.arguments:
        values = f", values={argument.values!r}" if argument.dims is None else ""
        lines.append(f"            Argument(name={argument.name!r}, dims={argument.dims!r}{values}),")
    lines.append("        ),")
    for name in ("dtypes", "sizes", "reduction", "tolerance_factor"):
        lines.append(f"        {name}={getattr(domain, name)!r},")
    return "\n".join([*lines, "    )"]).replace("'", '"')


def head(name: str, parameters: str, returns: str) -> str:
    """The first line of a function, or three where one would be too long."""
    line = f"def {name}({parameters}) -> {returns}:"
    return line if len(line) <= 120 else f"def {name}(\n    {parameters}\n) -> {returns}:"


def passed_cases(part: Chosen) -> list[Case]:
    """Those of the verdict that passed, smallest first."""
    assert part.evaluation.verdict is not None
    passed = [verdict.case for verdict in part.evaluation.verdict.cases if verdict.outcome is Outcome.PASSED]
    return sorted(passed, key=lambda case: sum(case.sizes.values()))


def kept_cases(task: Task, passed: Sequence[Case]) -> list[dict[str, Any]]:
    """Inputs, exact outputs and allowed errors of some small TEST cases, as unlike each other as there are."""
    kept: list[dict[str, Any]] = []
    seen: set[str] = set()
    tests = [case for case in passed if case.purpose is Purpose.TEST]
    unlike = sorted(tests, key=lambda case: (case.distribution, case.dtype))
    for case in [*one_of_each(unlike, "sizes", "dtype"), *one_of_each(unlike, "distribution", "dtype")]:
        expected = oracle_of(task).expected(case)
        tensors = [v for v in (*expected.inputs, *expected.oracle) if isinstance(v, torch.Tensor)]
        if case.name in seen or sum(t.nbytes for t in tensors) > KEPT_BYTES or len(kept) == KEPT_CASES:
            continue
        seen.add(case.name)
        kept.append(
            {
                "name": case.name,
                "inputs": [v.clone() if isinstance(v, torch.Tensor) else v for v in expected.inputs],
                "outputs": [output.clone() for output in expected.oracle],
                "allowed": [allowed.error for allowed in expected.allowed],
            }
        )
    if not kept:
        raise UsageError(
            f"no TEST case of {task.name} that passed is small enough to keep",
            next_step=f"add a [[test]] of less than {KEPT_BYTES} bytes to task.toml",
        )
    return kept


def one_of_each(cases: Sequence[Case], *fields: str) -> list[Case]:
    """The first case of each combination of these fields."""
    return list({str([getattr(case, field) for field in fields]): case for case in reversed(cases)}.values())[::-1]


def version(chosen: Chosen) -> str:
    """1.0.0 and the candidate, or 0.0.0 and "unverified"."""
    candidate = chosen.candidate.id.replace("-", "")
    return f"1.0.0+{candidate}" if chosen.evaluation.promoted else f"0.0.0+unverified.{candidate}"


def filled(template: str, **values: Any) -> str:
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(HERE / "templates"),
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.globals["head"] = head
    return environment.get_template(template).render(**values)


@contextmanager
def appearing(folder: Path) -> Iterator[Path]:
    """A folder to write in that becomes `folder` when all of it is written."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    work = Path(tempfile.mkdtemp(prefix=f".{folder.name}-", dir=folder.parent))
    try:
        yield work
        work.chmod(0o755)
        if folder.exists():
            folder.rmdir()
        work.rename(folder)
    finally:
        shutil.rmtree(work, ignore_errors=True)
