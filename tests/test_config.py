"""Settings: file, environment and arguments, in that order of precedence, and errors that name their origin."""

from __future__ import annotations

from pathlib import Path

import pytest

from kernelevo.config import read_settings, secrets_present
from kernelevo.errors import ConfigError


def test_environment_overrides_file_and_arguments_override_both(tmp_path: Path) -> None:
    (tmp_path / "kernelevo.toml").write_text('parallel = 3\nmemory_gib = 1\ncache = "a"\n')
    settings = read_settings(tmp_path, {"KERNELEVO_PARALLEL": "5", "KERNELEVO_CACHE": "b"}, cache=Path("c"))
    assert (settings.parallel, settings.memory_bytes, settings.cache) == (5, 2**30, Path("c"))


def test_a_wrong_value_in_the_file_is_named(tmp_path: Path) -> None:
    (tmp_path / "kernelevo.toml").write_text("parallel = 0\n")
    with pytest.raises(ConfigError, match=r"kernelevo\.toml: parallel = 0: .*greater than 0"):
        read_settings(tmp_path, {})


def test_a_wrong_environment_variable_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"KERNELEVO_TIMEOUT_SECONDS.*soon"):
        read_settings(tmp_path, {"KERNELEVO_TIMEOUT_SECONDS": "soon"})


def test_the_sandbox_is_best_effort_unless_it_is_required() -> None:
    assert read_settings(Path("/"), {}).sandbox == "best-effort"
    assert read_settings(Path("/"), {"KERNELEVO_SANDBOX": "required"}).sandbox == "required"
    with pytest.raises(ConfigError, match=r"KERNELEVO_SANDBOX.*'off'.*'required' or 'best-effort'"):
        read_settings(Path("/"), {"KERNELEVO_SANDBOX": "off"})


def test_an_unknown_key_is_refused(tmp_path: Path) -> None:
    (tmp_path / "kernelevo.toml").write_text("paralel = 2\n")
    with pytest.raises(ConfigError, match="paralel"):
        read_settings(tmp_path, {})


def test_broken_toml_is_refused_with_its_place(tmp_path: Path) -> None:
    (tmp_path / "kernelevo.toml").write_text("parallel = \n")
    with pytest.raises(ConfigError, match=r"not valid TOML.*line 1"):
        read_settings(tmp_path, {})


def test_keys_are_reported_as_present_or_not_and_never_shown() -> None:
    assert secrets_present({"OPENAI_API_KEY": "sk-secret"}) == {"ANTHROPIC_API_KEY": False, "OPENAI_API_KEY": True}
