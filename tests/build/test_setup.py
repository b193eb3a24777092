"""Which extensions an installation builds. The builds of torch are told apart by what torch says of itself."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent.parent
SCRIPT = """
import sys
import torch
torch.version.cuda = sys.argv.pop(1) or None
import setuptools, distutils.core
found = distutils.core.run_setup("setup.py", stop_after="init")
print(" ".join(sorted(extension.name.rpartition(".")[2] for extension in found.ext_modules)))
"""


@pytest.mark.parametrize(
    ("cuda", "extensions"), [("", "_cuda _operators _runtime _tensors"), ("13.0", "_cuda _operators _runtime")]
)
def test_a_cuda_build_of_torch_gets_everything_but_the_emulators_tensors(cuda: str, extensions: str) -> None:
    command = [sys.executable, "-W", "ignore", "-c", SCRIPT, cuda]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert (done.stdout.strip(), done.returncode) == (extensions, 0), done.stderr
