"""A device that runs Python functions on CPU tensors: a real implementation of the protocol, with nothing patched.

A candidate is called as candidate(memory, *inputs) and allocates what it returns with memory.empty(shape), which holds
the call's poison as device memory would.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from kernelevo.devices import Call, Launch
from kernelevo.records import Build, BuildMethod, Finding, Outcome, TimingKind


class Memory:
    """Fresh memory of one call."""

    def __init__(self, poison: int, schedule: int, stubbed: bool) -> None:
        self.poison = poison
        self.stubbed = stubbed  # then what `hold` stands for, a kernel that writes, does not run
        self.schedule = schedule  # a candidate that reads it stands for one whose result depends on the order
        self.block = (1, 1, 1)  # threads of its launches
        self.launches = 1  # a candidate sets it to 0 to stand for one that launches nothing
        self.copied_in_bytes: int | None = 0
        self.copied_out_bytes: int | None = 0
        self.operators: tuple[str, ...] | None = ("aten::empty_like",)  # of torch, that it called
        self.findings: list[Finding] = []  # what a device with more checks would have noticed

    def empty(self, shape: Sequence[int], dtype: torch.dtype = torch.float32) -> torch.Tensor:
        tensor = torch.empty(tuple(shape), dtype=dtype)
        tensor.contiguous().unsqueeze(-1).view(torch.uint8).fill_(self.poison)
        return tensor

    def hold(self, values: torch.Tensor) -> torch.Tensor:
        """Values in fresh memory, as contiguous as the device would make them."""
        memory = self.empty(values.shape, values.dtype)
        return memory if self.stubbed else memory.copy_(values)


@dataclass
class LocalSession:
    candidate: Callable[..., Any]
    calls: int = 0
    inputs: list[Any] = field(default_factory=list)  # of the last call

    def call(
        self,
        inputs: Sequence[Any],
        *,
        poison: int = 0xA5,
        schedule: int = 0,
        sample_blocks: int | None = None,
        checked: bool = False,
        stubbed: bool = False,
        same_memory: bool = False,
    ) -> Call:
        assert sample_blocks is None
        assert not checked
        self.calls += 1
        started = time.monotonic()
        memory = Memory(poison, schedule, stubbed)
        private = [value.clone() if isinstance(value, torch.Tensor) else value for value in inputs]
        if same_memory:
            pairs = zip(self.inputs, private, strict=True)
            private = [old.copy_(new) if isinstance(new, torch.Tensor) else new for old, new in pairs]
        self.inputs = private
        outcome, reason, outputs, findings = Outcome.PASSED, None, (), memory.findings
        try:
            returned = self.candidate(memory, *private)
        except TimeoutError as error:
            outcome, reason = Outcome.TIMED_OUT, str(error)
        except NotImplementedError as error:
            outcome, reason = Outcome.UNSUPPORTED, str(error)
        except Exception as error:
            outcome, reason = Outcome.CRASHED, f"raised {type(error).__name__}: {error}"
        else:
            outputs = returned if isinstance(returned, tuple) else (returned,)
            for number, output in enumerate(outputs):
                for index, value in enumerate(private):
                    if isinstance(value, torch.Tensor) and _storage(output) == _storage(value):
                        text = f"output {number} shares memory with tensor input {index}"
                        findings.append(Finding(kind="aliases input", text=text))
        launch = Launch(kernel="local", grid=(1, 1, 1), block=memory.block, shared_bytes=0, counters={})
        return Call(
            outcome=outcome,
            reason=reason,
            outputs=outputs,
            inputs_after=tuple(value if isinstance(value, torch.Tensor) else None for value in private),
            findings=tuple(findings),
            launches=(launch,) * memory.launches,
            output="",
            seconds=time.monotonic() - started,
            copied_in_bytes=memory.copied_in_bytes,
            copied_out_bytes=memory.copied_out_bytes,
            operators=memory.operators,
        )

    def close(self) -> None:
        pass

    def __enter__(self) -> LocalSession:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()


class LocalDevice:
    name = "local"
    target = "cpu"
    timing_kind = TimingKind.MEASURED

    def __init__(self, candidate: Callable[..., Any]) -> None:
        self.session = LocalSession(candidate)

    def unavailable(self) -> str | None:
        return None

    def open(self, build: Build, *, entry: str, timeout_seconds: float, memory_bytes: int) -> LocalSession:
        return self.session

    def close(self) -> None:
        pass


def local_build(folder: Path, symbols: bytes = b"") -> Build:
    """A build whose artifact holds these symbol names and is never loaded."""
    artifact = folder / "candidate.so"
    artifact.write_bytes(b"\x7fELF" + symbols)
    return Build(
        candidate="c-local",
        target="cpu",
        method=BuildMethod.STANDARD,
        fallback_reason=None,
        flags=(),
        compiler="python",
        artifact=artifact,
        ptx=None,
        resources=(),
        diagnostics=(),
        cached=False,
        seconds=0.0,
    )


def _storage(tensor: torch.Tensor) -> int:
    return tensor.untyped_storage().data_ptr()
