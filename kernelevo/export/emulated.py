"""The emulated GPU in this very process, for who trusts a kernel: exported packages and `kernelevo.load`.

    start()                                       # device="cuda" is real from here on
    module = load(source, "forward")              # built, or taken from the cache
    module.forward(torch.rand(4, 4, device="cuda"))

Nothing is confined: a kernel's host code runs with all rights of this process. Verdicts are never made this way.
"""

from __future__ import annotations

from types import ModuleType

from kernelevo.build import build
from kernelevo.config import read_settings
from kernelevo.devices import emulator
from kernelevo.errors import ToolchainError
from kernelevo.records import Candidate
from kernelevo.toolchain import find_toolchain

TARGET = "sm_90"


def start() -> None:
    """Must come before the process's first backward(). Raises ToolchainError where the emulator cannot run."""
    emulator.start_here()


def load(source: str, entry: str) -> ModuleType:
    """The module of one CUDA source that exports `entry`. Raises ToolchainError when it does not compile."""
    settings = read_settings()
    candidate = Candidate(source=source, entry=entry)
    built = build(candidate, target=TARGET, toolchain=find_toolchain(settings.host_compiler), cache=settings.cache)
    if not built.succeeded:
        said = "; ".join(f"line {d.line}: {d.text}" for d in built.diagnostics if d.severity == "error")
        raise ToolchainError(f"{candidate.id} does not compile here: {said}", next_step="kernelevo doctor")
    return emulator.load_here(built)
