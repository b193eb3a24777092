"""The content-addressed build cache: one folder per build, complete or absent.

    <cache>/builds/<key>/     build.json, and of a build that succeeded the artifact, PTX and cubin
    <cache>/host/<key>/       our headers and the precompiled header of one host compiler
    <cache>/work/<random>/    builds under way, each locked by its owner for as long as it lives

Takes keys and finished folders. A finished folder is renamed into place, so readers never see half of one, and of two
processes building the same thing the second finds the first one's. A folder under work/ whose lock is free belongs to
nobody and is removed. Nothing limits the cache's size; removing the whole folder is always safe when nothing builds.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import shutil
import tempfile
import time
from collections.abc import Iterator, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from kernelevo.errors import ToolchainError
from kernelevo.records import Build, BuildMethod, Diagnostic, KernelResources

RECORD = "build.json"
KEPT = frozenset({RECORD, "candidate.cu", "candidate.ptx", "candidate.cubin", "kernelevo_candidate.so"})
_LOCK = "lock"


def load(folder: Path) -> Build | None:
    """The build kept in a folder; None when there is none, or when part of it has gone.

    Raises OSError when the folder cannot be read just now: the build in it may be whole, and in use.
    """
    try:
        stored: dict[str, Any] = json.loads((folder / RECORD).read_text())
        build = _build_from(stored, folder)
    except FileNotFoundError:
        return None
    except (ValueError, KeyError, TypeError):
        shutil.rmtree(folder, ignore_errors=True)  # a damaged file system's remains; build it again
        return None
    for path in (build.artifact, build.ptx):
        if path is not None and not path.is_file():
            shutil.rmtree(folder, ignore_errors=True)
            return None
    return build


def store(work: Path, folder: Path, build: Build) -> None:
    """Writes the record of a finished build and moves its folder into place, unless another process was first."""
    (work / RECORD).write_text(json.dumps(_build_to(build), indent=1))
    for path in work.iterdir():
        if path.name not in KEPT:
            path.unlink() if path.is_file() else shutil.rmtree(path)
    folder.parent.mkdir(parents=True, exist_ok=True)
    # Fails when `folder` is there already: another process was first, and its build is as good.
    with contextlib.suppress(OSError):
        work.rename(folder)


@contextlib.contextmanager
def work_folder(cache: Path) -> Iterator[Path]:
    """A folder of our own on the cache's file system, gone afterwards unless it was moved."""
    root = cache / "work"
    root.mkdir(parents=True, exist_ok=True)
    with contextlib.ExitStack() as stack:
        with locked(cache / "work.lock"):  # nobody may look at a folder between its making and its locking
            _remove_orphans(root)
            folder = Path(tempfile.mkdtemp(dir=root))
            lock = stack.enter_context(open(folder / _LOCK, "w"))
            fcntl.flock(lock, fcntl.LOCK_EX)
        try:
            yield folder
        finally:
            shutil.rmtree(folder, ignore_errors=True)


@contextlib.contextmanager
def locked(path: Path) -> Iterator[None]:
    """Holds a lock between processes; it ends with its holder, however that ends."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


@contextlib.contextmanager
def slot(cache: Path, name: str, count: int) -> Iterator[None]:
    """Holds one of `count` places that all processes share."""
    cache.mkdir(parents=True, exist_ok=True)
    with contextlib.ExitStack() as stack:
        files = [stack.enter_context(open(cache / f"{name}-{index}.lock", "w")) for index in range(count)]
        while not any(_try_lock(file) for file in files):
            time.sleep(0.2)
        yield


@contextlib.contextmanager
def writable(cache: Path) -> Iterator[None]:
    """Turns what the disk refuses into a ToolchainError."""
    try:
        yield
    except OSError as error:
        where = error.filename or cache
        raise ToolchainError(
            f"the build cache cannot be used: {where}: {error.strerror or error}",
            next_step=f"make room in {cache}, or name another folder with KERNELEVO_CACHE",
        ) from error


def _try_lock(file: Any) -> bool:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True


def _remove_orphans(root: Path) -> None:
    for folder in root.iterdir():
        try:
            with open(folder / _LOCK) as lock:
                free = _try_lock(lock)
        except OSError:
            # No lock: about to be moved into place, or left behind long ago.
            try:
                free = time.time() - folder.stat().st_mtime > 3600
            except OSError:
                continue
        if free:
            shutil.rmtree(folder, ignore_errors=True)


def _build_to(build: Build) -> Mapping[str, Any]:
    return {
        "target": build.target,
        "method": build.method.value if build.method else None,
        "fallback_reason": build.fallback_reason,
        "flags": build.flags,
        "compiler": build.compiler,
        "artifact": build.artifact.name if build.artifact else None,
        "ptx": build.ptx.name if build.ptx else None,
        "resources": [asdict(kernel) for kernel in build.resources],
        "diagnostics": [asdict(diagnostic) for diagnostic in build.diagnostics],
        "seconds": build.seconds,
    }


def _build_from(stored: Mapping[str, Any], folder: Path) -> Build:
    """`candidate` and `seconds` are the caller's: the same build may serve several."""
    return Build(
        candidate="",
        target=stored["target"],
        method=BuildMethod(stored["method"]) if stored["method"] else None,
        fallback_reason=stored["fallback_reason"],
        flags=tuple(stored["flags"]),
        compiler=stored["compiler"],
        artifact=folder / stored["artifact"] if stored["artifact"] else None,
        ptx=folder / stored["ptx"] if stored["ptx"] else None,
        resources=tuple(KernelResources(**kernel) for kernel in stored["resources"]),
        diagnostics=tuple(Diagnostic(**diagnostic) for diagnostic in stored["diagnostics"]),
        cached=True,
        seconds=0.0,
    )
