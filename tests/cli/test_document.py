"""docs/cli.md is what the commands themselves say."""

from __future__ import annotations

from pathlib import Path

from kernelevo.cli.document import reference
from kernelevo.config import Settings

DOCS = Path(__file__).resolve().parents[2] / "docs"


def test_the_reference_of_the_command_line_is_up_to_date() -> None:
    assert (DOCS / "cli.md").read_text() == reference(), "run: python -m kernelevo.cli.document docs"


def test_it_names_every_command_setting_and_exit_code_in_whole_sentences() -> None:
    text = reference()
    for command in ("evolve", "archive merge", "tasks lint", "bench loop", "emulator check", "replay", "tell"):
        assert f"## `kernelevo {command}`" in text
    for name, setting in Settings.model_fields.items():
        assert f"\n| {setting.alias or name} | " in text
    assert not [line for line in text.splitlines() if line.endswith("...") and not line.startswith("$ ")]
