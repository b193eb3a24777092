"""What a Python candidate asks torch to build, found out in a sandboxed worker of its own. Both halves of it.

    record(source)   in the trusted parent: starts a fork server, gives a Recording; raises WorkerError when ours fails
    Recorder         in the worker: executes the source with load_inline replaced by a list

The worker has no device. What comes back is JSON in a tensor of bytes, checked here before anybody believes it.
"""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from kernelevo.devices.wire import Load

if TYPE_CHECKING:
    import torch

    from kernelevo.worker import Effects

TIMEOUT_SECONDS = 30.0
MEMORY_BYTES = 2 << 30
Name = Annotated[str, Field(pattern=r"^[A-Za-z_]\w*$", max_length=200)]
Source = Annotated[str, Field(max_length=4 << 20)]


class Inline(BaseModel):
    """One call of load_inline."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    cuda_sources: Annotated[tuple[Source, ...], Field(max_length=64)]
    cpp_sources: Annotated[tuple[Source, ...], Field(max_length=64)]
    functions: Annotated[tuple[Name, ...], Field(max_length=256)]
    flags: Annotated[tuple[str, ...], Field(max_length=64)]  # extra_cuda_cflags


class Recording(BaseModel):
    """Everything that one import asked for."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    calls: Annotated[tuple[Inline, ...], Field(max_length=32)] = ()
    error: Annotated[str, Field(max_length=1000)] | None = None  # why the import failed, in one line
    line: int | None = None  # of the source, where it did


def record(source: str) -> Recording:
    """Executes a Python candidate's top level in a worker. Whatever that does is a Recording."""
    import torch

    from kernelevo.devices.session import ForkServer, WorkerSession

    with tempfile.TemporaryDirectory(prefix="kernelevo-record-") as folder:
        path = Path(folder, "candidate.py")
        path.write_text(source, encoding="utf-8")
        Path(folder, "objects").mkdir()
        load = Load(
            artifact=str(path),
            ptx=None,
            entry="record",
            object_cache=str(Path(folder, "objects")),
            memory_bytes=MEMORY_BYTES,
        )
        server = ForkServer("kernelevo.devices.recorder:Recorder")
        try:
            with WorkerSession(server, load, timeout_seconds=TIMEOUT_SECONDS) as session:
                call = session.call([])
        finally:
            server.close()
    if not call.outputs:
        return Recording(error=(call.reason or call.outcome.value)[:1000])
    output = call.outputs[0]
    if output.dtype is not torch.uint8:
        return Recording(error="it answered with something else than what it was asked for")
    try:
        return Recording.model_validate_json(bytes(output.contiguous().numpy().tobytes()))
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        where = ".".join(str(part) for part in first["loc"])
        return Recording(error=f"load_inline was given something unusual: {where}: {first['msg']}"[:1000])


class Recorder:
    """The worker's half: see kernelevo.worker.Backend."""

    device_type = "cpu"

    def warm(self) -> None:
        from torch import nn  # noqa: F401 - what every candidate imports

    def load(self, load: Load) -> ModuleType:
        module = ModuleType("recorder")
        module.record = lambda: recorded(Path(load.artifact).read_text(encoding="utf-8"))  # type: ignore[attr-defined]
        return module

    def begin(self, **call: object) -> None:
        pass

    def empty_strided(self, shape: Sequence[int], strides: Sequence[int], dtype: torch.dtype) -> torch.Tensor:
        import torch

        return torch.empty_strided(shape, strides, dtype=dtype)

    def end(self, error: BaseException | None) -> Effects:
        from kernelevo.worker import Effects

        return Effects()


def recorded(source: str) -> torch.Tensor:
    """Executes the source here, in the worker; the Recording as bytes."""
    import json

    import torch

    from kernelevo.devices import python_candidate

    calls: list[dict[str, Any]] = []
    answer: dict[str, Any] = {"calls": calls}

    def load_inline(name: Any = None, cpp_sources: Any = (), cuda_sources: Any = (), **options: Any) -> Any:
        functions = options.get("functions") or ()
        calls.append(
            {
                "cuda_sources": _texts(cuda_sources),
                "cpp_sources": _texts(cpp_sources),
                "functions": _texts(functions),
                "flags": _texts(options.get("extra_cuda_cflags") or ()),
            }
        )
        return _Unbuilt()

    try:
        python_candidate.execute(source, load_inline)
    except BaseException as error:
        answer = {"error": python_candidate.in_one_line(error)[:1000], "line": python_candidate.line_of(error)}
    return torch.frombuffer(bytearray(json.dumps(answer).encode()), dtype=torch.uint8).clone()


class _Unbuilt:
    """Stands for the extension while there is none: it has every function, and none can be called."""

    def __getattr__(self, name: str) -> Any:
        def not_yet(*arguments: Any, **named: Any) -> Any:
            raise RuntimeError(f"{name} of an extension is called while the file is imported; call it in forward")

        return not_yet


def _texts(value: Any) -> list[str]:
    if isinstance(value, str):
        return [value]
    return [str(part) for part in value]
