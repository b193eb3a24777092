"""LLVM IR -> native code, kept on disk by content.

compile_module gives an object file; load makes its function callable. Objects name no outside symbols (generated code
calls C through tables in memory), so that they can be loaded in any process. Files are written whole and renamed, so
several processes may share the folder. Each carries a digest of itself: a truncated or damaged one is not read.
"""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Any

import llvmlite
import llvmlite.binding as llvm
from llvmlite import ir

GIANT = 20_000  # lines of LLVM IR from which on looking for common values takes longer than it saves


@cache
def _target() -> llvm.Target:
    llvm.initialize_native_target()
    llvm.initialize_native_asmprinter()
    return llvm.Target.from_default_triple()


@cache
def _target_machine() -> llvm.TargetMachine:
    llvm.initialize_native_target()
    llvm.initialize_native_asmprinter()
    return llvm.Target.from_default_triple().create_target_machine(
        cpu=_cpu(), features=_features(), opt=2, reloc="pic", codemodel="jitdefault", jit=True
    )


@cache
def _cpu() -> str:
    return str(llvm.get_host_cpu_name())


@cache
def _features() -> str:
    return str(llvm.get_host_cpu_features().flatten())


def compile_module(module: ir.Module) -> bytes:
    """An object file for this machine."""
    text = str(module)
    parsed = llvm.parse_assembly(text)
    machine = _target_machine()
    builder = llvm.create_pass_builder(machine, llvm.create_pipeline_tuning_options(speed_level=2))
    passes = llvm.create_new_module_pass_manager()
    passes.add_sroa_pass()
    passes.add_instruction_combine_pass()
    passes.add_simplify_cfg_pass()
    if text.count("\n") < GIANT:
        passes.add_new_gvn_pass()
        passes.add_instruction_combine_pass()
    passes.add_dead_code_elimination_pass()
    passes.run(parsed, builder)
    return bytes(machine.emit_object(parsed))


_engines: list[llvm.ExecutionEngine] = []  # code lives as long as the process


def load(code: bytes, function: str) -> int:
    """The address of `function` in an object file. The code stays loaded."""
    machine = _target().create_target_machine(cpu=_cpu(), features=_features(), jit=True)
    engine = llvm.create_mcjit_compiler(llvm.parse_assembly(""), machine)
    engine.add_object_file(llvm.ObjectFileRef.from_data(code))
    engine.finalize_object()
    _engines.append(engine)
    return int(engine.get_function_address(function))


# --- on disk


@cache
def _own_source() -> str:
    """A hash of everything that decides what code comes out: this package, LLVM and the machine."""
    digest = hashlib.sha256()
    folder = Path(__file__).parent
    for path in sorted((*folder.glob("*.py"), *folder.glob("rules/*.py"))):
        digest.update(path.read_bytes() + b"\0")
    digest.update(f"{llvmlite.__version__} {llvm.llvm_version_info} {_cpu()} {_features()}".encode())
    return digest.hexdigest()


def key(*parts: str) -> str:
    """The name under which code made from `parts` is kept."""
    digest = hashlib.sha256(b"kernelevo emulator 1\0")
    for part in (_own_source(), *parts):
        digest.update(f"{len(part)}:".encode() + part.encode())
    return digest.hexdigest()


_kept_in: Path | None = None


def keep_in(folder: Path | None) -> None:
    """Keeps code in `folder` from now on; None: where `folder()` says by itself."""
    global _kept_in  # noqa: PLW0603
    _kept_in = folder


def kept_in() -> Path | None:
    """What `keep_in` was given last."""
    return _kept_in


def folder() -> Path:
    """Where code is kept: what `keep_in` was given, or $KERNELEVO_CACHE, or the user's cache folder."""
    if _kept_in is not None:
        return _kept_in
    root = (
        os.environ.get("KERNELEVO_CACHE")
        or Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "kernelevo"
    )
    return Path(root) / "emulator"


_DIGEST_BYTES = hashlib.sha256().digest_size


def read(name: str) -> tuple[dict[str, Any], bytes] | None:
    """The facts and the code kept under `name`; None when there are none, or the file is not whole."""
    try:
        whole = (folder() / name).read_bytes()
        digest, rest = whole[:_DIGEST_BYTES], whole[_DIGEST_BYTES:]
        if hashlib.sha256(rest).digest() != digest:
            return None
        length = int.from_bytes(rest[:4], "little")
        return json.loads(rest[4 : 4 + length]), rest[4 + length :]
    except (OSError, ValueError):
        return None


def write(name: str, facts: dict[str, Any], code: bytes) -> None:
    """Keeps facts and code. A folder that cannot be written costs time, nothing else."""
    head = json.dumps(facts).encode()
    rest = len(head).to_bytes(4, "little") + head + code
    try:
        folder().mkdir(parents=True, exist_ok=True)
        handle, path = tempfile.mkstemp(dir=folder())
    except OSError:
        return
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(hashlib.sha256(rest).digest() + rest)
        os.replace(path, folder() / name)
    except OSError:
        with suppress(OSError):
            os.unlink(path)
