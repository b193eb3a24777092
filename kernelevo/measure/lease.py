"""One measurement at a time on each GPU of a machine: a locked file per GPU, shared by all users of the machine.

Takes the GPU's UUID, gives a context. The kernel releases the lock when the process ends, however it ends. What does
not ask for the lease (another program) is not kept out; blocks in which it slowed the clock are dropped elsewhere.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import re
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from kernelevo.errors import WorkerError

FOLDER = Path("/tmp/kernelevo-gpus")
WAIT_SECONDS = 600.0
_LOOK_SECONDS = 0.05


@contextlib.contextmanager
def lease(
    uuid: str,
    *,
    folder: Path = FOLDER,
    wait_seconds: float = WAIT_SECONDS,
    clock: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], None] = time.sleep,
) -> Iterator[None]:
    """Holds the GPU with this UUID for timing; raises WorkerError when somebody else does for wait_seconds."""
    folder.mkdir(exist_ok=True)
    with contextlib.suppress(PermissionError):
        folder.chmod(0o1777)  # whoever comes first makes it for everybody
    path = folder / re.sub(r"[^\w.-]", "_", uuid)
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o666)
    try:
        deadline = clock() + wait_seconds
        while not _locked(descriptor):
            if clock() >= deadline:
                raise WorkerError(
                    f"GPU {uuid} is being timed by another process ({path}), for {wait_seconds:g} s already",
                    next_step="wait for the other evaluation, or end it",
                )
            sleep(_LOOK_SECONDS)
        yield
    finally:
        os.close(descriptor)


def _locked(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
