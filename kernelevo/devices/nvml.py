"""One GPU as NVML sees it: what it is, and its clocks, temperature, power and throttle reasons now.

    with Nvml(uuid=uuid) as card: card.facts(), card.read()

By ctypes over libnvidia-ml.so.1, in the parent: no privileges and no CUDA context are needed, and no candidate can
reach this process. What a card does not report is None. Names are those of the NVML API reference.
"""

from __future__ import annotations

import ctypes
from dataclasses import dataclass

from kernelevo.errors import ToolchainError

LIBRARY = "libnvidia-ml.so.1"
_SUCCESS = 0
_CLOCK_SM, _CLOCK_MEMORY = 1, 2  # nvmlClockType_t
_TEMPERATURE_GPU = 0  # nvmlTemperatureSensors_t
# nvmlClocksEventReasons; idle (1) and application clocks (2) are how a card is set, not what happens to it.
THROTTLE_REASONS = {
    0x0000000000000004: "power cap",
    0x0000000000000008: "hardware slowdown",
    0x0000000000000020: "thermal, software",
    0x0000000000000040: "thermal, hardware",
    0x0000000000000080: "power brake",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """The state of a GPU at one moment."""

    sm_mhz: float | None
    memory_mhz: float | None
    temperature_c: float | None
    power_watts: float | None
    throttle: tuple[str, ...]  # active reasons, in words; empty also where they are not reported


@dataclass(frozen=True, slots=True, kw_only=True)
class CardFacts:
    """What does not change while a process lives."""

    name: str  # "NVIDIA H100 80GB HBM3"
    uuid: str
    driver: str  # version of the driver
    compute_capability: tuple[int, int]
    memory_bytes_per_second: float | None  # theoretical: bus width x highest memory clock x 2


class Nvml:
    """One GPU, by NVML. Raises ToolchainError when there is no NVML, no driver or no such GPU."""

    def __init__(self, *, index: int | None = None, uuid: str | None = None, library: str = LIBRARY) -> None:
        """index: as NVML numbers GPUs; or uuid; the first GPU when neither is given."""
        try:
            self._library = ctypes.CDLL(library)
        except OSError as error:
            raise ToolchainError(
                f"{library} cannot be loaded ({error})", next_step="install NVIDIA's driver, or use --device emulator"
            ) from None
        self._call("nvmlInit_v2")
        self._handle = ctypes.c_void_p()
        if uuid is not None:
            self._call("nvmlDeviceGetHandleByUUID", uuid.encode(), ctypes.byref(self._handle))
        else:
            self._call("nvmlDeviceGetHandleByIndex_v2", ctypes.c_uint(index or 0), ctypes.byref(self._handle))

    def facts(self) -> CardFacts:
        major, minor = ctypes.c_int(), ctypes.c_int()
        self._call("nvmlDeviceGetCudaComputeCapability", self._handle, ctypes.byref(major), ctypes.byref(minor))
        width = self._number("nvmlDeviceGetMemoryBusWidth")
        clock = self._number("nvmlDeviceGetMaxClockInfo", ctypes.c_int(_CLOCK_MEMORY))
        known = width and clock
        return CardFacts(
            name=self._text("nvmlDeviceGetName", self._handle),
            uuid=self._text("nvmlDeviceGetUUID", self._handle),
            driver=self._text("nvmlSystemGetDriverVersion"),
            compute_capability=(major.value, minor.value),
            memory_bytes_per_second=width / 8 * clock * 1e6 * 2 if known and width and clock else None,
        )

    def read(self) -> Reading:
        milliwatts = self._number("nvmlDeviceGetPowerUsage")
        reasons = ctypes.c_ulonglong()
        known = any(
            self._status(name, self._handle, ctypes.byref(reasons)) == _SUCCESS
            for name in ("nvmlDeviceGetCurrentClocksEventReasons", "nvmlDeviceGetCurrentClocksThrottleReasons")
        )
        return Reading(
            sm_mhz=self._number("nvmlDeviceGetClockInfo", ctypes.c_int(_CLOCK_SM)),
            memory_mhz=self._number("nvmlDeviceGetClockInfo", ctypes.c_int(_CLOCK_MEMORY)),
            temperature_c=self._number("nvmlDeviceGetTemperature", ctypes.c_int(_TEMPERATURE_GPU)),
            power_watts=None if milliwatts is None else milliwatts / 1000,
            throttle=tuple(words for bit, words in THROTTLE_REASONS.items() if known and reasons.value & bit),
        )

    def close(self) -> None:
        self._status("nvmlShutdown")

    def __enter__(self) -> Nvml:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def _number(self, name: str, *arguments: ctypes.c_int) -> float | None:
        """One unsigned number about the card; None when the card does not say."""
        value = ctypes.c_uint()
        status = self._status(name, self._handle, *arguments, ctypes.byref(value))
        return float(value.value) if status == _SUCCESS else None

    def _text(self, name: str, *arguments: ctypes.c_void_p) -> str:
        buffer = ctypes.create_string_buffer(96)
        self._call(name, *arguments, buffer, ctypes.c_uint(len(buffer)))
        return buffer.value.decode(errors="replace")

    def _call(self, name: str, *arguments: object) -> None:
        if (status := self._status(name, *arguments)) != _SUCCESS:
            raise ToolchainError(
                f"{name} failed: NVML error {status}{self._error_words(status)}",
                next_step="run nvidia-smi, which should list the GPU",
            )

    def _status(self, name: str, *arguments: object) -> int:
        function = getattr(self._library, name, None)
        return int(function(*arguments)) if function is not None else -1

    def _error_words(self, status: int) -> str:
        function = getattr(self._library, "nvmlErrorString", None)
        if function is None or status < 0:
            return " (the library lacks the function)" if status < 0 else ""
        function.restype = ctypes.c_char_p
        return f" ({function(ctypes.c_int(status)).decode(errors='replace')})"
