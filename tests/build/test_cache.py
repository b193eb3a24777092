"""The cache keeps whole builds, one of each, whoever else is building."""

from __future__ import annotations

import errno
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest

from kernelevo.build import build, processes, warm
from kernelevo.build import cache as folders
from kernelevo.errors import ToolchainError
from kernelevo.records import Build, BuildMethod, Candidate, Diagnostic, KernelResources
from kernelevo.toolchain import Toolchain

SOURCE = """\
#include <torch/extension.h>
__global__ void k(float* x) { x[threadIdx.x] += %d; }
torch::Tensor forward(torch::Tensor x) {
  k<<<1, 32>>>(x.data_ptr<float>());
  return x;
}
PYBIND11_MODULE(TORCH_EXTENSION_NAME, m) { m.def("forward", &forward, "f"); }
"""
BUILDER = """
import sys
from pathlib import Path
from kernelevo.build import build
from kernelevo.records import Candidate
from kernelevo.toolchain import find_toolchain
result = build(Candidate(source=Path(sys.argv[1]).read_text(), entry="forward"), target="sm_90",
               toolchain=find_toolchain(), cache=Path(sys.argv[2]))
print(result.artifact)
"""


def build_for_test(folder: Path) -> Build:
    return Build(
        candidate="c-1",
        target="sm_90",
        method=BuildMethod.SPLIT,
        fallback_reason=None,
        flags=("-O3",),
        compiler="nvcc",
        artifact=folder / "kernelevo_candidate.so",
        ptx=folder / "candidate.ptx",
        resources=(
            KernelResources(
                kernel="k",
                registers=8,
                shared_bytes=1,
                local_bytes=2,
                spill_store_bytes=3,
                spill_load_bytes=4,
                constant_bytes=5,
            ),
        ),
        diagnostics=(Diagnostic(severity="warning", line=1, column=2, text="t", stage="device"),),
        cached=False,
        seconds=1.0,
    )


def stored(root: Path) -> tuple[Path, Build]:
    """A build put into the cache under `root`."""
    folder = root / "builds" / "key"
    with folders.work_folder(root) as work:
        for name in ("kernelevo_candidate.so", "candidate.ptx", "host.o"):
            (work / name).write_text(name)
        folders.store(work, folder, build_for_test(work))
    return folder, build_for_test(folder)


def test_what_was_stored_is_loaded(tmp_path: Path) -> None:
    folder, expected = stored(tmp_path)
    assert folders.load(folder) == replace(expected, candidate="", cached=True, seconds=0.0)
    assert not (folder / "host.o").exists()
    assert not any((tmp_path / "work").iterdir())


def test_the_second_of_two_equal_builds_gives_way_to_the_first(tmp_path: Path) -> None:
    folder, _ = stored(tmp_path)
    (folder / "kernelevo_candidate.so").write_text("first")
    stored(tmp_path)
    assert (folder / "kernelevo_candidate.so").read_text() == "first"
    assert not any((tmp_path / "work").iterdir())


@pytest.mark.parametrize("damage", ["no artifact", "torn record", "another version's record"])
def test_a_damaged_entry_is_removed_and_counts_as_absent(tmp_path: Path, damage: str) -> None:
    folder, _ = stored(tmp_path)
    record = folder / "build.json"
    if damage == "no artifact":
        (folder / "kernelevo_candidate.so").unlink()
    elif damage == "torn record":
        record.write_text(record.read_text()[:50])
    else:
        fields = json.loads(record.read_text())
        del fields["flags"]
        record.write_text(json.dumps(fields))
    assert folders.load(folder) is None
    assert not folder.exists()


def test_an_entry_that_cannot_be_read_just_now_is_kept_and_is_an_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, _ = stored(tmp_path)

    def no_more_files(*_: object, **__: object) -> str:
        raise OSError(errno.EMFILE, os.strerror(errno.EMFILE), str(folder / "build.json"))

    with monkeypatch.context() as patch, pytest.raises(ToolchainError, match="Too many open files"):
        patch.setattr(Path, "read_text", no_more_files)
        with folders.writable(tmp_path):
            folders.load(folder)
    assert folders.load(folder) is not None


@pytest.mark.nvcc
@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("cannot write prelude.pch: No space left on device", r"the disk is full: .*550 MB.*\n  next: make room"),
        ("unknown type name 'Tensor'", r"cannot precompile torch's headers: unknown type name 'Tensor'\n"),
    ],
)
def test_headers_that_cannot_be_precompiled_say_why_and_leave_nothing(
    tmp_path: Path, toolchain: Toolchain, words: str, message: str
) -> None:
    compiler = tmp_path / "compiler"
    compiler.write_text(f'#!/bin/sh\necho half > include/host/kernelevo/prelude.pch\necho "{words}" >&2\nexit 1\n')
    compiler.chmod(0o755)
    failing = replace(toolchain, host=replace(toolchain.host, path=compiler))
    with pytest.raises(ToolchainError, match=message):
        warm(failing, tmp_path / "cache")
    assert [path.suffix for path in (tmp_path / "cache" / "host").iterdir()] == [".lock"]


def test_a_work_folder_goes_when_its_owner_dies_and_stays_while_it_lives(tmp_path: Path) -> None:
    program = (
        "import sys, time\nfrom pathlib import Path\nfrom kernelevo.build import cache\n"
        "with cache.work_folder(Path(sys.argv[1])) as work:\n    print(work, flush=True)\n    time.sleep(600)\n"
    )
    owner = subprocess.Popen([sys.executable, "-c", program, tmp_path], stdout=subprocess.PIPE, text=True)
    assert owner.stdout is not None
    orphan = Path(owner.stdout.readline().strip())
    with folders.work_folder(tmp_path) as mine:
        assert orphan.exists() and mine != orphan
    owner.kill()
    owner.wait()
    with folders.work_folder(tmp_path):
        assert not orphan.exists()


def test_a_cache_that_cannot_be_written_is_the_users_to_mend(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    message = r"the build cache cannot be used: .*file.*\n  next: .*KERNELEVO_CACHE"
    with (
        pytest.raises(ToolchainError, match=message),
        folders.writable(tmp_path),
        folders.work_folder(tmp_path / "file"),
    ):
        pass


def test_more_standard_builds_than_slots_wait(tmp_path: Path) -> None:
    with folders.slot(tmp_path, "standard", 2), folders.slot(tmp_path, "standard", 2):
        program = (
            "import sys\nfrom pathlib import Path\nfrom kernelevo.build import cache\n"
            "with cache.slot(Path(sys.argv[1]), 'standard', 2):\n    print('in', flush=True)\n"
        )
        third = subprocess.Popen([sys.executable, "-c", program, tmp_path], stdout=subprocess.PIPE, text=True)
        with pytest.raises(subprocess.TimeoutExpired):
            third.wait(timeout=1.0)
    assert third.communicate(timeout=60)[0] == "in\n"


def test_a_command_that_takes_too_long_is_ended_with_all_it_started(tmp_path: Path) -> None:
    # A child in a process group of its own, as ninja's children are.
    script = "setsid_free() { sh -c 'echo $$ > child; exec sleep 600' & }; set -m; setsid_free; sleep 600"
    finished = processes.run(["bash", "-c", script], folder=tmp_path, timeout_seconds=3.0)
    assert finished.status is None
    child = int((tmp_path / "child").read_text())
    deadline = time.perf_counter() + 30
    while Path(f"/proc/{child}").exists() and time.perf_counter() < deadline:
        if "\nState:\tZ" in Path(f"/proc/{child}/status").read_text():
            break
        time.sleep(0.05)
    else:
        assert not Path(f"/proc/{child}").exists()


@pytest.mark.nvcc
def test_two_processes_building_the_same_thing_both_have_it(cache: Path, tmp_path: Path) -> None:
    source = tmp_path / "candidate.cu"
    source.write_text(SOURCE % 1)
    command = [sys.executable, "-c", BUILDER, source, cache]
    both = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    artifacts = {process.communicate()[0].strip() for process in both}
    assert len(artifacts) == 1 and Path(artifacts.pop()).is_file()
    assert [process.returncode for process in both] == [0, 0]
    assert len(list((cache / "builds").iterdir())) == 1 and not any((cache / "work").iterdir())


@pytest.mark.nvcc
@pytest.mark.skipif(shutil.which("setpriv") is None, reason="needs setpriv of util-linux")
def test_a_builder_that_is_killed_leaves_no_process_and_no_folder(
    cache: Path, tmp_path: Path, toolchain: Toolchain
) -> None:
    fifo = tmp_path / "never_written.h"
    os.mkfifo(fifo)  # whoever reads it waits forever
    source = tmp_path / "candidate.cu"
    source.write_text(f'#include "{fifo}"\n' + SOURCE % 2)
    builder = subprocess.Popen([sys.executable, "-c", BUILDER, source, cache], stdout=subprocess.PIPE)
    while len([command for command in using(cache) if "cc1plus" in command or "clang" in command]) < 2:
        assert builder.poll() is None
        time.sleep(0.05)
    os.kill(builder.pid, signal.SIGKILL)
    builder.wait()
    deadline = time.perf_counter() + 30
    while using(cache) and time.perf_counter() < deadline:
        time.sleep(0.1)
    assert not using(cache)
    candidate = Candidate(source=SOURCE % 2, entry="forward")
    assert build(candidate, target="sm_90", toolchain=toolchain, cache=cache).succeeded
    assert not any((cache / "work").iterdir())


def no_compiler(*_: object, **__: object) -> None:
    pytest.fail("a compiler was started")


def using(folder: Path) -> list[str]:
    """Processes that work inside `folder`."""
    found = []
    for entry in Path("/proc").iterdir():
        try:
            if entry.name.isdigit() and Path(os.readlink(entry / "cwd")).is_relative_to(folder):
                found.append((entry / "cmdline").read_text())
        except OSError:
            continue
    return found


@pytest.mark.nvcc
def test_the_cache_tells_sources_and_targets_apart_and_entries_not(
    cache: Path, toolchain: Toolchain, monkeypatch: pytest.MonkeyPatch
) -> None:
    def get(source: str, target: str = "sm_90", entry: str = "forward") -> Build:
        return build(Candidate(source=source, entry=entry), target=target, toolchain=toolchain, cache=cache)

    first = get(SOURCE % 3)
    with monkeypatch.context() as patch:
        patch.setattr(processes, "run", no_compiler)
        again = get(SOURCE % 3)
    assert (first.cached, again.cached) == (False, True)
    assert replace(first, cached=True, seconds=0.0) == replace(again, seconds=0.0)
    other = get(SOURCE % 3, target="sm_80")
    assert not other.cached and other.artifact != first.artifact and other.ptx is not None
    assert ".target sm_80" in other.ptx.read_text()


@pytest.mark.nvcc
def test_a_failed_build_is_cached_with_its_diagnostics(cache: Path, toolchain: Toolchain) -> None:
    candidate = Candidate(source=(SOURCE % 4).replace("threadIdx", "threadIdy"), entry="forward")
    first, again = (build(candidate, target="sm_90", toolchain=toolchain, cache=cache) for _ in range(2))
    assert not first.succeeded and not first.cached and again.cached
    assert again.diagnostics == first.diagnostics and first.diagnostics[0].line == 2
