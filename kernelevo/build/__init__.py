"""Builds candidates: Candidate -> Build, cached by content.

Takes a CUDA C++ candidate, or a Python one with CUDA in strings (python.py), gives a module that Python can import as
`kernelevo_candidate`, its PTX with a cubin beside it, and what ptxas says about each kernel. The module leaves CUDA's
runtime and `kernelevo_launch` undefined: the process that loads it must have loaded both globally.

The split build (passes.py) takes one to two seconds. Where it cannot judge a source, the standard build (standard.py)
does, at one to two minutes, and the reason is recorded. A candidate that does not compile is a Build without artifact
and with diagnostics; it raises ToolchainError only for what the user must fix: no nvcc, a full disk.

Not covered: sources of more than one file, device code that is linked (`-rdc`), binaries for more than one GPU.
"""

from __future__ import annotations

import contextlib
import functools
import re
import shutil
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

from kernelevo.build import cache as folders
from kernelevo.build import diagnostics as words
from kernelevo.build import passes, processes, python, standard
from kernelevo.build.declarations import declarations
from kernelevo.build.diagnostics import SOURCE_NAME
from kernelevo.build.evidence import forbidden
from kernelevo.build.passes import Step
from kernelevo.build.read import read
from kernelevo.build.resources import read_resources
from kernelevo.build.split import Split, SplitError, split, unchanged
from kernelevo.build.symbols import entries, exported_kernels
from kernelevo.devices.recorder import Recording, record
from kernelevo.errors import ToolchainError
from kernelevo.records import Build, BuildMethod, Candidate, Diagnostic, digest
from kernelevo.toolchain import Toolchain

__all__ = ["MODULE", "build", "warm"]

MODULE = passes.MODULE
SPLIT_SECONDS = 120.0
STANDARD_SECONDS = 300.0
HOST_LINE = f'#line 1 "{SOURCE_NAME}"\n'.encode()
# Absolute, or nvcc would put the folder of the build in front of it, and the PTX would never be the same twice.
DEVICE_LINE = f'#line 1 "/{SOURCE_NAME}"\n'.encode()


def build(
    candidate: Candidate,
    *,
    target: str,
    toolchain: Toolchain,
    cache: Path,
    method: BuildMethod | None = None,
) -> Build:
    """Compiles one candidate for one target, for example "sm_90", or takes the build from the cache.

    method: SPLIT or STANDARD to have that build and no other; None to have the split build, and the standard one where
        the split build cannot judge the source.

    Raises ToolchainError when the compilers or the cache folder are unusable, never for what the candidate did.
    """
    started = time.perf_counter()
    if not re.fullmatch(r"sm_\d{2,3}[af]?", target):
        raise ToolchainError(f"unknown target {target!r}", next_step='name a GPU architecture such as "sm_90"')
    errors = read(candidate) or forbidden(candidate.source)
    if errors:
        result = _blank(target, toolchain, diagnostics=errors)
    elif python.is_python(candidate.source):
        result = _python(candidate, target, toolchain, cache, method)
    else:
        with folders.writable(cache):
            result = _cached(candidate.source, target, toolchain, cache.expanduser().resolve(), method)
    return replace(result, candidate=candidate.id, seconds=time.perf_counter() - started)


def warm(toolchain: Toolchain, cache: Path) -> None:
    """Precompiles what the first build would: 10 to 25 seconds, once per toolchain."""
    with folders.writable(cache):
        passes.prepare_headers(toolchain, cache.expanduser().resolve())


def _cached(source: str, target: str, toolchain: Toolchain, cache: Path, method: BuildMethod | None) -> Build:
    folder = cache / "builds" / _key(source, target, toolchain, method)
    found = folders.load(folder)
    if found is not None:
        return found
    headers = passes.prepare_headers(toolchain, cache)
    with folders.work_folder(cache) as work:
        if method is BuildMethod.STANDARD:
            result = _standard(source, target, toolchain, cache, work, reason="asked for")
        else:
            result = _split(source, target, toolchain, headers, work)
            if result.fallback_reason and method is None:
                _empty(work)
                result = _standard(source, target, toolchain, cache, work, reason=result.fallback_reason)
        if any(diagnostic.text.startswith(_OUT_OF) for diagnostic in result.diagnostics):
            return result  # the machine's fault today; not kept
        folders.store(work, folder, result)
    kept = folders.load(folder)
    if kept is None:
        raise ToolchainError(f"the build just made has gone from {folder}", next_step="build again")
    return replace(kept, cached=False)


def _python(candidate: Candidate, target: str, toolchain: Toolchain, cache: Path, method: BuildMethod | None) -> Build:
    """The build of the CUDA in a Python candidate."""
    with folders.writable(cache):
        recording = _recorded(candidate.source, cache.expanduser().resolve())
        generated = python.generate(candidate.source, candidate.entry, recording)
        if not isinstance(generated, python.Generated):
            return _blank(target, toolchain, diagnostics=generated)
        if errors := forbidden(generated.source):
            return _blank(target, toolchain, diagnostics=python.moved(errors, generated.lines))
        result = _cached(generated.source, target, toolchain, cache.expanduser().resolve(), method)
    said = (*python.moved(result.diagnostics, generated.lines), *generated.warnings)
    return replace(result, diagnostics=words.trim(said))


def _recorded(source: str, cache: Path) -> Recording:
    """What the candidate asks to be built; a worker finds out once."""
    path = cache / "recordings" / f"{digest(source, _our_code(), tag='recording', length=32)}.json"
    with contextlib.suppress(OSError, ValueError):
        return Recording.model_validate_json(path.read_text())
    recording = record(source)
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.NamedTemporaryFile("w", dir=path.parent, delete=False) as file:
        file.write(recording.model_dump_json())
    Path(file.name).rename(path)
    return recording


def _key(source: str, target: str, toolchain: Toolchain, method: BuildMethod | None) -> str:
    return digest(
        source,
        target,
        method.value if method else "any",
        toolchain.nvcc.version,
        toolchain.host.family,
        toolchain.host.version,
        toolchain.gxx.version if toolchain.gxx else "",
        toolchain.torch.version,
        str(toolchain.python_include),
        passes.our_headers(),
        _our_code(),
        *passes.device_flags(target),
        *passes.host_flags(toolchain),
        *standard.standard_flags(target),
        tag="build",
        length=32,
    )


@functools.cache
def _our_code() -> str:
    """Content hash of this package: what it decides is part of every build."""
    sources = sorted(Path(__file__).parent.glob("*.py"))
    return digest(*(part for path in sources for part in (path.name, path.read_text())), tag="code", length=32)


# --- split build ----------------------------------------------------------------------------------------------------


def _split(source: str, target: str, toolchain: Toolchain, headers: passes.Headers, work: Path) -> Build:
    """The split build. `fallback_reason` without an artifact: it cannot judge this source."""
    outcome = functools.partial(_blank, target, toolchain, flags=passes.device_flags(target))
    for name, text in declarations(source, toolchain.torch.include[0]).items():
        (work / name).write_text(text)
    try:
        parts = split(source)
    except SplitError as error:
        reason = f"line {error.line}: {error}"
        device = _device_only(source, target, toolchain, headers, work)
        if device and not any(_names_torch(error, source) for error in device):
            return outcome(diagnostics=device)
        return outcome(fallback_reason=reason)
    (work / SOURCE_NAME).write_bytes(DEVICE_LINE + parts.device.data)
    (work / "host.cpp").write_bytes(HOST_LINE + parts.host.data)
    steps = passes.steps(toolchain, headers, target, work)
    finished = passes.run_steps(toolchain, steps, work, timeout_seconds=SPLIT_SECONDS)
    said = _read_logs(work, steps, parts)
    if finished.status is None:
        return outcome(diagnostics=[_out_of_time(SPLIT_SECONDS, "device"), *said])
    if finished.status != 0:
        short = _out_of_memory(work)
        if short:
            return outcome(diagnostics=[short])
        failed = [d for d in said if d.severity == "error"] or [words.unread(finished.output, "device")]
        return outcome(diagnostics=said or failed, fallback_reason=_doubt(source, failed, parts, work))
    unknown = exported_kernels(work / f"{MODULE}.so", parts.kernels) - entries((work / "candidate.ptx").read_text())
    if unknown:
        return outcome(fallback_reason=f"the two passes name a kernel differently: {min(unknown)}")
    return outcome(
        method=BuildMethod.SPLIT,
        artifact=work / f"{MODULE}.so",
        ptx=work / "candidate.ptx",
        resources=read_resources((work / "ptxas.log").read_text()),
        diagnostics=said,
    )


def _read_logs(work: Path, steps: Sequence[Step], parts: Split | None = None) -> list[Diagnostic]:
    """What every step said; a step that failed has at least one error."""
    said = []
    for step in steps:
        log = work / f"{step.name}.log"
        if not log.exists():
            continue  # it was never run
        output = log.read_text(errors="replace")
        found = _READERS[step.name](output, parts)
        if not (work / step.writes).exists() and not any(d.severity == "error" for d in found):
            found.append(words.unread(output, step.name))
        said += found
    return said


_READERS: dict[str, Callable[[str, Split | None], list[Diagnostic]]] = {
    "device": lambda output, parts: [
        *words.read_nvcc(output, parts.device if parts else None, "device"),
        *words.read_ptxas(output),
    ],
    "ptxas": lambda output, parts: words.read_ptxas(output),
    "host": lambda output, parts: words.read_host(output, parts.host if parts else None),
    "link": lambda output, parts: words.read_linker(output),
}


def _doubt(source: str, errors: Sequence[Diagnostic], parts: Split, work: Path) -> str | None:
    """Why failed passes may be our fault and not the candidate's; None when the candidate is surely wrong.

    Kernel code is compiled by the device pass alone, so its word on it is final. Host code is seen by both passes: by
    one against slim declarations, by the other against torch's own. Where they agree, the candidate is wrong.
    """
    device = [error for error in errors if error.stage == "device"]
    host = [error for error in errors if error.stage == "host"]
    if any(error.stage == "ptxas" or _NO_FILE.search(error.text) for error in errors):
        return None
    for error in (*device, *host):
        if re.search(rf"\b({'|'.join(_BEYOND_PRELUDE)})\b", error.text) and "torch" in source:
            return f"line {error.line}: beyond what the split build knows of torch: {error.text}"
    kernel_lines = parts.device_lines()
    if any(error.line in kernel_lines and not _names_torch(error, source) for error in device):
        return None
    if device and host:
        # A missing semicolon is found on this line by one compiler and on the next by the other.
        lines = [error.line for error in host if error.line is not None]
        if any(error.line is not None and abs(error.line - line) <= 2 for error in device for line in lines):
            return None
        return f"the passes fail at different lines, {device[0].line} and {host[0].line}: {device[0].text}"
    if device and all(_NEEDS_INCLUDE.search(error.text) for error in device) and not _CUDA_INCLUDE.search(source):
        return None
    if device:
        return f"only the device pass fails, at line {device[0].line}: {device[0].text}"
    if host:
        if all(_TORCH_LACKS.search(error.text) for error in host):
            return None
        return f"only the host pass fails, at line {host[0].line}: {host[0].text}"
    return f"the link fails: {errors[0].text}"


_NO_FILE = re.compile(r"No such file or directory|Permission denied|file not found|incbin file")
# Namespaces of torch that torch/extension.h has and the prelude of the host pass has not.
_BEYOND_PRELUDE = (
    "nn", "optim", "data", "jit", "serialize", "fft", "linalg", "special", "sparse", "nested", "autograd", "utils",
)  # fmt: skip
_UNKNOWN_NAME = re.compile(r"must be a class or namespace name|is undefined|has no member|incomplete type")
# The prelude of the host pass has torch's CUDA headers always; torch/extension.h has them not.
_NEEDS_INCLUDE = re.compile(r'"(at|c10|torch)(::cuda)?" has no member "\w+"|identifier "(C10|AT|TORCH)_CUDA_\w+"')
_CUDA_INCLUDE = re.compile(r"#\s*include\s*[<\"](ATen|c10)/cuda/")
_TORCH_LACKS = re.compile(r"has no member named|no member named '\w+' in ('(at|c10)::|namespace 'at')")
_TORCH_NAMES = re.compile(r"\b(at|c10|torch|caffe2|pybind11|py)::|\"(at|c10|torch|py|pybind11)\"|\.h: |kernelevo")


def _names_torch(error: Diagnostic, source: str) -> bool:
    """Whether an error may come from what our declarations of torch lack."""
    if error.line is None or _TORCH_NAMES.search(error.text):
        return True
    line = source.splitlines()[error.line - 1 : error.line]
    return _UNKNOWN_NAME.search(error.text) is not None and any(map(_TORCH_NAMES.search, line))


def _device_only(
    source: str, target: str, toolchain: Toolchain, headers: passes.Headers, work: Path
) -> list[Diagnostic]:
    """Errors of the device pass on the whole source: a plain mistake need not wait for the standard build."""
    (work / SOURCE_NAME).write_bytes(DEVICE_LINE + source.encode())
    command = [*passes.device_command(toolchain, headers, target, work), SOURCE_NAME, "-o", "candidate.ptx"]
    finished = processes.run(
        command, folder=work, timeout_seconds=SPLIT_SECONDS, reads=passes.readable(toolchain, work)
    )
    if finished.status is None:
        return [_out_of_time(SPLIT_SECONDS, "device")]
    if finished.status == 0:
        return []
    return [d for d in words.read_nvcc(finished.output, unchanged(source), "device") if d.severity == "error"]


# --- standard build -------------------------------------------------------------------------------------------------


def _standard(source: str, target: str, toolchain: Toolchain, cache: Path, work: Path, *, reason: str) -> Build:
    (work / SOURCE_NAME).write_bytes(DEVICE_LINE + source.encode())
    (work / "kept").mkdir()
    outcome = functools.partial(
        _blank,
        target,
        toolchain,
        flags=standard.standard_flags(target),
        fallback_reason=None if reason == "asked for" else reason,
    )
    steps = standard.steps(toolchain, target)
    with folders.slot(cache, "standard", standard.AT_ONCE):
        finished = passes.run_steps(toolchain, steps, work, timeout_seconds=STANDARD_SECONDS)
    if finished.status is None:
        return outcome(diagnostics=[_out_of_time(STANDARD_SECONDS, "device")])
    said = _read_logs(work, steps)
    kept = sorted((work / "kept").glob("*.ptx"))
    if finished.status != 0 or not kept:
        short = _out_of_memory(work)
        return outcome(diagnostics=[short] if short else said or [words.unread(finished.output, "device")])
    kept[0].rename(work / "candidate.ptx")
    assemble = passes.ptxas_step(toolchain, target, "candidate.ptx")
    assembled = processes.run(
        assemble.command, folder=work, timeout_seconds=SPLIT_SECONDS, reads=passes.readable(toolchain, work)
    )
    return outcome(
        method=BuildMethod.STANDARD,
        artifact=work / f"{MODULE}.so",
        ptx=work / "candidate.ptx",
        resources=read_resources(assembled.output),
        diagnostics=said,
    )


# --- records --------------------------------------------------------------------------------------------------------

_OUT_OF = ("out of time: ", "out of memory: ")


def _out_of_time(seconds: float, stage: str) -> Diagnostic:
    text = f"out of time: compilation took more than {seconds:.0f} seconds and was ended"
    return Diagnostic(severity="error", line=None, column=None, text=text, stage=stage)


def _out_of_memory(work: Path) -> Diagnostic | None:
    """A compiler that the machine or its limit killed, from the words it left."""
    for log in sorted(work.glob("*.log")):
        text, step = log.read_text(errors="replace"), log.stem
        if re.search(r"out of memory|bad_alloc|virtual memory exhausted|cannot allocate memory|\bKilled\b", text, re.I):
            last = text.strip().splitlines()[-1][:200]
            return Diagnostic(severity="error", line=None, column=None, text=f"out of memory: {last}", stage=step)
        if re.search(r"No space left on device", text):
            raise ToolchainError(
                f"the disk is full: {text.strip().splitlines()[-1][:200]}", next_step=f"make room in {work.parent}"
            )
    return None


def _blank(
    target: str,
    toolchain: Toolchain,
    *,
    method: BuildMethod | None = None,
    fallback_reason: str | None = None,
    flags: tuple[str, ...] = (),
    artifact: Path | None = None,
    ptx: Path | None = None,
    resources: Sequence[object] = (),
    diagnostics: Sequence[Diagnostic] = (),
) -> Build:
    host = toolchain.host
    return Build(
        candidate="",
        target=target,
        method=method,
        fallback_reason=fallback_reason,
        flags=flags,
        compiler=f"nvcc {toolchain.nvcc.version}, {host.family} {host.version}, torch {toolchain.torch.version}",
        artifact=artifact,
        ptx=ptx,
        resources=tuple(resources),  # type: ignore[arg-type]
        diagnostics=words.trim(diagnostics),
        cached=False,
        seconds=0.0,
    )


def _empty(work: Path) -> None:
    """Removes what the split build left, but for the lock."""
    for path in work.iterdir():
        if path.name == "lock":
            continue
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink()
