"""Code kept on disk: a file that is not whole is as good as none, and a failed write leaves nothing behind."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from kernelevo.emulator import jit


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    before = jit.kept_in()
    jit.keep_in(tmp_path)
    yield tmp_path
    jit.keep_in(before)


def test_what_was_kept_is_read_back(folder: Path) -> None:
    jit.write("kernel", {"frame_bytes": 7}, b"code")
    assert jit.read("kernel") == ({"frame_bytes": 7}, b"code")
    assert jit.read("another") is None


def test_a_file_cut_anywhere_is_not_read(folder: Path) -> None:
    jit.write("kernel", {"frame_bytes": 7}, b"code" * 5)
    whole = (folder / "kernel").read_bytes()
    for length in range(len(whole)):
        (folder / "kernel").write_bytes(whole[:length])
        assert jit.read("kernel") is None, length


def test_a_file_with_a_changed_byte_is_not_read(folder: Path) -> None:
    jit.write("kernel", {"frame_bytes": 7}, b"code" * 5)
    whole = (folder / "kernel").read_bytes()
    for place in range(len(whole)):
        changed = bytearray(whole)
        changed[place] ^= 1
        (folder / "kernel").write_bytes(changed)
        assert jit.read("kernel") is None, place


def test_a_failed_write_leaves_no_file(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(_from: object, _to: object) -> None:
        raise OSError("no space left on device")

    monkeypatch.setattr(jit.os, "replace", full)
    jit.write("kernel", {}, b"code")
    assert list(folder.iterdir()) == []
