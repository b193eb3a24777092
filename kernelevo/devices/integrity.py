"""What a candidate does to the process it runs in. Worker's side only; gives findings, decides nothing.

    watch = Watch(device_type)          before the candidate is loaded
    watch.begin(); ...call...; operators = watch.end()
    watch.findings(...)                 settings, functions and modules that are not what they were
    strangers()                         threads that the candidate left running

    outputs = LiveOutputs()             outputs that a caller may still hold: they share no memory and keep their values

All of it runs beside the candidate, which could undo it: it finds what a candidate does to be called right or fast, not
what it does to hide. What the parent believes are bytes, and its own clock. Not seen: patched tables of linked
functions, and code that was changed elsewhere than at the beginning of the functions in CODE.
"""

from __future__ import annotations

import contextlib
import ctypes
import operator
import os
import random
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

from kernelevo.devices.wire import MAX_TEXT, FindingMessage

if TYPE_CHECKING:
    import torch

LATE_SECONDS = 1.5  # that threads which a call left running get to change its outputs, while they run
LATE_SECONDS_IN_ALL = 3.0  # of all calls of a worker: who keeps threads for ever pays for it once
KEPT_BYTES = 64 << 20  # of the outputs of one earlier call that are kept
POOL = "emulated-gpu"  # name of the emulator's own threads; see csrc/emulator/workers.cpp

# Functions and classes in these must stay the same objects: what measures, compares, copies and reports.
NAMESPACES = (
    *("torch", "torch.cuda", "torch._C", "torch.Tensor", "torch.cuda.Event", "torch.cuda.Stream", "torch.testing"),
    *("time", "builtins", "os", "socket"),
    *("kernelevo.worker", "kernelevo.devices.wire", "kernelevo.devices.integrity"),
)
# The first instructions of these must stay the same.
CODE = (
    *("cudaEventElapsedTime", "cudaEventRecord", "cudaEventSynchronize", "cudaDeviceSynchronize"),
    *("cudaStreamSynchronize", "cudaMemcpyAsync", "clock_gettime", "gettimeofday", "sendmsg", "send", "write"),
)
CODE_BYTES = 16
OFTEN = 4  # calls after which functions are looked at each time, and one in how many they are afterwards
# Parts of kernelevo that a worker has a use for; the others belong to the judge.
OURS = ("kernelevo.devices", "kernelevo.emulator", "kernelevo.worker", "kernelevo.errors", "kernelevo.records")


_observer: ModuleType | None = None  # kernelevo.devices._operators


def observe_operators() -> None:
    """From now on operators of torch can be watched, here and in forked processes; before any candidate is loaded."""
    global _observer  # noqa: PLW0603 - forked processes find it
    import torch  # noqa: F401 - whose libraries the extension needs

    with contextlib.suppress(ImportError):  # a checkout in which csrc/ was not built
        from kernelevo.devices import _operators

        _observer = _operators


class Watch:
    """What this process was like before the candidate came."""

    def __init__(self, device_type: str) -> None:
        """device_type: of the tensors that the candidate is given."""
        self._device_type = device_type
        self._functions = [(name, space, _callables(vars(space))) for name, space in _namespaces()]
        self._modules = frozenset(sys.modules)
        self._code = [(name, address, _code(address)) for name, address in _addresses().items()]
        self._settings: dict[str, object] | None = None
        self._environment = _environment()
        self._calls = 0
        self._random = random.SystemRandom()
        self._threads: frozenset[str] = frozenset()

    def begin(self) -> None:
        """Before a call."""
        if self._settings is None:
            self._settings = settings(self._device_type)
        self._threads = _threads()
        if _observer is not None:
            _observer.begin()

    def end(self) -> tuple[str, ...] | None:
        """After a call: the operators of torch that it called, for example "aten::empty_like"; None: not known."""
        return None if _observer is None else tuple(_observer.end())

    def findings(self) -> list[FindingMessage]:
        """What is otherwise than it was before the first call."""
        assert self._settings is not None
        texts = _differences(self._settings, settings(self._device_type))
        if (variables := _environment()) != self._environment:
            texts += _differences({"environment": _told(self._environment)}, {"environment": _told(variables)})
        # Thousands of names are looked at: after the first calls, when most is set up, and now and then afterwards.
        self._calls += 1
        if self._calls <= OFTEN or self._random.randrange(OFTEN) == 0:
            texts += self._replaced()
        found = [FindingMessage(kind="global state changed", text=text[:MAX_TEXT]) for text in texts]
        if not _still_observed():
            text = "operators of torch are no longer told to observers"
            found.append(FindingMessage(kind="global state changed", text=text))
        if judges := self._imported():
            text = f"it imported {', '.join(judges)}, which only the judge has a use for"
            found.append(FindingMessage(kind="reads the judge", text=text[:MAX_TEXT]))
        return found

    def strangers(self) -> list[Path]:
        """Threads that are there since the call, those of the emulated GPU left out."""
        new = _threads() - self._threads
        return [thread for number in new if not _is_ours(thread := Path("/proc/self/task", number))]

    def _replaced(self) -> list[str]:
        texts = []
        for name, space, before in self._functions:
            now = vars(space)
            if not all(map(operator.is_, map(now.get, before), before.values())):
                texts += [f"{name}.{key} was replaced" for key, value in before.items() if now.get(key) is not value]
            if isinstance(space, type):  # a new attribute may hide an inherited one
                texts += [f"{name}.{key} was replaced" for key in now.keys() - before if callable(now[key])]
        texts += [f"the code of {name} was changed" for name, address, code in self._code if _code(address) != code]
        return texts

    def _imported(self) -> list[str]:
        if len(sys.modules) == len(self._modules):
            return []
        return sorted(
            name
            for name in sys.modules.keys() - self._modules
            if name.startswith("kernelevo.") and not name.startswith(OURS)
        )


class LiveOutputs:
    """The last call's outputs and those of one earlier call, chosen at random, with what they held."""

    def __init__(self) -> None:
        self._last: list[tuple[torch.Tensor, torch.Tensor]] = []
        self._earlier: list[tuple[torch.Tensor, torch.Tensor]] = []
        self._calls = 0
        self._random = random.SystemRandom()

    def forget(self) -> None:
        self._last, self._earlier, self._calls = [], [], 0

    def shared_with(self, output: torch.Tensor) -> bool:
        """Whether an output uses the memory of an earlier one that is still held."""
        return any(share_memory(output, earlier) for earlier, _ in (*self._last, *self._earlier))

    def changed(self) -> bool:
        """Whether an output that is still held has other bytes than when it was returned."""
        import torch

        return any(not torch.equal(as_bytes(tensor), held) for tensor, held in (*self._last, *self._earlier))

    def keep(self, outputs: Sequence[torch.Tensor]) -> None:
        """The outputs of the call that has just returned."""
        # Each call so far is the earlier one with the same probability.
        self._calls += 1
        if self._last and self._random.randrange(self._calls) == 0:
            small = sum(held.numel() for _, held in self._last) <= KEPT_BYTES
            self._earlier = self._last if small else self._earlier
        self._last = [(output, as_bytes(output)) for output in outputs]


class LateChanges:
    """Looks at outputs again while threads that a call left behind are at work."""

    def __init__(self) -> None:
        self._waited_seconds = 0.0

    def of(self, outputs: Sequence[torch.Tensor], strangers: Callable[[], Sequence[Path]]) -> list[FindingMessage]:
        """Waits while there are strangers, LATE_SECONDS at most; at once where there are none."""
        import torch

        if not strangers() or self._waited_seconds > LATE_SECONDS_IN_ALL:
            return []
        held = [as_bytes(output) for output in outputs]
        started = time.monotonic()
        while strangers() and time.monotonic() < started + LATE_SECONDS:
            time.sleep(0.002)
        self._waited_seconds += time.monotonic() - started
        text = "a thread of the host changed output {} after it was returned"
        return [
            FindingMessage(kind="late output", text=text.format(index))
            for index, (output, before) in enumerate(zip(outputs, held, strict=True))
            if not torch.equal(as_bytes(output), before)
        ]


def share_memory(a: torch.Tensor, b: torch.Tensor) -> bool:
    first, second = a.untyped_storage(), b.untyped_storage()
    if not first.nbytes() or not second.nbytes():
        return False
    start, other = first.data_ptr(), second.data_ptr()
    return start < other + second.nbytes() and other < start + first.nbytes()


def as_bytes(tensor: torch.Tensor) -> torch.Tensor:
    """A copy of what a tensor holds, on the CPU; equal even where it holds NaN."""
    import torch

    return tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).clone()


def settings(device_type: str) -> dict[str, object]:
    """Settings of this process that a candidate must leave as they are."""
    import torch

    cudnn, matmul = torch.backends.cudnn, torch.backends.cuda.matmul
    found: dict[str, object] = {
        "grad mode": torch.is_grad_enabled(),
        "inference mode": torch.is_inference_mode_enabled(),
        "anomaly mode": torch.is_anomaly_enabled(),
        "default dtype": torch.get_default_dtype(),
        "default device": torch.get_default_device(),
        "number of threads": torch.get_num_threads(),
        "number of interop threads": torch.get_num_interop_threads(),
        "deterministic algorithms": torch.are_deterministic_algorithms_enabled(),
        "float32 matmul precision": torch.get_float32_matmul_precision(),
        "TF32 in matmul": matmul.allow_tf32,
        "reduced precision in float16 matmul": matmul.allow_fp16_reduced_precision_reduction,
        "TF32 in cuDNN": cudnn.allow_tf32,
        "cuDNN": cudnn.enabled,
        "cuDNN benchmark": cudnn.benchmark,
        "cuDNN deterministic": cudnn.deterministic,
        "autocast": torch.is_autocast_enabled(device_type),
        "function modes": torch._C._len_torch_function_stack(),
        "dispatch modes": torch._C._len_torch_dispatch_stack(),
        "floating-point mode": _floating_point_mode(),
        "search path for modules": tuple(sys.path),
        "importers": tuple(map(id, sys.meta_path)),
        "trace function": (sys.gettrace(), sys.getprofile()),
        "working folder": _working_folder(),
    }
    if device_type == "cuda":
        found["current device"] = torch._C._cuda_getDevice()
        found["current stream"] = torch._C._cuda_getCurrentRawStream(torch._C._cuda_getDevice())
    return found


def _differences(before: Mapping[str, object], after: Mapping[str, object]) -> list[str]:
    texts = []
    for name, was in before.items():
        value = after[name]
        if was == value:
            continue
        if isinstance(was, tuple) and isinstance(value, tuple):
            parts = [f"{word} {part!r}" for word, one, two in (("lost", was, value), ("has now", value, was))
                     for part in one if part not in two]  # fmt: skip
            texts.append(f"{name}: {', '.join(parts) or 'another order'}")
        else:
            texts.append(f"{name}: {was} became {value}")
    return texts


def _working_folder() -> str:
    try:
        return os.getcwd()
    except OSError as error:  # it was removed, or lies where we may not look
        return os.strerror(error.errno or 0)


def _floating_point_mode() -> tuple[float, float, float]:
    """Other numbers where subnormals are flushed or rounding is not to nearest."""
    smallest, one, third = float.fromhex("0x1p-1074"), float("1"), float("3")
    return smallest * one, one / third, -one / third


def _environment() -> tuple[bytes, ...]:
    """As C has it: os.environ does not show what setenv does."""
    variables = ctypes.POINTER(ctypes.c_char_p).in_dll(ctypes.CDLL(None), "environ")
    found: list[bytes] = []
    while variables and (entry := variables[len(found)]) is not None:
        found.append(entry)
    return tuple(found)


def _told(environment: tuple[bytes, ...]) -> tuple[str, ...]:
    """Names, and hashes of the values, which may be secrets."""
    pairs = (entry.partition(b"=")[::2] for entry in environment)
    return tuple(sorted(f"{name.decode(errors='replace')}#{hash(value) & 0xFFFF:04x}" for name, value in pairs))


def _namespaces() -> list[tuple[str, Any]]:
    """Those that are loaded here."""
    found: list[tuple[str, Any]] = []
    for name in NAMESPACES:
        space: Any = sys.modules.get(name)
        if space is None:
            parent, _, attribute = name.rpartition(".")
            space = getattr(sys.modules.get(parent), attribute, None)
        if space is not None:
            found.append((name, space))
    return found


def _callables(space: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in space.items() if callable(value)}


def _addresses() -> dict[str, int]:
    """Where the functions of CODE are, as this process links them."""
    library = ctypes.CDLL(None)
    return {
        name: address
        for name in CODE
        if hasattr(library, name) and (address := ctypes.cast(getattr(library, name), ctypes.c_void_p).value)
    }


def _code(address: int) -> bytes:
    return ctypes.string_at(address, CODE_BYTES)


def _threads() -> frozenset[str]:
    """Numbers of this process's threads; none where /proc cannot be read."""
    try:
        return frozenset(os.listdir("/proc/self/task"))
    except OSError:
        return frozenset()


def _is_ours(thread: Path) -> bool:
    """Also when it has ended meanwhile."""
    try:
        return (thread / "comm").read_text().strip() == POOL
    except OSError:
        return True


def _still_observed() -> bool:
    """Whether an operator that we call ourselves is noticed."""
    import torch

    if _observer is None:
        return True
    _observer.begin()
    tensor = torch.empty(0)
    tensor.is_set_to(tensor)
    return "aten::is_set_to" in _observer.end()
