"""Writes the files of a package. Takes chosen candidates and an empty folder; reads the archive for the evidence.

package/ is copied as it is, templates/ are filled in, licences/ are the texts that can be chosen.
"""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING, Any

import jinja2
import torch

from kernelevo.errors import UsageError
from kernelevo.export.choose import Chosen
from kernelevo.export.domain import domain_of, inputs_of
from kernelevo.export.evidence import evidence
from kernelevo.export.package.dispatch import Domain
from kernelevo.export.reference import standalone
from kernelevo.records import Case, Outcome, Purpose, Task
from kernelevo.tasks.native import toml_string
from kernelevo.verify.oracle import oracle_of

if TYPE_CHECKING:
    from kernelevo.archive import Archive

HERE = Path(__file__).parent
KEPT_CASES = 8  # whose inputs and outputs go into the package's tests
KEPT_BYTES = 256 << 10  # of one of them, at most


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
        "summary": toml_string(f"{task.title} as a CUDA kernel, evolved and verified by kernelevo"),
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
        text = filled(template, **values)
        if path.suffix == ".py":
            compile(text, path.name, "exec")
        path.write_text(text, encoding="utf-8")
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
        "kept_tensors": ", ".join(f"inputs[{i}]" for i, name in enumerate(names) if name in tensors),
        "kept_numbers": "".join(f"inputs[{i}], " for i, name in enumerate(names) if name not in tensors).rstrip(" "),
        "each_input": "".join(f"next({'tensors' if n in tensors else 'numbers'}), " for n in names).rstrip(" "),
        "each_gradient": "".join("next(given), " if one else "None, " for one in floating).rstrip(" "),
        "returns": "torch.Tensor" if len(outputs) == 1 else f"tuple[{', '.join(['torch.Tensor'] * len(outputs))}]",
    }


def source_of(domain: Domain) -> str:
    """The domain as Python, below `domain=` in a call."""
    lines = ["Domain(", "        arguments=("]
    for argument in domain.arguments:
        values = f", values={argument.values!r}" if argument.dims is None else ""
        bounds = f", bounds={argument.bounds!r}" if argument.bounds else ""
        lines.append(f"            Argument(name={argument.name!r}, dims={argument.dims!r}{values}{bounds}),")
    lines.append("        ),")
    for name in ("dtypes", "sizes", "reduction", "tolerance_factor"):
        lines.append(f"        {name}={getattr(domain, name)!r},")
    return "\n".join([*lines, "    )"]).replace("'", '"')


def head(name: str, parameters: str, returns: str) -> str:
    """The first line of a function, or three where one would be too long."""
    line = f"def {name}({parameters}) -> {returns}:"
    return line if len(line) <= 120 else f"def {name}(\n    {parameters}\n) -> {returns}:"


def quoted(text: str) -> str:
    """Text that may stand in a docstring, whatever is in it."""
    return text.replace("\\", "\\\\").replace('"', '\\"')


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
    environment.filters["quoted"] = quoted
    return environment.get_template(template).render(**values)
