from collections.abc import Callable, Sequence
from typing import Any

cuda: Any

class Kernel:
    address: int
    def __init__(
        self,
        *,
        converged: int,
        diverged: int,
        make_diverged: Callable[[], int] | None,
        globals: int,
        frame_bytes: int,
        shared_bytes: int,
        local_bytes: int,
        params_bytes: int,
        block: tuple[int, int, int],
        grid_limit: tuple[int, int, int],
        fixed_order: bool,
    ) -> None: ...

class LaunchReport:
    status: int
    site: int
    block: tuple[int, int, int]
    warp: int
    blocks_run: int
    message: str

def launch(
    kernel: Kernel,
    *,
    grid: tuple[int, int, int],
    shared_bytes: int,
    params: int,
    threads: int,
    time_limit_seconds: float,
    sample_blocks: Sequence[int] | None,
    hooks: Sequence[int],
    observer: int,
    cooperative: bool,
    schedule: int,
    watcher: int,
) -> LaunchReport: ...

class Checker:
    observer: int
    races_left_out: bool
    watcher: int
    hooks: list[int]
    def __init__(
        self,
        *,
        sites: Sequence[dict[str, Any]],
        races: bool,
        threads: tuple[int, int, int],
        local_bytes: int,
        local_stride: int,
        variables: Sequence[tuple[int, int, bool, str]],
    ) -> None: ...
    def findings(self) -> list[dict[str, Any]]: ...

class Counter:
    address: int
    hooks: list[int]
    block_read_sectors: int
    warp_read_sectors: int
    hottest_of_one: int
    hottest_of_several: int
    def __init__(self, sites: Sequence[tuple[int, bool, bool, int]], basic_blocks: int) -> None: ...
    def sites(self) -> list[tuple[int, int, int, int, int, int]]: ...
    def blocks(self) -> tuple[list[int], list[int]]: ...
    def reuse(self) -> list[int]: ...
    def footprints(self) -> list[tuple[int, int, int, int, int]]: ...
