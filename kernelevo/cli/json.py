"""Records to plain JSON values: enums by value, paths and ids as text, derived `status` and `score_ns` included."""

from __future__ import annotations

import dataclasses
import enum
import math
from collections.abc import Mapping, Sequence
from pathlib import Path

from kernelevo.records import Evaluation, Timing


def as_json(value: object) -> object:
    """Plain values; numbers that JSON lacks (inf, NaN) become text, so that the document stays valid."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        fields = {field.name: as_json(getattr(value, field.name)) for field in dataclasses.fields(value)}
        if isinstance(value, Evaluation):
            return {"status": value.status, "passed": value.passed, **fields, "feedback": value.feedback}
        if isinstance(value, Timing):
            return {**fields, "score_ns": value.score_ns}
        return fields
    if isinstance(value, enum.Enum):
        return value.value
    if isinstance(value, Path):
        return str(value)
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    if isinstance(value, Mapping):
        return {str(key): as_json(item) for key, item in value.items()}
    if isinstance(value, Sequence) and not isinstance(value, str):
        return [as_json(item) for item in value]
    return value
