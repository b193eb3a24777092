"""Checked kernels: a kernel's translations with the calls of checking.py in them, and what a launch of them found.

Takes a Module, gives a CheckedKernel. A checked launch does what the kernel does, but for accesses that are not
allowed: those are left out (they read zeros), and the launch goes on. It runs on one thread, so its findings are the
same every time.
"""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from dataclasses import dataclass

from .checking import Checking
from .grid import Compiled, LaunchStatus, Variant, compile_kernel, launch
from .module import Module


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """Something that a kernel did and must not do: the first of its kind on its line."""

    kind: str
    """"out of bounds", "use after free", "misaligned", "null pointer", "write to const", "uninitialised read", ..."""
    text: str
    """One line"""
    kernel: str
    """Entry name"""
    line: int | None
    """Of the .cu file, with -lineinfo"""
    position: str
    """file:line:column of the PTX"""
    block: tuple[int, int, int] | None
    thread: tuple[int, int, int] | None
    address: int | None
    """Bytes from the start of `allocation`, negative before it; of a null pointer, the pointer"""
    allocation: str | None
    """What is there, or nearest"""
    access_bytes: int | None
    """Of one thread's access"""


MOST_INSTRUCTIONS = 20_000  # of a kernel that is checked: the checks of a larger one take too long to translate


class CheckedKernel:
    """One kernel at one block size, ready for checked launches."""

    def __init__(self, module: Module, entry: str, block: tuple[int, int, int], *, races: bool = True) -> None:
        """races: look for those too, which takes longer than all the rest.

        Raises Unsupported and PtxError, with file:line:column; KeyError for an unknown entry.
        """
        self.observer = Checking(races=races)
        self.kernel: Compiled = compile_kernel(module, entry, block, Variant.CHECKED, observer=self.observer)
        self.variables = [
            (each.address, each.size, each.variable.space != "const", f"the module variable {name}")
            for name, each in module.variables.items()
        ]

    def check(
        self,
        grid: tuple[int, int, int],
        dynamic_shared_bytes: int,
        parameters: int,
        *,
        cooperative: bool = False,
        schedule: int = 0,
        time_limit_seconds: float = 0,
        sample_blocks: Sequence[int] | None = None,
    ) -> tuple[LaunchStatus, str, int, tuple[Finding, ...]]:
        """Runs the grid: (how it ended, message, blocks run, findings).

        parameters: address of the packed parameters. The others as in grid.launch.
        """
        from . import _runtime

        size = self.kernel.info.params_bytes
        packed = ctypes.string_at(parameters, size)
        checker = _runtime.Checker(
            sites=self.observer.sites,
            races=self.observer.races,
            threads=self.kernel.block,
            local_bytes=self.observer.local_bytes,
            local_stride=self.kernel.local_bytes,
            variables=self.variables,
        )
        report = launch(
            self.kernel,
            grid,
            self.kernel.block,
            dynamic_shared_bytes,
            packed,
            threads=1,
            sample_blocks=sample_blocks,
            time_limit_seconds=time_limit_seconds,
            hooks=checker.hooks,
            observer=checker.observer,
            cooperative=cooperative,
            schedule=schedule,
            watcher=checker.watcher,
        )
        findings = [self._finding(found) for found in checker.findings()]
        if checker.races_left_out:
            findings.append(
                not_checked(
                    self.kernel, "it does too much for a race checker: races were looked for in the first part of it"
                )
            )
        return report.status, report.message, report.blocks_run, tuple(findings)

    @property
    def shared_bytes(self) -> int:
        """Static, per block."""
        return self.kernel.shared_bytes

    def _finding(self, found: dict[str, object]) -> Finding:
        site = self.observer.sites[int(str(found.pop("site")))]
        return Finding(
            kernel=self.kernel.info.name,
            line=site["line"] or None,
            position=site["position"],
            **found,  # type: ignore[arg-type]
        )


class UncheckedKernel:
    """A kernel that cannot be checked, launched without; its only finding says so."""

    def __init__(self, kernel: Compiled, reason: str) -> None:
        self.kernel, self.reason = kernel, reason

    @property
    def shared_bytes(self) -> int:
        """Static, per block."""
        return self.kernel.shared_bytes

    def check(
        self,
        grid: tuple[int, int, int],
        dynamic_shared_bytes: int,
        parameters: int,
        *,
        cooperative: bool = False,
        schedule: int = 0,
        time_limit_seconds: float = 0,
    ) -> tuple[LaunchStatus, str, int, tuple[Finding, ...]]:
        """As CheckedKernel.check."""
        report = launch(
            self.kernel,
            grid,
            self.kernel.block,
            dynamic_shared_bytes,
            ctypes.string_at(parameters, self.kernel.info.params_bytes),
            cooperative=cooperative,
            schedule=schedule,
            time_limit_seconds=time_limit_seconds,
        )
        return report.status, report.message, report.blocks_run, (not_checked(self.kernel, self.reason),)


def check_kernel(
    module: Module, entry: str, block: tuple[int, int, int], *, most_instructions: int = MOST_INSTRUCTIONS
) -> CheckedKernel | UncheckedKernel:
    """A kernel for checked launches. Raises Unsupported and PtxError, with file:line:column; KeyError for an unknown
    entry."""
    size = len(module.file.functions[entry].body.instructions)
    if size > most_instructions:
        reason = f"it has {size} instructions, more than the {most_instructions} that are checked"
        return UncheckedKernel(compile_kernel(module, entry, block), reason)
    return CheckedKernel(module, entry, block)


def not_checked(kernel: Compiled, reason: str) -> Finding:
    """What must be known about a launch of which something was not looked at."""
    return Finding(
        kind="not checked",
        text=reason,
        kernel=kernel.info.name,
        line=None,
        position=kernel.sites[0].position if kernel.sites else "",
        block=None,
        thread=None,
        address=None,
        allocation=None,
        access_bytes=None,
    )
