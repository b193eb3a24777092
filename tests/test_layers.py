"""The import rule of the architecture, read from the source: records, errors <- stages <- evaluate, evolve <- cli."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

PACKAGE = Path(__file__).resolve().parent.parent / "kernelevo"

VOCABULARY = {"records", "errors", "mangled"}
PROTOCOLS = {"devices", "models"}  # their __init__ only
STAGES = {"tasks", "toolchain", "build", "verify", "measure", "selection", "prompt", "propose", "archive"} | {
    "judges",
    "novelty",
}
IMPLEMENTATIONS = {"devices", "models", "worker"}
JOINTS = {"cascade", "evaluate", "evolve", "lint", "selftest", "__init__"} | {
    "agents",
    "browse",
    "compare",
    "decide",
    "explain",
    "export",
    "judging",
    "lineage",
    "loop_bench",
    "mcp",
    "memory",
    "paying",
    "proposing",
    "report",
    "runs",
    "site",
    "tune",
}


def imports(path: Path) -> Iterator[tuple[str, int]]:
    """Modules of kernelevo that a file imports, dotted, with their lines; imports for type checking included."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from ((alias.name, node.lineno) for alias in node.names if alias.name.startswith("kernelevo"))
        elif isinstance(node, ast.ImportFrom) and node.level == 0 and (node.module or "").split(".")[0] == "kernelevo":
            if node.module == "kernelevo":
                yield from ((f"kernelevo.{alias.name}", node.lineno) for alias in node.names)
            else:
                yield str(node.module), node.lineno


def unit(module: str) -> str:
    """kernelevo.build.split -> build; kernelevo itself -> __init__."""
    parts = module.split(".")
    return parts[1] if len(parts) > 1 else "__init__"


def is_allowed(source: str, target: str, module: str) -> bool:
    if target == source or target in VOCABULARY:
        return source != "emulator" or target == "emulator"
    if target == "config":
        return source in JOINTS | {"cli"}
    if target == "emulator":
        return source in ("devices", "cli")  # of these, only devices/emulator.py, doctor and bench do
    if source == "cli":
        return True
    if source in JOINTS:
        return target != "cli"
    if source in ("worker", "devices") and target in ("worker", "devices"):
        return True  # the two halves of a device
    if source == "build" and module == "kernelevo.devices.recorder":
        return True  # what a Python candidate wants built is found out in a worker
    if source == "build" and module in ("kernelevo.devices.landlock", "kernelevo.devices.system_calls"):
        return True  # compilers are confined with the same calls as workers
    if source in STAGES | IMPLEMENTATIONS and target in PROTOCOLS:
        return module in ("kernelevo.devices", "kernelevo.models")
    return target == "toolchain" and source in ("build", "devices")


@pytest.mark.parametrize("path", sorted(PACKAGE.rglob("*.py")), ids=lambda path: str(path.relative_to(PACKAGE)))
def test_a_module_imports_only_what_its_layer_may(path: Path) -> None:
    source = path.relative_to(PACKAGE).with_suffix("").parts[0]
    wrong = [
        f"{path.relative_to(PACKAGE.parent)}:{line}: {source} imports {module}"
        for module, line in imports(path)
        if not is_allowed(source, unit(module), module)
    ]
    assert not wrong, "\n".join(wrong)


def test_only_the_cli_prints() -> None:
    """Other modules return what they know. Modules that are run as scripts (`__main__`, toolchain.py) print too."""
    wrong = []
    for path in PACKAGE.rglob("*.py"):
        if path.relative_to(PACKAGE).parts[0] in ("cli", "toolchain.py") or runs_as_a_script(path):
            continue
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "print":
                wrong.append(f"{path}:{node.lineno}")
    assert not wrong, wrong


def runs_as_a_script(path: Path) -> bool:
    return '__name__ == "__main__"' in path.read_text()


def test_the_rule_finds_a_forbidden_edge() -> None:
    assert not is_allowed("verify", "build", "kernelevo.build")
    assert not is_allowed("emulator", "records", "kernelevo.records")
    assert not is_allowed("archive", "emulator", "kernelevo.emulator")
    assert is_allowed("verify", "devices", "kernelevo.devices")
    assert not is_allowed("verify", "devices", "kernelevo.devices.emulator")


def test_no_module_hides_what_its_package_defines() -> None:
    """Importing a module sets its name in the package: a function of that name is gone from then on."""
    hidden = []
    for package in PACKAGE.rglob("__init__.py"):
        modules = {path.stem for path in package.parent.iterdir() if path.suffix == ".py" or path.is_dir()}
        for node in ast.parse(package.read_text()).body:
            if isinstance(node, ast.FunctionDef | ast.ClassDef) and node.name in modules:
                hidden.append(f"{package.relative_to(PACKAGE.parent)}:{node.lineno}: {node.name}")
    assert not hidden
