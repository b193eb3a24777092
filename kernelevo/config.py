"""Settings: kernelevo.toml in the working directory, then environment variables, then defaults.

This is the only module that reads the environment. Settings are read once and passed on.

| kernelevo.toml | environment | meaning |
|---|---|---|
| cache | KERNELEVO_CACHE | folder of built candidates and compiled emulator code |
| archive | KERNELEVO_ARCHIVE | path of the SQLite archive, or a URL: postgresql+psycopg://... |
| tasks | KERNELEVO_TASKS | folder of task folders; by default those that come with kernelevo |
| host_compiler | KERNELEVO_HOST_COMPILER | compiler of candidates' host code: clang++ or g++ |
| timeout_seconds | KERNELEVO_TIMEOUT_SECONDS | longest call of a candidate on one case |
| memory_gib | KERNELEVO_MEMORY_GIB | memory limit of a worker |
| sandbox | KERNELEVO_SANDBOX | required: run nothing where a protection is missing; best-effort: with what there is |
| parallel | KERNELEVO_PARALLEL | candidates evaluated at the same time |
| proposals | KERNELEVO_PROPOSALS | requests to models under way at the same time |
| device_usd_per_hour | KERNELEVO_DEVICE_USD_PER_HOUR | of the device: judges are asked only where that saves money |
| prices | | table: US dollars per million tokens, for example "openai:MODEL" = { input = 1, output = 4 } |
"""

from __future__ import annotations

import os
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from kernelevo.errors import ConfigError
from kernelevo.records import Price

FILE_NAME = "kernelevo.toml"
ROOT = Path(__file__).resolve().parent.parent  # of the checkout, in an editable install


def default_archive() -> str:
    """db/kernelevo.sqlite of the checkout; in an ordinary install, the working directory's."""
    home = ROOT / "db"
    return str((home if (ROOT / "pyproject.toml").exists() else Path.cwd()) / "kernelevo.sqlite")


class OwnPrice(BaseModel):
    """One line of [prices], in US dollars per million tokens."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    input: float = Field(ge=0)
    cached: float | None = Field(default=None, ge=0)  # None: as input
    output: float = Field(ge=0)


class Settings(BaseModel):
    """Everything a user may set outside the command line."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    cache: Path = Field(default_factory=lambda: Path.home() / ".cache" / "kernelevo")
    archive: str = Field(default_factory=default_archive)
    tasks: Path | None = None
    host_compiler: str | None = None
    timeout_seconds: float = Field(default=20.0, gt=0)
    memory_gib: float = Field(default=8.0, gt=0)
    sandbox: Literal["required", "best-effort"] = "best-effort"
    parallel: int = Field(default_factory=lambda: os.cpu_count() or 1, gt=0)
    proposals: int = Field(default=4, gt=0)
    device_usd_per_hour: float | None = Field(default=None, gt=0)
    own_prices: Mapping[str, OwnPrice] = Field(default_factory=dict, alias="prices")

    @field_validator("archive", "cache", "tasks")
    @classmethod
    def expand_home(cls, value: str | Path | None) -> str | Path | None:
        """~ is the home folder."""
        return value if value is None else type(value)(os.path.expanduser(value))

    @property
    def prices(self) -> dict[str, Price]:
        """The user's own prices, by the model's name without options."""
        return {
            name: Price(
                input_usd=own.input, cached_usd=own.input if own.cached is None else own.cached, output_usd=own.output
            )
            for name, own in self.own_prices.items()
        }

    @property
    def memory_bytes(self) -> int:
        return int(self.memory_gib * 2**30)


def read_settings(
    folder: Path | None = None, environment: Mapping[str, str] | None = None, **overrides: object
) -> Settings:
    """Settings from `folder`/kernelevo.toml, overridden by KERNELEVO_* variables, overridden by `overrides`.

    Overrides that are None are ignored. Raises ConfigError naming file or variable, key, value and what was expected.
    """
    path = (folder or Path.cwd()) / FILE_NAME
    environment = os.environ if environment is None else environment
    values: dict[str, object] = {}
    origin: dict[str, str] = {}
    if path.exists():
        try:
            values = tomllib.loads(path.read_text())
        except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
            raise ConfigError(f"{path}: not valid TOML: {error}", next_step="correct the file or remove it") from error
        except OSError as error:
            raise ConfigError(
                f"{path}: cannot be read: {error.strerror}", next_step="make it a readable file"
            ) from error
        origin = dict.fromkeys(values, str(path))
    for key in Settings.model_fields.keys() - {"own_prices"}:
        variable = f"KERNELEVO_{key.upper()}"
        if variable in environment:
            values[key] = environment[variable]
            origin[key] = f"environment variable {variable}"
    for key, value in overrides.items():
        if value is not None:
            values[key] = value
            origin[key] = "argument"
    try:
        return Settings.model_validate(values)
    except ValidationError as error:
        problem = error.errors()[0]
        key = str(problem["loc"][0])
        raise ConfigError(
            f"{origin.get(key, path)}: {key} = {values.get(key)!r}: {problem['msg']}",
            next_step=f"settings are {', '.join(names())}; see kernelevo/config.py",
        ) from error


def names() -> list[str]:
    """Of all settings, as kernelevo.toml has them."""
    return [field.alias or name for name, field in Settings.model_fields.items()]


def provider_key(variable: str, environment: Mapping[str, str] | None = None) -> str | None:
    """The key in an environment variable, for the model that sends it and for nobody else; None when it has none."""
    environment = os.environ if environment is None else environment
    return environment.get(variable, "").strip() or None


def secrets_present(environment: Mapping[str, str] | None = None) -> dict[str, bool]:
    """Which providers' keys are set, for those who need not know them."""
    return {name: provider_key(name, environment) is not None for name in ("ANTHROPIC_API_KEY", "OPENAI_API_KEY")}
