"""`kernelevo doctor`: what this machine has, and how to get what it lacks."""

from __future__ import annotations

import typer
from rich.text import Text

from kernelevo.cli.archive import JsonOption, print_json
from kernelevo.cli.bench import machine
from kernelevo.cli.show import console, rows
from kernelevo.config import Settings, read_settings, secrets_present
from kernelevo.devices.isolation import Protection
from kernelevo.errors import KernelevoError


def register(app: typer.Typer) -> None:
    app.command()(doctor)


def doctor(json_: JsonOption = False) -> None:
    """Says what was found, and how to get what was not.

    Exit code: 0 when kernels can be built and run, on the emulator or on a GPU, 1 otherwise.
    """
    settings = read_settings()
    gpu = gpu_line()
    emulator = emulator_lines(settings)
    if gpu[0]:  # then one can do without the emulator, which a CUDA build of torch leaves out
        emulator = [(None if name == "emulator" and not ok else ok, name, words) for ok, name, words in emulator]
    lines = [*toolchain_lines(), *emulator, gpu, *key_lines()]
    if json_:
        found = [{"found": ok, "name": name, "text": words} for ok, name, words in lines]
        print_json({"machine": machine(), "cache": settings.cache, "archive": settings.archive, "found": found})
        raise typer.Exit(1 if any(ok is False for ok, _, _ in lines) else 0)
    console.print(f"{machine()}\ncache {settings.cache}\narchive {settings.archive}\n")
    marks = {True: Text("ok", style="green"), None: Text("-", style="yellow"), False: Text("missing", style="red")}
    console.print(
        rows("", ["", "what", "found, or how to get it"], [[marks[ok], name, words] for ok, name, words in lines])
    )
    if any(ok is False for ok, _, _ in lines):
        raise typer.Exit(1)
    console.print("\nnext: kernelevo evolve rmsnorm")


Line = tuple[bool | None, str, str]  # found (None: missing, and optional), what, words


def toolchain_lines() -> list[Line]:
    from kernelevo.toolchain import report

    return [
        (True if line.found else (False if line.required else None), line.name, line.found or line.advice or "")
        for line in report()
    ]


def emulator_lines(settings: Settings) -> list[Line]:
    """LLVM and the vector width that emulated warps run at; whether the emulator starts, and its sandbox."""
    import llvmlite.binding as llvm

    from kernelevo.devices.emulator import EmulatorDevice

    features = llvm.get_host_cpu_features()
    width = next((name for name in ("avx512f", "avx2", "neon", "sse4.2") if features.get(name)), "none")
    version = ".".join(map(str, llvm.llvm_version_info))
    lines: list[Line] = [(True, "LLVM", f"{version}, {llvm.get_host_cpu_name()}, vectors: {width}")]
    device = EmulatorDevice()
    try:
        if problem := device.unavailable():
            return [*lines, (False, "emulator", problem)]
        isolation = device.isolation
    except KernelevoError as error:
        return [*lines, (False, "emulator", str(error).replace("\n", ";"))]
    finally:
        device.close()
    return [
        *lines,
        (True, "emulator", "starts; candidates run on this machine's CPU"),
        *sandbox_lines(isolation, required=settings.sandbox == "required"),
    ]


def sandbox_lines(isolation: tuple[Protection, ...], *, required: bool) -> list[Line]:
    """One line per protection. One that is missing is optional unless the settings require all."""
    return [
        (True, f"sandbox: {protection.name}", protection.how)
        if protection.holds
        else (
            False if required else None,
            f"sandbox: {protection.name}",
            f"does not hold: {protection.why_not}. Until then: {protection.how}",
        )
        for protection in isolation
    ]


def gpu_line() -> Line:
    """The GPU of --device cuda, or everything that it lacks."""
    from kernelevo.devices.cuda import CudaDevice
    from kernelevo.devices.nvml import Nvml

    if (why := CudaDevice.missing()) is not None:
        return None, "GPU", f"{why}. Times are PREDICTED on the emulator"
    with Nvml() as card:
        facts = card.facts()
    return True, "GPU", f"{facts.name}, driver {facts.driver}: --device cuda"


def key_lines() -> list[Line]:
    return [
        (True if present else None, name, "set" if present else "not set; mutate needs no key")
        for name, present in secrets_present().items()
    ]
