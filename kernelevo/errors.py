"""What we or the user must fix. A candidate that fails is a record, never an exception.

    KernelevoError            every error raised on purpose
    |- UsageError             unknown task, device, model, strategy or id; a bad option
    |- TaskError              a task folder that cannot be used (file, key, value, what was expected)
    |- ConfigError            kernelevo.toml or an environment variable that cannot be used
    |- ToolchainError         nvcc, host compiler, torch or driver missing or unusable
    |- ModelError             a model that cannot be reached or refuses for good
    |- ArchiveError           the archive cannot be opened, read or written
       `- SchemaError         the archive was written by a newer version
    |- WorkerError            our sandboxed worker itself failed; nothing was learned about the candidate

Each message says what, where, the offending value and the next step.
"""

from __future__ import annotations


class KernelevoError(Exception):
    """Base of all errors raised on purpose. `next_step` says what to do about it."""

    def __init__(self, message: str, *, next_step: str | None = None) -> None:
        super().__init__(message)
        self.next_step = next_step

    def __str__(self) -> str:
        message = super().__str__()
        return f"{message}\n  next: {self.next_step}" if self.next_step else message


class UsageError(KernelevoError):
    """The caller asked for something that does not exist."""


class TaskError(KernelevoError):
    """A task folder cannot be used."""


class ConfigError(KernelevoError):
    """A setting cannot be used."""


class ToolchainError(KernelevoError):
    """A compiler or library is missing or unusable."""


class ModelError(KernelevoError):
    """A model cannot be reached or refuses for good."""


class ArchiveError(KernelevoError):
    """The archive cannot be opened, read or written."""


class SchemaError(ArchiveError):
    """The archive was written by a newer version of kernelevo."""


class WorkerError(KernelevoError):
    """The sandboxed worker itself failed; nothing was learned about the candidate."""
